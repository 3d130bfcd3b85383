"""Which files of a directory or an archive count as images: each once, and none in silence."""

from __future__ import annotations

import io
import os
import re
import tarfile

import pytest
from PIL import Image

from meta_lr.tasks import members as module
from meta_lr.tasks.image_folder import load_images
from tests.image_sets import cache_file, pack, same, write_images


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "set")


@pytest.fixture
def load(tmp_path):
    return lambda root: load_images(root, size=6, cache=tmp_path / "cache")


def _add(archive, name, content=b"", **fields):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def packed_with(folder, tmp_path):
    """The images as an archive, with one more member at its start or its end."""

    def pack_with(name, content=b"", first=False, **fields):
        path = tmp_path / "set.tar"
        with tarfile.open(path, "w") as archive:
            if first:
                _add(archive, name, content, **fields)
            for file in sorted(p for p in folder.rglob("*") if p.is_file()):
                archive.add(file, file.relative_to(folder).as_posix())
            if not first:
                _add(archive, name, content, **fields)
        return path

    return pack_with


# What does not count ------------------------------------------------------------------------------

HIDDEN = [
    "train/.ipynb_checkpoints",
    "train/ant/.ipynb_checkpoints",
    ".trash/train/ant",
    "__MACOSX/train/ant",
    "train/__MACOSX",
    "train/ant/@eaDir",
    "lost+found/train/ant",
]


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("packed", [False, True])
def test_hidden_folders_are_left_out(folder, tmp_path, load, hidden, packed):
    expected = load(folder)
    (folder / hidden).mkdir(parents=True)
    (folder / hidden / "0.png").write_bytes((folder / "train" / "ant" / "0.png").read_bytes())
    assert same(load(pack(folder, tmp_path / "set.tar") if packed else folder), expected)


@pytest.mark.parametrize("name", ["train/ant/._0.png", "train/ant/Thumbs.db", "._train"])
def test_hidden_and_foreign_members_are_left_out(folder, packed_with, load, name):
    assert same(load(packed_with(name, b"no image")), load(folder))


def test_a_hidden_root_counts(folder, tmp_path, load):
    expected = load(folder)
    assert same(load(folder.rename(tmp_path / ".set")), expected)


# Links --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [".", "..", "../..", "../../.."])
def test_a_link_to_a_folder_around_it_adds_nothing(folder, load, target):
    expected = load(folder)
    for name in ("ant", "bee"):
        (folder / "train" / name / "up").symlink_to(target)
    assert same(load(folder), expected)


def test_a_folder_that_is_a_link_counts(folder, tmp_path, load):
    expected = load(folder)
    (folder / "train" / "ant").rename(tmp_path / "elsewhere")
    (folder / "train" / "ant").symlink_to(tmp_path / "elsewhere")
    assert same(load(folder), expected)


def test_a_file_under_two_names_counts_as_two(folder, load):
    num_train = load(folder).num_train
    (folder / "train" / "ant" / "link.png").symlink_to("0.png")
    os.link(folder / "train" / "ant" / "0.png", folder / "train" / "ant" / "hard.png")
    assert load(folder).num_train == num_train + 2


@pytest.mark.parametrize(
    ("link", "target", "pair"),
    [
        ("train/ant/x", "../bee", "train/ant/x and .*train/bee"),
        ("val", "test", "val and .*test"),
        ("train/cow", "ant", "train/cow and .*train/ant"),
    ],
)
def test_a_second_path_to_a_folder_of_images_is_refused(folder, load, link, target, pair):
    (folder / link).symlink_to(target)
    with pytest.raises(ValueError, match=f"{pair} are the same folder.*replace it with a copy"):
        load(folder)


def test_two_classes_that_link_to_each_other_are_refused(folder, load):
    (folder / "train" / "ant" / "x").symlink_to("../bee")
    (folder / "train" / "bee" / "y").symlink_to("../ant")
    with pytest.raises(ValueError, match="are the same folder"):
        load(folder)


