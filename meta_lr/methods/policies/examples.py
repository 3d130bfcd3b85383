"""Each of LRBench's 34 policies with initial values: the one table of their options."""

from __future__ import annotations

from typing import Any, NamedTuple

_AS_PUBLISHED = (
    "As published it stands at k0, not k1, for the one step at which a tooth begins, the first "
    "included."
)


class Option(NamedTuple):
    """An option of a policy."""

    value: Any  # the initial value
    comment: str  # the meaning of the option


class Example(NamedTuple):
    """A policy with initial values."""

    summary: str  # what the policy does
    options: dict[str, Option]  # by name, k0 first
    note: str = ""  # a further remark


_PER = {"per": Option("step", "what is counted: step, or epoch")}
_ENDS = {
    "k0": Option(0.01, "the lowest learning rate"),
    "k1": Option(0.1, "the highest learning rate"),
}
_FACTOR = "the factor"
_ONCE = {
    "fix": Example(
        "One learning rate for the whole run.", {"k0": Option(0.05, "the learning rate")}
    ),
    "step": Example(
        "The learning rate drops by a factor every l steps.",
        {
            "k0": Option(0.1, "the first learning rate"),
            "l": Option(50, "steps from drop to drop"),
            "gamma": Option(0.3, _FACTOR),
        },
    ),
    "nstep": Example(
        "The learning rate drops by a factor at each of the given boundaries.",
        {
            "k0": Option(0.1, "the first learning rate"),
            "l": Option([80, 120], "steps at which the learning rate drops"),
            "gamma": Option(0.1, _FACTOR),
        },
    ),
    "exp": Example(
        "The learning rate shrinks by a factor at each step.",
        {"k0": Option(0.1, "the first learning rate"), "gamma": Option(0.98, _FACTOR)},
    ),
    "inv": Example(
        "The learning rate shrinks with a power of the number of steps.",
        {
            "k0": Option(0.1, "the first learning rate"),
            "gamma": Option(0.05, "the learning rate is k0 (1 + gamma t)^-p at step t"),
            "p": Option(0.75, "the exponent"),
        },
    ),
    "poly": Example(
        "From k1 down to k0 along a power of what is left of l, and k0 from there on.",
        {
            "k0": Option(0.0, "the last learning rate"),
            "k1": Option(0.1, "the first learning rate"),
            "l": Option(160, "steps from k1 to k0, such as the whole run"),
            "p": Option(1.0, "the exponent: 1 is a straight line"),
        },
    ),
    "sig": Example(
        "Half of k0 at step l, along a logistic curve: down from k0 where gamma < 0, "
        "else up to it.",
        {
            "k0": Option(0.1, "the highest learning rate"),
            "l": Option(80, "the step in the middle of the curve"),
            "gamma": Option(-0.05, "the learning rate is k0 / (1 + e^(-gamma (t - l))) at step t"),
        },
    ),
}
_UP, _DOWN = "Up from k0 to k1 and down again", "Down from k1 to k0 and up again"
_TOOTH = "A saw-tooth: down from k1 to k0"
# Wave -> what it does, and the steps of half a cycle (for a saw-tooth, the steps of a tooth).
_WAVES = {
    "tri": (f"{_UP}, in straight lines", 40),
    "sin": (f"{_UP}, in arches of a sine", 40),
    "upcos": (f"{_UP}, along a cosine", 40),
    "dtri": (f"{_DOWN}, in straight lines", 32),
    "dsin": (f"{_DOWN}, in arches of a sine", 32),
    "cos": (f"{_DOWN}, along a cosine", 32),
    "rsw": (f"{_TOOTH} in a straight line, again and again", 40),
    "cosrsw": (f"{_TOOTH} along half a cosine, again and again", 40),
    "sinrsw": (f"{_TOOTH} along a quarter of a sine, again and again", 40),
}
_ENVELOPES = {
    "": "",
    "2": "; the height is halved after each cycle",
    "exp": "; the height shrinks by a factor at each step",
}


def _once(kind: str) -> Example:
    example = _ONCE[kind]
    return example if kind == "fix" else example._replace(options={**example.options, **_PER})


def _cyclic(wave: str, envelope: str) -> Example:
    (does, length), saw = _WAVES[wave], wave.endswith("rsw")
    options = {**_ENDS, "l": Option(length, f"steps of {'a tooth' if saw else 'half a cycle'}")}
    if envelope == "exp":
        options["gamma"] = Option(0.99, _FACTOR)
    if (wave, envelope) == ("cos", ""):
        period = "of a cycle: 2l as in LRBench's code, or l as in its paper's table"
        options["period"] = Option("2l", period)
    summary = f"{does}{_ENVELOPES[envelope]}."
    return Example(summary, {**options, **_PER}, _AS_PUBLISHED if saw else "")


EXAMPLES: dict[str, Example] = {
    **{kind: _once(kind) for kind in _ONCE},
    **{wave + end: _cyclic(wave, end) for wave in _WAVES for end in _ENVELOPES},
}
