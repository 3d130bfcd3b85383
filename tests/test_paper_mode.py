"""MLR-SNet as its authors' code trains it: each quirk alone, and all of them, against a twin."""

import functools
from functools import partial
from itertools import accumulate

import pytest
import torch
from hydra import compose, initialize_config_dir

from meta_lr import checkpoint
from meta_lr.bilevel.online import OnlineMLRSNet
from meta_lr.cli.parts import build
from meta_lr.cli.places import conf_dir
from meta_lr.protocol import Need
from meta_lr.schedulers.gamma import InitialLossGamma
from meta_lr.schedulers.lstm import LSTM
from meta_lr.tasks import digits, image_folder, torchvision_set, torchvision_sets
from meta_lr.tasks.models import MLP
from meta_lr.testing.problem import OwnLoop
from meta_lr.training.loop import train
from meta_lr.training.scheduler import ControlledLR
from tests.commands import outcome, own_place
from tests.image_sets import SMALL, numbers, numbers_task, write_images
from tests.reference.online import is_due, reference_run
from tests.toys import Toy

QUIRKS = {
    "transfer cell": {"net": {"gates": "ifgo", "forget_offset": 0.0}},
    "forget offset": {"net": {"forget_offset": 0.5}},
    "double tick": {"double_tick": True},
    "counted in each epoch": {"counts": "epoch"},
    "at the start": {"fires": "start"},
    "at the start of each epoch": {"counts": "epoch", "fires": "start"},
    "decay of phi": {"meta_weight_decay": 0.3},
    "gamma by the formula": {"gamma": None},
}
TOGETHER = {
    "net": {"gates": "ifog", "forget_offset": -1.0},
    "gamma": None,
    "double_tick": True,
    "counts": "epoch",
    "meta_weight_decay": 1e-4,
}
EXPERIMENTS = ["paper_cifar10", "paper_cifar100"]


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)


def twins(task, quirks, *, momentum=0.0, weight_decay=5e-4, period=3, total_steps=24):
    """Return the rates and the last phi of our run, and those of the twin's."""
    options = {"gamma": 0.5, "meta_lr": 0.05, "period": period, **quirks}
    cell = options.pop("net", {})
    formula = InitialLossGamma(task.num_classes)
    controller = OnlineMLRSNet(
        LSTM(hidden=6, **cell), **{**options, "gamma": options["gamma"] or formula}, seed=2
    )
    rates = []
    ours = train(
        task,
        partial(torch.optim.SGD, lr=0.1, momentum=momentum, weight_decay=weight_decay),
        controller,
        total_steps=total_steps,
        listener=lambda row: rates.append(row["lr"]) if row["kind"] == "step" else None,
    )
    expected = reference_run(
        task,
        controller.init().phi,
        hidden=6,
        momentum=momentum,
        weight_decay=weight_decay,
        total_steps=total_steps,
        **options,
        **cell,
    )
    return (rates, ours.state.phi), expected


