"""PAL as an optimizer of its own: it asks for the loss twice, and moves the weights itself.

`closure(backward)` returns the loss of the step's batch, with the same dropout each time.
"""

import math


class PAL:
    def __init__(self, params, mu=1.0, max_step=3.16, momentum=0.4, kappa=1 / 0.6):
        self.params = list(params)
        self.mu, self.max_step, self.momentum, self.kappa = mu, max_step, momentum, kappa
        self.buffers = [p.detach().clone() * 0 for p in self.params]

    def move(self, by):
        for p, buffer in zip(self.params, self.buffers, strict=True):
            p.data -= by / self.norm * buffer

    def step(self, closure):
        """Take one step; return the rate that a scheduler would have had to give."""
        for p in self.params:
            p.grad = None
        loss = closure(backward=True).item()
        slope, square = 0.0, 0.0
        for p, buffer in zip(self.params, self.buffers, strict=True):
            buffer *= self.momentum
            buffer += p.grad
            slope -= float((p.grad * buffer).sum())
            square += float((buffer * buffer).sum())
        self.norm = math.sqrt(square)
        b = slope / self.norm
        self.move(self.mu)
        ahead = closure(backward=False).item()
        a = (ahead - loss - b * self.mu) / self.mu**2
        if a > 0 and b < 0:
            step = -b / (2 * a) * self.kappa
        elif a <= 0 and b < 0:
            step = self.mu
        else:
            step = 0.0
        step = min(step, self.max_step)
        self.move(step - self.mu)
        return step / self.norm
