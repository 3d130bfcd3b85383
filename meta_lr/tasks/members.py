"""The image files of a directory or of a tar archive, one after the other."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What counts as an image, in lower case; the list of torchvision's ImageFolder."""


def members(root: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield path below `root` and content of each image file; hidden files are left out.

    An archive is read once from front to back, in memory, whatever its compression.

    Raises:
        ValueError: `root` is neither a directory nor a tar archive, or the archive is damaged.
    """
    return _of_directory(root) if root.is_dir() else _of_archive(root)


def fingerprint(root: Path) -> str:
    """Return a text that changes with the path, sizes and modification times of the files."""
    root = root.resolve()
    digest = hashlib.blake2b(digest_size=16)
    for path in _files(root) if root.is_dir() else (root,):
        stat = path.stat()
        digest.update(f"\0{path}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    return digest.hexdigest()


def _of_directory(root: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    for path in _files(root):
        yield PurePosixPath(path.relative_to(root).as_posix()), path.read_bytes()


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, followlinks=True):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names) if _is_image(name))


def _of_archive(root: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    last = None
    try:
        with tarfile.open(root, "r|*") as archive:
            for member in archive:
                last = member.name
                path = PurePosixPath(member.name)
                if _is_image(path.name):
                    yield path, _content(root, archive, member)
            _check_end(archive)
    except (tarfile.TarError, EOFError) as error:
        if last is None:
            raise ValueError(
                f"{root} is neither a directory nor a whole tar archive ({error}); give one that "
                "holds train/CLASS/*.jpg and test/CLASS/*.jpg, or download it again"
            ) from error
        raise ValueError(
            f"{root} is damaged after {last} ({error}); copy or download it again"
        ) from error


def _content(root: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member) if member.isfile() else None
    if file is None:
        raise ValueError(
            f"{root} holds {member.name} as a link, not as a file; "
            "pack it again with tar --dereference --hard-dereference"
        )
    return file.read()


def _check_end(archive: tarfile.TarFile) -> None:
    """Insist on the two blocks of zeros that end an archive.

    tarfile stops at the first of them, but also, without a word, where a header is cut or damaged.
    """
    stream = archive.fileobj
    if stream is None or stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("the archive breaks off")


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")
