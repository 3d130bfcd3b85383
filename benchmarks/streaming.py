"""CPU time of reading, decoding and augmenting images, against torchvision's usual pipeline.

    python -m benchmarks.streaming [--rounds 12] [--images 256]

Both sides read the same generated JPEGs of about 400 x 350 pixels in batches, in one process with
one thread, and take turns. The peer is torchvision's `ImageFolder` with its transforms and a
`DataLoader`: once to normalised floats, as in its recipe, and once to bytes, as ours, which are
normalised on the device. Prints images per second and core, and the ratio of the times: median
over rounds, with its 95 % bootstrap confidence interval.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

from benchmarks.interleaved import line, ratio, seconds
from meta_lr.tasks import ImageStream, imagenet
from meta_lr.tasks.base import Split
from meta_lr.tasks.models import torchvision_model

BATCH = 32
CLASSES = 4
NORMALISED = [T.ToTensor(), T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
BYTES = [T.PILToTensor()]
CROPS = {
    "train": [T.RandomResizedCrop(224), T.RandomHorizontalFlip()],
    "test": [T.Resize(256), T.CenterCrop(224)],
}


def picture(random: np.random.Generator) -> Image.Image:
    """Return a picture with edges and noise, whose file is about as large as ImageNet's."""
    width, height = random.integers(350, 450), random.integers(300, 400)
    coarse = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((width, height)), dtype=np.int64)
    noisy = pixels + random.normal(0, 10, pixels.shape).astype(np.int64)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def write(root: Path, count: int) -> None:
    """Write `count` pictures to `train`, and as many to `val`."""
    random = np.random.default_rng(0)
    for number in range(count):
        for split in ("train", "val"):
            folder = root / split / f"class_{number % CLASSES}"
            folder.mkdir(parents=True, exist_ok=True)
            picture(random).save(folder / f"{number}.JPEG", quality=90)


def ours(task: ImageStream, split: Split) -> float:
    def read() -> None:
        for index in range(task.num_batches(split)):
            task.batch(split, index)

    return seconds(read) / (task.num_batches(split) * BATCH)


def peer(loader: DataLoader[object]) -> float:
    return seconds(lambda: [None for _ in loader]) / (len(loader) * BATCH)


def loader_of(root: Path, split: Split, last: list[Callable[..., object]]) -> DataLoader[object]:
    folder = root / {"train": "train", "test": "val"}[split]
    images = ImageFolder(folder, T.Compose([*CROPS[split], *last]))
    return DataLoader(images, BATCH, shuffle=split == "train", drop_last=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Streaming images, against torchvision.")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--images", type=int, default=256)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        write(root, args.images)
        network = partial(torchvision_model, name="resnet18")
        sizes = {"meta_size": 0, "val_size": CLASSES, "batch_size": BATCH}
        task = imagenet(root, network, cache=Path(folder) / "cache", **sizes)
        for split, last, what in (
            ("train", NORMALISED, "floats"),
            ("train", BYTES, "bytes"),
            ("test", NORMALISED, "floats"),
            ("test", BYTES, "bytes"),
        ):
            own, theirs = partial(ours, task, split), partial(peer, loader_of(root, split, last))
            result = ratio(own, theirs, rounds=args.rounds)
            name = f"stream / torchvision to {what}, {split}"
            print(line(name, result, 1.0), f" {1 / own():.0f} / {1 / theirs():.0f} images/s")


if __name__ == "__main__":
    main()
