"""A run that stops, dies or cannot save goes on as if nothing had happened."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import NamedTuple

import pytest
import torch

from meta_lr.methods.basic import Cosine
from meta_lr.records.reader import NAME
from meta_lr.testing.compare import difference
from meta_lr.training import loop
from meta_lr.training.loop import STATE, StoppedError, train
from tests.short_runs import ADAM, SGD, ends, online, record_of, steps_of, stop_when
from tests.toys import HeavyProber, Toy


@pytest.mark.parametrize(("optimizer", "look_ahead"), [(SGD, 1), (ADAM, 2), (SGD, 2), (ADAM, 1)])
def test_a_run_that_stops_at_every_step_equals_one_that_never_stops(
    tmp_path, optimizer, look_ahead
):
    run = partial(train, Toy(), optimizer, online(look_ahead), total_steps=11, eval_every=4, clip=1)
    whole = run(folder=tmp_path / "whole")
    for step in range(11):
        with pytest.raises(StoppedError) as stopped:
            run(folder=tmp_path / "parts", stop=stop_when(1 if step else 0))
        assert stopped.value.step == step and stopped.value.folder == tmp_path / "parts"
        # each attempt begins by asking, so the first one saves before any step
    again = run(folder=tmp_path / "parts")
    assert difference(ends(whole), ends(again)) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")
    assert float(whole.state.updates) == 3 and len(whole.state.snapshots) == 3


@pytest.mark.parametrize("asks", [0, 1, 2, 3, 5])
def test_a_search_that_is_interrupted_begins_anew(tmp_path, asks):
    run = partial(train, Toy(), SGD, online(2), total_steps=8, eval_every=2)
    whole = run(folder=tmp_path / "whole")
    with pytest.raises(StoppedError) as stopped:
        run(folder=tmp_path / "parts", stop=stop_when(asks, asker="part_losses"))
    assert stopped.value.step == (2 if asks < 3 else 5)  # the steps that update phi
    again = run(folder=tmp_path / "parts")
    assert difference(ends(whole), ends(again)) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


class Counted(NamedTuple):
    trials: torch.Tensor


class CountsInPlace(HeavyProber):
    """Counts its trials in its own tensor before they are over."""

    def init(self):
        return Counted(torch.zeros(()))

    def __call__(self, view, state):
        state.trials.add_(1)
        with view.sandbox.trial() as trial:
            trial.step(0.1)
            trial.step(0.1)
        return 0.01 * float(state.trials), state


def test_an_interrupted_search_leaves_no_trace_in_the_controller_s_state(tmp_path):
    run = partial(train, Toy(), SGD, CountsInPlace(), total_steps=4)
    whole = run(folder=tmp_path / "whole")
    for asks in (1, 0, 3):
        with pytest.raises(StoppedError):
            run(folder=tmp_path / "parts", stop=stop_when(asks, asker="part_losses"))
    again = run(folder=tmp_path / "parts")
    assert difference(ends(whole), ends(again)) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


@pytest.mark.parametrize("save_every", [1, 2, 3, 0])
def test_a_run_that_dies_goes_on_from_its_last_save(tmp_path, monkeypatch, save_every):
    """Rows after the save, and a line of which only a part was written, are cut off."""
    run = partial(train, Toy(), SGD, online(), total_steps=9, save_every=save_every)
    whole = run(folder=tmp_path / "whole")
    monkeypatch.setattr(loop, "_FLUSH_SECONDS", -1.0)  # so each step is written at once
    for death in (2, 6, 8):
        with pytest.raises(KeyboardInterrupt):
            run(listener=dies_at(death), folder=tmp_path / "parts")
        assert steps_of(tmp_path / "parts")[-1]["step"] == death
        with open(tmp_path / "parts" / NAME, "a") as file:
            file.write('{"kind":"step","st')
    again = run(folder=tmp_path / "parts")
    assert difference(ends(whole), ends(again)) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


def dies_at(step):
    def listen(row):
        if row["kind"] == "step" and row["step"] == step:
            raise KeyboardInterrupt

    return listen


def test_a_run_that_dies_before_its_test_is_tested_then(tmp_path):
    run = partial(train, Toy(), SGD, Cosine(0.1), total_steps=7)
    whole = run(folder=tmp_path / "whole")

    def dies(row):
        if row.get("split") == "test":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder=tmp_path / "parts", listener=dies)
    lines = (tmp_path / "parts" / NAME).read_bytes().splitlines(keepends=True)
    (tmp_path / "parts" / NAME).write_bytes(b"".join(lines[:-1]))  # nor did its end get written
    assert difference(ends(whole), ends(run(folder=tmp_path / "parts"))) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


def test_a_save_that_fails_leaves_the_old_state(tmp_path, monkeypatch):
    run = partial(train, Toy(), SGD, online(), total_steps=9, save_every=2)
    whole = run(folder=tmp_path / "whole")
    saves = Counter()

    def breaks(value, file):
        saves["begun"] += 1
        if saves["begun"] == 3:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        return real(value, file)

    real = torch.save
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(torch, "save", breaks)
        run(folder=tmp_path / "parts")
    assert torch.load(tmp_path / "parts" / STATE, weights_only=True)["step"] == 4
    again = run(folder=tmp_path / "parts")
    assert difference(ends(whole), ends(again)) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")
