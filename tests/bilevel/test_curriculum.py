"""The length curriculum: stages, exact resume of problems that outlast them, unscored windows."""

import math
from dataclasses import replace

import pytest
import torch

from meta_lr.bilevel.curriculum import Curriculum
from meta_lr.bilevel.es import PersistentES
from meta_lr.bilevel.meta_training import MetaTraining, Plan
from meta_lr.bilevel.objectives import End
from meta_lr.bilevel.problems import DigitsProblems
from meta_lr.bilevel.trainer import meta_train
from meta_lr.bilevel.windows import Fixed
from meta_lr.methods.self_tuning.schedule import NETWORK, SelfTuning
from meta_lr.training.outcome import StoppedError

GROWS = Curriculum(shortest=4, longest=(8, 30), begins=(0.0, 0.5))
SMALL = DigitsProblems(widths=(4, 8), lengths=(5, 5), batch_sizes=(16,))
PHI = NETWORK.init(0, "small")
PLAN = Plan(
    *(SMALL, PersistentES(2, 0.1, "rank"), End(2), Fixed(6)),
    **{"updates": 8, "episodes": 2, "pool": 9, "held_out": 1, "curriculum": GROWS},
)


def test_lengths_are_log_uniform_up_to_the_longest_of_the_stage():
    stages = [Curriculum().bounds(share) for share in (0.0, 0.39, 0.4, 0.79, 0.8, 1.0)]
    assert [longest for _, longest in stages] == [300, 300, 1000, 1000, 4000, 4000]
    problem = SMALL(0)
    drawn = sorted(Curriculum()(problem, 0.9, seed).total_steps for seed in range(400))
    assert 60 <= drawn[0] < 80 and 3000 < drawn[-1] <= 4000
    assert drawn[200] == pytest.approx(math.sqrt(60 * 4000), rel=0.25)
    assert Curriculum()(problem, 0.9, 7) == Curriculum()(problem, 0.9, 7)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"shortest": 301}, "1 <= shortest"),
        ({"shortest": 0}, "1 <= shortest"),
        ({"longest": ()}, "1 <= shortest"),
        ({"begins": (0.0, 0.5)}, "needed are 3 shares"),
        ({"begins": (0.1, 0.5, 0.8)}, "0 first"),
        ({"begins": (0.0, 0.8, 0.5)}, "0 first"),
        ({"begins": (0.0, 0.5, 1.0)}, "0 first"),
    ],
)
def test_stages_out_of_order_are_refused(options, what):
    with pytest.raises(ValueError, match=what):
        Curriculum(**options)


def lengths(training):
    return [episode.problem.total_steps for _, episode in training.slots]


def test_problems_that_begin_in_a_later_stage_are_longer():
    training, found = MetaTraining(PLAN, SelfTuning(PHI), PHI), {}
    for _ in range(PLAN.updates):
        share = training.update / PLAN.updates
        training.one_update()
        found.setdefault(share >= 0.5, []).extend(lengths(training))
    assert max(found[False]) <= 8 < max(found[True]) <= 30
    assert training.nats(PLAN.pool)[1] == 2 * 5, "held-out problems keep their own length"


def test_a_stopped_meta_training_goes_on_exactly_with_problems_of_two_stages(tmp_path):
    whole = meta_train(PLAN, SelfTuning(PHI), PHI)
    asked = iter([False] * 6 + [True])
    with pytest.raises(StoppedError):
        meta_train(PLAN, SelfTuning(PHI), PHI, folder=tmp_path, stop=lambda: next(asked))
    resumed = meta_train(PLAN, SelfTuning(PHI), PHI, folder=tmp_path)
    assert lengths(resumed) == lengths(whole) and max(lengths(whole)) > 8
    assert all(map(torch.equal, whole.phi, resumed.phi)) and whole.cost == resumed.cost


def test_curves_of_the_baseline_are_of_each_length():
    training = MetaTraining(replace(PLAN, estimator=PersistentES(1, 0.1)), SelfTuning(PHI), PHI)
    problem = SMALL(3)
    short, long = (training.curve(3, problem._replace(total_steps=n)) for n in (4, 9))
    assert (short.steps[-1], long.steps[-1]) == (4, 9) and training.owed == 4 + 9


def test_windows_without_a_score_leave_phi_as_it_is():
    long = replace(PLAN, curriculum=None, problems=replace(SMALL, lengths=(14, 14)), episodes=1)
    training = MetaTraining(long, SelfTuning(PHI), PHI)
    scores = [training.one_update() for _ in range(2)]
    assert all(map(math.isnan, scores)) and all(map(torch.equal, training.phi, PHI))
    assert training.num_diverged == 0 and training.update == 2
    assert math.isfinite(training.one_update())  # the last window of the run
    assert not all(map(torch.equal, training.phi, PHI))
