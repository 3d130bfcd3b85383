"""Small image sets for the tests: one in memory that shows numbers, one in files."""

from __future__ import annotations

import functools
import hashlib
import tarfile

import numpy as np
import torch
from PIL import Image

from meta_lr.tasks import ImageTask
from meta_lr.tasks.models import MLP

SMALL = functools.partial(MLP, hidden=(4,))
CLASSES = ("ant", "bee", "cat")


def numbers_task(**changes):
    """A task whose image number i shows only the number i, and whose label is i % 5."""
    count = 130
    values = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    arguments = {
        "name": "numbers",
        "num_classes": 5,
        "network": SMALL,
        "images": values.contiguous(),
        "labels": torch.arange(count) % 5,
        "splits": {
            "train": torch.arange(0, 70),
            "meta": torch.arange(70, 91),
            "val": torch.arange(91, 110),
            "test": torch.arange(110, 130),
        },
        "batch_size": 8,
        "seed": 0,
        "mean": (0.0,) * 3,
        "std": (1 / 255,) * 3,
    }
    return ImageTask(**{**arguments, **changes})


def numbers(batch):
    """Which images a batch of `numbers_task()` holds."""
    return batch[0][:, 0, 0, 0].round().int().tolist()


def digest(task, calls):
    """One hash per call, of all bytes of its batch."""
    return [fingerprint(task.batch(*call)) for call in calls]


def fingerprint(batch):
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in batch)).hexdigest()


def write_images(root, second="test", classes=CLASSES, size=6):
    """Write 8 + 3 random images per class, each of its own grey or colour."""
    random = np.random.default_rng(0)
    for part, count in (("train", 8), (second, 3)):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root


def pack(root, path, mode="w", prefix="", order=sorted):
    """Write all files below `root` to a tar archive."""
    with tarfile.open(path, mode) as archive:
        for file in order(p for p in root.rglob("*") if p.is_file()):
            archive.add(file, prefix + file.relative_to(root).as_posix())
    return path


def backwards(paths):
    return sorted(paths)[::-1]


def same(first, second):
    return (
        np.array_equal(first.images, second.images)
        and np.array_equal(first.labels, second.labels)
        and first[2:] == second[2:]
    )


def cache_file(cache):
    (path,) = cache.glob("*.images")
    return path
