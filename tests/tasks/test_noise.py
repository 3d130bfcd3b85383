"""Label noise: the share that is asked for, of the kind that is asked for, in train alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from meta_lr.tasks import SPLITS, digits
from meta_lr.tasks.noise import noisy
from tests.image_sets import SMALL, numbers, numbers_task

LABELS = torch.arange(10).repeat(1000)
MEMBERS = torch.arange(2000, 10_000)


def wrong(noise, share, **changes):
    """The labels with noise, and where they are wrong."""
    arguments = {"noise": noise, "share": share, "num_classes": 10, "seed": 0}
    labels = noisy(LABELS, MEMBERS, **{**arguments, **changes})
    return labels, (labels != LABELS).nonzero().squeeze(1)


@pytest.mark.parametrize("noise", ["uniform", "flip"])
@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.0001, 1), (0.4, 3200), (1.0, 8000)])
def test_the_share_of_wrong_labels_is_exact_and_the_others_stay(noise, share, count):
    _, where = wrong(noise, share)
    assert len(where) == count
    assert not len(where) or int(where.min()) >= 2000


def test_flip_gives_the_next_class():
    labels, where = wrong("flip", 0.4)
    assert torch.equal(labels[where], (LABELS[where] + 1) % 10)


def test_uniform_gives_every_other_class_equally_often():
    labels, where = wrong("uniform", 1.0)
    counts = torch.zeros(10, 10)
    counts.index_put_((LABELS[where], labels[where]), torch.tensor(1.0), accumulate=True)
    others = counts[~torch.eye(10, dtype=torch.bool)]  # 800 / 9 = 88.9 each, deviation 8.9
    assert counts.diagonal().sum() == 0
    assert others.min() > 50 and others.max() < 130
    assert ((others - 800 / 9).square() / (800 / 9)).sum() < 80 + 4 * 160**0.5  # chi square


def test_noise_is_a_pure_function_of_its_arguments():
    state = torch.get_rng_state()
    first, _ = wrong("uniform", 0.3)
    torch.rand(3)
    assert torch.equal(wrong("uniform", 0.3)[0], first)
    assert not torch.equal(wrong("uniform", 0.3, seed=1)[0], first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(LABELS, torch.arange(10).repeat(1000))


@pytest.mark.parametrize("noise", ["uniform", "flip"])
def test_more_noise_keeps_the_wrong_labels_of_less(noise):
    little, where = wrong(noise, 0.2)
    much, _ = wrong(noise, 0.6)
    assert torch.equal(much[where], little[where])


@pytest.mark.parametrize("draw", [None, 1])
def test_only_train_is_noisy_and_everything_else_of_a_batch_is_as_without(draw):
    clean, flipped = numbers_task(), numbers_task(noise="flip", noise_share=1.0)
    for split in SPLITS:
        for index in range(2):
            images, labels = flipped.batch(split, index, draw)
            assert torch.equal(images, clean.batch(split, index, draw)[0])
            shift = 1 if split == "train" else 0
            assert labels.tolist() == [(number + shift) % 5 for number in numbers((images,))]


def test_meta_is_clean_even_where_it_shares_examples_with_train():
    splits = {**numbers_task().splits, "meta": torch.arange(0, 21)}
    task = numbers_task(splits=splits, meta_overlap=True, noise="flip", noise_share=1.0)
    images, labels = task.batch("meta", 0)
    assert labels.tolist() == [number % 5 for number in numbers((images,))]


def test_an_example_keeps_its_wrong_label_over_epochs_and_draws():
    task = numbers_task(noise="uniform", noise_share=0.5)
    calls = [("train", index, draw) for index in range(24) for draw in (None, 0)]
    seen = {}
    for images, labels in (task.batch(*call) for call in calls):
        for number, label in zip(numbers((images,)), labels.tolist(), strict=True):
            assert seen.setdefault(number, label) == label
    assert sum(label != number % 5 for number, label in seen.items()) == 35  # of 70


def test_a_noisy_task_is_another_problem_in_the_records():
    task = digits(SMALL, noise="uniform", noise_share=0.25)
    assert task.name == "digits-uniform-0.25"
    assert digits(SMALL, noise="uniform").name == digits(SMALL).name == "digits"
    wrong = task._train_labels != task.labels
    assert int(wrong.sum()) == round(0.25 * len(task.splits["train"]))
    assert not wrong[torch.cat([task.splits[split] for split in SPLITS[1:]])].any()
    assert not torch.equal(task._train_labels, replace(task, seed=1)._train_labels)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"noise": "pair"}, "noise=pair; choose one of none, uniform, flip"),
        ({"noise": "flip", "noise_share": 1.5}, "noise_share=1.5; it must be in \\[0, 1\\]"),
        ({"noise": "flip", "noise_share": float("nan")}, "noise_share=nan"),
        ({"noise_share": 0.4}, "noise=none with noise_share=0.4; choose uniform or flip"),
    ],
)
def test_noise_that_does_not_fit_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        numbers_task(**changes)
