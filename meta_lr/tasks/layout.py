"""torchvision's ImageFolder layout: which files are images of `train`, which of `test`."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence, Set
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from meta_lr.tasks.members import SUFFIXES

_NOTHING = f"no visible files that end in {', '.join(SUFFIXES)}"
NEEDED = "needed are train/CLASS/*.jpg and one more directory, such as test/CLASS/*.jpg"


class Layout(NamedTuple):
    """The layout of a set of images.

    `train` and one other directory, of any name, which is the split `test`, hold one directory per
    class. One parent directory above the two is allowed.
    """

    top: int
    """Number of directories above `train`: 0 or 1."""
    classes: tuple[str, ...]

    def holds(self, path: PurePosixPath) -> bool:
        """Return whether the file is in the directory of a class."""
        return len(path.parts) >= self.top + 3

    def in_train(self, path: PurePosixPath) -> bool:
        """Return whether the file is in `train`."""
        return path.parts[self.top] == "train"

    def class_of(self, path: PurePosixPath) -> str:
        """Return the class of a file."""
        return path.parts[self.top + 1]


def found_at(root: str | os.PathLike[str]) -> Path:
    """Return the path of a set of images, or raise a FileNotFoundError if there is nothing."""
    folder = Path(root).expanduser()
    if not folder.exists():
        raise FileNotFoundError(
            f"there is nothing at root={folder} ({folder.absolute()}); {NEEDED}"
        )
    return folder


def layout_of(root: Path, images: Collection[PurePosixPath], folders: Set[PurePosixPath]) -> Layout:
    """Return the layout of the images below `root`.

    Args:
        root: For messages.
        images: Paths below `root`, at least one of each folder that holds images.
        folders: All folders.

    Raises:
        ValueError: The layout is different, or a class has no readable image.
    """
    top = _parts_above_train(root, images)
    placed = [path for path in images if len(path.parts) >= top + 3]
    _refuse_empty_classes(root, placed, folders, top + 2)
    seconds = {path.parts[top] for path in placed} - {"train"}
    if len(seconds) != 1:
        found = ", ".join(sorted(seconds)) or "none"
        raise ValueError(f"{root} has these directories beside train: {found}; {NEEDED}")
    classes = {path.parts[top + 1] for path in placed if path.parts[top] == "train"}
    unknown = sorted({path.parts[top + 1] for path in placed} - classes)
    if unknown:
        raise ValueError(f"{root} has classes in {seconds.pop()} that train has not: {unknown[:5]}")
    return Layout(top, tuple(sorted(classes)))


def _parts_above_train(root: Path, paths: Collection[PurePosixPath]) -> int:
    """Return how many directories there are above `train`: 0 or 1."""
    deep = [path.parts for path in paths if len(path.parts) >= 3]
    if any(parts[0] == "train" for parts in deep):
        return 0
    if len({parts[0] for parts in deep}) == 1 and any(
        parts[1] == "train" and len(parts) >= 4 for parts in deep
    ):
        return 1
    found = ", ".join(sorted({path.parts[0] for path in paths})[:5]) or _NOTHING
    raise ValueError(f"{root} has no train/CLASS/ with images (found: {found}); {NEEDED}")


def _refuse_empty_classes(
    root: Path, placed: Sequence[PurePosixPath], folders: Collection[PurePosixPath], depth: int
) -> None:
    """Refuse a class folder (a path of `depth` parts) without a readable image."""
    splits = {path.parts[: depth - 1] for path in placed}
    classes = {path.parts[:depth] for path in placed}
    for folder in sorted(folders):
        found = folder.parts[:depth]
        if len(found) == depth and found[:-1] in splits and found not in classes:
            raise ValueError(
                f"{root} has no image in {'/'.join(found)}, as none of its files ends in "
                f"{', '.join(SUFFIXES)}; convert its images, or remove it"
            )
