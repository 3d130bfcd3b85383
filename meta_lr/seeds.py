"""One seed for a run; every other seed is derived from it by name."""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *names: str | int) -> int:
    """Return a seed in [0, 2**63) that is a pure function of `seed` and `names`.

    Equal on every machine and in every process; distinct names give independent streams.
    """
    key = repr((int(seed), *names)).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """Return a CPU generator seeded by `derive(seed, *names)`."""
    return torch.Generator().manual_seed(derive(seed, *names))


def seed_model(seed: int, *names: str | int) -> None:
    """Seed torch's default generators, from which dropout draws, by `derive(seed, *names)`.

    Much cheaper than `torch.manual_seed`, which visits every backend.
    """
    value = derive(seed, *names)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(value)
