"""`meta-lr transfer` and `meta-train`: the same data and scale for all; what they do not take."""

import math
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from meta_lr import checkpoint as checkpoints
from meta_lr.cli.conf_files import conf_dir
from meta_lr.cli.family import optimizer_choice
from meta_lr.cli.main import main
from meta_lr.cli.parts import build
from meta_lr.cli.transfer import _gamma
from meta_lr.methods.mlr_snet.gamma import InitialLossGamma
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.networks.mlp import MLP
from meta_lr.optim import rules
from meta_lr.records.reader import read_record, read_rows
from tests.commands import own_place
from tests.image_sets import write_images


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A working directory with a checkpoint that was meta-trained in it, for six steps."""
    own_place(tmp_path, monkeypatch)
    assert main(["meta-train", "debug=tiny", "checkpoint=mine", "lr.period=2", "net.hidden=4"]) == 0
    return Path("mine")


TINY = ["transfer", "checkpoint=mine", "debug=tiny", "model.hidden=[8]"]


@pytest.mark.filterwarnings("ignore:the loss")  # six steps see few losses
def test_the_command_compares_on_the_same_data_and_is_repeated_for_nothing(checkpoint, capsys):
    arguments = [*TINY, "seeds=[3,4]", "baselines=[cosine,constant]", "tune.peaks=[0.01,0.1]"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[:4] == [
        "learned          peak 0.2, not tuned (gamma: its rate at full output)",
        "three_constants  no peak (the learned run's mean rate in each third of it)",
        "cosine           peak tuned on val over 0.01, 0.1",
        "constant         peak tuned on val over 0.01, 0.1",
    ]
    assert "cosine: tuned peak 0.1 for 12 steps, the edge of the grid: " in out
    assert out.endswith("table\nreport: page\n")

    (folder,) = (path for path in Path("runs/transfer").iterdir() if "tuning" not in path.name)
    rows = {path.parent: read_rows(path.parent) for path in folder.rglob("records.jsonl")}
    methods = ("learned", "three_constants", "cosine", "constant")
    assert {str(p.relative_to(folder)) for p in rows} == {
        f"{method}/seed-{seed}" for method in methods for seed in (3, 4)
    }
    heads = {method: rows[folder / method / "seed-3"][0] for method in methods}
    assert all(h["command"] == "transfer" and h["method"] == m for m, h in heads.items())
    assert len(heads["learned"]["checkpoint"]) == 16
    assert heads["learned"]["meta_training_cost"] == 9.0  # six steps, three on meta batches
    assert "checkpoint" not in heads["three_constants"] and "checkpoint" not in heads["cosine"]
    assert heads["cosine"]["search_cost_before"] == 12.0
    scales = [(heads[method]["peak"], heads[method]["tuned"]) for method in methods]
    assert scales == [(0.2, False), (None, None), (0.1, True), (0.1, True)]
    assert heads["cosine"]["config"]["lr"]["peak"] == 0.1
    assert heads["cosine"]["config"]["seed"] == heads["cosine"]["config"]["task"]["seed"] == 3

    first = [rows[folder / method / "seed-3"][1]["loss"] for method in methods]
    assert first == [first[0]] * 4, "the same first batch and the same first weights"
    assert first[0] != rows[folder / "cosine" / "seed-4"][1]["loss"]
    assert [row["cost"] for row in rows[folder / "cosine" / "seed-3"] if row["kind"] == "end"] == [
        6
    ]

    before = {path: path.read_bytes() for path in Path("runs").rglob("records.jsonl")}
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("was finished before") == 12
    assert {path: path.read_bytes() for path in Path("runs").rglob("records.jsonl")} == before


def heads(place=Path("runs/transfer")):
    """Return the headers of the runs of one transfer, by method."""
    rows = [read_record(path.parent).header for path in place.rglob("records.jsonl")]
    return {row["method"]: row for row in rows}


@pytest.mark.filterwarnings("ignore:the loss")
@pytest.mark.parametrize(
    ("overrides", "gamma", "peak", "why"),
    [
        ([], 0.2, 0.2, "as the learned schedule's"),
        (["optimizer=adam", "learned.peak=0.003"], 0.003, 0.003, "as the learned schedule's"),
        (["learned.fallback=cosine"], 0.2, 0.2, "as the learned schedule's"),
        (["peak=0.05"], 0.2, 0.05, "peak="),
    ],
)
def test_all_methods_have_the_learned_schedules_scale_unless_told(
    checkpoint, capsys, overrides, gamma, peak, why
):
    capsys.readouterr()
    baselines = ["seeds=[0]", "baselines=[cosine,mlr_snet_online]"]
    assert main([*TINY, *baselines, *overrides]) == 0
    assert capsys.readouterr().out.splitlines()[:4] == [
        f"learned          peak {gamma:g}, not tuned (gamma: its rate at full output)",
        "three_constants  no peak (the learned run's mean rate in each third of it)",
        f"cosine           peak {peak:g}, not tuned ({why})",
        "mlr_snet_online  no peak (it sets its own rate)",
    ]
    found = {method: (head["peak"], head["tuned"]) for method, head in heads().items()}
    assert found == {
        "learned": (gamma, False),
        "three_constants": (None, None),
        "cosine": (peak, False),
        "mlr_snet_online": (None, None),
    }
    assert heads()["cosine"]["config"]["lr"]["peak"] == peak
    assert heads()["cosine"]["controller"].startswith(f"Cosine(peak={peak}")


@pytest.mark.filterwarnings("ignore:the loss")
def test_a_run_that_diverges_is_kept_and_the_others_go_on(checkpoint):
    arguments = [*TINY, "seeds=[0]", "baselines=[constant]", "peak=1e30", "three_constants=false"]
    assert main(arguments) == 0
    (folder,) = Path("runs/transfer").iterdir()
    status = {m: read_record(folder / m / "seed-0").end["status"] for m in ("learned", "constant")}
    assert status["learned"] == "finished"
    assert status["constant"].startswith("diverged at step ")


def test_a_checkpoint_with_its_card(checkpoint):
    (folder,) = Path("runs/meta_train").iterdir()
    for name in ("config.json", "model.safetensors"):
        assert (checkpoint / name).read_bytes() == (folder / "checkpoint" / name).read_bytes()
    card = (checkpoint / "README.md").read_text()
    assert "phi was hardly updated: this is close to an untrained network." in card
    assert 'meta_lr.load_pretrained("mine")' in card
    assert "| updates of phi | 3: every 2 steps" in card
    assert "| mean rate | 0." in card
    assert "phi moved by" in card


# ------------------------------------------------------------------- what it does not take


def said(capsys, *arguments):
    """Return what a command that is refused says; nothing is trained, nothing else is printed."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert not printed.out and not list(Path("runs").rglob("records.jsonl"))
    return printed.err


