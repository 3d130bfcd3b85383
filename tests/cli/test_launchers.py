"""Sweeps in other processes: submitit's for a cluster, joblib's for one machine."""

import os
import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from meta_lr.cli import launchers
from tests.commands import META_LR, outcome, runs, timeless

QUICK = ["task=quadratic", "lr=constant", "total_steps=20"]
LONG = [
    "task=quadratic",
    "task.steps_per_epoch=100",
    "lr=constant",
    "total_steps=6000",
    "threads=1",
]
SLURM = Path(__file__).parent / "slurm"  # programs that stand in for those of Slurm


def installed(launcher):
    return find_spec("hydra_plugins") and find_spec(f"hydra_plugins.hydra_{launcher}_launcher")


needs_submitit = pytest.mark.skipif(
    not installed("submitit"), reason="hydra-submitit-launcher is not installed (extra cluster)"
)
needs_joblib = pytest.mark.skipif(
    not installed("joblib"), reason="hydra-joblib-launcher is not installed (extra cluster)"
)
slow = pytest.mark.slow


# --------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("launcher", ["joblib", "submitit_slurm"])
def test_a_launcher_that_is_missing_is_named_with_its_extra(launcher):
    error = ValueError(f"In 'hydra/launcher/x': Could not load 'hydra/launcher/{launcher}'")
    missing = launchers.missing(error)
    assert missing is not None
    assert missing.name == f"hydra_{launcher.partition('_')[0]}_launcher"
    assert launchers.missing(ValueError("Could not find 'hydra/launcher/ray'")) is None


@pytest.mark.skipif(bool(installed("submitit")), reason="hydra-submitit-launcher is installed")
def test_a_sweep_without_the_launcher_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = outcome(capsys, "train", "-m", "hydra/launcher=slurm", *QUICK)
    assert code == 2 and err == (
        "meta-lr: hydra_submitit_launcher is not installed; it comes with the extra cluster: "
        "pip install 'meta_lr[cluster]', or '.[cluster]' in a checkout\n"
    )


def test_a_launcher_of_hydra_can_still_be_chosen(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, err = outcome(capsys, "train", "-m", "hydra/launcher=basic", *QUICK)
    assert (code, err) == (0, "") and "job 1 of 1" in out


def test_what_a_job_raises_is_not_what_a_launcher_raises():
    assert not launchers.raised(RuntimeError("submitit"))
    lost = type("LostError", (RuntimeError,), {"__module__": "submitit.core.utils"})
    assert launchers.raised(lost("it is lost"))


def test_of_a_job_that_was_lost_the_log_is_left_out():
    error = RuntimeError("Job 7\nhas no output\nNo error stream produced. Look at\n-----------\na")
    expected = (
        "Job 7 has no output; other jobs may go on; the same command goes on where they ended"
    )
    assert launchers.told(error) == expected


# --------------------------------------------------------------------------------------- sweeps


def sweep(place, launcher, *arguments, **options):
    """Start a sweep over two seeds; its output goes to the file `printed` in `place`."""
    command = [*META_LR, "train", "-m", f"hydra/launcher={launcher}", *arguments, "seed=0,1"]
    with (place / "printed").open("w") as printed:
        return subprocess.Popen(
            command, cwd=place, stdout=printed, stderr=subprocess.STDOUT, **options
        )


def ended(place, process):
    """Wait for a sweep; return its exit code and what it printed."""
    return process.wait(300), (place / "printed").read_text()


def started(place, count):
    """Wait until so many runs have been saved once; return their folders."""
    until = time.monotonic() + 200
    while time.monotonic() < until:
        saved = [folder for folder in runs(place) if (folder / "state.pt").exists()]
        if len(saved) == count:
            return saved
        time.sleep(0.02)
    raise AssertionError((place / "printed").read_text())


def process_of(folder):
    return int((folder / "lock").read_text())


def undisturbed(place, monkeypatch, capsys):
    """Return the records of the same sweep in this process, by folder."""
    (place / "alone").mkdir()
    monkeypatch.chdir(place / "alone")
    assert outcome(capsys, "train", "-m", *LONG, "seed=0,1")[0] == 0
    return {folder.name: timeless(folder) for folder in runs(place / "alone")}


def records(place):
    return {folder.name: timeless(folder) for folder in runs(place)}


@slow
@needs_joblib
def test_joblib_runs_a_sweep(tmp_path):
    """Slow, as launchers start new processes, and each of them imports torch."""
    process = sweep(tmp_path, "joblib", "hydra.launcher.n_jobs=2", *QUICK)
    code, printed = ended(tmp_path, process)
    assert code == 0, printed
    assert "[2] constant seed 1  begins" in printed and " job  seed  val loss" in printed


@slow
@needs_submitit
def test_a_sweep_whose_job_is_killed_goes_on(tmp_path, monkeypatch, capsys):
    """Slow, as launchers start new processes; and the jobs are killed in the middle of a run."""
    process = sweep(tmp_path, "processes", *LONG)
    first, second = started(tmp_path, 2)
    os.kill(process_of(first), signal.SIGKILL)
    os.kill(process_of(second), signal.SIGTERM)
    code, printed = ended(tmp_path, process)
    assert code == 1
    (line,) = [line for line in printed.splitlines() if line.startswith("meta-lr: ")]
    assert "the sweep ended early: Job " in line
    assert line.endswith("; other jobs may go on; the same command goes on where they ended")

    code, printed = ended(tmp_path, sweep(tmp_path, "processes", *LONG))
    assert code == 0 and " job  seed  val loss" in printed
    logs = "".join(log.read_text() for log in tmp_path.glob("runs/train/.submitit/*/*_log.out"))
    assert logs.count("goes on at step") == 2
    assert records(tmp_path) == undisturbed(tmp_path, monkeypatch, capsys)


@slow
@needs_submitit
def test_on_slurm_a_job_near_its_time_limit_saves_and_is_put_into_the_queue_again(
    tmp_path, monkeypatch, capsys
):
    """Slow, as launchers start new processes; and a job is stopped in the middle of its run."""
    shutil.copytree(SLURM, tmp_path / "bin")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    options = ["hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=1", *LONG]
    process = sweep(tmp_path, "slurm", *options, env=os.environ | {"PATH": path})
    first, _ = started(tmp_path, 2)
    os.kill(process_of(first), signal.SIGUSR2)
    code, printed = ended(tmp_path, process)
    assert code == 0 and " job  seed  val loss" in printed, printed
    logs = "".join(log.read_text() for log in tmp_path.glob("runs/train/.submitit/*/*_log.out"))
    assert logs.count("goes on at step") == 1
    script = (tmp_path / "submitted").read_text()
    for option in ("partition=gpu", "gpus-per-node=1", "signal=USR2@120", "array=0-1%2"):
        assert f"#SBATCH --{option}\n" in script
    assert records(tmp_path) == undisturbed(tmp_path, monkeypatch, capsys)
