"""Experiments in a loop of one's own, with batches from its DataLoaders."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import meta_lr
from meta_lr.training.loaders import LoaderBatches
from meta_lr.training.sandbox import Sandbox

CPU = torch.device("cpu")


def loader(size=20, batch_size=8, **options):
    x = torch.arange(size * 3.0).reshape(size, 3)
    return DataLoader(TensorDataset(x, x.sum(1)), batch_size=batch_size, **options)


def squared(model, batch):
    x, y = batch
    return (model(x / 60)[:, 0] - y / 60).square().mean()


def sandbox(batch, **options):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    return Sandbox(model, torch.optim.SGD(model.parameters(), lr=0.1), squared, batch, **options)


def test_experiment_batches_are_a_pure_function_and_leave_the_iterator_alone():
    train = loader(shuffle=True, generator=torch.Generator().manual_seed(1))
    batches = LoaderBatches({"train": train}, CPU, seed=3)
    state = train.generator.get_state()
    first, again, other = batches("train", 5, 0), batches("train", 5, 0), batches("train", 5, 1)
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], other[0])
    assert first[0].shape == (8, 3) and torch.equal(first[0].sum(1), first[1])
    assert torch.equal(train.generator.get_state(), state)


def test_val_in_order_is_the_whole_set_once():
    batches = LoaderBatches({"train": loader(), "val": loader()}, CPU)
    assert batches.num_batches("val") == 3 and batches.num_batches("meta") is None
    parts = [batches("val", index, None)[0] for index in range(3)]
    assert [len(part) for part in parts] == [8, 8, 4]
    assert torch.equal(torch.cat(parts), loader().dataset.tensors[0])


def test_the_sandbox_measures_val_without_a_copy_and_leaves_the_modes():
    box = sandbox({"train": loader(), "val": loader()})
    box.model.train()
    whole = squared(box.model, loader().dataset.tensors)
    copies = []
    box.trial = lambda: copies.append(1)
    assert box.val_loss(100) == pytest.approx(whole.item(), rel=1e-6)
    assert box.model.training and not copies
    assert box.cost == pytest.approx(20 / 8 / 3), "three forward passes over 20 examples"


def test_a_failing_loss_leaves_the_modes_too():
    box = sandbox({"train": loader(), "val": loader()})
    box.loss_fn = lambda model, batch: 1 / 0
    with pytest.raises(ZeroDivisionError):
        box.val_loss(1)
    assert box.model.training


def test_a_method_that_searches_runs_with_loaders_alone():
    torch.manual_seed(0)
    model, data = torch.nn.Linear(3, 1), loader(shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    box = Sandbox(model, optimizer, squared, {"train": data, "val": loader()})
    method = meta_lr.AutoLRS(0.001, 0.1, shortest=4, trials=2, first_trials=2, batches=2)
    scheduler = meta_lr.ControlledLR(optimizer, method, total_steps=60, sandbox=box)
    first = squared(model, data.dataset.tensors).item()
    for _ in range(20):
        for batch in data:
            optimizer.zero_grad()
            loss = squared(model, batch)
            loss.backward()
            scheduler.observe(loss)
            optimizer.step()
    assert squared(model, data.dataset.tensors).item() < 0.5 * first and box.cost > 0


def test_what_loaders_cannot_give_is_said():
    box = sandbox(loader())
    with pytest.raises(ValueError, match="needs a loader of val"):
        box.val_loss(1)
    with pytest.raises(ValueError, match=r"needs a function `batch\(split, step, draw\)`"):
        box.loss(list(box.model.parameters()))
    with pytest.raises(ValueError, match=r"the loaders are for \['test', 'train'\]"):
        sandbox({"train": loader(), "test": loader()})
    with pytest.raises(ValueError, match="needed is train"):
        sandbox({"val": loader()})

    class Endless(IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(ValueError, match="needs a data set with a length"):
        sandbox(DataLoader(Endless()))
