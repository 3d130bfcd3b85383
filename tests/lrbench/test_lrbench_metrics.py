"""LRBench's eight metrics: beside a slow twin, by hand, and out of real runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import pytest
import torch

from meta_lr.lrbench import metrics
from meta_lr.lrbench.metrics import Point
from meta_lr.lrbench.robust import Scaled
from meta_lr.lrbench.scored import Scored
from meta_lr.methods.basic import Constant, Cosine
from meta_lr.protocol import Average, Need, StepView
from meta_lr.records.reader import read_rows
from meta_lr.tasks import digits
from meta_lr.tasks.models import MLP
from meta_lr.testing import check_docstring, check_protocol, check_reads, check_repr
from meta_lr.training.evaluation import measure
from meta_lr.training.loop import train
from tests.short_runs import SGD, batches_of, ends, steps_of
from tests.times import untimed
from tests.toys import Toy

ADDED = ("top5", "confidence", "confidence_spread", "class_spread")


def twin(logits, labels):
    """The same from the definitions, example by example."""
    sure, by_class, top5 = [], {}, 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        top = max(row)
        exponentials = [math.exp(value - top) for value in row]
        order = sorted(range(len(row)), key=row.__getitem__, reverse=True)
        top5 += label in order[:5]
        if order[0] == label:
            sure.append(max(exponentials) / sum(exponentials))
            by_class.setdefault(label, []).append(sure[-1])
    of_classes = [sum(values) / len(values) for values in by_class.values()]
    return {
        "accuracy": len(sure) / len(labels),
        "top5": top5 / len(labels),
        "confidence": sum(sure) / len(sure),
        "confidence_spread": spread(sure),
        "class_spread": spread(of_classes),
    }


def spread(values):
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def examples(num=200, classes=8):
    """Logits and labels of which about half are right, and none of the class 3."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (num,), generator=generator)
    logits = 2 * torch.randn(num, classes, generator=generator, dtype=torch.float64)
    logits[torch.arange(num), labels] += 1.5
    logits[:, 3] -= 100
    return logits, labels


def test_classification_is_what_its_definitions_say():
    logits, labels = examples()
    found = metrics.classification(logits, labels)
    assert 0.2 < found["accuracy"] < found["top5"] < 1
    assert found == pytest.approx(twin(logits, labels), rel=1e-12)


def test_a_class_never_predicted_is_left_out_of_the_spread_across_classes():
    """Of the three classes the last is never predicted; as a zero it would dominate."""
    logits = torch.tensor([[0.9, 0.05, 0.05], [0.3, 0.6, 0.1], [0.8, 0.1, 0.1]]).log()
    found = metrics.classification(logits, torch.tensor([0, 1, 2]))
    assert found["class_spread"] == pytest.approx((0.9 - 0.6) / 2, abs=1e-6)
    assert spread([0.9, 0.6, 0.0]) > 2 * found["class_spread"]


def test_without_a_correct_example_there_is_no_confidence():
    found = metrics.classification(torch.eye(6)[[0, 0]], torch.tensor([1, 2]))
    assert found["accuracy"] == 0 and found["top5"] == 1
    assert all(math.isnan(found[name]) for name in ADDED[1:])


def test_ties_count_for_the_label_and_what_is_not_a_number_against_it():
    labels = torch.tensor([9])
    assert metrics.classification(torch.zeros(1, 10), labels)["top5"] == 1
    assert metrics.classification(torch.full((1, 10), math.nan), labels)["top5"] == 0


@pytest.mark.parametrize("shapes", [((4,), (4,)), ((4, 3), (5,)), ((4, 3), (4, 1))])
def test_shapes_that_do_not_go_together_are_refused(shapes):
    logits, labels = torch.zeros(shapes[0]), torch.zeros(shapes[1], dtype=torch.int64)
    with pytest.raises(ValueError, match=r"needed are \(examples, classes\) and \(examples,\)"):
        metrics.classification(logits, labels)


def test_the_loss_difference_is_test_minus_train():
    """The published code stored train - test of its sample, -1.62."""
    assert metrics.loss_difference(test=67.06, train=65.44) == pytest.approx(1.62)
    assert metrics.loss_difference(test=None, train=1.0) is None
    assert metrics.loss_difference(test=1.0, train=None) is None


def test_robustness_is_the_mean_change_over_the_other_base_rates():
    accuracies = {1.0: 0.9, 0.1: 0.5, 0.5: 0.9, 5.0: 0.7, 10.0: 0.0}
    assert metrics.robustness(accuracies) == pytest.approx(-0.375)
    for scale in metrics.SCALES:
        rest = {other: value for other, value in accuracies.items() if other != scale}
        assert metrics.robustness(rest) is None


