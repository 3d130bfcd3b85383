"""`meta-lr check-hypergrad`: estimators of the meta-gradient side by side, on the user's task."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from meta_lr.bilevel.check import Row, Waiting, check
from meta_lr.bilevel.estimators import Adjoint, ClosedForm, Estimator, FirstOrder, Unroll
from meta_lr.cli import parts
from meta_lr.cli.sweep import JobResult
from meta_lr.methods.mlr_snet.learned import Learned

ESTIMATORS: dict[str, Estimator] = {
    "closed_form": ClosedForm(),
    "unroll": Unroll(),
    "adjoint": Adjoint(),
    "first_order": FirstOrder(),  # last: the cheapest to evaluate, for the differences
}

TOLERANCE = 1e-5  # of the relative error of what is exact


def command(cfg: DictConfig, folder: Path) -> JobResult:
    """Print the table; the exit code is 1 if an exact estimator is off by more than `TOLERANCE`."""
    parts.set_threads(cfg)
    steps = parts.whole(cfg, "look_ahead", least=1)
    seed = parts.whole(cfg, "seed", least=0)
    net = parts.build(cfg.net)
    learner = Learned(
        net,
        [tuple(2 * weight for weight in net.init(seed))],
        parts.positive(cfg, "gamma"),
        features=parts.build(cfg.features),
    )
    clip = None if cfg.clip is None else parts.positive(cfg, "clip")
    run = Waiting(parts.build(cfg.task), parts.build(cfg.optimizer), learner, clip=clip)
    weights = parts.build(cfg.objective)(0, steps)
    ways = parts.whole(cfg, "directions", least=1)
    chosen = _chosen(HydraConfig.get().runtime.choices.get("estimator"), steps)
    rows = check(run, chosen, weights, directions=ways, seed=seed)
    print(f"{run.task.name}, {steps} steps ahead, float64, against central differences")
    print(_table(rows))
    exact = [row for row in rows if row.name != "first_order"]
    wrong = [row.name for row in exact if not row.error < TOLERANCE]
    print(_verdict([row.name for row in exact], wrong))
    return JobResult(1, "not confirmed") if wrong else JobResult()


def _verdict(exact: list[str], wrong: list[str]) -> str:
    if wrong:
        return (
            f"not confirmed: {', '.join(wrong)} (relative error not below {TOLERANCE:.0e}). A "
            "model with kinks (ReLU, max pooling) can differ where a step crosses one; a smooth "
            "one (GELU, average pooling) must not"
        )
    if exact:
        return f"confirmed: {', '.join(exact)} (relative error below {TOLERANCE:.0e})"
    return "no verdict: first_order is an approximation, and need not agree"


def _chosen(name: str | None, steps: int) -> dict[str, Estimator]:
    if name is not None and name not in ESTIMATORS:
        raise ValueError(
            f"estimator={name} is made for windows of inner problems; "
            f"choose one of {', '.join(ESTIMATORS)}"
        )
    if name == "closed_form" and steps > 1:
        raise ValueError("closed_form looks 1 step ahead; pass look_ahead=1")
    names = [name] if name else [n for n in ESTIMATORS if n != "closed_form" or steps == 1]
    return {name: ESTIMATORS[name] for name in names}


def _table(rows: list[Row]) -> str:
    lines = ["| estimator | relative error | seconds | graph MB | plain steps |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        label = row.name if row.name != "first_order" else "first_order (approximation)"
        lines.append(
            f"| {label} | {row.error:.1e} | {row.seconds:.3f} | {row.megabytes:.2f} "
            f"| {row.cost:.1f} |"
        )
    return "\n".join(lines)
