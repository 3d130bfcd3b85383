"""Which rate is the best, as far as losses with errors can tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from meta_lr.methods.autolrs.round import Told

_ONCE_MORE = 1.5  # how much more another run would differ than another choice of batches
ALIKE = 0.01  # part of the loss within which two are alike
_DRAWS = 4000  # of losses, to see which is the least


def with_errors(told: Sequence[Told]) -> list[Told]:
    """Return what was told with the errors of the losses after the trials.

    An error is that of the difference from the least loss: the trials saw the same batches, and
    what these have in common is no error. A repetition would meet other batches on its way too, so
    the error is taken one and a half times. And whatever the batches say, a hundredth of a loss is
    no difference: where nothing is learned yet, on the plateau at the start, a small rate seems
    the best because it does nothing.
    """
    usable = [point for point in told if not point.failed]
    if not usable:
        return list(told)
    losses, count = np.array([p.seen.losses for p in usable]), len(usable[0].seen.losses)
    means = losses.mean(axis=1)
    apart = losses - losses[means.argmin()]
    spread = apart.std(axis=1, ddof=1) if count > 1 else 0.0
    errors = iter(np.hypot(_ONCE_MORE * spread / count**0.5, ALIKE * means).tolist())
    return [point if point.failed else point._replace(error=next(errors)) for point in told]


def likely(told: Sequence[Told], seed: int) -> float:
    """Return where the best place is to be expected: each counts by how probably it is the best.

    Where the losses do not tell the rates apart, that is in the middle of those tried. If all
    trials have failed, it is the smallest place.
    """
    usable = [point for point in told if not point.failed]
    if not usable:
        return min(point.place for point in told)
    losses, errors = (np.array([getattr(p, name) for p in usable]) for name in ("loss", "error"))
    normal = np.random.RandomState(seed % 2**32).standard_normal((_DRAWS, len(usable)))
    best = (normal * errors + losses).argmin(axis=1)
    chances = np.bincount(best, minlength=len(usable)) / _DRAWS
    return float(chances @ [point.place for point in usable])
