"""A multi-layer perceptron on flattened images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with ReLU between them and optional dropout after each ReLU.

    A subclass may have another `activation`.

    Args:
        in_channels: Channels of an image.
        image_size: Height and width of an image in pixels.
        num_classes: Number of outputs.
        hidden: Width of each hidden layer; empty makes a linear classifier.
        dropout: Probability that a hidden unit is dropped in train mode.

    Raises:
        ValueError: A width is not positive, or `dropout` is outside [0, 1).
    """

    activation: type[nn.Module] = nn.ReLU

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: int,
        hidden: Sequence[int] = (128, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if any(width < 1 for width in hidden):
            raise ValueError(f"MLP got hidden={list(hidden)}; every width must be at least 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"MLP got dropout={dropout}; it must be in [0, 1)")
        layers: list[nn.Module] = [nn.Flatten()]
        width = in_channels * image_size**2
        for wanted in hidden:
            layers += [nn.Linear(width, wanted), self.activation()]
            layers += [nn.Dropout(dropout)] if dropout else []
            width = wanted
        self.layers = nn.Sequential(*layers, nn.Linear(width, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, in_channels, image_size, image_size) to logits (batch, classes)."""
        return self.layers(images)
