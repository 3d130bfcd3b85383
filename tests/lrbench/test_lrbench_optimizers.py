"""LRBench's tools with every optimizer: each has rates of its own, and all of them work."""

from __future__ import annotations

import pytest
import torch

from meta_lr.lrbench.compose import candidates, compose
from meta_lr.lrbench.range_test import range_test
from meta_lr.lrbench.recommend import recommend
from meta_lr.lrbench.space import Space
from meta_lr.lrbench.store import Store
from meta_lr.lrbench.trainer import trainer
from meta_lr.lrbench.verify import verify
from meta_lr.methods.policies.compose_on_plateau import ComposeOnPlateau
from meta_lr.methods.policies.formula import Policy
from meta_lr.tasks import Quadratic
from tests.cli.test_configs import build, choices, composing
from tests.cli.test_configs import compose as compose_config

NAMES = ["sgd_plain", "sgd", "nesterov", "adam", "adamw", "rmsprop", "adagrad", "adadelta"]
T = 40
__all__ = ["composing"]


def test_each_optimizer_has_its_file():
    assert set(NAMES) == set(choices("optimizer"))


@pytest.mark.parametrize("name", NAMES)
def test_range_test_verify_recommend_and_compose(tmp_path, name):
    optimizer = build(compose_config("train", [f"optimizer={name}"]).optimizer)
    found = range_test(Quadratic(), optimizer, steps=200, seed=3)
    with Store(tmp_path / "store") as store:
        train = trainer(
            lambda seed: Quadratic(seed=seed), optimizer, total_steps=T, eval_every=4, store=store
        )
        done = recommend(
            train, Space(found.k0, found.k1, T), folder=tmp_path / "r", trials=4, seeds=[0, 1]
        )
        best = done.ranked[0]
        target = max(run.val_loss for run in best.results)
        policy = Policy("fix", found.k1)
        again = verify(train, policy, target=target, seeds=[0], folder=tmp_path / "v")
        assert again.met or again.better[0].met, "else the store knows one that met it"
        composer = ComposeOnPlateau(
            candidates(found.k1, T), trial_steps=3, check_every=4, patience=2
        )
        composed = compose(train, composer, folder=tmp_path / "c", seeds=[0])
        start = Quadratic()
        with torch.no_grad():
            first = float(start.metrics(start.model(), start.batch("val", 0))["loss"])
        assert composed.entries[0].results[0].val_loss < first
        families = {run.optimizer for run in store.find()}
    assert len(families) == 1
