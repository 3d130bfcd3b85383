"""Classification of images that are read and decoded when they are needed, such as ImageNet."""

from meta_lr.tasks.streaming.stream import ImageStream, imagenet

__all__ = ["ImageStream", "imagenet"]
