"""Files are replaced whole; a lock is held by one process, where there are locks."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from meta_lr.files import take_lock, write_atomically
from meta_lr.methods.basic import Cosine
from meta_lr.records.lock import LOCK, locked
from meta_lr.training.loop import train
from tests.short_runs import SGD
from tests.toys import Fixed, Toy


def test_the_old_content_stays_until_all_of_the_new_is_on_the_disk(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_atomically(path, b"old")

    def full(_):
        assert path.read_bytes() == b"old"
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left") as raised:
        patch.setattr(os, "fsync", full)
        write_atomically(path, b"n", b"ew")
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"old" and [*tmp_path.iterdir()] == [path]
    write_atomically(path, b"n", memoryview(b"ew"))
    assert path.read_bytes() == b"new" and [*tmp_path.iterdir()] == [path]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    names = ("state.pt", "state.pt.partial", ".state.pt.partial")
    for name in names:
        (tmp_path / name).symlink_to(other)
    write_atomically(tmp_path / "state.pt", b"new")
    assert other.read_bytes() == b"precious"
    assert (tmp_path / "state.pt").read_bytes() == b"new"
    assert not (tmp_path / "state.pt").is_symlink()


def test_a_new_file_has_the_rights_that_the_user_chose(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


KILLED = """
import os, signal, sys
from pathlib import Path
from meta_lr.files import write_atomically
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_atomically(Path(sys.argv[1]), b"half")
"""


def test_what_a_killed_process_left_is_removed_at_the_next_write(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a")]
    assert subprocess.run(command, check=False).returncode == -9
    assert len([*tmp_path.iterdir()]) == 1
    write_atomically(tmp_path / "b", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_the_file_of_a_living_process_stays(tmp_path):
    other = tmp_path / ".meta_lr-0.partial"
    with open(other, "wb") as file:
        assert take_lock(file.fileno())
        write_atomically(tmp_path / "a", b"")
        assert other.exists()


def refusing(number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_run_goes_on_where_there_are_no_locks_and_says_so(tmp_path, monkeypatch, number):
    monkeypatch.setattr(fcntl, "flock", refusing(number))
    with pytest.warns(UserWarning, match="has no locks") as warned:
        train(Toy(), SGD, Fixed(), total_steps=2, folder=tmp_path)
    (only,) = warned
    assert only.filename == __file__


def test_another_error_of_a_lock_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", refusing(errno.EIO))
    with pytest.raises(OSError), locked(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_finished_run_is_read_where_nothing_can_be_written(tmp_path, monkeypatch, number):
    done = train(Toy(), SGD, Cosine(0.1), total_steps=4, folder=tmp_path / "a")
    monkeypatch.setattr(os, "open", refusing(number))
    again = train(Toy(), SGD, Cosine(0.1), total_steps=4, folder=tmp_path / "a")
    assert (again.status, again.cost, again.test) == (done.status, done.cost, done.test)
    with pytest.raises(OSError, match=os.strerror(number)):
        train(Toy(), SGD, Cosine(0.1), total_steps=4, folder=tmp_path / "b")


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    (tmp_path / LOCK).symlink_to(other)
    with pytest.raises(OSError), locked(tmp_path):
        pass
    assert other.read_bytes() == b"precious"


def test_a_lock_holds_without_its_owner_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "pwrite", refusing(errno.ENOSPC))
    with locked(tmp_path):
        assert (tmp_path / LOCK).exists()
