"""Seeds: a run has one seed, and every other seed is derived from it by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *names: str | int) -> int:
    """Return a seed in [0, 2**63) that is a pure function of `seed` and `names`.

    The seed is the same on every machine and in every process. Different names give independent
    streams of random numbers.
    """
    key = repr((int(seed), *names)).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """Return a CPU generator seeded by `derive(seed, *names)`."""
    return torch.Generator().manual_seed(derive(seed, *names))


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Seed the CPU's random numbers for the initial weights of a task's model.

    The global random state is restored afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "init"))
        yield


def seed_model(seed: int, *names: str | int, device: torch.device | None = None) -> None:
    """Seed the generators that dropout uses on the CPU, and on `device` if it is a CUDA device.

    The seed is `derive(seed, *names)`. This is much cheaper than `torch.manual_seed`, which seeds
    every backend.
    """
    value = derive(seed, *names)
    torch.default_generator.manual_seed(value)
    if device is not None and device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(value)
