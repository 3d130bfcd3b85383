"""Learning-rate schedules that are learned, searched or probed, behind one protocol."""

from meta_lr.baselines.compose import Composite, Warmup
from meta_lr.checkpoint import load_pretrained
from meta_lr.protocol import Average, Controller, Need, StepView
from meta_lr.training.loop import train
from meta_lr.training.sandbox import Sandbox
from meta_lr.training.scheduler import ControlledLR

__version__ = "0.1.0"

__all__ = [
    "Average",
    "Composite",
    "ControlledLR",
    "Controller",
    "Need",
    "Sandbox",
    "StepView",
    "Warmup",
    "load_pretrained",
    "train",
]
