"""A run is known by its data: by their content, not by the place or the time of their files."""

from __future__ import annotations

import os
import shutil
from functools import partial

import pytest
import torch

from meta_lr.lrbench.folders import result_of
from meta_lr.lrbench.scored import Scored
from meta_lr.methods.basic import Constant
from meta_lr.records.reader import read_record
from meta_lr.tasks import Quadratic, digits, image_folder, text_file
from meta_lr.tasks.fingerprint import checksum, fingerprint_of
from meta_lr.tasks.models import MLP
from meta_lr.training.loop import StoppedError, train
from tests.image_sets import pack, write_images
from tests.short_runs import stop_when
from tests.texts import SGD, TINY, counting
from tests.toys import Toy

SIZES = {"meta_size": 3, "val_size": 3}
RUN = partial(train, optimizer=SGD, controller=Constant(0.1), total_steps=2)


def images(root, cache):
    network = partial(MLP, hidden=(2,))
    return image_folder(root, network, size=4, batch_size=2, cache=cache, **SIZES)


def text(path):
    return text_file(path, TINY, length=5, batch_size=2, meta_size=10, val_size=10, test_size=10)


def test_a_checksum_changes_with_values_shapes_and_types():
    numbers = torch.arange(6)
    others = (numbers.flip(0), numbers.view(2, 3), numbers.int(), numbers[:0])
    assert len({checksum("x", tensor) for tensor in (numbers, *others)}) == 5
    assert checksum("x", torch.arange(12)[::2] // 2) == checksum("x", numbers)
    assert checksum("6 numbers", numbers).startswith("6 numbers (checksum ")


def test_tasks_in_memory_have_a_fingerprint_and_a_wrapper_passes_it_on():
    task = digits(partial(MLP, hidden=(2,)))
    found = fingerprint_of(task)
    assert found is not None and found.startswith("1,797 images (checksum ")
    assert fingerprint_of(Scored(task)) == found == fingerprint_of(digits(MLP, seed=3))
    assert fingerprint_of(digits(MLP, val_size=181)) != found
    assert fingerprint_of(Quadratic()) is fingerprint_of(Scored(Toy())) is None
    parts = counting().parts
    other = counting(parts={**parts, "test": parts["test"].flip(0)})
    assert fingerprint_of(counting()) != fingerprint_of(other)


@pytest.mark.parametrize("finish", [True, False])
def test_a_run_on_a_text_that_has_changed_is_refused(tmp_path, finish):
    path, folder = tmp_path / "a.txt", tmp_path / "run"
    path.write_text("the cat sat on the mat.\n" * 20)
    stop = None if finish else stop_when(1)
    try:
        RUN(text(path), folder=folder, stop=stop)
    except StoppedError:
        assert not finish
    said = (
        r"holds a run with data 480 tokens \(checksum .*\), not (480|440) tokens \(checksum .*\);"
    )
    for content in ("tac eht tas no eht tam.\n", "0123456789 abcdefghijk"):  # same letters, others
        path.write_text(content * 20)
        with pytest.raises(ValueError, match=said):
            RUN(text(path), folder=folder)
    path.write_text("the cat sat on the mat.\n" * 20)
    assert RUN(text(path), folder=folder).status == "finished"


@pytest.mark.parametrize("kind", ["a folder", "an archive"])
def test_images_that_have_changed_are_other_data_and_copies_are_the_same(tmp_path, kind):
    def task(root, cache):
        return images(pack(root, root.with_suffix(".tar")) if kind == "an archive" else root, cache)

    root = write_images(tmp_path / "set")
    RUN(task(root, tmp_path / "cache"), folder=tmp_path / "run")
    copy = shutil.copytree(root, tmp_path / "elsewhere" / "set", copy_function=shutil.copyfile)
    for path in copy.rglob("*.png"):
        os.utime(path, (1, 1))
    assert RUN(task(copy, tmp_path / "other cache"), folder=tmp_path / "run").status == "finished"
    first, second, *_ = sorted((root / "train").rglob("*.png"))
    second.write_bytes(first.read_bytes())
    with pytest.raises(
        ValueError, match=r"holds a run with data .* images \(checksum .*use anothe"
    ):
        RUN(task(root, tmp_path / "cache"), folder=tmp_path / "run")


def test_header_and_setting_say_which_data_it_was(tmp_path):
    settings = set()
    for index, seed in enumerate((0, 0, 1)):
        path, folder = tmp_path / "a.txt", tmp_path / f"{index}-{seed}"
        path.write_text(("abcde\n" if index else "edcba\n") * 80)
        RUN(text(path), folder=folder, seed=seed, header={"config": {"task": {"path": "a.txt"}}})
        assert read_record(folder).header["data"] == fingerprint_of(text(path))
        settings.add(result_of(folder).setting)
    assert len(settings) == 2
