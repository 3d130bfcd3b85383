"""Checkpoints from elsewhere: weights, contracts and sizes that cannot be used are refused."""

import json
import math
import os
import tracemalloc

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from meta_lr import checkpoint
from meta_lr.checkpoint import CheckpointError
from meta_lr.methods.mlr_snet.gamma import InitialLossGamma
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.methods.networks.mlp import MLP
from meta_lr.methods.networks.network import is_number
from tests.commands import write_checkpoint


@pytest.fixture
def folder(tmp_path):
    return write_checkpoint(tmp_path / "mine")


def rewrite(folder, change):
    """Change the weights, and bind the contract to them again."""
    path = folder / "model.safetensors"
    data = save_tensors(change(load_tensors(path.read_bytes())))
    path.write_bytes(data)
    contract = json.loads((folder / "config.json").read_text())
    contract["fingerprint"] = checkpoint._fingerprint(contract, data)
    (folder / "config.json").write_text(json.dumps(contract))


def edit(folder, **changes):
    contract = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**contract, **changes}))


def refused(folder, file="config.json"):
    """Return what is said of the file, in one line of at most 300 characters that names it."""
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(folder)
    said = str(caught.value)
    assert len(said) <= 300 and said.isprintable()
    assert said.startswith(f"{folder / file} ")
    return said.removeprefix(f"{folder / file} ")


KINDS = (torch.int32, torch.uint8, torch.bool, torch.bfloat16, torch.float16, torch.float8_e4m3fn)


@pytest.mark.parametrize("kind", [*KINDS, torch.complex64])
def test_weights_that_the_network_cannot_compute_with_are_refused(folder, kind):
    rewrite(folder, lambda weights: {name: w.to(kind) for name, w in weights.items()})
    assert refused(folder, "model.safetensors") == (
        f"holds weights in {kind}; save the checkpoint with all of them in torch.float32, or all "
        "in torch.float64"
    )


def test_weights_of_two_precisions_are_refused(folder):
    rewrite(folder, lambda weights: {**weights, NAME: weights[NAME].double()})
    assert "in torch.float32, torch.float64; save" in refused(folder, "model.safetensors")


def test_weights_in_double_precision_are_used_as_they_are(folder):
    rewrite(folder, lambda weights: {name: w.double() for name, w in weights.items()})
    assert checkpoint.load(folder)[0].stages[0][0].dtype == torch.float64


NAME = "stage0.head.bias"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_is_refused(folder, value):
    rewrite(folder, lambda weights: {**weights, NAME: weights[NAME] + value})
    said = f"holds a value in {NAME} that is not finite; copy the checkpoint again"
    assert refused(folder, "model.safetensors") == said


def test_a_weight_too_many_is_refused(folder):
    rewrite(folder, lambda weights: {**weights, "stage1\n" + 99 * "x": torch.zeros(1)})
    assert refused(folder, "model.safetensors").startswith(
        r"holds another network: it has 'stage1\nxxx"
    )


@pytest.mark.parametrize("sizes", [{"hidden": 10_000, "bottleneck": 3000}, {"hidden": 10**200}])
def test_nothing_of_the_claimed_size_is_allocated(folder, sizes):
    edit(folder, arguments=sizes, stages=10**18)
    tracemalloc.start()
    try:
        assert "holds another network: stage0.x_down.weight is (2, 1), but LSTM" in refused(
            folder, "model.safetensors"
        )
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("net", [LSTM(), LSTM(5, 3, inputs=2), MLP(()), MLP((6, 3), inputs=2)])
def test_shapes_are_those_of_the_weights(net):
    assert net.shapes == tuple(weight.shape for weight in net.init(0))


def test_a_network_that_was_not_built_takes_no_time_and_no_random_numbers(folder, monkeypatch):
    monkeypatch.setattr(LSTM, "init", None)
    checkpoint.load(folder)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_file_of_absurd_size_is_not_read(folder, file):
    os.truncate(folder / file, 2**34)  # without blocks on the disk
    assert refused(folder, file).startswith("has 17,179,869,184 bytes, and at most ")


def test_a_pipe_is_no_file_to_wait_for(folder):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    assert refused(folder).startswith("is missing; ")


