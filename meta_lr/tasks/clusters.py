"""Clusters of points, drawn by scikit-learn: data with the shape of digits, but not images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from meta_lr.extras import explained
from meta_lr.tasks.images import ImageTask
from meta_lr.tasks.splits import balanced_cut

_FAR = 4.0  # standard deviations on each side that are mapped to the range of a byte


def clusters(
    model: Callable[..., nn.Module],
    *,
    batch_size: int = 64,
    seed: int = 0,
    meta_size: int = 180,
    val_size: int = 180,
    test_size: int = 360,
) -> ImageTask:
    """Return the task of classifying 1,797 points in 64 dimensions into ten classes.

    Source: `sklearn.datasets.make_classification` (Guyon, 2003), with its own fixed seed. There are
    two Gaussian clusters per class in 20 dimensions, mapped to 64 dimensions; 1 % of the labels are
    wrong.

    Args:
        model: Called as `model(in_channels=1, image_size=8, num_classes=10)`.
        batch_size: Examples per batch.
        seed: The run's seed.
        meta_size: Examples for `meta`; the rest is `train`.
        val_size: Examples for `val`.
        test_size: Examples for `test`.
    """
    with explained():
        from sklearn.datasets import make_classification

    points, classes = make_classification(
        1797,
        64,
        n_informative=20,
        n_redundant=20,
        n_classes=10,
        n_clusters_per_class=2,
        class_sep=1.5,
        random_state=0,
    )
    points = torch.as_tensor(points)
    points = (points - points.mean(0)) / points.std(0, correction=0)
    pixels = ((points / _FAR).clip(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    labels = torch.as_tensor(classes, dtype=torch.int64)
    return ImageTask(
        name="clusters",
        num_classes=10,
        network=model,
        images=pixels.view(-1, 1, 8, 8),
        labels=labels,
        splits=balanced_cut(labels, {"test": test_size, "val": val_size, "meta": meta_size}),
        batch_size=batch_size,
        seed=seed,
    )
