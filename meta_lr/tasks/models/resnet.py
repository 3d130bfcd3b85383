"""Residual networks for small images: the 6n+2 family, and ResNet-18 with a small stem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Shortcut = Callable[[int, int, int], nn.Module]


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalisation, added to a shortcut of the input."""

    def __init__(self, in_width: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(in_width, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        same = in_width == width and stride == 1
        self.shortcut = nn.Identity() if same else shortcut(in_width, width, stride)

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, in_width, H, W) to (batch, width, H / stride, W / stride)."""
        return F.relu(self.residual(images) + self.shortcut(images))


class Subsample(nn.Module):
    """Option A: every `stride`-th pixel, and zeros for the new channels; no parameters."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride, self.new_channels = stride, width - in_width

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, in_width, H, W) to (batch, width, H / stride, W / stride)."""
        images = images[:, :, :: self.stride, :: self.stride]
        return F.pad(images, (0, 0, 0, 0, 0, self.new_channels))


def _projection(in_width: int, width: int, stride: int) -> nn.Module:
    """Option B: a 1x1 convolution with batch normalisation."""
    convolution = nn.Conv2d(in_width, width, 1, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width))


def _stem(in_channels: int, width: int) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU()]


def _stages(widths: Sequence[int], depth: int, shortcut: Shortcut) -> list[nn.Module]:
    """Return `depth` blocks per width; each stage except the first halves the image."""
    blocks: list[nn.Module] = []
    in_width = widths[0]
    for stage, width in enumerate(widths):
        for position in range(depth):
            stride = 2 if stage > 0 and position == 0 else 1
            blocks.append(Block(in_width, width, stride, shortcut))
            in_width = width
    return blocks


def _head(width: int, num_classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)]


def _he_normal(module: nn.Module, mode: Literal["fan_in", "fan_out"]) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")


class ResNet(nn.Module):
    """The CIFAR ResNet of 6n+2 layers with parameter-free shortcuts (option A).

    Reference: He, Zhang, Ren, Sun, 2015, section 4.2, arXiv:1512.03385. Convolutions are
    initialised as in He et al., arXiv:1502.01852 (normal, by fan in).

    Args:
        in_channels: Channels of an image.
        image_size: Height and width of an image in pixels; any.
        num_classes: Number of outputs.
        depth: Number of layers with weights: 8, 14, 20, 26, 32, ...

    Raises:
        ValueError: `depth` is not 6n+2.
    """

    def __init__(
        self, *, in_channels: int, image_size: int, num_classes: int, depth: int = 20
    ) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"ResNet got depth={depth}; it must be 6n+2: 8, 14, 20, 26, 32, ...")
        self.layers = nn.Sequential(
            *_stem(in_channels, 16),
            *_stages((16, 32, 64), (depth - 2) // 6, Subsample),
            *_head(64, num_classes),
        )
        self.apply(partial(_he_normal, mode="fan_in"))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, in_channels, image_size, image_size) to logits (batch, classes)."""
        return self.layers(images)


class ResNet18(nn.Module):
    """ResNet-18 for small images: a 3x3 stem of stride 1 and no pooling before the first stage.

    Reference: He, Zhang, Ren, Sun, 2015, arXiv:1512.03385, with the stem that CIFAR studies use.
    Convolutions are initialised as in torchvision (normal, by fan out).
    """

    def __init__(self, *, in_channels: int, image_size: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_stem(in_channels, 64),
            *_stages((64, 128, 256, 512), 2, _projection),
            *_head(512, num_classes),
        )
        self.apply(partial(_he_normal, mode="fan_out"))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, in_channels, image_size, image_size) to logits (batch, classes)."""
        return self.layers(images)
