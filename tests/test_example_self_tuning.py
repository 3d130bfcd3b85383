"""The example of the self-tuning schedule runs, and gives it no learning rate."""

import importlib.util
from pathlib import Path

import pytest
import torch

from meta_lr import checkpoint
from meta_lr.methods.self_tuning.schedule import SelfTuning

PATH = Path(__file__).parents[1] / "examples" / "self_tuning.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("example_self_tuning", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def short(example, monkeypatch):
    monkeypatch.setattr(example, "TUNED", example.TUNED[:2])
    monkeypatch.setattr("sys.argv", ["self_tuning.py", "--steps=6"])


def test_it_compares_and_draws(example, short, tmp_path, monkeypatch, capsys):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question; " * 600)
    monkeypatch.setattr("sys.argv", ["x", "--steps=6", f"--text={text}", f"--out={tmp_path}"])
    example.main()
    said = capsys.readouterr().out
    assert said.count("self-tuning: no learning rate") == len(example.OPTIMIZERS) == 2
    assert "cosine, best of 2" in said and (tmp_path / "self_tuning.svg").stat().st_size > 1000


def test_the_learning_rate_of_the_optimizer_is_not_used(example):
    text = example.Text(*torch.randint(9, (2, 50, example.CONTEXT + 1)), 9)
    runs = [
        example.train("own", text, lambda params, lr, own=own: torch.optim.AdamW(params, own), 0, 6)
        for own in (1e-5, 1e5)
    ]
    assert runs[0].lrs == pytest.approx(runs[1].lrs) and runs[0].lrs[0] < 0.1


def test_the_default_checkpoint_finds_its_own_learning_rate():
    assert isinstance(checkpoint.load_pretrained(), SelfTuning)
    assert checkpoint.load_pretrained().fingerprint == (
        checkpoint.load_pretrained(checkpoint.DEFAULT).fingerprint
    )
