"""Controls, robustness and the performance profile of the scorecard."""

import numpy as np
import pytest
import torch

from benchmarks.scorecard import families, learned, longer, problems, profile, robust
from benchmarks.scorecard.finals import bound
from benchmarks.scorecard.learned import Replayed, misled, recorded, steered
from benchmarks.scorecard.scores import GLOBAL, ORACLE, SAME_SEED, Scores
from benchmarks.scorecard.tuned import AVERAGED
from meta_lr.methods.features.arithmetic import columns
from meta_lr.methods.features.feature import Moment
from meta_lr.methods.self_tuning.schedule import FEATURES, NETWORK, SelfTuning


@pytest.fixture
def schedule():
    return SelfTuning(NETWORK.init(1))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(families, "LENGTHS", (8, 12))


# ------------------------------------------------------------------- another run's features


def test_the_features_of_a_run_replayed_on_itself_change_nothing(schedule):
    problem = problems.made("table", 0, 3)
    rows = recorded(problem, schedule)
    assert len(rows) == problem.total_steps - 1  # the first learning rate reads nothing
    assert rows[0].shape == (1, FEATURES.inputs)
    itself = learned.replace(schedule, features=Replayed(FEATURES, rows))
    assert steered(problem, itself).logs == pytest.approx(steered(problem, schedule).logs)


