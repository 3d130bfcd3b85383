"""Image tasks: pure batches, disjoint splits, whole epochs, fresh models, clear refusals."""

from __future__ import annotations

import functools
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from meta_lr.tasks import SPLITS, digits
from meta_lr.tasks.models import CNN3, MLP
from meta_lr.tasks.splits import balanced_cut
from tests.image_sets import SMALL, digest, fingerprint, numbers, numbers_task

PROJECT = Path(__file__).parents[2]
CONF = PROJECT / "conf"
AUGMENTED = {"seed": 7, "flip": True, "crop_padding": 1}
CALLS = [
    ("train", 0, None),
    ("train", 57, None),
    ("meta", 0, None),
    ("meta", 11, None),
    ("val", 1, None),
    ("test", 0, None),
    ("train", 3, 0),
    ("train", 3, 1),
    ("meta", 3, 0),
    ("val", 3, 0),
    ("val", 4, 0),
]


def test_digits_can_be_enlarged():
    small, large = (digits(MLP, size=size) for size in (8, 16))
    means = [task.images.double().mean().item() for task in (small, large)]
    assert large.images.shape == (1797, 1, 16, 16) and large.images.dtype == torch.uint8
    assert means[1] == pytest.approx(means[0], rel=0.01)
    corners = large.images[..., 0, 0], small.images[..., 0, 0]
    assert torch.equal(*corners), "what lies beyond the outermost centres is as they are"


# Batches ------------------------------------------------------------------------------------------


def test_batch_depends_on_its_arguments_alone():
    expected = digest(numbers_task(**AUGMENTED), CALLS)
    assert digest(numbers_task(**AUGMENTED), CALLS[::-1]) == expected[::-1]
    task = numbers_task(**AUGMENTED)
    for index in range(40):
        task.batch("train", index)
    torch.rand(5)
    assert digest(task, CALLS) == expected
    assert digest(task, CALLS) == expected


CHILD = """
import sys
sys.path.insert(0, {project!r})
from tests.image_sets import digest, numbers_task
print(*digest(numbers_task(**{arguments}), {calls}))
"""


def test_batch_is_the_same_in_another_process_and_order():
    code = CHILD.format(project=str(PROJECT), arguments=AUGMENTED, calls=CALLS[::-1])
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.split() == digest(numbers_task(**AUGMENTED), CALLS)[::-1]


def test_every_argument_and_the_seed_change_the_batch():
    def drawn(seed, *call):
        return fingerprint(numbers_task(seed=seed, flip=True, crop_padding=1).batch(*call))

    calls = [("train", 1), ("train", 2), ("meta", 1), ("train", 1, 0), ("train", 1, 1)]
    calls += [("train", 2, 0), ("meta", 1, 0), ("val", 1, 0), ("val", 2, 0)]
    assert len({drawn(seed, *call) for call in calls for seed in (0, 1)}) == 2 * len(calls)
    assert drawn(0, "val", 1) == drawn(1, "val", 1)


