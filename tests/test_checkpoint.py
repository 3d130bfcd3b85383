"""Checkpoints: what is saved is what is loaded, and nothing else is."""

import json
import math
import pickle
import shutil
from typing import NamedTuple

import pytest
import torch

from meta_lr import checkpoint
from meta_lr.checkpoint import CheckpointError
from meta_lr.methods.features.features import FEATURES, Features
from meta_lr.methods.mlr_snet.gamma import InitialLossGamma
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.networks.mlp import MLP
from meta_lr.protocol import StepView, pack, unpack


class Elsewhere(NamedTuple):
    memory: tuple


NETS = [LSTM(hidden=5), LSTM(hidden=4, bottleneck=3, gates="ifgo", forget_offset=0.0), MLP((6, 3))]


def learned(net, seeds=(0, 1, 2), **options):
    stages = [net.init(seed) for seed in seeds]
    return Learned(net, stages, 0.5, family="sgd", loss_range=(0.1, 3.0), **options)


def write(folder, net=NETS[0], **options):
    trained_on = {"task": "digits", "steps": 100, "seed": 0, "cost": 120.0}
    checkpoint.save(folder, learned(net, **options), trained_on=trained_on, card="# A card\n")
    return folder


def rates(controller, losses, total_steps=30):
    state, out = controller.init(), []
    for step, loss in enumerate(losses):
        view = StepView(controller, step, total_steps=total_steps, loss=torch.tensor(loss))
        rate, state = controller(view, state)
        out.append(float(rate))
    return out


FEATURED = Features(("relative_loss", "change_10", "progress"))


def write_new(folder, *, gamma=0.5, features=FEATURED, floor=0.01, **options):
    """Write a checkpoint of all that came with format 2."""
    net = LSTM(hidden=4, inputs=features.inputs, floor=floor)
    made = Learned(net, [net.init(0), net.init(1)], gamma, features=features, **options)
    checkpoint.save(folder, made, trained_on={}, card="# A card\n")
    return made


def final(controller, losses, total_steps=30):
    state = controller.init()
    for step, loss in enumerate(losses):
        view = StepView(controller, step, total_steps=total_steps, loss=torch.tensor(loss))
        _, state = controller(view, state)
    return state


@pytest.mark.parametrize("net", NETS)
def test_a_loaded_scheduler_gives_the_same_rates(tmp_path, net):
    losses = [2.3 * 0.9**t for t in range(30)]
    loaded, contract = checkpoint.load(write(tmp_path / "c", net))
    assert rates(loaded, losses) == rates(learned(net), losses)
    assert loaded.fingerprint == learned(net).fingerprint
    assert contract["trained_on"]["cost"] == 120.0
    assert repr(loaded) == repr(learned(net))


def test_stages_change_the_rate_at_thirds_of_the_run():
    net = MLP((4,))
    parts = [rates(learned(net, seeds=(seed,)), [1.0])[0] for seed in (0, 1, 2)]
    assert rates(learned(net), [1.0] * 9, total_steps=9) == [p for p in parts for _ in range(3)]


def test_load_pretrained_by_folder_with_and_without_peak(tmp_path):
    folder = str(write(tmp_path / "c"))
    assert checkpoint.load_pretrained(folder).gamma == 0.5
    tuned = checkpoint.load_pretrained(folder, peak=0.01)
    assert (tuned.gamma, tuned.family) == (0.01, "")


@pytest.mark.parametrize("net", NETS)
def test_numpy_inference_equals_torch(net):
    weights, memory = net.init(3), net.memory()
    folded, own = net.fold(weights), net.memory()
    for step in range(200):
        loss = 3.0 * 0.98**step
        p, memory = net(weights, torch.tensor(loss), memory)
        assert abs(float(p) - folded(loss, own)) < 1e-6
        for mine, theirs in zip(own, memory, strict=True):
            assert (mine - theirs).abs().max() < 1e-6


def test_numpy_inference_keeps_two_memories_apart():
    net = LSTM(4)
    folded, first, second = net.fold(net.init(0)), net.memory(), net.memory()
    alone = [net.fold(net.init(0))(1.0, memory) for memory in [net.memory()] * 3]
    assert [folded(1.0, memory) for memory in (first, second, first, first)] == [
        alone[0],
        alone[0],
        alone[1],
        alone[2],
    ]


