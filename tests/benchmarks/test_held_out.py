"""Held-out inner problems: families apart from training's, and what the benchmark makes of them."""

import argparse
import math
from dataclasses import replace

import pytest
import torch
import yaml

from benchmarks import held_out
from benchmarks.held_out import family, three, way
from benchmarks.held_out_runs import WORST, Recorded, finals, learned, logs, rates
from benchmarks.held_out_table import HEAD, ORACLE, TUNED, Result, lines
from meta_lr import checkpoint
from meta_lr.bilevel.baseline import PeakedCosine
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.meta_training import final_losses
from meta_lr.bilevel.problems import DigitsProblems
from meta_lr.cli.conf_files import above, beside, conf_dir
from meta_lr.methods.features.features import Features
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.mlp import MLP

TEXT = (conf_dir() / "held_out.yaml").read_text(encoding="utf-8")
FAMILIES = yaml.safe_load(TEXT)
TRAINING = yaml.safe_load((conf_dir() / "problems" / "digits.yaml").read_text(encoding="utf-8"))
SMALL = DigitsProblems(widths=(4, 8), lengths=(6, 12), batch_sizes=(16,))
NAMES = ("relative_loss", "progress")


def network(seed, hidden=4):
    net = MLP(hidden=(hidden,), inputs=len(NAMES))
    return Learned(net, [net.init(seed)], 2.0, features=Features(NAMES))


# Families -----------------------------------------------------------------------------------------


def apart(held, trained):
    """Whether no value of an option, a range or a choice, is one of training's."""
    held, trained = (one if isinstance(one, list) else [one] for one in (held, trained))
    if all(isinstance(value, str) for value in held):
        return not set(held) & set(trained)
    return min(held) > max(trained) or max(held) < min(trained)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_has_a_name_of_its_own_and_an_option_that_training_never_has(name):
    options = FAMILIES[name]
    assert name != TRAINING["name"]
    assert set(options) <= set(TRAINING) - {"name", "_target_"}
    assert any(apart(value, TRAINING[key]) for key, value in options.items())
    drawn = family(name)
    assert drawn.name == name
    assert {key: getattr(drawn, key) for key in options} == {
        key: tuple(value) if isinstance(value, list) else value for key, value in options.items()
    }


def test_what_overlaps_is_not_apart():
    assert not apart([300, 900], [50, 400]) and not apart([64, 96], [8, 64])
    assert not apart(["adam", "adagrad"], ["sgd", "adam"]) and not apart("digits", "digits")
    assert apart([401, 900], [50, 400]) and apart([8], [16, 32]) and apart("clusters", "digits")


def test_every_family_and_option_has_its_comment():
    wanted = {f"{name}.{key}" for name, options in FAMILIES.items() for key in options}
    assert set(beside(TEXT)) == wanted | set(FAMILIES)
    assert above(TEXT)


def test_the_family_of_training_is_a_family_too():
    assert family("digits").lengths == tuple(TRAINING["lengths"])


# Ways ---------------------------------------------------------------------------------------------


def test_a_way_is_a_name_with_checkpoints_or_one_folder():
    assert way("es=a/0,a/1") == ("es", ["a/0", "a/1"])
    assert way("a/b") == ("a/b", ["a/b"])
    for wrong in ("es=", "=a", "es=a,"):
        with pytest.raises(argparse.ArgumentTypeError, match="needed is NAME=CHECKPOINT"):
            way(wrong)


def test_checkpoints_of_several_kinds_keep_their_order():
    mixed = [network(0), network(1, hidden=3), network(2), network(3, hidden=3)]
    together = []

    def run(problem, schedule, candidates):
        together.append(len(candidates))
        return torch.stack([weights[0].sum() for weights in candidates])

    sums = torch.stack([one.stages[0][0].sum() for one in mixed])
    assert torch.equal(learned(run, SMALL(0), mixed), sums)
    assert together == [2, 2]


# Runs ---------------------------------------------------------------------------------------------


def test_recorded_rates_are_those_of_the_schedule_and_change_nothing():
    problem, own = SMALL(1), network(3)
    found = rates(problem, PeakedCosine(), [(torch.tensor(0.5),), (torch.tensor(2.0),)])
    steps = torch.arange(problem.total_steps)
    share = 0.5 * (1 + torch.cos(math.pi * steps / problem.total_steps))
    torch.testing.assert_close(found, share[:, None] * torch.tensor([0.5, 2.0]))

    def end(schedule):
        copies = Copies(problem, schedule, 1)
        phi = tuple(weight[None] for weight in own.stages[0])
        return copies.run(copies.start(), phi, 0, problem.total_steps).params

    assert all(torch.equal(a, b) for a, b in zip(end(own), end(Recorded(own)), strict=True))


