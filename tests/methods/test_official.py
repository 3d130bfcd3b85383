"""The authors' own files: what is read of them, by which cell, and what `import-official` makes."""

import hashlib
import json
import os
import re
from pathlib import Path

import pytest
import torch

import meta_lr
from meta_lr import checkpoint
from meta_lr.methods.mlr_snet.gamma import InitialLossGamma
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.mlr_snet.official import CELL, read, settled
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.protocol import StepView
from tests.commands import outcome
from tests.official_files import SHAPES, three, weights, write
from tests.reference.online import cell

OFFICIAL = os.environ.get("META_LR_OFFICIAL", "")
authors = pytest.mark.skipif(
    not OFFICIAL, reason="META_LR_OFFICIAL names no folder with mlr_snet_{1,100,200}.pth"
)


def outputs(found, losses, state=None, gates="ifgo", offset=0.0):
    """Return the outputs of the authors' cell, by the twin, and its last state."""
    phi = list(found.values())
    h, c = state or (torch.zeros(50), torch.zeros(50))
    out = []
    for loss in losses:
        p, h, c = cell(phi, torch.tensor(loss), h, c, 50, gates, offset)
        out.append(float(p))
    return out, (h, c)


def imported(folder, capsys, *options):
    """Run the command on three files in `folder`; return checkpoint, contract, and what it said."""
    files = [str(path) for path in three(folder)]
    code, out, err = outcome(
        capsys, "import-official", *files, "--out", str(folder / "made"), *options
    )
    assert (code, err) == (0, "")
    return *checkpoint.load(folder / "made"), out


# Reading ------------------------------------------------------------------------------------------


def test_the_weights_are_read_by_name_for_the_cell_of_the_authors_transfer(tmp_path):
    found = weights(0)
    shuffled = dict(sorted(found.items(), reverse=True))
    read_ = read(write(tmp_path / "a.pth", shuffled))
    assert all(torch.equal(a, b) for a, b in zip(read_, found.values(), strict=True))
    for loss in (0.01, 0.3, 4.6):
        (*_, last), _ = outputs(found, [loss] * 60)
        assert settled(read_, loss) == pytest.approx(last, abs=1e-4)
    (*_, other), _ = outputs(found, [0.3] * 60, gates="ifog", offset=-1.0)
    assert abs(settled(read_, 0.3) - other) > 0.01, "the cell of meta-training is another one"


def test_whatever_holds_the_numbers_they_are_ours_in_single_precision(tmp_path):
    found = weights(0)
    kept = {key: torch.nn.Parameter(value.double()) for key, value in found.items()}
    torch.save(kept, tmp_path / "new.pth")  # torch's present format
    for mine, theirs in zip(read(tmp_path / "new.pth"), found.values(), strict=True):
        assert mine.dtype == torch.float32 and not mine.requires_grad
        torch.testing.assert_close(mine, theirs)


class Malicious:
    """A pickle that would make a file if it were run."""

    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


def changed(**changes):
    found = {key: value for key, value in weights(0).items() if key not in changes}
    return {**found, **{key: value for key, value in changes.items() if value is not None}}


KEY = "layer3.bias"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (changed(**{KEY: torch.zeros(2)}), r"another network: layer3.bias is \(2,\), not \(1,\)"),
        (changed(**{KEY: None}), r"another network: layer3.bias is missing, not \(1,\)"),
        (changed(**{KEY: 1.0}), "another network: layer3.bias is missing"),
        (changed(extra=torch.zeros(1)), "another network: it has 'extra'"),
        (changed(**{KEY: torch.zeros(1, device="meta")}), "layer3.bias is not a dense tensor"),
        (
            changed(**{KEY: torch.tensor([1e300], dtype=torch.float64)}),
            "layer3.bias holds what is no finite",
        ),
        (changed(**{KEY: torch.zeros(1).to(torch.complex64)}), "layer3.bias holds what is no fin"),
        (changed(**{KEY: torch.tensor([1])}), "layer3.bias holds what is no finite number"),
        (changed(**{KEY: torch.tensor([float("nan")])}), "layer3.bias holds what is no finite"),
        ([torch.zeros(1)], "holds a list, not weights by name"),
        (Malicious(), "holds more than tensors, and such a pickle is not read"),
        (torch.nn.Linear(1, 1), "holds more than tensors, and such a pickle is not read"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_files_of_something_else_are_refused(tmp_path, monkeypatch, found, words, zipped):
    monkeypatch.chdir(tmp_path)
    torch.save(found, "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=words) as caught:
        read(Path("a.pth"))
    assert str(caught.value).startswith("a.pth ")
    assert os.listdir() == ["a.pth"], "nothing of the file was run"


@pytest.mark.parametrize("kept", [0, 1, 20, 148, 1000, 2000, 30_000, -1])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, kept):
    path = write(tmp_path / "a.pth", weights(0))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="is damaged"):
        read(path)


def test_the_fake_files_are_as_large_as_the_authors_say():
    assert sum(torch.zeros(shape).numel() for shape in SHAPES.values()) == 11_776


# The command --------------------------------------------------------------------------------------


