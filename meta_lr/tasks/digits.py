"""scikit-learn's handwritten digits: 1,797 images of 8x8 pixels that need no download."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meta_lr.extras import explained
from meta_lr.tasks.images import ImageTask
from meta_lr.tasks.noise import Noise, named
from meta_lr.tasks.splits import balanced_cut, redrawn


def digits(
    model: Callable[..., nn.Module],
    *,
    size: int = 8,
    batch_size: int = 64,
    seed: int = 0,
    meta_size: int = 180,
    val_size: int = 180,
    test_size: int = 360,
    crop_padding: int = 0,
    meta_overlap: bool = False,
    noise: Noise = "none",
    noise_share: float = 0.0,
) -> ImageTask:
    """Return the task of classifying scikit-learn's ten digits.

    Source: the test part of UCI's "Optical recognition of handwritten digits" (Alpaydin and
    Kaynak, 1998), 17 levels of grey.

    Args:
        model: Called as `model(in_channels=1, image_size=size, num_classes=10)`.
        size: Height and width in pixels that the images are enlarged to (bilinear), for networks
            that need more than 8, such as LeNet.
        batch_size: Examples per batch.
        seed: The run's seed.
        meta_size: Examples for `meta`; the rest of the 1,797 is `train`.
        val_size: Examples for `val`.
        test_size: Examples for `test`.
        crop_padding: Pixels of padding before a random crop in training; 0 for no crop.
        meta_overlap: Whether `meta` is also drawn from the training examples, as in MLR-SNet's
            published code; `train` is the same with and without it.
        noise: Kind of label noise in `train`: `none`, `uniform` or `flip`, as described in
            `meta_lr.tasks.noise`.
        noise_share: Share of wrong labels in `train`, in [0, 1].

    Raises:
        ValueError: `size` is below 8, or the parts do not fit.
    """
    with explained():
        from sklearn.datasets import load_digits

    if size < 8:
        raise ValueError(
            f"digits got size={size}; its images have 8 pixels and can only be enlarged"
        )
    pixels, classes = load_digits(return_X_y=True)
    labels = torch.as_tensor(classes, dtype=torch.int64)
    splits = balanced_cut(labels, {"test": test_size, "val": val_size, "meta": meta_size})
    return ImageTask(
        name=named("digits", noise, noise_share),
        num_classes=10,
        network=model,
        images=_enlarged(torch.as_tensor(pixels).view(-1, 1, 8, 8), size).to(torch.uint8),
        labels=labels,
        splits=redrawn(labels, splits) if meta_overlap else splits,
        batch_size=batch_size,
        seed=seed,
        crop_padding=crop_padding,
        meta_overlap=meta_overlap,
        noise=noise,
        noise_share=noise_share,
    )


def _enlarged(images: Tensor, size: int) -> Tensor:
    return F.interpolate(images, (size, size), mode="bilinear").round() if size > 8 else images
