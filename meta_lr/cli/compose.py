"""`meta-lr compose`: a composite policy, phase by phase, beside its rivals at the same cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig

from meta_lr.cli import asked, parts, problem
from meta_lr.cli.flags import counted
from meta_lr.cli.shown import end_of
from meta_lr.cli.signals import graceful_stop
from meta_lr.cli.sweep import JobResult
from meta_lr.lrbench.compose import Composition, candidates, compose
from meta_lr.methods.policies.compose_on_plateau import ComposeOnPlateau
from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.policies.text import label, overrides
from meta_lr.records.rows import Row
from meta_lr.report import write_report


def command(cfg: DictConfig, folder: Path) -> JobResult:
    """Find the range, compose, compare, report, and return the composite's result."""
    problem.refuse_misplaced(cfg, "compose")
    with graceful_stop() as stop, problem.opened(cfg, "compose", stop) as this:
        target = None if cfg.target is None else problem.target_of(cfg, this)
        policies: Sequence[Policy | str] = asked.listed(cfg, "candidates")
        range_cost = 0.0
        if not policies:
            _, k1, range_cost = problem.rates_of(cfg, folder / "range", stop)
            policies = candidates(k1, this.train.total_steps)
        names = ("trial_steps", "check_every", "patience", "val_batches")
        numbers = {name: parts.whole(cfg, name, least=0) for name in names}
        done = compose(
            this.train,
            ComposeOnPlateau(policies, threshold=parts.positive(cfg, "threshold"), **numbers),
            folder=folder,
            target=target,
            spent=range_cost,
            search_seed=parts.whole(cfg, "search_seed", least=0),
            seeds=asked.seeds_of(cfg),
        )
    report = write_report(folder / "finals", folder / "report", target=target)
    print(end_of(report.outcome, report.markdown))
    print("\n".join(_lines(done, range_cost)))
    print(f"report: {report.page}; every trial: {folder / 'search'}; store: {cfg.store}")
    return problem.result_of(done.entries[0].results, target)


def _lines(done: Composition, range_cost: float) -> Iterator[str]:
    """Yield each phase with its trials, what each entry is, and how to use the composite."""
    with_range = ", those of the range test among them" if range_cost else ""
    trials: list[Row] = []
    for row in done.search:
        if row["what"] == "trial":
            trials.append(row)
            continue
        starts = {trial["start"] for trial in trials}
        origin = (
            f"from one point, {trials[0]['start']}" if len(starts) == 1 else "NOT FROM ONE POINT"
        )
        chosen = row["policy"] or "goes on as before"
        yield f"step {row['step']:,}: {chosen}  ({counted(len(trials), 'trial')} {origin})"
        trials = []
    for entry in done.entries:
        policy = label(entry.controller)
        what = policy if overrides(policy) else "it chooses along each run"
        yield f"{entry.name}: {what}"
        yield f"  found for {entry.search_cost:,.0f} steps{with_range}"
    yield f"to use what was composed: {overrides(label(done.policy))}"
