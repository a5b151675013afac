"""Comparisons: which pairs are made, how their errors are had, and what all together allow."""

import math
from dataclasses import replace

import made
import numpy as np
import pytest
from studies import by_sampler, by_steps, exactly, results, study, two_schedules

from harness.analysis.comparisons import (
    asked,
    compared,
    comparison_of,
    comparisons,
    difference_of,
)
from harness.analysis.configurations import MetricInfo
from harness.analysis.statistics import SAMPLING, TRAINING, holm, paired_difference
from harness.analysis.study import Study
from harness.work.cells import Part

KID = MetricInfo.of("kid")


def moved(value, moves, reference=None, **of):
    """A cell whose images move its value."""
    influences = {"kid": moves} | ({} if reference is None else {"kid_reference": reference})
    return made.result(made.cell(**of), kid=made.measured(value, 0.5), influences=influences)


def names(of, question):
    return [(one.first.label, one.second.label, one.steps) for one in asked(of, question)]


def test_schedules_are_paired_by_training_seed():
    luck = np.array([0.0, 0.5, -0.3])
    a, b = luck + np.array([0.1, 0.12, 0.11]), luck + np.array([0.2, 0.21, 0.22])
    of = study({("cosine", "ddim", 10): [*a], ("linear", "ddim", 10): [*b, 99.0]})
    made_of = compared("schedule", *of.configurations())
    assert made_of.difference == paired_difference(a, b)
    assert made_of.difference.covers == TRAINING


def test_one_network_sampled_in_two_ways_is_compared_image_by_image():
    draw = np.random.default_rng(0)
    common = draw.normal(size=50)
    first, second = (common + 0.1 * draw.normal(size=50) for _ in range(2))
    pair = (moved(0.1, first), moved(0.3, second, sampler="ddpm"))
    found = difference_of([pair], KID)
    # The standard error of the mean of (first - second), written out.
    apart = first.astype(np.float32).astype(float) - second.astype(np.float32).astype(float)
    error = math.sqrt(sum((apart - apart.mean()) ** 2) / 49) / math.sqrt(50)
    assert found.is_paired
    assert found.difference.covers == SAMPLING
    assert found.difference.high - found.difference.low == pytest.approx(
        2 * 1.959964 * error, rel=1e-5
    )
    assert found.means == pytest.approx((0.1, 0.3))


def test_sampling_seeds_add_up_and_the_reference_is_the_same_for_all_of_them():
    draw = np.random.default_rng(1)
    moves, reference = draw.normal(size=(2, 2, 50)), draw.normal(size=(2, 2, 40))
    pairs = [
        tuple(
            moved(0.1 + side, moves[noise, side], reference[noise, side],
                  sampler=("ddim", "ddpm")[side], sampling_seed=noise)
            for side in (0, 1)
        )
        for noise in (0, 1)
    ]  # fmt: skip
    difference = difference_of(pairs, KID).difference
    images = sum((a - b).std(ddof=1) ** 2 / 50 for a, b in moves)
    of_reference = (reference.sum(0)[0] - reference.sum(0)[1]).std(ddof=1) ** 2 / 40
    assert (difference.high - difference.low) / 2 == pytest.approx(
        1.959964 * math.sqrt(images + of_reference) / 2, rel=1e-5
    )


@pytest.mark.parametrize("change", ["no influences", "another noise", "another number of images"])
def test_where_images_are_not_alike_the_errors_are_taken_as_independent(change):
    moves = np.random.default_rng(0).normal(size=50)
    second = {
        "no influences": made.result(made.cell(sampler="ddpm"), kid=made.measured(0.3, 0.5)),
        "another noise": moved(0.3, moves, sampler="ddpm", sampling_seed=1),
        "another number of images": moved(0.3, moves[:40], sampler="ddpm"),
    }[change]
    found = difference_of([(moved(0.1, moves), second)], KID)
    assert not found.is_paired
    assert found.difference.high - found.difference.low == pytest.approx(
        2 * 1.959964 * math.sqrt(0.5), rel=1e-5
    )


def test_exact_denoisers_are_compared_by_sampling_error_and_nothing_trained_is_said():
    first, second = (exactly(one, value) for one, value in zip(
        results({("cosine", "ddim", 10): [0.1], ("linear", "ddim", 10): [0.1]}), (0.1, 0.9),
        strict=True))  # fmt: skip
    found = difference_of([(first, second)], KID)
    assert (found.is_exact, found.difference.covers) == (True, SAMPLING)
    assert found.difference.verdict == "better"


def test_no_pair_is_no_difference():
    difference = difference_of([], KID).difference
    assert (difference.n, difference.verdict) == (0, "inconclusive")


def test_a_sampler_difference_is_found_as_often_as_the_error_says():
    """Between equals, one of twenty intervals misses zero (of 50 images a few more)."""
    draw, missed, rounds = np.random.default_rng(0), 0, 400
    for _ in range(rounds):
        first, second = draw.normal(size=(2, 50))
        pair = (moved(first.mean(), first), moved(second.mean(), second, sampler="ddpm"))
        difference = difference_of([pair], KID).difference
        missed += difference.low > 0 or difference.high < 0
    assert missed / rounds == pytest.approx(0.056, abs=0.025)


def test_all_comparisons_are_corrected_together_by_holm():
    of = by_sampler({"ddim": [0.10, 0.08, 0.06], "ddpm": [0.1018, 0.0818, 0.0603]})
    made_of = comparisons(of)
    alone = [compared(one.question, one.first, one.second).difference for one in made_of]
    assert [one.difference.p for one in made_of] == pytest.approx(
        [*holm([one.p for one in alone])], nan_ok=True
    )
    withdrawn = [
        one.difference
        for one, before in zip(made_of, alone, strict=True)
        if before.verdict != one.difference.verdict
    ]
    assert withdrawn
    reason = f"not significant after correction for {len(made_of)} comparisons"
    assert {one.reason for one in withdrawn} == {reason}


