"""The index of image files: read again while it is true, small for a million files."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch

from meta_lr.tasks.members import Span
from meta_lr.tasks.splits import with_given_test
from meta_lr.tasks.streaming import index as module
from meta_lr.tasks.streaming.index import Index, index_of, indexed
from tests.image_sets import backwards, pack, write_images


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "set")


@pytest.fixture
def scans(monkeypatch):
    """The number of scans so far."""
    made, real = [], module.spans
    monkeypatch.setattr(module, "spans", lambda root: made.append(root) or real(root))
    return made


def same(first, second):
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(first, second, strict=True)
    )


def test_paths_labels_and_places_of_a_directory(folder, tmp_path):
    index = index_of(folder, tmp_path)
    files = sorted((folder / "train").rglob("*.png")) + sorted((folder / "test").rglob("*.png"))
    assert [index.path(i) for i in range(33)] == [f.relative_to(folder).as_posix() for f in files]
    assert [index.classes[label] for label in index.labels] == [f.parent.name for f in files]
    assert [index.span(i) for i in range(33)] == [Span(0, f.stat().st_size) for f in files]
    assert index.num_train == 24 and index.labels.dtype == torch.int32


@pytest.mark.parametrize("order", [sorted, backwards])
def test_places_in_an_archive(folder, tmp_path, order):
    archive = pack(folder, tmp_path / "set.tar", prefix="top/", order=order)
    index, content = index_of(archive, tmp_path), archive.read_bytes()
    for i in range(33):
        start, size = index.span(i)
        path = index.path(i).removeprefix("top/")
        assert content[start : start + size] == (folder / path).read_bytes()
    other = index_of(folder, tmp_path)
    assert torch.equal(index.labels, other.labels) and torch.equal(index.sizes, other.sizes)


def test_the_later_of_two_files_with_one_path_counts(tmp_path):
    def entries():
        for split in ("val", "train"):
            for number in (3, 1, 2, 1):
                yield PurePosixPath(split, "x", f"{number}.jpg"), Span(number, next(sizes))

    sizes = iter(range(8))
    index = indexed(tmp_path, entries())
    assert [index.path(i)[-5:] for i in range(6)] == ["1.jpg", "2.jpg", "3.jpg"] * 2
    assert index.sizes.tolist() == [7, 6, 4, 3, 2, 0] and index.num_train == 3


def test_names_of_any_kind(tmp_path):
    names = ["ä b", "\udcff", "a", "a.b", "a-b"]
    paths = [PurePosixPath(s, "x", f"{n}.jpg") for s in ("train", "test") for n in names]
    index = indexed(tmp_path, ((path, Span(0, 1)) for path in paths))
    found = [PurePosixPath(index.path(i)) for i in range(10)]
    assert sorted(found) == sorted(paths)
    ordered = [path for path in found if path.parts[0] == "train"]
    assert [p.parts for p in ordered[:4]] == sorted(p.parts for p in ordered[:4])


@pytest.mark.parametrize("packed", [False, True])
def test_a_second_start_scans_nothing(folder, tmp_path, scans, packed, monkeypatch):
    root = pack(folder, tmp_path / "set.tar") if packed else folder
    first = index_of(root, tmp_path / "cache")
    assert same(index_of(root, tmp_path / "cache"), first)
    monkeypatch.chdir(tmp_path)
    assert same(index_of(Path(root.name), "cache"), first)
    assert len(scans) == 1
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".index"]


def add(folder):
    shutil.copy(folder / "train/ant/0.png", folder / "train/ant/new.png")


def remove(folder):
    (folder / "test/cat/1.png").unlink()


def rename(folder):
    (folder / "train/bee/1.png").rename(folder / "train/bee/one.png")


def add_an_empty_class(folder):
    (folder / "train/dog").mkdir()


def rewrite_the_first(folder):
    (folder / "train/ant/0.png").write_bytes(b"longer than it was" * 99)


@pytest.mark.parametrize("change", [add, remove, rename, rewrite_the_first])
@pytest.mark.parametrize("packed", [False, True])
def test_a_changed_source_is_scanned_again(folder, tmp_path, scans, change, packed):
    def source():
        return pack(folder, tmp_path / "set.tar") if packed else folder

    index_of(source(), tmp_path / "cache")
    change(folder)
    again = index_of(source(), tmp_path / "cache")
    assert len(scans) == 2
    assert same(again, index_of(source(), tmp_path / "new"))
    assert len(list((tmp_path / "cache").iterdir())) == 1, "the old one is replaced"


def test_an_empty_class_is_refused_also_after_the_first_scan(folder, tmp_path):
    index_of(folder, tmp_path / "cache")
    add_an_empty_class(folder)
    with pytest.raises(ValueError, match="has no image in train/dog"):
        index_of(folder, tmp_path / "cache")


def test_folders_of_other_programs_change_nothing(folder, tmp_path, scans):
    index_of(folder, tmp_path / "cache")
    (folder / "runs" / "1").mkdir(parents=True)
    (folder / "runs" / "records.jsonl").write_text("{}")
    index_of(folder, tmp_path / "cache")
    assert len(scans) == 1


@pytest.mark.parametrize("damage", ["half", "flipped", "empty", "text"])
def test_a_damaged_index_is_made_again(folder, tmp_path, scans, damage):
    first = index_of(folder, tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    changed = {"half": content[:99], "flipped": content, "empty": b"", "text": b"hello" * 9}
    file.unlink()  # the file that the first index is mapped from stays as it is
    file.write_bytes(changed[damage])
    assert same(index_of(folder, tmp_path / "cache"), first)
    assert len(scans) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_an_error(folder, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(OSError, match=r"cannot write the image cache .*cache=FOLDER"):
        index_of(folder, tmp_path / "cache")


def synthetic(count, classes=1000):
    """An index like ImageNet's, with paths of 37 bytes."""
    labels = torch.arange(count, dtype=torch.int32) * classes // count
    row = np.frombuffer(b"train/n01440764/n01440764_10026.JPEG", dtype=np.uint8)
    return Index(
        paths=torch.from_numpy(np.tile(row, count)),
        ends=torch.arange(1, count + 1) * len(row),
        labels=labels,
        starts=torch.arange(count) * 110_000,
        sizes=torch.full((count,), 110_000),
        num_train=count - 50_000,
        classes=tuple(f"n{label:08}" for label in range(classes)),
    )


