"""The state of an episodic meta-training (phi and the unfinished episodes), and its updates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from meta_lr import protocol
from meta_lr.bilevel.baseline import Curve, PeakedCosine, baseline_curve, first_loss
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.curriculum import Curriculum
from meta_lr.bilevel.episodes import WORST, Episode, WindowEstimator
from meta_lr.bilevel.look_ahead import Point
from meta_lr.bilevel.objectives import Objective
from meta_lr.bilevel.problems import Problem, Problems
from meta_lr.bilevel.schedules import Schedule
from meta_lr.bilevel.windows import Window
from meta_lr.processes import add_over_processes, num_ranks, rank
from meta_lr.seeds import derive

# The fields of a `MetaTraining` that are saved as they are.
_PLAIN = ("best", "best_score", "update", "cost", "num_diverged", "owed", "begun", "goals")


@dataclass(frozen=True)
class Plan:
    """The settings of an episodic meta-training.

    Args:
        problems: Distribution of the inner problems. The first `pool` are trained on; the next
            `held_out` choose the best phi and are never trained on.
        estimator: Estimator of the hypergradient of a window.
        objective: The weights of the scores in a window, in nats above the baseline.
        window: Length of the windows.
        updates: Number of updates of phi.
        episodes: Number of inner problems in parallel; each gives one window per update.
        pool: Number of different inner problems to train on.
        held_out: Number of problems that choose the best phi.
        evaluate_every: Updates between two evaluations on the held-out problems.
        meta_lr: Learning rate of Adam on phi.
        clip: Largest norm of a window's hypergradient. It limits the weight of a run close to
            divergence in the mean.
        peak: Peak of the baseline cosine, in units of plain SGD's learning rate.
        seed: Seed of phi, of the perturbations and of the order of the problems.
        cooldown: Whether Adam's learning rate falls linearly, to 1/30 at the last update.
        curriculum: Curriculum of the run lengths; None keeps those of `problems`.
    """

    problems: Problems
    estimator: WindowEstimator
    objective: Objective
    window: Window
    updates: int = 1000
    episodes: int = 4
    pool: int = 64
    held_out: int = 16
    evaluate_every: int = 100
    meta_lr: float = 3e-3
    clip: float = 1.0
    peak: float = 1.28
    seed: int = 0
    cooldown: bool = False
    curriculum: Curriculum | None = None

    def __post_init__(self) -> None:
        if not hasattr(self.estimator, "window"):
            raise ValueError(
                f"{type(self.estimator).__name__} estimates a single look-ahead; for windows of "
                "inner problems choose estimator=es, truncated or truncated_unroll"
            )
        counts = (self.updates, self.episodes, self.pool, self.held_out, self.evaluate_every)
        if min(counts) < 1:
            raise ValueError(
                "updates, episodes, pool, held_out and evaluate_every are at least 1; "
                f"they are {counts}"
            )
        if not (self.meta_lr > 0 and self.clip > 0 and self.peak > 0):
            raise ValueError("meta_lr, clip and peak are positive")


@dataclass
class MetaTraining:
    """The state of an episodic meta-training.

    Attributes:
        phi: The present meta-parameters.
        best: The meta-parameters with the best score on the held-out problems.
        best_score: The best score: the mean over problems of the log of the final `val` loss minus
            that of the baseline. Below 0 is better than the baseline. With several families, it is
            the score of the worst family.
        scores: The last scores by family.
        update: Number of updates taken.
        cost: Plain training steps of all copies, experiments and baselines together.
        num_diverged: Episodes that were dropped because their score was not finite.
    """

    plan: Plan
    learner: Schedule
    phi: tuple[Tensor, ...]
    optimizer: torch.optim.Adam = field(init=False)
    best: tuple[Tensor, ...] = ()
    best_score: float = math.inf
    update: int = 0
    cost: float = 0.0
    num_diverged: int = 0
    owed: float = 0.0  # cost of this process that is not in the total yet
    begun: dict[int, int] = field(default_factory=dict)  # episodes so far, by worker
    slots: list[tuple[int, Episode]] = field(default_factory=list)  # number of the problem, episode
    curves: dict[tuple[int, int], Curve] = field(default_factory=dict)  # by number and run length
    scores: dict[str, float] = field(default_factory=dict)
    goals: dict[int, float] = field(default_factory=dict)  # the baseline's final logs, held out

    def __post_init__(self) -> None:
        self.phi = tuple(weight.detach().clone() for weight in self.phi)
        self.optimizer = torch.optim.Adam(list(self.phi), lr=self.plan.meta_lr)

    @property
    def size(self) -> int:
        """The number of meta-parameters in phi."""
        return sum(weight.numel() for weight in self.phi)

    def begin(self, worker: int) -> tuple[int, Episode]:
        """Return the number of a worker's next inner problem, and its new episode.

        The choice depends only on the worker and on its number of episodes so far. With a
        curriculum, the run length also depends on the update.
        """
        plan, count = self.plan, self.begun.get(worker, -1) + 1
        self.begun[worker] = count
        number = derive(plan.seed, "problem", worker, count) % plan.pool
        problem = plan.problems(number)
        if plan.curriculum is not None:
            seed = derive(plan.seed, "length", worker, count)
            problem = plan.curriculum(problem, self.update / plan.updates, seed)
        curve = self.curve(number, problem)
        return number, plan.estimator.begin(problem, curve, self.learner, self.size)

    def curve(self, number: int, problem: Problem) -> Curve:
        """Return the baseline's curve on a problem; it is computed once for each run length.

        If the estimator does not read the baseline, this is a constant curve at the initial loss.
        """
        if not self.plan.estimator.reads_baseline:
            return first_loss(problem)
        key = number, problem.total_steps
        if key not in self.curves:
            self.curves[key] = baseline_curve(problem, self.plan.peak)
            self.owed += problem.total_steps
        return self.curves[key]

    def evaluate(self) -> float:
        """Return phi's score on the held-out problems; keep phi if the score is the best so far.

        The score is the mean over the problems of the worst family.
        """
        plan = self.plan
        held_out = range(plan.pool, plan.pool + plan.held_out)
        families = [plan.problems(number).family for number in held_out]
        names = sorted(set(families))
        total = torch.zeros(1 + len(names), dtype=torch.float64)
        for number in held_out[rank() :: num_ranks()]:
            nats, cost = self.nats(number)
            total[1 + names.index(families[number - plan.pool])] += nats
            total[0] += cost
        add_over_processes(total)
        cost, *sums = total.tolist()
        self.cost += cost
        self.scores = {
            name: nats / families.count(name) for name, nats in zip(names, sums, strict=True)
        }
        score = max(self.scores.values())
        if score < self.best_score:
            self.best_score, self.best = score, tuple(weight.clone() for weight in self.phi)
        return score

    def nats(self, number: int) -> tuple[float, float]:
        """Return the final log loss of a held-out problem minus the baseline's, and the cost.

        The difference is clamped to [-WORST, WORST], because phi or the baseline may have diverged.
        """
        problem = self.plan.problems(number)
        reached, cost = final_losses(problem, self.learner, [self.phi])[0], problem.total_steps
        if number not in self.goals:
            peak = (torch.tensor(self.plan.peak * problem.unit),)
            goal = final_losses(problem, PeakedCosine(), [peak])[0]
            self.goals[number] = math.log(goal) if math.isfinite(goal) else math.inf
            cost += problem.total_steps
        if not math.isfinite(reached):
            return WORST, cost
        return max(-WORST, min(math.log(reached) - self.goals[number], WORST)), cost

    def saved(self) -> dict[str, Any]:
        """Return everything that later updates depend on, as plain values."""
        return {
            "phi": self.phi,
            "adam": self.optimizer.state_dict(),
            **{name: getattr(self, name) for name in _PLAIN},
            "curves": {key: tuple(curve) for key, curve in self.curves.items()},
            "slots": [_saved(number, episode) for number, episode in self.slots],
        }

    def load(self, saved: Mapping[str, Any]) -> None:
        """Restore the state that `saved` returned."""
        for mine, theirs in zip(self.phi, saved["phi"], strict=True):
            mine.copy_(theirs)
        self.optimizer.load_state_dict(saved["adam"])
        for name in _PLAIN:
            setattr(self, name, saved[name])
        self.curves = {key: Curve(*curve) for key, curve in saved["curves"].items()}
        self.slots = []
        for slot in saved["slots"]:
            number, length, step, (params, slots, buffers), state, drift = slot
            problem = self.plan.problems(number)._replace(total_steps=length)
            state = protocol.unpack(self.learner.init(), state)
            point = Point(params, slots, buffers, state)
            episode = Episode(problem, self.curve(number, problem), step, point, drift)
            self.slots.append((number, episode))

    def one_update(self) -> float:
        """Continue all episodes by one window, update phi, and return the mean score.

        Each process continues its own episodes. Some windows may have no score; for example, an
        objective may score only the last window of a run. Such windows have no gradient and are
        not part of the mean. If no window is scored, phi does not change.
        """
        plan, steps = self.plan, self.plan.window(self.update)
        grad, tally = torch.zeros(self.size), torch.zeros(4, dtype=torch.float64)
        mine = range(rank(), plan.episodes, num_ranks())
        while len(self.slots) < len(mine):
            self.slots.append(self.begin(mine[len(self.slots)]))
        for place, worker in enumerate(mine):
            number, episode = self.slots[place]
            seed = derive(plan.seed, "window", self.update, worker)
            weights = episode.weights(plan.objective, steps)
            got = plan.estimator.window(episode, self.learner, self.phi, weights, seed=seed)
            whole = math.isfinite(got.score) and bool(got.grad.isfinite().all())
            if whole:
                grad += got.grad * min(1.0, plan.clip / (got.grad.norm().item() + 1e-12))
            scored = whole and any(weights)
            told = [got.score if scored else 0.0, scored, not whole, got.cost]
            tally += torch.tensor(told, dtype=torch.float64)
            ended = not whole or got.episode.step >= episode.problem.total_steps
            self.slots[place] = self.begin(worker) if ended else (number, got.episode)
        return self.descend(grad, tally)

    def descend(self, grad: Tensor, tally: Tensor) -> float:
        """Update phi with the mean gradient over all processes; return the mean score.

        Args:
            grad: Sum of this process's gradients, (size of phi,).
            tally: Sum of this process's scores, number of scored windows, number of diverged
                windows, and cost (4,).
        """
        tally[3] += self.owed
        self.owed = 0.0
        add_over_processes(grad)
        add_over_processes(tally)
        score, count, diverged, cost = tally.tolist()
        self.update += 1
        self.num_diverged += round(diverged)
        self.cost += cost
        if not count:
            return math.nan
        pieces = (grad / count).split([weight.numel() for weight in self.phi])
        for weight, piece in zip(self.phi, pieces, strict=True):
            weight.grad = piece.reshape(weight.shape).clone()
        if self.plan.cooldown:
            left = 1 - (self.update - 1) / self.plan.updates
            self.optimizer.param_groups[0]["lr"] = self.plan.meta_lr * max(left, 1 / 30)
        self.optimizer.step()
        return score / count


def _saved(number: int, episode: Episode) -> tuple[Any, ...]:
    """Return an unfinished episode as plain values."""
    state, length = protocol.pack(episode.point.state), episode.problem.total_steps
    return number, length, episode.step, tuple(episode.point)[:3], state, episode.drift


def final_losses(
    problem: Problem, learner: Schedule, candidates: Sequence[tuple[Tensor, ...]]
) -> list[float]:
    """Return the mean `val` loss at the end of a problem, for each candidate's weights."""
    copies = Copies(problem, learner, len(candidates))
    phi = tuple(torch.stack(weights) for weights in zip(*candidates, strict=True))
    point = copies.run(copies.start(), phi, 0, problem.total_steps)
    return copies.mean_loss(point, "val").tolist()
