"""The jackknife against formulas that are known in closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from services.analyzer.jackknife import estimate, interval, standard_error, t_quantile

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=20, max_size=20)


@given(VALUES)
def test_the_jackknife_of_a_mean_is_the_standard_error_of_the_mean(values):
    total = sum(values)
    replicates = [(total - value) / 19 for value in values]
    assert estimate(replicates) == pytest.approx(np.mean(values), abs=1e-6)
    assert standard_error(replicates) == pytest.approx(stats.sem(values), abs=1e-6, rel=1e-6)


@given(VALUES)
def test_the_order_of_the_groups_changes_nothing(values):
    assert interval(values) == interval(values[::-1])


def test_equal_replicates_have_an_interval_of_no_width():
    assert interval([3.0] * 20) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_the_quantile_is_that_of_scipy(confidence):
    assert t_quantile(19, confidence) == pytest.approx(stats.t.ppf((1 + confidence) / 2, 19), abs=1e-12)
