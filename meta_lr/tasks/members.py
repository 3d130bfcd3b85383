"""Iteration over the folders and image files of a directory or of a tar archive."""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, TypeVar

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""The endings of image files, in lower case; they are those of torchvision's ImageFolder."""

MAX_BYTES = 2**28
"""Size of the largest file that is read: 256 MiB."""

_OF_THE_SYSTEM = ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information")

Member = tuple[PurePosixPath, bytes | None]
"""Of an image file, its path below the root and its content; of a folder, its path and None."""


class Span(NamedTuple):
    """Where an image file is in its archive; in a directory it starts at 0 of its own file."""

    start: int
    size: int
    """In bytes."""


_File = tuple[Path, os.stat_result]
_Read = TypeVar("_Read")


def members(root: Path) -> Iterator[Member]:
    """Yield each image file and each folder below `root`.

    Hidden files and folders, and those that operating systems add, are left out. Links in a
    directory are followed, except links to a folder that holds the link. An archive is read once
    from front to back, in memory. If two members have the same path, the later one is used, as in
    unpacking.

    Raises:
        ValueError: `root` is neither a directory nor a tar archive, or the archive is damaged; an
            image is not a regular file or too large; or two paths lead to the same folder.
        OSError: A file or folder cannot be read.
    """
    if root.is_dir():
        return _of_directory(root.resolve())
    return _of_archive(root, "r|*", _content)


def spans(root: Path) -> Iterator[tuple[PurePosixPath, Span | None]]:
    """Yield what `members` yields, with the place of each file's bytes and not its content.

    Raises:
        ValueError: As in `members`; or the archive is compressed, or holds a sparse file.
        OSError: A file or folder cannot be read.
    """
    if root.is_dir():
        return _spans_of_directory(root.resolve())
    return _of_archive(root, "r:", _span)


def fingerprint(root: Path) -> str:
    """Return a text that changes with the paths, and with sizes and modification times of files."""
    root = root.resolve()
    files, folders = _listed(root) if root.is_dir() else ([(root, root.stat())], [])
    digest = hashlib.blake2b(digest_size=16)
    for path, info in files:
        digest.update(b"\0" + os.fsencode(path))
        digest.update(f"\0{info.st_size}\0{info.st_mtime_ns}".encode())
    for folder in folders:
        digest.update(b"\0" + os.fsencode(folder))
    return digest.hexdigest()


def _listed(root: Path) -> tuple[list[_File], list[Path]]:
    """Return the image files, and the folders in those folders of `root` that hold images.

    The folders of other programs, such as a folder of runs, are therefore left out.
    """
    found = dict(_walk(root))
    tops = {folder.relative_to(root).parts[:1] for folder, files in found.items() if files}
    folders = [folder for folder in found if folder.relative_to(root).parts[:1] in tops]
    return [file for files in found.values() for file in files], folders


def _of_directory(root: Path) -> Iterator[Member]:
    for folder, files in _walk(root):
        yield PurePosixPath(folder.relative_to(root).as_posix()), None
        for path, _ in files:
            yield PurePosixPath(path.relative_to(root).as_posix()), path.read_bytes()


def _spans_of_directory(root: Path) -> Iterator[tuple[PurePosixPath, Span | None]]:
    for folder, files in _walk(root):
        below = PurePosixPath(folder.relative_to(root).as_posix())
        yield below, None
        for path, info in files:
            yield below / path.name, Span(0, info.st_size)


