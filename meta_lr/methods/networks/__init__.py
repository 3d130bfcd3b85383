"""Scheduler networks: an MLP, MLR-SNet's LSTM, and user-defined torch modules."""

from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.networks.mlp import MLP
from meta_lr.methods.networks.module import ModuleNetwork

__all__ = ["LSTM", "MLP", "ModuleNetwork"]
