"""What lies in the folder in which a command of the error table runs, one function per mishap.

Each is called with an empty folder. What it returns, if anything, is a context that is held while
the command runs.
"""

import functools
import json
import os
import shutil

import torch
from PIL import Image

from meta_lr.methods.basic import Constant
from meta_lr.methods.networks.mlp import MLP
from meta_lr.records.lock import locked
from meta_lr.records.reader import NAME
from meta_lr.tasks import Quadratic, text_file
from meta_lr.training.loop import STATE, train
from tests.commands import write_checkpoint, write_self_tuning
from tests.image_sets import pack, write_images
from tests.meta_runs import write_meta_run
from tests.official_files import three, write
from tests.report_runs import write_run
from tests.stores import (
    a_file_of_another_program,
    a_store_of_a_newer_format,
    a_truncated_store,
    put,
    result,
)
from tests.texts import TINY

MOMENTUM = functools.partial(torch.optim.SGD, momentum=0.9, weight_decay=5e-4)


def nothing(place):
    """The folder is empty."""


def a_checkpoint(place):
    write_checkpoint(place / "mine")


def a_self_tuning_checkpoint(place):
    write_self_tuning(place / "mine")


def an_empty_checkpoint(place):
    (place / "mine").mkdir()


def a_truncated_checkpoint(place):
    weights = write_checkpoint(place / "mine") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])


def a_checkpoint_from_a_newer_format(place):
    config = write_checkpoint(place / "mine") / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"format_version": 9}))


def a_checkpoint_of_another_network(place):
    other = write_checkpoint(place / "other", net=MLP((3,)))
    shutil.copy(other / "model.safetensors", write_checkpoint(place / "mine"))


def a_checkpoint_with_swapped_weights(place):
    other = write_checkpoint(place / "other", seed=1)
    shutil.copy(other / "model.safetensors", write_checkpoint(place / "mine"))


def a_pickle(place):
    torch.save({}, place / "old.pth")


def the_authors_files(place):
    three(place)


def a_truncated_file_of_the_authors(place):
    for path in three(place):
        path.write_bytes(path.read_bytes()[:20_000])


def files_of_another_network(place):
    for path in three(place):
        write(path, {"layer1.fc_i2h.0.weight": torch.zeros(25, 2)})


def pickles_of_more_than_tensors(place):
    for path in three(place):
        write(path, torch.nn.Linear(1, 1))


def short_epochs(place):
    """An epoch of the digits has 16 steps; the run begins, and its folder is left."""


def no_hub(place):
    """huggingface_hub cannot be imported: this file comes before an installed one."""
    (place / "huggingface_hub.py").write_text("raise ImportError('not here')\n")


def an_unreachable_hub(place):
    """A huggingface_hub that cannot connect, as the real one says it: over several lines."""
    fails = 'def snapshot_download(*_, **__):\n    raise ConnectionError("no route\\nto the hub")\n'
    (place / "huggingface_hub.py").write_text(fails)


def images(place):
    write_images(place / "set")


def images_in_another_layout(place):
    (write_images(place / "set") / "train").rename(place / "set" / "training")


def images_of_another_format(place):
    for file in (write_images(place / "set") / "test" / "bee").iterdir():
        file.rename(file.with_suffix(".gif"))


def an_image_of_floats(place):
    Image.new("F", (6, 6)).save(write_images(place / "set") / "train" / "ant" / "x.tif")


def a_broken_image_in_an_archive(place):
    (write_images(place / "set") / "train" / "ant" / "x.png").write_text("no image")
    pack(place / "set", place / "set.tar")


def a_pipe_among_images(place):
    os.mkfifo(write_images(place / "set") / "train" / "ant" / "x.png")


def images_under_two_names(place):
    (write_images(place / "set") / "val").symlink_to("test")


def a_zip_archive(place):
    (place / "set.zip").write_bytes(b"PK\x03\x04" + bytes(1000))


def half_an_archive(place):
    archive = pack(write_images(place / "set"), place / "half.tar.xz", "w:xz")
    archive.write_bytes(archive.read_bytes()[:3000])


