"""The wheel, installed in a new environment, works in an empty folder."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_ships_configuration_checkpoints_and_types(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        "meta_lr/conf/meta_train.yaml",
        "meta_lr/conf/lr/cosine.yaml",
        "meta_lr/checkpoints/mlr-snet-cifar10/model.safetensors",
        "meta_lr/py.typed",
    }
    assert wanted <= names
    assert not [name for name in names if name.startswith(("tests", "runs", "conf"))]


@pytest.mark.slow
def test_the_installed_wheel_trains_in_an_empty_folder(wheel, tmp_path, monkeypatch):
    """Dependencies come from this environment; the package itself only from the wheel.

    Over 10 s: pip fills a new environment, and its first command compiles the package.
    """
    monkeypatch.delenv("PYTHONPATH", raising=False)
    venv, place = tmp_path / "venv", tmp_path / "empty"
    place.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    site = next((venv / "lib").glob("python*")) / "site-packages"
    dependencies = [p for p in sys.path if p.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(dependencies))
    code = "import meta_lr; print(meta_lr.__file__)"
    where = subprocess.run([python, "-c", code], cwd=place, check=True, capture_output=True)
    assert str(site) in where.stdout.decode()
    run = [str(venv / "bin" / "meta-lr"), "meta-train", "experiment=quickstart", "debug=tiny"]
    done = subprocess.run(run, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(place.glob("runs/**/checkpoint/model.safetensors"))
