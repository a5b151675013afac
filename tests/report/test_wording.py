"""Numbers, lists and comparisons in words."""

import math

import pytest
from studies import study

from harness.analysis.comparisons import comparisons
from harness.report.wording import (
    at_steps,
    count,
    estimate,
    interval,
    listed,
    number,
    pairs,
    percent,
    sentence,
    time_of,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.16183, "0.162"), (35.47, "35.5"), (1240.4, "1,240"), (0, "0"), (-0.0000001, "0.00000"),
     (-0.5, "\N{MINUS SIGN}0.500"), (math.nan, "–")],
)  # fmt: skip
def test_a_number_has_three_significant_digits_and_zero_has_no_sign(value, text):
    assert number(value) == text


def test_a_value_has_as_many_decimals_as_its_bounds_leave_meaningful():
    assert estimate(0.1618, 0.131, 0.193) == "0.16 [0.13, 0.19]"
    assert estimate(0.1618, 0.1607, 0.1629) == "0.1618 [0.1607, 0.1629]"
    assert estimate(0.1618, math.nan, math.nan) == "0.162"
    assert interval(math.nan, 1) == ""


def test_counts_lists_and_durations_read_as_a_person_would_write_them():
    assert (count(1, "step"), count(2_000, "step")) == ("1 step", "2,000 steps")
    assert (listed([5, 10, 20]), listed([5]), listed([])) == ("5, 10 and 20", "5", "")
    assert at_steps([1]) == "at 1 step"
    assert at_steps([5, 10], "evaluation") == "at 5 and 10 evaluations"
    assert at_steps(range(2, 10)) == "at 8 numbers of steps from 2 to 9"
    assert [time_of(s) for s in (2e-6, 0.0124, 1.3, 246, 9000)] == [
        "2.00 µs", "12.4 ms", "1.30 s", "4.10 min", "2.50 h",
    ]  # fmt: skip
    assert percent(0.274) == "27 %"
    assert sentence("A difference", "", "is seen") == "A difference is seen."


def test_comparisons_of_the_same_two_are_named_once_with_their_steps():
    of = study({("cosine", sampler, n): 0.1 + n / 1000 for sampler in ("ddim", "ddpm")
                for n in (5, 10)})  # fmt: skip
    assert pairs(comparisons(of)) == (
        "ddim against ddpm with cosine at 5 and 10 steps, 10 against 5 steps with cosine and ddim"
    )
    assert pairs(comparisons(of), most=1) == "2 more"
