"""With torch, numpy and safetensors alone the drop-in works; all else says what to install."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from meta_lr.extras import EXTRAS, MissingPackageError, explained

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
MODULES = {  # where the name is another
    "hydra-core": "hydra",
    "hydra-joblib-launcher": "hydra_joblib_launcher",
    "hydra-submitit-launcher": "hydra_submitit_launcher",
    "scikit-learn": "sklearn",
}
WITHOUT = f"""
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *given):
        if name.partition(".")[0] in {sorted(m for some in EXTRAS.values() for m in some)}:
            return None
        return self.finder.find_spec(name, *given)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""
DROP_IN = """
import torch
import meta_lr

model = torch.nn.Linear(3, 1)
optimizer = torch.optim.AdamW(model.parameters())
inputs = torch.randn(8, 3)
policy = meta_lr.Policy("tri", 0.01, k1=0.1, l=5)
for method in (None, meta_lr.Cosine(0.1), meta_lr.AutoDrop(0.1), policy):
    given = () if method is None else (method,)
    scheduler = meta_lr.ControlledLR(optimizer, *given, total_steps=12)
    for _ in range(12):
        optimizer.zero_grad()
        loss = model(inputs).square().mean()
        loss.backward()
        scheduler.observe(loss)
        optimizer.step()
        scheduler.step()
assert meta_lr.list_checkpoints() and meta_lr.list_methods()
meta_lr.learning_rates(meta_lr.Cosine(0.1), 5)
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
loader = [torch.randn(32, 4, generator=torch.Generator().manual_seed(0))]
measured = lambda model, x: (model(x) - x.sum(1, keepdim=True)).square().mean()
meta_lr.range_test(model, torch.optim.SGD(model.parameters(), lr=0.1), loader, measured)
print("works")
"""


def without(code):
    command = [sys.executable, "-c", WITHOUT + code]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_drop_in_needs_no_extra():
    done = without(DROP_IN)
    assert done.stdout == "works\n", done.stderr


@pytest.mark.parametrize(
    "code, module",
    [
        ("import meta_lr.bilevel.unroll", "higher"),
        ("from meta_lr.tasks import digits; digits(None)", "sklearn"),
        ("from meta_lr.methods.autolrs.forecast import _smoothed as f; f(None, True)", "scipy"),
        ("from meta_lr.report.figures import drawn; drawn('a', 'b', None)", "matplotlib"),
    ],
)
def test_what_needs_an_extra_says_so(code, module):
    done = without(code)
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        f"meta_lr.extras.MissingPackageError: {module} is not installed; it comes with the extra "
        "train: pip install 'meta_lr[train]', or '.[train]' in a checkout"
    )


@pytest.mark.parametrize("command", ["train", "meta-train", "range-test"])
def test_a_command_says_it_in_one_line(command):
    run = f"from meta_lr.cli.main import main; sys.exit(main(['{command}', 'lr=cosine']))"
    done = without(run)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    said = r"meta-lr: \w+ is not installed; .*pip install 'meta_lr\[train\]'"
    assert re.match(said, done.stderr)


def test_each_package_of_an_extra_is_known_and_no_needed_one_is_in_an_extra():
    optional = PROJECT["optional-dependencies"]
    for extra, modules in EXTRAS.items():
        packages = [re.match(r"[\w-]+", each)[0] for each in optional[extra]]
        named = {MODULES.get(name, name) for name in packages} - {"meta_lr"}
        assert named <= set(modules)
    needed = {re.match(r"[\w-]+", each)[0] for each in PROJECT["dependencies"]}
    assert needed == {"torch", "numpy", "safetensors"}


def test_other_missing_modules_are_passed_on():
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'nothing'$"), explained():
        raise ModuleNotFoundError("No module named 'nothing'", name="nothing")
    with pytest.raises(MissingPackageError), explained(), explained():
        raise ModuleNotFoundError("No module named 'rich.table'", name="rich.table")
