"""What a run forwards: Weights & Biases, real and faked."""

import os
import subprocess
import sys
import types

import pytest

from meta_lr.cli import loggers
from tests.commands import META_LR, SMALL, outcome, own_place


@pytest.fixture
def place(tmp_path, monkeypatch):
    return own_place(tmp_path, monkeypatch)


class FakeWandb(types.SimpleNamespace):
    """As much of wandb as is used; it keeps what it gets."""

    Error = RuntimeError

    def __init__(self):
        super().__init__(started=[], rows=[], summary={}, ended=0)
        self.Settings = lambda **options: options

    def init(self, **options):
        self.started.append(options)
        return self

    def define_metric(self, name, step_metric):
        assert (name, step_metric) == ("*", "step")

    def log(self, row):
        self.rows.append(row)

    def finish(self):
        self.ended += 1


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "netrc"


def test_wandb_gets_thinned_steps_all_evaluations_and_the_end(place, monkeypatch, capsys, no_key):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    arguments = ["train", *SMALL, "logger=wandb", "logger.every=7"]
    arguments += ["record.angle=true", "record.angle_every=5"]
    assert outcome(capsys, *arguments)[0] == 0
    (started,) = fake.started
    assert (started["mode"], started["project"]) == ("offline", "meta_lr")
    assert started["config"]["method"] == "constant"
    steps = [row["step"] for row in fake.rows if "train/loss" in row]
    assert steps == [1, 8, 15, 22, 29]
    assert [row["step"] for row in fake.rows if "val/loss" in row] == [10, 20, 30]
    assert [row["step"] for row in fake.rows if "train/angle" in row] == [15, 20, 25, 30]
    assert {"test_last/loss", "test_best/loss"} <= {key for row in fake.rows for key in row}
    assert fake.summary == {"status": "finished"} and fake.ended == 1
    assert outcome(capsys, *arguments)[0] == 0
    assert len(fake.started) == 1, "a run that was finished before starts nothing"


def test_wandb_is_online_only_for_who_is_logged_in(monkeypatch, no_key):
    assert loggers._mode() == "offline"
    no_key.write_text("machine api.wandb.ai login user password secret\n")
    no_key.chmod(0o600)
    assert loggers._mode() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert loggers._mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert loggers._mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert loggers._mode() == "disabled"


def test_wandb_that_is_missing_or_does_not_start_is_one_line(place, monkeypatch, capsys, no_key):
    monkeypatch.setitem(sys.modules, "wandb", None)
    code, _, err = outcome(capsys, "train", *SMALL, "logger=wandb")
    assert code == 2
    assert err == (
        "meta-lr: logger=wandb needs the package wandb; pip install wandb, or leave logger=jsonl\n"
    )
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)

    def fail(**options):
        raise fake.Error("no such project")

    fake.init = fail
    code, _, err = outcome(capsys, "train", *SMALL, "logger=wandb", "seed=1")
    assert code == 2
    assert err == (
        "meta-lr: wandb did not start (no such project); "
        "`wandb login`, WANDB_MODE=offline, or logger=jsonl\n"
    )


@pytest.mark.slow
def test_real_wandb_offline(tmp_path):
    """Over 10 s: a new process imports torch and wandb, trains and draws its report."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    done = subprocess.run(
        [*META_LR, "train", *SMALL, "logger=wandb"],
        cwd=tmp_path,
        env=environment | {"NETRC": str(tmp_path / "none"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("runs/train/*/wandb/offline-run-*/*.wandb"))) == 1
