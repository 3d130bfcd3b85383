"""Result stores for the tests: whole, damaged and none; and, run as a process, one that writes.

`python -m tests.stores STORE POLICY COUNT` writes results one by one, and says of each that the
store has it.
"""

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from meta_lr.lrbench.metrics import Point
from meta_lr.lrbench.result import Result
from meta_lr.lrbench.store import Store


def result(seed=0, **fields):
    """A result of a run to its end, with all that must be there."""
    curve = tuple(Point(step, step + 0.5, step / 100, 1 / step) for step in (10, 20, 100))
    usual = {"task": "digits", "model": "mlp", "optimizer": "sgd", "policy": "lrPolicy_FIX+k0_0.1"}
    usual |= {"total_steps": 100, "status": "finished", "steps": 100, "cost": 100.5}
    return Result(**{**usual, "seed": seed, "curve": curve, **fields})


def put(path, *results):
    with Store(path) as store:
        return store.put(results)


def no_database(path):
    path.write_text("task,model\n" * 100)


def a_truncated_store(path):
    put(path, *map(result, range(100)))
    path.write_bytes(path.read_bytes()[:9000])


def a_store_with_a_damaged_curve(path):
    put(path, result())
    execute(path, "UPDATE results SET curve = '[[1, 2'")


def a_file_of_another_program(path):
    execute(path, "CREATE TABLE results (task)")


def a_store_of_a_newer_format(path):
    put(path, result())
    execute(path, "PRAGMA user_version = 2")


def execute(path, statement):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


if __name__ == "__main__":
    with Store(Path(sys.argv[1])) as store:
        for seed in range(int(sys.argv[3])):
            assert store.put([result(seed, policy=sys.argv[2])]) in (0, 1)
            os.write(1, b"%d\n" % seed)  # at once: a killed process flushes nothing
