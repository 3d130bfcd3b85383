"""`torchrun --max-restarts`: after a process was lost, all start again and find each other."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from meta_lr.cli.processes import name_of_start
from tests.commands import META_LR, runs, timeless

RUN = ["train", "total_steps=12", "model.hidden=[8]", "parts=2", "threads=1", "save_every=2"]
DIES = """
import os, pathlib, signal, sys
import torch
from meta_lr.cli.main import main

step = torch.optim.SGD.step
died = pathlib.Path("died")

def dying(*arguments, **options):
    dying.steps += 1
    if dying.steps == 6 and os.environ["RANK"] == "1" and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments, **options)

dying.steps = 0
torch.optim.SGD.step = dying
sys.exit(main(sys.argv[1:]))
"""


def names(store, size, late=()):
    """Return the names that processes (here threads) agree on; some of them come late."""
    order = [*(rank for rank in range(size) if rank not in late), *late]
    with ThreadPoolExecutor(size) as pool:
        asked = []
        for rank in order:
            if rank in late:
                with pytest.raises(TimeoutError):
                    asked[0].result(0.1)  # nobody is ready while one is missing
            asked.append(pool.submit(name_of_start, store, rank, size))
        return {each.result(60) for each in asked}


def test_the_processes_agree_on_a_name_that_is_new_at_every_start():
    store = dist.HashStore()
    (first,) = names(store, 3)
    (second,) = names(store, 3, late=[0])
    (third,) = names(store, 3, late=[2])
    assert len({first, second, third}) == 3


def test_one_process_agrees_with_itself():
    store = dist.HashStore()
    assert name_of_start(store, 0, 1) != name_of_start(store, 0, 1)


@pytest.mark.slow
def test_a_run_whose_process_is_killed_goes_on_and_has_the_same_record(tmp_path):
    """Slow, as torchrun starts four processes in all, and each of them imports torch."""
    (tmp_path / "dies.py").write_text(DIES)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node=2", "--max-restarts=1"]
    env = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, "dies.py", *RUN], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "died").exists() and "goes on at step " in done.stdout
    (tmp_path / "alone").mkdir()
    subprocess.run([*META_LR, *RUN], cwd=tmp_path / "alone", check=True, capture_output=True)
    (run,), (alone,) = runs(tmp_path), runs(tmp_path / "alone")
    assert timeless(run) == timeless(alone)
