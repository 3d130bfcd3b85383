"""The content of an image file as 8-bit RGB pixels, for any mode of the image."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from meta_lr.extras import explained

if TYPE_CHECKING:
    from PIL.Image import Image

_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error)
_BITS_PER_SAMPLE, _PHOTOMETRIC, _BLACK_IS_ZERO = 258, 262, 1  # two tags of TIFF, and a value


def decode(content: bytes, size: int) -> NDArray[np.uint8]:
    """Return an image as uint8 RGB, (3, size, size), resized bilinearly.

    Grey values of 16 bits are scaled from 0..65535 to 0..255. Pillow converts other modes, so
    transparency is dropped.

    Raises:
        ValueError: The image is broken, the range of its values is unknown, or it does not fit into
            memory. The message completes a sentence that begins with the image's name.
    """
    from PIL.Image import Resampling

    try:
        rgb = _rgb(_opened(content))
        if rgb.size != (size, size):
            rgb = rgb.resize((size, size), Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(rgb, dtype=np.uint8).transpose(2, 0, 1))
    except (MemoryError, OverflowError) as error:
        raise ValueError(
            f"does not fit into memory at size={size}; make the image or size= smaller"
        ) from error


def opened(content: bytes) -> Image:
    """Return an image of which only the header was read.

    Raises:
        ValueError: The image is broken; the message is as in `decode`.
    """
    with explained():
        from PIL import Image, UnidentifiedImageError

    with _broken_if_it_fails():
        try:
            return Image.open(io.BytesIO(content))
        except UnidentifiedImageError as error:  # its message only has the address of an object
            reason = "not a format that Pillow knows" if content else "the file is empty"
            raise ValueError(reason) from error


def loaded(image: Image) -> Image:
    """Return an opened image as 8-bit RGB.

    Raises:
        ValueError: As in `decode`.
    """
    with _broken_if_it_fails():
        image.load()
    return _rgb(image)


def _opened(content: bytes) -> Image:
    image = opened(content)
    with _broken_if_it_fails():
        image.load()
    return image


@contextmanager
def _broken_if_it_fails() -> Iterator[None]:
    from PIL.Image import DecompressionBombError

    try:
        yield
    except (*_DECODER_ERRORS, DecompressionBombError) as error:
        raise ValueError(f"is broken ({error}); replace or remove it") from error


def _rgb(image: Image) -> Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _grey(image).convert("RGB")
    image.info.pop("transparency", None)  # otherwise convert() warns that it drops it
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise ValueError(f"has mode {image.mode}, which Pillow cannot turn into RGB") from error


def _grey(image: Image) -> Image:
    """Return an image of more than 8 bits, scaled to 8 bits, with the mode L."""
    from PIL.Image import fromarray

    white = _white(image)
    if white is None:
        raise ValueError(
            f"has mode {image.mode} in {image.format}, so the range of its values is not known; "
            "save it with 8 bits per channel"
        )
    values = np.asarray(image).astype(np.uint32)
    return fromarray(((values * 255 + white // 2) // white).astype(np.uint8))


def _white(image: Image) -> int | None:
    """Return the largest value that the file's format allows; None if it is unknown."""
    from PIL.TiffImagePlugin import TiffImageFile

    has_16_bits = image.mode.startswith("I;16")
    if isinstance(image, TiffImageFile):
        known = has_16_bits and image.tag_v2.get(_PHOTOMETRIC) == _BLACK_IS_ZERO
        return 2 ** image.tag_v2[_BITS_PER_SAMPLE][0] - 1 if known else None  # 12 or 16 bits
    if image.mode == "I":  # 16 bits in PGM, and in PNG with old versions of Pillow
        return 65535 if image.format in ("PNG", "PPM") else None
    return 65535 if has_16_bits else None
