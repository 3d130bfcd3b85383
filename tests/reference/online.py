"""A slow twin of online MLR-SNet with K = 1: plain loops, its own cell, its own SGD and Adam.

It imports nothing of the package. Written from the equations: virtual step, update of phi, real
step, each with an explicit copy of all weights. The options are the quirks of the published code.
"""

import copy
import math

import torch


def cell(phi, x, h, c, hidden, gates="ifog", forget_offset=-1.0):
    x_down, x_shift, x_up, x_bias, h_down, h_shift, h_up, h_bias, head, head_bias = phi
    z = x_up.mv(torch.clamp(x_down.mv(x.view(1)) + x_shift, min=0)) + x_bias
    z = z + h_up.mv(torch.clamp(h_down.mv(h) + h_shift, min=0)) + h_bias
    part = {name: z[k * hidden : (k + 1) * hidden] for k, name in enumerate(gates)}
    i = 1 / (1 + torch.exp(-part["i"]))
    f = 1 / (1 + torch.exp(-(part["f"] + forget_offset)))
    o = 1 / (1 + torch.exp(-part["o"]))
    g = torch.tanh(part["g"])
    c = f * c + i * g
    h = o * torch.tanh(c)
    return 1 / (1 + torch.exp(-(head.mv(h) + head_bias)))[0], h, c


def formula(loss, classes):
    """The authors' scale, from the first loss."""
    return abs(math.sqrt(loss) * math.log(loss * classes) / classes**0.25) / 4


def is_due(step, period, steps_per_epoch, counts, fires):
    i = step
    if counts == "epoch":
        while i >= steps_per_epoch:
            i -= steps_per_epoch
    return (i + 1) % period == 0 if fires == "end" else i % period == 0


def reference_run(
    task,
    phi,
    *,
    hidden,
    gamma,  # None: by the formula
    period,
    meta_lr,
    momentum,
    weight_decay,
    total_steps,
    meta_weight_decay=1e-4,
    gates="ifog",
    forget_offset=-1.0,
    double_tick=False,
    counts="run",
    fires="end",
    meta_batches="drawn",
):
    model = task.model().train()
    names = [name for name, _ in model.named_parameters()]
    buffers = None
    h, c = torch.zeros(hidden), torch.zeros(hidden)
    phi = [w.clone() for w in phi]
    first = [torch.zeros_like(w) for w in phi]
    second = [torch.zeros_like(w) for w in phi]
    updates, rates = 0, []
    for step in range(total_steps):
        model.zero_grad()
        loss = task.loss(model, task.batch("train", step))
        loss.backward()
        if gamma is None:
            gamma = formula(loss.item(), task.num_classes)
        grads = [p.grad + weight_decay * p.detach() for p in model.parameters()]
        if momentum:
            if buffers is None:
                buffers = grads
            else:
                buffers = [momentum * b + g for b, g in zip(buffers, grads, strict=True)]
        direction = buffers if momentum else grads
        if is_due(step, period, task.num_batches("train"), counts, fires):
            leaves = [w.detach().requires_grad_() for w in phi]
            p, later_h, later_c = cell(leaves, loss.detach(), h, c, hidden, gates, forget_offset)
            virtual = {}
            for name, w, d in zip(names, model.parameters(), direction, strict=True):
                virtual[name] = w.detach() - gamma * p * d
            shadow = copy.deepcopy(model)
            if meta_batches == "drawn":
                images, target = task.batch("meta", step, 0)
            else:
                images, target = task.batch("meta", updates)
            out = torch.func.functional_call(shadow, virtual, (images,))
            value = -torch.log_softmax(out, 1)[range(len(target)), target].mean()
            meta = torch.autograd.grad(value, leaves)
            if double_tick:
                h, c = later_h.detach(), later_c.detach()
            updates += 1
            for k, (w, g) in enumerate(zip(phi, meta, strict=True)):
                g = g + meta_weight_decay * w
                first[k] = 0.9 * first[k] + 0.1 * g
                second[k] = 0.999 * second[k] + 0.001 * g * g
                m = first[k] / (1 - 0.9**updates)
                v = second[k] / (1 - 0.999**updates)
                phi[k] = w - meta_lr * m / (torch.sqrt(v) + 1e-8)
        with torch.no_grad():
            p, h, c = cell(phi, loss, h, c, hidden, gates, forget_offset)
            rate = gamma * float(p)
            assert math.isfinite(rate)
            for w, d in zip(model.parameters(), direction, strict=True):
                w -= rate * d
        rates.append(rate)
    return rates, phi
