"""`meta-lr meta-train-episodic`: what it shows, keeps and forwards."""

import contextlib
import json
import re
import sys

import pytest
import torch

from meta_lr import checkpoint
from meta_lr.bilevel.trainer import STATE
from meta_lr.cli.main import main
from meta_lr.cli.progress import RECENT, Updates, shown
from meta_lr.methods.self_tuning.schedule import SelfTuning
from tests.cli.test_cli_shown import Terminal
from tests.cli.test_cli_wandb import FakeWandb
from tests.commands import outcome, own_place, runs

TINY = [
    *("meta-train-episodic", "updates=2", "episodes=1", "pool=1", "held_out=1", "evaluate_every=1"),
    *("problems.widths=[4,4]", "problems.depths=[1,1]", "problems.lengths=[4,5]"),
    *("net=mlp", "net.hidden=[2]", "start=linear", "objective=mean", "window=fixed"),
    *("window.steps=3", "estimator.pairs=1"),
]
SPENT = {"cost": 1234.0, "seconds": 5.0}
HEADER = {"kind": "header"}
END = {"kind": "end", "status": "finished", "updates": 3, **SPENT}


def update(number, score, best=0.5):
    return {"kind": "update", "update": number, "score": score, "best": best, **SPENT}


def held_out(number, score, best):
    return {"kind": "held_out", "update": number, "score": score, "best": best, **SPENT}


ROWS = [HEADER, held_out(0, 0.5, 0.5), update(1, 0.3), update(2, float("nan")), update(3, 0.1)]
ROWS += [held_out(3, -0.25, -0.25), END]


@pytest.fixture
def place(tmp_path, monkeypatch):
    return own_place(tmp_path, monkeypatch)


def test_lines_without_a_terminal(capsys):
    with shown("title", 3, Updates(3)) as listen:
        for row in ROWS:
            listen(row)
    assert capsys.readouterr().out.splitlines() == [
        "title  begins, 3 updates",
        "title  update 0/3  score -  held-out +0.5000 (best +0.5000)  cost 1,234  5.0 s",
        "title  update 3/3  score +0.2000  held-out -0.2500 (best -0.2500)  cost 1,234  5.0 s",
        "title  finished after 3 updates, 5.0 s",
    ]


def test_a_meta_training_that_is_resumed_says_where(capsys):
    with shown("title", 9, Updates(9)) as listen:
        listen(update(4, 0.1))
    assert capsys.readouterr().out == "title  goes on at update 4 of 9 updates\n"


def test_a_bar_shows_running_score_best_and_time_left(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    with contextlib.redirect_stdout(Terminal()) as terminal:
        with shown("title", 40, Updates(40)) as listen:
            for row in [*ROWS[:2], update(1, 9.0), *(update(2 + i, 0.1) for i in range(RECENT))]:
                listen(row)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    last = r"title .* 21/40 score \+0.1000  held-out best \+0.5000 (\d:\d\d:\d\d|-:--:--)"
    assert re.search(last, text), text
    assert "update 0/40" not in text


def test_the_command_keeps_what_it_learned_and_is_not_repeated(place, capsys):
    code, out, err = outcome(capsys, *TINY, "checkpoint=mine")
    assert (code, err) == (0, "")
    (folder,) = runs(place, "meta_train_episodic")
    lines = out.splitlines()
    assert lines[0] == "meta-training on digits seed 0  begins, 2 updates"
    looks = [line.split("update ")[1][:3] for line in lines if "  held-out " in line]
    assert looks == ["0/2", "1/2", "2/2"]
    assert {
        "report: page",
        f"checkpoint: {folder.relative_to(place)}/checkpoint ({fingerprint(folder)})",
        f"checkpoint: mine ({fingerprint(folder)})",
    } < set(lines)
    (part,) = torch.load(folder / STATE, weights_only=True)["parts"]
    for kept in (folder / "checkpoint", place / "mine"):
        (phi,) = checkpoint.load(kept)[0].stages
        assert all(torch.equal(a, b) for a, b in zip(phi, part["best"], strict=True))
    log = (folder / "log.txt").read_text()
    assert all(line in log for line in lines[:5])

    record = (folder / "records.jsonl").read_bytes()
    code, out, err = outcome(capsys, *TINY, "checkpoint=mine", "threads=2", "save_every=7")
    assert (code, err) == (0, "")
    first, second, *_ = out.splitlines()
    assert first == "meta-training on digits seed 0  was finished before and is kept as it is"
    assert second.startswith("meta-training on digits seed 0: best on 1 held-out problems ")
    assert (folder / "records.jsonl").read_bytes() == record


def fingerprint(folder):
    return json.loads((folder / "checkpoint" / "config.json").read_text())["fingerprint"]


def test_wandb_gets_updates_and_looks_at_the_held_out_problems(place, monkeypatch, capsys):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert outcome(capsys, *TINY, "logger=wandb", "logger.every=1")[0] == 0
    assert [row["step"] for row in fake.rows if "update/score" in row] == [1, 2]
    assert [row["step"] for row in fake.rows if "held_out/best" in row] == [0, 1, 2]
    assert fake.started[0]["config"]["command"] == "meta-train-episodic"
    assert fake.summary == {"status": "finished"} and fake.ended == 1


def test_the_command_learns_a_schedule_that_finds_its_own_scale(place, capsys):
    short = ["updates=1", "held_out=2", "evaluate_every=1", "estimator.pairs=2", "episodes=1"]
    arguments = ["meta-train-episodic", "experiment=self_tuning", *short]
    assert main([*arguments, "problems.lengths=[4,6]", "checkpoint=mine"]) == 0
    assert "use it:  meta_lr.load_pretrained('mine')" in capsys.readouterr().out
    found = checkpoint.load_pretrained("mine")
    assert isinstance(found, SelfTuning)
    assert "finds its own learning rate" in (place / "mine" / "README.md").read_text()


def test_the_command_learns_it_through_unrolled_inner_loops(place, capsys):
    short = ["updates=2", "held_out=1", "evaluate_every=2", "episodes=1", "objective=mean"]
    windows = ["estimator=truncated_unroll", "window=fixed", "window.steps=3"]
    lengths = ["curriculum=lengths", "curriculum.shortest=4", "curriculum.longest=[5,5,6]"]
    arguments = ["meta-train-episodic", "experiment=self_tuning", *short, *windows, *lengths]
    assert main([*arguments, "problems.lengths=[4,5]", "objective.every=2"]) == 0
    (folder,) = runs(place, "meta_train_episodic")
    learned = checkpoint.load(folder / "checkpoint")[0]
    (part,) = torch.load(folder / STATE, weights_only=True)["parts"]
    first = learned.net.init(0, "small")
    assert isinstance(learned, SelfTuning) and part["update"] == 2 and part["num_diverged"] == 0
    assert not all(map(torch.equal, part["phi"], first))


def test_a_schedule_with_a_peak_can_be_learned_on_varied_problems(place):
    short = ["updates=1", "episodes=1", "pool=1", "held_out=1", "estimator.pairs=1"]
    varied = ["problems=varied", "problems.lengths=[4,5]", "problems.networks=[mlp]"]
    net = ["net=mlp", "net.hidden=[2]", "start=linear", "window=fixed", "window.steps=5"]
    assert main(["meta-train-episodic", *short, *varied, *net]) == 0
    (card,) = place.rglob("checkpoint/README.md")
    assert "| nesterov | " in card.read_text()
