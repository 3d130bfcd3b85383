"""Language tasks: windows of a text, a warmed state, a tied model, exact scores, files."""

from __future__ import annotations

import copy
import functools
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from meta_lr import vectors
from meta_lr.baselines.policies import Constant
from meta_lr.bilevel.estimators import Adjoint, ClosedForm, FirstOrder, Unroll
from meta_lr.bilevel.objectives import Final
from meta_lr.bilevel.online import OnlineMLRSNet
from meta_lr.schedulers.lstm import LSTM
from meta_lr.seeds import seed_model
from meta_lr.tasks import SPLITS, TextTask, text_file
from meta_lr.tasks.models import MLP, LSTMLanguageModel
from meta_lr.tasks.vocabulary import encode, tokenise, vocabulary
from meta_lr.training.evaluation import measure
from meta_lr.training.loop import STATE, train
from meta_lr.training.record import read_rows
from meta_lr.training.sandbox import Sandbox
from tests import smooth
from tests.image_sets import digest, numbers_task
from tests.toys import HeavyProber

TINY = functools.partial(LSTMLanguageModel, width=4, layers=1, dropout=0.0)
SGD = functools.partial(torch.optim.SGD, lr=0.1)
BEFORE = 180


def counting(**changes):
    """A text of the numbers from 0 to 179, so that a token says where it stands."""
    arguments = {
        "name": "counting",
        "num_classes": BEFORE + 1,
        "network": TINY,
        "parts": dict(zip(SPLITS, torch.arange(BEFORE).split([100, 23, 25, 32]), strict=True)),
        "before": BEFORE,
        "batch_size": 3,
        "length": 5,
        "warm": 7,
        "seed": 0,
    }
    return TextTask(**{**arguments, **changes})


def talk(**changes):
    """A short random text of five tokens, for models."""
    g = torch.Generator().manual_seed(3)
    parts = dict(zip(SPLITS, torch.randint(0, 5, (240,), generator=g).split(60), strict=True))
    arguments = {"num_classes": 5, "before": 1, "parts": parts, "batch_size": 4, "warm": 3}
    return counting(**{**arguments, **changes})


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


# The model ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "tied", "weights"),
    [(2, True, 9_332_496), (3, True, 11_433_744), (2, False, 14_452_496)],
)
def test_number_of_weights_is_that_of_pytorch_s_example(layers, tied, weights):
    model = LSTMLanguageModel(num_classes=10_000, layers=layers, tied=tied)
    assert sum(weight.numel() for weight in model.parameters()) == weights


def test_a_fresh_model_is_a_pure_function_of_the_seed():
    state = torch.get_rng_state()
    first, again, other = (talk(seed=seed).model().state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])
    assert first["embedding.weight"].abs().max() <= 0.1 and not first["bias"].any()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("tied", [True, False])
def test_warming_changes_no_output_and_takes_no_gradient(double, layers, tied):
    model = LSTMLanguageModel(num_classes=9, width=6, layers=layers, dropout=0.0, tied=tied)
    tokens = torch.tensor([[8, 1, 2, 3, 4, 0], [8, 4, 0, 1, 1, 2]])  # the 8 is only read to warm
    whole, warmed = model(tokens, 6), model(tokens, 4)
    torch.testing.assert_close(warmed, whole[:, 2:], rtol=1e-12, atol=1e-12)

    def slope(logits):
        (grad,) = torch.autograd.grad(logits[..., :5].sum(), model.embedding.weight)
        return grad[8]

    assert slope(whole[:, 2:]).any() and not slope(warmed).any()


@pytest.mark.parametrize("num_scored", [5, 3])
def test_dropout_acts_in_train_mode_only(num_scored):
    model = LSTMLanguageModel(num_classes=9, width=8, layers=2, dropout=0.5)
    tokens = torch.arange(5).view(1, 5)
    assert not torch.equal(model(tokens, num_scored), model(tokens, num_scored))
    model.eval()
    assert torch.equal(model(tokens, num_scored), model(tokens, num_scored))


