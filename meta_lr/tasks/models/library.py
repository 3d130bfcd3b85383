"""torchvision's own networks, by name."""

from __future__ import annotations

import difflib

from torch import nn

from meta_lr.extras import explained

_WITH_AUXILIARY_OUTPUTS = ("googlenet", "inception_v3")


def torchvision_model(
    *, name: str, in_channels: int, image_size: int, num_classes: int
) -> nn.Module:
    """Return torchvision's classification network with this name, without pretrained weights.

    Most of these networks halve the image five times and are made for 224 pixels. The allowed sizes
    depend on the network. Auxiliary outputs are switched off.

    Args:
        name: As in `torchvision.models.list_models()`, such as `resnet18` or `mobilenet_v2`.
        in_channels: Must be 3.
        image_size: Not used; part of the signature that all models share.
        num_classes: Number of outputs.

    Raises:
        ValueError: The name is unknown, or the images do not have three channels.
    """
    with explained():
        from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        close = difflib.get_close_matches(name, known) or known[:3]
        raise ValueError(f"torchvision has no model {name!r}; did you mean {' or '.join(close)}?")
    if in_channels != 3:
        raise ValueError(f"torchvision's {name} needs 3 channels and got {in_channels}; use `cnn3`")
    if name in _WITH_AUXILIARY_OUTPUTS:
        return models.get_model(
            name, weights=None, num_classes=num_classes, aux_logits=False, init_weights=True
        )
    return models.get_model(name, weights=None, num_classes=num_classes)
