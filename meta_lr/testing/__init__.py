"""The contract that every controller keeps, as checks for our methods and for yours.

In the tests of a method of your own:

    from meta_lr.testing import check_controller

    def test_mine_keeps_the_contract():
        check_controller(Mine(peak=0.1))

or with one case per rule, so that each has its own line in the test report:

    @pytest.mark.parametrize("check", meta_lr.testing.CHECKS)
    def test_mine(check):
        check(Mine(peak=0.1))

A broken rule raises an AssertionError of one line: the rule, what broke it, and what to do. Give
the method options with which it does all that it can within a short run (`steps`); rates near 0.1
suit the built-in problems. `check_docstring` is a rule of this package's own methods alone.
"""

from meta_lr.testing.contract import (
    CHECKS,
    check_controller,
    check_docstring,
    check_drop_in,
    check_learns,
    check_no_trace,
    check_protocol,
    check_reads,
    check_repr,
    check_resumes,
)

__all__ = [
    "CHECKS",
    "check_controller",
    "check_docstring",
    "check_drop_in",
    "check_learns",
    "check_no_trace",
    "check_protocol",
    "check_reads",
    "check_repr",
    "check_resumes",
]