def test_second_derivatives_exist_in_single_precision_too():
    task = talk(network=functools.partial(TINY, layers=2, dropout=0.2))
    model = task.model()
    weights = list(model.parameters())
    loss = task.loss(model, task.batch("train", 0))
    first = torch.autograd.grad(loss, weights, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), weights)
    assert all(g.isfinite().all() and g.any() for g in second)


@pytest.mark.parametrize(
    "changes", [{"num_classes": 0}, {"width": 0}, {"layers": 0}, {"dropout": 1.0}]
)
def test_a_model_out_of_range_is_refused(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"LSTMLanguageModel got {name}="):
        LSTMLanguageModel(**{"num_classes": 5, **changes})


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
    measured = measure(task, model, "val", task.batch)
    expected = by_hand(model, task.parts["val"], 5, warm)
    assert measured["loss"] == pytest.approx(expected, rel=1e-12)
    assert measured["perplexity"] == pytest.approx(math.exp(expected), rel=1e-12)
    assert measured["bits_per_character"] == pytest.approx(expected / math.log(2), rel=1e-12)


def test_a_perplexity_too_large_for_a_number_is_infinite():
    task = SimpleNamespace(num_batches=lambda _: 1, metrics=lambda *_: HUGE)
    model = SimpleNamespace(eval=lambda: None, train=lambda: None)
    assert measure(task, model, "val", lambda *_: (torch.ones(1),))["perplexity"] == math.inf


HUGE = {"loss": torch.tensor(1e4), "perplexity": torch.tensor(math.inf)}


# The tie ------------------------------------------------------------------------------------------


def moved(task, model):
    """Weights away from the model's, in its order."""
    g = torch.Generator().manual_seed(5)
    return [p.detach() + 0.3 * torch.randn(p.shape, generator=g) for p in model.parameters()]


@pytest.mark.parametrize("copied", [False, True])
def test_a_replaced_embedding_is_replaced_at_the_output_too(double, copied):
    task = talk()
    model = copy.deepcopy(task.model()) if copied else task.model()
    sandbox = Sandbox(model, SGD(model.parameters()), task.loss, task.batch)
    weights = [w.requires_grad_() for w in moved(task, model)]
    slopes = torch.autograd.grad(sandbox.meta_loss(weights), weights)
    twin = task.model()
    with torch.no_grad():
        for p, w in zip(twin.parameters(), weights, strict=True):
            p.copy_(w)
    loss = task.loss(twin, task.batch("meta", 0, 0))
    loss.backward()
    assert sandbox.meta_loss(weights).item() == pytest.approx(loss.item(), rel=1e-12)
    for slope, p in zip(slopes, twin.parameters(), strict=True):
        torch.testing.assert_close(slope, p.grad, rtol=1e-10, atol=1e-12)
    names = [name for name, _ in model.named_parameters()]
    assert names.count("embedding.weight") == 1 and len(names) == 6  # four of the LSTM, the bias


def waiting(monkeypatch, task, clip=None):
    monkeypatch.setattr(smooth, "Smooth", lambda _: task)
    optimizer = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-2)
    run = smooth.Waiting("text", optimizer, LSTM(hidden=4), rate=2.0)
    run.sandbox.clip = clip
    return run


def apart(a, b):
    return float(vectors.norm(torch._foreach_sub(list(a), list(b))) / vectors.norm(a))


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_meta_gradient_is_that_of_central_differences(double, monkeypatch, layers, clip):
    network = functools.partial(TINY, layers=layers, dropout=0.2)
    run = waiting(monkeypatch, talk(network=network, warm=0), clip)
    weights = Final()(0, 4)
    grads = run.estimate(Adjoint(), weights).grads
    assert apart(grads, run.estimate(Unroll(), weights).grads) < 1e-8
    g = torch.Generator().manual_seed(0)
    direction = [torch.randn(w.shape, generator=g) for w in run.phi]
    up, down = (
        run.estimate(FirstOrder(), weights, vectors.axpy(size, direction, run.phi)).loss
        for size in (1e-5, -1e-5)
    )
    assert vectors.dot(grads, direction).item() == pytest.approx((up - down) / 2e-5, rel=1e-6)


