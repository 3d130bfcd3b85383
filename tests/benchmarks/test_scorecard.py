"""The scorecard: tuned schedules that are fair, rows that survive a kill, and what they come to."""

import math

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from benchmarks.scorecard import __main__ as command
from benchmarks.scorecard import average, families, finals, peers, problems, runs, table, versus
from benchmarks.scorecard import scores as scoring
from benchmarks.scorecard import tuned as tuning
from benchmarks.scorecard.arguments import named
from benchmarks.scorecard.problems import CHOOSING, SCORING, TRAINING
from benchmarks.scorecard.store import Store
from benchmarks.scorecard.tuned import AVERAGED, CURVES, Tuned
from meta_lr import checkpoint, polynomial_average
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.schedules import Seen
from meta_lr.bilevel.varied import VariedProblems
from meta_lr.methods.features.features import Features
from meta_lr.methods.networks.mlp import MLP
from meta_lr.methods.self_tuning.schedule import NETWORK, SelfTuning
from meta_lr.optim.signals import pieces_of


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(families, "LENGTHS", (4, 6))
    monkeypatch.setattr(problems, "VariedProblems", lambda: VariedProblems(lengths=(4, 6)))
    monkeypatch.setattr(tuning, "_MOST", 1)


@pytest.fixture
def few(monkeypatch, short):
    names = ("table", "regression")
    monkeypatch.setattr(families, "FAMILIES", {name: families.FAMILIES[name] for name in names})


@pytest.mark.parametrize("family", families.FAMILIES)
def test_each_family_gives_problems_that_train(family):
    problem = families.problem(family, 0, 0)
    copies = Copies(problem, Tuned(), 1)
    phi = (torch.tensor([0.01 * problem.unit]), torch.tensor([0.0]))
    start = copies.start()
    end = copies.run(start, phi, 0, 2)
    assert copies.mean_loss(end, "val").isfinite().all()
    assert any(not torch.equal(a, b) for a, b in zip(start.params, end.params, strict=True))


def test_a_problem_is_a_pure_function_of_family_number_and_seed():
    first, again, other = (families.problem("deep", 3, seed) for seed in (0, 0, 1))
    assert torch.equal(first.task.batch("train", 2)[1], again.task.batch("train", 2)[1])
    assert not torch.equal(first.task.batch("train", 2)[1], other.task.batch("train", 2)[1])
    assert first.total_steps == again.total_steps == other.total_steps


def test_val_and_training_examples_are_apart():
    task = families.problem("table", 0, 0).task
    val = torch.cat([task.batch("val", i)[0] for i in range(task.num_batches("val"))])
    trained = torch.cat([task.batch("train", i)[0] for i in range(60)])
    assert len(val) == len(task.inputs) - len(task.inputs) * 4 // 5
    assert not {tuple(row) for row in val.tolist()} & {tuple(row) for row in trained.tolist()}


def test_the_tuned_schedules_warm_up_and_fall_to_zero():
    peak, state = torch.tensor([2.0, 2.0]), Tuned().init()
    along = [
        Tuned().side_by_side(
            (peak, torch.tensor([0.0, 1.0])),
            Seen(peak, (), (), list, step, 100, pieces_of([])),
            state,
        )[0]
        for step in range(100)
    ]
    cosine, line = torch.stack(along).T.tolist()
    assert line[0] == pytest.approx(2.0 / 5) and cosine[0] == pytest.approx(2.0 / 5)
    assert line[50] == pytest.approx(1.0) and cosine[50] == pytest.approx(1.0)
    assert line[25] == pytest.approx(1.5)
    assert cosine[25] == pytest.approx(1 + math.cos(math.pi / 4))
    assert line[99] == pytest.approx(0.02)


