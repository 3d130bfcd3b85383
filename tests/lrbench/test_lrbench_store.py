"""The result store: what is in it, who may write, and how it says that a file is none."""

from __future__ import annotations

import errno
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from meta_lr.lrbench import store as module
from meta_lr.lrbench.metrics import Point
from meta_lr.lrbench.result import KEY
from meta_lr.lrbench.store import Store
from tests.stores import (
    a_file_of_another_program,
    a_store_of_a_newer_format,
    a_store_with_a_damaged_curve,
    a_truncated_store,
    no_database,
    put,
    result,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "results.sqlite"


def stored(path):
    with Store(path, make=False) as store:
        return store.find()


def test_what_is_put_is_found(path):
    full = result(
        1,
        scale=0.1,
        setting="ab",
        **{f"{split}_{name}": 0.3 for split in ("val", "test") for name in ("loss", "top5")},
        test_accuracy_best=1.0,
        seconds=2.5,
        ended_at="2030-01-02T03:04:05+00:00",
        folder="runs/a b",
    )
    bare = result(2, policy='its "name", [0.1]\n\u03b7 = 1', curve=())
    assert put(path, full, bare) == 2
    assert sorted(stored(path), key=lambda r: r.seed) == [full, bare]
    assert [p.name for p in path.parent.iterdir()] == ["results.sqlite"]


def test_only_what_was_asked_for_is_found(path):
    put(path, *(result(task=t, policy=p) for t in ("digits", "mnist") for p in ("a", "b")))
    put(path, result(model="cnn3"), result(optimizer="adam"))
    with Store(path, make=False) as store:
        assert [r.policy for r in store.find(task="mnist")] == ["a", "b"]
        assert [r.task for r in store.find(policy="a")] == ["digits", "mnist"]
        assert [r.key for r in store.find(model="cnn3")] == [result(model="cnn3").key]
        assert [r.key for r in store.find(optimizer="adam")] == [result(optimizer="adam").key]
        assert store.find(task="digits", policy="c") == []


@pytest.mark.parametrize("name", KEY)
def test_each_part_of_the_key_tells_results_apart(path, name):
    other = {str: "other", int: 7, float: 0.5}[type(getattr(result(), name))]
    assert put(path, result(), result(**{name: other})) == 2
    assert len(stored(path)) == 2


def test_there_is_one_result_per_key_the_later_one(path):
    assert put(path, result(val_accuracy=0.5)) == 1
    assert put(path, result(val_accuracy=0.6), result(1)) == 1
    assert [r.val_accuracy for r in stored(path)] == [0.6, None]


ENDED, DIVERGED = {"status": "finished"}, {"status": "diverged at step 3", "steps": 3}
STOPPED, EARLIER = ({"status": "target met", "steps": steps} for steps in (50, 20))


@pytest.mark.parametrize(
    ("first", "second", "stays"),
    [
        (ENDED, STOPPED, ENDED),
        (DIVERGED, STOPPED, DIVERGED),
        (STOPPED, ENDED, ENDED),
        (STOPPED, DIVERGED, DIVERGED),
        (ENDED, DIVERGED, DIVERGED),
        (STOPPED, EARLIER, STOPPED),
        (EARLIER, STOPPED, STOPPED),
    ],
)
def test_a_run_that_was_stopped_takes_no_place_of_one_that_got_further(path, first, second, stays):
    put(path, result(**first))
    put(path, result(**second))
    assert stored(path) == [result(**stays)]


def test_a_put_that_fails_half_way_leaves_nothing_behind(path):
    put(path, result(0))
    with Store(path) as store:
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages + 4}")
        with pytest.raises(OSError, match=r"results\.sqlite") as raised:
            store.put([result(seed) for seed in range(100)])
        assert raised.value.errno == errno.ENOSPC
        assert store.find() == [result(0)]
        assert store.put([result(1)]) == 1


def test_a_reader_does_not_wait_for_a_writer(path):
    put(path, result(0))
    with Store(path) as writer, Store(path, make=False) as reader:
        writer._connection.execute("BEGIN IMMEDIATE")
        writer._connection.execute("DELETE FROM results")
        assert reader.find() == [result(0)]
        writer._connection.execute("ROLLBACK")


def test_a_writer_waits_for_another_and_gives_up_in_the_end(path, monkeypatch):
    put(path, result(0))
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    with Store(path) as first, Store(path) as second:
        first._connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(TimeoutError, match=r"kept busy by other processes for 0\.1 s"):
            second.put([result(1)])
        first._connection.execute("COMMIT")
        assert second.put([result(1)]) == 1


def test_an_empty_file_is_a_store_to_be(path):
    """As a process leaves it that was killed between making the file and its first commit."""
    path.parent.mkdir()
    path.touch()
    assert stored(path) == []
    assert put(path, result()) == 1


def a_folder(path):
    path.mkdir()


