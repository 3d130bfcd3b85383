"""How often a verification stops a run that would have met its target, and how much it saves.

    python -m benchmarks.hopeless runs/train runs/recommend ... [--examples 5000]

Reads the runs of LRBench's policies that went to their end, at or below the folders. Each run is
replayed with eight targets around its own result: errors of 0.3, 0.5, 0.7, 0.85, 0.95, 1, 1.1 and
1.3 times its lowest error. A pair of run and target is called hopeless if `meta-lr verify` would
have stopped the run. This is false if the run met the target later. The cost is that of runs which
stop when they meet their target or reach their end.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from meta_lr.lrbench.folders import result_of, run_folders
from meta_lr.lrbench.forecast import error_of, rates_of
from meta_lr.lrbench.result import Result
from meta_lr.lrbench.verify import HOPELESS, UntilDecided
from meta_lr.methods.policies.text import from_label
from meta_lr.records.reader import read_record

SHARES = (0.3, 0.5, 0.7, 0.85, 0.95, 1.0, 1.1, 1.3)


@dataclass
class Tally:
    """The outcomes of the pairs; `cost`, `saved` and `unmet_cost` are in plain steps."""

    runs: int = 0
    pairs: int = 0
    met: int = 0
    called: int = 0
    false: int = 0
    cost: float = 0.0
    saved: float = 0.0
    unmet_cost: float = 0.0

    def line(self, name: str) -> str:
        """Return a row of a Markdown table."""
        unmet = self.saved / self.unmet_cost if self.unmet_cost else 0.0
        return (
            f"| {name} | {self.runs} | {self.pairs} | {self.met} | {self.called} | {self.false} | "
            f"{self.false / max(1, self.met):.1%} | {self.saved / self.cost:.0%} | {unmet:.0%} |"
        )


def replayed(results: Sequence[Result], *, steps_per_epoch: int, examples: int) -> Tally:
    """Return the outcomes of a verification of runs that went to their end.

    Args:
        results: Runs of one problem; diverged runs and other methods than LRBench's are left out.
        steps_per_epoch: Steps per epoch of the problem.
        examples: Number of examples in an evaluation on "val".
    """
    tally = Tally()
    for result in results:
        policy = from_label(result.policy)
        if policy is None or result.status != "finished":
            continue
        tally.runs += 1
        rates = rates_of(policy, result.total_steps, steps_per_epoch)
        for target in targets(result):
            _count(tally, result, UntilDecided(target, result.total_steps, rates, examples))
    return tally


def targets(result: Result) -> Iterator[float]:
    """Yield the targets for a run."""
    lowest = min(error_of(point) for point in result.curve)
    accurate = result.curve[0].accuracy is not None
    for error in (share * lowest for share in SHARES):
        if not accurate:
            yield error
        elif 0 <= error < 1:
            yield 1 - error


def _count(tally: Tally, result: Result, until: UntilDecided) -> None:
    met = result.to_target(until.target)
    end = result.cost if met is None else met[1]
    tally.pairs, tally.met = tally.pairs + 1, tally.met + (met is not None)
    tally.cost += end
    tally.unmet_cost += end if met is None else 0.0
    for length in range(1, len(result.curve) + 1):
        said = until([point._asdict() for point in result.curve[:length]])
        if said is not None:
            if said.startswith(HOPELESS):
                tally.called, tally.false = tally.called + 1, tally.false + (met is not None)
                tally.saved += 0.0 if met else end - result.curve[length - 1].cost
            return


def main() -> None:
    """Print a row for each problem."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--examples", type=int, default=0, help="of an evaluation on val")
    options = parser.parse_args()
    found: dict[tuple[str, str, str, int, int], list[Result]] = {}
    for folder in (place for root in options.folders for place in run_folders(root)):
        result = result_of(folder)
        if result is not None:
            epoch = read_record(folder).header["steps_per_epoch"]
            key = (result.task, result.model, result.optimizer, result.total_steps, epoch)
            found.setdefault(key, []).append(result)
    columns = ("problem", "runs", "pairs", "met", "called hopeless", "falsely", "of those met")
    print(f"| {' | '.join((*columns, 'saved', 'of those not met'))} |")
    print("| --- | --: | --: | --: | --: | --: | --: | --: | --: |")
    for key, results in sorted(found.items()):
        tally = replayed(results, steps_per_epoch=key[-1], examples=options.examples)
        if tally.pairs:
            print(tally.line(f"{', '.join(key[:3])}, {key[3]:,} steps"))


if __name__ == "__main__":
    main()
