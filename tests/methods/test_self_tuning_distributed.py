"""The self-tuning schedule in process groups: DDP, and parameters that FSDP2 shards."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from meta_lr import ControlledLR
from tests.steered import STEPS, Lion, batch_of, momentum, network, schedule


@pytest.fixture
def mesh(tmp_path):
    if not dist.is_gloo_available():
        pytest.skip("torch was built without gloo")
    dist.init_process_group("gloo", f"file://{tmp_path}/group", rank=0, world_size=1)
    yield dist.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def rates_of(model, make=momentum, rank=0, size=1):
    """Train on this rank's part of each batch; return the learning rates, and the scheduler."""
    optimizer, rates = make(list(model.parameters())), []
    scheduler = ControlledLR(optimizer, schedule(), total_steps=STEPS)
    for step in range(STEPS):
        x, y = (tensor[rank::size] for tensor in batch_of(step))
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        scheduler.observe(loss)
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates, scheduler


def adam(params):
    return torch.optim.AdamW(params, lr=1.0)


def worker(rank, folder):
    from torch.distributed.fsdp import fully_shard

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/group", rank=rank, world_size=2)
    mesh = dist.init_device_mesh("cpu", (2,))
    found = {}
    for name, make in (("momentum", momentum), ("adam", adam)):
        found[f"ddp {name}"] = rates_of(DistributedDataParallel(network()), make, rank, 2)[0]
        sharded, scheduler = rates_of(fully_shard(network(), mesh=mesh), make, rank, 2)
        found[f"fsdp {name}"] = sharded
        path = Path(folder, f"state {rank}")
        torch.save(scheduler.state_dict(), path)
        scheduler.load_state_dict(torch.load(path, weights_only=True))
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch's own
def test_two_ranks_take_one_learning_rate_that_of_one_process(tmp_path):
    """Over 10 s: both ranks import torch and its FSDP."""
    mp.spawn(worker, (str(tmp_path),), nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second, "bit for bit"
    for name, make in (("momentum", momentum), ("adam", adam)):
        alone = rates_of(network(), make)[0]
        assert first[f"ddp {name}"] == pytest.approx(alone, rel=1e-8)
        assert first[f"fsdp {name}"] == pytest.approx(alone, rel=1e-8)


@pytest.mark.filterwarnings("default")  # torch's own
def test_sharded_parameters_give_the_same_learning_rates_and_a_mixture_is_refused(mesh):
    from torch.distributed.fsdp import fully_shard

    for make in (momentum, Lion):
        sharded = fully_shard(network(), mesh=mesh)
        rates = rates_of(sharded, make)[0]
        assert rates == pytest.approx(rates_of(network(), make)[0], rel=1e-9)
    mixed = nn.Sequential(fully_shard(network(), mesh=mesh), nn.Linear(3, 3).double())
    with pytest.raises(ValueError, match="plain and sharded parameters that are distributed in"):
        rates_of(mixed)
