"""Small networks, for images and for text.

Networks for images are called with `in_channels, image_size, num_classes`; the language model is
called with only `num_classes`.
"""

from meta_lr.tasks.models.convnets import CNN3, LeNet
from meta_lr.tasks.models.language import LSTMLanguageModel
from meta_lr.tasks.models.library import torchvision_model
from meta_lr.tasks.models.mlp import MLP
from meta_lr.tasks.models.resnet import ResNet, ResNet18
from meta_lr.tasks.models.wide_resnet import WideResNet

__all__ = [
    "CNN3",
    "MLP",
    "LSTMLanguageModel",
    "LeNet",
    "ResNet",
    "ResNet18",
    "WideResNet",
    "torchvision_model",
]
