"""Verdicts within one question: the error of an effect, and what a family allows to say."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from harness.analysis.decisions import (
    CONSTANT,
    NO_PAIR,
    ONE_SEED,
    SAMPLING,
    TRAINING,
    Effect,
    complete_block,
    decide,
    graphical,
    judge,
    relative,
    seed_effects,
)
from harness.analysis.statistics import holm

NAN = math.nan
FALLING = np.array([0.3, 0.2, 0.1])  # of three configurations
LUCK = np.array([1.0, 1.04, 0.97])  # of three training seeds


def values(*levels, spread=LUCK):
    """[levels, seeds, configurations], the luck of each level turned round."""
    return np.array([level * np.outer(np.roll(spread, k), FALLING)
                     for k, level in enumerate(levels)])  # fmt: skip


def effect(p, value=-1.0, **fields):
    """With this two-sided p-value."""
    error = abs(value) / stats.norm.isf(p / 2)
    return Effect(value, float(error), np.inf, 3, **{"covers": TRAINING} | fields)


# What is tested.


def test_two_levels_are_compared_by_students_test_on_logarithms():
    two = values(1.0, 2.0)
    decision = decide(two)
    main, [single, *_] = decision.main[0, 1], decision.details[0, 1]
    of_means = stats.ttest_ind(*np.log(two).mean(axis=2))
    assert (main.p, main.degrees) == (pytest.approx(of_means.pvalue), 4)
    assert single.p == pytest.approx(stats.ttest_ind(*np.log(two[:, :, 0])).pvalue)
    interval = of_means.confidence_interval()
    assert [main.interval.low, main.interval.high] == pytest.approx([*interval])
    assert main.change.estimate == pytest.approx(-0.5)
    assert decision.overall[0, 1] == "better"
    assert decision.by_configuration[0, 1] == ["better"] * 3


def test_the_variance_is_pooled_over_all_levels():
    three = values(1.0, 1.1, 2.0)
    main = decide(three).main[0, 1]
    means = np.log(three).mean(axis=2)
    pooled = np.mean([row.var(ddof=1) for row in means])
    error = math.sqrt(2 * pooled / 3)
    assert (main.error, main.degrees, main.levels) == (pytest.approx(error), 6, 3)
    t = abs(means[0].mean() - means[1].mean()) / error
    assert main.p == pytest.approx(2 * stats.t.sf(t, 6))


def test_where_variances_differ_wildly_welchs_test_takes_over():
    draw = np.random.default_rng(0)
    calm, wild = (np.exp(draw.normal(0, scale, (6, 1))) for scale in (0.001, 0.5))
    main = decide(np.array([calm, wild])).main[0, 1]
    assert main.is_welch
    expected = stats.ttest_ind(np.log(calm[:, 0]), np.log(wild[:, 0]), equal_var=False)
    assert (main.p, main.degrees) == (pytest.approx(expected.pvalue), pytest.approx(expected.df))


def test_higher_may_be_better():
    assert decide(values(1.0, 2.0), lower_is_better=False).overall[0, 1] == "worse"


def test_near_zero_differences_are_of_the_mean_size_and_no_ratios():
    near = np.array([[[0.3, 0.001]], [[0.1, -0.001]]])
    scaled = relative(near)
    assert np.diff(scaled[:, 0, 0]) == pytest.approx(np.log(0.1 / 0.3))
    assert scaled[..., 1] == pytest.approx(near[..., 1] / 0.001)
    _, details = seed_effects(near, [(0, 1)])
    assert [one.is_ratio for one in details[0, 1]] == [True, False]
    assert not seed_effects(near, [(0, 1)])[0][0, 1].is_ratio


def test_a_difference_and_a_ratio_agree_to_the_third_order():
    ratio, apart = (relative(np.array([[[1.05, least]], [[1.0, least]]])) for least in (1, -1))
    assert float(ratio[0, 0, 0] - ratio[1, 0, 0]) == pytest.approx(
        float((1.05 - 1) / np.mean([1.05, 1])), abs=1e-4
    )
    assert apart.shape == (2, 1, 2)


# What cannot be tested.


def test_one_seed_and_constant_differences_give_no_verdict():
    one = decide(values(1.0, 2.0)[:, :1])
    assert (one.main[0, 1].reason, one.main[0, 1].why) == (ONE_SEED, ONE_SEED)
    assert one.main[0, 1].change.estimate == pytest.approx(1 / 2 / 0.97 - 1)
    assert {each.verdict for each in one.details[0, 1]} == {"inconclusive"}
    same = decide(values(1.0, 2.0, spread=np.ones(3)))
    assert same.main[0, 1].reason == CONSTANT
    assert math.isnan(same.main[0, 1].p)


def test_missing_cells_leave_out_what_is_fewer_seeds_or_configurations():
    two = values(1.0, 2.0)
    two[0, 2, 1] = NAN  # a seed less, or a configuration less: 2 x 3 cells or 3 x 2
    there = np.isfinite(two).all(axis=0)
    seeds, configurations = complete_block(there)
    assert (len(seeds), len(configurations)) == (2, 3)
    decision = decide(two)
    assert decision.main[0, 1].n == 2
    assert [one.n for one in decision.details[0, 1]] == [3, 2, 3]
    two[1, :, 0] = NAN
    assert decide(two).details[0, 1][0].reason == NO_PAIR
    two[1] = NAN
    assert decide(two).main[0, 1].reason == NO_PAIR


@pytest.mark.parametrize("wrong", [np.ones((1, 3, 2)), np.ones((2, 3)), np.full((2, 2, 2), np.inf)])
def test_values_of_another_shape_or_infinite_are_refused(wrong):
    with pytest.raises(ValueError, match="levels, seeds, configurations"):
        decide(wrong)


# What a family allows.


def test_half_of_the_error_rate_passes_on_once_a_family_has_no_hypothesis_left():
    """Worked by hand: the main effect costs .01 / .5 = .02; then the details have all of it, so
    .012 * 2 = .024 and .04, each no less than the one before."""
    adjusted = graphical(np.array([0.01]), np.array([0.04, 0.012]))
    assert adjusted == pytest.approx([0.02, 0.04, 0.024])
    # Here the details are rejected first, at .002 * 2 / .5 and .01 / .5; then the main has all.
    assert graphical(np.array([0.03]), np.array([0.002, 0.01])) == pytest.approx(
        [0.03, 0.008, 0.02]
    )


def test_with_one_family_the_procedure_is_holms_and_untested_ones_cost_nothing():
    p = np.array([0.04, 0.001, 0.3, 0.02])
    assert graphical(p, np.empty(0)) == pytest.approx(holm(p))
    adjusted = graphical(np.array([0.03, NAN]), np.array([NAN]))
    assert adjusted[0] == pytest.approx(0.03)
    assert np.isnan(adjusted[1:]).all()


def test_a_single_configuration_is_tested_once():
    main, one = {(0, 1): effect(0.04)}, {(0, 1): (effect(0.04),)}
    decision = judge(main, one)
    assert decision.main[0, 1].adjusted == pytest.approx(0.04)
    assert decision.by_configuration[0, 1] == ["better"]


def test_a_main_effect_with_a_configuration_the_other_way_says_nothing_overall():
    main = {(0, 1): effect(0.001)}
    details = {(0, 1): (effect(0.001), effect(0.001, value=1.0))}
    decision = judge(main, details)
    assert decision.main[0, 1].verdict == "better"
    assert decision.overall[0, 1] == "inconclusive"
    assert decision.by_configuration[0, 1] == ["better", "worse"]


def test_what_was_decided_at_an_earlier_look_stays_decided():
    first = judge({(0, 1): effect(0.001)}, {(0, 1): ()}, 0.02, look=1)
    later = judge({(0, 1): effect(0.5)}, {(0, 1): ()}, 0.015, first, look=2)
    assert (later.main[0, 1].verdict, later.main[0, 1].look) == ("better", 1)
    assert later.main[0, 1].p == pytest.approx(0.5)
    open_yet = judge({(0, 1): effect(0.03)}, {(0, 1): ()}, 0.02, look=1)
    assert open_yet.main[0, 1].verdict == "inconclusive"
    assert judge({(0, 1): effect(0.01)}, {(0, 1): ()}, 0.015, open_yet, 2).main[0, 1].look == 2


def test_verdicts_do_not_change_with_the_order_of_seeds():
    draw = np.random.default_rng(1)
    some = np.exp(draw.normal(0, 0.2, (3, 4, 5)))
    back = decide(some[:, ::-1])
    for pair, one in decide(some).main.items():
        assert back.main[pair].adjusted == pytest.approx(one.adjusted)


# What would be enough, and an effect the other way round.


def test_seeds_needed_are_those_of_students_test_at_its_level():
    one = replace(effect(0.5, value=-0.1), error=0.05, degrees=4.0, levels=2, n=3)
    needed = one.seeds_needed()

    def reach(n):
        return stats.t.isf(0.025, 2 * (n - 1)) * 0.05 * math.sqrt(3 / n)

    assert reach(needed) < 0.1 <= reach(needed - 1)
    assert replace(one, value=-0.001).seeds_needed() is None  # more than a hundred
    assert replace(one, n=1, reason=ONE_SEED).seeds_needed() is None
    assert replace(one, covers=SAMPLING).seeds_needed() is None


def test_images_needed_grow_with_the_square_of_the_error():
    one = replace(effect(0.5, covers=SAMPLING), value=-0.1, error=0.1)
    assert one.images_needed() == pytest.approx(1.959964**2)
    assert replace(one, value=0.0).images_needed() is None
    assert replace(one, covers=TRAINING).images_needed() is None


def test_an_effect_the_other_way_round_has_the_other_verdict():
    one = effect(0.001).judged(0.002)
    back = one.reversed
    assert (one.verdict, back.verdict) == ("better", "worse")
    assert (back.value, back.p) == (1.0, pytest.approx(one.p))
    assert back.reversed == one
    assert one.is_first_ahead
    assert not back.is_first_ahead