@pytest.mark.parametrize("place", range(len(CURVES)))
@pytest.mark.parametrize(("best", "edge"), [(-4.0, -4.5), (2.5, 3.0), (0.0, 1.0)])
def test_a_grid_grows_until_the_best_peak_of_each_curve_is_inside(monkeypatch, place, best, edge):
    def bowls(problem, decades):
        bottoms = [best if i == place else 0.0 for i in range(len(CURVES))]
        return [[(decade - bottom) ** 2 for decade in decades] for bottom in bottoms]

    monkeypatch.setattr(tuning, "curves", bowls)
    monkeypatch.setattr(tuning, "bound", lambda problem: 9.0)
    found = tuning.tuned([None] * 6)
    grid = found["decades"]
    assert (grid[0] if best < 0 else grid[-1]) == edge
    assert found[CURVES[place]] == [[(d - best) ** 2 for d in grid]] * 6
    assert found["worst"] == [9.0] * 6


# ------------------------------------------------------------------- the average of the weights


def test_the_average_is_that_of_an_averaged_model_in_a_plain_loop(short):
    problem = problems.made("regression", 0, 3)._replace(total_steps=12)
    peak, line = 0.1 * problem.unit, torch.tensor([1.0])
    _, mean = average.run(Copies(problem, Tuned(), 1), (torch.tensor([peak]), line))

    model = problem.task.model()
    optimizer = problem.make_optimizer(list(model.parameters()))
    averaged = AveragedModel(model, avg_fn=polynomial_average)
    for step in range(12):
        optimizer.param_groups[0]["lr"] = peak * (1 - step / 12) * min(1, (step + 1) / (0.05 * 12))
        optimizer.zero_grad()
        problem.task.loss(model, problem.task.batch("train", step)).backward()
        optimizer.step()
        averaged.update_parameters(model)
    for ours, theirs in zip(mean.params, averaged.parameters(), strict=True):
        assert torch.allclose(ours[0], theirs, rtol=1e-4, atol=1e-6)
    assert any(
        not torch.allclose(a, b)
        for a, b in zip(averaged.parameters(), model.parameters(), strict=True)
    )


def test_the_average_weighs_the_last_ninth_most():
    weights = torch.eye(90)  # the weights after step t are the t-th unit vector
    mean = weights[0]
    for step in range(2, 91):
        mean = polynomial_average(mean, weights[step - 1], step - 1)
    assert mean.sum() == pytest.approx(1.0)
    assert mean[80:].sum() > 0.5 and (mean.diff() >= 0).all()


def test_a_diverged_run_counts_as_its_bound():
    losses = torch.tensor([1.0, math.inf, math.nan, 1e30])
    assert finals.bounded(losses, 2.0) == [0.0, 2.0, 2.0, 2.0]
    problem = families.problem("table", 0, 0)
    start = Copies(problem, Tuned(), 1)
    known = start.mean_loss(start.start(), "val").log().item() + finals.WORST
    assert finals.bound(problem) == pytest.approx(known, rel=1e-5)


# ------------------------------------------------------------------- the rows


def test_rows_are_kept_and_a_cut_line_is_dropped(tmp_path):
    store = Store(tmp_path / "new" / "rows.jsonl")
    assert store.rows() == {}
    store.add({"family": "deep", "number": 0, "method": "tuned"})
    with store.path.open("a") as file:
        file.write('{"family": "deep", "num')
    assert list(store.rows()) == [("deep", 0, "tuned")]
    store.cut()
    store.add({"family": "deep", "number": 1, "method": "tuned"})
    assert list(store.rows()) == [("deep", 0, "tuned"), ("deep", 1, "tuned")]


def test_rows_of_another_schedule_or_an_earlier_scorecard_are_made_again():
    method = runs.Method(lambda *place: pytest.fail("not run here"), "new")
    row = {"method": "own", "fingerprint": "new", "worst": [1.0]}
    assert runs.kept(row, {"own": method})
    assert not runs.kept(None, {"own": method})
    assert not runs.kept(row | {"fingerprint": "old"}, {"own": method})
    assert not runs.kept({"method": "own", "fingerprint": "new"}, {"own": method})
    assert runs.kept({"method": "tuned", "worst": [1.0]}, {})
    assert not runs.kept({"method": "tuned"}, {})


# ------------------------------------------------------------------- the table

GRID = [-1.0, 0.0, 1.0]


