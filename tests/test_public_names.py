"""`meta_lr.NAME`: each public name is found when it is first used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import meta_lr

POLICIES = {
    "Constant": lambda: meta_lr.Constant(0.1),
    "Cosine": lambda: meta_lr.Cosine(0.1),
    "Knee": lambda: meta_lr.Knee(0.1),
    "MultiStep": lambda: meta_lr.MultiStep(0.1),
    "OneCycle": lambda: meta_lr.OneCycle(2.5),
    "Policy": lambda: meta_lr.Policy("dtri", 0.02, k1=0.1, l=5),
    "Warmup": lambda: meta_lr.Warmup(meta_lr.Constant(0.3), 3),
    "Composite": lambda: meta_lr.Composite([2], [meta_lr.Constant(0.1), meta_lr.Cosine(0.2)]),
}


@pytest.mark.parametrize("name", POLICIES)
def test_the_policies_are_there_to_be_used(name):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    meta_lr.ControlledLR(optimizer, POLICIES[name](), total_steps=10)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    assert name in meta_lr.__all__


def test_all_names_are_listed_found_and_known_to_type_checkers():
    assert set(meta_lr.__all__) <= set(dir(meta_lr))
    for name in meta_lr.__all__:
        assert getattr(meta_lr, name).__name__ == name
    tree = ast.parse(Path(meta_lr.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = [alias.name for node in block.body for alias in node.names]
    assert sorted([*typed, "list_methods"]) == sorted(meta_lr.__all__)


def test_each_listed_method_is_a_controller_with_one_line_on_what_it_does():
    found = meta_lr.list_methods()
    assert {"AutoLRS", "AutoLRSPaper", "OnlineMLRSNet", "PAL", "SelfTuning", *POLICIES} <= set(
        found
    )
    for name, line in found.items():
        method = getattr(meta_lr, name)
        assert callable(method.__call__) and hasattr(method, "needs") and hasattr(method, "init")
        assert line.endswith(".") and len(line) < 100


def test_each_listed_checkpoint_can_be_loaded():
    found = meta_lr.list_checkpoints()
    assert "self-tuning" in found
    for name in found:
        assert hasattr(meta_lr.load_pretrained(name), "needs")


def test_they_are_listed_before_torch_is_imported():
    code = "import meta_lr, sys; print('Cosine' in dir(meta_lr), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'meta_lr' has no attribute 'Cosinus'"):
        meta_lr.Cosinus  # noqa: B018
