"""The losses observed between two optimizer steps, and their mean for the controller."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from meta_lr.processes import num_ranks
from meta_lr.protocol import HostLoss, as_tensor

Loss = Tensor | HostLoss
MOST = 1024  # largest number of losses stored separately; more are added up


class Earlier(NamedTuple):
    """The first losses since the last step, added up if there are many."""

    total: float = 0.0  # sum of the finite losses
    num_finite: int = 0
    num_seen: int = 0


NONE_EARLIER = Earlier()


class Summary(NamedTuple):
    """The observations since the last step, over all ranks."""

    mean: Loss | None  # mean of the finite losses, (); None if there is none
    num_seen: int  # finite or not


def as_loss(loss: float | Tensor) -> Loss:
    """Return a copy of `loss` without its graph; a loss on the host becomes a number.

    The copy shares no memory with `loss`.

    Raises:
        TypeError: `loss` is neither a real number nor a real tensor.
        ValueError: `loss` is a tensor without exactly one element, or on the meta device.
    """
    if isinstance(loss, Tensor):
        if loss.numel() != 1:
            raise ValueError(
                f"a loss of shape {tuple(loss.shape)} was observed; it must be one number: "
                "observe(loss.mean())"
            )
        if loss.is_complex():
            raise TypeError("a complex loss was observed; pass a real number: observe(loss.abs())")
        if loss.device.type == "cpu":
            return HostLoss(loss.item(), loss.dtype)
        if loss.is_meta:
            raise ValueError(
                "a loss on the meta device was observed, and it has no value; compute the loss "
                "with parameters and data on a real device"
            )
        return loss.detach().clone().reshape(())
    try:
        return HostLoss(float(loss), torch.float64)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            f"a loss of type {type(loss).__name__} was observed; pass a number or a tensor of one"
        ) from None


def summarise(
    losses: Sequence[Loss],
    params: Callable[[], Sequence[Tensor]],
    earlier: Earlier = NONE_EARLIER,
    *,
    late: bool = False,
) -> Summary:
    """Return the mean of the finite losses in `earlier` and `losses`, and the number of losses.

    For a controller that reads losses late, this never waits for an accelerator. If no loss is
    finite, the mean is then also not finite, instead of None.

    Each of `losses` has the shape (). In a process group of several ranks this is a collective
    call: one reduction on the device of `params`, in float64. All ranks get the same bits. A single
    loss is read only once.
    """
    if num_ranks() > 1:
        return _over_ranks(losses, params()[0].device, earlier, late=late)
    if earlier.num_seen:
        total, num_finite, num_seen = add_up(losses, earlier)
        mean = HostLoss(total / num_finite, torch.float64) if num_finite else None
        return Summary(mean, num_seen)
    if len(losses) == 1:  # the usual case: no kernel, and at most one read
        return Summary(losses[0] if late or math.isfinite(losses[0].item()) else None, 1)
    if not losses:
        return Summary(None, 0)
    if late:
        total, count = _totals(_stacked(losses, as_tensor(losses[-1]).device))
        return Summary(total / count, len(losses))
    stacked = _stacked(losses, as_tensor(losses[-1]).device)
    finite = stacked[stacked.isfinite()]
    return Summary(finite.mean() if len(finite) else None, len(losses))


def add_up(losses: Sequence[Loss], earlier: Earlier) -> Earlier:
    """Return `earlier` with `losses` added; on an accelerator this waits for them."""
    numbers = _stacked(losses, as_tensor(losses[-1]).device).tolist() if losses else []
    numbers = [number for number in numbers if math.isfinite(number)]
    total, num_finite, num_seen = earlier
    return Earlier(total + sum(numbers), num_finite + len(numbers), num_seen + len(losses))


def _over_ranks(
    losses: Sequence[Loss], device: torch.device, earlier: Earlier, *, late: bool
) -> Summary:
    # A rank without finite losses contributes zeros. So no rank hangs, and the mean is correct.
    totals = torch.zeros(3, dtype=torch.float64, device=device)
    for place, number in enumerate(earlier):
        totals[place] = number
    if losses:
        total, count = _totals(_stacked(losses, device).double())
        totals[0] += total
        totals[1] += count
        totals[2] += len(losses)
    dist.all_reduce(totals)
    if late and (losses or earlier.num_seen):  # some losses were seen, so no rank needs to check
        return Summary(totals[0] / totals[1], len(losses) + earlier.num_seen)
    num_finite, num_seen = (int(count) for count in totals[1:].tolist())
    if late and num_seen:
        return Summary(totals[0] / totals[1], num_seen)
    return Summary(totals[0] / num_finite if num_finite else None, num_seen)


def _totals(losses: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the finite losses, and their number, on the device of the losses."""
    finite = losses.isfinite()
    return torch.where(finite, losses, 0.0).sum(), finite.sum()


def _stacked(losses: Sequence[Loss], device: torch.device) -> Tensor:
    return torch.stack([as_tensor(loss).to(device) for loss in losses])