REFUSED = {
    "lr=cosine": "lr=cosine is not for transfer, which compares checkpoint= with baselines=; "
    "pass baselines=[cosine]",
    "lr=learned": "lr=learned is not for transfer, which compares checkpoint= with baselines=",
    "seed=5": "seed=5 is not for transfer; pass seeds=[5]",
    "seeds=0": "seeds=0; a list of whole numbers is needed: seeds=[0]",
    "seeds=[a]": "seeds.0=a; a whole number is needed",
    "baselines=cosine": "baselines=cosine; a list of texts is needed: baselines=[cosine]",
    "baselines=[learned]": "baselines=['learned']; learned is compared anyway, leave it out",
    "tune.peaks=0.1": "tune.peaks=0.1; a list is needed: tune.peaks=[0.1]",
    "peak=high": "peak=high; a number is needed",
    "checkpoint=mlr-snet-cifar10 optimizer=sgd": "the checkpoint's rate was learned with sgd, "
    "and the optimizer is sgd_momentum; pass optimizer=sgd_plain, or learned.peak=..., the rate at "
    "full output with sgd_momentum",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_transfer_does_not_take_is_said_in_one_line(tmp_path, monkeypatch, capsys, override):
    monkeypatch.chdir(tmp_path)
    assert said(capsys, "transfer", *override.split()) == f"meta-lr: {REFUSED[override]}\n"


@pytest.mark.parametrize(
    ("family", "choice"), [("sgd_momentum", "optimizer=sgd, or "), ("muon", "")]
)
def test_the_override_that_is_named_gives_the_checkpoints_family(
    tmp_path, monkeypatch, capsys, family, choice
):
    monkeypatch.chdir(tmp_path)
    net = MLP((3,))
    learned = Learned(net, [net.init(0)], 0.1, family=family)
    checkpoints.save(Path("mine"), learned, trained_on={}, card="")
    assert f"pass {choice}learned.peak=..., " in said(capsys, "transfer", "checkpoint=mine")


@pytest.mark.parametrize(
    "choice", sorted(path.stem for path in (conf_dir() / "optimizer").iterdir())
)
def test_every_optimizer_choice_is_found_by_its_family(choice):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", [f"optimizer={choice}"])
    weight = torch.nn.Parameter(torch.zeros(1))
    family = {"nesterov": "sgd"}.get(choice, choice)  # the same rates are right for it
    assert optimizer_choice(rules.family(build(cfg.optimizer)([weight]))) == family


@pytest.mark.filterwarnings("ignore:the loss")
def test_the_bundled_checkpoint_is_taken_without_an_argument(checkpoint):
    tiny = ["debug=tiny", "model.hidden=[8]", "seeds=[0]", "baselines=[]"]  # to be quick
    assert main(["transfer", *tiny]) == 0
    assert heads()["learned"]["optimizer"] == "sgd"


# ------------------------------------------------------------------------- how much it learned


def test_meta_train_says_that_a_scheduler_was_hardly_learned_and_what_helps(
    tmp_path, monkeypatch, capsys
):
    own_place(tmp_path, monkeypatch)
    small = ["meta-train", "net.hidden=4", "model.hidden=[8]"]
    assert main([*small, "total_steps=210", "lr.period=100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == (
        "updates of phi: 2: this scheduler is hardly learned; "
        "total_steps=10000 makes 100 updates, so does lr.period=2"
    )
    assert not any(line.startswith("use it") for line in lines)
    assert main([*small, "total_steps=40", "lr.period=2", "optimizer=sgd"]) == 0
    told, used, tried = capsys.readouterr().out.splitlines()[-3:]
    assert told == "updates of phi: 20"
    assert used.startswith("use it:  meta_lr.ControlledLR(optimizer, meta_lr.load_pretrained(")
    assert tried.startswith("try it:  meta-lr transfer checkpoint=runs/meta_train/")
    assert tried.endswith(" optimizer=sgd")


def test_plain_meta_train_updates_often_enough_on_its_default_task():
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("meta_train")
    num_steps = build(cfg.task).num_batches("train") * cfg.epochs
    assert num_steps // cfg.lr.period >= 100


def test_a_formula_gives_the_baselines_its_rate_for_a_network_that_guesses():
    net, formula = LSTM(hidden=4), InitialLossGamma(10)
    learned = Learned(net, [net.init(0)], formula)
    assert _gamma(learned) == formula(math.log(10)) == pytest.approx(0.669, abs=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the loss")  # six steps see few losses
def test_the_recipe_of_imagenet_runs_in_small(tmp_path, monkeypatch):
    own_place(tmp_path, monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_images(tmp_path / "set", "val", classes=[*"abcdefgh"], size=40)
    sizes = ["task.root=set", "task.val_size=16", "task.batch_size=16", "seeds=[0]", "workers=1"]
    arguments = ["transfer", "experiment=imagenet_transfer", "debug=tiny_images"]
    assert main([*arguments, "task.size=32", *sizes]) == 0
    records = {
        path.parents[1].name: read_record(path.parent)
        for path in Path("runs").rglob("records.jsonl")
    }
    assert set(records) == {"learned", "three_constants", "cosine", "multi_step"}
    for record in records.values():
        assert record.end is not None and record.end["status"] == "finished"
        assert all(0 <= row["top5"] <= 1 for row in record.evaluations)