def test_folders_without_images_do_not_matter(folder, tmp_path, load):
    expected = load(folder)
    (folder / "runs" / "now").mkdir(parents=True)
    (folder / "runs" / "latest").symlink_to("now")
    assert same(load(folder), expected)
    assert len(list((tmp_path / "cache").iterdir())) == 1, "the images were decoded again"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train/ant/9.png", tarfile.SYMTYPE),
        ("train/ant/9.png", tarfile.LNKTYPE),
        ("train/ant/more", tarfile.SYMTYPE),
        ("train/dog", tarfile.SYMTYPE),
    ],
)
def test_a_link_in_an_archive_that_may_hide_an_image_is_refused(packed_with, load, name, kind):
    path = packed_with(name, type=kind, linkname="train/ant/0.png")
    with pytest.raises(ValueError, match=rf"holds {name} as a link.*--hard-dereference"):
        load(path)


@pytest.mark.parametrize("name", [".train", "train/ant/.9.png", "train/ant/notes.txt"])
def test_another_link_in_an_archive_is_left_out(folder, packed_with, load, name):
    path = packed_with(name, type=tarfile.SYMTYPE, linkname="train/ant/0.png")
    assert same(load(path), load(folder))


# Files that cannot be read ------------------------------------------------------------------------


def test_a_pipe_and_a_device_are_refused(folder, load):
    pipe = folder / "train" / "ant" / "x.png"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match=r"train/ant/x.png is a pipe or a device.*remove it"):
        load(folder)
    pipe.unlink()
    pipe.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"train/ant/x.png is a pipe or a device"):
        load(folder)


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_a_pipe_and_a_device_in_an_archive_are_refused(packed_with, load, kind):
    path = packed_with("train/ant/x.png", type=kind)
    with pytest.raises(ValueError, match=rf"train/ant/x.png in {path} is a pipe or a device"):
        load(path)


def test_a_pipe_as_root_is_refused(tmp_path, load):
    os.mkfifo(tmp_path / "set.tar")
    with pytest.raises(ValueError, match=r"set.tar is neither a directory nor a file"):
        load(tmp_path / "set.tar")


@pytest.mark.parametrize("packed", [False, True])
def test_a_huge_file_is_refused_by_name(folder, tmp_path, load, packed, monkeypatch):
    root = pack(folder, tmp_path / "set.tar") if packed else folder
    largest = max(file.stat().st_size for file in folder.rglob("*.png"))
    monkeypatch.setattr(module, "MAX_BYTES", largest - 1)
    size = f"has {largest} bytes; an image may have {largest - 1} at most"
    with pytest.raises(ValueError, match=rf"/\d.png .*{size}"):
        load(root)
    monkeypatch.setattr(module, "MAX_BYTES", largest)
    assert load(root).num_train == 24


def test_an_archive_that_claims_a_huge_member_is_refused_before_it_is_read(packed_with, load):
    path = packed_with("train/ant/x.png", first=True)
    content = bytearray(path.read_bytes())
    member = tarfile.TarInfo("train/ant/x.png")
    member.size = 3 * 10**9
    content[:512] = member.tobuf()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"train/ant/x.png in .* has 3,000,000,000 bytes"):
        load(path)


def test_too_little_memory_for_an_archive_is_told_with_the_member(folder, tmp_path, load):
    def read(*_):
        raise MemoryError

    path = pack(folder, tmp_path / "set.tar")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tarfile.ExFileObject, "read", read)
        with pytest.raises(ValueError, match=r"set.tar needs more memory .* at test/ant/0.png"):
            load(path)


