"""A slow twin of AutoLRS's published server and client, which send each other short messages.

It is written from the behaviour of the two programs: which message follows which, and when. It
imports nothing of the package. OURS marks where it does not do what the published programs do:
their process is another library's, and they end with an error where this goes on.
"""

import math
from collections import deque

import numpy as np
from scipy.interpolate import UnivariateSpline
from scipy.optimize import fmin, minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.utils._testing import ignore_warnings


class Server:
    """Chooses the rates; `random(stage, trial)` gives the numpy RandomState of each question."""

    def __init__(self, min_lr, max_lr, random, *, tau=1000, tau_max=8000, k=10, kappa=1000.0):
        self.low, self.high = math.log10(min_lr), math.log10(max_lr)
        self.min_lr, self.max_lr = min_lr, max_lr
        self.random, self.k, self.kappa = random, k, kappa
        self.tau, self.tau_prime, self.tau_max = tau, tau // 10, tau_max
        self.validates = False
        self.stage = 0
        self.phase = "begin"
        self.count = 0  # only the first trial of all counts from 0; each later one from 1
        self.held = 0
        self.init_loss = None
        self.empty_ring()

    def answer(self, message):
        kind, number = message.split(",")
        number = float(number)
        if kind == "val_loss":
            self.ring.append(number)
            return repr(self.lr)  # it neither counts a step nor ends a trial
        if kind == "startBO":
            self.init_loss = number
        if not self.validates:
            self.ring.append(number)
        if self.phase == "hold":
            return self.hold()
        if self.phase == "begin":
            self.begin_stage()
            return f"ckpt,{self.lr!r}"
        if self.count == self.tau_prime:
            self.end_trial()
            return "restore"
        self.count += 1
        if self.validates and self.count % self.val_freq == 0:
            return "evaluate"
        return repr(self.lr)

    def hold(self):
        if self.held < self.tau:
            self.held += 1
            return repr(self.lr)
        self.next_stage()
        self.phase = "begin"
        return "save"

    def begin_stage(self):
        self.places, self.told = [], []
        self.phase = "trial"
        self.ask_for_lr()

    def ask_for_lr(self):
        self.place = self.ask()
        self.lr = self.to_rate(self.place)

    def end_trial(self):
        self.places.append(self.place)
        self.told.append(self.forecast())
        self.empty_ring()
        self.count = 1
        if len(self.places) < self.k:
            self.ask_for_lr()
            return
        best = 0
        for i in range(self.k):
            if self.told[i] < self.told[best]:
                best = i
        self.lr = self.to_rate(self.places[best])
        self.phase, self.held = "hold", 0

    def next_stage(self):
        self.stage += 1
        if self.tau_prime < self.tau_max / 10:
            self.tau, self.tau_prime = 2 * self.tau, 2 * self.tau_prime
        else:
            self.validates = True
        self.empty_ring()

    def empty_ring(self):
        self.val_freq = self.tau_prime // 16
        size = self.tau_prime // self.val_freq if self.validates else self.tau_prime
        self.ring = deque(maxlen=size)

    def to_rate(self, place):
        lr = 10 ** (self.low + place * (self.high - self.low))
        return min(max(lr, self.min_lr), self.max_lr)

    def forecast(self):
        losses = list(self.ring)
        if not all(abs(loss) < 1e10 for loss in losses):
            return math.inf  # OURS: theirs ends with an error, at once or after the last trial
        if not self.validates:
            return forecast(losses, self.tau, passes=10, share=0.03)
        if max(losses) >= self.init_loss:
            return losses[-1]
        return forecast(losses, self.tau // self.val_freq, passes=1, share=None)

    def ask(self):
        random = self.random(self.stage, len(self.places))
        if not self.places:
            return random.uniform()
        places, told = list(self.places), list(self.told)
        for _ in range(20):  # OURS: theirs might ask for ever
            place = next_place(places, told, self.kappa, random)
            if place not in self.places:
                return place
            same = self.places.index(place)
            places.append(self.places[same])
            told.append(self.told[same])
        return random.uniform()


# OURS: the process and the search for its least bound are those of today's libraries.
@ignore_warnings(category=ConvergenceWarning)
def next_place(places, told, kappa, random):
    x = np.array([[place] for place in places])
    y = np.array([min(value, 1e6) for value in told])
    y = y - y.mean()
    kernel = ConstantKernel(1.0, (0.01, 1000)) * Matern(1.0, (0.01, 100), nu=2.5)
    kernel = kernel + WhiteKernel(1.0, (1e-5, 1e5))
    gp = GaussianProcessRegressor(kernel, n_restarts_optimizer=2, random_state=random)
    gp.fit(x, y)
    noise = gp.kernel_.k2.noise_level

    def lcb(points):
        mean, std = gp.predict(np.array(points).reshape(-1, 1), return_std=True)
        return mean - kappa * np.sqrt(np.clip(std**2 - noise, 0.0, None))

    points = random.uniform(size=10000)
    order = np.argsort(lcb(points))
    best_value, best_place = np.inf, None
    for i in order[:5]:
        result = minimize(lambda p: lcb(p)[0], [points[i]], method="L-BFGS-B", bounds=[(0.0, 1.0)])
        if result.fun < best_value:
            best_value, best_place = result.fun, float(result.x[0])
    return best_place


@ignore_warnings(category=UserWarning)
def forecast(losses, at, *, passes, share):
    n = len(losses)
    y = np.array(losses)
    if n >= 3:
        alive, half = list(range(n)), (n - 1) // 2
        for _ in range(passes):
            spline = UnivariateSpline(alive, y[alive], k=2)
            off = [abs(float(spline(i)) - y[i]) for i in alive]
            marks = 1 if share is None else round(share * len(alive))
            worst = sorted(range(len(alive)), key=lambda j: off[j])[len(alive) - marks :]
            left = [i for j, i in enumerate(alive) if j not in worst or j >= half]
            if len(left) >= 3:  # OURS: theirs ends with an error
                alive = left
        y = UnivariateSpline(alive, y[alive], k=2)(np.arange(n))
    x = np.arange(n)

    def solve(beta):
        b = -np.exp(min(beta, 50.0))
        columns = np.stack([np.exp(b * x), np.ones(n)], axis=1)
        (a, c), squares, _, _ = np.linalg.lstsq(columns, y, rcond=None)
        if len(squares) == 0:  # OURS: theirs ends with an error
            squares = np.square(columns @ np.array([a, c]) - y)
        return float(squares.sum()), a, b, c

    found = fmin(lambda v: solve(float(v[0]))[0], [0.0], xtol=1e-5, ftol=1e-5, disp=False)
    _, a, b, c = solve(float(found[0]))
    return float(a * np.exp(b * at) + c)


def client(server, steps, act, *, warmup_steps=0, warmup_lr=0.0):
    """Call `act` for all that a training script does; return the words of the server by step."""
    heard, started = [], False
    for number in range(steps):
        loss = act.step()  # and only after it does the client come to speak
        if number < warmup_steps:
            act.set_lr(warmup_lr / warmup_steps * (number + 1))
            continue
        reply = server.answer(f"{'loss' if started else 'startBO'},{loss!r}")
        if reply == "evaluate":
            server.answer(f"val_loss,{act.evaluate()!r}")  # the client drops the reply
            heard.append((number, "evaluate"))
            continue
        word, _, lr = reply.partition(",")
        if word == "ckpt":
            act.save()
            if not started:
                act.set_lr(float(lr))
        elif word == "restore":
            act.restore()
        elif word != "save":
            act.set_lr(float(word))
        if word in ("ckpt", "restore", "save"):
            heard.append((number, word))
        started = True
    return heard
