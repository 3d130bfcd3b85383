"""Inner problems of many kinds, and what meta-training makes of their scores."""

from dataclasses import replace

import pytest
import torch

from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.episodes import WORST
from meta_lr.bilevel.es import PersistentES, ranks
from meta_lr.bilevel.meta_training import MetaTraining, Plan
from meta_lr.bilevel.objectives import End
from meta_lr.bilevel.problems import DigitsProblems
from meta_lr.bilevel.trainer import meta_train
from meta_lr.bilevel.varied import KINDS, LOSSES, VariedProblems, squared, varied_network
from meta_lr.bilevel.windows import Fixed
from meta_lr.methods.self_tuning.schedule import NETWORK, SelfTuning
from meta_lr.tasks.models.mlp import MLP
from meta_lr.tasks.models.small import RowAttention, SmallConv
from meta_lr.training.outcome import StoppedError

SHORT = VariedProblems(lengths=(4, 8), batch_sizes=(8,))
PHI = tuple(0.2 * weight for weight in NETWORK.init(0))
PLAN = Plan(
    SHORT,
    PersistentES(2, 0.1, "rank"),
    End(2),
    Fixed(100),
    updates=3,
    episodes=2,
    pool=9,
    held_out=3,
)


def test_a_problem_is_a_pure_function_of_its_number():
    first, again, other = SHORT(5), SHORT(5), SHORT(5, seed=1)
    assert repr(first.task) == repr(again.task) and first[3:] == again[3:]
    weights = [list(problem.task.model().parameters()) for problem in (first, again, other)]
    assert all(map(torch.equal, weights[0], weights[1]))
    assert not all(map(torch.equal, weights[0], weights[2]))
    batches = [problem.task.batch("train", 3)[0] for problem in (first, again, other)]
    assert torch.equal(batches[0], batches[1]) and not torch.equal(batches[0], batches[2])


def test_all_kinds_come_up():
    problems = [SHORT(index) for index in range(60)]
    assert {p.family for p in problems} == {"mlp", "conv", "attention"}
    assert {p.task.objective for p in problems} == set(LOSSES)
    assert {p.task.factor for p in problems} == {0.1, 1.0, 10.0}
    made = [p.make_optimizer([torch.zeros(1, requires_grad=True)]) for p in problems]
    assert len({(type(m), m.defaults.get("nesterov")) for m in made}) == len(KINDS) - 1
    assert {m.defaults["weight_decay"] for m in made} == {0.0, 1e-4, 1e-2}
    assert all("lr_scale" not in m.param_groups[0] for m in made)


@pytest.mark.parametrize("family", ["mlp", "conv", "attention"])
def test_each_kind_trains_side_by_side_as_alone(family):
    problem = replace(SHORT, networks=(family,), lengths=(6, 6))(4)
    phi = tuple(torch.stack([w, 2 * w]) for w in PHI)
    both, alone = Copies(problem, SelfTuning(PHI), 2), Copies(problem, SelfTuning(PHI), 1)
    at_once = both.run(both.start(), phi, 0, 6)
    for place in range(2):
        weights = tuple(w[place : place + 1] for w in phi)
        single = alone.run(alone.start(), weights, 0, 6)
        for many, one in zip(at_once.params, single.params, strict=True):
            torch.testing.assert_close(many[place], one[0], rtol=1e-3, atol=1e-4)


SHAPE = {"in_channels": 1, "image_size": 8, "num_classes": 3}
NETWORKS = {
    "mlp": lambda **shape: MLP(hidden=(5, 4), **shape),
    "conv": lambda **shape: SmallConv(channels=(4, 8), normalised=True, **shape),
    "attention": lambda **shape: RowAttention(width=8, **shape),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_factors_change_the_parameters_and_not_the_function(kind):
    def made(factors):
        torch.manual_seed(0)
        return varied_network(
            make=NETWORKS[kind], initial="relu", scale=2.0, factors=factors, **SHAPE
        )

    with torch.random.fork_rng():
        plain, scaled = made((1.0,)), made((3.0, 1.0, 0.5))
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain(x), scaled(x), rtol=1e-4, atol=1e-4)
    norms = [sum(p.norm() for p in m.parameters()).item() for m in (plain, scaled)]
    assert norms[0] != pytest.approx(norms[1], rel=0.01)


