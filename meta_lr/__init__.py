"""Learning-rate schedules that are learned from training runs, behind one protocol."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meta_lr.checkpoint import load_pretrained
    from meta_lr.drop_in.scheduler import ControlledLR
    from meta_lr.methods.autodrop.epochs import AutoDropEpochs
    from meta_lr.methods.autodrop.windows import AutoDrop
    from meta_lr.methods.autolr.method import AutoLR
    from meta_lr.methods.autolrs.method import AutoLRS
    from meta_lr.methods.basic import Constant, Cosine, MultiStep, OneCycle
    from meta_lr.methods.knee import Knee
    from meta_lr.methods.policies.formula import Policy
    from meta_lr.methods.wrappers import Composite, Warmup
    from meta_lr.protocol import Average, Controller, Need, StepView
    from meta_lr.training.average import polynomial_average
    from meta_lr.training.loop import train
    from meta_lr.training.sandbox import Sandbox

__version__ = "0.1.0"

__all__ = [
    "AutoDrop",
    "AutoDropEpochs",
    "AutoLR",
    "AutoLRS",
    "Average",
    "Composite",
    "Constant",
    "ControlledLR",
    "Controller",
    "Cosine",
    "Knee",
    "MultiStep",
    "Need",
    "OneCycle",
    "Policy",
    "Sandbox",
    "StepView",
    "Warmup",
    "load_pretrained",
    "polynomial_average",
    "train",
]

_HOMES = {
    "AutoDrop": "methods.autodrop.windows",
    "AutoDropEpochs": "methods.autodrop.epochs",
    "AutoLR": "methods.autolr.method",
    "AutoLRS": "methods.autolrs.method",
    "Average": "protocol",
    "Composite": "methods.wrappers",
    "Constant": "methods.basic",
    "ControlledLR": "drop_in.scheduler",
    "Controller": "protocol",
    "Cosine": "methods.basic",
    "Knee": "methods.knee",
    "MultiStep": "methods.basic",
    "Need": "protocol",
    "OneCycle": "methods.basic",
    "Policy": "methods.policies.formula",
    "Sandbox": "training.sandbox",
    "StepView": "protocol",
    "Warmup": "methods.wrappers",
    "load_pretrained": "checkpoint",
    "polynomial_average": "training.average",
    "train": "training.loop",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `meta-lr --help` need not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'meta_lr' has no attribute {name!r}")
    value = getattr(import_module(f"meta_lr.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names before they are used."""
    return sorted({*globals(), *__all__})
