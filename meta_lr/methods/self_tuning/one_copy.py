"""A self-tuning schedule as a controller that is differentiable in its meta-parameters, phi."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from meta_lr.bilevel.look_ahead import mapped
from meta_lr.bilevel.schedules import Seen
from meta_lr.optim.signals import chosen, flat_copies, pieces_of
from meta_lr.protocol import Need, StepView
from meta_lr.vectors import Tensors

if TYPE_CHECKING:
    from meta_lr.methods.self_tuning.schedule import SelfTuning


@dataclass(frozen=True)
class OneCopy:
    """A self-tuning schedule as one copy of `side_by_side`, computed only with tensors.

    The gradient flows through the losses, the signals, the features, the network and the
    integrator, and through their states.

    Args:
        schedule: The schedule; its own weights are not used.
        phi: The weights that replace them.
    """

    schedule: SelfTuning
    phi: Tensors

    @property
    def needs(self) -> Need:
        """The fields of the view that the schedule reads."""
        return self.schedule.needs

    def init(self) -> Any:
        """Return the state before the first step; the first dimension of each tensor has size 1."""
        return mapped(self.schedule.init(), _alone)

    def __call__(self, view: StepView, state: Any) -> tuple[Tensor, Any]:
        """Return the learning rate () of this step, and the next state."""
        trained = [p.requires_grad for p in view.params]
        places = chosen([p.shape for p in view.params], trained)

        def together(tensors: Sequence[Tensor]) -> Tensor:
            return flat_copies([_alone(tensors[place]) for place in places])

        seen = Seen(
            view.loss.unsqueeze(0),
            together(view.params),
            together(view.grads),
            lambda: together(view.update),
            view.step,
            view.total_steps,
            pieces_of([view.params[place].shape for place in places]),
        )
        weights = tuple(_alone(weight) for weight in self.phi)
        lr, state = self.schedule.side_by_side(weights, seen, state)
        return lr.squeeze(0), state


def _alone(tensor: Tensor) -> Tensor:
    return tensor.unsqueeze(0)
