"""The method and the table of CONTRIBUTING.md are true."""

import re
from pathlib import Path

import pytest
import torch

from meta_lr import ControlledLR, Need, StepView
from meta_lr.protocol import UndeclaredError
from meta_lr.testing import check_docstring
from meta_lr.testing.problem import OwnLoop
from tests.controllers import Says

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
METHOD, CHECK = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
ROWS = re.findall(r"^\| `(\w+)` \| (?:`(\w+)`|-) \|", TEXT, re.MULTILINE)


@pytest.fixture
def names():
    names = {"__name__": "example"}
    exec(METHOD, names)
    return names


def test_the_method_keeps_the_contract_and_the_house_rule(names):
    exec(CHECK, names)
    check_docstring(names["Polyak"]())


def test_the_method_gives_the_rates_of_its_formula(names):
    parameter = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = ControlledLR(optimizer, names["Polyak"](first=0.5, c=1.0, growth=1.5, floor=0.1))
    rates = []
    for gradient, loss in (([1.0, 1.0], 1.0), ([1.0, 1.0], 9.0), ([2.0, 0.0], 1.0), ([9, 9], 1.0)):
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        scheduler.observe(loss)
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
    # loss / |g|^2: 1/2 < 0.75; 9/2 > 0.75; 1/4; 1/162 < 0.1
    assert rates == pytest.approx([0.5, 0.75, 0.25, 0.1])


def test_the_table_names_each_field_with_the_bit_that_opens_it():
    fields = set(re.findall(r"^ {8}(\w+): ", StepView.__doc__, re.MULTILINE))
    assert {field for field, _ in ROWS} == fields
    assert {bit for _, bit in ROWS} == {"", *(need.name for need in Need)}
    for field, bit in ROWS:
        view = view_of(Need[bit] if bit else Need.NOTHING)
        getattr(view, field)
        for other in fields - {field, "step"}:
            with pytest.raises(UndeclaredError):
                getattr(view, other)


def view_of(needs):
    seen = []

    class Sees(Says):
        def __call__(self, view, state):
            seen.append(view)
            return self.answer, state

    OwnLoop(Sees(0.1, needs), lambda p: torch.optim.SGD(p, lr=0.1), 12).run(1)
    return seen[-1]


def test_the_table_is_right_about_what_is_live_and_how_it_is_shaped():
    view = view_of(Need.LOSS | Need.PARAMS | Need.GRADS | Need.DIRECTION)
    assert view.loss.shape == ()
    for p, g, d in zip(view.params, view.grads, view.direction, strict=True):
        assert p.grad is g and g.shape == d.shape == p.shape


def test_the_table_is_right_about_the_sandbox():
    view = view_of(Need.TRIALS | Need.PARAMS)
    params = [p + 0.1 for p in view.params]
    assert view.sandbox.loss(params, 0).shape == view.sandbox.meta_loss(params, 0).shape == ()
    with view.sandbox.trial() as trial:
        assert trial.step(0.1).shape == ()
