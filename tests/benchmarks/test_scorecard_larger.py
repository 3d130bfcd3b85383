"""The larger tasks of the scorecard: peaks that are searched fairly, rows that survive a kill."""

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.scorecard import families, larger, larger_runs, larger_tasks, plain
from benchmarks.scorecard.larger_runs import DEFAULT, Fixed, decades, missing, name_of
from benchmarks.scorecard.larger_tasks import Files
from benchmarks.scorecard.store import Store
from meta_lr import checkpoint
from meta_lr.methods.self_tuning.schedule import NETWORK, SelfTuning

FILES = Files(Path("a"), Path("b"), Path("c"))


def small(files, seed):
    return families.problem("table", 0, seed).task


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(larger_runs, "TASKS", {"small": (small, 8)})
    monkeypatch.setattr(larger_tasks, "TASKS", {"small": (small, 8)})
    monkeypatch.setattr(larger_runs, "OPTIMIZERS", {"adamw": larger_tasks.OPTIMIZERS["adamw"]})


def rows_of(logs, seed=0, shape="cosine"):
    """Rows of one task: decade -> log."""
    return {
        ("t", seed, name_of(shape, decade)): {"log": log, "method": name_of(shape, decade)}
        for decade, log in logs.items()
    }


def test_the_grid_grows_until_its_best_peak_is_inside():
    assert decades({}, "t", 0) == list(larger_runs.GRID)
    falls = rows_of({decade: -decade for decade in larger_runs.GRID})
    assert decades(falls, "t", 0) == [*larger_runs.GRID, 1.5]
    grown = falls | rows_of({1.5: 0.0})
    assert decades(grown, "t", 0) == [*larger_runs.GRID, 1.5]


def test_other_seeds_search_around_the_first_seeds_best():
    assert decades({}, "t", 1) == []  # not known yet
    first = rows_of({decade: abs(decade + 1) for decade in larger_runs.GRID})
    assert decades(first, "t", 1) == [-2.0, -1.5, -1.0, -0.5, 0.0]


def test_lines_follow_the_best_cosine():
    first = rows_of({decade: abs(decade + 1) for decade in larger_runs.GRID})
    asked = [key[2] for key in missing(first, "t", 0, {})]
    assert asked == [DEFAULT, "line -1.5", "line -1.0", "line -0.5"]


def test_a_fixed_schedule_warms_up_and_falls_to_zero():
    line = Fixed("line", 2.0, 100)
    assert line(0) == pytest.approx(2.0 / 5) and line(50) == pytest.approx(1.0)
    assert Fixed("cosine", 2.0, 100)(50) == pytest.approx(1.0)


def test_the_command_runs_goes_on_and_prints(tiny, tmp_path, capsys):
    schedule = SelfTuning(NETWORK.init(0))
    place = tmp_path / "made"
    checkpoint.save(place, schedule, trained_on={"distribution": "t"}, card="# t")
    store = tmp_path / "rows.jsonl"
    command = [f"mine={place}", "--cifar10=a", "--tiny-imagenet=b", "--text=c", "--seeds=2"]
    larger.main([*command, f"--store={store}"])
    table = capsys.readouterr().out
    assert "| seeds | oracle | mine | mine + average | no network | torch's default |" in table
    assert "| small adamw | 2 |" in table
    kept = store.read_text()
    store.write_text(kept[:-20])  # killed in the middle of a row
    larger.main([*command, f"--store={store}"])
    assert store.read_text() == kept and capsys.readouterr().out == table
    assert not list(missing(Store(store).rows(), "small adamw", 1, {"mine": schedule}))


def test_another_schedule_of_the_same_name_runs_again(tiny):
    one, other = SelfTuning(NETWORK.init(0)), SelfTuning(NETWORK.init(1))
    row = larger_runs.run(FILES, ("small adamw", 0, "mine"), {"mine": one})
    rows = {("small adamw", 0, "mine"): row}
    assert "mine" not in [key[2] for key in missing(rows, "small adamw", 0, {"mine": one})]
    assert "mine" in [key[2] for key in missing(rows, "small adamw", 0, {"mine": other})]


def test_peers_are_run_with_every_seed():
    asked = [key[2] for key in missing({}, "t", 1, {}, larger_runs.CHOSEN_PEERS)]
    assert asked == [DEFAULT, *larger_runs.CHOSEN_PEERS]


def test_an_average_gets_its_own_statistics_of_batch_normalisation(tiny):
    made = larger_tasks.problem(FILES, "small", "adamw", 0)
    norm = nn.BatchNorm1d(8, affine=False)
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), norm)
    norm.running_mean.fill_(1e3)
    plain.renew_statistics(made, model)
    with torch.no_grad():
        seen = [model[:2](made.task.batch("train", step)[0]) for step in range(made.total_steps)]
    assert torch.allclose(norm.running_mean, torch.stack([x.mean(0) for x in seen]).mean(0))


def test_text_is_cut_into_windows(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("abcd" * 100)
    inputs, targets, symbols = larger_tasks.windows(path)
    assert symbols == 4 and inputs.shape == (8, larger_tasks.CONTEXT)
    assert (targets[:, :-1] == inputs[:, 1:]).all()