def test_a_pair_that_answers_two_questions_is_counted_once():
    of = by_sampler({"ddim": [0.1], "ddpm": [0.3]})  # also the best configuration and the next
    assert [one.question for one in comparisons(of)] == ["sampler"]
    assert comparisons(of) is comparisons(of)
    first, second = of.configurations()
    assert comparison_of(comparisons(of), second, first) is comparisons(of)[0]
    assert comparison_of([], first, second) is None


def test_the_best_schedule_is_compared_with_the_next_with_the_sampler_that_is_best():
    of = study({("linear", "ddim", 5): 0.3, ("cosine", "ddim", 5): 0.2, ("linear", "ddpm", 5): 0.5,
                ("cosine", "ddpm", 5): 0.6, ("sigmoid", "ddim", 5): 0.25})  # fmt: skip
    assert names(of, "schedule") == [("cosine with ddim", "sigmoid with ddim", 5)]


def test_ddim_is_compared_with_ddpm_with_the_most_eta_and_the_best_sampler_with_the_next():
    of = by_sampler({"ddim": [0.3], "ddpm": [0.2], "ddim(eta=0.5)": [0.25], "ddim(eta=1)": [0.4],
                     "heun": [0.1]})  # fmt: skip
    assert [(a, b) for a, b, _ in names(of, "sampler")] == [
        ("cosine with ddim", "cosine with ddpm"), ("cosine with heun", "cosine with ddpm"),
    ]  # fmt: skip
    assert names(of, "eta") == [("cosine with ddim", "cosine with ddim(eta=1.0)", 5)]


def test_the_best_spacing_is_compared_with_the_next_where_the_best_is_spaced_in_several_ways():
    of = study({("cosine", "ddim", 5, spacing): value for spacing, value in
                {"trailing": 0.2, "leading": 0.1, "log_snr": 0.3}.items()})  # fmt: skip
    [one] = asked(of, "spacing")
    assert (one.first.spacing, one.second.spacing) == ("leading", "trailing")


def test_a_matched_schedule_is_compared_with_the_best_mismatched_one():
    of = study({("linear", "ddim", 5): 0.1, ("linear sampled as cosine", "ddim", 5): 0.3,
                ("linear sampled as sigmoid", "ddim", 5): 0.2})  # fmt: skip
    [one] = asked(of, "mismatched")
    assert (one.first.schedule, one.second.schedule) == ("linear", "linear sampled as sigmoid")
    assert one.difference.covers == SAMPLING


def test_with_the_best_configuration_each_number_of_steps_is_compared_with_the_one_before():
    of = study({("cosine", "ddim", n): value for n, value in ((5, 0.3), (10, 0.2), (20, 0.1))}
               | {("linear", "ddim", n): 1.0 for n in (5, 10, 20)})  # fmt: skip
    assert [(one.first.steps, one.second.steps) for one in asked(of, "steps")] == [
        (10, 5), (20, 10),
    ]  # fmt: skip
    assert all(one.first.schedule == "cosine" for one in asked(of, "steps"))


def test_what_others_published_is_compared_for_trained_networks_under_their_schedule():
    values = {("cosine", sampler, 10): value for sampler, value in
              {"ddim": 0.2, "ab2": 0.1, "heun": 0.05}.items()}  # fmt: skip
    assert names(study(values), "published") == [("cosine with ddim", "cosine with ab2", 10)]
    assert asked(study(values, model=Part("exact")), "published") == []


def test_a_difference_without_a_verdict_says_what_would_decide_it():
    [seeds] = asked(study({("linear", "ddim", 5): [0.3], ("cosine", "ddim", 5): [0.1]}), "schedule")
    assert seeds.would_decide == "at least two more training seeds"
    [images] = asked(by_steps({5: [0.11], 10: [0.10]}, error=0.01), "steps")
    # The reach is 1.96 * 0.0141 = 0.0277, the difference 0.01: (2.77)^2 = 7.7.
    assert images.would_decide == "about 8 times as many images per cell"
    [tie] = asked(by_steps({5: [0.1001], 10: [0.10]}, error=0.01), "steps")
    assert "a tie (within 0.028)" in tie.would_decide
    [decided] = asked(by_steps({5: [0.5], 10: [0.1]}), "steps")
    assert decided.would_decide == ""
    assert decided.winner is decided.first


def test_verdicts_do_not_change_with_the_order_of_results():
    of = two_schedules(0.3, 0.1, 0.2, 0.05)
    back = Study.of([replace(one) for one in reversed(of.results)])
    assert [(one.keys, one.difference) for one in comparisons(of)] == [
        (one.keys, one.difference) for one in comparisons(back)
    ]


def test_differences_are_of_values_less_their_bias():
    cells = [made.cell("cosine", sampler) for sampler in ("ddim", "ddpm")]
    fids = made.measured(5.0, corrected=4.0), made.measured(7.0, corrected=4.5)
    pair = tuple(made.result(cell, fid=fid) for cell, fid in zip(cells, fids, strict=True))
    found = difference_of([pair], MetricInfo.of("fid"))
    assert found.means == (4.0, 4.5)
    assert found.difference.value == -0.5


def test_a_pair_that_is_asked_about_in_both_directions_is_counted_once():
    # ddim against ddpm for its own sake, and the best sampler, which is ddpm, against the next.
    made_once = comparisons(by_sampler({"ddim": [0.3], "ddpm": [0.1]}, steps=(10,)))
    assert [(one.first.kind, one.second.kind) for one in made_once] == [("ddim", "ddpm")]