RANGE = "null, or two finite numbers, the smaller one first"
WRONG = [
    ({"loss_range": [1.0]}, f"has loss_range=[1.0], but it must be {RANGE}"),
    ({"loss_range": ["a", "b"]}, f"has loss_range=['a', 'b'], but it must be {RANGE}"),
    ({"loss_range": [2.0, 1.0]}, f"has loss_range=[2.0, 1.0], but it must be {RANGE}"),
    ({"loss_range": [0.0, math.inf]}, f"has loss_range=[0.0, inf], but it must be {RANGE}"),
    ({"loss_range": 3}, f"has loss_range=3, but it must be {RANGE}"),
    ({"gamma": True}, "has gamma=True, but it must be a number > 0 and at most 1e"),
    ({"gamma": math.nan}, "has gamma=nan, but it must be a number > 0 and at most 1e"),
    ({"gamma": 1e31}, "has gamma=1e+31, but it must be a number > 0 and at most 1e"),
    ({"family": "x" * 61}, "has family='"),
    ({"gamma": -1}, "has gamma=-1, but it must be a number > 0 and at most 1e"),
    ({"gamma": 10**400}, "is not JSON (it has a number of 401 digits)"),
    ({"stages": True}, "has stages=True, but it must be a whole number >= 1"),
    ({"stages": 0}, "has stages=0, but it must be a whole number >= 1"),
    ({"family": "sgd\x1b[2J"}, r"has family='sgd\x1b[2J', but it must be the name of an"),
    ({"family": 9 * ["sgd"]}, "has family=['sgd', 'sgd', "),
    ({"fingerprint": None}, "has fingerprint=None, but it must be a text"),
    ({"trained_on": []}, "has trained_on=[], but it must be an object whose cost is"),
    ({"trained_on": {"cost": "free"}}, "has trained_on={'cost': 'free'}, but it must be an"),
    ({"format_version": True}, "has format True, this meta_lr reads up to 3"),
    ({"format_version": 0}, "has format 0, this meta_lr reads up to 3"),
    ({"network": 999 * "x"}, "names the network 'xxx"),
    ({"arguments": {"forget_offset": "x"}}, "has wrong arguments: LSTM got forget_offset='x'"),
    ({"arguments": {"forget_offset": [50]}}, "has wrong arguments: LSTM got forget_offset=[50]"),
    ({"arguments": {"hidden": True}}, "has wrong arguments: LSTM got hidden=True"),
    ({"arguments": {"hidden": [4]}}, "has wrong arguments: LSTM got hidden=[4]"),
    ({"arguments": {"gates": ["i", "f"]}}, "has wrong arguments: LSTM got gates=['i', 'f']"),
    ({"arguments": {"inputs": 1.0}}, "has wrong arguments: LSTM got inputs=1.0"),
    ({"arguments": {"floor": "0"}}, "has wrong arguments: LSTM got inputs=1, floor=0"),
    ({"arguments": {999 * "x": 1}}, "has wrong arguments: LSTM.__init__() got an unexpected "),
    ({"network": "MLP", "arguments": {"hidden": 8}}, "has wrong arguments: MLP got hidden=8"),
    ({"network": "MLP", "arguments": {"hidden": "88"}}, "has wrong arguments: MLP got hidden="),
    ({"network": "MLP", "arguments": {"hidden": [2.0]}}, "has wrong arguments: MLP got hidden="),
]


@pytest.mark.parametrize(("changes", "said"), WRONG)
def test_an_entry_that_cannot_be_used_is_refused_when_it_is_read(folder, changes, said):
    edit(folder, **changes)
    assert refused(folder).startswith(said)


TEXTS = [
    (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "it is nested too deeply"),
    (b'{"format_version": ' + b"9" * 5000 + b"}", "it has a number of 5000 digits"),
    (b'{"family": "\xe9"}', "byte 12 is not UTF-8 text"),
    (b"\x00\x01\x02", "Expecting value: line 1 column 1 (char 0)"),
]


@pytest.mark.parametrize(("text", "said"), TEXTS)
def test_a_text_that_is_not_json_is_refused(folder, text, said):
    (folder / "config.json").write_bytes(text)
    assert refused(folder) == f"is not JSON ({said}); copy the checkpoint again"


def test_a_long_folder_name_keeps_the_name_of_the_file(tmp_path):
    folder = write_checkpoint(tmp_path / (200 * "x") / (200 * "y"))
    edit(folder, arguments={"hidden": list(range(99))})
    with pytest.raises(CheckpointError, match=r"^\.\.\.y+/config.json has wrong arg") as caught:
        checkpoint.load(folder)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize("peak", [True, "0.1", 10**400, math.nan, math.inf, -1, torch.ones(2)])
def test_a_peak_that_no_float_can_hold_is_refused(folder, peak):
    with pytest.raises(CheckpointError, match=r"^peak is .*; pass a learning rate") as caught:
        checkpoint.load_pretrained(str(folder), peak=peak)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize("options", [{"num_classes": True}, {"num_classes": 2.5}])
def test_a_number_of_classes_is_a_whole_number(options):
    with pytest.raises(ValueError, match="the formula needs"):
        InitialLossGamma(**options)
    with pytest.raises(ValueError, match="recomputed is 'no', not true or false"):
        InitialLossGamma(10, recomputed="no")  # pyright: ignore[reportArgumentType]


def test_a_number_of_numpys_is_a_number():
    assert is_number(torch.ones(1).numpy()[0])


def test_a_name_that_is_too_long_for_a_file_is_no_checkpoint():
    with pytest.raises(CheckpointError, match="no checkpoint 'aaa") as caught:
        checkpoint.find("a" * 5000)
    assert len(str(caught.value)) <= 300
