"""What the benchmarks measure with: peaks of memory, ratios of time, the law of the adjoint, and
what the controls of AutoDrop's runs are made of."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch

from benchmarks import meta_training
from benchmarks.common_batches import differences
from benchmarks.drops import described, drops_of, missing, noise_of
from benchmarks.fits import wrong
from benchmarks.interleaved import ratio, summary
from benchmarks.memory import peak_of
from benchmarks.meta_gradient import MODELS, Problem, kept
from benchmarks.self_tuning_step import WARM_UP, host_seconds, ratios
from meta_lr.bilevel.look_ahead import LookAhead, Reads, mapped
from meta_lr.methods.autodrop.windows import AutoDrop
from meta_lr.methods.policies.formula import Policy
from meta_lr.protocol import Need, StepView
from meta_lr.records.reader import read_record
from meta_lr.tasks.quadratic import Quadratic
from meta_lr.training.loop import train
from tests.short_runs import SGD
from tests.steered import schedule
from tests.toys import Toy

ROOT = Path(__file__).parents[2]
MEGABYTE = 2**20


@pytest.fixture
def linux():
    if not sys.platform.startswith("linux"):
        pytest.skip("the peak is read from /proc")


def test_a_peak_is_that_of_the_work_alone(linux):
    idle = peak_of(lambda: None)
    work = peak_of(lambda: bytearray(200 * MEGABYTE))
    assert work - idle == pytest.approx(200, abs=10)
    assert peak_of(lambda: None) - idle == pytest.approx(0, abs=10)


def test_a_peak_does_not_begin_at_that_of_the_process_which_started_it(linux):
    large = bytearray(300 * MEGABYTE)
    code = "from benchmarks.memory import peak_of; print(peak_of(lambda: None))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert float(done.stdout) < 100 < len(large) / MEGABYTE


def test_a_ratio_takes_turns_and_leaves_out_the_first_round():
    order, ours, theirs = [], iter([99.0, 2.0, 3.0, 4.0]), iter([1.0, 1.0, 1.0, 1.0])

    def act(name, times):
        order.append(name)
        return next(times)

    found = ratio(lambda: act("ours", ours), lambda: act("peer", theirs), rounds=3)
    assert (found.median, found.rounds) == (3.0, 3)
    assert order == ["peer", "ours", "ours", "peer"] * 2


def test_the_interval_is_that_of_the_median():
    g = torch.Generator().manual_seed(0)
    around = [summary((1 + 0.1 * torch.randn(60, generator=g)).tolist()) for _ in range(100)]
    widths = torch.tensor([found.high - found.low for found in around])
    theory = 2 * 1.96 * 1.2533 * 0.1 / 60**0.5  # of a normal sample's median
    assert widths.mean().item() == pytest.approx(theory, rel=0.15)
    assert 88 <= sum(found.low <= 1 <= found.high for found in around) <= 100


@pytest.mark.parametrize("model", MODELS)
def test_the_law_counts_what_the_adjoint_keeps_of_each_step(model):
    problem = Problem(MODELS[model](), 2)
    reads = Reads(Need.LOSS | Need.PARAMS | Need.META)
    point = LookAhead(reads, StepView(reads, 1, sandbox=problem.sandbox)).start(())
    tensors = []
    mapped(tuple(point), tensors.append)
    size = sum(t.numel() * t.element_size() for t in tensors)
    weights = sum(p.numel() for p in problem.model.parameters())
    assert size > 2 * 4 * weights * (1 - 1e-9)  # momentum
    assert kept(problem, 7) == pytest.approx(7 * size / MEGABYTE)


def test_drops_and_noise_of_a_run_make_its_controls(tmp_path):
    chosen = {"k": 2, "rho": 0.8, "threshold": 20.0}
    run = partial(train, Toy(), SGD, total_steps=120)
    header = {"method": "autodrop", "config": {"lr": chosen}}
    run(AutoDrop(0.1, **chosen), folder=tmp_path, angle_every=2, header=header)
    record = read_record(tmp_path)
    drops = drops_of(record)
    assert len(drops) == record.end["num_drops"] >= 3
    first, second = (line.split() for line in described(record).splitlines())
    assert first[2:4] == [str(len(drops)), "drops,"]
    replayed = Policy("nstep", 0.1, gamma=0.8, l=drops)
    run(replayed, folder=tmp_path / "replayed")
    assert second[1] == f"lr.l={drops}".replace(" ", "")
    rates, again = (
        [row["lr"] for row in read_record(folder).steps]
        for folder in (tmp_path, tmp_path / "replayed")
    )
    assert rates == pytest.approx(again, rel=1e-12)


def test_a_record_that_tells_of_no_drops_or_windows_is_passed_over(tmp_path):
    def lacks(name, method, **options):
        header = {"config": {"lr": {"k": 2}}}
        train(Toy(), SGD, method, total_steps=60, folder=tmp_path / name, header=header, **options)
        return missing(read_record(tmp_path / name))

    drops = AutoDrop(0.1, k=2, threshold=90.0)
    assert lacks("good", drops, angle_every=2) == ""
    assert lacks("sparse", drops, angle_every=2, record_every=5).endswith("set record.every=1")
    assert lacks("other", drops, angle_every=3).endswith("record.angle_every=lr.k")
    assert lacks("none", drops).endswith("record.angle_every=lr.k")
    assert lacks("steady", AutoDrop(0.1, k=2, threshold=0.0), angle_every=2) == "any drop"


def test_the_noise_of_an_angle_is_that_between_drops_whatever_its_level():
    g = torch.Generator().manual_seed(0)
    noise = (3 * torch.randn(3000, generator=g)).tolist()
    levels = {2 * i: 30 + 20 * (i > 1000) + value for i, value in enumerate(noise)}
    assert noise_of(levels, [2000]) == pytest.approx(3, rel=0.05)


def test_a_step_with_the_schedule_costs_about_as_much_as_one_without():
    found = ratios("CNN3", 8, WARM_UP + 3, (None, schedule()))
    assert len(found) == 3 and all(0.5 < ratio < 5 for ratio in found)
    assert host_seconds(schedule()) < 1e-3


@pytest.mark.slow
def test_a_fit_whose_error_is_small_is_near_the_known_minimiser():
    """The rest, with as good an R^2, mostly is not."""
    errors, count = wrong(noise=0.1, batches=10, most=None)
    sure, same = wrong(noise=0.1, batches=10, most=0.02)
    assert count == same == 150
    assert len(sure) >= 3 and max(sure) < 0.05
    assert sum(error > 0.05 for error in errors) > len(errors) / 2


def test_trials_on_the_same_batches_differ_by_their_rates_alone():
    """On a quadratic with noise in the gradient the noise is the same in both, and drops out."""
    ((step, rows),) = differences(Quadratic(noise=0.3), 0.001, [3], 12).items()
    same, own = ([row[name] for row in rows] for name in ("same", "own"))
    assert step == 3 and len(rows) == 12
    assert mean(same) < 0, "at small rates the double one is better"
    assert stdev(same) < 0.5 * stdev(own)


@pytest.mark.parametrize("kind", meta_training.KINDS)
def test_the_loop_without_a_schedule_takes_the_steps_of_plain_sgd(kind):
    problem = meta_training.problem_of(kind)
    model = problem.task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=meta_training.RATE)
    for step in range(meta_training.STEPS):
        optimizer.zero_grad()
        problem.task.loss(model, problem.task.batch("train", step)).backward()
        optimizer.step()
    found = meta_training.by_hand(problem)()
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[f"model.{name}"][-1], p.detach(), rtol=1e-4, atol=1e-5)
