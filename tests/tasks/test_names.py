"""The name of a task, from the path that it reads."""

from __future__ import annotations

import os

import pytest

from meta_lr.tasks.names import name_of


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/set.tar.xz", "set"),
        ("data/set/", "set"),
        ("data/../set", "set"),
        ("data/.set", "set"),
        (os.fsdecode(b"caf\xe9.tar"), "caf\ufffd"),
        ("caf\u00e9", "caf\u00e9"),
    ],
)
def test_a_task_is_named_by_its_path_in_text_that_any_file_can_hold(path, name):
    assert name_of(path) == name
    name_of(path).encode("utf-8")
