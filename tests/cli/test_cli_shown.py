"""What a run shows: a bar on a terminal, else lines; of one run among many only two."""

import contextlib
import io
import os
import re
import subprocess

import pytest

from meta_lr.cli.progress import watched
from tests.commands import META_LR, SMALL, outcome, own_place, runs, write_checkpoint


@pytest.fixture
def place(tmp_path, monkeypatch):
    return own_place(tmp_path, monkeypatch)


def step(index):
    return {"kind": "step", "step": index, "loss": 2.0, "lr": 0.1, "seconds": index / 100}


def evaluation(index, split="val", weights="current", **metrics):
    where = {"kind": "eval", "step": index, "split": split, "weights": weights}
    return {**where, "loss": 1.5, **metrics, "cost": float(index), "seconds": index / 100}


HEADER = {"kind": "header", "total_steps": 4}
END = {"kind": "end", "status": "finished", "steps": 4, "seconds": 0.04}
TESTED = [
    evaluation(4, "test", "last", accuracy=0.8),
    evaluation(4, "test", "best", accuracy=0.9),
]
ROWS = [HEADER, step(0), step(1), evaluation(2, accuracy=0.7), step(2), step(3), *TESTED, END]


class Terminal(io.StringIO):
    """A stdout that says it is a terminal."""

    def isatty(self):
        return True


