"""Run folders for the tests of the report: records whose numbers follow a simple rule."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from meta_lr.report import find_runs
from meta_lr.report.analysis import Analysis, analyse
from meta_lr.report.groups import group_runs
from meta_lr.report.sections import problem_tables

TOTAL, EVERY = 60, 10


def write_run(
    folder: Path,
    *,
    method: str = "cosine",
    seed: int = 0,
    test: float = 0.9,
    search: float = 0.0,
    diverges_at: int | None = None,
    ends: bool = True,
    accuracy: bool = True,
    **header: object,
) -> Path:
    """Write one run: val accuracy climbs linearly to `test`, every 20 steps costs `search` more."""
    head = {
        **{"kind": "header", "format": 1, "command": "train", "task": "digits", "model": "MLP"},
        **{"optimizer": "sgd", "method": method, "seed": seed, "total_steps": TOTAL},
        **{"config": {"lr": {"peak": 0.1}, "seed": seed}, "commit": "abc", "threads": 1},
        **{"versions": {"torch": "2.14"}, "hardware": "cpu", "checkpoint": None},
        **{"search_cost_before": 0.0, **header},
    }
    rows: list[dict[str, object]] = [head]
    status, steps, costs = "finished", TOTAL, {"cost": 0.0, "search_cost": 0.0}
    for step in range(TOTAL):
        searched = search if step % 20 == 0 else 0.0
        costs = {
            "cost": costs["cost"] + 1 + searched,
            "search_cost": costs["search_cost"] + searched,
        }
        loss: float | str = "nan" if step == diverges_at else 2.0 / (1 + step)
        rows.append({"kind": "step", "step": step, "loss": loss, "lr": 0.1, **costs, "seconds": 1})
        if loss == "nan":
            status, steps = f"diverged at step {step}", step
            break
        if (step + 1) % EVERY == 0:
            values = {"loss": 2.0 / (1 + step)}
            if accuracy:
                values["accuracy"] = test * (step + 1) / TOTAL
            rows.append({"kind": "eval", "step": step + 1, "split": "val", "weights": "current"})
            rows[-1].update({**values, **costs})
    if status == "finished":
        tests = [("test", "last", test), ("test", "best", test + 0.01)]
        if header.get("average"):
            tests += [("val", "average", test + 0.03), ("test", "average", test + 0.02)]
        for split, weights, value in tests:
            values = {"loss": 1 - test, **({"accuracy": value} if accuracy else {})}
            rows.append(
                {"kind": "eval", "step": TOTAL, "split": split, "weights": weights, **values}
            )
    if ends:
        rows.append({"kind": "end", "status": status, "steps": steps, **costs, "seconds": 2.5})
        rows[-1]["search_seconds"] = 0.1 * costs["search_cost"]
    folder.mkdir(parents=True)
    path = folder / "records.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def only(folder: Path, **options):
    """Return the analysis of the one problem in `folder`."""
    (problem,) = group_runs(find_runs(folder))
    return analyse(problem, **{"reference": None, "target": None, **options})


def methods(folder: Path, values: Mapping[str, Sequence[float]], **header: object) -> Path:
    """Write a run per method and seed, each with its test value; "learned" has a checkpoint."""
    for method, tests in values.items():
        for seed, value in enumerate(tests):
            extra = {"checkpoint": "f00d", **header} if method == "learned" else {}
            write_run(folder / f"{method}-{seed}", method=method, seed=seed, test=value, **extra)
    return folder


def table(analysis: Analysis, caption: str) -> dict[str, dict[str, str]]:
    """Return a table of the report by row and column; {} if the report leaves it out."""
    for found in problem_tables(analysis):
        if found.caption == caption:
            return {row[0]: dict(zip(found.columns, row, strict=True)) for row in found.rows}
    return {}