def test_the_estimators_agree_where_the_state_is_warmed(double, monkeypatch):
    run = waiting(monkeypatch, talk(network=functools.partial(TINY, dropout=0.2)))
    walked = run.estimate(Adjoint(), Final()(0, 4)).grads
    assert apart(walked, run.estimate(Unroll(), Final()(0, 4)).grads) < 1e-8
    first, *others = (run.estimate(e(), (1.0,)).grads for e in (ClosedForm, Adjoint, Unroll))
    assert all(apart(first, other) < 1e-8 for other in others)


def test_a_broken_tie_would_be_noticed(double, monkeypatch):
    whole = waiting(monkeypatch, talk(warm=0)).estimate(Adjoint(), (1.0,)).grads
    linear = nn.functional.linear

    def cut(hidden, matrix, bias):
        return linear(hidden, matrix.detach(), bias)

    run = waiting(monkeypatch, talk(warm=0))
    monkeypatch.setattr(nn.functional, "linear", cut)
    assert apart(whole, run.estimate(Adjoint(), (1.0,)).grads) > 1e-2


# Runs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_experiments_replay_the_run_s_loss_and_leave_no_trace(dropout):
    task = talk(network=functools.partial(TINY, layers=2, dropout=dropout))
    probed, plain = (
        train(task, SGD, controller, total_steps=6, clip=0.25)
        for controller in (HeavyProber(0.05), Constant(0.05))
    )
    same = zip(probed.model.state_dict().values(), plain.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)

    model = task.model()
    sandbox = Sandbox(model, SGD(model.parameters()), task.loss, task.batch, seed=0)
    sandbox.at(3)
    seed_model(0, "model", 3)
    assert sandbox.loss(list(model.parameters())).equal(task.loss(model, task.batch("train", 3)))


def test_a_run_is_scored_by_its_loss_and_records_its_perplexity(tmp_path):
    task = talk(characters=True)
    outcome = train(task, SGD, Constant(2.0), total_steps=12, folder=tmp_path, clip=0.25)
    for weights in ("last", "best"):
        tested = outcome.test[weights]
        assert set(tested) == {"loss", "perplexity", "bits_per_character"}
        assert tested["perplexity"] == pytest.approx(math.exp(tested["loss"]))
    rows = [row for row in read_rows(tmp_path) if row["kind"] == "eval"]
    assert all(row["perplexity"] == pytest.approx(math.exp(row["loss"])) for row in rows)
    best = min(row["loss"] for row in rows if row["split"] == "val")
    best_model = task.model()
    best_model.load_state_dict(torch.load(tmp_path / STATE, weights_only=True)["best"][1])
    assert measure(task, best_model, "val", task.batch)["loss"] == pytest.approx(best)


def test_online_mlr_snet_learns_on_text():
    task = talk(network=functools.partial(TINY, layers=2))
    online = OnlineMLRSNet(LSTM(hidden=4), gamma=4.0, period=4)
    outcome = train(task, SGD, online, total_steps=24, clip=0.25)
    assert outcome.status == "finished" and int(outcome.state.updates) == 6


def test_a_regular_text_is_learned_beyond_its_windows(tmp_path):
    path = tmp_path / "pattern.txt"
    path.write_text("aab" * 400)
    changes = {"length": 2, "meta_size": 0, "val_size": 200, "test_size": 200}
    network = functools.partial(LSTMLanguageModel, width=16, layers=1, dropout=0.0)
    losses = [
        train(
            text_file(path, network, warm=warm, **changes),
            functools.partial(torch.optim.Adam, lr=0.01),
            Constant(0.02),
            total_steps=100,
        ).test["last"]["loss"]
        for warm in (0, 8)
    ]
    assert losses[1] < 0.1 < 0.2 < losses[0]  # one character cannot tell which of the a's it is


# Files --------------------------------------------------------------------------------------------

LINES = "the cat sat\nthe <unk> cat\n\nthe end\n"


