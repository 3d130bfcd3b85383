"""The keyed permutation: a bijection of any size, in slices, spread evenly over the keys."""

import time
from itertools import permutations

import pytest
import torch

from meta_lr.tasks.permutation import KeyedPermutation

SIZES = [*range(1, 70), 127, 128, 129, 255, 256, 257, 1000, 1023, 1024, 1025, 65_536, 65_537]


@pytest.mark.parametrize("seed", [0, 1, 2**62])
def test_it_is_a_bijection_of_every_size(seed):
    for size in SIZES:
        found = KeyedPermutation(size, seed)[:]
        assert torch.equal(found.sort().values, torch.arange(size)), size


def test_slices_are_slices_of_the_whole():
    order = KeyedPermutation(1000, 3)
    whole = order[:]
    assert torch.equal(torch.cat([order[i : i + 64] for i in range(0, 1000, 64)]), whole)
    assert not torch.equal(KeyedPermutation(1000, 4)[:], whole)


def test_every_order_of_four_is_as_likely():
    """The statistic has 23 degrees of freedom; it is above 49.7 once in a thousand times."""
    counts = dict.fromkeys(permutations(range(4)), 0)
    for seed in range(2400):
        counts[tuple(KeyedPermutation(4, seed)[:].tolist())] += 1
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 49.7


def test_neighbours_are_not_related_and_no_place_is_preferred():
    size = 10_007
    orders = torch.stack([KeyedPermutation(size, seed)[:] for seed in range(20)]).double()
    shift = torch.corrcoef(torch.stack((orders[:, 1:].flatten(), orders[:, :-1].flatten())))[0, 1]
    own = torch.corrcoef(torch.stack((orders.flatten(), torch.arange(size).double().repeat(20))))
    assert abs(shift) < 0.01 and abs(own[0, 1]) < 0.01  # one deviation is 0.0022


def test_a_batch_of_a_large_set_costs_what_a_batch_costs():
    began = time.process_time()
    for seed in range(100):
        found = KeyedPermutation(1_281_167, seed)[1_000_000:1_000_256]
        assert len(found.unique()) == 256
    assert time.process_time() - began < 2  # a full permutation takes ten times as long