def test_batch_leaves_the_global_random_state_and_the_images_alone():
    task = numbers_task(flip=True, crop_padding=2)
    images, state = task.images.clone(), torch.get_rng_state()
    inputs, _ = task.batch("train", 0)
    inputs.zero_()
    task.batch("meta", 0, 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(task.images, images)


def test_one_epoch_visits_each_training_example_once():
    task = numbers_task(batch_size=7)
    assert task.num_batches("train") == 10
    epochs = [
        [
            number
            for index in range(10)
            for number in numbers(task.batch("train", 10 * epoch + index))
        ]
        for epoch in range(3)
    ]
    assert all(sorted(epoch) == list(range(70)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3


def test_train_drops_its_last_partial_batch():
    task = numbers_task(batch_size=8)
    assert task.num_batches("train") == 8
    epoch = [number for index in range(8) for number in numbers(task.batch("train", index))]
    assert len(set(epoch)) == 64


def test_meta_is_endless_in_equal_batches_that_cover_each_pass():
    task = numbers_task(batch_size=8)
    assert task.num_batches("meta") == 3
    for epoch in range(4):
        batches = [numbers(task.batch("meta", 3 * epoch + index)) for index in range(3)]
        assert all(len(set(batch)) == 8 for batch in batches)
        assert set().union(*batches) == set(range(70, 91))


@pytest.mark.parametrize(("split", "first", "end"), [("val", 91, 110), ("test", 110, 130)])
def test_val_and_test_pass_once_in_order_without_augmentation(split, first, end):
    task = numbers_task(flip=True, crop_padding=4)
    batches = [task.batch(split, index) for index in range(task.num_batches(split))]
    assert [number for batch in batches for number in numbers(batch)] == list(range(first, end))
    seen = torch.cat([inputs for inputs, _ in batches])
    torch.testing.assert_close(seen, task.images[first:end].to(seen.dtype))


@pytest.mark.parametrize("split", SPLITS)
def test_draws_are_samples_without_replacement_from_their_split(split):
    task = numbers_task()
    members = set(task.splits[split].tolist())
    batches = [numbers(task.batch(split, step, draw)) for step in range(12) for draw in range(12)]
    assert all(len(set(batch)) == 8 for batch in batches)
    assert set().union(*batches) == members


def test_labels_belong_to_their_images():
    task = numbers_task()
    for call in CALLS[:2] + CALLS[4:]:
        batch = task.batch(call[0], min(call[1], 2), call[2])
        assert batch[1].tolist() == [number % 5 for number in numbers(batch)]


@pytest.mark.parametrize(("split", "augmented"), [("train", True), ("meta", True), ("val", False)])
@pytest.mark.parametrize("draw", [None, 2])
def test_train_and_meta_are_augmented_and_val_is_not(split, augmented, draw):
    inputs, _ = numbers_task(crop_padding=4).batch(split, 0, draw)
    plain, _ = numbers_task(crop_padding=0).batch(split, 0, draw)
    assert torch.equal(inputs, plain) is not augmented


@pytest.mark.parametrize("other", [("train", 1), ("meta", 0), ("train", 0, 0), ("train", 0, 1)])
def test_every_batch_is_cropped_in_its_own_way(other):
    picture = torch.arange(1, 17, dtype=torch.uint8).view(1, 1, 4, 4).expand(130, 3, -1, -1)
    task = numbers_task(images=picture, crop_padding=2, flip=True)
    batch = task.batch("train", 0)[0]
    assert len(batch.flatten(1).unique(dim=0)) > 1
    assert not torch.equal(batch, task.batch(*other)[0])


def test_a_split_smaller_than_a_batch_gives_all_it_has():
    task = numbers_task(batch_size=50)
    assert sorted(numbers(task.batch("meta", 5))) == list(range(70, 91))
    assert len(numbers(task.batch("val", 9, 1))) == 19


def test_memory_order_changes_no_value():
    inputs, _ = numbers_task(channels_last=True, flip=True, crop_padding=2).batch("train", 0)
    plain, _ = numbers_task(channels_last=False, flip=True, crop_padding=2).batch("train", 0)
    assert torch.equal(inputs, plain)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert plain.is_contiguous()


def test_training_images_have_mean_zero_and_deviation_one_per_channel():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (130, 3, 4, 4), generator=generator, dtype=torch.uint8)
    images[70:] = 255
    task = numbers_task(images=images, mean=None, std=None, batch_size=70)
    inputs = task.batch("train", 0)[0].double()
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(inputs.std((0, 2, 3), correction=0), torch.ones(3).double())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("training", 0), "'training' is no split; choose one of train, meta, val, test"),
        (("train", -1), "index -1"),
        (("train", 0, -1), "draw -1"),
        (("val", 3), "'val' has 3 batches; there is no batch 3"),
        (("meta", 0), "no examples in split 'meta'; raise meta_size"),
    ],
)
def test_a_batch_that_does_not_exist_is_refused(call, words):
    splits = {**numbers_task().splits, "meta": torch.arange(0)}
    with pytest.raises(ValueError, match=words):
        numbers_task(splits=splits).batch(*call)


# Splits -------------------------------------------------------------------------------------------


def test_digits_splits_are_disjoint_complete_balanced_and_independent_of_the_seed():
    tasks = [digits(SMALL, seed=seed) for seed in (0, 1)]
    together = torch.cat([tasks[0].splits[split] for split in SPLITS])
    assert sorted(together.tolist()) == list(range(1797))
    sizes = {split: len(tasks[0].splits[split]) for split in SPLITS}
    assert sizes == {"train": 1077, "meta": 180, "val": 180, "test": 360}
    for split in SPLITS:
        assert torch.equal(tasks[0].splits[split], tasks[1].splits[split])
    for split in ("meta", "val", "test"):
        counts = tasks[0].labels[tasks[0].splits[split]].bincount(minlength=10)
        assert (counts == sizes[split] // 10).all()


def test_batches_of_different_splits_share_no_image():
    task = numbers_task()
    seen = {
        split: {n for index in range(3) for n in numbers(task.batch(split, index))}
        | {n for draw in range(9) for n in numbers(task.batch(split, 0, draw))}
        for split in SPLITS
    }
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


def test_balanced_cut_spreads_a_remainder_and_keeps_earlier_parts():
    labels = torch.tensor([3] * 20 + [5] * 30 + [9] * 40)
    parts = balanced_cut(labels, {"val": 10, "meta": 6})
    assert labels[parts["val"]].bincount(minlength=10)[[3, 5, 9]].tolist() == [4, 3, 3]
    assert labels[parts["meta"]].bincount(minlength=10)[[3, 5, 9]].tolist() == [2, 2, 2]
    assert sorted(torch.cat(list(parts.values())).tolist()) == list(range(90))
    assert torch.equal(balanced_cut(labels, {"val": 10, "meta": 30})["val"], parts["val"])


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (
            {"val": 6, "meta": 4},
            "class 1 has 5 examples, but with 2 classes val_size=6 and meta_size=4 take 5 of it",
        ),
        ({"val": -1}, "val_size=-1; it must be at least 0"),
    ],
)
def test_a_cut_that_leaves_nothing_is_refused(sizes, words):
    with pytest.raises(ValueError, match=words):
        balanced_cut(torch.tensor([0] * 9 + [1] * 5), sizes)


