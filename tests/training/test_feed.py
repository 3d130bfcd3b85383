"""Batches that worker processes read ahead: the same run, at any number of workers."""

import os
import signal
from dataclasses import dataclass

import pytest
import torch

from meta_lr.methods.basic import Cosine
from meta_lr.records.reader import read_record
from meta_lr.training.compute import Compute
from meta_lr.training.feed import Feed
from meta_lr.training.loop import train
from meta_lr.training.outcome import StoppedError
from tests.short_runs import SGD, ends, online, record_of, stop_when
from tests.toys import Toy

CPU = torch.device("cpu")


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("first", [0, 3])
def test_every_part_equals_the_task_s(workers, first):
    task = Toy()
    feed = Feed(task, CPU, workers)
    feed.plan(range(first, 6), range(2), 2)
    for step in range(first, 6):
        halves = [feed.part(step, part, 2) for part in range(2)]
        for found, expected in zip(
            zip(*halves, strict=True), task.batch("train", step), strict=True
        ):
            assert torch.equal(torch.cat(found), expected)


def test_a_part_that_was_not_planned_is_read_and_the_plan_stays():
    task, feed = Toy(), Feed(Toy(), CPU, 1)
    feed.plan(range(3), range(1), 1)
    for step in (0, 7, 1, 2, 3):
        assert torch.equal(feed.part(step, 0, 1)[0], task.batch("train", step)[0])


def test_an_evaluation_is_read_in_order():
    task, feed = Toy(), Feed(Toy(), CPU, 2)
    found = [batch[0] for batch in feed.batches("val", range(2))]
    assert all(torch.equal(x, task.batch("val", i)[0]) for i, x in enumerate(found))
    assert len(found) == 2


def test_the_global_random_state_is_untouched():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    feed = Feed(Toy(), CPU, 1)
    feed.plan(range(2), range(1), 1)
    feed.part(0, 0, 1)
    assert torch.equal(torch.get_rng_state(), before)


def run(folder, **options):
    return train(Toy(), SGD, online(), total_steps=9, eval_every=4, folder=folder, **options)


def test_a_run_resumes_with_another_number_of_workers(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(StoppedError):
        run(tmp_path / "parts", compute=Compute(workers=2), stop=stop_when(2))
    with pytest.raises(StoppedError):
        run(tmp_path / "parts", compute=Compute(workers=0), stop=stop_when(2))
    again = run(tmp_path / "parts", compute=Compute(workers=1))
    assert ends(again) == ends(whole)
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


def test_each_step_records_how_long_it_waited(tmp_path):
    train(Toy(), SGD, Cosine(0.1), total_steps=3, folder=tmp_path, compute=Compute(workers=1))
    waits = [row["wait"] for row in read_record(tmp_path).steps]
    assert len(waits) == 3 and waits[0] > 0  # the first step waits for the worker's start


@dataclass(frozen=True)
class Broken(Toy):
    """Its batch 2 cannot be read, or the process that reads it is killed."""

    kills: bool = False

    def batch(self, split, index, draw=None):
        if (split, index) == ("train", 2) and self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if (split, index) == ("train", 2):
            raise ValueError("picture.jpg is damaged")
        return super().batch(split, index, draw)


def test_an_error_of_a_worker_is_the_run_s():
    with pytest.raises(ValueError, match=r"^picture.jpg is damaged$"):
        train(Broken(), SGD, Cosine(0.1), total_steps=5, compute=Compute(workers=1))


def test_a_killed_worker_is_an_error_of_one_line():
    with pytest.raises(OSError, match="a process that reads data was lost"):
        train(Broken(kills=True), SGD, Cosine(0.1), total_steps=5, compute=Compute(workers=1))
