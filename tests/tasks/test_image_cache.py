"""The cache of decoded images: read when whole, rebuilt when not, safe among processes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meta_lr.tasks.cache import default_folder, load
from meta_lr.tasks.image_folder import load_images
from tests.image_sets import cache_file, pack, same, write_images


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "set")


@pytest.fixture
def no_decoding(monkeypatch):
    def refuse(*_):
        raise AssertionError("an image was decoded")

    def switch():
        monkeypatch.setattr(Image, "open", refuse)

    return switch


def test_second_start_decodes_nothing(folder, tmp_path, no_decoding, monkeypatch):
    first = load_images(folder, size=6, cache=tmp_path / "cache")
    no_decoding()
    assert same(load_images(folder, size=6, cache=tmp_path / "cache"), first)
    monkeypatch.chdir(tmp_path)
    assert same(load_images("set", size=6, cache="cache"), first)
    with pytest.raises(AssertionError, match="decoded"):
        load_images(folder, size=5, cache=tmp_path / "cache")


@pytest.mark.parametrize("packed", [False, True])
def test_a_changed_source_is_decoded_again(folder, tmp_path, packed):
    def source():
        return pack(folder, tmp_path / "set.tar") if packed else folder

    first = load_images(source(), size=6, cache=tmp_path / "cache")
    file = folder / "train" / "bee" / "2.png"
    Image.new("RGB", (6, 6), (1, 2, 3)).save(file)
    os.utime(file, ns=(1, 1))
    second = load_images(source(), size=6, cache=tmp_path / "cache")
    assert (second.images[10] == np.array([1, 2, 3])[:, None, None]).all()
    assert np.array_equal(np.delete(first.images, 10, 0), np.delete(second.images, 10, 0))


def test_a_run_cannot_write_into_the_cache(folder, tmp_path):
    load_images(folder, size=6, cache=tmp_path / "cache")
    content = cache_file(tmp_path / "cache").read_bytes()
    arrays = load_images(folder, size=6, cache=tmp_path / "cache")
    arrays.images[:] = 0
    assert cache_file(tmp_path / "cache").read_bytes() == content


def _cut(share):
    return lambda content: content[: int(share * len(content))]


def _turn(position):
    def damage(content):
        damaged = bytearray(content)
        damaged[position] ^= 1
        return bytes(damaged)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        *map(_cut, (0, 0.005, 0.02, 0.5, 0.999)),
        *map(_turn, (0, 18, 20, 30, 40, 200, 2000, -9, -1)),
        lambda content: content + b"\0",
        lambda content: content.replace(b"images 2", b"images 1"),
        lambda content: bytes(len(content)),
    ],
)
def test_a_damaged_cache_is_noticed_and_rebuilt(folder, tmp_path, damage):
    expected = load_images(folder, size=6, cache=tmp_path / "cache")
    path = cache_file(tmp_path / "cache")
    content = path.read_bytes()
    assert damage(content) != content
    path.write_bytes(damage(content))
    assert load(path) is None
    assert same(load_images(folder, size=6, cache=tmp_path / "cache"), expected)
    assert path.read_bytes() == content


def test_half_written_files_are_never_read_and_are_removed(folder, tmp_path):
    expected = load_images(folder, size=6, cache=tmp_path / "cache")
    path = cache_file(tmp_path / "cache")
    half = path.read_bytes()[:3000]
    path.unlink()
    abandoned = path.with_name(".meta_lr-0.partial")
    abandoned.write_bytes(half)
    assert same(load_images(folder, size=6, cache=tmp_path / "cache"), expected)
    assert [*path.parent.iterdir()] == [path]


def test_an_interrupted_write_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", interrupt)
        load_images(folder, size=6, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert load_images(folder, size=6, cache=tmp_path / "cache").num_train == 24


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.tasks.test_image_cache import build_beside
print(build_beside(*map(Path, sys.argv[2:])))
"""


def build_beside(root, cache, me, other):
    """Build the cache once the other process has begun to, and return a hash of the arrays."""
    really_open = Image.open

    def wait_for_the_other(*arguments):
        me.touch()
        deadline = time.monotonic() + 60
        while not other.exists():
            assert time.monotonic() < deadline, "the other process never began"
            time.sleep(0.005)
        return really_open(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "open", wait_for_the_other)
        arrays = load_images(root, size=6, cache=cache)
    return hashlib.sha256(arrays.images.tobytes() + arrays.labels.tobytes()).hexdigest()


@pytest.mark.slow
def test_two_processes_build_at_once(folder, tmp_path):
    here, there, cache = tmp_path / "here", tmp_path / "there", tmp_path / "cache"
    project = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, project, folder, cache, there, here],
        stdout=subprocess.PIPE,
        text=True,
    )
    answer = build_beside(folder, cache, here, there)
    assert child.communicate(timeout=60)[0].strip() == answer
    assert child.returncode == 0
    kept = load(cache_file(cache))
    assert kept is not None
    assert same(kept, load_images(folder, size=6, cache=tmp_path / "other"))
    assert len(list(cache.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"image cache .*file.*cache=FOLDER"):
        load_images(folder, size=6, cache=tmp_path / "file")


def test_default_cache_follows_the_platform(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/meta_lr")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_folder() == Path.home() / ".cache" / "meta_lr"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache" / "meta_lr"
