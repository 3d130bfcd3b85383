"""Images that are read for each batch: pure batches in parts, from folders and archives."""

from __future__ import annotations

import io
import pickle
import shutil
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from meta_lr.methods.basic import Cosine
from meta_lr.tasks import SPLITS, image_folder, imagenet
from meta_lr.tasks.fingerprint import fingerprint_of
from meta_lr.tasks.parts import Parted, part_of_batch
from meta_lr.tasks.streaming import stream as module
from meta_lr.training.compute import Compute
from meta_lr.training.loop import train
from tests.image_sets import SMALL, digest, pack
from tests.short_runs import SGD, ends, record_of

CLASSES = tuple("abcdef")
CALLS = [("train", 0), ("train", 9), ("meta", 3), ("val", 0), ("test", 1), ("train", 0, 0)]
CALLS += [("meta", 2, 1), ("val", 1, 1)]


@pytest.fixture(scope="session")
def jpegs(tmp_path_factory):
    """Six classes, 10 + 3 images each, all of one size; the directories are train and val."""
    root, random = tmp_path_factory.mktemp("jpegs") / "set", np.random.default_rng(0)
    for part, count in (("train", 10), ("val", 3)):
        for label, name in enumerate(CLASSES):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 100, (30, 40, 3)) + 25 * label
                file = root / part / name / f"{name}_{number}.JPEG"
                Image.fromarray(pixels.astype(np.uint8)).save(file, quality=90)
    return root


@pytest.fixture
def make(jpegs, tmp_path):
    def task(root=jpegs, **changes):
        sizes = {"size": 16, "batch_size": 8, "meta_size": 12, "val_size": 12}
        return imagenet(root, SMALL, cache=tmp_path / "cache", **{**sizes, **changes})

    return task


# Batches ------------------------------------------------------------------------------------------


def test_batch_depends_on_its_arguments_alone(make):
    expected = digest(make(), CALLS)
    task = make()
    assert digest(task, CALLS[::-1]) == expected[::-1]
    torch.rand(5)
    assert digest(pickle.loads(pickle.dumps(task)), CALLS) == expected
    assert len(set(expected)) == len(CALLS)


def test_the_seed_changes_what_is_random_and_nothing_else(make):
    first, second = (digest(make(seed=seed), CALLS) for seed in (0, 1))
    same = [a == b for a, b in zip(first, second, strict=True)]
    assert same == [call in (("val", 0), ("test", 1)) for call in CALLS]


