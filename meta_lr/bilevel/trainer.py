"""Episodic meta-training: phi learns from many inner problems, each unrolled from its start."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from meta_lr import protocol
from meta_lr.bilevel.baseline import Curve, PeakedCosine, baseline_curve
from meta_lr.bilevel.copies import Copies, Schedule
from meta_lr.bilevel.es import WORST, Episode, Windowed
from meta_lr.bilevel.look_ahead import Point
from meta_lr.bilevel.objectives import Objective
from meta_lr.bilevel.problems import Problem, Problems
from meta_lr.bilevel.windows import Window
from meta_lr.schedulers.learned import Learned
from meta_lr.seeds import derive
from meta_lr.training import saving
from meta_lr.training.outcome import StoppedError
from meta_lr.training.record import Listener, Recorder, finished, locked, provenance

STATE = "state.pt"


class WindowEstimator(Protocol):
    """Begins episodes and takes them on, window by window, with an estimate of the gradient."""

    def begin(self, problem: Problem, curve: Curve, learner: Learned, size: int) -> Episode:
        """Return an episode at its start."""
        ...

    def window(
        self,
        episode: Episode,
        learner: Learned,
        phi: tuple[Tensor, ...],
        steps: int,
        objective: Objective,
        *,
        seed: int,
    ) -> Windowed:
        """Go on by `steps` inner steps, or to the end, and estimate the gradient in phi."""
        ...


@dataclass(frozen=True)
class Plan:
    """What an episodic meta-training does.

    Args:
        problems: Where the inner problems come from; every `held_out` after the first `pool`
            choose phi, and are never trained on.
        estimator: Of the meta-gradient of a window.
        objective: What of a window is scored, in nats above the baseline.
        window: Length of the windows.
        updates: Of phi.
        episodes: Inner problems that are under way at one time; each gives one window per update.
        pool: Number of different inner problems to train on.
        held_out: Number of problems that choose the best phi.
        evaluate_every: Updates between two looks at them.
        meta_lr: Rate of Adam on phi.
        clip: Largest norm of the mean meta-gradient.
        peak: Of the cosine whose curve is the baseline, in units of plain SGD's rate.
        seed: Of phi, of the perturbations and of the order of the problems.
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
    peak: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not hasattr(self.estimator, "window"):
            raise ValueError(
                f"{type(self.estimator).__name__} estimates a single look-ahead; for windows of "
                "inner problems choose estimator=es or estimator=truncated"
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
    """Where an episodic meta-training stands.

    Attributes:
        phi: The present weights.
        best: Those with the best score on the held-out problems.
        best_score: That score: mean over problems of the log of the final `val` loss, less the
            baseline's; below 0 is better than the baseline.
        update: Updates taken.
        cost: Plain training steps of all copies, experiments and baselines together.
        num_diverged: Episodes that were dropped because their score was not finite.
    """

    plan: Plan
    learner: Learned
    phi: tuple[Tensor, ...]
    optimizer: torch.optim.Adam = field(init=False)
    best: tuple[Tensor, ...] = ()
    best_score: float = math.inf
    update: int = 0
    cost: float = 0.0
    num_diverged: int = 0
    owed: float = 0.0  # cost of this process that the sum over all does not hold yet
    begun: dict[int, int] = field(default_factory=dict)  # episodes so far, by worker
    slots: list[tuple[int, Episode]] = field(default_factory=list)  # number of the problem, episode
    curves: dict[int, Curve] = field(default_factory=dict)
    goals: dict[int, float] = field(default_factory=dict)  # the baseline's final logs, held out

    def __post_init__(self) -> None:
        self.phi = tuple(weight.detach().clone() for weight in self.phi)
        self.optimizer = torch.optim.Adam(list(self.phi), lr=self.plan.meta_lr)

    @property
    def size(self) -> int:
        """How many numbers phi has."""
        return sum(weight.numel() for weight in self.phi)

    def begin(self, worker: int) -> tuple[int, Episode]:
        """Return a worker's next inner problem: which one depends on nothing but their number."""
        count = self.begun[worker] = self.begun.get(worker, -1) + 1
        number = derive(self.plan.seed, "problem", worker, count) % self.plan.pool
        problem = self.plan.problems(number)
        curve = self.curve(number, problem)
        return number, self.plan.estimator.begin(problem, curve, self.learner, self.size)

    def curve(self, number: int, problem: Problem) -> Curve:
        """Return the baseline's curve on a problem; made once."""
        if number not in self.curves:
            self.curves[number] = baseline_curve(problem, self.plan.peak)
            self.owed += problem.total_steps
        return self.curves[number]

    def evaluate(self) -> float:
        """Return phi's score on the held-out problems; keep it if it is the best so far."""
        plan, total = self.plan, torch.zeros(2, dtype=torch.float64)
        for number in range(plan.pool + _rank(), plan.pool + plan.held_out, _world()):
            problem = plan.problems(number)
            reached = final_losses(problem, self.learner, [self.phi])[0]
            if number not in self.goals:
                peak = (torch.tensor(plan.peak),)
                self.goals[number] = math.log(final_losses(problem, PeakedCosine(), [peak])[0])
                total[1] += problem.total_steps
            nats = math.log(reached) if math.isfinite(reached) else math.inf
            total[0] += min(nats - self.goals[number], WORST)
            total[1] += problem.total_steps
        _sum_over_processes(total)
        score, cost = total.tolist()
        score /= plan.held_out
        self.cost += cost
        if score < self.best_score:
            self.best_score, self.best = score, tuple(weight.clone() for weight in self.phi)
        return score

    def saved(self) -> dict[str, Any]:
        """Return all that the updates to come depend on, in plain values."""
        return {
            "phi": self.phi,
            "adam": self.optimizer.state_dict(),
            "best": self.best,
            "best_score": self.best_score,
            "update": self.update,
            "cost": self.cost,
            "num_diverged": self.num_diverged,
            "owed": self.owed,
            "begun": self.begun,
            "curves": {number: tuple(curve) for number, curve in self.curves.items()},
            "goals": self.goals,
            "slots": [
                (number, e.step, tuple(e.point)[:3], protocol.pack(e.point.state), e.drift)
                for number, e in self.slots
            ],
        }

    def load(self, saved: Mapping[str, Any]) -> None:
        """Go on from what `saved` returned."""
        for mine, theirs in zip(self.phi, saved["phi"], strict=True):
            mine.copy_(theirs)
        self.optimizer.load_state_dict(saved["adam"])
        for name in (
            "best",
            "best_score",
            "update",
            "cost",
            "num_diverged",
            "owed",
            "begun",
            "goals",
        ):
            setattr(self, name, saved[name])
        self.curves = {number: Curve(*curve) for number, curve in saved["curves"].items()}
        self.slots = []
        for number, step, (params, slots, buffers), state, drift in saved["slots"]:
            problem, point = self.plan.problems(number), Point(params, slots, buffers, None)
            point = point._replace(state=protocol.unpack(self.learner.init(), state))
            episode = Episode(problem, self.curves[number], step, point, drift)
            self.slots.append((number, episode))

    def one_update(self) -> float:
        """Take all episodes on by a window, each process its own; return their mean score."""
        plan, steps = self.plan, self.plan.window(self.update)
        grad, tally = torch.zeros(self.size), torch.zeros(4, dtype=torch.float64)
        mine = range(_rank(), plan.episodes, _world())
        while len(self.slots) < len(mine):
            self.slots.append(self.begin(mine[len(self.slots)]))
        for place, worker in enumerate(mine):
            number, episode = self.slots[place]
            seed = derive(plan.seed, "window", self.update, worker)
            got = plan.estimator.window(
                episode, self.learner, self.phi, steps, plan.objective, seed=seed
            )
            whole = math.isfinite(got.score) and bool(got.grad.isfinite().all())
            if whole:
                grad += got.grad
            tally += torch.tensor([got.score if whole else 0.0, whole, not whole, got.cost])
            ended = not whole or got.episode.step >= episode.problem.total_steps
            self.slots[place] = self.begin(worker) if ended else (number, got.episode)
        return self.descend(grad, tally)

    def descend(self, grad: Tensor, tally: Tensor) -> float:
        """Update phi by the mean gradient over all processes; return the mean score.

        Args:
            grad: Sum of this process's gradients, (size of phi,).
            tally: Sum of its scores, numbers of episodes that gave one and that diverged, cost.
        """
        tally[3] += self.owed
        self.owed = 0.0
        _sum_over_processes(grad)
        _sum_over_processes(tally)
        score, count, diverged, cost = tally.tolist()
        self.update += 1
        self.num_diverged += round(diverged)
        self.cost += cost
        if not count:
            return math.nan
        grad = grad / count
        grad = grad * min(1.0, self.plan.clip / (grad.norm().item() + 1e-12))
        pieces = grad.split([weight.numel() for weight in self.phi])
        for weight, piece in zip(self.phi, pieces, strict=True):
            weight.grad = piece.reshape(weight.shape).clone()
        self.optimizer.step()
        return score / count


def final_losses(
    problem: Problem, learner: Schedule, candidates: Sequence[tuple[Tensor, ...]]
) -> list[float]:
    """Return the mean `val` loss at the end of a problem, for each candidate's weights."""
    copies = Copies(problem, learner, len(candidates))
    phi = tuple(torch.stack(weights) for weights in zip(*candidates, strict=True))
    point = copies.run(copies.start(), phi, 0, problem.total_steps)
    return copies.mean_loss(point, "val").tolist()


def meta_train(
    plan: Plan,
    learner: Learned,
    phi: tuple[Tensor, ...],
    *,
    folder: Path | None = None,
    header: Mapping[str, object] | None = None,
    listener: Listener | None = None,
    stop: Callable[[], bool] | None = None,
    save_every: float = 30.0,
) -> MetaTraining:
    """Update phi as planned; resume what `folder` holds.

    Args:
        plan: What to do.
        learner: The schedule; its weights are replaced by phi.
        phi: Its first weights.
        folder: Keep record and state here, those of further processes in `rank-<n>` below it; None
            keeps nothing.
        header: More fields for the record's first row.
        listener: Called with each row of the record, in order.
        stop: Asked before each update; true saves and raises `StoppedError`.
        save_every: Seconds between saves.

    Raises:
        StoppedError: `stop` returned true.
        ValueError: The folder holds another run, or a damaged one.
    """
    training = MetaTraining(plan, learner, phi)
    if folder is not None and _rank():
        folder = folder / f"rank-{_rank()}"
    with nullcontext() if folder is None else locked(folder):
        recorder = Recorder(listener or (lambda row: None))
        with closing(recorder):
            return _Session(training, recorder, folder, stop, save_every).run(header or {})


class _Session:
    """One call of `meta_train`: records, saves, evaluations around the updates."""

    def __init__(
        self,
        training: MetaTraining,
        recorder: Recorder,
        folder: Path | None,
        stop: Callable[[], bool] | None,
        save_every: float,
    ) -> None:
        self.training, self.recorder, self.folder = training, recorder, folder
        self.stop, self.save_every = stop or (lambda: False), save_every
        self.seconds, self.offset = 0.0, 0
        self.identity = {
            "format": 1,
            "plan": repr(training.plan),
            "learner": repr(training.learner),
        }

    def run(self, header: Mapping[str, object]) -> MetaTraining:
        training, plan = self.training, self.training.plan
        self.load()
        if self.folder is not None and finished(self.folder):
            return training
        self.began = self.saved = time.perf_counter()
        if self.folder is not None:
            self.recorder.open(self.folder, self.offset)
        if self.offset == 0:
            facts = {"kind": "header", "plan": repr(plan), "learner": repr(training.learner)}
            self.recorder.add({**facts, **provenance(torch.device("cpu")), **header})
            self.look()
        while training.update < plan.updates:
            if self.stop():
                self.save()
                raise StoppedError(training.update, self.folder)
            score = training.one_update()
            self.recorder.add(
                {"kind": "update", "update": training.update, "score": score, **self.spent()}
            )
            if training.update % plan.evaluate_every == 0 or training.update == plan.updates:
                self.look()
            if time.perf_counter() - self.saved > self.save_every:
                self.save()
        self.recorder.add({"kind": "end", "status": "finished", **self.spent()})
        self.save()
        return training

    def look(self) -> None:
        """Evaluate phi on the held-out problems."""
        score = self.training.evaluate()
        row = {"kind": "held_out", "update": self.training.update, "score": score}
        self.recorder.add({**row, "best": self.training.best_score, **self.spent()})
        self.recorder.flush()

    def spent(self) -> dict[str, Any]:
        seconds = self.seconds + time.perf_counter() - self.began
        return {"cost": self.training.cost, "seconds": round(seconds, 4)}

    def save(self) -> None:
        self.recorder.flush()
        if self.folder is None:
            return
        saved = {
            "identity": self.identity,
            **self.training.saved(),
            "seconds": self.spent()["seconds"],
            "offset": self.recorder.sync(),
        }
        saving.save_atomically(saved, self.folder / STATE)
        self.saved = time.perf_counter()

    def load(self) -> None:
        if self.folder is not None and (self.folder / STATE).exists():
            saved = saving.load(self.folder / STATE, self.identity)
            self.training.load(saved)
            self.seconds, self.offset = saved["seconds"], saved["offset"]


def _rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def _sum_over_processes(tensor: Tensor) -> None:
    if _world() > 1:
        dist.all_reduce(tensor)


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
