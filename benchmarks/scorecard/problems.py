"""The problems of a scorecard, and the seeds that choose the oracle and score all methods."""

from __future__ import annotations

from benchmarks.scorecard import families
from meta_lr.bilevel.problems import Problem
from meta_lr.bilevel.varied import VariedProblems

CHOOSING, SCORING = (0, 1, 2), (3, 4, 5)  # seeds that choose the oracle's peak, and that score it
TRAINING = "training"  # the family of meta-training, on which the one global peak is chosen


def made(family: str, number: int, seed: int) -> Problem:
    """Return a problem of meta-training, or of a held-out family."""
    if family != TRAINING:
        return families.problem(family, number, seed)
    return VariedProblems()(number, seed)._replace(family=TRAINING)
