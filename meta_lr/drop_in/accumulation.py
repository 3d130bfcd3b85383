"""Detection of gradient accumulation in closures.

If a closure adds its gradient to that of earlier backward passes, its value is only the loss of the
last micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor


class Before(NamedTuple):
    """A gradient that exists before a closure."""

    grad: Tensor
    version: int
    size: Tensor  # (), 0 if it was cleared in place; read only if needed


class BackwardPasses:
    """Watches the backward passes that reach two parameters, inside and outside of closures.

    A closure accumulates if its first pass adds to a gradient that existed before the closure and
    that comes from a pass outside of closures. In this case the gradient was not cleared before or
    inside the closure. Several passes inside a closure (penalties, sharpness-aware optimizers) are
    not accumulation.

    Args:
        params: The parameters; they may already have gradients.

    Attributes:
        accumulated: Whether the last closure accumulated.
        reached: Whether a backward pass inside the last closure reached one of the parameters.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        self.accumulated = False
        self.reached = True
        self._inside, self._outside = False, True
        self._params = params
        self._before: dict[int, Before] = {}
        self._handles = [p.register_post_accumulate_grad_hook(self._seen) for p in params]

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Mark the block as a closure."""
        self.accumulated = self.reached = False
        self._before = self._found() if self._outside else {}
        self._inside = True
        try:
            yield
        finally:
            self._inside = self._outside = False

    def remove(self) -> None:
        """Remove the hooks on the parameters."""
        for handle in self._handles:
            handle.remove()

    def _found(self) -> dict[int, Before]:
        grads = [(id(p), p.grad) for p in self._params if p.grad is not None]
        return {key: Before(grad, grad._version, grad.detach().abs().sum()) for key, grad in grads}

    def _seen(self, param: Tensor) -> None:
        if not self._inside:
            self._outside = True
            return
        self.reached = True
        before, grad = self._before.pop(id(param), None), param.grad
        if before is None or grad is None or self.accumulated:
            return
        added = grad is before.grad and grad._version == before.version + 1
        self.accumulated = added and bool(before.size != 0)


def watch(params: Sequence[Tensor]) -> BackwardPasses | None:
    """Watch the first and the last of `params` that have a gradient; None if there is none.

    The first one is near the input and the last one near the output, so most losses reach one of
    them.
    """
    ready = [p for p in params if p.is_leaf and p.requires_grad and p.grad is not None]
    return BackwardPasses([ready[0], *ready[1:][-1:]]) if ready else None
