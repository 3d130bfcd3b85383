"""Random crops, mirroring and normalisation of a whole batch of uint8 images at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def random_crop_and_flip(
    images: Tensor, generator: torch.Generator, *, padding: int, flip: bool
) -> Tensor:
    """Pad each image with zeros, crop it at a random place, and mirror it with probability 1/2.

    Args:
        images: uint8, (batch, channels, height, width).
        generator: Source of all randomness.
        padding: Pixels of zeros on every side; 0 switches cropping off.
        flip: Whether to mirror left and right.

    Returns:
        uint8, with the same shape.
    """
    count = len(images)
    top, left = torch.randint(0, 2 * padding + 1, (2, count), generator=generator)
    mirrored = torch.randint(0, 2, (count,), generator=generator) * int(flip)
    return crop_and_flip(images, top, left, mirrored, padding=padding)


def crop_and_flip(
    images: Tensor, top: Tensor, left: Tensor, mirrored: Tensor, *, padding: int
) -> Tensor:
    """Pad with zeros, cut the window at (top, left) from each image, and mirror some images.

    Args:
        images: (batch, channels, height, width).
        top: First row of each window in the padded image, (batch,), 0 to 2 * padding.
        left: First column of each window in the padded image, (batch,), 0 to 2 * padding.
        mirrored: 1 to mirror an image left and right, else 0, (batch,).
        padding: Pixels of zeros on every side.
    """
    batch, channels, height, width = images.shape
    padded = F.pad(images, (padding, padding, padding, padding))
    rows, columns = padded.shape[2:]
    # A mirrored crop equals the crop of the mirrored image at the mirrored place.
    both = torch.stack((padded, padded.flip(3))).contiguous()
    left = torch.where(mirrored.bool(), columns - width - left, left)
    which = mirrored * batch + torch.arange(batch)
    start = (which * channels * rows + top) * columns + left
    # A view of all windows, one for each start in memory: one index selects one crop.
    span = ((channels - 1) * rows + height - 1) * columns + width
    shape = (both.numel() - span + 1, channels, height, width)
    windows = both.as_strided(shape, (1, rows * columns, columns, 1))
    return windows.index_select(0, start)


def affine(mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return scale and shift, float64 (channels, 1, 1), that normalise pixels of 0 to 255.

    `mean` and `std` are per channel, of pixels in [0, 1].
    """
    deviation = torch.tensor(std, dtype=torch.float64).view(-1, 1, 1)
    shift = -torch.tensor(mean, dtype=torch.float64).view(-1, 1, 1) / deviation
    return 1 / (255 * deviation), shift


def normalise(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Map uint8 images (batch, channels, H, W) to floats of torch's default dtype."""
    dtype = torch.get_default_dtype()
    return images.to(dtype).mul_(scale.to(dtype)).add_(shift.to(dtype))


def channel_statistics(images: Tensor, indices: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel, in [0, 1], of the images at `indices`.

    The result is exact for any number of threads, because the pixels are counted by value. A
    constant channel has the deviation 1.
    """
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for chunk in indices.split(2048):
        pixels = images.index_select(0, chunk)
        for channel, total in enumerate(counts):
            total += torch.bincount(pixels[:, channel].reshape(-1), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255
    share = counts / counts.sum(dim=1, keepdim=True, dtype=torch.float64)
    mean = (share * values).sum(dim=1)
    variance = (share * (values - mean[:, None]) ** 2).sum(dim=1)
    std = torch.where(variance > 0, variance.sqrt(), 1.0)
    return mean.tolist(), std.tolist()
