"""Length curriculum: the run lengths of inner problems grow in stages of the meta-training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meta_lr.bilevel.draw import Draw
from meta_lr.bilevel.problems import Problem
from meta_lr.seeds import generator


@dataclass(frozen=True)
class Curriculum:
    """Draws the run length of each new inner problem, log-uniformly, up to the stage's longest.

    A problem keeps the run length that it began with. Held-out problems keep the run length of
    their distribution, so the scores of all stages are comparable.

    Args:
        shortest: Shortest run length in optimizer steps, the same in all stages.
        longest: Longest run length of each stage, in optimizer steps.
        begins: For each stage, the share of the updates of phi after which it begins; the first
            is 0.

    Raises:
        ValueError: The stages are not in order, or a longest length is below the shortest.

    >>> Curriculum().bounds(0.5)
    (60, 1000)
    """

    shortest: int = 60
    longest: Sequence[int] = (300, 1000, 4000)
    begins: Sequence[float] = (0.0, 0.4, 0.8)

    def __post_init__(self) -> None:
        for key in ("longest", "begins"):  # configurations give lists
            object.__setattr__(self, key, tuple(getattr(self, key)))
        if not 1 <= self.shortest <= min(self.longest, default=0):
            raise ValueError(
                f"shortest={self.shortest}, longest={list(self.longest)}; needed are 1 <= shortest "
                "<= each of longest"
            )
        in_order = sorted(set(self.begins)) == list(self.begins)
        if len(self.begins) != len(self.longest) or not in_order or not _from_0(self.begins):
            raise ValueError(
                f"begins={list(self.begins)}; needed are {len(self.longest)} shares, one for each "
                "of longest: 0 first, then rising, below 1"
            )

    def bounds(self, share: float) -> tuple[int, int]:
        """Return the shortest and the longest run length after this share of the updates."""
        stage = sum(share >= begin for begin in self.begins) - 1
        return self.shortest, self.longest[stage]

    def __call__(self, problem: Problem, share: float, seed: int) -> Problem:
        """Return the problem with a drawn run length, a pure function of the arguments."""
        length = Draw(generator(seed, "length")).log_integer(self.bounds(share))
        return problem._replace(total_steps=length)


def _from_0(begins: Sequence[float]) -> bool:
    return begins[0] == 0.0 and begins[-1] < 1.0
