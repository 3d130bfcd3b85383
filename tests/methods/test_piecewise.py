"""The policy through given points: its formula, its file, and what it refuses."""

import json
import math
from contextlib import nullcontext
from itertools import pairwise

import pytest
import torch

from meta_lr.drop_in.scheduler import ControlledLR
from meta_lr.methods.piecewise import Piecewise, piecewise
from meta_lr.protocol import Need, StepView

KNOTS = [(0.1, 0.4), (0.35, 0.1), (0.6, 0.1), (0.9, 0.8)]


def rates(policy, steps=40):
    views = (StepView(policy, step, total_steps=steps) for step in range(steps + 10))
    return [policy(view, policy.init())[0] for view in views]


def slow(knots, fraction):
    """Return the rate by a search through all pairs, and the mean of the logarithms."""
    if fraction <= knots[0][0]:
        return knots[0][1]
    for (a, first), (b, last) in pairwise(knots):
        if a <= fraction <= b:
            part = (fraction - a) / (b - a)
            return math.exp((1 - part) * math.log(first) + part * math.log(last))
    return knots[-1][1]


@pytest.mark.parametrize("knots", [KNOTS, KNOTS[:1], [(0.0, 0.1), (1.0, 0.001)]])
@pytest.mark.parametrize("steps", [1, 7, 40])
def test_it_equals_its_slow_twin_past_the_end_of_the_run_too(knots, steps):
    expected = [slow(knots, step / steps) for step in range(steps + 10)]
    assert rates(Piecewise(knots), steps) == pytest.approx(expected, rel=1e-12)


def test_at_a_knot_the_rate_is_its_own_to_the_last_digit():
    knots = [(step / 40, 0.1 + 0.01 * step**0.5) for step in (0, 3, 7, 39)]
    found = rates(Piecewise(knots))
    assert [found[step] for step in (0, 3, 7, 39)] == [rate for _, rate in knots]


def test_the_length_of_the_run_is_needed():
    assert Piecewise(KNOTS).needs == Need.HORIZON
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    with pytest.raises(ValueError, match="needs the length of the run: pass total_steps="):
        ControlledLR(optimizer, Piecewise(KNOTS))


def test_a_saved_policy_is_the_same_when_loaded(tmp_path):
    path = tmp_path / "policy.json"
    Piecewise(KNOTS).save(path)
    assert json.loads(path.read_text()) == {"format": 1, "knots": [list(knot) for knot in KNOTS]}
    assert Piecewise.load(path) == Piecewise(KNOTS)
    assert piecewise([[0.0, 0.5]], str(path)) == Piecewise(KNOTS), "the file comes first"
    assert piecewise(KNOTS) == Piecewise(KNOTS)


def test_a_family_is_kept_in_the_file_and_left_out_where_there_is_none(tmp_path):
    path = tmp_path / "policy.json"
    Piecewise(KNOTS, family="adam").save(path)
    assert json.loads(path.read_text())["family"] == "adam"
    assert Piecewise.load(path) == piecewise(None, str(path)) == Piecewise(KNOTS, family="adam")
    assert piecewise(None, str(path), "sgd") == piecewise(KNOTS, family="sgd")
    assert piecewise(None, str(path), "").family == piecewise(KNOTS).family == ""


@pytest.mark.parametrize(("family", "refused"), [("adam", True), ("sgd", False), ("", False)])
def test_an_optimizer_of_another_family_is_refused(family, refused):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    advice = "learned with adam, and the optimizer is sgd; .* or a policy's own family="
    with pytest.raises(ValueError, match=advice) if refused else nullcontext():
        ControlledLR(optimizer, Piecewise(KNOTS, family=family), total_steps=10)


@pytest.mark.parametrize(
    ("knots", "message"),
    [
        ([], "at least one pair"),
        ([(0.0, 0.1, 0.2)], "at least one pair"),
        ([(0.5, 0.1), (0.5, 0.2)], "fractions that rise"),
        ([(0.5, 0.1), (0.2, 0.2)], "fractions that rise"),
        ([(-0.1, 0.1)], r"within \[0, 1\]"),
        ([(0.1, 0.1), (1.1, 0.1)], r"within \[0, 1\]"),
        ([(math.nan, 0.1)], r"within \[0, 1\]"),
        ([(0.0, 0.0)], "finite learning rates > 0"),
        ([(0.0, math.inf)], "finite learning rates > 0"),
        ([(0.0, math.nan)], "finite learning rates > 0"),
    ],
)
def test_bad_knots_fail_at_construction(knots, message):
    with pytest.raises(ValueError, match=message):
        Piecewise(knots)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 2, "knots": [[0, 1]]}', "has format 2, this meta_lr reads 1; install a newer"),
        ("{", "holds no policy"),
        ("[]", "holds no policy"),
        ('{"format": 1}', "holds no policy .KeyError: 'knots'.; needed is"),
        ('{"format": 1, "knots": [[0, "high"]]}', "holds no policy"),
        ('{"format": 1, "knots": [[0]]}', "holds no policy"),
        ('{"format": 1, "knots": [[0, 1]], "family": 3}', "holds no policy .*family is 3"),
        ('{"format": 1, "knots": [[0, -1]]}', "holds no policy .*finite learning rates > 0"),
        ("[" * 50_000, "holds no policy .*it is nested too deeply"),
        ('{"format": ' + "9" * 5000, "holds no policy .*it has a number of 5000 digits"),
        ('{"format": 1, "knots": [[0, ' + "9" * 400 + "]]}", "it has a number of 400 digits"),
    ],
    ids=str.split("newer cut list empty text short family negative deep long large"),
)
def test_a_file_that_is_no_policy_is_refused_by_its_name(tmp_path, text, message):
    path = tmp_path / "policy.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        Piecewise.load(path)
    assert str(path) in str(caught.value)


def test_a_policy_file_in_another_encoding_is_refused_by_its_name(tmp_path):
    path = tmp_path / "policy.json"
    path.write_bytes(b'{"family": "\xe9"}')
    with pytest.raises(ValueError, match=r"policy\.json holds no policy .*is not UTF-8 text"):
        Piecewise.load(path)


def test_neither_knots_nor_a_file_is_refused():
    with pytest.raises(ValueError, match="needs a path, or knots such as"):
        piecewise(None)
