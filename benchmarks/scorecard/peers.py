"""Tuning-free methods of other authors, from their own packages, at their published defaults.

Schedule-Free, Prodigy and DoG replace the optimizer of the problem; the others keep it. Methods
that average weights by themselves (Schedule-Free, DoG) are evaluated at their average.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from benchmarks.scorecard.finals import Finals
from benchmarks.scorecard.greedy import Greedy, follow
from benchmarks.scorecard.plain import Begin, Training, train
from benchmarks.scorecard.problems import made
from benchmarks.scorecard.runs import Method
from meta_lr.bilevel.problems import Problem


def schedule_free_sgd(problem: Problem, model: nn.Module) -> Training:
    """Schedule-Free SGD (Defazio et al. 2024, arXiv 2405.15682)."""
    from schedulefree import SGDScheduleFree

    return _schedule_free(SGDScheduleFree(model.parameters()), model)


def schedule_free_adamw(problem: Problem, model: nn.Module) -> Training:
    """Schedule-Free AdamW (Defazio et al. 2024, arXiv 2405.15682)."""
    from schedulefree import AdamWScheduleFree

    return _schedule_free(AdamWScheduleFree(model.parameters()), model)


def _schedule_free(optimizer: Any, model: nn.Module) -> Training:
    def final() -> nn.Module:
        optimizer.eval()  # puts the average into the model
        return model

    optimizer.train()
    return Training(optimizer, final, averages=True)


def prodigy(problem: Problem, model: nn.Module) -> Training:
    """Prodigy (Mishchenko and Defazio 2023, arXiv 2306.06101) with the recommended cosine."""
    from prodigyopt import Prodigy

    return _with_cosine(Prodigy(model.parameters()), problem, model)


def dog(problem: Problem, model: nn.Module) -> Training:
    """DoG (Ivgi et al. 2023, arXiv 2302.12022) with the recommended average."""
    from dog import DoG, PolynomialDecayAverager

    averager = PolynomialDecayAverager(model)
    optimizer = DoG(model.parameters())
    final, after = (lambda: averager.averaged_model), (lambda loss: averager.step())
    return Training(optimizer, final, after, averages=True)


def mechanic(problem: Problem, model: nn.Module) -> Training:
    """Mechanic (Cutkosky et al. 2023, arXiv 2306.00144) on a cosine of the problem's optimizer."""
    from mechanic_pytorch import mechanize

    make, options = _own(problem)
    optimizer = mechanize(make)(model.parameters(), **{**options, "lr": 1.0})
    return _with_cosine(optimizer, problem, model)


def default_cosine(problem: Problem, model: nn.Module) -> Training:
    """A cosine to zero from torch's default learning rate of the problem's optimizer."""
    return _with_cosine(_default(problem, model), problem, model)


def greedy(problem: Problem, model: nn.Module) -> Training:
    """GreedyLR from torch's default learning rate of the problem's optimizer."""
    optimizer = _default(problem, model)
    at = Greedy(optimizer.param_groups[0]["lr"])

    def after(loss: float) -> None:
        nonlocal at
        at = follow(at, loss)
        optimizer.param_groups[0]["lr"] = at.lr

    return Training(optimizer, lambda: model, after)


class Peer(NamedTuple):
    """A peer, and the module that it comes from."""

    begin: Begin
    module: str = ""  # "" for a peer that needs no package
    package: str = ""


PEERS: dict[str, Peer] = {
    "Schedule-Free SGD": Peer(schedule_free_sgd, "schedulefree", "schedulefree"),
    "Schedule-Free AdamW": Peer(schedule_free_adamw, "schedulefree", "schedulefree"),
    "Prodigy + cosine": Peer(prodigy, "prodigyopt", "prodigyopt"),
    "DoG + its average": Peer(dog, "dog", "dog-optimizer"),
    "Mechanic + cosine": Peer(mechanic, "mechanic_pytorch", "mechanic-pytorch"),
    "cosine, torch's default": Peer(default_cosine),
    "GreedyLR": Peer(greedy),
}


def missing() -> list[str]:
    """Return the packages that are not installed."""
    return sorted({p.package for p in PEERS.values() if p.module and not find_spec(p.module)})


def methods() -> dict[str, Method]:
    """Return all peers; another version of a package makes its rows again."""
    return {
        name: Method(
            partial(_run, peer.begin),
            f"{peer.package} {version(peer.package)}" if peer.package else name,
        )
        for name, peer in PEERS.items()
    }


def _run(begin: Begin, family: str, number: int, seed: int) -> Finals:
    return train(made(family, number, seed), begin)


def _own(problem: Problem) -> tuple[Any, dict[str, Any]]:
    """Return the class of the problem's optimizer, and its options."""
    make = problem.make_optimizer
    assert isinstance(make, partial)
    return make.func, make.keywords


def _default(problem: Problem, model: nn.Module) -> Optimizer:
    """Return the problem's optimizer with torch's default learning rate."""
    make, options = _own(problem)
    return make(model.parameters(), **{k: v for k, v in options.items() if k != "lr"})


def _with_cosine(optimizer: Optimizer, problem: Problem, model: nn.Module) -> Training:
    cosine = CosineAnnealingLR(optimizer, T_max=problem.total_steps)
    return Training(optimizer, lambda: model, lambda loss: cosine.step())