def half_a_download(place):
    (place / "data").mkdir()
    (place / "data" / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b")


def a_text(place):
    """2,400 characters."""
    (place / "book.txt").write_text("all work and no play ..\n" * 100)


def a_text_that_is_none(place):
    (place / "book.txt").write_bytes(b"\xff\xfe\x00")


def a_text_in_16_bits(place):
    (place / "book.txt").write_bytes("all work and no play".encode("utf-16-le"))


def a_policy_of_a_newer_format(place):
    (place / "policy.json").write_text('{"format": 2, "knots": [[0.0, 0.1]]}')


def a_policy_for_adam(place):
    (place / "policy.json").write_text('{"format": 1, "knots": [[0.0, 0.1]], "family": "adam"}')


def a_policy_that_is_none(place):
    (place / "policy.json").write_text('{"format": 1}')


def a_file_for_a_folder(place):
    (place / "runs").write_text("")


def a_run(place, **options):
    """A finished run of 20 steps in `mine`, as `train task=quadratic lr=constant` makes it."""
    folder = place / "mine"
    train(Quadratic(), MOMENTUM, Constant(0.1), total_steps=20, folder=folder, **options)


def a_run_of_nine_steps(place):
    train(Quadratic(), torch.optim.SGD, Constant(0.1), total_steps=9, folder=place / "mine")


def a_run_without_steps(place):
    """A finished run whose record holds its header and its end alone."""
    a_run_without_rows(place, "step")


def an_unfinished_run(place):
    a_run_without_rows(place, "end")


def a_run_without_rows(place, kind):
    a_run(place)
    record = place / "mine" / NAME
    lines = record.read_text().splitlines(keepends=True)
    record.write_text("".join(line for line in lines if f'"kind":"{kind}"' not in line))


def a_locked_run(place):
    a_run(place)
    return locked(place / "mine")


def a_meta_training(place):
    write_meta_run(place / "mine")


def a_meta_training_beside_a_run(place):
    write_meta_run(place / "mine" / "learned")
    write_run(place / "mine" / "trained")


def a_damaged_state(place):
    a_run(place)
    state = place / "mine" / STATE
    state.write_bytes(state.read_bytes()[:1000])


def an_empty_state(place):
    a_run(place)
    (place / "mine" / STATE).write_bytes(b"")


def another_dictionary_as_the_state(place):
    a_run(place)
    torch.save({"a": 1}, place / "mine" / STATE)


def an_earlier_state(place):
    """A finished run beside its state after 12 steps."""
    early = []

    def keep(row):
        if row["kind"] == "step" and row["step"] == 12:
            early.append((place / "mine" / STATE).read_bytes())

    a_run(place, save_every=4, listener=keep)
    (place / "mine" / STATE).write_bytes(early[0])


def a_record_of_another_run(place):
    a_run(place)
    train(Quadratic(), torch.optim.SGD, Constant(0.1), total_steps=20, folder=place / "other")
    shutil.copy(place / "other" / NAME, place / "mine")


def a_run_with_a_line_that_is_no_object(place):
    a_run(place)
    record = place / "mine" / NAME
    record.write_text(record.read_text().replace("\n", "\n[1]\n", 1))


def a_run_on_another_text(place):
    """A finished run of two steps, after which the letters of its text were swapped."""
    a_text(place)
    book = place / "book.txt"
    task = text_file(book, TINY, meta_size=350, val_size=350, test_size=350, batch_size=4)
    train(task, MOMENTUM, Constant(0.1), total_steps=2, folder=place / "mine")
    book.write_text(book.read_text()[::-1])


def a_shortened_record(place):
    a_run(place)
    record = place / "mine" / NAME
    record.write_bytes(record.read_bytes()[:1000])


def a_lost_state(place):
    a_run(place)
    (place / "mine" / STATE).unlink()


def a_store(place):
    put(place / "mine.sqlite", result())


def half_a_store(place):
    a_truncated_store(place / "mine.sqlite")


def a_store_from_the_future(place):
    a_store_of_a_newer_format(place / "mine.sqlite")


def an_sqlite_file_of_another_program(place):
    a_file_of_another_program(place / "mine.sqlite")


def a_run_with_a_damaged_line(place):
    record = write_run(place / "mine")
    record.write_text(record.read_text().replace('"kind"', "", 3))


def results_of_another_kind(place):
    (place / "mine.csv").write_text("policy,rate\ntri,0.1\n")


def no_optuna(place):
    """Optuna cannot be imported: this file comes before an installed one."""
    (place / "optuna.py").write_text("raise ModuleNotFoundError('not here', name='optuna')\n")
