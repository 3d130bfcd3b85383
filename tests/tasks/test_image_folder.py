"""Image folders and archives: one layout, the same arrays, clear errors."""

from __future__ import annotations

import os
import re
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from meta_lr.tasks import SPLITS, image_folder
from meta_lr.tasks.image_folder import load_images
from tests.image_sets import CLASSES, SMALL, backwards, pack, same, write_images


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "set")


# What is read -------------------------------------------------------------------------------------


def test_directory_gives_the_pixels_and_the_labels(folder, tmp_path):
    arrays = load_images(folder, size=6, cache=tmp_path / "cache")
    assert arrays.classes == CLASSES
    assert arrays.num_train == 24
    assert arrays.images.shape == (33, 3, 6, 6) and arrays.images.dtype == np.uint8
    files = sorted((folder / "train").rglob("*.png")) + sorted((folder / "test").rglob("*.png"))
    for pixels, label, file in zip(arrays.images, arrays.labels, files, strict=True):
        assert np.array_equal(pixels.transpose(1, 2, 0), np.asarray(Image.open(file)))
        assert CLASSES[label] == file.parent.name


@pytest.mark.parametrize(
    ("suffix", "mode", "prefix", "order"),
    [
        (".tar", "w", "", sorted),
        (".tar", "w", "./", backwards),
        (".tar.xz", "w:xz", "top/", backwards),
        (".tar.gz", "w:gz", "./top/", sorted),
        (".tar.bz2", "w:bz2", "", sorted),
    ],
)
def test_archive_and_directory_give_the_same_arrays(folder, tmp_path, suffix, mode, prefix, order):
    archive = pack(folder, tmp_path / f"set{suffix}", mode, prefix, order)
    before = sorted(tmp_path.iterdir())
    packed = load_images(archive, size=5, cache=tmp_path / "cache")
    assert same(packed, load_images(folder, size=5, cache=tmp_path / "cache"))
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "cache"])


@pytest.mark.parametrize("second", ["test", "val", "zz", "a"])
@pytest.mark.parametrize("top", [False, True])
def test_the_second_directory_is_test_whatever_its_name(tmp_path, second, top):
    root = tmp_path / "set"
    write_images(root / "top" if top else root, second)
    task = image_folder(
        root, SMALL, size=6, batch_size=4, meta_size=3, val_size=6, cache=tmp_path / "cache"
    )
    assert {split: len(task.splits[split]) for split in SPLITS} == {
        "train": 15,
        "meta": 3,
        "val": 6,
        "test": 9,
    }
    files = sorted(next(root.rglob(second)).rglob("*.png"))
    shown = task.images[task.splits["test"]]
    expected = [torch.from_numpy(np.array(Image.open(file)).transpose(2, 0, 1)) for file in files]
    assert torch.equal(shown, torch.stack(expected))
    assert task.labels[task.splits["test"]].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_no_image_bytes_are_in_two_splits(folder, tmp_path):
    task = image_folder(
        folder, SMALL, size=6, batch_size=4, meta_size=6, val_size=6, cache=tmp_path / "cache"
    )
    seen = {s: {task.images[i].numpy().tobytes() for i in task.splits[s]} for s in SPLITS}
    assert sum(map(len, seen.values())) == len(set().union(*seen.values())) == 33


def test_task_carries_name_classes_and_options(folder, tmp_path):
    archive = pack(folder, tmp_path / "three_animals.tar.xz", "w:xz")
    options = {"meta_size": 3, "val_size": 3, "cache": tmp_path / "cache"}
    task = image_folder(str(archive), SMALL, size=4, batch_size=4, seed=5, **options)
    assert (task.name, task.num_classes, task.seed) == ("three_animals", 3, 5)
    inputs, labels = task.batch("train", 0)
    assert inputs.shape == (4, 3, 4, 4) and labels.shape == (4,)
    assert task.loss(task.model(), (inputs, labels)).isfinite()


def test_grey_and_odd_sized_images_become_square_rgb(folder, tmp_path):
    Image.new("L", (9, 5), 77).save(folder / "train" / "ant" / "0.png")
    arrays = load_images(folder, size=4, cache=tmp_path / "cache")
    assert (arrays.images[0] == 77).all()