def agree(ours, expected):
    assert ours[0] == pytest.approx(expected[0], rel=1e-9, abs=0)
    for mine, theirs in zip(ours[1], expected[1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@functools.cache
def plain():
    """Return the rates without any quirk, of the twin: test_online.py holds ours to it."""
    return twins(Toy(dropout=0.0), {})[1][0]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("quirk", QUIRKS)
def test_each_quirk_equals_the_twin_and_makes_a_difference(quirk):
    ours, expected = twins(Toy(dropout=0.0), QUIRKS[quirk])
    agree(ours, expected)
    assert ours[0] != pytest.approx(plain(), rel=1e-6)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("cell", ["ifog", "ifgo"])
def test_paper_mode_with_all_quirks_equals_the_twin(cell):
    task = digits(partial(MLP, hidden=(8,)), meta_overlap=True, crop_padding=1)
    assert task.num_batches("train") == 16, "a period of 5 restarts in the middle"
    quirks = {**TOGETHER, "net": {"gates": cell, "forget_offset": -1.0 if cell == "ifog" else 0.0}}
    agree(*twins(task, quirks, period=5, total_steps=50))


# The update's trigger -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "fires", "due"),
    [
        ("run", "end", [2, 5, 8, 11]),
        ("run", "start", [0, 3, 6, 9, 12]),
        ("epoch", "end", [2, 7, 12]),
        ("epoch", "start", [0, 3, 5, 8, 10]),
    ],
)
def test_updates_come_at_these_steps(counts, fires, due):
    controller = OnlineMLRSNet(LSTM(hidden=2), period=3, counts=counts, fires=fires)
    updates = []
    for steps in range(1, 14):
        run = train(Toy(), partial(torch.optim.SGD, lr=0.1), controller, total_steps=steps)
        updates.append(int(run.state.updates))
    assert updates == list(accumulate(step in due for step in range(13)))
    assert due == [step for step in range(13) if is_due(step, 3, 5, counts, fires)]


def test_epochs_are_needed_where_they_are_counted_and_only_there():
    optimizer = partial(torch.optim.SGD, lr=0.1)
    counting = OnlineMLRSNet(LSTM(hidden=2), period=5, counts="epoch")
    assert Need.EPOCHS in counting.needs
    assert Need.EPOCHS not in OnlineMLRSNet(LSTM(hidden=2)).needs
    loop = OwnLoop(counting, optimizer, 20)
    with pytest.raises(ValueError, match="steps_per_epoch="):
        ControlledLR(loop.optimizer, counting, total_steps=20, sandbox=loop.sandbox)
    loop.run(20)
    assert float(loop.scheduler.state_dict()["state"]["updates"]) == 4


def test_a_period_that_no_epoch_holds_is_refused():
    sgd = partial(torch.optim.SGD, lr=0.1)
    never = OnlineMLRSNet(LSTM(hidden=2), period=6, counts="epoch")
    with pytest.raises(ValueError, match="never be updated: period=6 is longer than an epoch of 5"):
        train(Toy(), sgd, never, total_steps=20)
    once = OnlineMLRSNet(LSTM(hidden=2), period=6, counts="epoch", fires="start")
    assert float(train(Toy(), sgd, once, total_steps=20).state.updates) == 4


@pytest.mark.parametrize("options", [{"counts": "epochs"}, {"fires": "begin"}])
def test_a_trigger_that_is_none_is_refused(options):
    with pytest.raises(ValueError, match="counts is 'run' or 'epoch', fires is 'end' or 'start'"):
        OnlineMLRSNet(LSTM(), **options)


# Meta examples that are training examples ---------------------------------------------------------


def overlap_of(task):
    train_, meta = set(task.splits["train"].tolist()), set(task.splits["meta"].tolist())
    return len(train_ & meta) / len(meta)


def test_overlapping_meta_is_nearly_all_in_train_and_changes_nothing_else():
    apart, shared = (digits(SMALL, meta_overlap=overlap) for overlap in (False, True))
    assert overlap_of(apart) == 0.0
    assert 0.75 < overlap_of(shared) < 1.0  # 180 of 1,257, drawn twice
    for split in ("train", "val", "test"):
        assert torch.equal(apart.splits[split], shared.splits[split])
    held = torch.cat([shared.splits["val"], shared.splits["test"]])
    assert not torch.isin(shared.splits["meta"], held).any()
    assert len(shared.splits["meta"].unique()) == 180
    assert (shared.labels[shared.splits["meta"]].bincount() == 18).all()
    assert torch.equal(
        shared.splits["meta"], digits(SMALL, seed=9, meta_overlap=True).splits["meta"]
    )


def of_torchvision(overlap, monkeypatch, folder):
    labels = torch.arange(300) % 3
    images = torch.zeros(300, 3, 4, 4, dtype=torch.uint8)
    monkeypatch.setattr(torchvision_sets, "_load", lambda *_: [(images, labels)] * 2)
    return torchvision_set(
        "cifar10", SMALL, batch_size=8, meta_size=30, val_size=30, meta_overlap=overlap
    )


def of_folder(overlap, monkeypatch, folder):
    if not folder.joinpath("set").exists():
        write_images(folder / "set")
    sizes = {"meta_size": 6, "val_size": 6, "batch_size": 4, "size": 6}
    return image_folder(
        folder / "set", SMALL, **sizes, meta_overlap=overlap, cache=folder / "cache"
    )


@pytest.mark.parametrize("make", [of_torchvision, of_folder])
def test_other_image_sets_have_the_option(make, monkeypatch, tmp_path):
    apart, shared = (make(overlap, monkeypatch, tmp_path) for overlap in (False, True))
    assert overlap_of(apart) == 0.0 < overlap_of(shared)
    assert torch.equal(apart.splits["train"], shared.splits["train"])
    assert len(apart.splits["meta"]) == len(shared.splits["meta"])


def test_splits_that_overlap_otherwise_stay_refused():
    splits = numbers_task().splits
    shared = {**splits, "meta": torch.arange(60, 80)}
    assert set(numbers(numbers_task(splits=shared, meta_overlap=True).batch("meta", 0, 0)))
    for wrong, allowed in (
        (shared, False),
        ({**splits, "meta": torch.arange(88, 95)}, True),
        ({**splits, "val": torch.arange(60, 80)}, True),
        ({**splits, "meta": torch.tensor([70, 70])}, True),
    ):
        with pytest.raises(ValueError, match="splits that overlap"):
            numbers_task(splits=wrong, meta_overlap=allowed)


def test_meta_batches_are_augmented_apart_from_train():
    picture = torch.arange(1, 17, dtype=torch.uint8).view(1, 1, 4, 4).expand(130, 3, -1, -1)
    splits = {**numbers_task().splits, "meta": torch.arange(0, 8), "train": torch.arange(0, 8)}
    task = numbers_task(images=picture, splits=splits, meta_overlap=True, crop_padding=2, flip=True)
    assert not torch.equal(task.batch("meta", 0)[0], task.batch("train", 0)[0])


# Config files -------------------------------------------------------------------------------------


def composed(name):
    root = ["task.root=x"] if name == "paper_cifar10_small" else []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("meta_train", [f"experiment={name}", *root])


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("size", ["", "_small"])
def test_the_experiments_have_every_quirk(name, size):
    cfg = composed(name + size)
    controller = build(cfg.lr)
    assert controller.net == LSTM(hidden=50, gates="ifog", forget_offset=-1.0)
    assert (controller.double_tick, controller.counts, controller.fires) == (True, "epoch", "end")
    assert (controller.meta_lr, controller.meta_weight_decay) == (1e-3, 1e-4)
    assert controller.gamma == InitialLossGamma(100 if "100" in name else 10)
    assert controller.snapshots == (0.005, 0.5, 1.0)
    (group,) = build(cfg.optimizer)([torch.nn.Parameter(torch.zeros(1))]).param_groups
    assert (group["momentum"], group["weight_decay"]) == (0.0, 5e-4)
    assert (cfg.task.meta_overlap, cfg.task.meta_size, cfg.task.batch_size) == (True, 1000, 128)
    steps = (50_000 - cfg.task.meta_size - cfg.task.val_size) // 128
    updates = cfg.epochs * (steps // controller.period)
    assert 200 <= updates <= 204, "the authors' 200"


def test_a_small_form_runs_and_keeps_a_checkpoint(tmp_path, monkeypatch, capsys):
    own_place(tmp_path, monkeypatch)
    sizes = ["task=digits", "model=mlp", "task.batch_size=64", "task.meta_size=100"]
    code, out, err = outcome(
        capsys,
        "meta-train",
        "experiment=paper_cifar10_small",
        *sizes,
        "task.val_size=180",
        "lr.period=4",
        "epochs=2",
        "checkpoint=mine",
    )
    assert (code, err) == (0, "")
    assert "updates of phi: 8" in out  # 18 steps per epoch, 4 periods of 4 in each
    learned, contract = checkpoint.load(tmp_path / "mine")
    assert contract["family"] == "sgd" and len(learned.stages) == 3
    assert contract["arguments"]["gates"] == "ifog"
