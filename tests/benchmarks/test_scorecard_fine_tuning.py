"""The scorecard's fine-tuning and changed run lengths: tasks, peaks, runs, rows and tables."""

import pytest
import torch

import meta_lr
from benchmarks.scorecard import average, families, fine_tuning, run_lengths, second_tasks, steering
from benchmarks.scorecard import fine_tuning_runs as runs
from benchmarks.scorecard import fine_tuning_tables as tables
from benchmarks.scorecard import tuned as tuning
from benchmarks.scorecard.finals import val_loss
from benchmarks.scorecard.learned import silent
from benchmarks.scorecard.run_lengths import EXTENDED, PLANS, RESTARTED, place
from benchmarks.scorecard.tuned import AVERAGED
from meta_lr import checkpoint
from meta_lr.bilevel.copies import Copies

OWN = steering.learned(silent())
T = 8


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(second_tasks, "FIRST_STEPS", 3)
    monkeypatch.setattr(second_tasks, "LENGTHS", (3, 3))
    monkeypatch.setattr(run_lengths, "QUARTERS", (1, 1))
    monkeypatch.setattr(tuning, "_GRID", range(2))
    monkeypatch.setattr(tuning, "_MOST", 0)
    second_tasks.trained.cache_clear()
    yield
    second_tasks.trained.cache_clear()


# ------------------------------------------------------------------- fine-tuning


@pytest.mark.parametrize("change", second_tasks.CHANGES)
def test_a_second_task_begins_with_the_weights_of_the_first(short, change):
    trained = second_tasks.trained(change, 1, 3)
    model = second_tasks.second(change, 1, 3).task.model()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), trained, strict=True))
    scratch = second_tasks.first(change, 1, 3).task.model()
    pairs = zip(scratch.parameters(), trained, strict=True)
    assert all(not torch.equal(a, b) for a, b in pairs if a.ndim > 1)


def test_a_second_task_has_few_training_examples_and_a_whole_val():
    images = torch.arange(50.0)
    few, labels = second_tasks._few((images, images), 7)
    assert few[:40].unique().tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert few[40:].tolist() == images[40:].tolist() and torch.equal(few, labels)


def test_the_second_tasks_differ_from_the_first_as_they_say():
    (_, old), (_, new) = second_tasks.CHANGES["classes"]()
    assert old.max() == 4 and new.min() == 5
    (images, labels), (noisy, same) = second_tasks.CHANGES["noise"]()
    assert (noisy - images).std() == pytest.approx(1.0, abs=0.01) and torch.equal(labels, same)
    (images, labels), (same, renamed) = second_tasks.CHANGES["labels"]()
    assert torch.equal(images, same) and not (labels == renamed).any()


def test_fine_tuning_measures_both_tasks(short):
    found = second_tasks.run("classes", 0, 3, OWN)
    model = second_tasks.second("classes", 0, 3).task.model()
    before = val_loss(second_tasks.first("classes", 0, 3).task, model)
    assert found["before"] == pytest.approx(torch.tensor(before).log().item(), abs=1e-5)
    assert set(found) == {"new", "old", "before", "new + average", "old + average"}
    assert len({round(log, 6) for log in found.values()}) == 5


# ------------------------------------------------------------------- run lengths


def plain(problem, *plans, load=False):
    """Train with `ControlledLR`, one after the other for each (steps, planned); return the loss."""
    model, start, state = problem.task.model(), 0, None
    optimizer = problem.make_optimizer(list(model.parameters()))
    for steps, planned in plans:
        scheduler = meta_lr.ControlledLR(optimizer, silent(), total_steps=planned)
        if load and state is not None:
            scheduler.load_state_dict(state)
        for step in range(start, start + steps):
            loss = problem.task.loss(model, problem.task.batch("train", step))
            optimizer.zero_grad()
            loss.backward()
            scheduler.observe(loss)
            optimizer.step()
        start, state = start + steps, scheduler.state_dict()
    return torch.tensor(val_loss(problem.task, model)).log().item()


