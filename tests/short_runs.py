"""Runs of the loop for the tests: how they are made and stopped, and what they come to."""

from __future__ import annotations

import sys
from functools import partial

import torch

from meta_lr.methods.mlr_snet.online import OnlineMLRSNet
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.records.reader import NAME, read_record
from meta_lr.testing.compare import leaves
from meta_lr.training.feed import Feed
from tests.times import SECONDS

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
ADAM = partial(torch.optim.Adam, lr=0.1)


def online(look_ahead=1, **options):
    return OnlineMLRSNet(
        LSTM(hidden=4), gamma=0.1, period=3, look_ahead=look_ahead, meta_lr=0.01, **options
    )


def record_of(folder):
    """The bytes of the record, without what no two runs share."""
    return SECONDS.sub(b"", (folder / NAME).read_bytes())


def ends(outcome):
    """All that a run comes to, in a form that == compares bit for bit."""
    plain = ("status", "steps", "cost", "search_cost", "val", "test")
    facts = {name: getattr(outcome, name) for name in plain}
    return leaves({**facts, "model": outcome.model.state_dict(), "state": outcome.state})


def stop_when(count, asker="steps"):
    """Stop when `asker` (the loop's `steps`, or the sandbox's `loss_of`) asks once too often."""
    asked = 0

    def stop():
        nonlocal asked
        asked += sys._getframe(1).f_code.co_name == asker
        return asked > count

    return stop


def steps_of(folder):
    return read_record(folder).steps


def batches_of(task):
    """The batches of a task on the CPU, as `measure` takes them."""
    return Feed(task, torch.device("cpu")).batches
