"""Configurations: the mean, interval and error of cells that differ in their seeds alone."""

import math
from dataclasses import replace

import made
import numpy as np
import pytest
from studies import by_steps, study

from harness.analysis.configurations import MetricInfo, best, best_of_each, total_error, within
from harness.analysis.reference import baseline_error, gap, mean_of, share_bounds, spread
from harness.analysis.statistics import mean_interval


def test_sampling_seeds_are_averaged_within_a_training_seed_and_then_over_those():
    # Two sampling seeds (rows), three training seeds (columns).
    [one] = study({("cosine", "ddim", 10): [[1, 2, 3], [3, 4, 5]]}, error=0.2).configurations()
    assert one.corrected == {0: 2, 1: 3, 2: 4}
    assert (one.seeds, one.mean, len(one.keys)) == (3, 3, 6)
    assert one.errors == pytest.approx(dict.fromkeys((0, 1, 2), 0.2 / math.sqrt(2)))
    assert one.error == pytest.approx(0.2 / math.sqrt(6))
    assert one.interval == mean_interval([2, 3, 4])


def test_with_one_training_seed_the_interval_covers_sampling_alone():
    [one] = by_steps({10: [0.5]}, error=0.1).configurations()
    assert one.interval.high - 0.5 == pytest.approx(1.959964 * 0.1, rel=1e-5)


def test_intervals_are_of_corrected_values_and_the_measured_mean_stays_beside_them():
    biased = made.measured(5.0, corrected=4.0)
    of = made.result(made.CELL, fid=biased)
    [one] = by_steps({10: [0.5]}, more=lambda _: of).configurations("fid")
    assert (one.mean, one.as_measured, one.interval.estimate) == (4.0, 5.0, 4.0)


def test_the_choice_of_the_reference_adds_to_the_error_where_it_was_measured():
    assert total_error(made.measured(1.0, 3.0, reference_error=4.0)) == 5.0
    assert total_error(made.measured(1.0, 3.0)) == 3.0
    assert math.isnan(total_error(made.measured(1.0, None)))


def test_the_best_of_equals_is_the_cheaper_and_of_a_metric_like_coverage_the_highest():
    equal = by_steps({10: [0.1], 5: [0.1]}).configurations()
    assert best(equal).steps == 5
    higher = by_steps({5: [0.1], 10: [0.3]}, metric="coverage").configurations()
    assert best(higher).steps == 10
    ranked = best_of_each(higher, lambda one: str(one.steps))
    assert [one.steps for one in ranked] == [10, 5]


def test_a_budget_is_of_network_evaluations():
    cheap, dear = by_steps({5: [0.1], 50: [0.1]}).configurations()
    assert within([cheap, dear], 10) == [cheap]
    assert within([cheap, dear], np.inf) == [cheap, dear]


def test_a_metric_that_is_not_installed_here_is_taken_for_a_distance():
    assert MetricInfo.of("of_another_package") == MetricInfo(
        "of_another_package", "of_another_package"
    )
    assert not MetricInfo.of("coverage").lower_is_better
    assert MetricInfo.of("fid").is_biased


def test_reference_quantities_agree_with_their_closed_forms():
    mean = mean_of([(1.0, 0.3), (3.0, 0.4), (5.0, None)])
    assert (mean.estimate, mean.high - 3) == (3, pytest.approx(1.959964 * 0.5 / 3))
    assert gap(mean_of([(3.0, 0.3)]), mean_of([(1.0, 0.4)])).high == pytest.approx(
        2 + 1.959964 * 0.5
    )
    between, sampling = spread(by_steps({5: [1, 2, 3], 10: [1, 3, 5]}, error=0.1).configurations())
    assert between == pytest.approx(math.sqrt((1 + 4) / 2))
    assert sampling == pytest.approx(0.1)


def test_the_error_of_the_baseline_is_that_of_as_many_images():
    """The error of a mean falls with the root of the number of images."""
    of = by_steps({10: [0.1]}, more=lambda one: replace(one, baseline_images=200), error=0.04)
    assert baseline_error(of, of.configurations()[0]) == pytest.approx(0.04 * math.sqrt(50 / 200))


def test_the_bounds_of_a_share_cover_it_as_often_as_they_say():
    draw = np.random.default_rng(0)
    truth, error, rounds = (3.0, 2.0), 0.05, 500
    covered = 0
    for first, second in draw.normal(truth, error, (rounds, 2)):
        one, leader = by_steps({5: [first], 10: [second]}, error=error).configurations()
        low, high = share_bounds(one, leader, 1.0)
        covered += low <= (3 - 1) / (2 - 1) - 1 <= high
    assert covered / rounds == pytest.approx(0.95, abs=0.03)