def test_an_index_of_ten_thousand_entries_is_made_from_paths(tmp_path):
    """Its memory is that of its arrays, about 65 bytes a file."""
    paths = (
        PurePosixPath(split, f"n{c:08}", f"n{c:08}_{i}.JPEG")
        for split in ("train", "val")
        for c in range(50)
        for i in range(100)
    )
    index = indexed(tmp_path, ((path, Span(0, 9)) for path in paths))
    assert index.num_train == 5000 and len(index.labels) == 10_000
    assert sum(tensor.nbytes for tensor in index[:5]) < 70 * 10_000


def test_an_index_of_a_million_images_is_small_and_opens_at_once(tmp_path):
    """Arrays of 300 MB at most, also with the splits; no Python object per file."""
    count = 1_331_167
    index = synthetic(count)
    module._save(tmp_path / "i.index", "stamp", index)
    began = time.process_time()
    found = module._load(tmp_path / "i.index", "stamp")
    assert found is not None
    labels = found.labels.long()
    splits = with_given_test(labels, found.num_train, val_size=10_000, meta_size=10_000)
    assert time.process_time() - began < 15
    arrays = [tensor for tensor in found if isinstance(tensor, torch.Tensor)]
    assert sum(tensor.nbytes for tensor in (*arrays, *splits.values())) < 150e6
    assert found.path(count - 1) == index.path(0)
    assert json.dumps(found.classes) == json.dumps(index.classes)
