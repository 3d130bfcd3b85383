"""Windows of a text: which tokens a batch holds, and the exact scores of a pass and of a run."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from meta_lr.methods.basic import Constant
from meta_lr.records.reader import read_record
from meta_lr.tasks.models import MLP, LSTMLanguageModel
from meta_lr.training.evaluation import measure
from meta_lr.training.loop import STATE, train
from tests.image_sets import digest, numbers_task
from tests.short_runs import batches_of
from tests.texts import BEFORE, SGD, counting, talk


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)


# Batches ------------------------------------------------------------------------------------------

CALLS = [("train", 0), ("train", 17), ("meta", 5), ("val", 1), ("test", 0), ("train", 2, 0)]
CALLS += [("train", 2, 1), ("meta", 2, 0), ("val", 2, 0)]


@pytest.mark.parametrize("warm", [0, 1, 7, 30])
@pytest.mark.parametrize("call", CALLS)
def test_a_window_s_tokens_follow_each_other_and_what_came_before(warm, call):
    inputs, targets = counting(warm=warm).batch(*call)
    assert inputs.shape == (len(targets), warm + 5) and targets.shape[1] == 5
    first = {"train": 0, "meta": 100, "val": 123, "test": 148}[call[0]]
    for read, wanted in zip(inputs.tolist(), targets.tolist(), strict=True):
        expected = [place - 1 if place > first else BEFORE for place in wanted]
        assert read[warm:] == expected
        start = wanted[0] - 1 - warm
        assert read[:warm] == [p if p >= first else BEFORE for p in range(start, start + warm)]


def test_one_epoch_predicts_each_token_of_train_once_in_a_new_order():
    task = counting()
    assert task.num_batches("train") == 6  # 20 windows; the last two are dropped
    epochs = [
        torch.cat([task.batch("train", 6 * epoch + i)[1] for i in range(6)]) for epoch in range(3)
    ]
    for epoch in epochs:
        assert len(epoch.unique()) == epoch.numel() == 90
    assert not torch.equal(epochs[0], epochs[1])
    union = torch.cat([epoch.flatten() for epoch in epochs]).unique()
    assert torch.equal(union, torch.arange(100))


@pytest.mark.parametrize("batch_size", [1, 3, 20])
@pytest.mark.parametrize(("split", "first", "end"), [("val", 123, 148), ("test", 148, 178)])
def test_a_pass_predicts_each_token_of_whole_windows_in_order(batch_size, split, first, end):
    task = counting(batch_size=batch_size)
    targets = [task.batch(split, i)[1].flatten() for i in range(task.num_batches(split))]
    assert torch.equal(torch.cat(targets), torch.arange(first, end))


def test_a_batch_depends_on_its_arguments_alone():
    expected = digest(counting(), CALLS)
    task = counting()
    for index in range(20):
        task.batch("train", index)
    torch.rand(3)
    assert digest(task, CALLS[::-1]) == expected[::-1]
    assert len(set(expected)) == len(CALLS)
    others = digest(counting(seed=1), CALLS)
    assert [a == b for a, b in zip(expected, others, strict=True)] == [
        call in (("val", 1), ("test", 0)) for call in CALLS
    ]


def test_a_batch_is_memory_of_its_own():
    task = counting()
    state = torch.get_rng_state()
    inputs, targets = task.batch("train", 0)
    inputs.zero_(), targets.zero_()
    assert torch.equal(task.parts["train"], torch.arange(100))
    assert torch.equal(task.batch("train", 0)[1], counting().batch("train", 0)[1])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"length": 0}, "length=0 and warm=7; needed are at least 1 and at least 0"),
        ({"warm": -1}, "warm=-1"),
        ({"length": 26}, "25 tokens in val, less than one window of length=26; raise val_size="),
        ({"batch_size": 21}, "batch_size=21.*number of train windows, 20"),
        ({"parts": {"train": torch.arange(9)}}, "got parts \\['train'\\]; needed are train, meta"),
        ({"network": MLP}, "gives its network num_classes, and MLP: missing.*such as lstm"),
    ],
)
def test_what_does_not_fit_together_is_refused_at_construction(changes, words):
    with pytest.raises(ValueError, match=words):
        counting(**changes)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("dev", 0), "'dev' is no split; choose one of train, meta, val, test"),
        (("val", 2), "'val' has 2 batches; there is no batch 2"),
        (("meta", 0), "no window in split 'meta'; raise meta_size"),
    ],
)
def test_a_batch_that_does_not_exist_is_refused(call, words):
    parts = {**counting().parts, "meta": torch.arange(4)}
    with pytest.raises(ValueError, match=words):
        counting(parts=parts).batch(*call)


def test_a_language_model_is_refused_for_images():
    with pytest.raises(ValueError, match=r"LSTMLanguageModel: got an unexpected.*such as mlp"):
        numbers_task(network=LSTMLanguageModel)


# Loss and metrics ---------------------------------------------------------------------------------


def test_loss_and_metrics_are_those_of_known_probabilities():
    odds = torch.tensor([[[0.5, 0.5], [0.2, 0.8]], [[0.9, 0.1], [0.25, 0.75]]])
    batch = (torch.zeros(2, 5, dtype=torch.int64), torch.tensor([[1, 1], [0, 0]]))

    def model(inputs, num_scored):
        assert (inputs is batch[0]) and num_scored == 2
        return odds.log()

    expected = -torch.tensor([0.5, 0.8, 0.9, 0.25]).log().mean()
    metrics = talk(characters=True).metrics(model, batch)
    assert list(metrics) == ["loss", "perplexity", "bits_per_character"]
    torch.testing.assert_close(talk().loss(model, batch), expected)
    torch.testing.assert_close(metrics["loss"], expected)
    torch.testing.assert_close(metrics["perplexity"], expected.exp())
    torch.testing.assert_close(metrics["bits_per_character"], expected / math.log(2))
    assert list(talk().metrics(model, batch)) == ["loss", "perplexity"]


def by_hand(model, tokens, length, warm):
    """Read a part token by token, each window from a fresh state, and return the mean loss."""
    losses = []
    for start in range(0, len(tokens) - length + 1, length):
        state, before = None, [1] * (warm + 1) + tokens.tolist()
        for place, token in enumerate(before[start : start + warm + length]):
            out, state = model.lstm(model.embedding(torch.tensor([[token]])), state)
            if place >= warm:
                logits = out[0, 0] @ model.embedding.weight.T + model.bias
                losses.append(cross_entropy(logits, tokens[start + place - warm]).item())
    assert len(losses) == len(tokens) // length * length
    return sum(losses) / len(losses)


@pytest.mark.parametrize("batch_size", [1, 5, 7, 12])
@pytest.mark.parametrize("warm", [0, 3, 8])
def test_a_pass_gives_the_loss_token_by_token_whatever_the_batch_size(double, batch_size, warm):
    task = talk(batch_size=batch_size, warm=warm, characters=True)
    model = task.model()
    with torch.no_grad():
        model.embedding.weight.mul_(30)
    measured = measure(task, model, "val", batches_of(task))
    expected = by_hand(model, task.parts["val"], 5, warm)
    assert measured["loss"] == pytest.approx(expected, rel=1e-12)
    assert measured["perplexity"] == pytest.approx(math.exp(expected), rel=1e-12)
    assert measured["bits_per_character"] == pytest.approx(expected / math.log(2), rel=1e-12)


def test_a_perplexity_too_large_for_a_number_is_infinite():
    task = SimpleNamespace(num_batches=lambda _: 1, metrics=lambda *_: HUGE)
    model = SimpleNamespace(eval=lambda: None, train=lambda: None)
    assert measure(task, model, "val", lambda *_: [(torch.ones(1),)])["perplexity"] == math.inf


HUGE = {"loss": torch.tensor(1e4), "perplexity": torch.tensor(math.inf)}


def test_a_run_is_scored_by_its_loss_and_records_its_perplexity(tmp_path):
    task = talk(characters=True)
    outcome = train(task, SGD, Constant(2.0), total_steps=12, folder=tmp_path, clip=0.25)
    for weights in ("last", "best"):
        tested = outcome.test[weights]
        assert set(tested) == {"loss", "perplexity", "bits_per_character"}
        assert tested["perplexity"] == pytest.approx(math.exp(tested["loss"]))
    rows = read_record(tmp_path).evaluations
    assert all(row["perplexity"] == pytest.approx(math.exp(row["loss"])) for row in rows)
    best = min(row["loss"] for row in rows if row["split"] == "val")
    best_model = task.model()
    best_model.load_state_dict(torch.load(tmp_path / STATE, weights_only=True)["best"][1])
    assert measure(task, best_model, "val", batches_of(task))["loss"] == pytest.approx(best)