def tuned(family, number, chosen, scored, *, averaged=0.0, worst=50.0):
    """A row in which every seed of a group ends alike; a line is worse by 1."""
    cosine = [list(chosen)] * len(CHOOSING) + [list(scored)] * len(SCORING)
    curves = {"cosine": cosine, "line": [[x + 1 for x in one] for one in cosine]}
    means = {
        name + AVERAGED: [[x + averaged for x in one] for one in of] for name, of in curves.items()
    }
    row = {"family": family, "number": number, "method": "tuned", "decades": GRID}
    return {**row, **curves, **means, "worst": [worst] * 6}


def own(family, number, *logs, averaged=()):
    row = {"family": family, "number": number, "method": "own"}
    return {**row, "logs": list(logs), "averaged": list(averaged), "worst": [50.0] * 3}


def rows_of(*rows):
    return {(row["family"], row["number"], row["method"]): row for row in rows}


ROWS = rows_of(
    tuned(TRAINING, 0, (1.0, 0.0, 2.0), (1.0, 0.0, 2.0)),
    tuned("a", 0, (1.0, 2.0, 3.0), (1.0, 0.8, 3.0), averaged=-0.2),
    tuned("b", 0, (0.0, 2.0, 3.0), (0.5, 0.2, 3.0), averaged=-0.4),
    own("a", 0, 0.7, 0.7, 0.7, averaged=[0.6] * 3),
    own("b", 0, 0.5, 0.6, 0.7, averaged=[0.6] * 3),
    tuned("b", 1, (9.0, 9.0, 9.0), (9.0, 9.0, 9.0)),  # not run with all methods
)


def test_differences_are_from_the_peak_that_other_seeds_choose():
    scores = scoring.scores(ROWS, ["own"])
    assert scores.choice == ("cosine", 0.0)
    found = table.results(scores)
    by_name = {one.name: one for one in found}
    assert by_name["own"].families == pytest.approx({"a": -0.3, "b": 0.1})
    assert by_name["own" + AVERAGED].families == pytest.approx({"a": -0.4, "b": 0.1})
    assert by_name[scoring.GLOBAL].families == pytest.approx({"a": -0.2, "b": -0.3})
    assert by_name[scoring.SAME_SEED].families == pytest.approx({"a": -0.2, "b": -0.3})
    assert by_name[scoring.ORACLE + AVERAGED].families == pytest.approx({"a": -0.2, "b": -0.4})
    assert by_name["own"].failures == 1 and by_name["own"].problems == 2
    mean, spread = by_name["own"].interval
    assert mean == pytest.approx(-0.1) and spread == pytest.approx(12.706 * 0.2, rel=1e-3)
    assert found[0].interval[0] <= found[-1].interval[0]
    assert "| own | -0.100 ±2.541 | 1 of 2 | -0.300 | +0.100 |" in table.lines(found)


def test_the_one_global_peak_is_one_that_the_grids_of_all_problems_have():
    grown = tuned(TRAINING, 0, (3.0, 2.0, 1.0, 0.0), (3.0, 2.0, 1.0, 0.0))
    rows = rows_of(
        grown | {"decades": [*GRID, 2.0]},
        tuned("a", 0, (1.0, 2.0, 3.0), (1.0, 2.0, 3.0)),
        own("a", 0, 1, 1, 1),
    )
    assert scoring.scores(rows, ["own"]).choice == ("cosine", 1.0)


def test_a_family_counts_once_in_the_interval_however_many_problems_it_has():
    flat = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    many = [tuned("a", n, *flat) for n in range(8)] + [own("a", n, *[-0.2] * 3) for n in range(8)]
    scores = scoring.scores(rows_of(tuned(TRAINING, 0, *flat), *many, *(
        one for family, log in (("b", 0.0), ("c", 0.2))
        for one in (tuned(family, 0, *flat), own(family, 0, *[log] * 3))
    )), ["own"])  # fmt: skip
    result = next(one for one in table.results(scores) if one.name == "own")
    mean, spread = result.interval
    assert mean == pytest.approx(0.0)  # of families; of problems it is -0.14
    assert spread == pytest.approx(4.3027 * 0.2 / math.sqrt(3), rel=1e-3)  # t with 2 degrees


