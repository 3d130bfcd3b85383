"""The warnings of `ControlledLR`, each given once: the observation, its effect, what to do."""

from __future__ import annotations

from torch.optim import Optimizer

from meta_lr.protocol import Controller

ACCUMULATION = (
    "gradients are accumulated over several backward passes, but the learning rate follows from "
    "the closure's value, the loss of the last one (often divided by their number); call "
    "scheduler.observe(loss) with each undivided loss, in Lightning in training_step"
)
LATE = (
    "the first loss was observed after an optimizer step, which kept the optimizer's own learning "
    "rate; call scheduler.observe(loss) before optimizer.step(), with the loss of that step"
)


def silent(controller: Controller) -> str:
    """Warn that no loss is observed."""
    return (
        f"{_name(controller)} reads the loss, but none was observed so far: the learning rate "
        "stays as it is; call scheduler.observe(loss) before each optimizer.step()"
    )


def no_step(optimizer: Optimizer, calls: str) -> str:
    """Warn that the optimizer's `step` is not called."""
    return (
        f"the scheduler saw {calls} but no step of its {type(optimizer).__name__}, so the "
        "learning rate stays as it is; build the scheduler on the optimizer whose step() your "
        "loop calls, or ignore this if you accumulate gradients over more batches"
    )


def beyond(controller: Controller, step: int, total_steps: int) -> str:
    """Warn that the run is longer than `total_steps`."""
    return (
        f"step {step + 1} is beyond total_steps={total_steps}, where the schedule of "
        f"{_name(controller)} ends; pass the length of the whole run in optimizer steps (not in "
        "epochs), and call a policy's step() once per optimizer step (not per micro-batch or "
        "process)"
    )


def epoch(controller: Controller, number: int) -> str:
    """Warn that the number of an epoch is ignored."""
    return (
        f"step({number}) is ignored: {_name(controller)} counts optimizer steps itself, so the "
        "number of an epoch is not needed; call step() without it, or observe(loss) for a loss"
    )


def _name(controller: Controller) -> str:
    return type(controller).__name__
