"""Groups of processes for the tests: forked, so that nothing is imported again."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist

SECONDS = 120  # no test waits longer for its processes


def on_ranks(count, work):
    """Call `work(rank)` in a group of `count` processes; return what each returned or raised.

    A process that was killed returns None.
    """
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder, str(rank)) for rank in range(count)]
        processes = [
            context.Process(target=_one, args=(rank, count, work, places[rank]))
            for rank in range(count)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(SECONDS)
            process.kill()
        return [
            torch.load(place, weights_only=False) if place.exists() else None for place in places
        ]


def _one(rank, count, work, place):
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "RANK": str(rank), "WORLD_SIZE": str(count)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{place.parent}/group", rank=rank, world_size=count)
    try:
        came = work(rank)
    except (Exception, SystemExit) as error:
        came = error
    torch.save(came, place)
    os._exit(0)  # a group that lost a process cannot be left in order
