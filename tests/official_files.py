"""Files with the keys and shapes of those that MLR-SNet's authors published, with other weights."""

import torch

SHAPES = {
    "layer1.fc_i2h.0.weight": (25, 1),
    "layer1.fc_i2h.0.bias": (25,),
    "layer1.fc_i2h.2.weight": (200, 25),
    "layer1.fc_i2h.2.bias": (200,),
    "layer1.fc_h2h.0.weight": (25, 50),
    "layer1.fc_h2h.0.bias": (25,),
    "layer1.fc_h2h.2.weight": (200, 25),
    "layer1.fc_h2h.2.bias": (200,),
    "layer3.weight": (1, 50),
    "layer3.bias": (1,),
}


def weights(seed):
    """Return weights by the authors' names, large enough for the loss to matter."""
    draw = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=draw) / 2 for key, shape in SHAPES.items()}


def write(path, found):
    """Write a file in the format of that time, before torch's files were zip archives."""
    torch.save(found, path, _use_new_zipfile_serialization=False)
    return path


def three(folder):
    """Write `1.pth`, `100.pth` and `200.pth`; return their paths."""
    return [write(folder / f"{epoch}.pth", weights(epoch)) for epoch in (1, 100, 200)]