def test_a_loss_never_seen_warns_once():
    controller = learned(MLP((4,)), seeds=(0,))
    with pytest.warns(UserWarning, match=r"the loss 5 is outside \[0.1, 3\]") as caught:
        rates(controller, [1.0, 5.0, 6.0])
    assert len(caught) == 1


def test_a_pretrained_fallback_is_a_cosine_above_the_range_and_its_margin(tmp_path):
    folder = str(write(tmp_path / "c"))
    safe = checkpoint.load_pretrained(folder, fallback="cosine")
    assert safe.high == pytest.approx(3.29)  # a tenth of [0.1, 3] above it
    cosine = [0.25 * (1 + math.cos(math.pi * step / 30)) for step in range(4)]
    assert rates(safe, [5.0] * 4) == pytest.approx(cosine)
    seen = [1.0, 2.0, -1.0, 0.0]  # a loss below the range is what training is for
    alone = rates(checkpoint.load_pretrained(folder), seen[:2])
    assert rates(safe, seen)[:2] == alone
    assert final(safe, seen).num_fallbacks == 0
    assert safe.family == "sgd"


def test_an_unknown_fallback_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="fallback is 'linear'; it is 'cosine' or None"):
        checkpoint.load_pretrained(str(write(tmp_path / "c")), fallback="linear")


def test_a_fallback_of_a_checkpoint_without_a_range_of_losses_is_refused():
    said = "'meta-lr-digits' keeps no range of the losses .* leave fallback= out"
    with pytest.raises(CheckpointError, match=said):
        checkpoint.load_pretrained("meta-lr-digits", fallback="cosine")


@pytest.mark.parametrize("gamma", [0.5, InitialLossGamma(10), InitialLossGamma(7, False)])
def test_features_floor_and_formula_come_back(tmp_path, gamma):
    made = write_new(tmp_path / "c", gamma=gamma)
    loaded, contract = checkpoint.load(tmp_path / "c")
    losses = [2.3 * 0.9**t for t in range(30)]
    assert rates(loaded, losses) == rates(made, losses)
    assert (loaded.gamma, loaded.features, loaded.net) == (gamma, FEATURED, made.net)
    assert (loaded.fingerprint, repr(loaded)) == (made.fingerprint, repr(made))
    told = FEATURES["change_10"]
    entry = {"name": "change_10", "meaning": told.meaning, "unit": told.unit, "shape": []}
    assert contract["features"][1] == entry
    assert contract["format_version"] == 2


def test_the_contract_says_what_the_output_means(tmp_path):
    write_new(tmp_path / "constant")
    output = checkpoint.load(tmp_path / "constant")[1]["output"]
    assert output == {"kind": "rate", "bounds": [0.005, 0.5], "scale": "peak"}
    write_new(tmp_path / "formula", gamma=InitialLossGamma(10))
    contract = checkpoint.load(tmp_path / "formula")[1]
    output = {"kind": "share of gamma", "bounds": [0.01, 1.0], "scale": "formula"}
    assert contract["output"] == output
    formula = {"formula": "initial_loss", "num_classes": 10, "recomputed": True}
    assert contract["gamma"] == formula


def test_what_format_1_can_say_is_written_in_format_1(tmp_path):
    _, contract = checkpoint.load(write(tmp_path / "c"))
    assert contract["format_version"] == 1
    sizes = {"hidden": 5, "bottleneck": 0, "gates": "ifog", "forget_offset": -1.0}
    assert contract["arguments"] == sizes


def test_the_bundled_checkpoint_is_what_it_was_before_there_were_features():
    bundled, contract = checkpoint.load(checkpoint.find("mlr-snet-cifar10"))
    assert bundled.features.raw and bundled.net == LSTM(50)
    assert bundled.fingerprint == "e32d3d2ce8cbe759"
    assert contract["fingerprint"] == "26ff314c3d1184d9"


def test_a_peak_takes_the_place_of_a_formula(tmp_path):
    folder = str(tmp_path / "c")
    write_new(tmp_path / "c", gamma=InitialLossGamma(10), loss_range=(0.1, 3.0))
    assert checkpoint.load_pretrained(folder).gamma == InitialLossGamma(10)
    assert checkpoint.load_pretrained(folder, peak=0.3).gamma == 0.3
    with pytest.raises(CheckpointError, match=r"needs a learning rate to start from.*pass peak="):
        checkpoint.load_pretrained(folder, fallback="cosine")
    safe = checkpoint.load_pretrained(folder, peak=0.3, fallback="cosine")
    assert safe.inner.features == FEATURED


