"""The Knee schedule as a scheduler in steps: one call before each iteration, counted from 1."""


class Knee:
    """Writes the rate into all groups; `steps` is the number of the iteration that it is for."""

    def __init__(self, optimizer, peak, warmup_steps=0, explore_steps=0, total_steps=0):
        self.optimizer = optimizer
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.explore_steps = explore_steps
        self.decay_steps = total_steps - (explore_steps + warmup_steps)
        self.steps = 1
        self.write()

    def rate(self):
        if self.steps <= self.warmup_steps:
            return self.peak * self.steps / self.warmup_steps
        if self.steps <= self.warmup_steps + self.explore_steps:
            return self.peak
        fallen = self.steps - (self.warmup_steps + self.explore_steps)
        slope = -self.peak / self.decay_steps
        return max(0.0, self.peak + slope * fallen)

    def write(self):
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()

    def step(self):
        self.steps += 1
        self.write()
