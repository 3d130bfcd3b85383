"""A step in place and the same step as a pure function, bit for bit."""

import pytest
import torch

from meta_lr.bilevel.look_ahead import LookAhead, Reads, as_leaves, detached
from meta_lr.methods.basic import Cosine
from meta_lr.optim import rules
from meta_lr.protocol import Need, StepView, params_of
from meta_lr.training.sandbox import Sandbox
from meta_lr.training.step import gradient
from tests.optim.test_rules import CASES
from tests.toys import Toy

STEPS = 4


def live(kind, options, clip):
    """A run after two steps, with two parameter groups, BatchNorm and dropout."""
    task = Toy(dropout=0.3)
    model = task.model()
    params = list(model.parameters())
    groups = [{"params": params[3:], "lr": 0.05}, {"params": params[:3], "lr": 0.02}]
    optimizer = kind(groups, **options)
    for step in range(2):
        gradient(optimizer, [task.loss(model, task.batch("train", step))], clip)
        optimizer.step()
    return Sandbox(model, optimizer, task.loss, task.batch, clip=clip, seed=0)


def test_every_rule_is_a_case():
    assert {kind for kind, _ in CASES} == set(rules.RULES)


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_a_pure_step_equals_the_step_in_place(kind, options, clip):
    sandbox, controller = live(kind, options, clip), Cosine(peak=0.05)
    reads = Reads(Need.HORIZON | Need.META)
    view = StepView(reads, 0, total_steps=STEPS + 1, sandbox=sandbox)
    ahead = LookAhead(controller, view)
    point = ahead.start(controller.init())
    for k in range(1, STEPS + 1):  # the first one would repeat the batch of the run
        point = detached(ahead.step(as_leaves(point), k, second_order=False))
    with sandbox.trial() as trial:
        for k in range(1, STEPS + 1):
            later = StepView(controller, k, total_steps=STEPS + 1)
            trial.step(controller(later, controller.init())[0])
        names = [name for name, _ in trial.model.named_buffers()]
        assert all(torch.equal(point.buffers[n], trial.model.get_buffer(n)) for n in names)
        for pure, p, slot in zip(
            point.params, params_of(trial.optimizer), point.slots, strict=True
        ):
            assert torch.equal(pure, p.detach())
            own = trial.optimizer.state.get(p, {})
            assert all(torch.equal(value, own[name]) for name, value in slot.items())


def test_a_parameter_without_a_gradient_stays_and_has_direction_zero():
    p, group = torch.ones(2), torch.optim.Adam([torch.ones(2)]).param_groups[0]
    step = rules.PureStep(rules.adam, [p, p], [None, p], [{}, {}], [group, group])
    params, states = step.take([0.1, 0.1])
    assert params[0] is p and states[0] == {} and not step.direction()[0].any()
    assert not torch.equal(params[1], p) and "exp_avg" in states[1]


def test_a_loss_is_returned_without_its_graph_and_the_norm_of_its_gradient_is_clipped():
    p = torch.nn.Parameter(torch.full((4,), 3.0))
    optimizer = torch.optim.SGD([p], lr=0.1)
    for _ in range(2):  # a gradient that was there before counts no more
        loss = gradient(optimizer, [p.square().sum()], 0.5)
        assert not loss.requires_grad and p.grad.norm() == pytest.approx(0.5)
