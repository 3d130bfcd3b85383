"""The parts of a report on runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from meta_lr.report.analysis import Analysis
from meta_lr.report.caveats import caveats
from meta_lr.report.figures import problem_pictures, profile_picture
from meta_lr.report.looks import Look
from meta_lr.report.part import Part
from meta_lr.report.provenance import provenance, run_list, settings_table
from meta_lr.report.sections import problem_tables, profile_table
from meta_lr.report.targets import profile
from meta_lr.report.wording import headline, sentences

LEADING = 4  # figures before the tables (two rows of two); the rest follow after the tables


def parts_of(analyses: Sequence[Analysis], look: Mapping[str, Look], root: Path) -> list[Part]:
    """Return a part for each problem; where there are several, first one over all of them."""
    parts = [problem_part(analysis, look, root) for analysis in analyses]
    if len(parts) == 1:
        return parts
    said = [f"{part.title}: {part.headline}" for part in parts]
    times = [{m.label: m.cost_to_target for m in analysis.methods} for analysis in analyses]
    found = profile(times)
    table, picture = [], []
    if found is not None:
        table, picture = [profile_table(found)], [profile_picture(found, look)]
    return [Part("Over all problems", sentences=said, tables=table, more=picture), *parts]


def problem_part(analysis: Analysis, look: Mapping[str, Look], root: Path) -> Part:
    """Return the part of one problem; folders are named as they are below `root`."""
    problem, different = analysis.problem, settings_table(analysis.problem)
    pictures = list(problem_pictures(analysis, look))
    return Part(
        problem.title,
        problem.slug,
        headline(analysis),
        sentences(analysis),
        pictures[:LEADING],
        caveats(analysis),
        problem_tables(analysis),
        pictures[LEADING:],
        facts=provenance([run.origin for group in problem.groups for run in group.runs]),
        settings=[different] if different else [],
        runs=run_list(problem, root),
    )