def test_a_run_that_diverged_is_a_failure_even_where_the_mean_is_good():
    flat = ((9.0, 9.0, 9.0), (9.0, 9.0, 9.0))
    rows = rows_of(tuned(TRAINING, 0, *flat), tuned("a", 0, *flat, worst=2.0), own("a", 0, 1, 2, 1))
    scores = scoring.scores(rows, ["own"])
    by_name = {one.name: one for one in table.results(scores)}
    assert by_name["own"].families["a"] < 0 and by_name["own"].failures == 1


def test_without_runs_there_is_no_table():
    with pytest.raises(ValueError, match="no problem has been run with all methods"):
        scoring.scores({}, ["own"])


def test_families_are_compared_problem_by_problem():
    flat = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    logs = {"good": (-0.3, -0.2, -0.25), "bad": (0.3, 0.2, 0.2), "open": (-0.3, 0.2, 0.3)}
    rows = [tuned(TRAINING, 0, *flat)]
    for family, of in logs.items():
        for number, log in enumerate(of):
            base = 10.0 * number  # problems differ far more than the methods do
            rows += [
                tuned(family, number, *[(base,) * 3] * 2),
                own(family, number, *[base + log] * 3),
            ]
    found = versus.versus(scoring.scores(rows_of(*rows), ["own"]), "own")
    assert [(one.name, one.better, one.worse) for one in found] == [
        ("good", True, False), ("bad", False, True), ("open", False, False)
    ]  # fmt: skip
    assert found[0].spread == pytest.approx(4.3027 * 0.05 / math.sqrt(3), rel=1e-3)
    assert versus.verdict(found).startswith("better in 1 of 3 families")
    assert versus.verdict(found).endswith("worse in 1 with intervals above")
    assert "| good | -0.250 ±0.124 | 3 | better |" in versus.lines(found)


def test_one_problem_gives_no_verdict():
    assert not versus.Family("a", 1, -1.0, math.nan).better
    assert not versus.Family("a", 1, 1.0, math.nan).worse


# ------------------------------------------------------------------- the command


def test_the_command_runs_what_is_missing_and_prints_the_table(tmp_path, capsys, monkeypatch, few):
    store = tmp_path / "rows.jsonl"
    arguments = [saved(tmp_path, "mine"), "--problems=1", f"--store={store}"]
    command.main(arguments)
    shown = capsys.readouterr().out
    for name in ("mine", "mine + average", command.CONTROL, command.MISLED, "oracle + average"):
        assert f"| {name} |" in shown
    assert "of 2 | " in shown and "| table | regression |" in shown
    assert "mine less one global peak: better in 0 of 2 families" in shown
    assert (tmp_path / "rows.svg").read_text().startswith("<?xml")
    before = store.read_bytes()
    assert before.count(b"\n") == 1 + 2 * (1 + 3)
    store.write_bytes(before[:-40])  # killed while it wrote the last row
    command.main(arguments)
    assert store.read_bytes() == before and capsys.readouterr().out.endswith(shown[-200:])
    monkeypatch.setattr(command, "run", lambda *key: pytest.fail("all rows are there"))
    command.main([*arguments, f"--figure={tmp_path / 'drawn.png'}"])
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")


def made_up(key, methods):
    """A row without a run."""
    family, number, name = key
    if name == "tuned":
        return tuned(family, number, (1.0, 0.0, 1.0), (1.0, 0.0, 1.0))
    changed = {"method": name, "fingerprint": methods[name].fingerprint}
    return own(family, number, 0.5, 0.5, 0.5) | changed


def saved(tmp_path, name, seed=0):
    schedule = SelfTuning(NETWORK.init(seed))
    checkpoint.save(tmp_path / name, schedule, trained_on={"cost": 1}, card="")
    return f"mine={tmp_path / name}"


