"""torchvision's image sets: tiny files in the real formats, and what is said offline."""

from __future__ import annotations

import functools
import gzip
import hashlib
import pickle
import struct
import tarfile
from urllib.error import URLError

import numpy as np
import pytest
import torch

from meta_lr.tasks import torchvision_set
from meta_lr.tasks.models import MLP

SMALL = functools.partial(MLP, hidden=(4,))
SIZES = {"batch_size": 4, "meta_size": 4, "val_size": 4}


def _pixels(count, *shape):
    return np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)


def _labels(count, num_classes=2):
    return np.arange(count) % num_classes


def _write_idx(path, array):
    header = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_mnist(root, name):
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 6)):
        _write_idx(raw / f"{part}-images-idx3-ubyte", _pixels(count, 28, 28))
        _write_idx(raw / f"{part}-labels-idx1-ubyte", _labels(count))
    return raw


def write_cifar(folder, key):
    folder.mkdir(parents=True)
    for name, count in (("train", 20), ("test", 6)):
        content = {"data": _pixels(count, 3072), key: _labels(count).tolist()}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"names": ["a", "b"]}))


def forget_checksums(monkeypatch, kind):
    """Let torchvision accept our tiny files in the place of the real ones."""
    monkeypatch.setattr(kind, "train_list", [["train", None]])
    monkeypatch.setattr(kind, "test_list", [["test", None]])
    monkeypatch.setattr(kind, "meta", {"filename": "meta", "key": "names", "md5": None})
    monkeypatch.setattr(kind, "tgz_md5", None)


