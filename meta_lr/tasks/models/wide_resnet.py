"""Wide residual networks: pre-activation blocks, few layers, many channels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class WideBlock(nn.Module):
    """Twice batch norm, ReLU and convolution, with dropout between; added to the input."""

    def __init__(self, in_width: int, width: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_width)
        self.residual = nn.Sequential(
            nn.Conv2d(in_width, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout(dropout) if dropout else nn.Identity(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )
        same = in_width == width
        self.shortcut = None if same else nn.Conv2d(in_width, width, 1, stride=stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, in_width, H, W) to (batch, width, H / stride, W / stride)."""
        active = F.relu(self.norm(images))
        shortcut = images if self.shortcut is None else self.shortcut(active)
        return shortcut + self.residual(active)


def _stages(depth: int, widen_factor: int, dropout: float) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    in_width = 16
    for stage, base in enumerate((16, 32, 64)):
        for position in range((depth - 4) // 6):
            stride = 2 if stage > 0 and position == 0 else 1
            blocks.append(WideBlock(in_width, base * widen_factor, stride, dropout))
            in_width = base * widen_factor
    return blocks


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


class WideResNet(nn.Module):
    """WRN-depth-widen_factor, such as WRN-28-10.

    Reference: Zagoruyko and Komodakis, 2016, "Wide residual networks", arXiv:1605.07146.

    Args:
        in_channels: Channels of an image.
        image_size: Height and width of an image in pixels; any.
        num_classes: Number of outputs.
        depth: Number of layers: 10, 16, 22, 28, 40, ...
        widen_factor: Channels as a multiple of the 6n+2 ResNet's 16, 32 and 64.
        dropout: Probability that a channel's pixel is dropped between a block's convolutions.

    Raises:
        ValueError: `depth` is not 6n+4, `widen_factor` not positive or `dropout` outside [0, 1).
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: int,
        depth: int = 28,
        widen_factor: int = 10,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if depth < 10 or depth % 6 != 4:
            raise ValueError(f"WideResNet got depth={depth}; it must be 6n+4: 10, 16, 22, 28, ...")
        if widen_factor < 1:
            raise ValueError(f"WideResNet got widen_factor={widen_factor}; it must be at least 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"WideResNet got dropout={dropout}; it must be in [0, 1)")
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 16, 3, padding=1, bias=False),
            *_stages(depth, widen_factor, dropout),
            nn.BatchNorm2d(64 * widen_factor),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64 * widen_factor, num_classes),
        )
        self.apply(_start)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, in_channels, image_size, image_size) to logits (batch, classes)."""
        return self.layers(images)
