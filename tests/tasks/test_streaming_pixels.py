"""Crops and sizes: those of torchvision's transforms, and the law of its random crop."""

from __future__ import annotations

import io
import math
from functools import partial

import pytest
import torch
from PIL import Image
from PIL.Image import Resampling
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from meta_lr.seeds import generator
from meta_lr.tasks import decode
from meta_lr.tasks.streaming.pixels import Crop, centred, cropped, random_crop

SHAPES = [(350, 400), (60, 40), (20, 300), (300, 20)]
WITHIN = {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3)}
COUNT = 2000


def picture_of(tensor):
    return Image.fromarray(tensor.permute(1, 2, 0).numpy())


def image(height, width):
    values = torch.randint(0, 256, (3, height, width), generator=generator(0, height, width))
    return values.to(torch.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_window_is_that_of_torchvision(shape, mirrored):
    picture, (height, width) = image(*shape), (shape[0] // 2, shape[1] // 3)
    expected = functional.resized_crop(picture, 3, 2, height, width, [24, 24], antialias=True)
    expected = functional.horizontal_flip(expected) if mirrored else expected
    assert torch.equal(
        cropped(picture_of(picture), Crop(3, 2, height, width, mirrored), 24), expected
    )


@pytest.mark.parametrize("shape", [*SHAPES, (256, 256), (255, 257), (512, 300)])
@pytest.mark.parametrize("size", [224, 64, 31])
def test_evaluation_is_that_of_torchvision(shape, size):
    picture = image(*shape)
    side = round(size * 256 / 224)
    steps = v2.Compose([v2.Resize(side, antialias=True), v2.CenterCrop(size)])
    assert torch.equal(centred(picture_of(picture), size), steps(picture))


def statistic(first, second):
    """The two-sample Kolmogorov-Smirnov statistic."""
    values = torch.cat((first, second)).sort().values
    shares = [
        torch.searchsorted(s.sort().values, values, right=True) / len(s) for s in (first, second)
    ]
    return float((shares[0] - shares[1]).abs().max())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_random_crop_has_the_law_of_torchvision(shape):
    """Each of eight numbers of a window; the bound is exceeded once in ten thousand times."""
    ours = [
        random_crop(*shape, **WITHIN, flip=True, generator=generator(0, i)) for i in range(COUNT)
    ]
    theirs = v2.RandomResizedCrop(224, **WITHIN)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        picture = image(*shape)
        found = [theirs.make_params([picture]) for _ in range(COUNT)]
    windows = [
        torch.tensor([crop[:4] for crop in ours]).double(),
        torch.tensor([[p["top"], p["left"], p["height"], p["width"]] for p in found]).double(),
    ]
    bound = math.sqrt(-math.log(1e-4 / 2) / 2) * math.sqrt(2 / COUNT)
    for reading in (
        *(lambda w, i=i: w[:, i] for i in range(4)),
        lambda w: w[:, 2] * w[:, 3],
        lambda w: w[:, 3] / w[:, 2],
        lambda w: w[:, 0] + w[:, 2],
        lambda w: w[:, 1] + w[:, 3],
    ):
        assert statistic(*map(reading, windows)) < bound
    mirrored = sum(crop.mirrored for crop in ours)
    assert abs(mirrored - COUNT / 2) < 4 * math.sqrt(COUNT / 4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (2, 3), (50, 1), (7, 7)])
def test_a_window_lies_inside_an_image_of_any_shape(shape):
    for i in range(200):
        crop = random_crop(*shape, **WITHIN, flip=False, generator=generator(1, i))
        assert 0 <= crop.top <= crop.top + crop.height <= shape[0] and crop.height >= 1
        assert 0 <= crop.left <= crop.left + crop.width <= shape[1] and crop.width >= 1
        assert not crop.mirrored
        assert cropped(picture_of(image(*shape)), crop, 8).shape == (3, 8, 8)


def test_nothing_is_drawn_from_the_global_generator():
    state = torch.get_rng_state()
    draw = partial(random_crop, 30, 40, **WITHIN, flip=True)
    assert (
        draw(generator=generator(3)) == draw(generator=generator(3)) != draw(generator=generator(4))
    )
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("size", "factor"), [(20, 8), (45, 2), (90, 1)])
def test_a_large_jpeg_is_decoded_at_a_part_of_its_size_and_looks_the_same(size, factor):
    """A smooth picture; its window starts at whole pixels of the reduced one, 0.2 away at most."""
    smooth = picture_of(image(3, 4)).resize((500, 400), Resampling.BICUBIC)
    file = io.BytesIO()
    smooth.save(file, "JPEG", quality=95)
    whole = decode.loaded(decode.opened(file.getvalue()))
    for make in (
        partial(cropped, crop=Crop(31, 17, 350, 401, True), size=size),
        partial(centred, size=size),
    ):
        reduced = decode.opened(file.getvalue())
        found = make(reduced)
        assert reduced.size == (-(-500 // factor), 400 // factor)
        assert (found.int() - make(whole.copy()).int()).abs().float().mean() < 2