def test_rows_of_an_earlier_checkpoint_do_not_enter_the_table(tmp_path, capsys, monkeypatch, few):
    monkeypatch.setattr(command, "run", made_up)
    store = f"--store={tmp_path / 'rows.jsonl'}"
    command.main([saved(tmp_path, "old"), "--problems=2", store])
    assert "| mine | +0.500 ±0.000 | 4 of 4 |" in capsys.readouterr().out
    command.main([saved(tmp_path, "new", seed=1), "--problems=1", store])
    assert "| mine | +0.500 ±0.000 | 2 of 2 |" in capsys.readouterr().out


def test_peers_and_changed_problems_are_rows_of_the_same_store(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "run", made_up)
    monkeypatch.setattr(peers, "find_spec", lambda module: True)
    monkeypatch.setattr(peers, "version", lambda package: "1.0")
    store = tmp_path / "rows.jsonl"
    arguments = [saved(tmp_path, "mine"), "--problems=1", f"--store={store}"]
    command.main(arguments)
    plain = capsys.readouterr().out
    assert "GreedyLR" not in plain and "changed problems" not in plain
    command.main([*arguments, "--peers", "--robust"])
    shown = capsys.readouterr().out
    assert all(f"| {name} | +0.500 ±0.000 | 9 of 9 |" in shown for name in peers.PEERS)
    assert "| loss x 10 | +0.000 ±0.000 | 9 of 9 | 0 of 9 |" in shown
    assert "| inputs x 3 | +0.000 ±0.000 | 7 of 7 | 0 of 7 |" in shown
    held_out = 1 + 3 + len(peers.PEERS) + 4
    assert store.read_bytes().count(b"\n") == 1 + 9 * held_out - 2  # no text times 3


def test_longer_runs_are_compared_with_the_one_global_peak(tmp_path, capsys, monkeypatch, few):
    def row(key, methods):
        if "3000 steps" not in key[2]:
            return made_up(key, methods)
        log = 0.2 if key[2].startswith("mine") else 0.0
        changed = {"method": key[2], "fingerprint": methods[key[2]].fingerprint}
        return own(*key[:2], log, log, log) | changed

    monkeypatch.setattr(command, "run", row)
    store = tmp_path / "rows.jsonl"
    command.main([saved(tmp_path, "mine"), "--problems=1", "--longer=2", f"--store={store}"])
    shown = capsys.readouterr().out
    assert "| mine | +0.200 ±0.000 | 4 of 4 | +0.200 | +0.200 |" in shown
    assert "| no network | +0.000 ±0.000 | 0 of 4 | +0.000 | +0.000 |" in shown


@pytest.mark.parametrize("names", [("log_loss",), ("progress", "remaining"), ("level", "noise")])
def test_a_checkpoint_of_fewer_features_has_its_row(tmp_path, names, short):
    net = MLP(hidden=(4,), inputs=len(names), outputs=2, activation="tanh")
    schedule = SelfTuning(net.init(0), net, features=Features(names))
    checkpoint.save(tmp_path / "few", schedule, trained_on={"cost": 1}, card="")
    name, loaded = named(f"clock={tmp_path / 'few'}")
    ends = command.learned.steered(problems.made("table", 0, 3), loaded)
    assert name == "clock" and len(ends.logs) == len(ends.averaged) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["old=meta-lr-digits"], "meta-lr-digits does not find its own learning rate"),
        (["tuned=meta-lr-digits"], "'tuned' is the name of another row; choose another"),
        (["GreedyLR=meta-lr-digits"], "'GreedyLR' is the name of another row; choose another"),
        (["mine"], "'mine'; needed is NAME=CHECKPOINT"),
        (["mine=MINE", "mine=MINE"], "a name comes twice in mine, mine; give each checkpoint"),
        (["mine=MINE", "--figure=x.gif"], "--figure x.gif; a path that ends in .svg or .png is"),
        (["mine=MINE", "--problems=0"], "--problems 0; at least 1 is needed"),
        (
            ["mine=MINE", "--peers"],
            "--peers needs dog-optimizer, prodigyopt; pip install '.[peers]'",
        ),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(peers, "find_spec", lambda name: name not in ("dog", "prodigyopt"))
    saved(tmp_path, "mine")
    with pytest.raises(SystemExit):
        command.main([one.replace("MINE", str(tmp_path / "mine")) for one in arguments])
    assert message in capsys.readouterr().err
