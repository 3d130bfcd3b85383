"""`ControlledLR` in the real Lightning: its closures, clipping, accumulation and checkpoints."""

import warnings

import pytest
import torch

from meta_lr import callers
from meta_lr.drop_in import advice
from meta_lr.drop_in.scheduler import ControlledLR
from meta_lr.methods.basic import Cosine
from meta_lr.protocol import StepView
from tests.controllers import Momentum, Tenth, Witness

BATCHES = 6


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def loss(self, x):
        return ((self.weight - x) ** 2).mean()


def batches():
    return [torch.tensor([0.1 * i, 0.3 * i], dtype=torch.float64) for i in range(BATCHES)]


def lightning():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("lightning.pytorch", reason="lightning is in the extra dev")


def make_module(controller, interval, **options):
    pl = lightning()

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.line = Line()
            self.seen, self.rates = [], []
            self.observes = False

        def training_step(self, batch, index):
            loss = self.line.loss(batch)
            self.seen.append(loss.item())
            if self.observes:
                self.lr_schedulers().observe(loss)
            return loss

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.05)
            scheduler = ControlledLR(optimizer, controller, **options)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": scheduler, "interval": interval},
            }

        def on_train_batch_end(self, *args):
            self.rates.append(self.optimizers().param_groups[0]["lr"])

    return Module()


def fit(module, path, *, epochs=2, checkpoint=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's own advice, but not this:
        warnings.filterwarnings("error", message=".*how-to-adjust-learning-rate")
        trainer = lightning().Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=path,
            **options,
        )
        trainer.fit(module, batches_loader(), ckpt_path=checkpoint)
    return trainer


def batches_loader():
    return torch.utils.data.DataLoader(batches(), batch_size=None)


def plain_rates(rate_of, num_steps):
    """The same training by hand; `rate_of(step, loss)` is the rate."""
    line, rates = Line(), []
    for step in range(num_steps):
        loss = line.loss(batches()[step % BATCHES])
        (grad,) = torch.autograd.grad(loss, [line.weight])
        rates.append(rate_of(step, loss.item()))
        with torch.no_grad():
            line.weight -= rates[-1] * grad
    return rates, line.weight.item()


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_the_rate_of_each_step_follows_from_its_own_loss(tmp_path, interval):
    module = make_module(Tenth(), interval)
    fit(module, tmp_path, enable_checkpointing=False)
    rates, weight = plain_rates(lambda step, loss: 0.1 * loss, 2 * BATCHES)
    assert module.rates == pytest.approx(rates, rel=1e-12)
    assert module.rates == pytest.approx([0.1 * loss for loss in module.seen], rel=1e-12)
    assert module.line.weight.item() == pytest.approx(weight, rel=1e-12)


def test_a_policy_advances_per_step_without_a_warning(tmp_path):
    policy, num_steps = Cosine(0.1), 2 * BATCHES
    module = make_module(policy, "step", total_steps=num_steps)
    fit(module, tmp_path, enable_checkpointing=False)
    views = [StepView(policy, step, total_steps=num_steps) for step in range(1, num_steps + 1)]
    # Lightning steps the scheduler before on_train_batch_end.
    assert module.rates == pytest.approx([policy(view, ())[0] for view in views], abs=1e-15)


def test_accumulated_losses_are_averaged_if_the_module_observes_them(tmp_path):
    module = make_module(Tenth(), "step")
    module.observes = True
    trainer = fit(module, tmp_path, epochs=1, accumulate_grad_batches=3, enable_checkpointing=False)
    means = [sum(module.seen[i : i + 3]) / 3 for i in (0, 3)]
    assert module.rates[2::3] == pytest.approx([0.1 * mean for mean in means], rel=1e-12)
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == 2


@pytest.mark.parametrize("observes", [False, True])
def test_accumulation_without_observed_losses_is_warned_of_once(tmp_path, monkeypatch, observes):
    messages = []
    monkeypatch.setattr(callers, "warn", messages.append)
    module = make_module(Tenth(), "step")
    module.observes = observes
    fit(module, tmp_path, accumulate_grad_batches=2, enable_checkpointing=False)
    assert messages == ([] if observes else [advice.ACCUMULATION])


def test_the_controller_sees_clipped_gradients(tmp_path):
    module = make_module(Witness(0.01), "step")
    trainer = fit(module, tmp_path, epochs=1, gradient_clip_val=0.5, enable_checkpointing=False)
    seen = trainer.lr_scheduler_configs[0].scheduler.state_dict()["state"]
    assert abs(seen["grads"][0].item()) == pytest.approx(0.5, rel=1e-4)


def test_a_run_resumed_from_lightnings_checkpoint_goes_on_exactly(tmp_path):
    whole = make_module(Momentum(), "step")
    fit(whole, tmp_path / "whole", epochs=4)
    first = make_module(Momentum(), "step")
    trainer = fit(first, tmp_path / "first", epochs=2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    second = make_module(Momentum(), "step")
    fit(second, tmp_path / "second", epochs=4, checkpoint=tmp_path / "two.ckpt")
    assert first.rates + second.rates == whole.rates
    assert second.line.weight.item() == whole.line.weight.item()
