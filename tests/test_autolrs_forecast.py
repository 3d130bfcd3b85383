"""The published forecast at its ends; what it says otherwise is in `test_autolrs_twin.py`."""

import numpy as np
import pytest

from meta_lr.baselines.autolrs_forecast import published


@pytest.mark.parametrize("losses", [[1.3, 1.3], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
def test_what_does_not_change_goes_on(losses):
    assert published(losses, 50) == pytest.approx(losses[-1], abs=1e-6)


def test_outliers_move_it():
    """Nine of a hundred far off, half of which are in the part that is never cleaned."""
    steps, random = np.arange(100), np.random.RandomState(0)
    losses = 2 * np.exp(-0.05 * steps) + 0.5 + 0.05 * random.standard_normal(100)
    spoiled = losses.copy()
    spoiled[10::9] += 5.0
    assert abs(published(list(losses), 1000) - published(list(spoiled), 1000)) > 0.2