def test_features_are_replayed_at_the_same_share_of_the_run():
    rows = [torch.tensor([float(i)]) for i in range(10)]
    replayed = Replayed(FEATURES, rows)
    read = [
        int(replayed.side_by_side(columns(), Moment(1.0, step, 41), (), 1)[0]) for step in range(40)
    ]
    assert read == [step // 4 for step in range(40)]
    few = Replayed(FEATURES, rows[:3])
    assert int(few.side_by_side(columns(), Moment(1.0, 5, 5), (), 1)[0]) == 2


def test_the_misled_control_reads_a_problem_of_the_next_family(schedule, monkeypatch):
    asked = []

    def made(family, number, seed):
        asked.append((family, number, seed))
        return problems.made(family, number, seed)

    monkeypatch.setattr(learned, "made", made)
    method = misled(schedule)
    end = method.run("table", 0, 3)  # the last family is followed by the first
    assert asked == [("wide", 0, 3), ("table", 0, 3)]
    assert end.logs != steered(problems.made("table", 0, 3), schedule).logs
    assert method.fingerprint != learned.untuned(schedule).fingerprint


def test_controls_have_no_row_with_an_average(schedule):
    for method in (learned.control(schedule), misled(schedule)):
        assert method.run("table", 0, 3).averaged == []
    assert len(learned.untuned(schedule).run("table", 0, 3).averaged) == 1


def test_the_silent_network_is_the_bounds_alone():
    problem = problems.made("table", 0, 3)
    rows = recorded(problem, learned.silent())
    fooled = learned.replace(
        learned.silent(), features=Replayed(FEATURES, [100 * row for row in rows])
    )
    assert steered(problem, fooled).logs == steered(problem, learned.silent()).logs


# ------------------------------------------------------------------- changed problems


def changed(name, family="table"):
    problem, change = problems.made(family, 0, 3), robust.CHANGES[name]
    return problem.task, change.of(problem.task)


@pytest.mark.parametrize("factor", [0.1, 10])
def test_the_loss_is_multiplied(factor):
    plain, task = changed(f"loss x {factor:g}")
    model, batch = plain.model(), plain.batch("train", 0)
    assert task.loss(model, batch).item() == pytest.approx(factor * plain.loss(model, batch).item())


def test_the_inputs_are_multiplied_and_the_targets_are_not():
    plain, task = changed("inputs x 3", "autoencoder")
    (images, wanted), (more, same) = plain.batch("train", 0), task.batch("train", 0)
    assert torch.equal(more, 3 * images) and torch.equal(same, wanted)


def test_the_initial_weights_are_multiplied_and_the_biases_are_not():
    plain, task = changed("weights x 2")
    for before, after in zip(plain.model().parameters(), task.model().parameters(), strict=True):
        assert torch.equal(after, (2 if before.ndim > 1 else 1) * before)


def test_inputs_that_are_no_numbers_are_left_out():
    texts = {
        name
        for name in families.FAMILIES
        if not problems.made(name, 0, 0).task.inputs.is_floating_point()
    }
    assert texts == robust.TEXTS == robust.CHANGES["inputs x 3"].skips


def test_the_factor_of_the_loss_is_taken_out_of_the_result(schedule):
    method = robust.methods("mine", schedule)["mine, loss x 10"]
    plain = problems.made("regression", 0, 3)
    end = method.run("regression", 0, 3)
    assert end.worst == pytest.approx(bound(plain), abs=1e-5)
    assert end.logs == pytest.approx(
        steered(plain, schedule).logs, abs=0.5
    )  # not ln 10 = 2.3 apart


def test_robust_rows_show_differences_from_the_plain_problem_by_family():
    rows = {
        ("a", 0, "mine"): {"logs": [1.0, 2.0, 3.0]},
        ("a", 0, "mine, loss x 10"): {"logs": [1.0, 2.0, 3.3]},
        ("b", 0, "mine"): {"logs": [0.0] * 3},
        ("b", 0, "mine, loss x 10"): {"logs": [0.02] * 3},
        ("b", 0, "mine, inputs x 3"): {"logs": [-0.05] * 3},
    }
    shown = robust.lines(rows, "mine", ["a", "b"])
    assert shown[0] == "| change | mean [95 %] | within 0.03 | worse by more | a | b |"
    assert "| loss x 10 | +0.060 ±0.508 | 1 of 2 | 1 of 2 | +0.100 | +0.020 |" in shown
    assert "| inputs x 3 | -0.050 ±nan | 0 of 1 | 0 of 1 | - | -0.050 |" in shown
    assert len(shown) == 4  # a change without rows has no line


# ------------------------------------------------------------------- longer runs


def test_a_longer_run_is_of_the_same_problem(schedule, monkeypatch):
    monkeypatch.setattr(longer, "STEPS", 40)
    lasting = longer.methods({"mine": schedule}, ("line", 0.0))
    ends = [method.run("regression", 0, 3) for method in lasting.values()]
    assert all(len(end.logs) == 1 and not end.averaged for end in ends)
    assert ends[0].worst == bound(problems.made("regression", 0, 3))
    other = longer.methods({"mine": schedule}, ("cosine", 0.0))
    assert list(other) == list(lasting)
    assert [m.fingerprint for m in other.values()] != [m.fingerprint for m in lasting.values()]


# ------------------------------------------------------------------- the profile


def test_the_profile_is_the_share_of_problems_near_the_best():
    found = profile.profile({"one": [1.0, 2.0, 3.5], "two": [1.2, 1.9, 3.0]})
    assert found["one"] == pytest.approx([0.0, 0.1, 0.5])
    assert found["two"] == pytest.approx([0.0, 0.0, 0.2])
    at, share = profile._steps(np.array([0.0, 0.1, 0.6]))
    assert at.tolist() == [0.0, 0.0, 0.1, 0.5]
    assert share == pytest.approx([0.0, 1 / 3, 2 / 3, 2 / 3])


def test_the_figure_names_each_method_and_leaves_out_what_no_method_can_be(tmp_path):
    names = ["mine", "mine" + AVERAGED, "no network", GLOBAL, ORACLE, ORACLE + AVERAGED, SAME_SEED]
    logs = {name: [0.1 * place, 0.2, 0.3] for place, name in enumerate(names)}
    scores = Scores(["a"] * 3, logs, {}, ("cosine", 0.0))
    profile.write(tmp_path / "new" / "figure.svg", scores, ["mine"])
    drawn = (tmp_path / "new" / "figure.svg").read_text()
    assert all(f">{name}<" in drawn for name in names[:-1]) and f">{SAME_SEED}<" not in drawn
    looks = profile._looks(names[:-1], ["mine"])
    assert looks["mine"].colour == looks["mine" + AVERAGED].colour
    assert len(set(looks.values())) == len(names) - 1


def test_sixteen_methods_have_sixteen_looks():
    names = [
        ORACLE,
        GLOBAL,
        ORACLE + AVERAGED,
        "mine" + AVERAGED,
        *(f"peer {i}" for i in range(11)),
    ]
    looks = profile._looks([*names, "mine"], ["mine"])
    assert len(set(looks.values())) == len(looks) == 16
