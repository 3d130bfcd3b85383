"""The loop: when it evaluates and at which weights, averages, seeds, groups."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
import torch
from torch import nn

from meta_lr.methods.basic import Constant, Cosine
from meta_lr.protocol import Need
from meta_lr.records.reader import read_record, read_rows
from meta_lr.training.loop import StoppedError, train
from tests.controllers import Restart
from tests.short_runs import SGD, ends, steps_of, stop_when
from tests.toys import Fixed, Toy


@dataclass(frozen=True)
class Watched(Toy):
    asked: list = field(default_factory=list)

    def batch(self, split, index, draw=None):
        self.asked.append(split)
        return super().batch(split, index, draw)


def test_the_test_data_are_read_once_at_the_end(tmp_path):
    task = Watched()
    run = partial(train, task, SGD, Fixed(), total_steps=12, eval_every=3, folder=tmp_path)
    with pytest.raises(StoppedError):
        run(stop=stop_when(7))
    outcome = run()
    # 12 steps; 4 evaluations of 2 batches; one test of 2 batches at the last and the best weights
    assert Counter(task.asked) == {"train": 12, "val": 4 * 2, "test": 2 * 2}
    assert task.asked[-4:] == ["test"] * 4
    rows = read_record(tmp_path).evaluations
    assert [(row["step"], row["split"], row["weights"]) for row in rows] == [
        *((step, "val", "current") for step in (3, 6, 9, 12)),
        (12, "test", "last"),
        (12, "test", "best"),
    ]
    for row in rows[-2:]:
        assert {k: row[k] for k in ("loss", "accuracy")} == outcome.test[row["weights"]]


@dataclass(frozen=True)
class GoesAstray(Fixed):
    """Learns for eight steps, then takes one that is far too long."""

    def __call__(self, view, state):
        return (30.0 if view.step == 8 else self.rate), state


def test_best_are_the_weights_that_score_best_on_val(tmp_path):
    plain = partial(torch.optim.SGD, lr=1.0)
    run = partial(train, Toy(batch_size=64, norm=False), plain, GoesAstray(1.0), eval_every=2)
    outcome = run(total_steps=12, folder=tmp_path)
    scores = [row for row in read_rows(tmp_path) if row.get("split") == "val"]
    best = max(scores, key=lambda row: row["accuracy"])  # the first of the best
    assert best["step"] <= 8 and scores[-1]["accuracy"] < best["accuracy"]
    assert (
        run(total_steps=best["step"]).test["last"] == outcome.test["best"] != outcome.test["last"]
    )


@dataclass(frozen=True)
class Valley(Toy):
    """One weight w from 1 on; loss w^2 / 2, so its gradient is w. There is no accuracy."""

    num_classes: int = field(default=0, init=False)

    def model(self):
        model = nn.Module()
        model.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
        return model

    def loss(self, model, batch):
        return (model.weight**2).sum() / 2

    def metrics(self, model, batch):
        return {"loss": self.loss(model, batch)}


def test_best_is_the_lowest_loss_where_there_is_no_accuracy():
    outcome = train(
        Valley(), partial(torch.optim.SGD, lr=1.0), GoesAstray(0.5), total_steps=10, eval_every=1
    )
    # w halves eight times, then w <- w - 30 w = -29 w, then it halves again
    assert outcome.test["best"]["loss"] == (0.5**8) ** 2 / 2
    assert outcome.test["last"]["loss"] == (29 * 0.5**9) ** 2 / 2


def test_an_average_is_applied_after_the_step(tmp_path):
    seen = []

    @dataclass(frozen=True)
    class Seeing(Restart):
        def __call__(self, view, state):
            seen.append(view.params[0].item())
            return super().__call__(view, state)

    outcome = train(
        Valley(), partial(torch.optim.SGD, lr=1.0), Seeing(), total_steps=3, folder=tmp_path
    )
    # w <- 0.9 w / 2 + 1
    assert [*seen, outcome.model.weight.item()] == pytest.approx([1.0, 1.45, 1.6525, 1.743625])
    assert [row["lr"] for row in steps_of(tmp_path)] == [0.1] * 3
    assert outcome.val["loss"] == pytest.approx(1.743625**2 / 2)


def test_one_seed_for_the_run_and_one_for_the_task():
    def end(seed, task_seed):
        task = replace(Toy(), seed=task_seed)
        return ends(train(task, SGD, Fixed(), total_steps=4, seed=seed))

    assert end(0, 0) == end(0, 0)
    assert end(1, 0) != end(0, 0) != end(0, 1)  # other dropout masks; other data and weights


def test_the_ratio_of_groups_is_that_of_their_first_rates():
    def grouped(params):
        return torch.optim.SGD([{"params": params[:2]}, {"params": params[2:], "lr": 0.2}], lr=0.1)

    class Pause(Fixed):
        @property
        def needs(self):
            return Need.TRIALS

        def __call__(self, view, state):
            with view.sandbox.trial() as trial:
                trial.step(0.1)
                ratio = [g["lr"] for g in trial.optimizer.param_groups]
            assert ratio == pytest.approx([0.1, 0.2])
            return (0.0 if view.step == 2 else 0.1), state

    assert train(Toy(), grouped, Pause(), total_steps=5).status == "finished"


def test_a_run_takes_at_least_one_step():
    with pytest.raises(ValueError, match="total_steps is 0"):
        train(Toy(), SGD, Constant(0.1), total_steps=0)


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match="has no batch of split train"):
        train(Toy(batches=0), SGD, Cosine(0.1), total_steps=6)