def test_squared_error_is_that_to_the_one_hot_labels():
    logits = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert squared(logits, torch.tensor([0, 1])).item() == pytest.approx((0.0 + 0.5) / 2)


@pytest.mark.parametrize("options", [{"networks": ("rnn",)}, {"data": ()}, {"lengths": (9, 3)}])
def test_unknown_kinds_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        VariedProblems(**options)


# ------------------------------------------------------------------- ranks, and the worst family


def test_equal_scores_share_a_rank_and_divergence_is_the_last():
    inf = float("inf")
    found = ranks(torch.tensor([inf, 1.0, 1.0, -2.0, inf]))
    assert found.tolist() == pytest.approx([0.375, -0.125, -0.125, -0.5, 0.375])


def test_ranks_need_no_baseline():
    training = MetaTraining(PLAN, SelfTuning(PHI), PHI)
    training.one_update()
    assert not training.curves and training.owed == 0.0
    assert training.plan.estimator.reads_baseline is False


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_a_factor_of_the_scores_does_not_change_the_gradient(factor):
    scores = torch.tensor([0.3, -1.0, 2.0, 0.1])
    assert torch.equal(ranks(scores), ranks(factor * scores))


def test_the_worst_family_chooses():
    training = MetaTraining(replace(PLAN, pool=18, held_out=5), SelfTuning(PHI), PHI)
    score = training.evaluate()
    assert set(training.scores) == {"mlp", "conv", "attention"}
    numbers = range(18, 23)
    for family, mean in training.scores.items():
        own = [training.nats(n)[0] for n in numbers if SHORT(n).family == family]
        assert mean == pytest.approx(sum(own) / len(own))
    assert score == training.best_score == max(training.scores.values())


def test_a_baseline_that_diverges_hides_nothing():
    """Else one such problem would make the mean of its family minus infinity for good."""
    training = MetaTraining(replace(PLAN, peak=1e30), SelfTuning(PHI), PHI)
    assert training.nats(PLAN.pool)[0] == -WORST


def test_a_problem_of_one_family_scores_the_mean_over_all():
    plan = replace(PLAN, problems=DigitsProblems(lengths=(4, 6)), pool=1, held_out=3)
    training = MetaTraining(plan, SelfTuning(PHI), PHI)
    score = training.evaluate()
    assert score == pytest.approx(sum(training.nats(n)[0] for n in range(1, 4)) / 3)


def test_a_stopped_meta_training_of_ranks_goes_on_exactly(tmp_path):
    plan = replace(PLAN, window=Fixed(3), cooldown=True)
    whole = meta_train(plan, SelfTuning(PHI), PHI)
    asked = iter([False, False, True])
    with pytest.raises(StoppedError):
        meta_train(plan, SelfTuning(PHI), PHI, folder=tmp_path, stop=lambda: next(asked))
    resumed = meta_train(plan, SelfTuning(PHI), PHI, folder=tmp_path)
    assert all(map(torch.equal, whole.phi, resumed.phi)) and whole.cost == resumed.cost
    assert not all(map(torch.equal, whole.phi, PHI))


def test_the_learning_rate_of_phi_falls_to_a_thirtieth():
    training = MetaTraining(replace(PLAN, updates=40, cooldown=True), SelfTuning(PHI), PHI)
    rates = []
    for _ in range(40):
        training.descend(torch.ones(training.size), torch.tensor([0.0, 1, 0, 0]).double())
        rates.append(training.optimizer.param_groups[0]["lr"])
    assert rates[0] == PLAN.meta_lr and rates[20] == pytest.approx(PLAN.meta_lr / 2)
    assert rates[-1] == pytest.approx(PLAN.meta_lr / 30)