def test_a_folder_that_cannot_be_listed_is_an_error(folder, load, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("bee"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="bee"):
        load(folder)


# Names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_names_that_are_not_utf_8_are_read(folder, tmp_path, load, packed):
    expected = load(folder)
    ant = folder / "train" / "ant"
    try:
        (ant / "0.png").rename(ant / os.fsdecode(b"0\xe9.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    root = pack(folder, tmp_path / "set.tar") if packed else folder
    assert same(load(root), expected)
    (ant / os.fsdecode(b"0\xe9.png")).write_bytes(b"")
    root = pack(folder, tmp_path / "set.tar") if packed else folder
    with pytest.raises(ValueError, match=re.escape("train/ant/0\udce9.png is broken")):
        load(root)


def test_a_long_name_of_the_root_fits_into_the_name_of_the_cache(folder, tmp_path, load):
    expected = load(folder)
    assert same(load(folder.rename(tmp_path / ("s" * 250))), expected)


@pytest.mark.parametrize("name", ["./train/ant/3.png", "train/bee/../ant/3.png"])
def test_the_later_of_two_members_with_one_path_counts(folder, packed_with, load, name):
    file = folder / "train" / "ant" / "3.png"
    old = file.read_bytes()
    Image.new("RGB", (6, 6), (1, 2, 3)).save(file)
    new, expected = file.read_bytes(), load(folder)
    file.write_bytes(old)
    assert same(load(packed_with(name, new)), expected)
    assert same(load(packed_with(name, new, first=True)), load(folder))


@pytest.mark.parametrize("prefix", ["/", "../"])
def test_members_outside_of_the_archive_are_only_names(folder, tmp_path, load, prefix):
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            _add(archive, f"{prefix}{file.relative_to(folder)}", file.read_bytes())
    assert same(load(path), load(folder))


# Classes that would vanish ------------------------------------------------------------------------


def _other_format(folder, name):
    for file in (folder / name).iterdir():
        file.rename(file.with_suffix(".gif"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("names", [["train/bee", "test/bee"], ["train/bee"], ["test/bee"]])
def test_a_class_without_an_image_that_is_read_is_refused(folder, tmp_path, load, packed, names):
    for name in names:
        _other_format(folder, name)
    root = pack(folder, tmp_path / "set.tar") if packed else folder
    words = rf"no image in {sorted(names)[0]}, as none .* \.jpg, .*\.webp; convert its images"
    with pytest.raises(ValueError, match=words):
        load(root)


def test_an_empty_class_is_refused(folder, packed_with, load):
    path = packed_with("train/dog", type=tarfile.DIRTYPE)
    (folder / "train" / "dog").mkdir()
    for root in (folder, path):
        with pytest.raises(ValueError, match="no image in train/dog"):
            load(root)


def test_a_class_that_comes_later_is_not_hidden_by_the_cache(folder, tmp_path, load):
    load(folder)
    assert cache_file(tmp_path / "cache")
    (folder / "train" / "dog").mkdir()
    (folder / "train" / "dog" / "0.gif").touch()
    with pytest.raises(ValueError, match="no image in train/dog"):
        load(folder)


def test_other_folders_may_be_without_images(folder, load):
    expected = load(folder)
    (folder / "docs" / "more").mkdir(parents=True)
    (folder / "docs" / "more" / "notes.txt").touch()
    (folder / "train" / "ant" / "notes").mkdir()
    (folder / "train" / "notes.txt").touch()
    assert same(load(folder), expected)


# Other archives -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("set.zip", b"PK\x03\x04"),
        ("set.tar.zst", b"\x28\xb5\x2f\xfd"),
        ("set.rar", b"Rar!\x1a\x07"),
        ("set.7z", b"7z\xbc\xaf\x27\x1c"),
    ],
)
def test_another_kind_of_archive_is_told_which_are_read(tmp_path, load, name, start):
    (tmp_path / name).write_bytes(start + bytes(range(256)) * 10)
    words = f"{re.escape(name)} is neither .* gzip, bzip2 or xz: unpack another kind, such as zip"
    with pytest.raises(ValueError, match=words):
        load(tmp_path / name)


def test_a_link_to_nothing_in_place_of_a_class_is_refused(folder, load):
    (folder / "train" / "eel").symlink_to(folder / "nowhere")
    with pytest.raises(ValueError, match="train/eel is a link to nothing; restore what it points"):
        load(folder)


def test_other_links_to_nothing_do_not_matter(folder, load):
    before = load(folder)
    (folder / "train" / "notes.txt").symlink_to(folder / "nowhere")
    assert same(load(folder), before)
