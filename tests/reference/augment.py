"""Crop, mirror, normalise and measure images one pixel at a time: slow, and plainly right."""

from __future__ import annotations

import torch
from torch import Tensor


def crop_and_flip(
    images: Tensor, top: Tensor, left: Tensor, mirrored: Tensor, *, padding: int
) -> Tensor:
    result = torch.empty_like(images)
    for number, image in enumerate(images):
        result[number] = _one(
            image, int(top[number]), int(left[number]), bool(mirrored[number]), padding
        )
    return result


def _one(image: Tensor, top: int, left: int, mirrored: bool, padding: int) -> Tensor:
    channels, height, width = image.shape
    result = torch.zeros_like(image)
    for channel in range(channels):
        for row in range(height):
            for column in range(width):
                source_row = row + top - padding
                across = width - 1 - column if mirrored else column
                source_column = across + left - padding
                if 0 <= source_row < height and 0 <= source_column < width:
                    result[channel, row, column] = image[channel, source_row, source_column]
    return result


def normalise(images: Tensor, mean: list[float], std: list[float]) -> Tensor:
    result = torch.empty(images.shape, dtype=torch.float64)
    for channel in range(images.shape[1]):
        share = images[:, channel].double() / 255
        result[:, channel] = (share - mean[channel]) / std[channel]
    return result


def channel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    pixels = images.double() / 255
    return (
        pixels.mean(dim=(0, 2, 3)).tolist(),
        pixels.std(dim=(0, 2, 3), correction=0).tolist(),
    )
