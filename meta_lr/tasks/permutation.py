"""A permutation of a large range that is computed only where it is needed."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from meta_lr import seeds

_ROUNDS = 8


class KeyedPermutation:
    """A pseudo-random permutation of `range(size)`, a pure function of `size` and `seed`.

    A slice costs time and memory in proportion to its own length, whatever the size. A Feistel
    network permutes the numbers of 2b bits, the least such range that holds `size` numbers. A
    number outside the range is permuted again until it is inside ("cycle walking"), fewer than four
    times on average.

    Reference:
        Luby and Rackoff 1988, SIAM J. Comput. 17 (the network); Black and Rogaway 2002, CT-RSA
        (cycle walking). The round function is the finaliser of SplitMix64. This is for shuffling
        and not for secrets.

    Args:
        size: Number of elements, at least 1.
        seed: Selects the permutation.

    >>> KeyedPermutation(5, seed=0)[:].sort().values
    tensor([0, 1, 2, 3, 4])
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._half = np.uint64(max(1, -(-(size - 1).bit_length() // 2)))
        self._mask = np.uint64((1 << int(self._half)) - 1)
        keys = [seeds.derive(seed, "feistel", number) for number in range(_ROUNDS)]
        self._keys = np.array(keys, dtype=np.uint64)

    def __getitem__(self, places: slice) -> Tensor:
        """Return the elements at these places of the permutation, int64 (places,)."""
        values = self._permuted(np.arange(*places.indices(self.size), dtype=np.uint64))
        while (outside := values >= self.size).any():
            values[outside] = self._permuted(values[outside])
        return torch.from_numpy(values.astype(np.int64))

    def _permuted(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values >> self._half, values & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right + key) & self._mask)
        return (left << self._half) | right


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the numbers with all their bits mixed, modulo 2**64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