def _walk(root: Path) -> Iterator[tuple[Path, list[_File]]]:
    """Yield each folder and the image files in it, in a fixed order."""
    return ((here, [_file(here / name) for name in names]) for here, names in walk(root))


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder below `root` and the names of the image files in it, in a fixed order.

    Raises:
        ValueError: A link leads to nothing, or two paths lead to the same folder with images.
        OSError: A folder cannot be read.
    """
    seen = {_identity(folder): folder for folder in (root, *root.parents)}
    twice: dict[Path, Path] = {}
    with_images: set[Path] = set()
    for name, folders, names in os.walk(root, followlinks=True, onerror=_fail):
        here = Path(name)
        _refuse_lost_folder(here, names)
        visible = [f for f in sorted(folders) if not _is_hidden(f)]
        folders[:] = [f for f in visible if _is_new(here / f, seen, twice)]
        files = [name for name in sorted(names) if _is_image(name) and not _is_hidden(name)]
        with_images.update((here, *here.parents) if files else ())
        yield here, files
    for again, first in twice.items():
        if first in with_images:
            raise ValueError(
                f"{again} and {first} are the same folder, so its images would count twice; "
                "remove the link, or replace it with a copy"
            )


def _refuse_lost_folder(here: Path, names: list[str]) -> None:
    """Raise a ValueError for a broken link that has a possible name of a class."""
    for name in names:
        if "." not in name and (here / name).is_symlink():
            raise ValueError(
                f"{here / name} is a link to nothing; restore what it points to, or remove the link"
            )


def _fail(error: OSError) -> None:
    raise error


def _is_new(folder: Path, seen: dict[tuple[int, int], Path], twice: dict[Path, Path]) -> bool:
    """Return whether this folder was not reached before; else add it to `twice`, except a cycle."""
    first = seen.setdefault(_identity(folder), folder)
    if first not in (folder, *folder.parents):
        twice[folder] = first
    return first == folder


def _file(path: Path) -> _File:
    info = path.stat()
    _check_file(f"{path}", stat.S_ISREG(info.st_mode), info.st_size)
    return path, info


def _identity(folder: Path) -> tuple[int, int]:
    info = folder.stat()
    return info.st_dev, info.st_ino


def _of_archive(
    root: Path,
    mode: Literal["r:", "r|*"],
    read: Callable[[tarfile.TarFile, tarfile.TarInfo], _Read],
) -> Iterator[tuple[PurePosixPath, _Read | None]]:
    """Yield each folder, and each image file with what `read` returns for it."""
    if not root.is_file():
        raise ValueError(f"{root} is neither a directory nor a file; give one or the other")
    last = None
    try:
        with tarfile.open(root, mode) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  # it keeps all
                last = member.name
                path = PurePosixPath(posixpath.normpath(member.name))
                if not any(map(_is_hidden, path.parts)):
                    found = _is_file(root, member, path)
                    yield (path, read(archive, member)) if found else (_folder(member, path), None)
            _check_end(archive)
    except MemoryError as error:
        raise ValueError(f"{root} needs more memory than this machine has, at {last}") from error
    except (tarfile.TarError, EOFError) as error:
        if last is None:
            raise ValueError(
                f"{root} is neither a directory nor a whole tar archive ({error}); archives are "
                "read plain or packed with gzip, bzip2 or xz: unpack another kind, such as zip, "
                "rar or zst, and give the directory, or download it again"
            ) from error
        raise ValueError(
            f"{root} is damaged after {last} ({error}); copy or download it again"
        ) from error


def _is_file(root: Path, member: tarfile.TarInfo, path: PurePosixPath) -> bool:
    """Return whether a member is an image file; refuse one that cannot be read."""
    may_be_folder = member.issym() and not path.suffix
    if member.isdir() or not (_is_image(path.name) or may_be_folder):
        return False
    if member.islnk() or member.issym():
        raise ValueError(
            f"{root} holds {member.name} as a link, not as a file; "
            "pack it again with tar --dereference --hard-dereference"
        )
    _check_file(f"{member.name} in {root}", member.isreg(), member.size)
    return True


def _folder(member: tarfile.TarInfo, path: PurePosixPath) -> PurePosixPath:
    return path if member.isdir() else path.parent


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def _span(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Span:
    if member.issparse():
        raise ValueError(
            f"{archive.name} holds {member.name} as a sparse file; pack it again without --sparse"
        )
    return Span(member.offset_data, member.size)


def _check_end(archive: tarfile.TarFile) -> None:
    """Require the two blocks of zeros at the end of an archive.

    tarfile stops at the first of them. It also stops, without an error, at a cut or damaged header.
    """
    stream = archive.fileobj
    if stream is None or stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("the archive breaks off")


def _check_file(name: str, regular: bool, size: int) -> None:
    if not regular:
        raise ValueError(f"{name} is a pipe or a device, not an image file; remove it")
    if size > MAX_BYTES:
        raise ValueError(
            f"{name} has {size:,} bytes; an image may have {MAX_BYTES:,} at most: make it smaller "
            "or remove it"
        )


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _is_hidden(name: str) -> bool:
    return (name.startswith(".") and name != "..") or name in _OF_THE_SYSTEM
