"""What a controller says of its experiments, and what names a trial's start."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from meta_lr.protocol import Need
from meta_lr.records.reader import read_record, read_rows
from meta_lr.training.loop import StoppedError, train
from tests.short_runs import ADAM, record_of, stop_when
from tests.toys import Fixed, Toy
from tests.training.test_sandbox import live


class Tries(NamedTuple):
    num_tries: int = 0


class Talks(Fixed):
    """Tries two rates at every third step, and says so."""

    @property
    def needs(self):
        return Need.TRIALS

    def init(self):
        return Tries()

    def __call__(self, view, state):
        if view.step % 3:
            return self.rate, state
        for rate in (0.1, 0.2):
            with view.sandbox.trial() as trial:
                start = trial.fingerprint()
                loss = float(trial.step(rate))
            view.sandbox.note(rate=rate, loss=loss, start=start)
        return self.rate, Tries(state.num_tries + 2)


def notes_of(folder):
    return read_record(folder).searches


def test_a_record_has_a_row_for_each_note_before_the_step_it_belongs_to(tmp_path):
    train(Toy(), ADAM, Talks(), total_steps=7, folder=tmp_path)
    notes = notes_of(tmp_path)
    assert [row["step"] for row in notes] == [0, 0, 3, 3, 6, 6]
    assert [row["search_cost"] for row in notes] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    starts = [row["start"] for row in notes]
    assert starts[0::2] == starts[1::2] and len(set(starts)) == 3
    kinds = [row["kind"] for row in read_rows(tmp_path)]
    assert kinds[:4] == ["header", "search", "search", "step"]


@pytest.mark.parametrize("asks", range(5))
def test_notes_of_an_interrupted_search_are_said_once(tmp_path, asks):
    train(Toy(), ADAM, Talks(), total_steps=7, folder=tmp_path / "whole")
    with pytest.raises(StoppedError):
        stop = stop_when(asks, asker="part_losses")
        train(Toy(), ADAM, Talks(), total_steps=7, folder=tmp_path / "parts", stop=stop)
    train(Toy(), ADAM, Talks(), total_steps=7, folder=tmp_path / "parts")
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")


def test_the_fingerprint_names_weights_buffers_and_optimizer_state():
    *_, sandbox = live()
    with sandbox.trial() as trial:
        start = trial.fingerprint()
        assert trial.fingerprint() == start
        trial.step(0.0)
        assert trial.fingerprint() != start, "its momentum and its buffers have moved"
    with sandbox.trial() as trial:
        assert trial.fingerprint() == start
        next(trial.model.parameters()).data[0] += 1e-3
        assert trial.fingerprint() != start
    with sandbox.trial() as trial:
        next(b for b in trial.model.buffers() if b.is_floating_point())[0] += 1
        assert trial.fingerprint() != start


def test_without_a_listener_a_note_goes_nowhere_and_with_one_it_is_heard():
    heard = []
    _, _, _, silent = live()
    silent.note(rate=0.1)
    _, _, _, told = live(listener=heard.append)
    told.at(4)
    told.note(rate=0.1)
    assert heard == [{"step": 4, "rate": 0.1, "search_cost": 0.0}]
