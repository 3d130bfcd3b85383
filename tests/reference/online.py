"""A slow twin of online MLR-SNet with K = 1: plain loops, its own cell, its own SGD and Adam.

It imports nothing of the package. Written from the equations: virtual step, update of phi, real
step, each with an explicit copy of all weights.
"""

import copy
import math

import torch


def cell(phi, x, h, c, hidden):
    x_down, x_shift, x_up, x_bias, h_down, h_shift, h_up, h_bias, head, head_bias = phi
    z = x_up.mv(torch.clamp(x_down.mv(x.view(1)) + x_shift, min=0)) + x_bias
    z = z + h_up.mv(torch.clamp(h_down.mv(h) + h_shift, min=0)) + h_bias
    i = 1 / (1 + torch.exp(-z[:hidden]))
    f = 1 / (1 + torch.exp(-(z[hidden : 2 * hidden] - 1)))
    o = 1 / (1 + torch.exp(-z[2 * hidden : 3 * hidden]))
    g = torch.tanh(z[3 * hidden :])
    c = f * c + i * g
    h = o * torch.tanh(c)
    return 1 / (1 + torch.exp(-(head.mv(h) + head_bias)))[0], h, c


def reference_run(
    task, phi, *, hidden, gamma, period, meta_lr, momentum, weight_decay, total_steps
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
        grads = [p.grad + weight_decay * p.detach() for p in model.parameters()]
        if momentum:
            if buffers is None:
                buffers = grads
            else:
                buffers = [momentum * b + g for b, g in zip(buffers, grads, strict=True)]
        direction = buffers if momentum else grads
        if (step + 1) % period == 0:
            leaves = [w.detach().requires_grad_() for w in phi]
            p, _, _ = cell(leaves, loss.detach(), h, c, hidden)
            virtual = {}
            for name, w, d in zip(names, model.parameters(), direction, strict=True):
                virtual[name] = w.detach() - gamma * p * d
            shadow = copy.deepcopy(model)
            out = torch.func.functional_call(shadow, virtual, (task.batch("meta", step, 0)[0],))
            target = task.batch("meta", step, 0)[1]
            value = -torch.log_softmax(out, 1)[range(len(target)), target].mean()
            meta = torch.autograd.grad(value, leaves)
            updates += 1
            for k, (w, g) in enumerate(zip(phi, meta, strict=True)):
                g = g + 1e-4 * w
                first[k] = 0.9 * first[k] + 0.1 * g
                second[k] = 0.999 * second[k] + 0.001 * g * g
                m = first[k] / (1 - 0.9**updates)
                v = second[k] / (1 - 0.999**updates)
                phi[k] = w - meta_lr * m / (torch.sqrt(v) + 1e-8)
        with torch.no_grad():
            p, h, c = cell(phi, loss, h, c, hidden)
            rate = gamma * float(p)
            assert math.isfinite(rate)
            for w, d in zip(model.parameters(), direction, strict=True):
                w -= rate * d
        rates.append(rate)
    return rates, phi
