"""The jobs of a sweep: the score that a sweeper gets, the table at the end, other processes."""

import contextlib
import io
import math
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from meta_lr.cli import sweep
from meta_lr.cli.sweep import Job, JobResult, mean
from meta_lr.cli.sweep_table import table
from meta_lr.records.reader import read_record, read_rows
from tests.cli.test_meta_train_episodic import TINY
from tests.commands import SMALL, outcome, own_place, runs, write_checkpoint

VALUES = []  # what the sweeper got


def searching():
    """Return a class that stands in for a sweeper such as Optuna's: it wants numbers of jobs."""
    Plugins.instance()  # looks for plugins, and loads Hydra's own again
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    class Searching(BasicSweeper):
        def sweep(self, arguments):
            returned = [job.return_value for batch in super().sweep(arguments) for job in batch]
            VALUES[:] = [float(value) for value in returned if value is not None]
            if not VALUES:
                raise ValueError("No trials are completed yet.")

    return Searching


@pytest.fixture
def place(tmp_path, monkeypatch):
    def instantiate(plugins, *, config, **options):
        sweeper = searching()(None)
        sweeper.setup(config=config, **options)
        return sweeper

    monkeypatch.setattr(Plugins, "instantiate_sweeper", instantiate)
    Plugins.instance()  # this registers the sweepers that are installed
    group = ConfigStore.instance().repo["hydra"]["sweeper"]
    before = dict(group)
    node = {"_target_": "stand_in", "direction": "minimize", "n_trials": 7}
    ConfigStore.instance().store(group="hydra/sweeper", name="searching", node=node)
    yield own_place(tmp_path, monkeypatch)
    group.clear()
    group.update(before)


def searched(capsys, command, *arguments):
    """Return the exit code, the values that the sweeper got, and what was printed."""
    VALUES.clear()
    code, out, err = outcome(capsys, command, "-m", "hydra/sweeper=searching", *arguments)
    return code, [*VALUES], out, err


# --------------------------------------------------------------------------------------- scores


def best_val_loss(folder):
    rows = read_rows(folder)
    return min(r["loss"] for r in rows if r["kind"] == "eval" and r["split"] == "val")


def test_a_sweeper_gets_the_lowest_val_loss_of_each_job_and_the_same_from_a_rerun(place, capsys):
    sweeps = ["train", *SMALL, "lr.peak=0.1,0.3"]
    code, values, out, err = searched(capsys, *sweeps)
    assert (code, err) == (0, "")
    assert sorted(values) == sorted(best_val_loss(folder) for folder in runs(place))
    assert "job 1 of 7: " in out, "the sweeper has said how many trials there are"
    _, again, out, _ = searched(capsys, *sweeps)
    assert again == values and out.count("was finished before") == 2


def test_of_a_classifier_a_sweeper_gets_the_error(place, capsys):
    _, values, _, _ = searched(capsys, "train", "task=digits", "total_steps=6", "eval_every=2")
    rows = [r for r in read_record(runs(place)[0]).evaluations if r["split"] == "val"]
    assert values == [1 - max(row["accuracy"] for row in rows)]


def test_a_sweeper_that_maximises_gets_the_negated_score(place, capsys):
    sweeps = ["train", *SMALL, "lr.peak=0.1,0.3"]
    values = searched(capsys, *sweeps)[1]
    maximised = searched(capsys, *sweeps, "hydra.sweeper.direction=maximize")[1]
    assert maximised == [-value for value in values]


def test_several_directions_are_refused(place, capsys):
    several = "hydra.sweeper.direction=[minimize,maximize]"
    code, _, _, err = searched(capsys, "train", *SMALL, several)
    assert code == 2 and not runs(place)
    assert err.splitlines()[-1] == (
        "meta-lr: hydra.sweeper.direction is a list; a job returns one score, so it needs "
        "minimize or maximize"
    )


