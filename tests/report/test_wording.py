"""Numbers, lists and comparisons in words."""

import math

import numpy as np
import pytest
from studies import study

from harness.analysis.decisions import DISAGREE, ONE_SEED, SAMPLING, TRAINING, UNMEASURED, Effect
from harness.analysis.questions import compared, comparisons, questions
from harness.analysis.statistics import Interval
from harness.report import wording as say
from harness.report.wording import (
    at_steps,
    change,
    count,
    estimate,
    interval,
    listed,
    needed,
    number,
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


def effect(value, error=0.05, **fields):
    """Of two levels, on a normal distribution: its bounds are 1.96 errors away."""
    return Effect(value, error, np.inf, 3, **{"covers": SAMPLING} | fields)


def test_a_change_is_in_per_cent_with_its_bounds_in_the_same_direction():
    assert change(effect(math.log(0.43), 0.07)) == "57 % lower [51, 63]"
    assert change(effect(math.log(1.5), 0.07)) == "50 % higher [31, 72]"
    assert change(effect(math.log(0.43), math.nan)) == "57 % lower"
    assert change(Interval(0.5, 0.4, 0.6, 3)) == "50 % higher [40, 60]"


def test_a_change_whose_sign_is_open_says_so():
    assert change(effect(-0.05)) == "5 % lower [14 lower to 5 higher]"
    assert change(effect(0.0, 0.05)) == "0 % [9 lower to 10 higher]"


def test_a_ratio_that_means_nothing_is_not_said():
    assert change(effect(math.log(5))) == ""
    assert change(effect(0.0, 1.0)) == ""  # from a seventh to seven times
    assert change(effect(-0.1, is_ratio=False)) == ""
    assert change(effect(math.nan)) == ""


def test_a_gap_is_of_the_one_ahead_and_falls_back_on_means():
    of = study({("cosine", "ddim", 5): 0.1, ("cosine", "ddpm", 5): 0.2, ("cosine", "heun", 5): 2.0})
    by_pair = {say.contest(one): say.gap(one) for one in comparisons(of, "sampler")}
    assert by_pair["ddim against ddpm"].startswith("50 % lower")
    worse = study({("cosine", "ddim", 5): 0.2, ("cosine", "ddpm", 5): [-0.001, 0.001, 0.0]})
    [one] = comparisons(worse, "sampler")
    assert say.gap(one) == "0 instead of 0.200"


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (effect(-0.5, verdict="better"), ""),
        (effect(-0.05), "4 times as many images"),  # (1.96 * .05 / .05)^2
        (effect(-0.001, 0.2), "more than 100 times as many images"),
        (effect(-0.001, 0.01), "a tie for practical purposes (within 2.0 %)"),
        (effect(-0.3, 0.2, covers=TRAINING), "7 training seeds"),
        (effect(-0.001, 0.2, covers=TRAINING), "more than 100 training seeds"),
        (effect(-0.3, math.nan, covers=TRAINING, reason=ONE_SEED), "at least 2 training seeds"),
        (effect(-0.3, reason=DISAGREE), "more training seeds"),
        (effect(-0.3, reason=UNMEASURED), "a metric whose error can be measured"),
    ],
)
def test_what_an_open_effect_needs_is_seeds_images_or_nothing_but_a_tie(one, words):
    assert needed(one) == words


def test_a_comparison_has_its_levels_and_what_they_share_for_a_name():
    of = study({("cosine", sampler, n): 0.1 + n / 1000 for sampler in ("ddim", "ddpm")
                for n in (5, 10)} | {("linear sampled as cosine", "ddim", 5): 0.3,
                                     ("linear", "ddim", 5): 0.2})  # fmt: skip
    named = [f"{say.contest(one)}: {say.place(one)}" for one in comparisons(of)]
    assert sorted(named) == [
        "5 against 10: cosine, ddim", "5 against 10: cosine, ddpm",
        "another schedule against its own schedule: linear sampled as cosine, ddim, 5 steps",
        "cosine against linear: ddim, 5 steps", "ddim against ddpm: cosine, 10 steps",
        "ddim against ddpm: cosine, 5 steps",
    ]  # fmt: skip
    first, *_, last = of.configurations()
    loose = compared(of, first, last)
    assert say.place(loose) == ""
    assert say.contest(loose) == "cosine with ddim at 5 steps against linear sampled as cosine " + (
        "with ddim at 5 steps"
    )


def test_levels_that_are_numbers_or_switches_are_named_by_what_they_are():
    assert say.named("batch_size", 64) == "batch size 64"
    assert say.named("training_steps", 2000) == "training for 2,000 steps"
    assert say.named("clip", "False") == "no clipping"
    assert say.named("clip", "dynamic") == "dynamic clipping"
    assert say.named("schedule", "cosine") == "cosine"


def test_a_verdict_is_one_line_for_a_tracker():
    of = study({("cosine", "ddim", 5): 0.1, ("linear", "ddim", 5): 0.2})
    [question] = questions(of)
    [main] = question.main
    start = "cosine against linear, overall: better, KID 50"
    assert say.verdict(main).startswith(start)
    assert say.verdict(main.comparisons[0]).startswith(start.replace("overall", "ddim, 5 steps"))
    one_seed = study({("cosine", "ddim", 5): [0.1], ("linear", "ddim", 5): [0.2]})
    assert say.verdict(questions(one_seed)[0].main[0]).endswith(f"({ONE_SEED})")
