"""The weights of copies as one flat tensor per parameter group, which needs fewer operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from meta_lr.optim.signals import Pieces, chosen, flat_copies, pieces_of

Slot = Mapping[str, Tensor]  # the optimizer's state of one tensor, without its step count


@dataclass(frozen=True)
class Layout:
    """The position of each tensor in the flat tensors (copies, numbers).

    Args:
        shapes: Shapes of the tensors of one copy.
        groups: For each flat tensor, the indices of the tensors in it; the measured tensors come
            first. The last group may hold the frozen tensors.
        measured: Number of measured columns of each flat tensor, see `signals.chosen`; no entry
            for the frozen ones.
        pieces: The position of each measured tensor in the result of `seen`.
    """

    shapes: tuple[tuple[int, ...], ...]
    groups: tuple[tuple[int, ...], ...]
    measured: tuple[int, ...]
    pieces: Pieces

    def flat(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the tensors of all copies as flat tensors, (copies, numbers) for each group."""
        return tuple(flat_copies([tensors[place] for place in group]) for group in self.groups)

    def apart(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return views of the flat tensors with their original shapes, in the order of `shapes`."""
        found: dict[int, Tensor] = {}
        for tensor, group in zip(tensors, self.groups, strict=True):
            found |= self._pieces(tensor, group)
        return tuple(found[place] for place in range(len(self.shapes)))

    def flat_slots(self, slots: Sequence[Slot]) -> tuple[Slot, ...]:
        """Return the optimizer's states of the tensors as one state for each group."""
        return tuple(
            {key: flat_copies([slots[place][key] for place in group]) for key in slots[group[0]]}
            for group in self.groups
        )

    def slots_apart(self, slots: Sequence[Slot]) -> tuple[Slot, ...]:
        """Return the optimizer's state of each tensor, in the order of `shapes`."""
        found: list[dict[str, Tensor]] = [{} for _ in self.shapes]
        for slot, group in zip(slots, self.groups, strict=True):
            for key, tensor in slot.items():
                for place, piece in self._pieces(tensor, group).items():
                    found[place][key] = piece
        return tuple(found)

    def _pieces(self, tensor: Tensor, group: Sequence[int]) -> dict[int, Tensor]:
        pieces = tensor.split([prod(self.shapes[place]) for place in group], 1)
        return {
            place: piece.view(-1, *self.shapes[place])
            for place, piece in zip(group, pieces, strict=True)
        }

    def seen(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the measured numbers (copies, numbers) of the trained flat tensors."""
        pieces = [t[:, :count] for t, count in zip(tensors, self.measured, strict=True)]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)


def layout(params: Sequence[Tensor], groups: Sequence[Sequence[Tensor]]) -> Layout:
    """Return the layout of the parameters of one copy.

    Args:
        params: The parameters of one copy.
        groups: The trained parameters, in the optimizer's groups; the others are frozen.
    """
    shapes = tuple(tuple(p.shape) for p in params)
    place_of = {id(p): place for place, p in enumerate(params)}
    places = [[place_of[id(p)] for p in group] for group in groups]
    trained = {place for group in places for place in group}
    frozen = [place for place in range(len(params)) if place not in trained]
    measured = chosen(shapes, [place in trained for place in range(len(params))])
    order = [sorted(group, key=lambda place: (place not in measured, place)) for group in places]
    counts = [sum(prod(shapes[place]) for place in group if place in measured) for group in places]
    shown = [place for group in order for place in group if place in measured]
    pieces = pieces_of([shapes[place] for place in shown])
    order += [frozen] if frozen else []
    return Layout(shapes, tuple(map(tuple, order)), tuple(counts), pieces)
