"""The card of a checkpoint that was learned from many short trainings."""

from __future__ import annotations

from meta_lr.bilevel.meta_training import MetaTraining
from meta_lr.bilevel.problems import OPTIMIZERS
from meta_lr.bilevel.varied import KINDS
from meta_lr.methods.contract import Scheduler
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.mlp import MLP
from meta_lr.methods.self_tuning.schedule import SelfTuning


def card(done: MetaTraining, best: Scheduler, name: str) -> str:
    """Return the card, in Markdown, of the scheduler that a meta-training found best."""
    plan = done.plan
    return f"""# A schedule learned from many short trainings

```python
scheduler = meta_lr.ControlledLR(optimizer, meta_lr.load_pretrained("{name}"), total_steps=...)
```

{_about(done, best)}
## Meta-training

{done.update:,} updates of phi at a cost of {done.cost:,.0f} plain training steps, baselines and
evaluations included; episodes that diverged and were dropped: {done.num_diverged}. On
{plan.held_out} other problems of the same kind, which chose phi, the final validation loss is
{done.best_score:+.3f} nats from that of a cosine at peak {plan.peak:g}; below 0 is
better. Where there are several kinds of network, this is the mean of the worst one.

    {plan!r}
"""


def _about(done: MetaTraining, best: Scheduler) -> str:
    if isinstance(best, SelfTuning):
        return """The schedule finds its own learning rate and takes any optimizer. The learning
rate of the optimizer itself is not used; only the ratio of the parameter groups to each other is
kept.
"""
    meaning = "The network gives the rate itself, as a share of `peak`."
    if best.anneal:
        meaning = f"""\
The rate follows a cosine, and the network says by which factor it differs from it at \
each step: from {best.net.floor * best.swing:g} to {best.swing:g}.
`peak` is the peak of that cosine: pass the one that you would give to a cosine."""
    kinds = getattr(done.plan.problems, "optimizers", ())
    rows = (f"| {kind} | {done.plan.peak * (OPTIMIZERS | KINDS)[kind][1]:g} |" for kind in kinds)
    peaks = "\n".join(["| learned with | at peak |", "| --- | ---: |", *rows])
    return f"{meaning}\n\n{peaks}\n\n{_weights(best)}"


def _weights(best: Learned) -> str:
    """Return the weights of a network that is linear in its features, "" for another one."""
    net = best.net
    if not isinstance(net, MLP) or net.hidden or len(best.stages) > 1:
        return ""
    weight, bias = (tensor.flatten().tolist() for tensor in best.stages[0])
    rows = [f"| {k} | {w:+.3f} |" for k, w in zip(best.features.names, weight, strict=True)]
    return f"""
## What it learned

The network's head is z = w x + b, linear in the features x, and the factor is
{net.floor:g}^(1/2 - sigmoid(z)): a larger z is a larger rate, z = 0 the cosine itself.

| feature | weight |
| --- | ---: |
{chr(10).join(rows)}
| (b) | {bias[0]:+.3f} |
"""