def test_a_batch_holds_bytes_and_leaves_the_global_random_state_alone(make):
    state = torch.get_rng_state()
    images, labels = make().batch("train", 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert images.shape == (8, 3, 16, 16) and images.dtype == torch.uint8
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.shape == (8,) and labels.dtype == torch.int64
    plain = make(channels_last=False).batch("train", 0)[0]
    assert torch.equal(plain, images) and plain.is_contiguous()


@pytest.mark.parametrize("count", [2, 4, 8])
@pytest.mark.parametrize("call", [("train", 0), ("train", 7), ("meta", 1), ("val", 0)])
def test_parts_are_slices_of_the_batch_and_read_their_own_files_only(
    make, monkeypatch, call, count
):
    task, read = make(), []
    whole = task.batch(*call)
    real = module.contents
    monkeypatch.setattr(
        module, "contents", lambda *a: real(*a[:2], [read.append(i) or i for i in a[2]])
    )
    assert isinstance(task, Parted)
    parts = [part_of_batch(task, *call, part, count) for part in range(count)]
    for found, expected in zip(zip(*parts, strict=True), whole, strict=True):
        assert torch.equal(torch.cat(found), expected)
    assert len(read) == 8
    with pytest.raises(ValueError, match="8 examples has no 3 equal parts"):
        task.part(*call, 0, 3)


def test_an_epoch_shows_each_image_once_in_another_order(make, monkeypatch):
    monkeypatch.setattr(module.ImageStream, "_read", lambda *a, **_: a[4].tolist())
    task = make(batch_size=6)
    assert task.num_batches("train") == 6

    def shown(split, indices):
        return [*chain.from_iterable(task.batch(split, index) for index in indices)]

    epochs = [shown("train", range(6 * e, 6 * e + 6)) for e in range(3)]
    assert all(sorted(epoch) == task.splits["train"].tolist() for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3
    assert shown("test", range(3)) == task.splits["test"].tolist()


def test_splits_are_those_of_an_image_folder(make, jpegs, tmp_path):
    """The same cut of the same order, balanced over the classes."""
    task = make()
    other = image_folder(jpegs, SMALL, meta_size=12, val_size=12, cache=tmp_path, batch_size=8)
    assert all(torch.equal(task.splits[split], other.splits[split]) for split in SPLITS)
    assert torch.equal(task.index.labels.long(), other.labels)
    assert task.index.labels[task.splits["val"]].bincount().tolist() == [2] * 6


def test_the_same_from_a_directory_and_an_archive(make, jpegs, tmp_path):
    archive = make(
        pack(jpegs, tmp_path / "set.tar", prefix="./top/", order=lambda p: sorted(p)[::-1])
    )
    assert digest(archive, CALLS) == digest(make(), CALLS)
    assert fingerprint_of(archive) == fingerprint_of(make())
    assert archive.name == make().name == "set"


def test_workers_change_nothing_of_a_run(make, jpegs, tmp_path):
    def run(workers, root):
        folder = tmp_path / f"run-{workers}-{root.name}"
        options = {"folder": folder, "compute": Compute(workers=workers), "eval_every": 2}
        return ends(train(make(root), SGD, Cosine(0.1), total_steps=4, **options)), record_of(
            folder
        )

    assert run(2, jpegs) == run(0, jpegs)
    archive = pack(jpegs, tmp_path / "set.tar")
    assert run(2, archive) == run(0, jpegs)


# Loss and metrics ---------------------------------------------------------------------------------


class Linear(nn.Module):
    """Six fixed functions of the mean of each channel."""

    def forward(self, x):
        return x.mean((2, 3)) @ torch.arange(18.0, dtype=x.dtype).view(3, 6).sin()


def test_loss_is_smoothed_and_metrics_are_not(make):
    task = make(label_smoothing=0.1)
    images, labels = batch = task.batch("val", 0)
    inputs = images / 255.0
    inputs = (inputs - torch.tensor(task.mean).view(3, 1, 1)) / torch.tensor(task.std).view(3, 1, 1)
    logs = Linear()(inputs).log_softmax(1)
    wanted = 0.9 * nn.functional.one_hot(labels, 6) + 0.1 / 6
    torch.testing.assert_close(task.loss(Linear(), batch), -(wanted * logs).sum(1).mean())
    found = task.metrics(Linear(), batch)
    torch.testing.assert_close(found["loss"], -logs[range(8), labels].mean())
    ranks = (logs > logs[range(8), labels][:, None]).sum(1)
    torch.testing.assert_close(found["accuracy"], (ranks == 0).float().mean())
    torch.testing.assert_close(found["top5"], (ranks < 5).float().mean())
    assert images.dtype == torch.uint8, "the batch itself stays as it is"


def test_five_classes_have_no_top_five(make, jpegs, tmp_path):
    fewer = shutil.copytree(jpegs, tmp_path / "fewer", ignore=shutil.ignore_patterns("f"))
    task = make(fewer, meta_size=10, val_size=10)
    assert set(task.metrics(task.model(), task.batch("val", 0))) == {"loss", "accuracy"}


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"\xff\xd8\xff no image", "is broken"),
        ("half", "is broken .*trunc"),
        (b"GIF89a", "is broken"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_broken_image_is_named(make, jpegs, tmp_path, content, words, packed):
    root = shutil.copytree(jpegs, tmp_path / "broken")
    file = root / "val" / "c" / "c_1.JPEG"
    file.write_bytes(
        file.read_bytes()[: file.stat().st_size // 2] if content == "half" else content
    )
    root = pack(root, tmp_path / "broken.tar") if packed else root
    task = make(root)
    with pytest.raises(ValueError, match=rf"^{root}: the image val/c/c_1.JPEG .*{words}"):
        for index in range(task.num_batches("test")):
            task.batch("test", index)


def test_other_kinds_of_files_are_read_too(make, jpegs, tmp_path):
    """Kinds that are in ImageNet: CMYK in JPEG, grey, and a PNG with the suffix of a JPEG."""
    root = shutil.copytree(jpegs, tmp_path / "kinds")
    files = [root / "val" / "a" / f"a_{number}.JPEG" for number in range(3)]
    for file, mode, kind in zip(files, ("CMYK", "L", "RGBA"), ("JPEG", "JPEG", "PNG"), strict=True):
        changed = io.BytesIO()
        Image.new("RGB", (40, 30), (200, 200, 200)).convert(mode).save(changed, kind)
        file.write_bytes(changed.getvalue())
    images, _ = make(root).batch("test", 0)
    assert (images[:3].int() - 200).abs().max() <= 2


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_compressed_archive_is_refused(make, jpegs, tmp_path, kind):
    path = pack(jpegs, tmp_path / f"set.tar.{kind}", f"w:{kind}")
    with pytest.raises(ValueError, match=r"is compressed \(.*unpack it and give the directory"):
        make(path)


def test_what_is_no_archive_is_refused(make, tmp_path):
    (tmp_path / "x").write_bytes(b"hello" * 300)
    with pytest.raises(ValueError, match="neither a directory nor a whole tar archive"):
        make(tmp_path / "x")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 37}, "number of train examples, 36"),
        ({"size": 0}, "size=0; it must be at least 1 pixel"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0; from 0 to below 1"),
        ({"scale": (0.5, 1.1)}, r"scale=\[0.5, 1.1\].*at most 1"),
        ({"ratio": (2.0, 1.0)}, r"ratio=\[2.0, 1.0\]; needed are two positive numbers"),
        ({"mean": (0.5,)}, "needed are 3 numbers"),
        ({"val_size": 0}, "no examples in val; raise val_size="),
        ({"val_size": 60}, "class 0 has 10 examples"),
    ],
)
def test_what_does_not_fit_is_refused_at_construction(make, changes, words):
    with pytest.raises(ValueError, match=words):
        make(**changes)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("training", 0), "'training' is no split"),
        (("train", -1), "index -1"),
        (("val", 2), "'val' has 2 batches; there is no batch 2"),
        (("meta", 0), "no examples in split 'meta'; raise meta_size"),
    ],
)
def test_a_batch_that_does_not_exist_is_refused(make, call, words):
    with pytest.raises(ValueError, match=words):
        make(meta_size=0).batch(*call)


def test_a_network_for_text_is_refused(make):
    with pytest.raises(ValueError, match="choose a network for images, such as resnet50"):
        replace(make(), network=partial(nn.Embedding, 3))
