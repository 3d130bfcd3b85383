"""The self-tuning schedule under the conditions of real training."""

import math
from functools import partial

import pytest
import torch
from torch import nn

import meta_lr
from meta_lr.bilevel.copies import Copies
from meta_lr.bilevel.problems import DigitsProblems
from meta_lr.methods.self_tuning.integrator import Integrator
from meta_lr.methods.self_tuning.schedule import INPUTS
from meta_lr.seeds import seed_model
from meta_lr.training.loop import train
from tests.reference import features as of_losses
from tests.reference import signals as of_signals
from tests.steered import STEPS, Lion, Steered, batch_of, loss_of, momentum, network, schedule
from tests.toys import Toy

FIRST = Integrator().start / math.sqrt(STEPS)  # size of the first update
CLIP = partial(nn.utils.clip_grad_norm_, max_norm=0.3)


def clip(run):
    CLIP(run.net.parameters())


def zero_layer():
    """A network whose last matrix begins at zero."""
    net = network()
    nn.init.zeros_(net[2].weight)
    return net


def histories(before_step=lambda run: None, **options):
    """Run; return the run, its losses, and its matrices and their gradients as nested lists."""
    losses, weights, grads = [], [], []

    def keep(run):
        before_step(run)
        matrices = [p for p in run.net.parameters() if p.ndim > 1]
        losses.append(run.scheduler._pending[0].item())
        weights.append([p.detach().tolist() for p in matrices])
        grads.append([p.grad.tolist() for p in matrices])

    return Steered(**options).run(keep), losses, weights, grads


@pytest.mark.parametrize("before_step", [lambda run: None, clip], ids=["plain", "clipped"])
@pytest.mark.parametrize("make", [network, zero_layer], ids=["drawn", "a layer begins at zero"])
def test_what_it_reads_equals_the_twin_one_step_late(before_step, make):
    run, losses, weights, grads = histories(before_step, net=make())
    for step, read in enumerate(run.read):
        for (name, factor), x in zip(INPUTS.items(), read, strict=True):
            if name.startswith(("alignment", "gradient", "relative_update", "spread")):
                seen = weights[: step + 1], grads[: step + 1]
                twin = of_signals.feature(name, *seen, STEPS)
            else:
                twin = of_losses.feature(name, losses[: step + 1], STEPS)
            assert x / factor == pytest.approx(twin, rel=1e-9, abs=1e-9), (name, step)


@pytest.mark.parametrize("largest", [None, 0.05])
def test_the_loop_and_a_loop_of_ones_own_give_the_same_learning_rates(largest):
    task, rates, rows = Toy(), [], []
    train(task, momentum, schedule(), total_steps=STEPS, clip=largest, listener=rows.append)
    expected = [row["lr"] for row in rows if row["kind"] == "step"]
    model = task.model().train()
    optimizer = momentum(model.parameters())
    scheduler = meta_lr.ControlledLR(optimizer, schedule(), total_steps=STEPS)
    for step in range(STEPS):
        seed_model(0, "model", step, device=torch.device("cpu"))
        loss = task.loss(model, task.batch("train", step))
        optimizer.zero_grad()
        loss.backward()
        if largest is not None:
            nn.utils.clip_grad_norm_(model.parameters(), largest)
        scheduler.observe(loss)
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == expected


def test_micro_batches_give_the_learning_rates_of_the_whole_batch():
    def backward(run):
        run.optimizer.zero_grad()
        x, y = batch_of(run.step)
        for rows in (slice(0, 8), slice(8, 16)):
            loss = (run.net(x[rows]) - y[rows]).square().mean()
            (loss / 2).backward()
            run.scheduler.observe(loss)

    assert Steered().run(backward=backward).rates == pytest.approx(Steered().run().rates, rel=1e-9)


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}])
@pytest.mark.parametrize("clipped", [False, True])
def test_a_gradient_scaler_changes_nothing_and_a_skipped_step_is_not_counted(options, clipped):
    def make(params):
        return torch.optim.Adam(params, lr=1.0, **options)

    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=10_000)
    run = Steered(make=make)
    while run.step < STEPS:
        run.optimizer.zero_grad()
        loss = loss_of(run.net, run.step)
        scaler.scale(loss).backward()
        run.scheduler.observe(loss)
        if clipped:
            scaler.unscale_(run.optimizer)
            clip(run)
        run.take(lambda: scaler.step(run.optimizer))
        scaler.update(1024.0)
    plain = Steered(make=make).run(clip if clipped else lambda run: None)
    assert run.rates == pytest.approx(plain.rates, rel=1e-9)


