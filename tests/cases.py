"""Which cases of a test every run has, and which the whole test run alone."""

import pytest


def slow_case(*values):
    """Return a case that only the whole test run has."""
    return pytest.param(*values, marks=pytest.mark.slow)
