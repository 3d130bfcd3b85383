"""One run per folder: a finished one is only read, another one or a damaged one is refused."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest

from meta_lr.methods.basic import Cosine
from meta_lr.records.lock import LockedError, locked
from meta_lr.records.reader import NAME
from meta_lr.testing.compare import difference
from meta_lr.training.loop import STATE, StoppedError, train
from tests.short_runs import SGD, ends, online, stop_when
from tests.toys import Fixed, Toy


def test_a_finished_run_is_only_read(tmp_path, monkeypatch):
    run = partial(train, Toy(), SGD, online(), total_steps=7, folder=tmp_path)
    first, content = run(), (tmp_path / NAME).read_bytes()
    told = []
    monkeypatch.setattr(Toy, "batch", None)
    again = run(listener=told.append)
    assert difference(ends(first), ends(again)) == ""
    assert again.seconds == first.seconds and again.folder == tmp_path and told == []
    assert (tmp_path / NAME).read_bytes() == content


@pytest.mark.parametrize("finish", [False, True])
def test_another_controller_is_refused_in_the_same_folder(tmp_path, finish):
    stop = None if finish else stop_when(3)
    try:
        train(Toy(), SGD, Cosine(0.1), total_steps=6, folder=tmp_path, stop=stop)
    except StoppedError:
        assert not finish
    before = (tmp_path / NAME).read_bytes(), (tmp_path / STATE).read_bytes()
    with pytest.raises(ValueError, match=r"run with controller Cosine\(.*not Cosine\(peak=0.2"):
        train(Toy(), SGD, Cosine(0.2), total_steps=6, folder=tmp_path)
    with pytest.raises(ValueError, match=r"run with total_steps 6, not 7"):
        train(Toy(), SGD, Cosine(0.1), total_steps=7, folder=tmp_path)
    assert ((tmp_path / NAME).read_bytes(), (tmp_path / STATE).read_bytes()) == before


def test_another_seed_is_refused_in_the_same_folder(tmp_path):
    train(Toy(), SGD, Cosine(0.1), total_steps=6, folder=tmp_path)
    with pytest.raises(ValueError, match="run with seed 0, not 1"):
        train(Toy(), SGD, Cosine(0.1), total_steps=6, folder=tmp_path, seed=1)


def test_a_record_that_was_cut_behind_the_state_s_back_is_refused(tmp_path):
    run = partial(train, Toy(), SGD, Fixed(), total_steps=9, folder=tmp_path)
    with pytest.raises(StoppedError):
        run(stop=stop_when(4))
    (tmp_path / NAME).write_bytes(b"")
    with pytest.raises(ValueError, match=r"is not the record .* remove the folder"):
        run()


def test_a_finished_record_without_its_state_is_refused(tmp_path):
    train(Toy(), SGD, Cosine(0.1), total_steps=6, folder=tmp_path)
    (tmp_path / STATE).unlink()
    with pytest.raises(ValueError, match=r"finished run, but no state.pt with .*; remove the fold"):
        train(Toy(), SGD, Cosine(0.1), total_steps=6, folder=tmp_path)


def test_a_folder_in_use_is_refused(tmp_path):
    run = partial(train, Toy(), SGD, Fixed(), total_steps=2, folder=tmp_path)
    with locked(tmp_path), pytest.raises(LockedError, match="in use by process"):
        run()
    assert run().status == "finished"


HOLDER = """
import fcntl, os, sys
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
file.write(str(os.getpid()))
file.flush()
print("held", flush=True)
sys.stdin.read()
"""


def test_the_lock_of_another_process_is_seen_and_ends_with_it(tmp_path):
    run = partial(train, Toy(), SGD, Fixed(), total_steps=2, folder=tmp_path)
    command = [sys.executable, "-S", "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=f"in use by process {holder.pid};.*run elsewhere"):
            run()
        assert not (tmp_path / NAME).exists()
        holder.kill()
    assert run().status == "finished"
