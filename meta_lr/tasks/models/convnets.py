"""Two small convolutional networks without normalisation layers."""

from __future__ import annotations

from torch import Tensor, nn


class LeNet(nn.Module):
    """LeNet-5 with ReLU and max pooling; images below 32 pixels are padded by 2, as for MNIST.

    Reference: LeCun, Bottou, Bengio, Haffner, 1998, "Gradient-based learning applied to document
    recognition". The original's partial connections, scaled tanh and trained pooling are replaced
    by the layers that are usual today.

    Raises:
        ValueError: The images are smaller than 12 pixels.
    """

    def __init__(self, *, in_channels: int, image_size: int, num_classes: int) -> None:
        super().__init__()
        if image_size < 12:
            raise ValueError(
                f"LeNet got image_size={image_size}; it needs at least 12: choose MLP or CNN3"
            )
        padding = 2 if image_size < 32 else 0
        side = ((image_size + 2 * padding - 4) // 2 - 4) // 2
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5, padding=padding),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(16 * side**2, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, in_channels, image_size, image_size) to logits (batch, classes)."""
        return self.classifier(self.features(images))


class CNN3(nn.Module):
    """Three convolutions and a linear layer: Caffe's `cifar10_full` without its two LRN layers.

    Reference: Caffe's `examples/cifar10/cifar10_full_train_test.prototxt`, after Krizhevsky's
    cuda-convnet. Pooling rounds sizes up, as in Caffe. The initial weights are torch's defaults,
    not Caffe's narrow Gaussians, which need LRN and a learning rate of 0.001.

    Raises:
        ValueError: The images are smaller than 8 pixels.
    """

    def __init__(self, *, in_channels: int, image_size: int, num_classes: int) -> None:
        super().__init__()
        if image_size < 8:
            raise ValueError(
                f"CNN3 got image_size={image_size}; it needs at least 8: choose MLP or resize"
            )
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 32, 5, padding=2),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            nn.ReLU(),
            nn.Conv2d(32, 32, 5, padding=2),
            nn.ReLU(),
            nn.AvgPool2d(3, stride=2, ceil_mode=True),
            nn.Conv2d(32, 64, 5, padding=2),
            nn.ReLU(),
            nn.AvgPool2d(3, stride=2, ceil_mode=True),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(64 * (image_size // 8) ** 2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, in_channels, image_size, image_size) to logits (batch, classes)."""
        return self.classifier(self.features(images))
