"""AutoLRS in your own loop, with DataLoader workers, BatchNorm, dropout, GradScaler and clipping.

    python examples/autolrs_plain_loop.py runs/plain

You may interrupt or kill it at any moment, also during a search. The same command then continues
from the last save. The result is the same as without the interruption.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from meta_lr import AutoLRS, ControlledLR, Controller, Sandbox

CLIP = 1.0
SAVE_EVERY = 20
AUTOLRS = AutoLRS(min_lr=1e-3, max_lr=1.0, shortest=10)  # because the run is short


class Stripes(Dataset):
    """Noisy images (1, 8, 8) of stripes in four directions."""

    def __init__(self, size: int, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(4, (size,), generator=random)
        row, column = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
        clean = torch.stack([row, column, row + column, row - column]).mul(1.5).sin()
        noise = torch.randn(size, 8, 8, generator=random)
        self.images = (clean[self.labels] + 1.5 * noise).unsqueeze(1)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image, flipped by the worker's own random numbers, and its label."""
        image = self.images[index]
        return (image.flip(-1, -2) if torch.rand(()) < 0.5 else image), self.labels[index]


TRAIN, VAL = Stripes(640, seed=0), Stripes(128, seed=1)


def experiment_batch(split: str, step: int, draw: int | None) -> tuple[Tensor, Tensor]:
    """Return the draw-th batch for experiments at a step; it depends on the arguments alone."""
    data = VAL if split == "val" else TRAIN
    random = torch.Generator().manual_seed(1_000_003 * step + (draw or 0))
    index = torch.randint(len(data), (32,), generator=random)
    turned = torch.rand(32, 1, 1, 1, generator=random) < 0.5  # augmented like the run's own
    images = data.images[index]
    return torch.where(turned, images.flip(-1, -2), images), data.labels[index]


def batches(step: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the run's batches from a step on, in the order of its epochs."""
    epoch, done = divmod(step, len(TRAIN) // 32)
    while True:
        random = torch.Generator().manual_seed(epoch)  # for the order and for the workers
        order = RandomSampler(TRAIN, generator=random)
        loader = DataLoader(TRAIN, 32, sampler=order, num_workers=2, generator=random)
        for number, batch in enumerate(loader):
            if number >= done:
                yield batch
        epoch, done = epoch + 1, 0


def network() -> nn.Module:
    """Return a small convolutional network."""
    torch.manual_seed(0)
    features = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*features, nn.Flatten(), nn.Dropout(0.2), nn.Linear(128, 4))


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean cross-entropy ()."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def run(folder: Path, controller: Controller = AUTOLRS, steps: int = 400) -> dict[str, object]:
    """Train, from the last save in the folder if there is one; return all state dicts."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    sandbox = Sandbox(model, optimizer, loss_fn, experiment_batch, clip=CLIP, scaler=scaler)
    scheduler = ControlledLR(optimizer, controller, sandbox=sandbox, total_steps=steps)
    parts = {"model": model, "optimizer": optimizer, "scaler": scaler, "scheduler": scheduler}
    step = load(folder / "state.pt", sandbox, parts)
    for batch in batches(step):
        if step == steps:
            break
        loss = loss_fn(model, batch)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        scheduler.observe(loss)
        scaler.step(optimizer)  # at the start of a stage, AutoLRS searches in this call
        scaler.update()
        step += 1
        if step % SAVE_EVERY == 0:
            rate = optimizer.param_groups[0]["lr"]
            search = f"search {sandbox.cost:.0f} steps, {sandbox.seconds:.1f} s"
            print(f"step {step}: loss {loss.item():.3f}, rate {rate:.4g}, {search}")
            save(folder / "state.pt", step, sandbox, parts)
    return {name: part.state_dict() for name, part in parts.items()} | {"cost": sandbox.cost}


def save(path: Path, step: int, sandbox: Sandbox, parts: dict) -> None:
    """Save everything that the rest of the run depends on, in one atomic write."""
    saved = {name: part.state_dict() for name, part in parts.items()}
    saved |= {"step": step, "cost": sandbox.cost, "seconds": sandbox.seconds}
    saved["random"] = torch.get_rng_state()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(saved, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def load(path: Path, sandbox: Sandbox, parts: dict) -> int:
    """Load the last save, if there is one; return the step to continue from."""
    if not path.exists():
        return 0
    saved = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    torch.set_rng_state(saved["random"])
    sandbox.cost, sandbox.seconds = saved["cost"], saved["seconds"]
    return saved["step"]


if __name__ == "__main__":
    run(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/plain"))
