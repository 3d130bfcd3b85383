"""The range test on a user's own model: a sensible range, no trace, errors in one line."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import meta_lr
from meta_lr.testing.compare import leaves


def regression(seed=0):
    """A linear model on unit Gaussian inputs: the largest curvature is about 2."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(512, 6, generator=g)
    y = x.sum(1, keepdim=True) + 0.1 * torch.randn(512, 1, generator=g)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Dropout(0.1), nn.Linear(6, 1))
    return model, DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)


def loss_fn(model, batch):
    x, y = batch
    return (model(x) - y).square().mean()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_upper_end_is_below_the_limit_of_stable_learning_rates_and_near_it(seed):
    model, loader = regression(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(seed)
    found = meta_lr.range_test(model, optimizer, loader, loss_fn)
    assert 0.1 < found.k1 < 1.0 and 1e-4 < found.k0 < 0.1
    assert len(found.losses[0]) == len(found.rates) == found.cost


def test_it_leaves_no_trace():
    model, loader = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 10)  # it wraps optimizer.step
    for batch in loader:
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    model.eval()
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict(), torch.get_rng_state()))
    meta_lr.range_test(model, optimizer, loader, loss_fn)
    after = (model.state_dict(), optimizer.state_dict(), torch.get_rng_state())
    for one, other in zip(leaves(before), leaves(after), strict=True):
        assert torch.equal(one, other) if torch.is_tensor(one) else one == other
    assert not model.training and schedule.last_epoch == 0


def test_groups_keep_their_ratio():
    model, loader = regression()
    slow = nn.Parameter(torch.zeros(1))
    groups = [{"params": list(model.parameters()), "lr": 0.1}, {"params": [slow], "lr": 0.01}]
    model.register_parameter("slow", slow)
    seen = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            seen.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    meta_lr.range_test(model, Watched(groups), loader, loss_fn)
    assert len(seen) > 20
    assert all(second == pytest.approx(0.1 * first) for first, second in seen)


@pytest.mark.parametrize(("name", "start"), [("range.svg", b"<?xml"), ("a/range.png", b"\x89PNG")])
def test_it_draws_a_figure(tmp_path, name, start):
    model, loader = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    meta_lr.range_test(model, optimizer, loader, loss_fn, figure=tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"figure": "range.pdf"}, "figure='range.pdf'; a path that ends in .svg or .png is needed"),
        ({"steps": 5}, "a sweep of 5 steps says nothing; needed are at least 20"),
        ({"safety": 0.5}, "safety=0.5; a finite number is needed, at least 1"),
        ({"low": 1.0, "high": 0.1}, "the learning rates need 0 < low < high, finite"),
        ({"loader": iter([])}, "the loader gives no batches; pass one that can be iterated again"),
        ({"high": 1e-4}, "the loss never falls clearly .* raise high"),
    ],
)
def test_what_says_nothing_is_refused(options, message):
    model, loader = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    given = {"loader": loader, **options}
    with pytest.raises(ValueError, match=message):
        meta_lr.range_test(model, optimizer, loss_fn=loss_fn, **given)
