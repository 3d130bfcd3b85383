"""Does a closure add its gradient to that of earlier backward passes?

Then the closure's value is the loss of the last micro-batch alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor
from torch.utils.hooks import RemovableHandle


class BackwardPasses:
    """Watches the backward passes that reach one parameter, inside and outside of closures.

    A closure accumulates if its first pass adds to the gradient that a pass outside of it left,
    and nothing has changed that gradient in between: no `zero_grad` of either kind. Several passes
    inside of a closure (penalties, sharpness-aware optimizers) are not accumulation.

    Args:
        param: The parameter; it has a gradient.

    Attributes:
        handle: Removes the hook on the parameter.
        accumulated: Whether the closure that ran last did accumulate.
    """

    def __init__(self, param: Tensor) -> None:
        self.accumulated = False
        self._inside = False
        self._left: tuple[Tensor, int] | None = None  # outside: the gradient and its version
        self.handle: RemovableHandle = param.register_post_accumulate_grad_hook(self._seen)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Say that what happens inside is a closure."""
        self._inside, self.accumulated = True, False
        try:
            yield
        finally:
            self._inside, self._left = False, None

    def _seen(self, param: Tensor) -> None:
        grad = param.grad
        if grad is None:
            return
        if not self._inside:
            self._left = grad, grad._version
        elif self._left is not None:
            left, version = self._left
            self.accumulated = grad is left and grad._version == version + 1
            self._left = None


def watch(params: Sequence[Tensor]) -> BackwardPasses | None:
    """Watch the smallest of `params` that has a gradient; None if there is none."""
    ready = [p for p in params if p.is_leaf and p.requires_grad and p.grad is not None]
    return BackwardPasses(min(ready, key=Tensor.numel)) if ready else None
