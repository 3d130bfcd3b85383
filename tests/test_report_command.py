"""`meta-lr report` as a command: readers that leave early, and targets nobody can reach."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.commands import META_LR, outcome
from tests.report_runs import methods


@pytest.fixture
def runs(tmp_path):
    return methods(tmp_path / "runs", {"learned": [0.7, 0.8], "cosine": [0.9, 0.85]})


def test_the_tables_and_the_page_are_printed(runs, capsys):
    code, out, _ = outcome(capsys, "report", str(runs))
    assert code == 0 and out.startswith("## digits, MLP, sgd, 60 steps\n\nHighest mean")
    assert out.endswith(f"report: {runs / 'report' / 'report.html'}\n")


def test_a_reader_that_stops_early_is_no_error(runs):
    reading, writing = os.pipe()
    os.close(reading)  # as after `| head`: nobody reads any more
    command = [*META_LR, "report", str(runs)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=100, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (runs / "report" / "report.html").exists()


def test_a_target_in_per_cent_is_refused_before_anything_is_written(runs, capsys):
    code, _, err = outcome(capsys, "report", str(runs), "--target", "95")
    assert code == 2 and not (runs / "report").exists()
    assert err == (
        "meta-lr: the target 95 is no accuracy, by which digits is compared; "
        "pass a fraction above 0 and up to 1 (95 % is 0.95)\n"
    )
    code, out, _ = outcome(capsys, "report", str(runs), "--target", "0.75")
    assert code == 0 and "Validation accuracy % 75.00 (as asked for)" in out
