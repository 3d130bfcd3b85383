"""A command in several processes, as `torchrun` starts them: they find each other, one speaks."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from uuid import uuid4

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from meta_lr.processes import ElsewhereError


@contextmanager
def process_group() -> Iterator[None]:
    """Run in the group of processes that torchrun's environment variables tell of, if they do.

    Tensors on the CPU go by gloo, those on a GPU by nccl. The jobs of a sweep share one group, as
    its members find each other once only; it ends with the process.

    Raises:
        ValueError: The first process failed, as it has said itself.
        SystemExit: Another process was lost.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        yield
        return
    if not dist.is_initialized():
        _join()
        atexit.register(dist.destroy_process_group)
    try:
        with _silent() if dist.get_rank() else nullcontext():
            yield
    except ElsewhereError as error:
        raise ValueError(str(error)) from error
    except RuntimeError as error:
        if not _lost(error):
            raise
        print(
            f"meta-lr: process {dist.get_rank()} lost another one, which has died or was stopped; "
            "the same command goes on from what was saved",
            file=sys.stderr,
        )
        raise SystemExit(1) from None


def _join() -> None:
    """Join the group of all processes; each of them takes a GPU of its own, if there are GPUs."""
    with_nccl = torch.cuda.is_available() and dist.is_nccl_available()
    if with_nccl:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        torch.cuda.set_device(local % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if with_nccl else "gloo"
    store, rank, size = next(rendezvous("env://"))
    store = dist.PrefixStore(name_of_start(store, rank, size), store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)


def name_of_start(store: dist.Store, rank: int, size: int) -> str:
    """Return a name that all `size` processes agree on, and that is new at every start.

    When `torchrun --max-restarts` starts the processes again, the store still has the addresses of
    the dead ones. TORCHELASTIC_RESTART_COUNT does not separate them: it may differ between nodes.
    So each process writes a name of its own, and waits for an answer to it. The first process
    answers with its own name until all others have it; an answer to a dead process does no harm.
    """
    own = uuid4().hex
    store.set(f"here/{rank}", own)
    if rank:
        name = store.get(f"answer/{own}").decode()
        store.set(f"{name}/{rank}", "")
        return name
    others = range(1, size)
    while not all(store.check([f"{own}/{other}"]) for other in others):
        for other in others:
            store.set(f"answer/{store.get(f'here/{other}').decode()}", own)
        time.sleep(0.02)
    return own


@contextmanager
def _silent() -> Iterator[None]:
    """Drop what this process prints: the first one prints for all."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def _lost(error: RuntimeError) -> bool:
    """Return whether the error is that of a broken connection."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)
