"""What somebody is told whose method is broken: one line, of what came and what to do."""

from __future__ import annotations

import re

import pytest
import torch

from meta_lr import testing
from tests.broken import BROKEN_FORMS, BROKEN_RATES, BROKEN_STATES, Sound, mine
from tests.misbehaved import MISBEHAVED

BROKEN = BROKEN_FORMS | BROKEN_STATES | BROKEN_RATES | MISBEHAVED

broken = pytest.mark.parametrize(("controller", "told"), BROKEN.values(), ids=BROKEN)


@broken
def test_a_broken_method_is_told_in_one_line(controller, told):
    with pytest.raises(AssertionError) as error:
        testing.check_controller(controller, steps=12)
    pattern = re.escape(told).replace(r"\*", ".+")
    assert re.fullmatch(pattern, str(error.value)), error.value  # so without a line break


@broken
def test_no_check_fails_in_its_own_words(controller, told):
    failures = 0
    for check in testing.CHECKS[:-1]:
        try:
            check(controller, steps=12)
        except AssertionError as error:
            assert "breaks the rule '" in str(error)
            failures += 1
    assert failures or "shows its fields" in told


def test_what_it_raised_is_the_cause_and_is_told_in_one_line():
    def raises(view, state):
        raise LookupError("of two\n  lines")

    with pytest.raises(AssertionError, match=r"LookupError: of two lines$") as error:
        testing.check_controller(mine(raises))
    assert isinstance(error.value.__cause__, LookupError)


def test_a_method_needs_no_docstring_of_this_house():
    testing.check_controller(Sound(), steps=12)
    assert testing.check_docstring not in testing.CHECKS
    with pytest.raises(AssertionError, match="'is documented': no Update, Reference"):
        testing.check_docstring(Sound())


def test_a_check_that_cannot_tell_is_refused():
    with pytest.raises(ValueError, match="a run of 11 steps shows too little; pass steps=12"):
        testing.check_controller(Sound(), steps=11)
    for_adam = mine(family="adam")
    with pytest.raises(ValueError, match="family adam, but the check has sgd_momentum; pass optim"):
        testing.check_controller(for_adam, steps=12)
    testing.check_controller(for_adam, steps=12, optimizer=lambda p: torch.optim.Adam(p, lr=0.1))
