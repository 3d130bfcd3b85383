"""The contract that every controller must keep, as checks for built-in and user-defined methods.

In the tests of your own method:

    from meta_lr.testing import check_controller

    def test_mine_keeps_the_contract():
        check_controller(Mine(peak=0.1))

or with one case per rule, so that each has its own line in the test report:

    @pytest.mark.parametrize("check", meta_lr.testing.CHECKS)
    def test_mine(check):
        check(Mine(peak=0.1))

A broken rule raises an AssertionError of one line: the rule, what broke it, and what to do. Choose
options of the method with which it uses all its functions within a short run (`steps`). Learning
rates near 0.1 suit the built-in problems. `check_docstring` is a rule only for the methods of this
package.
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
