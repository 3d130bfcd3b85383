"""Policies as text and as JSON: there and back, as names of files, from the command line."""

import json
import random

import pytest
from hydra import compose, initialize_config_dir

from meta_lr.cli.conf_files import conf_dir
from meta_lr.cli.parts import build
from meta_lr.methods.basic import Constant
from meta_lr.methods.policies.formula import Policy
from meta_lr.methods.policies.shapes import SHAPES
from meta_lr.methods.policies.text import from_json, from_text, to_json, to_text
from meta_lr.methods.wrappers import Composite, Warmup


def drawn(draw, kind=None, **options):
    """Return a random policy, its numbers of all sizes and in all the ways in which they print."""
    kind = kind or draw.choice(list(SHAPES))
    numbers = {name: number(draw) for name in SHAPES[kind].takes}
    if kind == "nstep":
        numbers["l"] = sorted({number(draw) for _ in range(draw.randint(1, 4))})
    elif "l" in numbers:
        numbers["l"] = draw.choice([draw.randint(1, 10**6), number(draw)])
    return Policy(kind, numbers.pop("k0"), **numbers, **options)


def number(draw):
    whole = draw.randint(1, 300)
    return draw.choice([whole, whole / 7, float(whole), 10.0 ** draw.randint(-12, 20), 1e-05])


def composite(draw, per="step"):
    parts = [drawn(draw, per=per) for _ in range(draw.randint(1, 5))]
    boundaries = sorted(draw.sample(range(1, 10**6), len(parts) - 1))
    return Composite(boundaries, parts, per)


def policies(num, per="step"):
    draw = random.Random(num)
    return [drawn(draw, kind, per=per) for kind in SHAPES for _ in range(num)] + [
        composite(draw, per) for _ in range(20 * num)
    ]


# There and back


@pytest.mark.parametrize("per", ["step", "epoch"])
def test_a_policy_goes_into_text_and_back(per):
    for policy in policies(5, per):
        text = to_text(policy)
        assert from_text(text, per=per) == policy
        assert to_text(from_text(text)) == text


@pytest.mark.parametrize("per", ["step", "epoch"])
def test_a_policy_goes_into_json_and_back(per):
    for policy in policies(5, per):
        assert from_json(to_json(policy)) == policy
        assert repr(from_json(to_json(policy))) == repr(policy)


def test_json_holds_what_text_cannot():
    for policy in (
        Policy("cos", 0.1, k1=1.0, l=5, period="l"),
        Policy("sig", 0.1, gamma=-0.05, l=5),
        Composite([5], [Policy("sig", 0.1, gamma=-0.05, l=5), Policy("fix", 0.1)]),
    ):
        assert from_json(to_json(policy)) == policy
        with pytest.raises(ValueError, match="use to_json"):
            to_text(policy)


def test_a_text_is_the_name_of_a_file(tmp_path):
    written = {}
    for policy in policies(1):
        text = to_text(policy)
        if len(text) <= 255:
            (tmp_path / text).write_text(to_json(policy))
            written[text] = policy
    assert len(written) > 40
    for path in tmp_path.iterdir():
        assert from_text(path.name) == written[path.name] == from_json(path.read_text())


def test_texts_of_lrbench_are_read_and_written_as_they_are():
    single = "lrPolicy_SINEXP+k0_1.0+k1_3.0+l_5+gamma_0.94"
    both = f"{single}-lrPolicy_FIX+k0_0.0001-AT-11"
    first = Policy("sinexp", 1.0, k1=3.0, l=5, gamma=0.94)
    known = {
        single: first,
        both: Composite([11], [first, Policy("fix", 0.0001)]),
        "lrPolicy_FIX+k0_1e-05": Policy("fix", 1e-05),
        "lrPolicy_POLY+k0_0.1+k1_0.5+p_1.2+l_5": Policy("poly", 0.1, k1=0.5, p=1.2, l=5),
        "lrPolicy_NSTEP+k0_0.001+l_8571+9286+10000+gamma_0.1": Policy(
            "nstep", 0.001, l=[8571, 9286, 10000], gamma=0.1
        ),
        "lrPolicy_NSTEP+k0_1+l_9+gamma_0.1": Policy("nstep", 1, l=[9], gamma=0.1),
        "lrPolicy_FIX+k0_1e-05-lrPolicy_FIX+k0_2e-05-lrPolicy_FIX+k0_3e-05-AT-5+9": Composite(
            [5, 9], [Policy("fix", rate) for rate in (1e-05, 2e-05, 3e-05)]
        ),
    }
    for text, policy in known.items():
        assert from_text(text) == policy
        assert to_text(policy) == text


