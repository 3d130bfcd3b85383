"""Ordinary text in `key=value` is read as it is typed; a long text cannot spoil a file name."""

import os

import pytest
from omegaconf import OmegaConf

from meta_lr.cli.overrides import parsed, readable
from meta_lr.cli.places import fingerprint
from meta_lr.report.groups import Problem

KEYS = OmegaConf.create({"hydra": {"job": {"config": {"override_dirname": {"exclude_keys": []}}}}})


@pytest.mark.parametrize(
    "text", ["ünï.txt", "a b/c (1).txt", "set~1", "it's ü", "über/é", "a\udcffb", "x(1)"]
)
def test_a_path_is_read_as_it_is_typed(text):
    (read,) = readable([f"task.path={text}"])
    override = parsed(read)
    assert override is not None
    assert override.value() == text


def test_a_path_may_begin_at_the_home_folder():
    (read,) = readable(["task.path=~/x (1).txt"])
    assert read == f'task.path="{os.path.expanduser("~")}/x (1).txt"'


@pytest.mark.parametrize("text", ["seed=1", "lr=cosine", "a=[1,2]", "a='b c'", "a=b c", "~a"])
def test_what_hydra_reads_stays_as_it_is(text):
    assert readable([text]) == [text]


@pytest.mark.parametrize("text", ["clip=null,1", "clip=null", "~logger"])
def test_null_is_a_value_of_a_sweep(text):
    assert readable([text]) == [text]


@pytest.mark.parametrize("text", ["ü,b", "[ü", "'ü", "choice(ü"])
def test_what_could_mean_two_things_is_refused(text):
    with pytest.raises(ValueError, match=r"cannot read 'task\.path="):
        readable([f"task.path={text}"])


def test_a_long_text_has_a_fingerprint():
    assert len(fingerprint(_root_=OmegaConf.merge(KEYS, {"policy": "x" * 5000}))) == 10


def test_long_names_give_short_and_different_file_names():
    one, other = (Problem("ü" * 250 + end, "mlp", "sgd", 10, ()).slug for end in "ab")
    assert one != other
    assert max(len(one.encode()), len(other.encode())) < 150
    assert Problem("digits", "mlp", "sgd", 10, ()).slug == "digits-mlp-sgd-10"
