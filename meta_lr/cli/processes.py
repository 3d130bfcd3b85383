"""A command in several processes, as `torchrun` starts them: they find each other, one speaks."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout

import torch
import torch.distributed as dist

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
        with_nccl = torch.cuda.is_available() and dist.is_nccl_available()
        dist.init_process_group("cpu:gloo,cuda:nccl" if with_nccl else "gloo")
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


@contextmanager
def _silent() -> Iterator[None]:
    """Drop what this process prints: the first one prints for all."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def _lost(error: RuntimeError) -> bool:
    """Return whether the error is that of a broken connection."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)