def test_hidden_files_and_other_files_are_left_out(folder, tmp_path):
    expected = load_images(folder, size=6, cache=tmp_path / "cache")
    (folder / "train" / "ant" / "._0.png").write_bytes(b"not an image")
    (folder / "train" / "notes.txt").write_text("words")
    (folder / "classes.tsv").write_text("words")
    assert same(load_images(folder, size=6, cache=tmp_path / "cache"), expected)


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"no image", "half"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_broken_image_is_named(folder, tmp_path, content, packed):
    file = folder / "train" / "bee" / "3.png"
    file.write_bytes(file.read_bytes()[:80] if content == "half" else content)
    root = pack(folder, tmp_path / "set.tar.xz", "w:xz") if packed else folder
    with pytest.raises(ValueError, match=rf"{root}: the image train/bee/3.png is broken"):
        load_images(root, size=6, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def _members(path):
    with tarfile.open(path) as archive:
        return archive.getmembers()


@pytest.mark.parametrize("where", ["before a header", "in a header", "in an image", "at the end"])
def test_an_archive_that_breaks_off_is_refused(folder, tmp_path, where):
    path = pack(folder, tmp_path / "set.tar")
    members, content = _members(path), path.read_bytes()
    end = members[-1].offset_data + 512 * -(-members[-1].size // 512)
    cut = {
        "before a header": members[-3].offset,
        "in a header": members[-3].offset + 100,
        "in an image": members[-3].offset_data + 10,
        "at the end": end,
    }
    path.write_bytes(content[: cut[where]])
    with pytest.raises(ValueError, match=rf"{path} is damaged after .*png .*download it again"):
        load_images(path, size=6, cache=tmp_path / "cache")


def test_an_archive_with_a_damaged_header_is_refused(folder, tmp_path):
    path = pack(folder, tmp_path / "set.tar")
    content = bytearray(path.read_bytes())
    content[_members(path)[-3].offset] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged after"):
        load_images(path, size=6, cache=tmp_path / "cache")


@pytest.mark.parametrize("mode", ["xz", "gz", "bz2"])
def test_half_a_compressed_archive_is_refused(folder, tmp_path, mode):
    path = pack(folder, tmp_path / "half", f"w:{mode}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"is damaged after|nor a whole tar archive"):
        load_images(path, size=6, cache=tmp_path / "cache")


def test_a_link_in_an_archive_is_refused(folder, tmp_path):
    os.link(folder / "train" / "ant" / "0.png", folder / "train" / "ant" / "9.png")
    path = pack(folder, tmp_path / "set.tar")
    with pytest.raises(ValueError, match=r"train/ant/9.png as a link.*--hard-dereference"):
        load_images(path, size=6, cache=tmp_path / "cache")


def _without_train(root):
    (root / "train").rename(root / "training")


def _without_second(root):
    (root / "test").rename(root / "train" / "dog")


def _third(root):
    write_images(root / "more")
    (root / "more" / "train").rename(root / "extra")
    (root / "more" / "test").rename(root / "val")


def _unknown_class(root):
    (root / "test" / "bee").rename(root / "test" / "wasp")


def _empty(root):
    (root / "train").rename(root.parent / "elsewhere")
    (root / "test").rename(root.parent / "elsewhere too")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without_train, r"no train/CLASS/ with images \(found: test, training\)"),
        (_without_second, r"beside train: none; needed are train/CLASS/\*.jpg and one more"),
        (_third, r"beside train: extra, test, val;"),
        (_unknown_class, r"classes in test that train has not: \['wasp'\]"),
        (_empty, r"no train/CLASS/ with images \(found: no visible files that end in .jpg"),
    ],
)
def test_another_layout_is_refused_with_what_was_found(folder, tmp_path, change, words):
    change(folder)
    with pytest.raises(ValueError, match=words):
        load_images(folder, size=6, cache=tmp_path / "cache")


def test_missing_and_foreign_roots_and_sizes_are_refused(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "nowhere"))):
        load_images(tmp_path / "nowhere", size=6)
    (tmp_path / "words.txt").write_text("words " * 500)
    with pytest.raises(ValueError, match=r"words.txt is neither .* nor a whole tar"):
        load_images(tmp_path / "words.txt", size=6, cache=tmp_path / "cache")
    with pytest.raises(ValueError, match="size=0"):
        load_images(folder, size=0)
    with pytest.raises(ValueError, match=r"val_size=30.*meta_size=3.*make them smaller"):
        image_folder(folder, SMALL, size=6, meta_size=3, val_size=30, cache=tmp_path / "cache")