@pytest.mark.parametrize(
    ("dataset", "name"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")]
)
def test_mnist_files_become_a_task(tmp_path, dataset, name):
    write_mnist(tmp_path, name)
    task = torchvision_set(dataset, SMALL, root=tmp_path, **SIZES)
    assert task.name == dataset
    assert torch.equal(task.images[:20, 0], torch.from_numpy(_pixels(20, 28, 28)))
    assert torch.equal(task.images[task.splits["test"], 0], torch.from_numpy(_pixels(6, 28, 28)))
    assert task.labels.tolist() == [*_labels(20), *_labels(6)]
    assert task.batch("train", 0)[0].shape == (4, 1, 28, 28)


@pytest.mark.parametrize(
    ("dataset", "kind", "key"),
    [("cifar10", "CIFAR10", "labels"), ("cifar100", "CIFAR100", "fine_labels")],
)
def test_cifar_archive_put_into_root_is_unpacked_and_read(
    tmp_path, monkeypatch, dataset, kind, key
):
    from torchvision import datasets

    kind = getattr(datasets, kind)
    forget_checksums(monkeypatch, kind)
    write_cifar(tmp_path / "made", key)
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data" / kind.filename, "w:gz") as archive:
        archive.add(tmp_path / "made", kind.base_folder)
    task = torchvision_set(dataset, SMALL, root=tmp_path / "data", **SIZES)
    expected = torch.from_numpy(_pixels(20, 3072)).view(-1, 3, 32, 32)
    assert torch.equal(task.images[:20], expected)
    assert task.images.is_contiguous()
    assert task.splits["test"].tolist() == list(range(20, 26))
    again = torchvision_set(dataset, SMALL, root=tmp_path / "data", download=False, **SIZES)
    assert torch.equal(again.images, task.images)


def test_svhn_files_become_a_task(tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision import datasets

    for part, count in (("train", 20), ("test", 6)):
        labels = np.where(_labels(count) == 0, 10, 1)
        pixels = _pixels(count, 3, 32, 32).transpose(2, 3, 1, 0)
        savemat(tmp_path / f"{part}_32x32.mat", {"X": pixels, "y": labels[:, None]})
    files = {part: ["", f"{part}_32x32.mat", None] for part in ("train", "test")}
    monkeypatch.setattr(datasets.SVHN, "split_list", files)
    task = torchvision_set("svhn", SMALL, root=tmp_path, **SIZES)
    assert torch.equal(task.images[:20], torch.from_numpy(_pixels(20, 3, 32, 32)))
    assert task.labels.tolist() == [*_labels(20), *_labels(6)]
    assert task.images.is_contiguous()


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise URLError("no internet here")

    for module in ("cifar", "mnist", "svhn", "utils"):
        for name in ("download_and_extract_archive", "download_url", "_urlretrieve"):
            monkeypatch.setattr(f"torchvision.datasets.{module}.{name}", refuse, raising=False)


@pytest.mark.parametrize(
    ("dataset", "files", "folder"),
    [
        ("cifar10", ["cifar-10-python.tar.gz"], ""),
        ("cifar100", ["cifar-100-python.tar.gz"], ""),
        ("mnist", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"], "MNIST/raw"),
        ("fashion_mnist", ["train-labels-idx1-ubyte.gz"], "FashionMNIST/raw"),
        ("svhn", ["train_32x32.mat", "test_32x32.mat"], ""),
    ],
)
def test_offline_error_says_which_file_to_put_where(
    tmp_path, offline, capfd, dataset, files, folder
):
    with pytest.raises(FileNotFoundError) as caught:
        torchvision_set(dataset, SMALL, root=tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{dataset} is not in {tmp_path} (downloading failed: ")
    assert "no internet here" in message
    assert f"into {tmp_path / folder} and run again" in message
    assert all(file in message for file in files)
    assert "http" in message and "\n" not in message
    with pytest.raises(FileNotFoundError, match=r"\(download=false\); put .* with download=true"):
        torchvision_set(dataset, SMALL, root=tmp_path, download=False)


def test_the_advice_names_what_is_missing_and_what_is_damaged(tmp_path, monkeypatch):
    from torchvision import datasets

    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "a.gz").write_bytes(b"whole")
    (raw / "b.gz").write_bytes(b"cut")
    sums = [(name, hashlib.md5(b"whole").hexdigest()) for name in ("a.gz", "b.gz", "c.gz")]
    monkeypatch.setattr(datasets.MNIST, "resources", sums)
    with pytest.raises(FileNotFoundError) as caught:
        torchvision_set("mnist", SMALL, root=tmp_path, download=False)
    assert str(caught.value) == (
        f"mnist is not in {tmp_path} (download=false; damaged: b.gz); put b.gz, c.gz from "
        f"https://ossci-datasets.s3.amazonaws.com/mnist/ into {raw} and run again with "
        "download=true"
    )
    (raw / "b.gz").write_bytes(b"whole")
    (raw / "c.gz").write_bytes(b"whole")
    with pytest.raises(FileNotFoundError, match=r"run again with download=true, which unpacks"):
        torchvision_set("mnist", SMALL, root=tmp_path, download=False)


def test_files_whose_unpacking_was_interrupted_are_refused(tmp_path):
    raw = write_mnist(tmp_path, "MNIST")
    file = raw / "train-images-idx3-ubyte"
    for size in (1000, 3, 0):
        file.write_bytes(file.read_bytes()[:size])
        with pytest.raises(ValueError, match=rf"files of mnist in {raw} are damaged.*remove them"):
            torchvision_set("mnist", SMALL, root=tmp_path, **SIZES)


def test_packed_files_put_where_the_error_says_are_found(tmp_path, monkeypatch):
    from torchvision import datasets

    raw = write_mnist(tmp_path, "MNIST")
    for file in list(raw.iterdir()):
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    names = [(file.name, None) for file in raw.iterdir()]
    monkeypatch.setattr(datasets.MNIST, "resources", names)
    task = torchvision_set("mnist", SMALL, root=tmp_path, **SIZES)
    assert torch.equal(task.images[:20, 0], torch.from_numpy(_pixels(20, 28, 28)))


def test_an_unknown_data_set_is_refused():
    with pytest.raises(ValueError, match=r"'imagenet'.*cifar10, cifar100, mnist"):
        torchvision_set("imagenet", SMALL)
