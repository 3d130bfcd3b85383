"""Small networks without buffers, for the inner problems of a meta-training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meta_lr.tasks.models.mlp import MLP

Activation = Callable[[], nn.Module]


class GELUMLP(MLP):
    """The MLP with GELU instead of ReLU."""

    activation = nn.GELU


class TanhMLP(MLP):
    """The MLP with tanh instead of ReLU."""

    activation = nn.Tanh


class SmallConv(nn.Module):
    """3x3 convolutions, each with an activation and, while the size is even, an average pool.

    Args:
        in_channels: Channels of an image.
        image_size: Height and width of an image in pixels.
        num_classes: Number of outputs.
        channels: Output channels of each convolution; multiples of 4 if `normalised`.
        normalised: Whether GroupNorm with four groups follows each convolution.
        activation: Makes the activation after each convolution.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: int,
        channels: Sequence[int],
        normalised: bool = False,
        activation: Activation = nn.ReLU,
    ) -> None:
        super().__init__()
        widths, size = [in_channels, *channels], image_size
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, channels, strict=False)
        )
        self.norms = nn.ModuleList(
            nn.GroupNorm(4, b) if normalised else nn.Identity() for b in channels
        )
        for _ in channels:
            size = size // 2 if size % 2 == 0 else size
        self.head = nn.Linear(channels[-1] * size**2, num_classes)
        self.activation = activation()

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, in_channels, image_size, image_size) to logits (batch, classes)."""
        x = images
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.activation(norm(conv(x)))
            x = F.avg_pool2d(x, 2) if x.shape[-1] % 2 == 0 else x
        return self.head(x.flatten(1))


class RowAttention(nn.Module):
    """A pre-norm transformer block that reads an image row by row.

    Args:
        in_channels: Channels of an image.
        image_size: Height and width of an image in pixels.
        num_classes: Number of outputs.
        width: Width of the residual stream; a multiple of `heads`.
        heads: Number of attention heads.
        activation: Makes the activation of the feed-forward part.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: int,
        width: int = 32,
        heads: int = 2,
        activation: Activation = nn.GELU,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(in_channels * image_size, width)
        self.places = nn.Parameter(0.02 * torch.randn(image_size, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.mix, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head, self.heads = nn.Linear(width, num_classes), heads
        self.activation = activation()

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, in_channels, image_size, image_size) to logits (batch, classes)."""
        x = self.embed(images.transpose(1, 2).flatten(2)) + self.places
        x = x + self.mixed(self._attend(self.norms[0](x)))
        x = x + self.narrow(self.activation(self.widen(self.norms[1](x))))
        return self.head(self.norms[2](x).mean(1))

    def _attend(self, x: Tensor) -> Tensor:
        batch, rows, width = x.shape
        split = self.mix(x).view(batch, rows, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5).softmax(-1)
        return (weights @ v).transpose(1, 2).reshape(batch, rows, width)
