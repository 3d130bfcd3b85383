"""A run that ends before its last step because its evaluations say enough."""

from __future__ import annotations

from functools import partial

import pytest

from meta_lr.records.reader import finished, read_record
from meta_lr.testing.compare import difference, leaves
from meta_lr.training.loop import StoppedError, train
from tests.short_runs import SGD, ends, record_of, steps_of, stop_when
from tests.toys import Fixed, Toy


def after(count, asked=None):
    """Enough after so many evaluations; each question is noted."""

    def until(curve):
        if asked is not None:
            asked.append([row["step"] for row in curve])
        return f"enough at step {curve[-1]['step']}" if len(curve) >= count else None

    return until


def evaluations(folder):
    return read_record(folder).evaluations


RUN = partial(train, Toy(), SGD, Fixed(), total_steps=20, eval_every=3)


def test_it_ends_at_the_evaluation_that_says_so_and_is_not_tested(tmp_path):
    asked = []
    outcome = RUN(until=after(2, asked), folder=tmp_path)
    assert (outcome.status, outcome.steps, outcome.cost) == ("enough at step 6", 6, 6.0)
    assert asked == [[3], [3, 6]]
    assert outcome.test == {} and {row["split"] for row in evaluations(tmp_path)} == {"val"}
    assert read_record(tmp_path).end["status"] == "enough at step 6" and finished(tmp_path)
    short = RUN(total_steps=6)
    states = [leaves(run.model.state_dict()) for run in (short, outcome)]
    assert difference(*states) == ""
    assert RUN(until=after(2), folder=tmp_path).status == outcome.status, "it is only read"


def test_it_may_end_with_its_last_step():
    assert RUN(until=after(7)).status == "enough at step 20"
    assert RUN(until=after(8)).status == "finished"


@pytest.mark.parametrize("every", [1, 4])
def test_stopped_at_every_step_it_ends_where_it_would_have(tmp_path, every):
    run = partial(RUN, until=after(3), save_every=every)
    whole = run(folder=tmp_path / "whole")
    for step in range(9):
        with pytest.raises(StoppedError):
            run(folder=tmp_path / "parts", stop=stop_when(1 if step else 0))
    again = run(folder=tmp_path / "parts")
    assert difference(ends(whole), ends(again)) == ""
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")
    assert len(steps_of(tmp_path / "parts")) == 9


def test_killed_before_its_end_row_was_written_it_takes_no_further_step(tmp_path, monkeypatch):
    class DeathError(Exception):
        pass

    def die(self, status, tested):
        raise DeathError

    with monkeypatch.context() as patched:
        patched.setattr("meta_lr.training.loop._Run.end", die)
        with pytest.raises(DeathError):
            RUN(until=after(2), folder=tmp_path / "killed")
    again = RUN(until=after(2), folder=tmp_path / "killed")
    assert again.steps == 6
    RUN(until=after(2), folder=tmp_path / "whole")
    assert record_of(tmp_path / "killed") == record_of(tmp_path / "whole")
