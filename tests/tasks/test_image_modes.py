"""Images of every mode as 8-bit RGB: known ranges are scaled, others are refused."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from meta_lr.tasks import decode as module
from meta_lr.tasks.decode import decode

GREY_16 = np.array([[0, 15_000], [45_000, 65_535]], dtype=np.uint16)
GREY_8 = [[0, 58], [175, 255]]  # 15,000 / 257 and 45,000 / 257, rounded


def saved(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def tiff(data, bits, *, sample_format=1, photometric=1, order="<"):
    """A TIFF of 2 x 2 grey values, uncompressed; sample formats: 1 unsigned, 2 signed, 3 float."""
    short, long = 3, 4
    tags = {
        256: (long, 2),  # width
        257: (long, 2),  # height
        258: (short, bits),
        259: (short, 1),  # no compression
        262: (short, photometric),
        273: (long, 8 + 2 + 12 * 10 + 4),  # where the data are
        277: (short, 1),  # samples per pixel
        278: (long, 2),  # rows per strip
        279: (long, len(data)),
        339: (short, sample_format),
    }
    head = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(tags))
    for tag, (kind, value) in tags.items():
        form = f"{order}HHI" + ("I" if kind == long else "HH")
        head += struct.pack(form, tag, kind, 1, value, *([0] if kind == short else []))
    return head + struct.pack("<I", 0) + data


@pytest.mark.parametrize(
    "content",
    [
        saved(Image.fromarray(GREY_16), "PNG"),
        saved(Image.fromarray(GREY_16), "TIFF"),
        saved(Image.fromarray(GREY_16), "TIFF", compression="tiff_lzw"),
        saved(Image.fromarray(GREY_16), "PPM"),
        tiff(GREY_16.astype("<u2").tobytes(), 16),
        tiff(GREY_16.astype(">u2").tobytes(), 16, order=">"),
        b"P5 2 2 65535\n" + GREY_16.astype(">u2").tobytes(),
    ],
    ids=["png", "tiff", "tiff lzw", "ppm", "little endian", "big endian", "pgm"],
)
def test_grey_values_of_16_bits_are_scaled_to_8(content):
    assert decode(content, 2).tolist() == [GREY_8] * 3


def test_fewer_than_16_bits_are_scaled_by_their_own_range():
    assert decode(b"P5 2 1 1023\n" + bytes([1, 255, 3, 255]), 2)[0, 0].tolist() == [127, 255]
    values = (0, 1000, 3000, 4095)
    packed = int("".join(f"{value:012b}" for value in values), 2).to_bytes(6, "big")
    assert decode(tiff(packed, 12), 2)[0].tolist() == [[0, 62], [187, 255]]


def test_a_16_bit_png_that_an_old_pillow_gives_as_32_bits_is_scaled(monkeypatch):
    image = Image.fromarray(GREY_16.astype(np.int32))
    image.format = "PNG"
    monkeypatch.setattr(module, "_opened", lambda _: image)
    assert decode(b"", 2).tolist() == [GREY_8] * 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (saved(Image.new("F", (2, 2), 0.5), "TIFF"), "has mode F in TIFF, so the range"),
        (b"Pf 2 2 -1\n" + np.ones(4, dtype="<f4").tobytes(), "has mode F in PPM, so the range"),
        (saved(Image.new("I", (2, 2), 9), "TIFF"), "has mode I in TIFF, so the range"),
        (tiff(GREY_16.astype("<i2").tobytes(), 16, sample_format=2), "has mode I in TIFF"),
        (tiff(GREY_16.astype("<u4").tobytes(), 32), "has mode I in TIFF"),
        (tiff(GREY_16.astype("<u2").tobytes(), 16, photometric=0), "has mode I;16 in TIFF"),
    ],
    ids=["float", "float pfm", "32 bits", "signed", "unsigned 32 bits", "white is zero"],
)
def test_values_without_a_known_range_are_refused_by_mode(content, words):
    with pytest.raises(ValueError, match=f"{words}.*; save it with 8 bits per channel"):
        decode(content, 2)


COLOURS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_modes_of_8_bits_are_converted_as_pillow_does(mode):
    image = Image.fromarray(COLOURS).convert(mode)
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    form = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    assert np.array_equal(decode(saved(image, form), 4), expected)


@pytest.mark.parametrize("transparency", [0, bytes([0, 128, 255])])
def test_transparency_of_a_palette_is_dropped_without_a_warning(transparency):
    image = Image.fromarray(COLOURS).convert("P")
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    content = saved(image, "PNG", transparency=transparency)
    assert np.array_equal(decode(content, 4), expected)


def test_a_mode_that_pillow_cannot_convert_is_named(monkeypatch):
    monkeypatch.setattr(module, "_opened", lambda _: Image.new("La", (2, 2)))
    with pytest.raises(ValueError, match="has mode La, which Pillow cannot turn into RGB"):
        decode(b"", 2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"no image", "not a format that Pillow knows"),
        (saved(Image.fromarray(COLOURS), "PNG")[:45], ".*"),
    ],
    ids=["empty", "text", "half"],
)
def test_a_broken_image_is_refused_without_an_object_in_the_message(content, reason):
    with pytest.raises(ValueError, match=rf"^is broken \({reason}\); replace or remove") as refused:
        decode(content, 2)
    assert "object at" not in str(refused.value)


def test_an_image_that_does_not_fit_into_memory_is_refused():
    with pytest.raises(ValueError, match=r"fit into memory at size=2147483648; make .*size= sm"):
        decode(saved(Image.new("RGB", (2, 2)), "PNG"), 2**31)
