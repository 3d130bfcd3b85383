"""Persistent evolution strategies: an unbiased hypergradient of long runs from short windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from meta_lr.bilevel.baseline import Curve
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.episodes import WORST, Episode, Windowed
from meta_lr.bilevel.look_ahead import Point
from meta_lr.bilevel.problems import Problem
from meta_lr.bilevel.schedules import Schedule
from meta_lr.seeds import generator
from meta_lr.training.sandbox import FORWARD


@dataclass(frozen=True)
class PersistentES:
    """Antithetic pairs of copies, whose perturbations add up over the windows of an episode.

    Update:
        each window: eps_i ~ N(0, sigma^2), drift_i += eps_i; copies run at phi +- eps_i, each from
        its present point; grad = sum_i drift_i (S_i+ - S_i-) / (2 pairs sigma^2)
    Reference:
        Vicol, Metz & Sohl-Dickstein (2021), arXiv 2112.13835
    Deviations:
        scores are clamped at 3 nats above the baseline, which is also the score of a diverged
        copy. With shaping="rank" the ranks of the scores among all copies, from -1/2 to 1/2,
        replace the scores, so that all problems have the same weight (Salimans et al. 2017, arXiv
        1703.03864). This is also correct with windows. The ranks are computed inside one window of
        one problem. They estimate F(S), where F is the distribution function of the scores of that
        window. The estimator with the drift is valid for any fixed function of a window's score.
        It therefore estimates the gradient of the mean of F(S) with respect to phi, through all
        windows so far. Its bias is of the order of 1 / pairs, because each copy is part of F. A
        window that is not scored has equal ranks and no gradient.
    Cost:
        2 pairs plain steps per inner step, all copies of a problem at once

    Args:
        pairs: Antithetic pairs of copies per problem.
        sigma: Standard deviation of a perturbation of phi.
        shaping: "score" or "rank".
    """

    pairs: int = 16
    sigma: float = 0.3
    shaping: Literal["score", "rank"] = "score"

    def __post_init__(self) -> None:
        if self.pairs < 1 or not 0.0 < self.sigma < math.inf:
            raise ValueError(
                f"PersistentES got pairs={self.pairs}, sigma={self.sigma}; "
                "needed are at least 1 pair and a positive sigma"
            )
        if self.shaping not in ("score", "rank"):
            raise ValueError(f"PersistentES got shaping={self.shaping!r}; it is score or rank")

    @property
    def reads_baseline(self) -> bool:
        """Whether the gradient depends on the baseline's curve."""
        return self.shaping == "score"

    def begin(self, problem: Problem, curve: Curve, learner: Schedule, size: int) -> Episode:
        """Return a new episode at step 0; phi has `size` numbers."""
        copies = Copies(problem, learner, 2 * self.pairs)
        return Episode(problem, curve, 0, copies.start(), torch.zeros(self.pairs, size))

    def window(
        self,
        episode: Episode,
        learner: Schedule,
        phi: tuple[Tensor, ...],
        weights: Sequence[float],
        *,
        seed: int,
    ) -> Windowed:
        """Take one inner step per weight, and estimate the gradient with respect to phi."""
        noise = self.sigma * torch.randn(episode.drift.shape, generator=generator(seed, "es"))
        drift = episode.drift + noise
        copies = Copies(episode.problem, learner, 2 * self.pairs)
        scores, point = scored(copies, episode, _around(phi, noise), weights)
        shaped = ranks(scores) if self.shaping == "rank" else scores
        grad = persistent_gradient(drift, shaped, self.sigma)
        after = episode._replace(step=episode.step + len(weights), point=point, drift=drift)
        passes = len(weights) + FORWARD * sum(weight > 0 for weight in weights)
        return Windowed(scores.mean().item(), grad, after, 2 * self.pairs * passes)


def persistent_gradient(drift: Tensor, scores: Tensor, sigma: float) -> Tensor:
    """Return the estimate of the gradient (size,) of one window's score.

    Args:
        drift: Sum of all perturbations of each pair so far, including this window, (pairs, size).
        scores: Scores of the copies, first all with +, then all with -, (2 pairs,).
        sigma: Standard deviation of one perturbation.
    """
    pairs = len(drift)
    apart = scores[:pairs] - scores[pairs:]
    return (drift * apart[:, None]).sum(0) / (2 * pairs * sigma**2)


def ranks(scores: Tensor) -> Tensor:
    """Return the ranks (count,) of scores, from -1/2 (lowest) to 1/2; equal scores share a rank."""
    above = (scores[:, None] > scores).sum(1) + 0.5 * (scores[:, None] == scores).sum(1)
    return (above - 0.5) / (len(scores) - 1) - 0.5


def scored(
    copies: Copies, episode: Episode, phi: tuple[Tensor, ...], weights: Sequence[float]
) -> tuple[Tensor, Point]:
    """Return each copy's weighted score (count,), in nats above the baseline, and its end point."""
    point, total, taken = episode.point, torch.zeros(copies.count), 0
    for k, weight in enumerate(weights, start=1):
        if weight:
            point = copies.run(point, phi, episode.step + taken, k - taken)
            taken, step = k, episode.step + k
            nats = copies.meta_losses(point, step).log() - episode.curve.at(step)
            total = total + weight * nats.nan_to_num(WORST).clamp(max=WORST)
    return total, copies.run(point, phi, episode.step + taken, len(weights) - taken)


def _around(phi: tuple[Tensor, ...], noise: Tensor) -> tuple[Tensor, ...]:
    """Return phi + noise and phi - noise, stacked, shaped like phi."""
    flat = torch.cat([weight.reshape(-1) for weight in phi])
    both = torch.cat([flat + noise, flat - noise])
    pieces = both.split([weight.numel() for weight in phi], dim=1)
    return tuple(
        piece.reshape(-1, *weight.shape) for piece, weight in zip(pieces, phi, strict=True)
    )
