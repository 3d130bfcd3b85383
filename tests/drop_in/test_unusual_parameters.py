"""Sparse gradients, complex and sharded parameters, losses without a value, zero directions."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn

from meta_lr import AutoDrop, AutoDropEpochs, ControlledLR, Cosine, Sandbox
from meta_lr.methods.autolr.fit import fit
from meta_lr.methods.autolr.labpal import LABPAL
from meta_lr.methods.autolr.method import AutoLR
from meta_lr.methods.autolr.pal import PAL
from meta_lr.methods.basic import Constant
from meta_lr.optim import rules
from meta_lr.protocol import Need
from tests.controllers import Says, Tenth


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # in torch's own step
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.Adagrad, {"lr_decay": 0.1}),
        (torch.optim.Adagrad, {"initial_accumulator_value": 0.5}),
        (torch.optim.SGD, {}),
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.SparseAdam, {}),
    ],
)
def test_direction_under_sparse_gradients_is_torchs_own_step(kind, options):
    torch.manual_seed(0)
    embedding = nn.Embedding(10, 2, sparse=True, dtype=torch.float64)
    optimizer = kind(embedding.parameters(), lr=0.1, **options)
    for rows in ([1, 2, 2], [2, 7], [1, 3]):
        optimizer.zero_grad()
        embedding(torch.tensor(rows)).square().sum().backward()
        before = embedding.weight.detach().clone()
        (direction,) = rules.direction(optimizer)
        assert torch.equal(embedding.weight, before) and not direction.is_sparse
        optimizer.step()
        torch.testing.assert_close(embedding.weight.detach(), before - 0.1 * direction)


def test_a_controller_sees_a_sparse_gradient_as_a_dense_one():
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1, 1])).sum().backward()
    (gradient,) = rules.gradients([embedding.weight])
    assert gradient.tolist() == [[0, 0], [2, 2], [0, 0], [0, 0]]


@pytest.mark.parametrize("need", [Need.PARAMS, Need.GRADS, Need.DIRECTION])
def test_complex_parameters_are_refused_where_a_controller_reads_them(need):
    real, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3, 2).cfloat())
    optimizer = torch.optim.SGD([{"params": [real]}, {"params": [other]}], lr=0.1)
    with pytest.raises(ValueError, match=r"group 1 has a complex parameter of shape \(3, 2\), and"):
        ControlledLR(optimizer, Says(0.1, need))
    ControlledLR(optimizer, Constant(0.1))
    ControlledLR(optimizer, Tenth())  # it reads the loss alone


def test_a_loss_without_a_real_value_is_refused_when_it_is_observed():
    scheduler = ControlledLR(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1), Tenth())
    with pytest.raises(ValueError, match="on the meta device was observed, and it has no value"):
        scheduler.observe(torch.ones((), device="meta"))
    with pytest.raises(TypeError, match=r"a complex loss was observed; .*loss\.abs"):
        scheduler.observe(torch.tensor(1 + 1j))


def run_with_zero_directions(controller, zero_steps, num_steps=8):
    """Return the learning rate of each step; in `zero_steps` the gradient is zero."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    model = nn.ParameterList([weight])
    optimizer = torch.optim.SGD([weight], lr=0.1)

    def loss_of(model, batch):
        return batch[0].sum() * model[0].square().sum()

    sandbox = Sandbox(model, optimizer, loss_of, lambda *_: (torch.ones(1),))
    scheduler = ControlledLR(optimizer, controller, total_steps=num_steps, sandbox=sandbox)
    rates = []
    for step in range(num_steps):
        optimizer.zero_grad()
        loss = loss_of(model, (torch.tensor([0.0 if step in zero_steps else 1.0]),))
        loss.backward()
        scheduler.observe(loss)
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_labpal_holds_the_learning_rate_on_a_zero_direction():
    labpal = LABPAL(batches=1, reuse=1, skipped=0, average=1, min_norm=0.0, kappa=0.5)
    rates = run_with_zero_directions(labpal, zero_steps={0, 3, 4})
    assert rates[0] == 0.0 and rates[2] > 0.0
    assert rates[3] == rates[4] == rates[2]
    run_with_zero_directions(LABPAL(batches=1), zero_steps={0})  # min_norm does not refuse it


def test_pal_takes_no_step_and_autolr_holds_on_a_zero_direction():
    rates = run_with_zero_directions(PAL(), zero_steps={3})
    assert rates[3] == 0.0 and rates[2] > 0.0
    autolr = AutoLR(seed_rate=0.1, explore=0.0, period=1, multiples=(0, 0.1, 0.7), batches=3)
    assert run_with_zero_directions(autolr, zero_steps=set(range(8))) == [0.1] * 8


@pytest.mark.parametrize("loss", [0.1, 1 / 3, 1e9 / 7])
def test_losses_that_do_not_vary_give_no_fit(loss):
    found = fit((0.0, 0.1, 0.7), [[loss, 2 * loss]] * 3)
    assert (found.curvature, found.slope, found.r2) == (0.0, 0.0, 0.0)
    assert not found.is_trusted(0.0, behind=True)


@pytest.fixture
def mesh(tmp_path):
    if not dist.is_gloo_available():
        pytest.skip("torch was built without gloo")
    dist.init_process_group("gloo", f"file://{tmp_path}/group", rank=0, world_size=1)
    yield dist.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.filterwarnings("default")  # torch's own
def test_autodrop_gives_the_same_learning_rates_with_sharded_parameters(mesh):
    from torch.distributed.fsdp import fully_shard

    def rates_of(controller, shard):
        torch.manual_seed(0)
        model = shard(nn.Linear(4, 4))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scheduler = ControlledLR(optimizer, controller, steps_per_epoch=3)
        rates = []
        for _ in range(30):
            optimizer.zero_grad()
            loss = model(torch.randn(2, 4)).square().mean()
            loss.backward()
            scheduler.observe(loss)
            optimizer.step()
            rates.append(optimizer.param_groups[0]["lr"])
        return rates

    for controller in (
        AutoDrop(0.1, k=1, buffer=2, threshold=90.0),
        AutoDropEpochs(0.1, theta=180.0, upper_theta=180.0, extra_epochs=2),
    ):
        plain = rates_of(controller, lambda model: model)
        assert len(set(plain)) > 1, "it drops"
        assert rates_of(controller, lambda model: fully_shard(model, mesh=mesh)) == plain


def test_a_complex_parameter_of_a_group_that_is_added_later_is_refused_too():
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scheduler = ControlledLR(optimizer, Says(0.2, Need.GRADS))
    optimizer.step()
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(3).cfloat())]})
    for _ in range(2):
        with pytest.raises(ValueError, match="group 1 has a complex parameter"):
            optimizer.step()
    del optimizer.param_groups[1]
    optimizer.step()
    assert scheduler.last_epoch == 2


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_learning_rate_that_no_weight_can_hold_is_refused(kind):
    optimizer = kind(nn.Linear(2, 2).parameters(), lr=0.1)
    with pytest.raises(
        ValueError, match=r"Cosine returned the learning rate 1e\+300 at step 0; at"
    ):
        ControlledLR(optimizer, Cosine(1e300), total_steps=5)