def test_the_command_makes_a_checkpoint_that_follows_the_transfer_rule(tmp_path, capsys):
    learned, contract, out = imported(tmp_path, capsys, "--gamma", "0.5")
    assert learned.net == CELL == LSTM(hidden=50, gates="ifgo", forget_offset=0.0)
    assert (contract["family"], contract["stages"], contract["gamma"]) == ("sgd", 3, 0.5)
    losses = [2.3 * 0.8**t for t in range(12)]
    expected, state = [], None
    for k, epoch in enumerate((1, 100, 200)):  # thirds of the run, and the state is carried over
        part, state = outputs(weights(epoch), losses[4 * k : 4 * k + 4], state)
        expected += [0.5 * p for p in part]
    rates, memory = [], learned.init()
    for step, loss in enumerate(losses):
        view = StepView(learned, step, total_steps=12, loss=torch.tensor(loss))
        rate, memory = learned(view, memory)
        rates.append(float(rate))
    assert rates == pytest.approx(expected, abs=1e-5)
    assert f"checkpoint: {tmp_path / 'made'} ({contract['fingerprint']})\n" in out
    assert f"stage 2  100.pth  output {settled(learned.stages[1], 0.3):.4f} at loss 0.3\n" in out


@pytest.mark.parametrize(
    ("options", "gamma", "words"),
    [
        (
            [],
            InitialLossGamma(10, recomputed=True),
            "for C = 10 classes .* and again at each later",
        ),
        (["--classes", "200"], InitialLossGamma(200), "for C = 200 classes .* and again at each"),
        (["--frozen"], InitialLossGamma(10, recomputed=False), "of the first step, and stays"),
        (["--gamma", "0.2"], 0.2, "is 0.2 throughout"),
    ],
)
def test_gamma_is_recomputed_frozen_or_given(tmp_path, capsys, options, gamma, words):
    learned, _, out = imported(tmp_path, capsys, *options)
    assert learned.gamma == gamma
    assert re.search(rf"(?m)^gamma .*{words}", out)
    assert meta_lr.load_pretrained(str(tmp_path / "made"), peak=0.1).gamma == 0.1


def test_the_card_is_honest(tmp_path, capsys):
    learned, contract, _ = imported(tmp_path, capsys)
    card = (tmp_path / "made" / "README.md").read_text()
    for said in (
        "license: unknown",
        "Shu, Zhu, Zhao, Meng & Xu (2020), arXiv 2007.14546",
        "do not pass this folder on",
        "gamma = |sqrt(L) ln(L C)| / (4 C^(1/4))",
        "SGD without momentum (family sgd)",
        "1. `1.pth`\n2. `100.pth`\n3. `200.pth`\n",
    ):
        assert said in card
    assert "three constants" not in card, "these ones listen to the loss"
    for stage, weights_ in enumerate(learned.stages, 1):
        row = " | ".join(f"{settled(weights_, loss):.4f}" for loss in (0.01, 0.3, 2.3, 4.6))
        assert f"| stage {stage} | {row} | " in card
    assert contract["trained_on"]["cost"] is None, "unknown, not nothing"
    files = contract["trained_on"]["files"]
    assert [file["name"] for file in files] == ["1.pth", "100.pth", "200.pth"]
    first = hashlib.sha256((tmp_path / "1.pth").read_bytes()).hexdigest()
    assert files[0]["sha256"] == first


def test_constants_are_called_so(tmp_path, capsys):
    files = []
    for epoch, bias in ((1, 1.0), (100, -3.0), (200, -4.0)):
        flat = {key: torch.zeros(shape) for key, shape in SHAPES.items()} | {
            "layer3.bias": torch.tensor([bias])
        }
        files.append(str(write(tmp_path / f"{epoch}.pth", flat)))
    _, out, _ = outcome(capsys, "import-official", *files, "--out", str(tmp_path / "made"))
    said = "In effect these are three constants, 0.7311, 0.0474, 0.0180"
    assert said in out and said in (tmp_path / "made" / "README.md").read_text()


def test_a_stage_whose_output_is_zero_has_no_ratio_and_does_not_stop_the_import(tmp_path, capsys):
    files = [str(path) for path in three(tmp_path)]
    write(tmp_path / "1.pth", changed(**{KEY: torch.tensor([-1e6])}))
    _, out, err = outcome(capsys, "import-official", *files, "--out", str(tmp_path / "made"))
    assert err == ""
    assert "stage 1  1.pth    output 0.0000 at loss 0.3\n" in out
    card = (tmp_path / "made" / "README.md").read_text()
    assert "| stage 1 | 0.0000 | 0.0000 | 0.0000 | 0.0000 | 1.000 |" in card


def test_help_says_what_the_files_are_and_where(capsys):
    code, out, _ = outcome(capsys, "import-official", "--help")
    assert code == 0
    assert "--out DIR" in out and "xjtushujun/MLR-SNet" in out


# The authors' files, where they are ---------------------------------------------------------------


@authors
def test_the_authors_files_give_the_known_outputs(tmp_path, capsys):
    files = [str(Path(OFFICIAL) / f"mlr_snet_{epoch}.pth") for epoch in (1, 100, 200)]
    code, out, err = outcome(capsys, "import-official", *files, "--out", str(tmp_path / "made"))
    assert (code, err) == (0, "")
    assert "In effect these are three constants, 0.7283, 0.0362, 0.0180" in out
    learned, _ = checkpoint.load(tmp_path / "made")
    for weights_, golden in zip(learned.stages, (0.7283, 0.0362, 0.0180), strict=True):
        constant = Learned(learned.net, [weights_], 1.0)
        state, rate = constant.init(), 0.0
        for step in range(60):
            view = StepView(constant, step, loss=torch.tensor(0.3))
            rate, state = constant(view, state)
        assert float(rate) == pytest.approx(golden, abs=5e-5)
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    assert config["license"] == "unknown"
    assert (config["arguments"]["gates"], config["arguments"]["forget_offset"]) == ("ifgo", 0.0)
