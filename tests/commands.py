"""How the tests run commands: in this process or as another one, in a folder of their own."""

import sys
from pathlib import Path

from meta_lr import checkpoint
from meta_lr.cli import pages
from meta_lr.cli.main import main
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.self_tuning.schedule import NETWORK, SelfTuning
from meta_lr.records.reader import read_rows
from tests.times import untimed

META_LR = [sys.executable, "-m", "meta_lr"]
SMALL = ["task=quadratic", "task.steps_per_epoch=10", "lr=constant", "epochs=3"]


def own_place(folder, monkeypatch):
    """Make `folder` the working directory, and let no command draw its report."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(pages, "page_of", lambda folder: "page")
    monkeypatch.setattr(pages, "tables_and_page", lambda folder: ("table", "page"))
    return folder


def outcome(capsys, *arguments):
    """Run a command in this process; return its exit code and what it printed."""
    code = main(arguments)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def runs(place, command="train"):
    """Return the folders of the runs of a command."""
    return sorted(path.parent for path in Path(place, "runs", command).glob("*/records.jsonl"))


def timeless(folder):
    """Return a record without what differs between two equal runs."""
    rows = read_rows(folder)
    rows[0]["config"].pop("logger")
    return untimed(rows)


def write_checkpoint(folder, *, net=None, seed=0):
    """Write a checkpoint of untrained weights, and return its folder."""
    net = net or LSTM(hidden=4)
    learned = Learned(net, [net.init(seed)], 0.1, family="sgd", loss_range=(0.1, 3.0))
    checkpoint.save(folder, learned, trained_on={"cost": 10.0}, card="# A card\n")
    return folder


def write_self_tuning(folder, *, net=NETWORK, seed=0):
    """Write a checkpoint of a schedule that finds its own learning rate; return its folder."""
    schedule = SelfTuning(net.init(seed), net)
    checkpoint.save(folder, schedule, trained_on={"cost": 10.0}, card="# A card\n")
    return folder