def test_a_loss_never_seen_is_told_by_the_raw_loss(tmp_path):
    controller = write_new(tmp_path / "c", loss_range=(0.1, 3.0))
    with pytest.warns(UserWarning, match=r"the loss 5 is outside \[0.1, 3\]"):
        rates(controller, [1.0, 5.0])


def features_of(*names):
    return [{"name": name, "meaning": "", "unit": "", "shape": []} for name in names]


NEWER = [
    (
        {"features": features_of("loss", "weather", "progress")},
        "names the features 'weather', which this meta_lr does not know: it is from a newer format",
    ),
    ({"features": "loss"}, "has features='loss', but it must name each once"),
    ({"features": [3]}, "it must name each once"),
    ({"features": []}, "it must name each once"),
    ({"features": features_of("loss", "loss", "progress")}, "it must name each once"),
    ({"features": features_of("loss")}, "which does not fit the features loss"),
    ({"gamma": {"formula": "phase_of_the_moon"}}, "names the formula 'phase_of_the_moon' for gam"),
    ({"gamma": {"formula": "initial_loss"}}, "has a wrong gamma: "),
    ({"gamma": {"formula": "initial_loss", "num_classes": 1}}, "has a wrong gamma: "),
    ({"features": features_of("progress", "change_10", "loss")}, "the weights are not those"),
]


@pytest.mark.parametrize(("changes", "message"), NEWER)
def test_features_and_formulas_that_do_not_fit_are_refused(tmp_path, changes, message):
    write_new(tmp_path / "c", gamma=InitialLossGamma(10))
    edit(tmp_path / "c", **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load(tmp_path / "c")
    assert "\n" not in str(caught.value)


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def truncate(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def swap(folder):
    other = write(folder.parent / "other", seeds=(7, 8, 9))
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")


def swap_network(folder):
    other = write(folder.parent / "other", NETS[2])
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")


DAMAGE = [
    (truncate, "damaged or cut short"),
    (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    (lambda f: (f / "config.json").write_text("{"), "is not JSON"),
    (lambda f: (f / "config.json").write_text('{"format_version": 1}'), "lacks"),
    (lambda f: edit(f, format_version=4), "has format 4, this meta_lr reads up to 3"),
    (lambda f: edit(f, network="os.system"), "names the network 'os.system'"),
    (lambda f: edit(f, arguments={"hidden": 5, "evil": 1}), "has wrong arguments: .*evil"),
    (lambda f: edit(f, arguments={"hidden": 9}), "holds another network"),
    (lambda f: (f / "config.json").write_text("[]"), "holds no contract"),
    (lambda f: edit(f, stages="1"), "has stages='1', but it must be a whole number >= 1"),
    (lambda f: edit(f, network=["LSTM"]), "it must be a name"),
    (lambda f: edit(f, arguments={"hidden": 4.0}), "has wrong arguments: LSTM got hidden=4.0"),
    (lambda f: edit(f, gamma=5.0), "the weights are not those"),
    (swap, "the weights are not those"),
    (swap_network, "holds another network"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_bad_checkpoint_is_refused_with_its_reason(tmp_path, damage, message):
    folder = write(tmp_path / "c")
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


def test_a_pickle_and_an_unknown_name_are_refused(tmp_path):
    torch.save({"a": 1}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="pickles such as"):
        checkpoint.load_pretrained(str(tmp_path / "net.pth"))
    with pytest.raises(CheckpointError, match="no checkpoint 'nonsense'"):
        checkpoint.load_pretrained("nonsense")


def test_a_peak_that_is_no_rate_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"peak is 0.0"):
        checkpoint.load_pretrained(str(write(tmp_path / "c")), peak=0.0)


def test_a_state_comes_back_on_the_device_where_the_controller_works():
    controller = learned(NETS[0])
    packed = pack(controller.init())
    assert unpack(controller.init(), packed).memory[0].device.type == "cpu"
    template = Elsewhere((torch.zeros(2, device="meta"),))
    assert unpack(template, {"memory": (torch.ones(2),)}).memory[0].device.type == "meta"


def test_a_used_scheduler_can_be_pickled_and_goes_on_alike():
    first = learned(MLP((4,)), seeds=(0,))
    before = rates(first, [1.0])
    assert rates(pickle.loads(pickle.dumps(first)), [1.0]) == before
