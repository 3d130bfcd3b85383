"""The explanation of a schedule of the loss in words and tables."""

from __future__ import annotations

from meta_lr.explain.loss_schedule import NOTHING, Array, Explanation
from meta_lr.explain.text import Form, at_parts, header_of_parts, percent
from meta_lr.methods.mlr_snet.learned import Learned


def told(found: Explanation, fitted: Array, form: Form, of_effects: tuple[str, str]) -> list[str]:
    """Return the table of the learning rates, the verdict, the effects and the distilled policy.

    `fitted` are the learning rates of that policy, (steps,); `of_effects` are the headings of the
    median and of the largest effect.
    """
    rates = {**found.rates, "distilled": fitted}
    effects = [(e.change, _signed(e.median), _signed(e.largest)) for e in found.effects]
    return [
        form([header_of_parts("rate at"), *([name, *at_parts(y)] for name, y in rates.items())]),
        _verdict(found),
        form([("change of the losses", *of_effects), *effects]),
        _policy(found),
    ]


def outside(learned: Learned, found: Explanation) -> list[str]:
    """Return a line for each curve with losses beyond those of the meta-training."""
    low, high = learned.loss_range or (float("-inf"), float("inf"))
    shares = {
        curve: float(((losses < low) | (losses > high)).mean())
        for curve, losses in found.losses.items()
    }
    what = "of its losses are outside what was seen in meta-training"
    return [f"{curve}: {share:.1%} {what}" for curve, share in shares.items() if share]


def _verdict(found: Explanation) -> str:
    """Return in words, with its numbers, what the network is."""
    fed = f"though the losses differ by {percent(found.loss_difference)} (median)"
    if found.verdict == "a constant":
        return (
            f"In effect a constant: over all curves and steps the rate varies by "
            f"{percent(found.spread)} (below {NOTHING:.0%}), {fed}."
        )
    differs = f"on different losses the rate differs by at most {percent(found.difference)}"
    if found.verdict == "a fixed curve":
        return f"In effect a fixed curve: {differs} at any step (below {NOTHING:.0%}), {fed}."
    return (
        f"It listens to the loss: {differs} at the same step (median over the steps "
        f"{percent(found.usual_difference)}), where the losses differ by "
        f"{percent(found.loss_difference)} (median)."
    )


def _policy(found: Explanation) -> str:
    listens = found.verdict == "it listens to the loss"
    only = " On other losses the network's own rate is another." if listens else ""
    return (
        f"Distilled: {len(found.policy.knots)} knots; the largest relative error on "
        f"'{next(iter(found.rates))}' is {percent(found.policy_error)}, the median "
        f"{percent(found.usual_policy_error)}.{only}"
    )


def _signed(share: float) -> str:
    return f"{100 * share:+.2g} %" if abs(share) < 0.1 else f"{100 * share:+.0f} %"