def test_finals_are_logs_averaged_over_the_seeds_of_a_problem():
    own = [network(0), network(1)]
    found = finals(SMALL, [4, 5], 2, own)
    for place, one in enumerate(own):
        for column, number in enumerate((4, 5)):
            each = [final_losses(SMALL(number, seed), one, one.stages)[0] for seed in (0, 1)]
            expected = sum(map(math.log, each)) / 2
            assert found.learned[place, column].item() == pytest.approx(expected, rel=1e-5)
    assert found.cosines.shape == (8, 2) and found.num_diverged == [0, 0]


def test_a_diverged_run_is_counted_and_stands_at_the_worst():
    losses = torch.tensor([math.nan, math.inf, 1e9, 1.0])
    assert logs(losses).tolist() == [WORST, WORST, WORST, 0.0]
    wild = replace(network(0), gamma=1e30)
    found = finals(SMALL, [4], 2, [wild])
    assert found.num_diverged == [2] and found.learned.item() == WORST


def test_three_problems_of_different_length_are_shown():
    problems = [SMALL(0)._replace(total_steps=steps) for steps in (9, 2, 7, 5, 8)]
    assert three(problems) == [1, 2, 0]
    assert three(problems[:1]) == [0]


# Table --------------------------------------------------------------------------------------------

BARS = torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([-0.5, 0.5, 2.0, 2.0])
ONE = Result(
    "es", torch.tensor([[-0.5, 0.5, 1.5, 3.5], [-0.1, 0.7, 1.9, 2.9]]), *BARS, cost=12345.6
)


def test_differences_are_paired_by_problem_after_the_seeds_are_averaged():
    assert ONE.apart.tolist() == pytest.approx([-0.3, -0.4, -0.3, 0.2])
    spread, half = math.sqrt(0.22 / 3), 3.182446305 / 2  # Student's t of 3 degrees of freedom
    assert ONE.interval == pytest.approx((-0.2 - half * spread, -0.2 + half * spread))
    assert ONE.share == pytest.approx(0.2 / 0.5)
    assert Result(ORACLE, BARS[1][None], *BARS).share == 1.0
    assert math.isnan(Result("es", ONE.logs, BARS[0], BARS[0]).share)


def test_the_table_says_it_all():
    head, rule, es, tuned = lines([ONE, Result(TUNED, BARS[0][None], *BARS)], markdown=True)
    assert head.count("|") == rule.count("|") == len(HEAD) + 1
    seeds = "+1.250 +1.350 | 0.071"
    assert es == (f"| es | 12,346 | +1.300 | {seeds} | -0.200 [-0.631, +0.231] | 3 of 4 | +0.40 |")
    assert tuned == f"| {TUNED} |  | +1.500 |  |  |  |  |  |"
    text = lines([ONE], markdown=False)
    assert [text[1].index(cell) for cell in ("+1.300", "3 of 4")] == [
        text[0].index(word) for word in ("mean", "better on")
    ]


# The command --------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(held_out, "family", lambda name: replace(SMALL, name=name))
    monkeypatch.setattr(held_out, "TUNING", 2)
    for seed in range(2):
        trained_on = {"cost": 100.0 + seed}
        checkpoint.save(tmp_path / f"{seed}", network(seed), trained_on=trained_on, card="")
    return [str(tmp_path / f"{seed}") for seed in range(2)]


def test_the_command_writes_the_table_and_the_figure(places, tmp_path, capsys):
    figure = tmp_path / "out.svg"
    small = ["--problems", "4", "--seeds", "1", "--markdown", "--figure", str(figure)]
    held_out.main([f"es={','.join(places)}", places[1], "--family", "wide", *small])
    out = capsys.readouterr().out
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in out.splitlines()}
    assert out.startswith("wide: 4 problems x 1 seeds")
    assert {"es", places[1], TUNED, ORACLE} < set(rows)
    assert rows["es"][1] == "100" and rows[places[1]][1] == "101"  # 100.5 rounds to even
    assert rows["es"][3].split()[1] == rows[places[1]][2]  # the same checkpoint, in both ways
    wide = replace(SMALL, name="wide")
    expected = finals(wide, range(held_out.FIRST, held_out.FIRST + 4), 1, [network(1)]).learned
    assert rows[places[1]][2] == f"{expected.mean().item():+.3f}"
    svg = figure.read_text(encoding="utf-8")
    assert all(f">{name}</text>" in svg for name in ("es", TUNED, ORACLE))
    assert svg.count(" steps</text>") == 3


def test_the_command_refuses_a_name_twice_and_a_checkpoint_of_several_stages(places, tmp_path):
    with pytest.raises(ValueError, match="a is named twice; write its seeds as a=FOLDER,FOLDER"):
        held_out.main([f"a={places[0]}", f"a={places[1]}"])
    two = replace(network(0), stages=network(0).stages * 2)
    checkpoint.save(tmp_path / "two", two, trained_on={}, card="")
    with pytest.raises(ValueError, match="two has 2 stages; needed is a checkpoint of one"):
        held_out.main([str(tmp_path / "two")])
