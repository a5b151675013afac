"""Intervals and p-values against tables and closed forms."""

import math

import numpy as np
import pytest

from harness.analysis.statistics import holm, mean_interval, paired_error, sampling_interval


def test_the_interval_of_a_mean_is_students():
    # t(0.975, 2 degrees) = 4.302653 from the table; sd of (1, 2, 3) is 1.
    interval = mean_interval([1, 2, 3])
    assert (interval.estimate, interval.n) == (2, 3)
    assert interval.high - 2 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert interval.low + interval.high == pytest.approx(4)


def test_one_value_has_a_mean_and_no_bounds():
    interval = mean_interval([5.0])
    assert interval.estimate == 5
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_values_that_are_not_numbers_are_left_out_and_none_is_no_error():
    assert mean_interval([1, math.nan, 3, math.inf]).n == 2
    assert mean_interval([]).n == 0


def test_the_sampling_interval_averages_independent_errors():
    interval = sampling_interval([1, 3], [0.3, 0.4])
    assert interval.estimate == 2
    assert interval.high - 2 == pytest.approx(1.959964 * 0.25, rel=1e-6)


def test_a_difference_image_by_image_has_the_error_of_its_mean():
    apart = np.array([0.1, 0.3, -0.2, 0.2])
    common = np.array([5.0, -3.0, 2.0, 0.0])
    expected = apart.std(ddof=1) / 2
    assert paired_error(common + apart, common) == pytest.approx(expected)


def test_holm_agrees_with_the_worked_example():
    # Sorted p times 4, 3, 2, 1, then never falling: .02, .03, .06, .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).size == 0
