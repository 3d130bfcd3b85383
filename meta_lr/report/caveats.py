"""Caveats: limits of the results that the reader of the tables should know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from meta_lr.report.analysis import Analysis
from meta_lr.report.methods import Method
from meta_lr.report.provenance import provenance
from meta_lr.report.tables import count, mean_amount, score


def caveats(analysis: Analysis) -> list[str]:
    """Return one sentence for each caveat; an empty list if there is none."""
    origins = [run.origin for group in analysis.problem.groups for run in group.runs]
    return [
        *_on_tuning(analysis.methods),
        *_on_runs(analysis),
        *_on_views(analysis),
        *(
            f"The runs differ in {what}: {', '.join(values)}."
            for what, values in provenance(origins).items()
            if len(values) > 1
        ),
    ]


def _on_tuning(methods: Sequence[Method]) -> Iterator[str]:
    """Yield which methods' peaks were chosen on val; nothing if the records do not have it."""
    own = [m for m in methods if not m.group.learned and not m.group.control and m.group.peaks]
    untuned = [method for method in own if method.group.tuned is False]
    tuned = [method for method in own if method.group.tuned]
    if untuned:
        whose = "The baselines' peaks" if untuned == own else f"The peaks of {_names(untuned)}"
        yield f"{whose} were not tuned{_shared(untuned, methods)}; other peaks may do better."
    if tuned:
        each = (f"{m.label} (cost {mean_amount(m.values('tuning_cost'))})" for m in tuned)
        yield f"Peaks tuned on val: {', '.join(each)}; that cost is in no equal-cost view."
    elif any(value > 0 for method in methods for value in method.values("tuning_cost")):
        yield "The cost of tuning before a run stands in its own column and in no equal-cost view."


def _shared(untuned: Sequence[Method], methods: Sequence[Method]) -> str:
    """Return where untuned peaks come from, if all are those of the learned schedule."""
    learned = {peak for method in methods if method.group.learned for peak in method.group.peaks}
    if len(learned) != 1 or {peak for method in untuned for peak in method.group.peaks} != learned:
        return ""
    return f": they share the learned schedule's maximum learning rate, {learned.pop():g}"


def _on_runs(analysis: Analysis) -> Iterator[str]:
    methods = analysis.methods
    diverged = sum(method.count("diverged") for method in methods)
    unfinished = sum(method.count("unfinished") for method in methods)
    if diverged:
        worst = score(analysis.metric.worst, analysis.metric)
        yield f"{count(diverged, 'run')} diverged; each counts as {analysis.metric.name} {worst}."
    if unfinished:
        said = "in the figures, but in no mean beside runs of the method that ended."
        yield f"{count(unfinished, 'run')} not finished: {said}"
    if len({frozenset(o.seed for o in method.counted) for method in methods}) > 1:
        yield "The means do not rest on the same seeds; the paired differences do."
    left_out = sum(len(group.left_out) for group in analysis.problem.groups)
    if left_out:
        yield f"{count(left_out, 'run')} left out: another run has the same method and seed."
    if sum(comparison.p is not None for comparison in analysis.comparisons) > 1:
        yield "The tests are not corrected for there being several of them."


def _on_views(analysis: Analysis) -> Iterator[str]:
    if any(
        cost > analysis.limits.cost * 1.001 for m in analysis.methods for cost in m.values("cost")
    ):
        yield (
            "At equal cost the dearer runs are cut short; a schedule planned for all its steps is "
            "judged there before its end."
        )
    if any(method.group.learned for method in analysis.methods):
        yield "The cost of meta-training stands apart and in no equal-cost view."


def _names(methods: Sequence[Method]) -> str:
    return ", ".join(method.label for method in methods)
