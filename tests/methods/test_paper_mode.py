"""MLR-SNet as its authors' code trains it: each quirk alone, and all of them, against a twin."""

import functools
import math
import re
from dataclasses import replace
from functools import partial
from itertools import accumulate

import pytest
import torch
from hydra import compose, initialize_config_dir

from meta_lr import checkpoint
from meta_lr.bilevel.estimators import Adjoint
from meta_lr.cli.conf_files import conf_dir
from meta_lr.cli.meta_train import _more
from meta_lr.cli.parts import build
from meta_lr.drop_in.scheduler import ControlledLR
from meta_lr.methods.features.features import Features
from meta_lr.methods.mlr_snet.gamma import InitialLossGamma
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.mlr_snet.online import OnlineMLRSNet
from meta_lr.methods.mlr_snet.paper import PaperMLRSNet
from meta_lr.methods.networks import mlp
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.protocol import Need
from meta_lr.seeds import derive
from meta_lr.tasks import digits, image_folder, torchvision_set, torchvision_sets
from meta_lr.tasks.models import MLP
from meta_lr.testing.problem import OwnLoop
from meta_lr.training.loop import train
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
    "meta batches in passes": {"meta_batches": "passes"},
}
NO_QUIRK = {"double_tick": False, "counts": "run", "meta_batches": "drawn"}
TOGETHER = {
    "net": {"gates": "ifog", "forget_offset": -1.0},
    "gamma": None,
    "double_tick": True,
    "counts": "epoch",
    "meta_weight_decay": 1e-4,
    "meta_batches": "passes",
}
FRESH = "84a9d03e95c2f31d"  # fingerprint of a fresh network of four
EXPERIMENTS = ["paper_cifar10", "paper_cifar100"]


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)