def test_a_job_that_diverged_is_infinitely_bad_and_one_that_failed_has_no_score(place, capsys):
    code, values, _, err = searched(capsys, "train", *SMALL, "lr.peak=1e30,-1,0.1")
    assert code == 1 and err.splitlines()[-1] == "meta-lr: 1 of 3 jobs failed"
    assert values[0] == math.inf and values[1] < 1 and len(values) == 2
    _, values, _, _ = searched(
        capsys, "train", *SMALL, "lr.peak=1e30", "hydra.sweeper.direction=maximize"
    )
    assert values == [-math.inf]


def test_a_sweeper_that_gives_up_still_ends_with_the_table(place, capsys):
    code, _, out, err = searched(capsys, "train", *SMALL, "lr.peak=-1,-2")
    assert code == 1 and out.count("failed") == 2
    assert err.splitlines()[-2:] == [
        "meta-lr: the sweep ended early: No trials are completed yet.",
        "meta-lr: 2 of 2 jobs failed",
    ]


LEARN = ["debug=tiny", "model=mlp", "model.hidden=[4]", "net.hidden=4", "seed=1,2"]
VERIFY = ["task=quadratic", "target=0.5", "lr=fix", "lr.k0=0.1,0.2", "epochs=3", "seeds=[0]"]
TRANSFER = ["checkpoint=mine", "total_steps=4", "seeds=[1],[2]", "baselines=[cosine]"]


@pytest.mark.parametrize(
    ("command", "arguments", "measure"),
    [
        ("meta-train", LEARN, "val error"),
        ("meta-train-episodic", [*TINY[1:], "seed=1,2"], "held-out score"),
        ("verify", VERIFY, "cost to target"),
        ("transfer", TRANSFER, "val error"),
    ],
)
def test_other_commands_have_a_score_too(place, capsys, command, arguments, measure):
    write_checkpoint(place / "mine")
    code, values, out, err = searched(capsys, command, *arguments, "threads=1")
    assert code == 0, err
    assert len(values) == 2 and all(math.isfinite(value) for value in values)
    assert measure in out


def test_the_score_of_runs_with_several_seeds_is_their_mean():
    results = [JobResult(0, "finished", score, "val error") for score in (0.1, 0.3)]
    assert mean(results) == JobResult(0, "finished", 0.2, "val error")
    diverged = JobResult(3, "diverged at step 7", math.inf, "val error")
    assert mean([*results, diverged]) == JobResult(0, "diverged at step 7", math.inf, "val error")


# ---------------------------------------------------------------------------------------- table


def job(number, score=None, *overrides, status="finished", failed=False, folder="0123456789"):
    result = None if failed else JobResult(0, status, score, "val error")
    return Job(number, overrides, Path("runs/train"), Path("runs/train", folder), result)


def drawn(jobs, **options):
    """Return the lines of a table."""
    return table(jobs, **options).strip("\n").splitlines()


def test_the_table_has_the_best_first_then_diverged_then_failed():
    jobs = [
        job(1, None, "lr.peak=-1", "seed=3", failed=True),
        job(2, math.inf, "lr.peak=1e30", "seed=3", status="diverged at step 1"),
        job(3, 0.25, "lr.peak=0.1", "seed=3"),
        job(4, 0.125, "lr.peak=0.2", "seed=3"),
    ]
    assert drawn(jobs) == [
        " job  lr.peak           val error  in runs/train",
        " ───────────────────────────────────────────────",
        "   4  0.2                  0.1250     0123456789",
        "   3  0.1                  0.2500     0123456789",
        "   2  1e30     diverged at step 1     0123456789",
        "   1  -1                   failed              -",
    ]


def test_a_score_that_is_no_number_comes_after_the_numbers():
    jobs = [job(1, math.nan, "a=1", status="finished"), job(2, 9.0, "a=2"), job(3, -2e9, "a=3")]
    first = [line.split()[0] for line in drawn(jobs)[2:]]
    assert first == ["3", "2", "1"]
    assert jobs[0].value("minimize") == math.inf and jobs[0].value("maximize") == -math.inf


