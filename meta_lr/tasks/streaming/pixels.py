"""Images as tensors: decoded, and cropped and resized as torchvision's transforms do.

Pillow decodes, as it is as fast as torchvision's decoders, which are deprecated. torch resizes the
window, which is faster than Pillow: an image of 400 x 350 pixels takes 70 % of the time. A large
JPEG is decoded at 1/2, 1/4 or 1/8 of its size, if twice the needed pixels remain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from meta_lr.tasks import decode

if TYPE_CHECKING:
    from PIL.Image import Image

_TRIES = 10
_GAP = 2  # pixels per pixel that remain for resizing, so that an image looks the same
_SHORT_SIDE = 256 / 224  # of an image in evaluation, in units of the crop's side


class Crop(NamedTuple):
    """A window of an image, in pixels, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False


def random_crop(
    height: int,
    width: int,
    *,
    scale: Sequence[float],
    ratio: Sequence[float],
    flip: bool,
    generator: torch.Generator,
) -> Crop:
    """Return a random window of an image, as torchvision's `RandomResizedCrop` chooses it.

    Its share of the area is uniform in `scale`, and the logarithm of width / height is uniform in
    that of `ratio`. If ten windows do not fit, it is the largest one in the centre within `ratio`.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        scale: Smallest and largest share of the area.
        ratio: Smallest and largest width / height.
        flip: Whether to mirror with probability 1/2.
        generator: Source of all randomness.
    """
    drawn = torch.rand(1 + 4 * _TRIES, generator=generator, dtype=torch.float64).tolist()
    mirrored = flip and drawn.pop() < 0.5
    low, high = map(math.log, ratio)
    for area, shape, down, right in zip(*(iter(drawn),) * 4, strict=False):
        pixels = height * width * (scale[0] + area * (scale[1] - scale[0]))
        aspect = math.exp(low + shape * (high - low))
        w, h = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(down * (height - h + 1)), int(right * (width - w + 1))
            return Crop(top, left, h, w, mirrored)
    w = min(width, max(1, round(height * ratio[1])))
    h = min(height, max(1, round(width / ratio[0])))
    return Crop((height - h) // 2, (width - w) // 2, h, w, mirrored)


def cropped(image: Image, crop: Crop, size: int) -> Tensor:
    """Return the window of an opened image, resized: uint8 (3, size, size).

    Raises:
        ValueError: The image is broken; the message completes a sentence that begins with its name.
    """
    share = _reduced(image, min(crop.height, crop.width), size)
    small = _resized(_window(decode.loaded(image), crop, share), size, size)
    return small.flip(2) if crop.mirrored else small


def centred(image: Image, size: int) -> Tensor:
    """Return the centre of an opened image whose short side becomes size * 256 / 224.

    Returns:
        uint8 (3, size, size).

    Raises:
        ValueError: As in `cropped`.
    """
    width, height = image.size
    short = round(size * _SHORT_SIDE)
    long = int(short * max(height, width) / min(height, width))
    _reduced(image, min(height, width), short)
    whole = _tensor(decode.loaded(image))
    whole = _resized(whole, *((long, short) if height > width else (short, long)))
    top, left = (round((side - size) / 2) for side in whole.shape[1:])
    return whole[:, top : top + size, left : left + size]


def _reduced(image: Image, side: int, needed: int) -> float:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8 of its size; `side` stays at least 2 * `needed`.

    Return the share.
    """
    width, factor = image.width, side // (_GAP * needed)
    if factor < 2:
        return 1.0
    done = image.draft(None, (width // factor, image.height // factor))
    return done[1][2] / width if done else 1.0  # the exact width, of which the image has the pixels


def _window(image: Image, crop: Crop, share: float) -> Tensor:
    """Return the window of an image that was decoded at a share of its size."""
    left, top = (round(share * start) for start in (crop.left, crop.top))
    right = min(image.width, max(left + 1, round(share * (crop.left + crop.width))))
    bottom = min(image.height, max(top + 1, round(share * (crop.top + crop.height))))
    return _tensor(image.crop((left, top, right, bottom)))


def _tensor(image: Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _resized(image: Tensor, height: int, width: int) -> Tensor:
    if image.shape[1:] == (height, width):
        return image
    return F.interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0]