def test_words_are_what_stands_between_spaces_with_an_end_for_each_line():
    words = tokenise(LINES, "word")
    assert " ".join(words) == "the cat sat <eos> the <unk> cat <eos> <eos> the end <eos>"
    numbers = vocabulary(words, "word")
    assert list(numbers) == ["<unk>", "<eos>", "the", "cat", "end", "sat"]
    assert encode(words, numbers).tolist() == [2, 3, 5, 1, 2, 0, 3, 1, 1, 2, 4, 1]
    few = vocabulary(words, "word", 3)
    assert encode([*words[:3], "dog"], few).tolist() == [2, 0, 0, 0]
    assert tokenise("no end", "word") == ["no", "end", "<eos>"]


def test_characters_are_counted_by_frequency_and_the_line_end_comes_first():
    numbers = vocabulary(tokenise("abba\nbé", "char"), "char")
    assert list(numbers) == ["<unk>", "\n", "b", "a", "é"]
    assert encode("éz\n", numbers).tolist() == [4, 0, 1]


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.v1.txt"
    path.write_text("abcdefghij" * 100 + "\nxyz" + "ab\n" * 9)
    return path


SIZES = {"meta_size": 43, "val_size": 60, "test_size": 57, "length": 10, "batch_size": 4}


def test_a_file_is_cut_into_whole_windows_one_part_after_the_other(book):
    task = text_file(book, TINY, **SIZES)
    assert task.name == "book-characters" and task.characters
    assert [len(task.parts[split]) for split in SPLITS] == [1031 - 150, 40, 60, 50]
    assert task.num_classes == 12  # xyz stand behind the train part
    whole = book.read_text()
    numbers = vocabulary(whole[:881], "char")
    parts = torch.cat([task.parts[split] for split in SPLITS])
    assert torch.equal(parts, encode(whole, numbers))
    assert text_file(book, TINY, **SIZES, seed=4).parts["val"].equal(task.parts["val"])


def test_val_and_test_may_have_files_of_their_own(book, tmp_path):
    (tmp_path / "val").write_text("one b c\n" * 6)
    (tmp_path / "test").write_text("b one\n" * 7)
    words = {"level": "word", "length": 4, "batch_size": 1, "meta_size": 9}
    places = {"val_path": tmp_path / "val", "test_path": tmp_path / "test"}
    book.write_text("a b b c c c\n" * 9)
    task = text_file(book, TINY, **places, **words)
    assert [len(task.parts[split]) for split in SPLITS] == [55, 8, 24, 21]
    assert list(vocabulary(tokenise(book.read_text(), "word"), "word"))[2:] == ["c", "b", "a"]
    assert task.parts["val"][:4].tolist() == [0, 3, 2, 1]
    assert task.num_classes == 5 and task.name == "book-words" and not task.characters
    small = text_file(book, TINY, **places, **words, max_words=3)
    assert small.num_classes == 3 and small.parts["val"][:4].tolist() == [0, 0, 2, 1]
    only_test = text_file(book, TINY, test_path=tmp_path / "test", val_size=8, **words)
    assert [len(only_test.parts[split]) for split in SPLITS] == [47, 8, 8, 21]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "none.txt"}, "no file at path=none.txt .*; needed is a text in UTF-8"),
        ({"test_path": "none.txt"}, "no file at test_path=none.txt"),
        (
            {"val_size": 2000},
            "1031 characters, but meta_size=43 and val_size=2000 and test_size=57",
        ),
        ({"val_size": 5}, "0 tokens in val, less than one window of length=10; raise val_size="),
        ({"meta_size": -1}, "length=10 and meta_size=-1"),
        ({"length": 0}, "length=0"),
        ({"max_words": 9}, "max_words=9 with level=char"),
        ({"max_words": 1, "level": "word"}, "max_words=1 with level=word; needed is 0, or a"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_reason(book, changes, words):
    arguments = {"path": book, **SIZES, **changes}
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        text_file(arguments.pop("path"), TINY, **arguments)


def test_what_is_no_text_is_refused(book):
    book.write_bytes(b"\xff\xfe\x00abc")
    with pytest.raises(ValueError, match=r"book.v1.txt is no text in UTF-8 \(.*\); convert it"):
        text_file(book, TINY, **SIZES)
