"""Checkpoints on inner problems that no meta-training saw, beside a cosine at its best peaks.

    python -m benchmarks.held_out CHECKPOINT ... [--family digits] [--problems 20] [--seeds 3]

The checkpoints come from `meta-lr meta-train-episodic` and share network, features and gamma. The
measure is the mean over problems of the log of the final `val` loss (nats; lower is better), seeds
averaged first; "against global" is the paired difference, with its 95 % interval over problems.
The global peak is the best one of eight on 16 problems of the training family; the oracle is the
best of the eight on each problem itself, a bound that nobody reaches without trying all of them.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import hydra
import torch
from hydra.utils import instantiate
from scipy import stats
from torch import Tensor

from meta_lr.bilevel.baseline import PEAKS, PeakedCosine
from meta_lr.bilevel.meta_training import final_losses
from meta_lr.bilevel.problems import Problem, Problems
from meta_lr.checkpoint import load
from meta_lr.cli.places import conf_dir

WORST = 3.0  # log of the loss that a diverged run counts as
FIRST = 10_000  # number of the first held-out problem; meta-training takes its own below


def family(name: str) -> Problems:
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = hydra.compose("meta_train_episodic", [f"problems={name}"])
    return instantiate(cfg.problems, _convert_="all")


def cosines(problem: Problem) -> Tensor:
    """Return the log of the final `val` loss at each peak."""
    candidates = [(torch.tensor(peak),) for peak in PEAKS]
    return logs(final_losses(problem, PeakedCosine(), candidates))


def logs(losses: list[float]) -> Tensor:
    return torch.tensor([math.log(x) if math.isfinite(x) else WORST for x in losses]).clamp(
        max=WORST
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--family", default="digits")
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    learned = [load(path)[0] for path in args.checkpoints]
    tuning = torch.stack([cosines(family("digits")(number)) for number in range(16)])
    best = int(tuning.mean(0).argmin())
    problems = family(args.family)
    rows = []
    for number in range(FIRST, FIRST + args.problems):
        per_seed = []
        for seed in range(args.seeds):
            problem = problems(number, seed)
            ours = final_losses(problem, learned[0], [one.stages[0] for one in learned])
            per_seed.append(torch.cat([logs(ours), cosines(problem)]))
        rows.append(torch.stack(per_seed).mean(0))
    table, count = torch.stack(rows), len(learned)
    bars = table[:, count:]
    names = [str(path) for path in args.checkpoints]
    columns = dict(zip(names, table[:, :count].T, strict=True))
    columns[f"cosine, global peak {PEAKS[best]:.3g}"] = bars[:, best]
    columns["cosine, oracle peak"] = bars.min(1).values
    print(f"{args.family}: {args.problems} problems x {args.seeds} seeds")
    for name, values in columns.items():
        print(line(name, values, values - bars[:, best]))


def line(name: str, values: Tensor, apart: Tensor) -> str:
    half = stats.t.ppf(0.975, len(apart) - 1) * apart.std().item() / math.sqrt(len(apart))
    mean = apart.mean().item()
    wins = int((apart < 0).sum())
    return (
        f"{name:32} {values.mean().item():+.3f}   against global {mean:+.3f} "
        f"[{mean - half:+.3f}, {mean + half:+.3f}]   better on {wins} of {len(apart)}"
    )


if __name__ == "__main__":
    main()
