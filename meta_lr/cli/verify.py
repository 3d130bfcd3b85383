"""`meta-lr verify`: does a policy reach a target within a budget?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from meta_lr.cli import asked, parts, problem
from meta_lr.cli.family import refuse_other_family
from meta_lr.cli.flags import counted
from meta_lr.cli.signals import graceful_stop
from meta_lr.cli.sweep import JobResult
from meta_lr.lrbench.known import Known
from meta_lr.lrbench.result import Result
from meta_lr.lrbench.verify import Verdict, verify
from meta_lr.methods.policies.text import label, overrides
from meta_lr.report.files import write_pictures
from meta_lr.report.search_figures import target_picture

NOT_MET = 4


def command(cfg: DictConfig, folder: Path) -> JobResult:
    """Train until it is known, say what came out, and return the cost to the target."""
    seeds = asked.seeds_of(cfg)
    asked.refuse_seed(cfg, "verify")
    controller = parts.build(cfg.lr)
    refuse_other_family(controller, cfg, option="lr.peak")
    with graceful_stop() as stop, problem.opened(cfg, "verify", stop) as this:
        target = problem.target_of(cfg, this)
        verdict = verify(
            this.train,
            controller,
            target=target,
            seeds=seeds,
            folder=folder,
            gives_up=cfg.gives_up,
        )
    picture = target_picture([result.curve for result in verdict.results], target)
    write_pictures([picture], folder)
    print("\n".join(_lines(verdict, label(controller), this.train.total_steps)))
    print(f"figure: {folder / picture.name}.svg, .png; records: {folder}; store: {cfg.store}")
    result = problem.result_of(verdict.results, target)
    return result if verdict.met else replace(result, code=NOT_MET)


def _lines(verdict: Verdict, policy: str, budget: int) -> Iterator[str]:
    """Yield the answer, the evidence for each seed, and what does better."""
    first, reached = verdict.results[0], [at for at in verdict.reached if at is not None]
    where = f"{first.task}, {first.model}, {first.optimizer}"
    times = f"{len(reached)} of {counted(len(verdict.results), 'seed')}"
    answer = "met" if verdict.met else "not met"
    yield f"{answer}: {policy} reaches {verdict.target:g} on val of {where}"
    yield f"  within {budget:,} steps with {times}"
    met, hopeless = verdict.saved
    yield (
        f"  to know it cost {verdict.cost:,.0f} steps of {budget * len(verdict.results):,}: "
        f"{met:,} saved where it was met, {hopeless:,} where there was no hope"
    )
    for result, at in zip(verdict.results, verdict.reached, strict=True):
        yield f"  seed {result.seed}: {_evidence(result, at)}"
    if verdict.better:
        yield "better ones in the store:" if verdict.met else "others in the store:"
    for known in verdict.better[:3]:
        yield f"  {known.policy}: {_of(known)}"
        if overrides(known.policy):
            yield f"    {overrides(known.policy)}"


def _evidence(result: Result, at: tuple[int, float] | None) -> str:
    value = _last(result)
    if at is not None:
        return f"met at step {at[0]:,}, cost {at[1]:,.0f}{value}"
    status = "the budget is spent" if result.status == "finished" else result.status
    return f"not met: {status}, cost {result.cost:,.0f}{value}"


def _of(known: Known) -> str:
    seeds = counted(len(known.results), "seed")
    if known.cost_to_target < math.inf:
        return f"met at cost {known.cost_to_target:,.0f} (mean of {seeds})"
    accurate = known.results[0].val_accuracy is not None
    value = 1 + known.score if accurate else -known.score
    return f"not met either, but {value:.4f} in the end (mean of {seeds})"


def _last(result: Result) -> str:
    """Return what the last evaluation found, if it is a number."""
    last = result.curve[-1] if result.curve else None
    value = None if last is None else last.loss if last.accuracy is None else last.accuracy
    return "" if value is None else f", val {value:.4f}"