def nothing(path):
    """There is no file."""


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (no_database, ValueError, r"is damaged, or no result store \(file is not a database\)"),
        (a_truncated_store, ValueError, r"is damaged, or no result store \(.*malformed\)"),
        (a_store_with_a_damaged_curve, ValueError, r"is damaged, .* results import"),
        (a_file_of_another_program, ValueError, "is an SQLite file of another program"),
        (a_store_of_a_newer_format, ValueError, "has format 2, this meta_lr reads 1; install a"),
        (a_folder, IsADirectoryError, "directory"),
        (nothing, FileNotFoundError, "there is no result store .*; meta-lr results import"),
    ],
)
def test_a_file_that_is_no_store_is_refused_and_stays_as_it_is(path, make, error, said):
    path.parent.mkdir()
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(error, match=said):
        stored(path)
    assert before is None or path.read_bytes() == before


class Slow:
    """A connection on which another process writes between two questions."""

    def __init__(self, path):
        self._connection, self._path = sqlite3.connect(path, isolation_level=None), path

    @property
    def in_transaction(self):
        return self._connection.in_transaction

    def execute(self, statement):
        row = self._connection.execute(statement).fetchone()
        if "application_id" in statement:
            with suppress(sqlite3.OperationalError):  # it may have to wait, and gives up
                with closing(sqlite3.connect(self._path, timeout=0)) as other:
                    other.execute("CREATE TABLE results (task)")
        return SimpleNamespace(fetchone=lambda: row)


def test_a_store_that_another_process_makes_at_this_moment_is_not_refused(path):
    path.parent.mkdir()
    assert module._is_empty(Slow(path), path)


@pytest.mark.parametrize("make", [no_database, a_file_of_another_program])
def test_what_is_no_store_is_not_written_to(path, make):
    path.parent.mkdir()
    make(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="no result store"):
        put(path, result())
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"seed": "a"}, "seed is 'a'; a whole number of 64 bits is needed"),
        ({"seed": True}, "seed is True"),
        ({"seed": 2**63}, "seed is 9223372036854775808; a whole number of 64 bits"),
        ({"policy": None}, "policy is None; a text is needed"),
        ({"cost": float("nan")}, "cost is nan; a finite number is needed"),
        ({"val_loss": "low"}, "val_loss is 'low'; a number is needed"),
        ({"curve": [[1, 2.0]]}, r"curve is no list of \[step, cost, accuracy, loss\]"),
    ],
)
def test_a_result_of_other_types_is_refused(fields, said):
    with pytest.raises(TypeError, match=said):
        result(**fields)


def test_a_result_knows_what_follows_from_it():
    curve = (Point(10, 12.0, 0.4, float("nan")), Point(20, 22.0, 0.6, 0.9))
    ended = result(train_loss=0.5, val_loss=0.75, test_loss=1, val_top5=float("inf"), curve=curve)
    assert (ended.loss_difference, ended.val_loss_difference) == (0.5, 0.25)
    assert ended.val_top5 is None and ended.curve[0].loss is None
    assert ended.to_target(0.5) == (20, 22.0)
    assert result(status="diverged at step 30", curve=curve).to_target(0.5) is None


@contextmanager
def writer(path, policy, rows):
    """Give a process that writes so many results, and the number of those it has been told of."""
    command = [sys.executable, "-m", "tests.stores", str(path), policy, str(rows)]
    told = path.parent.parent / f"{policy}.txt"
    with open(told, "wb") as out, subprocess.Popen(command, cwd=ROOT, stdout=out) as process:
        try:
            yield process, lambda: told.read_bytes().count(b"\n")
        finally:
            process.kill()


def test_three_writers_and_one_killed(path):
    """Processes make one store and write to it; the first is killed in the middle."""
    processes, rows, kill_after = 3, 30, 10
    path.parent.mkdir()
    with ExitStack() as stack:
        writers = [stack.enter_context(writer(path, f"policy-{i}", rows)) for i in range(processes)]
        victim, num_told = writers[0]
        while num_told() < kill_after:
            assert victim.poll() is None, "it ended before"
            time.sleep(0.001)
        victim.kill()
        assert [process.wait() for process, _ in writers] == [-9] + [0] * (processes - 1)
    seeds = {f"policy-{i}": [] for i in range(processes)}
    for found in stored(path):
        assert found == result(found.seed, policy=found.policy)
        seeds[found.policy].append(found.seed)
    survived = sorted(seeds.pop("policy-0"))
    assert survived == list(range(len(survived)))
    assert kill_after <= num_told() <= len(survived) <= num_told() + 1 <= rows  # 1: not yet told
    assert all(sorted(own) == list(range(rows)) for own in seeds.values())
    with writer(path, "policy-0", rows) as (again, _):
        assert again.wait() == 0
    assert len(stored(path)) == processes * rows


def test_the_store_opens_without_torch():
    code = (
        "import sys, meta_lr.lrbench.store, meta_lr.lrbench.listing; "
        "sys.exit(bool({'torch', 'numpy', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
