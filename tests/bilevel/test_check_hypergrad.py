"""`meta-lr check-hypergrad`: it confirms what is exact, and tells what is not."""

from dataclasses import dataclass

import pytest
import torch

from meta_lr.bilevel.check import graph_megabytes
from meta_lr.bilevel.estimators import Adjoint
from meta_lr.cli import check_hypergrad
from tests.commands import outcome

SMALL = ["check-hypergrad", "model.hidden=[8]", "net.hidden=4", "directions=2"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows(printed):
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    return {cells[1].strip(): cells for cells in (line.split("|") for line in lines[2:])}


def test_exact_estimators_are_confirmed_beside_the_approximation(capsys):
    code, printed, _ = outcome(capsys, *SMALL, "optimizer=adam", "gamma=0.01")
    table = rows(printed)
    assert code == 0
    assert printed.endswith("\nconfirmed: unroll, adjoint (relative error below 1e-05)\n")
    assert list(table) == ["unroll", "adjoint", "first_order (approximation)"]
    errors = [float(cells[2]) for cells in table.values()]
    assert max(errors[:2]) < 1e-5 < errors[2]
    assert float(table["adjoint"][4]) < float(table["unroll"][4])  # memory of graphs


def test_one_step_has_the_closed_form_too_and_one_can_be_chosen(capsys):
    assert next(iter(rows(outcome(capsys, *SMALL, "look_ahead=1")[1]))) == "closed_form"
    _, printed, _ = outcome(capsys, *SMALL, "look_ahead=2", "estimator=adjoint")
    assert list(rows(printed)) == ["adjoint"]
    code, printed, _ = outcome(capsys, *SMALL, "look_ahead=2", "estimator=first_order")
    assert code == 0 and "no verdict: first_order is an approximation" in printed


def test_a_wrong_meta_gradient_is_told(capsys, monkeypatch):
    @dataclass(frozen=True)
    class Off(Adjoint):
        def __call__(self, learner, state, view, weights):
            exact = super().__call__(learner, state, view, weights)
            return exact._replace(grads=tuple(1.001 * grad for grad in exact.grads))

    monkeypatch.setitem(check_hypergrad.ESTIMATORS, "adjoint", Off())
    code, printed, _ = outcome(capsys, *SMALL, "look_ahead=2")
    assert code == 1 and "not confirmed: adjoint (relative error not below 1e-05)" in printed


def test_what_does_not_apply_is_refused(capsys):
    code, _, said = outcome(capsys, *SMALL, "estimator=es")
    assert code == 2 and "estimator=es is made for windows" in said
    code, _, said = outcome(capsys, *SMALL, "estimator=closed_form")
    assert code == 2 and "closed_form looks 1 step ahead; pass look_ahead=1" in said


def test_the_memory_of_graphs_is_counted():
    x = torch.randn(1000, dtype=torch.float64, requires_grad=True)
    held = graph_megabytes(lambda: x.exp().sin())  # the output of exp, and the input of sin
    assert held == pytest.approx(0.016)
