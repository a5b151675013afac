"""Intervals and verdicts against tables, closed forms and simulations."""

import math

import numpy as np
import pytest

from harness.analysis.statistics import (
    SAMPLING,
    TRAINING,
    corrected,
    holm,
    mean_interval,
    paired_difference,
    sampling_difference,
    sampling_interval,
    values_needed,
)


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


@pytest.mark.parametrize(("lower_is_better", "verdict"), [(True, "better"), (False, "worse")])
def test_a_clear_paired_difference_has_a_verdict_in_the_right_direction(lower_is_better, verdict):
    a, b = [1.0, 1.1, 0.9], [2.0, 2.15, 1.92]
    difference = paired_difference(a, b, lower_is_better=lower_is_better)
    assert difference.verdict == verdict
    assert difference.low < difference.value < difference.high < 0
    assert (difference.n, difference.covers, difference.reason) == (3, TRAINING, "")


def test_pairing_removes_what_the_seeds_have_in_common():
    luck = np.array([0.0, 5.0, -3.0, 8.0])
    assert paired_difference(luck, luck + np.array([1, 1.1, 0.9, 1.05])).verdict == "better"
    assert mean_interval(luck).low < mean_interval(luck + 1).high


@pytest.mark.parametrize(("n", "word"), [(1, "one training seed"), (2, "two training seeds")])
def test_fewer_than_three_seeds_give_no_verdict_and_keep_the_reason(n, word):
    difference = paired_difference([0.1, 0.1001][:n], [9.0, 9.0002][:n])
    assert difference.verdict == "inconclusive"
    assert difference.reason.startswith(word)


def test_differences_that_do_not_vary_are_inconclusive_rather_than_certain():
    difference = paired_difference([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert difference.verdict == "inconclusive"
    assert "do not vary" in difference.reason
    assert sampling_difference([1], [1], errors=[0]).verdict == "inconclusive"


def test_a_pair_with_a_missing_half_is_left_out():
    assert paired_difference([1, 2, math.nan, 4], [2, math.nan, 3, 5]).n == 2
    assert paired_difference([], []).reason == "no training seed has both"


def test_one_model_is_enough_for_a_verdict_about_samplers():
    difference = sampling_difference([0.10], [0.20], errors=[0.01 * math.sqrt(2)])
    assert (difference.verdict, difference.covers) == ("better", SAMPLING)
    assert difference.high - difference.low == pytest.approx(2 * 1.959964 * 0.01 * math.sqrt(2))


def test_models_that_disagree_about_samplers_give_no_verdict():
    difference = sampling_difference([0.1, 0.1, 0.3], [0.4, 0.4, 0.2], errors=[0.01] * 3)
    assert difference.verdict == "inconclusive"
    assert difference.reason == "the models disagree"


def test_holm_agrees_with_the_worked_example():
    # Sorted p times 4, 3, 2, 1, then never falling: .02, .03, .06, .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).size == 0


def test_verdicts_that_do_not_survive_the_correction_are_withdrawn_and_say_why():
    clear = sampling_difference([0.0], [1.0], errors=[0.014])
    narrow = sampling_difference([0.0], [0.031], errors=[0.0141])  # p = 0.028 alone
    assert narrow.verdict == "better"
    together = corrected([clear, narrow, narrow])
    assert [difference.verdict for difference in together] == ["better", *["inconclusive"] * 2]
    assert together[1].reason == "not significant after correction for 3 comparisons"


def test_what_could_not_be_tested_does_not_make_the_others_pay():
    narrow = sampling_difference([0.0], [0.031], errors=[0.0141])
    untested = paired_difference([1.0], [2.0])
    together = corrected([narrow, *[untested] * 20])
    assert together[0].verdict == "better"
    assert together[1].reason == "one training seed gives no verdict about schedules"


def test_equals_are_called_different_in_at_most_one_family_of_twenty():
    draw = np.random.default_rng(0)
    families = 400
    wrong = sum(
        any(
            difference.verdict != "inconclusive"
            for difference in corrected(
                [paired_difference(draw.normal(size=3), draw.normal(size=3)) for _ in range(6)]
            )
        )
        for _ in range(families)
    )
    assert wrong / families < 0.05 + 2 * math.sqrt(0.05 * 0.95 / families)


def test_the_predicted_number_of_values_would_settle_the_difference():
    differences = [0.5, 1.5, -0.2, 1.0]
    needed = values_needed(differences)
    mean, spread = np.mean(differences), np.std(differences, ddof=1)

    def is_settled(n):
        # A sample of this size with the same mean and spread.
        sample = np.tile([-1.0, 1.0], n)[:n] + (0 if n % 2 == 0 else 1 / n)
        sample = mean + spread * (sample - sample.mean()) / sample.std(ddof=1)
        return mean_interval(sample).low > 0

    assert is_settled(needed)
    assert not is_settled(needed - 1)


def test_nothing_is_predicted_from_one_value_or_for_a_hopeless_difference():
    assert values_needed([1.0]) is None
    assert values_needed([1, -1, 1.0001, -1]) is None