def test_numbers_may_come_in_any_order_and_a_single_one_below_zero_is_read():
    policy = from_text("lrPolicy_SIG+gamma_-0.05+l_5+k0_0.1")
    assert policy == Policy("sig", 0.1, gamma=-0.05, l=5)


# What is no policy

TEXTS = {
    "": "'' is not of the form lrPolicy_SINEXP",
    "TRI+k0_0.1": "'TRI.k0_0.1' is not of the form",
    "lrPolicy_TRI+k0_0.1+k1_1+l_5 ": "is not of the form",
    "lrPolicy_TRI+k0_high": "is not of the form",
    "lrPolicy_TRI+k0_0.1+k2_1.0": "is not of the form",
    "lrPolicy_TRI+k0_0.1": "tri needs k1=",
    "lrPolicy_FIX": "fix needs k0=",
    "lrPolicy_TRIX+k0_0.1": "unknown policy 'trix'",
    "lrPolicy_FIX+k0_0.1+k0_0.2": "has k0 twice",
    "lrPolicy_FIX+k0_0.1+0.2": r"fix got k0=\(0.1, 0.2\); it needs a finite learning rate",
    "lrPolicy_FIX+k0_-0.1": "fix got k0=-0.1; it needs a finite learning rate",
    "lrPolicy_FIX+k0_0.1-lrPolicy_FIX+k0_0.2": "2 parts and 0 boundaries",
    "lrPolicy_FIX+k0_0.1-lrPolicy_FIX+k0_0.2-AT-x": "invalid literal",
    "lrPolicy_FIX+k0_0.1-lrPolicy_FIX+k0_0.2-AT-5+": "invalid literal",
    "lrPolicy_FIX+k0_0.1-lrPolicy_FIX+k0_0.2-AT-0": "increasing boundaries > 0",
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_is_no_policy_is_refused(text):
    with pytest.raises(ValueError, match=f"^cannot read '.*' as a policy: .*{TEXTS[text]}"):
        from_text(text)


FIX = {"kind": "fix", "k0": 0.1}
JSONS = {
    "no JSON": "holds no policy .JSONDecodeError",
    "[1]": "holds no policy .TypeError",
    "3": "holds no policy .AttributeError",
    json.dumps({"kind": "fix"}): "holds no policy .KeyError: 'format'",
    json.dumps({"format": 1, **FIX}): "holds no policy .KeyError: 'per'",
    json.dumps({"format": 1, "per": "step", "kind": "fix"}): "holds no policy .TypeError.*k0",
    json.dumps({"format": 1, "per": "step", **FIX, "k2": 1}): "holds no policy .TypeError.*k2",
    json.dumps({"format": 1, "per": "step", **FIX, "k0": -1}): "ValueError: fix got k0=-1",
    json.dumps({"format": 1, "per": "step", "composite": [[5, FIX]]}): "begins at 5, not at 0",
    json.dumps({"format": 2, "per": "step", **FIX}): "format 2, this meta_lr reads 1",
    "[" * 50_000: "holds no policy .*it is nested too deeply",
    '{"format": ' + "9" * 5000: "holds no policy .*it has a number of 5000 digits",
}


@pytest.mark.parametrize("text", JSONS, ids=map(str, range(len(JSONS))))
def test_json_that_is_no_policy_is_refused(text):
    with pytest.raises(ValueError, match=JSONS[text]):
        from_json(text)


def test_other_controllers_have_no_text():
    for other in (Constant(0.1), Warmup(Policy("fix", 0.1), 3), Composite([], [Constant(0.1)])):
        for write in (to_text, to_json):
            with pytest.raises(TypeError, match="has no such form; a Policy has"):
                write(other)


def test_parts_that_count_otherwise_than_their_composite_have_no_text():
    mixed = Composite([5], [Policy("fix", 0.1), Policy("fix", 0.2, per="epoch")])
    for write in (to_text, to_json):
        with pytest.raises(ValueError, match="does not count per step, as its composite does"):
            write(mixed)


# The command line


def test_a_composite_is_built_from_the_command_line():
    text = "lrPolicy_TRI+k0_0.1+k1_0.5+l_2-lrPolicy_FIX+k0_1e-05-AT-3"
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", ["lr=lrbench", f"lr.policy={text}", "lr.per=epoch"])
        assert build(config.lr) == from_text(text, per="epoch")
        assert build(compose("train", ["lr=lrbench", f"lr.policy={text}"]).lr) == from_text(text)