# Models, losses, construction ---------------------------------------------------------------------


def test_model_is_a_function_of_the_seed_and_leaves_the_global_random_state():
    def weights(seed):
        network = numbers_task(seed=seed, network=functools.partial(CNN3), images=_larger()).model()
        return torch.cat([weight.flatten() for weight in network.parameters()])

    state = torch.get_rng_state()
    first = weights(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(weights(0), first)
    assert not torch.equal(weights(1), first)


def _larger():
    return torch.zeros(130, 3, 8, 8, dtype=torch.uint8)


def test_model_is_told_what_the_images_are():
    seen = {}

    def network(**given):
        seen.update(given)
        return SMALL(**given)

    numbers_task(network=network).model()
    assert seen == {"in_channels": 3, "image_size": 4, "num_classes": 5}


def test_loss_and_metrics_of_known_logits():
    logits = torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]]).log()
    task = numbers_task()
    batch = (logits, torch.tensor([1, 1, 1]))
    expected = -torch.tensor([0.5, 0.8, 0.1]).log().mean()
    metrics = task.metrics(torch.nn.Identity(), batch)
    torch.testing.assert_close(task.loss(torch.nn.Identity(), batch), expected)
    torch.testing.assert_close(metrics["loss"], expected)
    torch.testing.assert_close(metrics["accuracy"], torch.tensor(1 / 3))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 71}, "batch_size=71.*number of train examples, 70"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"crop_padding": -1}, "crop_padding=-1"),
        ({"mean": (0.5,)}, "mean=\\(0.5,\\).*3 numbers"),
        ({"std": (1.0, 0.0, 1.0)}, "must be positive"),
        ({"images": torch.zeros(130, 3, 4, 4)}, "float.*uint8"),
        ({"images": torch.zeros(130, 3, 4, 5, dtype=torch.uint8)}, "\\(130, 3, 4, 5\\)"),
        ({"labels": torch.zeros(129, dtype=torch.int64)}, "\\(129,\\).*\\(130,\\)"),
        ({"num_classes": 4}, "labels from 0 to 4.*num_classes - 1 = 3"),
        ({"splits": {"train": torch.arange(9)}}, "got splits \\['train'\\]"),
        ({"splits": dict.fromkeys(SPLITS, torch.arange(130))}, "splits that overlap"),
        ({"splits": dict.fromkeys(SPLITS, torch.arange(131))}, "outside 0 to 129"),
        (
            {"splits": {**dict.fromkeys(SPLITS, torch.arange(0)), "train": torch.arange(9)}},
            "no examples in val and test; raise val_size= and test_size=",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_at_construction(changes, words):
    with pytest.raises(ValueError, match=words):
        numbers_task(**changes)


# Configuration ------------------------------------------------------------------------------------


def loaded(path):
    """Return what a file of a group says, over what the files in its list of defaults say."""
    config = OmegaConf.load(path)
    names = [name for name in config.pop("defaults", ()) if name != "_self_"]
    return OmegaConf.merge(*(loaded(path.with_name(f"{name}.yaml")) for name in names), config)


@pytest.mark.parametrize("path", sorted((CONF / "task").glob("*.yaml")), ids=lambda p: p.stem)
def test_task_files_name_every_argument_and_nothing_else(path):
    config = OmegaConf.to_container(loaded(path))
    target = get_object(config.pop("_target_"))
    parameters = inspect.signature(target).parameters
    assert list(config) and set(config) == set(parameters)
    assert config["seed"] == "${seed}"
    assert config.get("model", "${model}") == "${model}"


FACTS = {"in_channels", "image_size", "num_classes"}


@pytest.mark.parametrize("path", sorted((CONF / "model").glob("*.yaml")), ids=lambda p: p.stem)
def test_model_files_become_the_task_s_factory(path):
    size = 64 if path.stem == "torchvision" else 32
    config = loaded(path)
    nested = OmegaConf.create({"factory": "${model}", "model": config})
    factory = instantiate(nested.factory)
    given = set(config) - {"_target_", "_partial_"}
    accepted = set(inspect.signature(get_object(config["_target_"])).parameters)
    facts = {"num_classes"} if "LSTM" in config["_target_"] else FACTS
    assert given | facts == accepted
    if facts == FACTS and path.stem != "wrn28_10":
        network = factory(in_channels=3, image_size=size, num_classes=10)
        assert network(torch.rand(2, 3, size, size)).shape == (2, 10)


def test_digits_from_its_files():
    config = OmegaConf.create(
        {
            "seed": 3,
            "model": OmegaConf.load(CONF / "model" / "mlp.yaml"),
            "task": OmegaConf.load(CONF / "task" / "digits.yaml"),
        }
    )
    task = instantiate(config.task)
    assert task.seed == 3
    assert isinstance(task.model(), MLP)
    inputs, labels = task.batch("train", 0)
    assert inputs.shape == (64, 1, 8, 8) and labels.shape == (64,)