def on_a_terminal(monkeypatch, rows, **options):
    """Return what a terminal of 160 columns gets to see of the rows."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    with contextlib.redirect_stdout(Terminal()) as terminal:
        with watched("cosine seed 0", 400, **options) as listen:
            for row in rows:
                listen(row)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())


def test_one_line_per_evaluation_without_a_terminal(capsys):
    with watched("cosine seed 0", 4) as listen:
        for row in ROWS:
            listen(row)
    assert capsys.readouterr().out.splitlines() == [
        "cosine seed 0  begins, 4 steps",
        "cosine seed 0  step 2/4  loss 2.0000  rate 0.1  val loss 1.5000  val accuracy 0.7000  "
        "cost 2  0.0 s",
        "cosine seed 0  step 4/4  test (last) loss 1.5000  test (last) accuracy 0.8000  "
        "cost 4  0.0 s",
        "cosine seed 0  step 4/4  test (best) loss 1.5000  test (best) accuracy 0.9000  "
        "cost 4  0.0 s",
        "cosine seed 0  finished after 4 steps, 0.0 s  test accuracy 0.8000 (last)  "
        "test accuracy 0.9000 (best)",
    ]


def test_one_run_of_many_shows_its_begin_and_its_end(capsys):
    with watched("cosine seed 0", 4, one_of_many=True) as listen:
        for row in ROWS:
            listen(row)
    first, last = capsys.readouterr().out.splitlines()
    assert first == "cosine seed 0  begins, 4 steps"
    assert last.startswith("cosine seed 0  finished after 4 steps, 0.0 s  test accuracy 0.8000")


def test_a_run_that_is_resumed_says_where(capsys):
    with watched("cosine seed 0", 4) as listen:
        listen(step(2))
    assert capsys.readouterr().out == "cosine seed 0  goes on at step 2 of 4 steps\n"


@pytest.mark.parametrize(
    ("metrics", "score"), [({"accuracy": 0.7}, "accuracy 0.7000"), ({}, "loss 1.5000")]
)
def test_the_bar_shows_the_last_value_on_val_once_it_is_known(monkeypatch, metrics, score):
    rows = [step(0), step(100), evaluation(101, **metrics), step(200)]
    bar = r"cosine seed 0 .* 201/400 loss 2.0000  rate 0.1  {}100 steps/s \d:\d\d:\d\d"
    known = on_a_terminal(monkeypatch, rows)
    assert re.search(bar.format(f"val {score}  "), known), known
    assert "step 101" not in known
    unknown = on_a_terminal(monkeypatch, [step(0), step(200)])
    assert re.search(bar.format(""), unknown), unknown


def test_the_bar_shows_the_trials_of_a_search_as_they_end(monkeypatch):
    trial = {"kind": "searching", "step": 100, "trial": 2, "rate": 0.03, "loss": 1.25}
    shown = on_a_terminal(monkeypatch, [step(100), trial])
    assert re.search(r" 100/400 search: trial 3 at rate 0.03: loss 1.2500 ", shown), shown
    failed = on_a_terminal(monkeypatch, [trial | {"loss": None}])
    assert " 100/400 search: trial 3 at rate 0.03: failed " in failed


def test_without_a_terminal_the_log_has_the_search(capsys, caplog):
    trial = {"kind": "searching", "step": 100, "trial": 2, "rate": 0.03, "loss": 1.25}
    with caplog.at_level("INFO"), watched("cosine seed 0", 400) as listen:
        listen(step(99))
        listen(trial)
        listen({"kind": "searching", "step": 100, "stage": 1, "chosen": 0.0123})
        listen({"kind": "searching", "step": 100, "r2": 0.9})
    assert "step 100/400  search: trial 3 at rate 0.03: loss 1.2500" in caplog.text
    assert "step 100/400  search: rate 0.0123 is chosen" in caplog.text
    assert caplog.text.count("search") == 2 and "search" not in capsys.readouterr().out


def test_a_bar_of_one_run_among_many_leaves_a_line(monkeypatch):
    shown = on_a_terminal(monkeypatch, ROWS, one_of_many=True)
    assert "cosine seed 0  finished after 4 steps, 0.0 s  test accuracy 0.8000" in shown
    assert "begins" not in shown


def test_a_transfer_shows_two_lines_per_run_and_logs_all(place, capsys):
    write_checkpoint(place / "mine")
    arguments = ["checkpoint=mine", "total_steps=6", "eval_every=2", "seeds=[1,2]"]
    code, out, err = outcome(capsys, "transfer", *arguments, "baselines=[cosine]")
    assert (code, err) == (0, "")
    begun, ended = ([x for x in out.splitlines() if word in x] for word in ("begins", "finished"))
    assert len(begun) == len(ended) == 6
    assert any(line.startswith("cosine seed 2 peak 0.1  begins, 6 steps") for line in begun)
    assert "step 2/6" not in out
    log = next(place.glob("runs/transfer/*/log.txt")).read_text()
    assert log.count("val accuracy") == 18


def test_one_line_per_epoch_in_the_log_file_and_on_stdout(place, capsys):
    _, out, _ = outcome(capsys, "train", *SMALL)
    log = (runs(place)[0] / "log.txt").read_text().splitlines()
    epochs = [line for line in log if "val loss" in line]
    assert [line.split("step ")[1].split()[0] for line in epochs] == ["10/30", "20/30", "30/30"]
    assert all(line.split("  ", 1)[1] in out for line in log)


@pytest.mark.slow
def test_a_terminal_gets_a_bar_with_loss_rate_speed_and_time_left(tmp_path):
    """Over 10 s: a new process imports torch, trains and draws its report."""
    import pty

    leader, follower = pty.openpty()
    command = [*META_LR, "train", *SMALL, "epochs=200"]
    environment = os.environ | {"COLUMNS": "160", "TERM": "xterm"}
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # what reading a closed terminal raises
        while chunk := os.read(leader, 4096):
            shown += chunk
    assert process.wait() == 0
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown).decode()
    assert re.search(
        r"constant seed 0 .* \d+/2000 "
        r"loss 0\.\d{4}  rate 0\.1  val loss 0\.\d{4}  [\d,]+ steps/s \d:\d\d:\d\d",
        text,
    ), text[-3000:]
    assert text.startswith("meta-lr train: starting ...")
    assert "constant on quadratic, seed 0:\r\n  test loss" in text