def test_steps_and_cost_to_a_target_are_those_of_the_first_evaluation_that_reaches_it():
    curve = [Point(10, 11.0, 0.5, 2.0), Point(20, 25.0, 0.8, 1.0), Point(30, 36.0, 0.7, 0.5)]
    by_loss = [point._replace(accuracy=None) for point in curve]
    assert metrics.to_target(curve, 0.8) == (20, 25.0)
    assert metrics.to_target(curve, 0.81) is None
    assert metrics.to_target(by_loss, 0.8) == (30, 36.0)
    assert metrics.to_target(by_loss, 0.4) is None
    assert metrics.to_target([], 0.4) is None


def test_a_target_that_nobody_can_reach_is_refused():
    with pytest.raises(ValueError, match=r"95 is no accuracy; .* \(95 % is 0.95\)"):
        metrics.to_target([Point(1, 1.0, 0.5, 1.0)], 95)
    with pytest.raises(ValueError, match="nan is no loss"):
        metrics.to_target([Point(1, 1.0, None, 1.0)], math.nan)


def small(seed=0):
    return digits(partial(MLP, hidden=(16,)), seed=seed, batch_size=100)


def test_a_scored_run_is_the_plain_run_and_its_record_has_the_metrics(tmp_path):
    """360 test images in batches of 100: the metrics are those of all, not means over batches."""
    folders = tmp_path / "plain", tmp_path / "scored"
    tasks = small(), Scored(small())
    plain, scored = (
        train(task, SGD, Cosine(0.3), total_steps=30, eval_every=10, folder=folder)
        for task, folder in zip(tasks, folders, strict=True)
    )
    steps = [untimed(steps_of(folder)) for folder in folders]
    assert steps[0] == steps[1]
    for name in ("last", "best"):
        added = {key: scored.test[name].pop(key) for key in ADDED}
        assert scored.test[name] == plain.test[name]
    for key in ADDED:
        del scored.val[key]
    assert ends(scored) == ends(plain)

    task = tasks[0]
    data = [task.batch("test", index) for index in range(task.num_batches("test"))]
    with torch.no_grad():
        logits = torch.cat([scored.model.eval()(images) for images, _ in data])
    whole = metrics.classification(logits, torch.cat([labels for _, labels in data]))
    last = next(row for row in read_rows(folders[1]) if row.get("weights") == "last")
    assert {key: last[key] for key in ADDED} == pytest.approx({key: whole[key] for key in ADDED})
    assert last["accuracy"] == pytest.approx(whole["accuracy"]) and set(added) <= set(last)


@dataclass(frozen=True)
class Watched(Toy):
    """Counts the passes over `test`, and how often its metrics call the model."""

    calls: int = 1
    tested: list[int] | None = None

    def batch(self, split, index, draw=None):
        if split == "test":
            self.tested.append(index)
        return super().batch(split, index, draw)

    def metrics(self, model, batch):
        for _ in range(self.calls - 1):
            model(batch[0])
        return super().metrics(model, batch)


def test_a_scored_run_reads_test_as_often_as_a_plain_one():
    task = Watched(tested=[])
    train(Scored(task), SGD, Constant(0.1), total_steps=10)
    assert task.tested == [0, 1, 0, 1]  # at the last and at the best weights


def test_a_task_that_calls_its_model_twice_is_refused_and_no_hook_stays_behind():
    task = Scored(Watched(calls=2, tested=[]))
    model = task.model()
    with pytest.raises(ValueError, match="toy calls its model 2 times per batch"):
        measure(task, model, "val", batches_of(task))
    assert not model._forward_hooks


@dataclass(frozen=True)
class Unscored(Toy):
    def metrics(self, model, batch):
        return {"loss": self.loss(model, batch)}


def test_a_task_without_accuracy_is_measured_as_before():
    task = Unscored()
    plain = measure(task, task.model(), "val", batches_of(task))
    assert measure(Scored(task), task.model(), "val", batches_of(task)) == plain


@dataclass(frozen=True)
class Averaging:
    needs = Need.NOTHING

    def init(self):
        return ()

    def __call__(self, view, state):
        return Average(0.2, 0.5, ()), state


def test_a_scaled_policy_gives_its_rates_times_the_factor():
    inner, scaled = Cosine(0.2), Scaled(Cosine(0.2), 5.0)
    for step in (0, 3, 10):
        view = {"step": step, "total_steps": 10}
        expected = 5.0 * inner(StepView(inner, **view), inner.init())[0]
        assert scaled(StepView(scaled, **view), scaled.init())[0] == expected
    averaged = Scaled(Averaging(), 0.5)
    assert averaged(StepView(averaged, 0), ())[0] == Average(0.1, 0.5, ())
    for check in (check_protocol, check_reads, check_repr, check_docstring):
        check(scaled)


@pytest.mark.parametrize("factor", [0.0, -1.0, math.inf, math.nan])
def test_a_factor_that_gives_no_rates_is_refused(factor):
    with pytest.raises(ValueError, match="needs a finite number > 0"):
        Scaled(Constant(0.1), factor)
