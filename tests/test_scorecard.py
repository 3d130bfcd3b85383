"""The scorecard: tuned schedules that are fair, rows that survive a kill, and what they come to."""

import math

import pytest
import torch

from benchmarks.scorecard import __main__ as command
from benchmarks.scorecard import families, runs, table
from benchmarks.scorecard.runs import CHOOSING, SCORING, TRAINING, Runs, Tuned, asked
from meta_lr import checkpoint
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.varied import VariedProblems
from meta_lr.schedulers.seen import Seen
from meta_lr.schedulers.self_tuning import NETWORK, SelfTuning


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(families, "LENGTHS", (4, 6))
    monkeypatch.setattr(runs, "VariedProblems", lambda: VariedProblems(lengths=(4, 6)))
    monkeypatch.setattr(runs, "_MOST", 1)


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
            (peak, torch.tensor([0.0, 1.0])), Seen(peak, (), (), list, step, 100), state
        )[0]
        for step in range(100)
    ]
    cosine, line = torch.stack(along).T.tolist()
    assert line[0] == pytest.approx(2.0 / 5) and cosine[0] == pytest.approx(2.0 / 5)
    assert line[50] == pytest.approx(1.0) and cosine[50] == pytest.approx(1.0)
    assert line[25] == pytest.approx(1.5)
    assert cosine[25] == pytest.approx(1 + math.cos(math.pi / 4))
    assert line[99] == pytest.approx(0.02)


@pytest.mark.parametrize(("best", "edge"), [(-4.0, -4.5), (2.5, 3.0), (0.0, 1.0)])
def test_a_grid_grows_until_its_best_peak_is_inside(monkeypatch, best, edge):
    def bowl(problem, decades):
        return [[(decade - best) ** 2 for decade in decades]] * 2

    monkeypatch.setattr(runs, "shapes", bowl)
    found = runs.tuned([None] * 6)
    grid = found["decades"]
    assert (grid[0] if best < 0 else grid[-1]) == edge
    assert found["cosine"] == found["line"] == [[(d - best) ** 2 for d in grid]] * 6


def test_rows_are_kept_and_a_cut_line_is_dropped(tmp_path):
    kept = Runs(tmp_path / "new" / "rows.jsonl")
    assert kept.rows() == {}
    kept.add({"family": "deep", "number": 0, "method": "tuned"})
    with kept.path.open("a") as file:
        file.write('{"family": "deep", "num')
    assert list(kept.rows()) == [("deep", 0, "tuned")]
    kept.cut()
    kept.add({"family": "deep", "number": 1, "method": "tuned"})
    assert list(kept.rows()) == [("deep", 0, "tuned"), ("deep", 1, "tuned")]


# ------------------------------------------------------------------- the table

GRID = [-1.0, 0.0, 1.0]


def tuned(family, number, chosen, scored):
    """A row in which every seed of a group ends alike; a line is worse by 1."""
    cosine = [list(chosen)] * len(CHOOSING) + [list(scored)] * len(SCORING)
    line = [[x + 1 for x in one] for one in cosine]
    row = {"family": family, "number": number, "method": "tuned", "decades": GRID}
    return row | {"cosine": cosine, "line": line}


def own(family, number, log):
    return {"family": family, "number": number, "method": "own", "logs": [log] * len(SCORING)}


ROWS = [
    tuned(TRAINING, 0, (1.0, 0.0, 2.0), (1.0, 0.0, 2.0)),
    tuned("a", 0, (1.0, 2.0, 3.0), (1.0, 0.8, 3.0)),
    tuned("b", 0, (0.0, 2.0, 3.0), (0.5, 0.2, 3.0)),
    own("a", 0, 0.7),
    own("b", 0, 0.6),
    tuned("b", 1, (9.0, 9.0, 9.0), (9.0, 9.0, 9.0)),  # not run with all methods
]


def test_differences_are_from_the_peak_that_other_seeds_choose():
    rows = {(row["family"], row["number"], row["method"]): row for row in ROWS}
    found, choice = table.results(rows, ["own"])
    assert choice == ("cosine", 0.0)
    by_name = {one.name: one for one in found}
    assert by_name["own"].families == pytest.approx({"a": -0.3, "b": 0.1})
    assert by_name[table.GLOBAL].families == pytest.approx({"a": -0.2, "b": -0.3})
    assert by_name[table.SAME_SEED].families == pytest.approx({"a": -0.2, "b": -0.3})
    assert by_name["own"].failures == 1 and by_name["own"].problems == 2
    assert by_name["own"].mean == pytest.approx(-0.1)
    assert by_name["own"].spread == pytest.approx(12.706 * 0.2, rel=1e-3)
    assert found[0].mean <= found[-1].mean
    assert "| own | -0.100 ±2.541 | 1 of 2 | -0.300 | +0.100 |" in table.lines(found)


def test_without_runs_there_is_no_table():
    with pytest.raises(ValueError, match="no problem has been run with all methods"):
        table.results({}, ["own"])


# ------------------------------------------------------------------- the command


def test_the_command_runs_what_is_missing_and_prints_the_table(
    tmp_path, capsys, monkeypatch, short
):
    few = {name: families.FAMILIES[name] for name in ("table", "regression")}
    monkeypatch.setattr(families, "FAMILIES", few)
    schedule = SelfTuning(NETWORK.init(0))
    checkpoint.save(tmp_path / "mine", schedule, trained_on={"cost": 1}, card="")
    store = tmp_path / "rows.jsonl"
    arguments = [f"mine={tmp_path / 'mine'}", "--problems=1", f"--store={store}"]
    command.main(arguments)
    shown = capsys.readouterr().out
    assert "| mine |" in shown and f"| {command.CONTROL} |" in shown
    assert "of 2 | " in shown and "| table | regression |" in shown
    before = store.read_bytes()
    assert before.count(b"\n") == len(list(asked([0], {"mine": 1, command.CONTROL: 1}))) == 7
    command.main(arguments)
    assert store.read_bytes() == before and capsys.readouterr().out.endswith(shown[-200:])


def test_a_checkpoint_that_has_a_peak_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["old=meta-lr-digits"])
    assert "meta-lr-digits does not find its own learning rate" in capsys.readouterr().err