@pytest.mark.parametrize("family", ["wide", "regression"])
def test_runs_of_other_lengths_are_those_of_controlled_lr_in_a_plain_loop(monkeypatch, family):
    monkeypatch.setattr(run_lengths, "QUARTERS", (T // 4, T // 4))
    found, problem = run_lengths.run(family, 0, 3, OWN), run_lengths.problem(family, 0, 3)
    known = {
        place(1, 0.5): plain(problem, (T // 2, T)),
        place(0.75, 0.75): plain(problem, (3 * T // 4, 3 * T // 4)),
        place(4, 1): plain(problem, (T, 4 * T)),
        place(2, 2): plain(problem, (2 * T, 2 * T)),
        RESTARTED: plain(problem, (T, T), (T, T)),
        EXTENDED: plain(problem, (T, T), (T, 2 * T), load=True),
    }
    assert {name: found[name] for name in known} == pytest.approx(known, abs=1e-3)
    assert len({round(log, 4) for log in known.values()}) == len(known)
    measured = {place(plan, stop) for plan, stops in PLANS.items() for stop in stops}
    averaged = {name + AVERAGED for name in measured}
    assert set(found) == measured | averaged | {RESTARTED, EXTENDED}


def test_a_run_that_stops_early_is_measured_at_both_kinds_of_weights():
    problem = families.problem("table", 0, 3)._replace(total_steps=6)
    copies = Copies(problem, OWN.schedule, 1)
    found = run_lengths.stopped(copies, OWN.phi, [2, 6])
    assert list(found) == [2, 6]
    ends, averages = average.run(copies, OWN.phi)
    assert all(map(torch.equal, found[6][0].params, ends.params))
    assert all(map(torch.equal, found[6][1].params, averages.params))
    early = copies.run(copies.start(), OWN.phi, 0, 2)
    assert all(map(torch.equal, found[2][0].params, early.params))


def test_copies_that_go_on_beyond_their_end_stay_where_they_are():
    problem = families.problem("table", 0, 3)._replace(total_steps=6)
    copies = Copies(problem, OWN.schedule, 1)
    end = copies.run(copies.start(), OWN.phi, 0, 6)
    beyond = copies.run(end, OWN.phi, 6, 4)
    assert all(map(torch.equal, end.params, beyond.params))


# ------------------------------------------------------------------- rows


def scratch(number, *logs, decades=(-1.0, 0.0, 1.0)):
    row = {"family": runs.SCRATCH, "number": number, "method": "tuned"}
    return {**row, "decades": list(decades), "cosine": [list(logs)] * 3}


def rows_of(*rows):
    return {(row["family"], row["number"], row["method"]): row for row in rows}


def test_the_usual_peak_is_the_best_from_scratch_that_all_grids_have():
    rows = [scratch(0, 0.0, 0.2, 3.0), scratch(1, 3.0, 0.1, 0.0, 9.0, decades=(-1, 0, 1, 2))]
    assert runs.best(rows) == 0.0
    by = runs.steered(rows_of(*rows), ("noise", 0, runs.USUAL), {}, unit=0.1)
    assert by.phi[0].item() == pytest.approx(0.1 * 0.1) and by.fingerprint == "cosine -1.0"
    by = runs.steered(rows_of(*rows), ("noise", 0, runs.GLOBAL), {}, unit=0.1)
    assert by.phi[0].item() == pytest.approx(0.1)


def test_the_tuned_cosine_has_the_peak_of_the_problems_own_choosing_seeds():
    rows = rows_of(scratch(0, 0, 1, 2), scratch(0, 2, 1, 0) | {"family": "noise"})
    by = runs.steered(rows, ("noise", 0, runs.ORACLE), {}, unit=1.0)
    assert by.phi[0].item() == pytest.approx(10.0)


def test_rows_of_another_schedule_peak_or_number_of_seeds_are_made_again():
    key = ("noise", 0, "own")
    row = {"fingerprint": silent().fingerprint, "seeds": 3}
    assert not runs.missing({key: row}, key, {"own": silent()}, 3)
    assert runs.missing({}, key, {"own": silent()}, 3)
    assert runs.missing({key: row}, key, {"own": silent()}, 4)
    assert runs.missing({key: row | {"fingerprint": "old"}}, key, {"own": silent()}, 3)
    peak = ("noise", 0, runs.ORACLE)
    rows = rows_of(scratch(0, 0, 1, 2) | {"family": "noise"})
    assert not runs.missing({**rows, peak: {"fingerprint": "cosine -1.0", "seeds": 3}}, peak, {}, 3)
    assert runs.missing({**rows, peak: {"fingerprint": "cosine +0.0", "seeds": 3}}, peak, {}, 3)


# ------------------------------------------------------------------- tables


def own(family, method, number=0, worst=9.0, **logs):
    row = {"family": family, "number": number, "method": method, "worst": [worst] * 3}
    return {**row, "logs": {place: list(of) for place, of in logs.items()}}


def fine(change, method, new, old=(0.0, 0.0, 0.0), **more):
    logs = {"new": new, "old": old, "new + average": new, "old + average": old}
    return own(change, method, **logs, before=(-1.0,) * 3, **more)


def test_the_tables_of_fine_tuning_subtract_the_tuned_cosine_and_the_old_loss():
    rows = []
    for change, log in zip(second_tasks.CHANGES, (0.0, 0.05, 0.25), strict=True):
        rows += [fine(change, name, (0.0,) * 3) for name in runs.PARTS[runs.FINE_TUNING].cosines]
        rows.append(fine(change, "mine", (log - 0.3, log, log + 0.3), old=(log,) * 3))
    (_, _, mine, _, oracle, *_) = tables.new_task(rows_of(*rows), ["mine"])
    assert mine == "| mine | +0.100 ±0.329 | 0.300 | 1 of 3 | +0.000 | +0.050 | +0.250 |"
    assert oracle.startswith("| tuned cosine | +0.000 ±0.000 | 0.000 | 0 of 3 |")
    (_, _, mine, *_) = tables.old_task(rows_of(*rows), ["mine"])
    assert mine == "| mine | +1.100 ±0.329 | +1.000 | +1.050 | +1.250 |"


def test_a_run_that_diverged_is_a_failure_even_where_the_mean_is_good():
    usual = fine("noise", runs.USUAL, (5.0,) * 3)
    for worst, failed in ((2.0, True), (2.1, False)):
        row = fine("noise", "mine", (0.0, 2.0, 0.0), worst=worst)
        assert tables._failed(rows_of(usual, row), row, "new") is failed


def test_the_tables_of_run_lengths_subtract_the_cosine_planned_for_that_length():
    places = {place(plan, stop): stop for plan, stops in PLANS.items() for stop in stops}
    places |= {RESTARTED: 2.0, EXTENDED: 2.0}

    def row(family, name, extra):
        logs = {
            where + kind: (stop + extra * (where != place(stop, stop)),) * 3
            for where, stop in places.items()
            for kind in ("", AVERAGED)
        }
        return own(family, name, **logs)

    rows = [
        row(family, name, extra)
        for family in run_lengths.FAMILIES
        for name, extra in (("mine", 0.5), (runs.ORACLE, 0.25))
    ]
    shown = tables.stopped(rows_of(*rows), ["mine"])
    zero, half, quarter = "+0.000 ±0.000", "+0.500 ±0.000", "+0.250 ±0.000"
    assert f"| mine, planned for 1 T | {half} | {half} | {half} | {zero} |" in shown
    assert f"| mine + average, planned for 4 T | - | - | - | {half} |" in shown
    assert (
        f"| tuned cosine, planned for 1 T | {quarter} | {quarter} | {quarter} | {zero} |" in shown
    )
    assert f"| mine, planned for that length |{f' {zero} |' * 4}" in shown
    shown = tables.continued(rows_of(*rows), ["mine"])
    assert f"| mine, a new schedule for T more steps | {half} |{' +0.500 |' * 4}" in shown
    assert f"| mine, goes on past its end | -1.000 ±0.000 |{' -1.000 |' * 4}" in shown


# ------------------------------------------------------------------- the command


def test_the_command_runs_what_is_missing_and_prints_the_tables(
    tmp_path, capsys, monkeypatch, short
):
    for part, family in ((runs.FINE_TUNING, "noise"), (runs.LENGTHS, "regression")):
        only = runs.PARTS[part]._replace(families=(family,))
        monkeypatch.setitem(runs.PARTS, part, only)
    monkeypatch.setattr(second_tasks, "KINDS", second_tasks.KINDS[:1])
    checkpoint.save(tmp_path / "mine", silent(), trained_on={"cost": 1}, card="")
    store = tmp_path / "rows.jsonl"
    options = ["--problems=1", "--seeds=2", f"--store={store}"]
    arguments = [f"mine={tmp_path / 'mine'}", *options]
    fine_tuning.main(arguments)
    shown = capsys.readouterr().out
    assert "usual peak from scratch: " in shown and shown.count("\n| method |") == 4
    before = store.read_bytes()
    assert before.count(b"\n") == 1 + (1 + 3 + 2) + (1 + 1 + 2)
    store.write_bytes(before[:-40])  # killed while it wrote the last row
    fine_tuning.main(arguments)
    assert store.read_bytes() == before and capsys.readouterr().out.endswith(shown[-200:])
    monkeypatch.setattr(fine_tuning, "run", lambda *key: pytest.fail("all rows are there"))
    fine_tuning.main([*arguments, "--only=run-lengths"])
    shown = capsys.readouterr().out
    assert "continued to 2 T" in shown and "new task" not in shown and "usual" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine=MINE", "--problems=0"], "--problems 0; at least 1 is needed"),
        (["mine=MINE", "--seeds=1"], "--seeds 1; at least 2 is needed"),
        (["tuned cosine=MINE"], "'tuned cosine' is the name of another row; choose another"),
        (["mine=MINE", "mine=MINE"], "a name comes twice in mine, mine; give each checkpoint"),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(tmp_path, capsys, arguments, message):
    checkpoint.save(tmp_path / "mine", silent(), trained_on={"cost": 1}, card="")
    with pytest.raises(SystemExit):
        fine_tuning.main([one.replace("MINE", str(tmp_path / "mine")) for one in arguments])
    assert message in capsys.readouterr().err
