"""The README's loop, run exactly as it stands there; the links of all pages."""

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parents[1] / "README.md"
PAGES = [README, README.parent / "CONTRIBUTING.md", *(README.parent / "docs").rglob("*.md")]


def python_blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_loop_of_the_readme_runs_and_sets_rates():
    torch.manual_seed(0)
    x = torch.randn(64, 5)
    data = torch.utils.data.TensorDataset(x, (x.sum(1) > 0).long())
    model = torch.nn.Linear(5, 2)
    names = {
        "loader": torch.utils.data.DataLoader(data, batch_size=16),
        "epochs": 3,
        "model": model,
        "loss_fn": torch.nn.functional.cross_entropy,
        "optimizer": torch.optim.SGD(model.parameters(), lr=1.0),
    }
    rates = []
    names["optimizer"].register_step_post_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
    (block,) = python_blocks()
    exec(block, names)
    assert len(rates) == 12
    assert 1.0 not in rates and len(set(rates)) > 1
    assert rates[-1] < max(rates)  # it falls to zero at the end of the run


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files_and_headings(page):
    links = re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8"))
    for path, anchor in links:
        if path.startswith("http"):
            continue
        place = page.parent / path if path else page
        assert place.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.+)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            known = {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings}
            assert anchor in known


def test_each_page_of_results_is_on_the_first_one():
    first = README.parent / "docs" / "results" / "README.md"
    text = first.read_text(encoding="utf-8")
    for page in first.parent.glob("*.md"):
        assert page == first or f"]({page.name})" in text


def test_lists_in_its_commands_are_quoted_as_zsh_needs_it():
    lines = README.read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line.startswith(("meta-lr ", "torchrun "))]
    assert commands
    for line in commands:
        assert "[" not in re.sub("'[^']*'", "", line.partition(" #")[0])
