"""Crop, mirror and normalise on whole batches, against a twin that goes pixel by pixel."""

from __future__ import annotations

import pytest
import torch

from meta_lr.tasks.augment import (
    affine,
    channel_statistics,
    crop_and_flip,
    normalise,
    random_crop_and_flip,
)
from tests.reference import augment as reference


def _images(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("shape", [(9, 3, 8, 8), (5, 1, 6, 9), (1, 2, 5, 5)])
@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_crop_and_flip_equals_the_twin(shape, padding, memory):
    generator = torch.Generator().manual_seed(padding)
    images = _images(*shape)
    top, left = torch.randint(0, 2 * padding + 1, (2, shape[0]), generator=generator)
    mirrored = torch.randint(0, 2, (shape[0],), generator=generator)
    expected = reference.crop_and_flip(images, top, left, mirrored, padding=padding)
    images = images.contiguous(memory_format=memory)
    assert torch.equal(crop_and_flip(images, top, left, mirrored, padding=padding), expected)


def test_every_corner_of_the_padded_image_equals_the_twin():
    padding = 2
    places = torch.cartesian_prod(*[torch.tensor([0, 2 * padding])] * 2, torch.tensor([0, 1]))
    top, left, mirrored = places.unbind(1)
    images = _images(len(places), 3, 4, 4)
    expected = reference.crop_and_flip(images, top, left, mirrored, padding=padding)
    assert torch.equal(crop_and_flip(images, top, left, mirrored, padding=padding), expected)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("padding", [0, 2])
def test_all_places_are_drawn_equally_often(flip, padding):
    image = torch.arange(1, 26, dtype=torch.uint8).view(1, 1, 5, 5)
    count = 8000
    generator = torch.Generator().manual_seed(1)
    batch = random_crop_and_flip(
        image.expand(count, -1, -1, -1), generator, padding=padding, flip=flip
    )
    kinds, times = batch.flatten(1).unique(dim=0, return_counts=True)
    expected = (2 * padding + 1) ** 2 * (2 if flip else 1)
    assert len(kinds) == expected
    share = 1 / expected
    deviation = (count * share * (1 - share)) ** 0.5
    assert (times - count * share).abs().max() <= 4 * deviation


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_normalise_equals_the_twin_in_the_default_dtype(dtype, tolerance):
    images = _images(4, 3, 6, 6)
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.5, 1.5]
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        result = normalise(images, *affine(mean, std))
    finally:
        torch.set_default_dtype(before)
    assert result.dtype == dtype
    expected = reference.normalise(images, mean, std).to(dtype)
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=4 * tolerance)


def test_statistics_equal_the_twin_and_read_only_the_given_images():
    images = _images(5000, 3, 4, 4)
    chosen = torch.arange(0, 5000, 2)
    mean, std = channel_statistics(images, chosen)
    assert (mean, std) == tuple(map(pytest.approx, reference.channel_statistics(images[chosen])))


def test_a_constant_channel_has_deviation_one():
    assert channel_statistics(torch.full((3, 1, 2, 2), 51, dtype=torch.uint8), torch.arange(3)) == (
        [pytest.approx(0.2)],
        [1.0],
    )
