"""`meta-lr recommend`: the best policies for a problem, known or found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig

from meta_lr.cli import asked, parts, problem
from meta_lr.cli.flags import counted
from meta_lr.cli.signals import graceful_stop
from meta_lr.cli.sweep import JobResult
from meta_lr.lrbench.exchange import read, write
from meta_lr.lrbench.known import Known, stored
from meta_lr.lrbench.recommend import Recommendation, recommend
from meta_lr.lrbench.result import Result
from meta_lr.lrbench.robust import robustness_of
from meta_lr.lrbench.search import loaded
from meta_lr.lrbench.space import Space
from meta_lr.methods.policies.text import from_label, overrides
from meta_lr.report import write_report

KNOWN = "known.json"  # what the store knew at first


def command(cfg: DictConfig, folder: Path) -> JobResult:
    """Find the range, search, compare, say what is best, report, and return its result."""
    problem.refuse_misplaced(cfg, "recommend")
    trials, kinds = parts.whole(cfg, "trials", least=0), asked.listed(cfg, "kinds")
    if trials:
        loaded()  # or it is missed after the range test
    with graceful_stop() as stop, problem.opened(cfg, "recommend", stop) as this:
        target = None if cfg.target is None else problem.target_of(cfg, this)
        if cfg.robustness and not this.accurate:
            raise ValueError("robustness=true is for tasks with an accuracy; leave it out")
        known = _known(cfg, this, folder / KNOWN)
        space, range_cost = None, 0.0
        if trials:
            k0, k1, range_cost = problem.rates_of(cfg, folder / "range", stop)
            space = Space(k0, k1, this.train.total_steps, kinds)
        if known or trials:
            write(known, folder / KNOWN)  # a command that is repeated begins with the same
        done = recommend(
            this.train,
            space,
            folder=folder,
            known=known,
            target=target,
            trials=trials,
            halving=parts.whole(cfg, "halving", least=1),
            finalists=parts.whole(cfg, "finalists", least=1),
            search_seed=parts.whole(cfg, "search_seed", least=0),
            seeds=asked.seeds_of(cfg),
        )
        told = _robustness(this, done, folder) if cfg.robustness else ""
    report = write_report(folder / "finals", folder / "report", target=target)
    print("\n".join(_lines(done, range_cost, target)) + told)
    print(f"report: {report.page}; store: {cfg.store}")
    return problem.result_of(done.ranked[0].results, target)


def _robustness(this: problem.Problem, done: Recommendation, folder: Path) -> str:
    """Return a line on the best policy at other base rates."""
    best = done.ranked[0]
    policy = from_label(best.policy)
    assert policy is not None, "it was trained from its label"
    found, cost = robustness_of(this.train, policy, best.results[0], folder / "robustness")
    change = "unknown" if found is None else f"{100 * found:+.1f} points of accuracy"
    times = "at 0.1, 0.5, 5 and 10 times its rates"
    return f"\nrobustness of the first: {change} {times}; {cost:,.0f} steps"


def _known(cfg: DictConfig, this: problem.Problem, place: Path) -> list[Result]:
    """Return what the store knew of the problem when this command first began to train."""
    if place.exists():
        known = read(place)
    else:
        known = stored(this.store, **problem.names(cfg, this.task), budget=this.train.total_steps)
    if known:
        print(f"{cfg.store} knew {counted(len(known), 'run')} of this problem", flush=True)
    return known


def _lines(done: Recommendation, range_cost: float, target: float | None) -> Iterator[str]:
    """Yield what it cost, and the policies, the best first, with how to use them."""
    yield (
        f"spent: {range_cost:,.0f} steps on the range, {done.search_cost:,.0f} on the search "
        f"({counted(len(done.found), 'trial')}), {done.finals_cost:,.0f} on the comparison"
    )
    for place, known in enumerate(done.ranked, start=1):
        yield f"{place}. {known.policy}"
        yield f"   {_of(known, target)}"
        yield f"   {overrides(known.policy)}"


def _of(known: Known, target: float | None) -> str:
    words = [] if target is None else [_to_target(known, target)]
    accuracies = [result.val_accuracy for result in known.results]
    losses = [result.val_loss for result in known.results]
    words += [f"val accuracy {_each(accuracies)}"] if None not in accuracies else []
    words += [f"val loss {_each(losses)}", f"val - train {known.loss_difference:.3f}"]
    return "; ".join(words)


def _to_target(known: Known, target: float) -> str:
    reached = [result.to_target(target) for result in known.results]
    times = f"{sum(at is not None for at in reached)} of {counted(len(reached), 'seed')}"
    if known.cost_to_target == math.inf:
        return f"{target:g} met with {times}"
    return f"{target:g} met at cost {_each([at and at[1] for at in reached], digits=0)}"


def _each(values: Sequence[float | None], *, digits: int = 4) -> str:
    return ", ".join("-" if value is None else f"{value:,.{digits}f}" for value in values)
