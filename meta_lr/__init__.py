"""Learning-rate schedules that are learned from training runs, behind one protocol."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meta_lr.baselines.autodrop import AutoDrop
    from meta_lr.baselines.autodrop_epochs import AutoDropEpochs
    from meta_lr.baselines.autolr import AutoLR
    from meta_lr.baselines.autolrs import AutoLRS
    from meta_lr.baselines.compose import Composite, Warmup
    from meta_lr.baselines.formula import Policy
    from meta_lr.baselines.knee import Knee
    from meta_lr.baselines.policies import Constant, Cosine, MultiStep, OneCycle
    from meta_lr.checkpoint import load_pretrained
    from meta_lr.protocol import Average, Controller, Need, StepView
    from meta_lr.training.average import polynomial_average
    from meta_lr.training.loop import train
    from meta_lr.training.sandbox import Sandbox
    from meta_lr.training.scheduler import ControlledLR

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
    "AutoDrop": "baselines.autodrop",
    "AutoDropEpochs": "baselines.autodrop_epochs",
    "AutoLR": "baselines.autolr",
    "AutoLRS": "baselines.autolrs",
    "Average": "protocol",
    "Composite": "baselines.compose",
    "Constant": "baselines.policies",
    "ControlledLR": "training.scheduler",
    "Controller": "protocol",
    "Cosine": "baselines.policies",
    "Knee": "baselines.knee",
    "MultiStep": "baselines.policies",
    "Need": "protocol",
    "OneCycle": "baselines.policies",
    "Policy": "baselines.formula",
    "Sandbox": "training.sandbox",
    "StepView": "protocol",
    "Warmup": "baselines.compose",
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
