"""Learning rates without a run: equal to those of a run, and refused where they need one."""

import pytest
import torch

import meta_lr
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.lstm import LSTM

STEPS = 12
NET = LSTM(hidden=4)


def trained(controller, losses, steps_per_epoch=0):
    """The learning rates of a loop with `ControlledLR`."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    options = {"total_steps": STEPS, "steps_per_epoch": steps_per_epoch}
    scheduler = meta_lr.ControlledLR(optimizer, controller, **options)
    found = []
    for loss in losses:
        weight.grad = torch.zeros(2)
        scheduler.observe(torch.tensor(loss))
        optimizer.step()
        found.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("controller", "steps_per_epoch"),
    [
        (meta_lr.Cosine(0.3), 0),
        (meta_lr.Warmup(meta_lr.OneCycle(0.3), 3), 0),
        (meta_lr.Policy("step", 0.1, gamma=0.5, l=2, per="epoch"), 3),
    ],
)
def test_a_policy_gives_the_learning_rates_of_a_run(controller, steps_per_epoch):
    found = meta_lr.learning_rates(controller, STEPS, steps_per_epoch=steps_per_epoch)
    assert found == pytest.approx(trained(controller, [1.0] * STEPS, steps_per_epoch))


def test_losses_are_read_where_they_are_given():
    learned = Learned(NET, [NET.init(0)], 0.5)
    losses = [2.0 - 0.1 * step for step in range(STEPS)]
    found = meta_lr.learning_rates(learned, STEPS, losses=losses)
    assert found == pytest.approx(trained(learned, losses), rel=1e-6)
    assert found != meta_lr.learning_rates(learned, STEPS, losses=[2.0] * STEPS)


@pytest.mark.parametrize(
    ("controller", "losses", "message"),
    [
        (Learned(NET, [NET.init(0)], 0.5), None, "Learned reads the loss; pass losses, one per"),
        (Learned(NET, [NET.init(0)], 0.5), [1.0], "1 losses for 12 steps; pass one per step"),
        (
            meta_lr.Policy("step", 0.1, gamma=0.5, l=2, per="epoch"),
            None,
            "Policy counts epochs; pass",
        ),
        (meta_lr.PAL(), [1.0] * STEPS, "PAL reads .*, which only a run has; train with it, and"),
    ],
)
def test_what_needs_a_run_is_refused(controller, losses, message):
    with pytest.raises(ValueError, match=message):
        meta_lr.learning_rates(controller, STEPS, losses=losses)
