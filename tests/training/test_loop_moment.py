"""A run goes on only from a whole state, and from the record that belongs to it."""

from __future__ import annotations

import hashlib
import io
import shutil
from contextlib import nullcontext
from functools import partial

import pytest
import torch

from meta_lr.bilevel.trainer import meta_train
from meta_lr.cli.main import main
from meta_lr.methods.basic import Cosine
from meta_lr.records.reader import NAME
from meta_lr.testing.compare import difference
from meta_lr.training import saving
from meta_lr.training.loop import STATE, StoppedError, train
from tests.bilevel import test_kill_episodic as episodic
from tests.commands import own_place, runs
from tests.short_runs import SGD, ends, record_of, stop_when
from tests.toys import Toy

RUN = partial(train, Toy(), SGD, Cosine(0.1), total_steps=9, save_every=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run, and its state after four steps beside it."""
    folder, early = tmp_path_factory.mktemp("made"), []

    def keep(row):
        if row["kind"] == "step" and row["step"] == 4 and not early:
            early.append((folder / STATE).read_bytes())

    RUN(folder=folder, listener=keep)
    (folder / "early.pt").write_bytes(early[0])
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def changed(path, change):
    saved = torch.load(path, weights_only=True)
    change(saved)
    torch.save(saved, path)


def refused(folder, message):
    """The run is refused, in one line of at most 300 characters, and nothing is changed."""
    before = {path: path.read_bytes() for path in (folder / NAME, folder / STATE)}
    with pytest.raises(ValueError, match=message) as caught:
        RUN(folder=folder)
    said = str(caught.value).replace(str(folder), "mine")
    assert "\n" not in said and len(said) <= 300
    assert {path: path.read_bytes() for path in before} == before


def test_a_state_keeps_the_length_and_the_hash_of_its_record(tmp_path):
    for stop in (stop_when(3), stop_when(3), None):
        with pytest.raises(StoppedError) if stop else nullcontext():
            RUN(folder=tmp_path, stop=stop)
        saved = torch.load(tmp_path / STATE, weights_only=True)
        start = (tmp_path / NAME).read_bytes()[: saved["offset"]]
        assert len(start) == saved["offset"] > 0
        assert hashlib.blake2b(start, digest_size=16).hexdigest() == saved["record"]


def test_an_earlier_state_beside_a_finished_record_is_refused(folder):
    shutil.copy(folder / "early.pt", folder / STATE)
    refused(folder, r"state\.pt was saved after step 4, but records\.jsonl ends after step 9")
    changed(folder / STATE, lambda saved: saved.pop("record"))  # of an earlier version
    refused(folder, "was saved after step 4, but")


def test_an_earlier_state_beside_a_record_that_goes_on_is_resumed(folder):
    whole, rows = ends(RUN(folder=folder)), record_of(folder)
    shutil.copy(folder / "early.pt", folder / STATE)
    lines = (folder / NAME).read_bytes().splitlines(keepends=True)
    (folder / NAME).write_bytes(b"".join(lines[:-1]))
    assert difference(whole, ends(RUN(folder=folder))) == ""
    assert record_of(folder) == rows


@pytest.mark.parametrize("finish", [True, False])
def test_the_record_of_another_run_is_refused(folder, tmp_path, finish):
    RUN(folder=tmp_path / "other", seed=1)
    rows = (tmp_path / "other" / NAME).read_bytes()
    (folder / NAME).write_bytes(rows if finish else rows[:-9])
    refused(folder, "is not the record that the state beside it belongs to; remove the folder")


def test_a_state_of_an_earlier_version_is_taken_with_what_it_says(folder):
    def older(saved):
        del saved["record"], saved["identity"]["data"]

    whole = ends(RUN(folder=folder))
    changed(folder / STATE, older)
    assert difference(whole, ends(RUN(folder=folder))) == ""
    (folder / NAME).write_bytes(b"")
    refused(folder, "is not the record")


def flipped(content):
    """One bit of a weight is another, which torch does not notice."""
    weights = torch.load(io.BytesIO(content), weights_only=True)["model"]["first.weight"]
    place = content.index(weights.numpy().tobytes())
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: b"", "File is not a zip file"),
        (lambda content: b"hello world\n", "File is not a zip file"),
        (lambda content: content[:200], "File is not a zip file"),
        (lambda content: content[: len(content) // 2], "File is not a zip file"),
        (lambda content: bytes(range(256)) * 40, "File is not a zip file"),
        (flipped, "the checksum of .* is wrong"),
    ],
)
def test_a_damaged_state_is_refused(folder, damage, said):
    (folder / STATE).write_bytes(damage((folder / STATE).read_bytes()))
    refused(
        folder, rf"state\.pt is damaged \({said}\); remove the folder, and the run begins again"
    )


def resized(saved):
    saved["model"]["first.weight"] = torch.zeros(2, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict.clear, r"is damaged \(it is no state of a run\)"),
        (lambda saved: saved.pop("identity"), r"is damaged \(it is no state of a run\)"),
        (lambda saved: saved.update(identity=[1]), r"is damaged \(it is no state of a run\)"),
        (lambda saved: saved.update(identity={}), "holds a run with format None, not 1"),
        (lambda saved: saved.pop("optimizer"), r"is damaged \(it has no 'optimizer'\)"),
        (lambda saved: saved.update(offset="9"), "is damaged .*how long the record was"),
        (lambda saved: saved.update(offset=-5, record=None), "is damaged .*how long the record"),
        (lambda saved: saved.update(best=3), "does not fit this run .*use another folder"),
        (lambda saved: saved.update(val=None), "its 'val' is of type NoneType, not dict"),
        (lambda saved: saved.update(state=[1]), "is damaged .its 'state' is of type list, not"),
        (lambda saved: saved.update(seconds="x"), "is damaged .its 'seconds' is of type str"),
        (lambda saved: saved.update(step=10), "does not fit this run .step 10 of 9"),
        (lambda saved: saved.update(step=-1), "does not fit this run .step -1 of 9"),
        (lambda saved: saved["identity"].update(seed=torch.ones(3)), "with seed tensor.*, not 0"),
        (lambda saved: saved["identity"].update(seed="a b" * 999), r"seed a ba.*\.\.\., not 0"),
        (lambda saved: saved.update(step="x"), "is damaged .its 'step' is of type str, not int"),
        (lambda saved: saved.update(model={}), "does not fit this run .*use another folder"),
        (resized, r"does not fit this run \(Error.* size mismatch .*use another folder"),
    ],
)
def test_a_state_with_other_contents_is_refused(folder, change, said):
    changed(folder / STATE, change)
    refused(folder, said)


@pytest.mark.parametrize("line", [b"[1]", b"{}", b'{"kind":3}', b"garbage", b"\xff\xfe", b""])
def test_a_damaged_line_of_a_record_is_named_by_its_number(folder, line):
    lines = (folder / NAME).read_bytes().split(b"\n")
    (folder / NAME).write_bytes(b"\n".join([*lines[:2], line, *lines[2:]]))
    refused(folder, r"records\.jsonl, line 3 is damaged: .*; remove the run, or mend it")


def test_an_end_without_its_fields_is_refused(folder):
    rows = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(rows.replace(b'"status"', b'"state"'))
    refused(folder, r"records\.jsonl lacks 'status'; remove the run, or mend it")


def test_an_episodic_meta_training_is_held_to_the_same(tmp_path):
    plan, first = episodic.PLAN, tmp_path / "first.pt"
    net = episodic.MLP(hidden=(2,))
    learner = episodic.Learned(net, [net.init(0)], 1.0)

    def keep(row):
        if row["kind"] == "update" and row["update"] == 2:
            shutil.copy(tmp_path / STATE, first)

    run = partial(meta_train, plan, learner, learner.stages[0], folder=tmp_path, save_every=0.0)
    run(listener=keep)
    last = (tmp_path / STATE).read_bytes()
    cases = {
        first.read_bytes(): "was saved after update 1, but records.jsonl ends after update 2",
        b"hello": r"is damaged \(File is not a zip file\)",
    }
    for content, said in cases.items():
        (tmp_path / STATE).write_bytes(content)
        with pytest.raises(ValueError, match=said):
            run()
    changes = {
        "does not fit this run": lambda saved: saved.update(parts=[{"update": 2}]),
        r"is damaged \(it has no 'parts'\)": lambda saved: saved.pop("parts"),
        "is not the record": lambda saved: saved.update(record="00"),
        "holds a run with data 1 image,": lambda saved: saved["identity"].update(data="1 image,"),
    }
    for said, change in changes.items():
        (tmp_path / STATE).write_bytes(last)
        changed(tmp_path / STATE, change)
        with pytest.raises(ValueError, match=said):
            run()


def test_a_checkpoint_is_not_replaced_from_an_earlier_state(tmp_path, monkeypatch, capsys):
    place, early = own_place(tmp_path, monkeypatch), []
    command = ["meta-train", "task=quadratic", "total_steps=12", "lr.period=2", "net.hidden=2"]
    command += ["save_every=4", "eval_every=4", "optimizer=sgd_plain"]

    def keep(saved, path, save=saving.save_atomically):
        save(saved, path)
        early.append(path.read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_atomically", keep)
        assert main(command) == 0
    (folder,) = runs(place, "meta_train")
    kept = (folder / "checkpoint" / "model.safetensors").read_bytes()
    (folder / STATE).write_bytes(early[0])
    capsys.readouterr()
    assert main(command) == 2
    printed = capsys.readouterr()
    assert "was saved after step 4, but records.jsonl ends after step 12" in printed.err
    assert printed.out == ""
    assert (folder / "checkpoint" / "model.safetensors").read_bytes() == kept
