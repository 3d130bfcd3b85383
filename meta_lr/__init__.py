"""Learning-rate schedules that are learned from training runs, behind one protocol."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from meta_lr.extras import explained

if TYPE_CHECKING:
    from meta_lr.bilevel.trainer import meta_train
    from meta_lr.checkpoint import list_checkpoints, load_pretrained
    from meta_lr.drop_in.scheduler import ControlledLR
    from meta_lr.lrbench.compose import compose
    from meta_lr.lrbench.recommend import recommend
    from meta_lr.lrbench.verify import verify
    from meta_lr.methods.autodrop.epochs import AutoDropEpochs
    from meta_lr.methods.autodrop.windows import AutoDrop
    from meta_lr.methods.autolr.labpal import LABPAL
    from meta_lr.methods.autolr.method import AutoLR
    from meta_lr.methods.autolr.pal import PAL
    from meta_lr.methods.autolrs.method import AutoLRS
    from meta_lr.methods.autolrs.paper import AutoLRSPaper
    from meta_lr.methods.basic import Constant, Cosine, MultiStep, OneCycle
    from meta_lr.methods.curve import learning_rates
    from meta_lr.methods.fallback import Fallback
    from meta_lr.methods.knee import Knee
    from meta_lr.methods.mlr_snet.learned import Learned
    from meta_lr.methods.mlr_snet.online import OnlineMLRSNet
    from meta_lr.methods.mlr_snet.paper import PaperMLRSNet
    from meta_lr.methods.piecewise import Piecewise
    from meta_lr.methods.policies.change_on_plateau import ChangeOnPlateau
    from meta_lr.methods.policies.compose_on_plateau import ComposeOnPlateau
    from meta_lr.methods.policies.formula import Policy
    from meta_lr.methods.self_tuning.schedule import SelfTuning
    from meta_lr.methods.wrappers import Composite, Warmup
    from meta_lr.own_model import range_test
    from meta_lr.protocol import Average, Controller, Need, StepView
    from meta_lr.training.average import polynomial_average
    from meta_lr.training.loop import train
    from meta_lr.training.sandbox import Sandbox

__version__ = "0.1.0"

__all__ = [
    "LABPAL",
    "PAL",
    "AutoDrop",
    "AutoDropEpochs",
    "AutoLR",
    "AutoLRS",
    "AutoLRSPaper",
    "Average",
    "ChangeOnPlateau",
    "ComposeOnPlateau",
    "Composite",
    "Constant",
    "ControlledLR",
    "Controller",
    "Cosine",
    "Fallback",
    "Knee",
    "Learned",
    "MultiStep",
    "Need",
    "OneCycle",
    "OnlineMLRSNet",
    "PaperMLRSNet",
    "Piecewise",
    "Policy",
    "Sandbox",
    "SelfTuning",
    "StepView",
    "Warmup",
    "compose",
    "learning_rates",
    "list_checkpoints",
    "list_methods",
    "load_pretrained",
    "meta_train",
    "polynomial_average",
    "range_test",
    "recommend",
    "train",
    "verify",
]

_HOMES = {
    "AutoDrop": "methods.autodrop.windows",
    "AutoDropEpochs": "methods.autodrop.epochs",
    "AutoLR": "methods.autolr.method",
    "AutoLRS": "methods.autolrs.method",
    "AutoLRSPaper": "methods.autolrs.paper",
    "Average": "protocol",
    "ChangeOnPlateau": "methods.policies.change_on_plateau",
    "ComposeOnPlateau": "methods.policies.compose_on_plateau",
    "Composite": "methods.wrappers",
    "Constant": "methods.basic",
    "ControlledLR": "drop_in.scheduler",
    "Controller": "protocol",
    "Cosine": "methods.basic",
    "Fallback": "methods.fallback",
    "Knee": "methods.knee",
    "LABPAL": "methods.autolr.labpal",
    "Learned": "methods.mlr_snet.learned",
    "MultiStep": "methods.basic",
    "Need": "protocol",
    "OneCycle": "methods.basic",
    "OnlineMLRSNet": "methods.mlr_snet.online",
    "PaperMLRSNet": "methods.mlr_snet.paper",
    "PAL": "methods.autolr.pal",
    "Piecewise": "methods.piecewise",
    "Policy": "methods.policies.formula",
    "Sandbox": "training.sandbox",
    "SelfTuning": "methods.self_tuning.schedule",
    "StepView": "protocol",
    "Warmup": "methods.wrappers",
    "compose": "lrbench.compose",
    "learning_rates": "methods.curve",
    "list_checkpoints": "checkpoint",
    "load_pretrained": "checkpoint",
    "meta_train": "bilevel.trainer",
    "polynomial_average": "training.average",
    "range_test": "own_model",
    "recommend": "lrbench.recommend",
    "train": "training.loop",
    "verify": "lrbench.verify",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so `meta-lr --help` does not import torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'meta_lr' has no attribute {name!r}")
    with explained():
        value = getattr(import_module(f"meta_lr.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def list_methods() -> dict[str, str]:
    """Return the methods that choose a learning rate: name -> what it does, in one line.

    >>> list_methods()["Constant"]
    'One learning rate for the whole run.'
    """
    named = {name: __getattr__(name) for name, home in _HOMES.items() if home.startswith("methods")}
    methods = {name: value for name, value in named.items() if isinstance(value, type)}
    return {name: (method.__doc__ or "").split("\n")[0] for name, method in methods.items()}


def __dir__() -> list[str]:
    """List the public names, including those that are not imported yet."""
    return sorted({*globals(), *__all__})