def test_a_step_that_the_scaler_skips_leaves_the_schedule_where_it_was():
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=10_000)
    run = Steered()
    for turn in range(STEPS + 1):
        run.optimizer.zero_grad()
        loss = loss_of(run.net, run.step)
        scaler.scale(loss).backward()
        run.scheduler.observe(loss)
        if turn == 7:  # the same batch comes again
            run.net[0].weight.grad[0, 0] = torch.inf
            scaler.step(run.optimizer)
        else:
            run.take(lambda: scaler.step(run.optimizer))
        scaler.update(1024.0)
    assert run.rates == pytest.approx(Steered().run().rates, rel=1e-9)


class ByHand(torch.optim.Optimizer):
    """SGD with momentum, as an optimizer that nobody knows."""

    def __init__(self, params):
        super().__init__(params, {"lr": 1.0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("buffer", torch.zeros_like(p))
                buffer.mul_(0.9).add_(p.grad)
                p.sub_(buffer, alpha=float(group["lr"]))


def test_only_the_way_counts_not_which_optimizer_took_it():
    """Equal steps of another optimizer give equal learning rates."""
    assert Steered(make=ByHand).run().rates == pytest.approx(Steered().run().rates, rel=1e-9)


UNRULED = {"Lion": Lion, "Adafactor": partial(torch.optim.Adafactor, lr=1.0)}
if hasattr(torch.optim, "Muon"):  # it takes matrices only
    UNRULED["Muon"] = lambda params: torch.optim.Muon([p for p in params if p.ndim == 2], lr=1.0)


@pytest.mark.parametrize("name", UNRULED)
def test_optimizers_without_a_rule_begin_with_the_same_small_update_and_learn(name):
    run = Steered(make=UNRULED[name], size=0.0)
    first = loss_of(run.net, 0).item()
    run.run()
    assert run.moved[0] == pytest.approx(FIRST, rel=0.05)
    assert loss_of(run.net, 0).item() < first


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_a_factor_of_the_loss_leaves_every_feature_as_it_is(factor):
    def backward(run):
        run.optimizer.zero_grad()
        loss = factor * loss_of(run.net, run.step)
        loss.backward()
        run.scheduler.observe(loss)

    plain, scaled = Steered().run(), Steered().run(backward=backward)
    assert scaled.read == [pytest.approx(x, rel=1e-6, abs=1e-6) for x in plain.read]
    assert [factor * lr for lr in scaled.rates] == pytest.approx(plain.rates, rel=1e-6)


class Rescaled(nn.Module):
    """The same function of weights that are stored in other units, one for each layer."""

    def __init__(self, first, second):
        super().__init__()
        self.net = network()
        self.units = {"0.weight": first, "0.bias": first, "2.weight": second, "2.bias": second}
        for name, p in self.net.named_parameters():
            p.data /= self.units[name]

    def forward(self, x):
        params = {name: self.units[name] * p for name, p in self.net.named_parameters()}
        return torch.func.functional_call(self.net, params, (x,))

    def groups(self, power):
        """A group for each layer, whose learning rate is divided by a power of its unit."""
        return [
            {"params": [*self.net[place].parameters()], "lr_scale": unit**-power}
            for place, unit in ((0, self.units["0.weight"]), (2, self.units["2.weight"]))
        ]


def adam(params):
    return torch.optim.Adam(params, lr=1.0, eps=0.0)


@pytest.mark.parametrize("unit", [1e-2, 1e2])
@pytest.mark.parametrize("make", [momentum, adam])
def test_the_unit_of_the_weights_leaves_every_feature_as_it_is(unit, make):
    plain, other = (Steered(net=Rescaled(u, u), make=make).run() for u in (1.0, unit))
    assert other.read == [pytest.approx(x, rel=1e-6, abs=1e-6) for x in plain.read]
    assert other.moved == pytest.approx(plain.moved, rel=1e-6)


@pytest.mark.parametrize("units", [(1 / 3, 3.0), (100.0, 0.1)])
@pytest.mark.parametrize(("make", "power"), [(momentum, 2), (adam, 1)])
def test_a_unit_of_each_layer_changes_neither_features_nor_learning_rates(units, make, power):
    nets = (Rescaled(1.0, 1.0), Rescaled(*units))
    plain, other = (Steered(net=n, make=make, params=n.groups(power)).run() for n in nets)
    assert other.read == [pytest.approx(x, rel=1e-8, abs=1e-8) for x in plain.read]
    scale = nets[1].groups(power)[0]["lr_scale"]  # of the group whose learning rates are noted
    assert [rate / scale for rate in other.rates] == pytest.approx(plain.rates, rel=1e-8)


@pytest.mark.parametrize("ratio", [0.1, 30.0])
@pytest.mark.parametrize("option", ["lr_scale", "lr"])
def test_the_first_update_counts_each_groups_own_learning_rate(option, ratio):
    net = network()
    groups = [{"params": [*net[0].parameters()]}, {"params": [*net[2].parameters()]}]
    groups[1][option] = ratio
    run = Steered(net=net, params=groups).run()
    assert run.moved[0] == pytest.approx(FIRST, rel=1e-9)
    assert run.optimizer.param_groups[1]["lr"] == pytest.approx(ratio * run.rates[-1])


def test_copies_count_each_groups_own_learning_rate_in_the_first_update_too():
    problem = DigitsProblems(lengths=(9, 9), label_noise=(0.0, 0.0))(3)
    make = problem.make_optimizer

    def grouped(params):
        optimizer = make(params[:2])
        optimizer.add_param_group({"params": params[2:], "lr_scale": 30.0})
        optimizer.param_groups[0]["lr_scale"] = 1.0
        return optimizer

    copies = Copies(problem._replace(make_optimizer=grouped), schedule(), 2)
    phi = tuple(torch.stack([w, w]) for w in schedule().weights)
    start = copies.start()
    end = copies.run(start, phi, 0, 1)
    ratios = [
        ((after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1))
        for before, after in zip(start.params, end.params, strict=True)
        if before.ndim > 2
    ]
    found = torch.stack(ratios).square().mean(0).sqrt()
    assert found.tolist() == pytest.approx([Integrator().start / 3] * 2, rel=1e-4)


@pytest.mark.parametrize("rows", [9, 0])
def test_frozen_parameters_do_not_count_and_those_without_a_gradient_count_as_still(rows):
    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()
            self.extra = nn.Parameter(torch.full((9, 9), 1e3).double(), requires_grad=False)

        def forward(self, x):
            return self.net(x)

    run = Steered(net=Partly()).run()
    assert run.rates == pytest.approx(Steered().run().rates, rel=1e-12)

    class Unused(Partly):
        def __init__(self):
            super().__init__()
            self.extra = nn.Parameter(torch.zeros(rows, 9).double())

    unused = Steered(net=Unused()).run()
    assert unused.moved[0] == pytest.approx(FIRST, rel=1e-9), "it counts as one that stays"
    assert unused.rates[0] == pytest.approx(math.sqrt(3 / 2) * Steered().run().rates[0], rel=1e-9)


def test_a_group_that_is_added_later_does_not_stop_the_run():
    run = Steered()
    later = nn.Parameter(torch.ones(3, 3, dtype=torch.float64))

    def add(run):
        if run.step == 5:
            later.grad = torch.ones_like(later)
            run.optimizer.add_param_group({"params": [later], "lr_scale": 0.5})

    run.run(add)
    assert run.optimizer.param_groups[1]["lr"] == 0.5 * run.rates[-1]
    assert run.rates == pytest.approx(Steered().run().rates, rel=1e-12)


def test_weights_that_begin_at_zero_are_trained_and_a_zero_layer_is_no_problem():
    net = nn.Sequential(nn.Linear(6, 3)).double()
    nn.init.zeros_(net[0].weight)
    first = loss_of(net, 0).item()
    run = Steered(net=net, size=0.0, make=partial(torch.optim.Adam, lr=1.0), steps=200)
    run.run()
    assert loss_of(net, 0).item() < 0.8 * first
    assert Steered(net=zero_layer()).run().moved[0] == pytest.approx(FIRST, rel=1e-9)


def test_a_first_gradient_of_zero_does_not_make_a_huge_learning_rate():
    def none(run):
        if run.step == 0:
            for p in run.net.parameters():
                p.grad.zero_()

    run = Steered(size=0.0).run(none)
    assert run.rates[0] == pytest.approx(FIRST) and max(run.moved) < 0.5


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # in torch's own step
def test_sparse_gradients_give_the_learning_rates_of_dense_ones():
    def rates(sparse):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            embedding = nn.Embedding(10, 4, sparse=sparse)

        def backward(run):
            run.optimizer.zero_grad()
            words = torch.tensor([run.step % 10, 3, 3])
            loss = embedding(words).square().mean()
            loss.backward()
            run.scheduler.observe(loss)

        make = partial(torch.optim.SGD, lr=1.0)
        return Steered(net=embedding, make=make).run(backward=backward).rates

    assert rates(True) == pytest.approx(rates(False), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_measured_in_single_precision(dtype):
    run, plain = Steered(net=network(dtype)).run(), Steered(net=network()).run()
    assert run.rates[:8] == pytest.approx(plain.rates[:8], rel=0.1)
    assert all(map(math.isfinite, run.rates)) and len(set(run.rates)) > 20
    assert run.state.path[0].dtype == torch.float32
