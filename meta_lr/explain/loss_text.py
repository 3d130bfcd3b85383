"""The explanation of a schedule of the loss in words and tables."""

from __future__ import annotations

from meta_lr.explain.loss_schedule import NOTHING, Array, Explanation
from meta_lr.explain.text import Rows, aligned, at_parts, header_of_parts, markdown, percent


def for_card(found: Explanation, fitted: Array, family: str, place: str) -> str:
    """Return the text for the card of a checkpoint, in Markdown.

    Args:
        found: The explanation.
        fitted: The learning rates of the distilled policy, (steps,).
        family: Of the optimizer with which they were learned; "" is not told.
        place: Where the policy is.
    """
    bound = f", with an optimizer of the family `{family}`" if family else ""
    head = ("change of the losses", "rate, median", "rate, largest")
    return f"""\
**{_verdict(found)}**

{markdown(_rates(found, fitted))}

{markdown([head, *_effects(found)])}

{_policy(found)} It is in `{place}`; use it with
`meta_lr.methods.piecewise.Piecewise.load(path)`, which needs no network{bound}."""


def for_terminal(found: Explanation, fitted: Array, loss_range: tuple[float, float] | None) -> str:
    """Return the text for a terminal; it tells of losses outside the range of meta-training."""
    effects = aligned([("change of the losses", "median", "largest"), *_effects(found)])
    parts = [aligned(_rates(found, fitted)), _verdict(found), effects, _policy(found)]
    low, high = loss_range or (float("-inf"), float("inf"))
    lines = ["\n\n".join(parts)]
    for curve, losses in found.losses.items():
        share = float(((losses < low) | (losses > high)).mean())
        if share:
            told = "of its losses are outside what was seen in meta-training"
            lines.append(f"{curve}: {share:.1%} {told}")
    return "\n".join(lines)


def _rates(found: Explanation, fitted: Array) -> Rows:
    rates = {**found.rates, "distilled": fitted}
    return [header_of_parts("rate at"), *([name, *at_parts(y)] for name, y in rates.items())]


def _effects(found: Explanation) -> Rows:
    return [(e.change, _signed(e.median), _signed(e.largest)) for e in found.effects]


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