def twins(task, quirks, *, momentum=0.0, weight_decay=5e-4, period=3, total_steps=24):
    """Return the rates and the last phi of our run, and those of the twin's."""
    options = {"gamma": 0.5, "meta_lr": 0.05, "period": period, **quirks}
    cell = options.pop("net", {})
    formula = InitialLossGamma(task.num_classes)
    controller = PaperMLRSNet(
        LSTM(hidden=6, **cell),
        **{**NO_QUIRK, **options, "gamma": options["gamma"] or formula},
        seed=2,
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
    controller = PaperMLRSNet(LSTM(hidden=2), period=3, counts=counts, fires=fires)
    updates = []
    for steps in range(1, 14):
        run = train(Toy(), partial(torch.optim.SGD, lr=0.1), controller, total_steps=steps)
        updates.append(int(run.state.updates))
    assert updates == list(accumulate(step in due for step in range(13)))
    assert updates == [controller.num_updates(steps, 5) for steps in range(1, 14)]
    assert due == [step for step in range(13) if is_due(step, 3, 5, counts, fires)]


def test_epochs_are_needed_where_they_are_counted_and_only_there():
    optimizer = partial(torch.optim.SGD, lr=0.1)
    counting = PaperMLRSNet(LSTM(hidden=2), period=5)
    assert Need.EPOCHS in counting.needs
    for other in (OnlineMLRSNet, partial(PaperMLRSNet, counts="run")):
        assert Need.EPOCHS not in other(LSTM(hidden=2)).needs
    loop = OwnLoop(counting, optimizer, 20)
    with pytest.raises(ValueError, match="steps_per_epoch="):
        ControlledLR(loop.optimizer, counting, total_steps=20, sandbox=loop.sandbox)
    loop.run(20)
    assert float(loop.scheduler.state_dict()["state"]["updates"]) == 4


def test_a_period_that_no_epoch_holds_is_refused():
    sgd = partial(torch.optim.SGD, lr=0.1)
    never = PaperMLRSNet(LSTM(hidden=2), period=6)
    with pytest.raises(ValueError, match="never be updated: period=6 is longer than an epoch of 5"):
        train(Toy(), sgd, never, total_steps=20)
    once = PaperMLRSNet(LSTM(hidden=2), period=6, fires="start")
    assert float(train(Toy(), sgd, once, total_steps=20).state.updates) == 4


@pytest.mark.parametrize("options", [{"period": 7}, {"period": 7, "fires": "start"}])
@pytest.mark.parametrize("counts", ["run", "epoch"])
def test_what_makes_a_hundred_updates_does_and_nothing_less(counts, options):
    controller = PaperMLRSNet(LSTM(hidden=2), counts=counts, **options)
    for steps, epoch in ((130, 16), (400, 16), (60, 40), (90, 7)):
        told = re.findall(r"(\w+)=(\d+)", _more(steps, epoch, controller))
        said = {name: int(value) for name, value in told}
        needed = said["total_steps"]
        assert controller.num_updates(needed, epoch) >= 100
        assert controller.num_updates(needed - 1, epoch) < 100
        by_period = [
            replace(controller, period=period).num_updates(steps, epoch) for period in range(1, 8)
        ]
        enough = [period for period, num in enumerate(by_period, 1) if num >= 100]
        assert said.get("period", 0) == max(enough, default=0)


@pytest.mark.parametrize("options", [{"counts": "epochs"}, {"fires": "begin"}])
def test_a_trigger_that_is_none_is_refused(options):
    with pytest.raises(ValueError, match="counts is 'run' or 'epoch', fires is 'end' or 'start'"):
        PaperMLRSNet(LSTM(), **options)


# The first weights --------------------------------------------------------------------------------


NETS = [LSTM(hidden=50), mlp.MLP(hidden=(40, 30))]


def spans(weights):
    return [float(weight.detach().abs().max()) for weight in weights]


@pytest.mark.parametrize("net", NETS)
def test_linear_weights_fill_the_range_of_torchs_linear(net):
    matrices = net.init(0)[::2]
    for matrix, bias in zip(matrices, net.init(0)[1::2], strict=True):
        torch.manual_seed(0)
        like = torch.nn.Linear(matrix.shape[1], matrix.shape[0])
        bound = max(spans([like.weight]))
        assert spans([matrix])[0] == pytest.approx(bound, rel=0.2)
        assert spans([bias])[0] <= 1.01 * matrix.shape[1] ** -0.5
        assert matrix.shape == like.weight.shape and bias.shape == like.bias.shape


@pytest.mark.parametrize("net", NETS)
def test_narrow_and_high_begin_change_what_they_say_and_nothing_else(net):
    linear, narrow, high = (net.init(3, start) for start in ("linear", "narrow", "high"))
    below, head = slice(None, -2), slice(-2, None)
    for matrix, bias, like, like_bias in zip(
        narrow[below][::2],
        narrow[below][1::2],
        linear[below][::2],
        linear[below][1::2],
        strict=True,
    ):
        torch.testing.assert_close(matrix, like * 0.1 * matrix.shape[1] ** 0.5)
        assert torch.equal(bias, like_bias)
    assert all(map(torch.equal, narrow[head], linear[head]))
    assert all(map(torch.equal, high[below], linear[below]))
    torch.testing.assert_close(high[-2], linear[-2] * 0.1 * high[-2].shape[1] ** 0.5)
    assert torch.equal(high[-1], torch.ones(1))


@pytest.mark.parametrize("start", ["linear", "narrow", "high"])
def test_the_run_begins_with_them(start):
    rates = []
    controller = OnlineMLRSNet(LSTM(), gamma=0.5, start=start)
    assert all(map(torch.equal, controller.init().phi, LSTM().init(derive(0, "phi"), start)))
    train(
        Toy(),
        partial(torch.optim.SGD, lr=0.1),
        controller,
        total_steps=3,
        listener=lambda row: rates.append(row["lr"]) if row["kind"] == "step" else None,
    )
    wanted = 0.5 / (1 + math.exp(-1)) if start == "high" else 0.25
    assert rates[0] == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize(
    "make", [lambda: LSTM().init(0, "wide"), lambda: OnlineMLRSNet(LSTM(), start="wide")]
)
def test_a_start_that_is_none_is_refused(make):
    with pytest.raises(
        ValueError, match="start is 'wide'; it is one of linear, narrow, small, high"
    ):
        make()


def test_how_the_weights_began_is_no_part_of_a_fingerprint():
    """The number is that of before there was a choice: old fingerprints stay as they are."""
    net = LSTM(hidden=4)
    assert Learned(net, [net.init(0)], 0.5).fingerprint == FRESH


# Meta batches -------------------------------------------------------------------------------------


class Broken:
    needs, second_order = Need.META, False

    def __call__(self, *_):
        raise ArithmeticError


@pytest.mark.parametrize(
    "options", [{}, {"look_ahead": 2}, {"look_ahead": 2, "estimator": Adjoint()}]
)
def test_updates_read_the_meta_batches_of_passes_in_turn(options):
    controller = PaperMLRSNet(LSTM(hidden=2), gamma=0.2, period=4, counts="run", **options)
    loop, read = OwnLoop(controller, partial(torch.optim.SGD, lr=0.1), 20), []
    own = loop.sandbox.batch

    def batch(split, *where):
        read.extend([where] if split == "meta" else [])
        return own(split, *where)

    loop.sandbox.batch = batch
    loop.run(20)
    assert read == [(update, None) for update in range(5)]
    assert loop.sandbox.batch is batch, "it is as it was after an update"


def test_an_update_that_fails_leaves_the_meta_batches_as_they_were():
    controller = PaperMLRSNet(LSTM(hidden=2), gamma=0.2, period=1, counts="run", estimator=Broken())
    loop = OwnLoop(controller, partial(torch.optim.SGD, lr=0.1), 20)
    own = loop.sandbox.batch
    with pytest.raises(ArithmeticError):
        loop.run(1)
    assert loop.sandbox.batch == own


@pytest.mark.parametrize("meta_batches", ["all", "draw"])
def test_meta_batches_that_are_none_are_refused(meta_batches):
    with pytest.raises(ValueError, match="it is 'drawn' or 'passes'"):
        PaperMLRSNet(LSTM(), meta_batches=meta_batches)


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
    assert (controller.meta_batches, controller.start) == ("passes", "linear")
    assert controller.features == Features(("loss",))
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