def test_a_narrow_table_folds_long_values_and_loses_none():
    values = ["lrPolicy_TRI+k0_0.01+k1_0.1+l_40" * 3, "lrPolicy_FIX+k0_0.5" * 5]
    jobs = [job(n, n / 8, f"lr.policy={value}", f"seed={n}") for n, value in enumerate(values)]
    lines = drawn(jobs, width=60)
    assert max(map(len, lines)) <= 60
    assert "runs/train" not in lines[0], "the folders are left out first"
    start, end = lines[0].index("lr.policy"), lines[0].index("seed")
    folded = [line[start:end].strip() for line in lines[2:]]
    assert "".join(folded) == "".join(values)


def test_no_value_can_steer_the_terminal_or_the_table():
    jobs = [job(1, 0.5, "name=\x1b[31m[red]a\n[/b]", folder="[bold]\x07"), job(2, 0.6, "name=b")]
    text = "\n".join(drawn(jobs))
    assert r"\x1b[31m[red]a\n[/b]" in text and r"[bold]\x07" in text
    assert len(text.splitlines()) == 4


def test_a_sweep_prints_its_table(place, capsys):
    _, out, _ = outcome(capsys, "train", "-m", *SMALL, "lr.peak=0.1,0.3")
    assert "job 1 of 2: " in out and "job 2 of 2: " in out
    heading = next(line for line in out.splitlines() if line.startswith(" job "))
    assert heading.split() == ["job", "lr.peak", "val", "loss", "in", "runs/train"]
    assert " job  " not in outcome(capsys, "train", "-m", *SMALL, "lr.peak=0.1")[1], "one job"


# ------------------------------------------------------------------------- processes and threads


def send(connection, home):
    value = sweep.note(job(2, 0.5, "seed=2"), "maximize", home)
    connection.send_bytes(pickle.dumps({"returned": value}))


def test_the_job_of_another_process_comes_home_with_its_value():
    sweep.begin()
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=send, args=(theirs, sweep.this_process())
    )
    process.start()
    assert ours.poll(60)
    sent = ours.recv_bytes()
    process.join()
    assert sweep.ended() == []
    assert pickle.loads(sent) == {"returned": -0.5}
    assert sweep.ended() == [job(2, 0.5, "seed=2")]
    sweep.begin()


def test_jobs_in_threads_keep_their_own_results():
    sweep.begin()
    here = sweep.this_process()
    jobs = [job(number, number / 64, f"seed={number}") for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda one: sweep.note(one, "minimize", here), jobs))
    assert values == [number / 64 for number in range(64)]
    assert sweep.ended() == jobs
    sweep.begin()
    assert sweep.ended() == []


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_lines_of_a_job_in_another_process_begin_with_its_number():
    with contextlib.redirect_stdout(Terminal()) as screen, sweep.numbered(3):
        print("a")
        print("b", end="")
        print("c\nd", end="")
    assert screen.getvalue() == "[3] a\n[3] bc\n[3] d\n"


def test_a_job_in_another_process_draws_no_bar(place, capsys, monkeypatch):
    from meta_lr.cli import jobs

    home = "elsewhere 1"
    real = jobs._Jobs
    monkeypatch.setattr(jobs, "_Jobs", lambda *arguments: real(*arguments, process=home))
    with contextlib.redirect_stdout(Terminal()) as screen:
        outcome(capsys, "train", "-m", *SMALL, "seed=0,1")
    shown = screen.getvalue()
    assert "\x1b" not in shown and "[1] constant seed 0  begins, 30 steps\n" in shown
    assert "[2] constant seed 1  begins, 30 steps\n" in shown


def test_a_run_in_a_thread_draws_no_bar(monkeypatch):
    from meta_lr.cli.progress import watched

    def watch():
        with watched("cosine", 4) as listen:
            listen({"kind": "step", "step": 0, "loss": 1.0, "lr": 0.1, "seconds": 0.1})

    with contextlib.redirect_stdout(Terminal()) as screen, ThreadPoolExecutor(1) as pool:
        pool.submit(watch).result()
    assert screen.getvalue() == "cosine  begins, 4 steps\n"


def test_a_process_has_another_name_on_another_machine(monkeypatch):
    here = sweep.this_process()
    assert here.split()[-1] == str(os.getpid())
    monkeypatch.setattr("platform.node", lambda: "another")
    assert sweep.this_process() != here
