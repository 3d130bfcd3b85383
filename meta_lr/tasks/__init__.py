"""Learning problems: data in four splits, a new model, a loss and metrics."""

from meta_lr.tasks.base import SPLITS, Batch, Split, Task
from meta_lr.tasks.digits import digits
from meta_lr.tasks.image_folder import image_folder
from meta_lr.tasks.images import ImageTask
from meta_lr.tasks.quadratic import Quadratic
from meta_lr.tasks.streaming import ImageStream, imagenet
from meta_lr.tasks.text import TextTask
from meta_lr.tasks.text_file import text_file
from meta_lr.tasks.torchvision_sets import torchvision_set

__all__ = [
    "SPLITS",
    "Batch",
    "ImageStream",
    "ImageTask",
    "Quadratic",
    "Split",
    "Task",
    "TextTask",
    "digits",
    "image_folder",
    "imagenet",
    "text_file",
    "torchvision_set",
]
