"""The questions of a grid: which there are, which pairs they compare, and what their errors are."""

import math
from dataclasses import replace

import made
import numpy as np
import pytest
from scipy import stats
from studies import by_sampler, by_steps, exactly, results, study, two_schedules

from harness.analysis.configurations import MetricInfo
from harness.analysis.decisions import (
    CONSTANT,
    DISAGREE,
    NO_PAIR,
    ONE_SEED,
    SAMPLING,
    TRAINING,
    UNMEASURED,
    decide,
)
from harness.analysis.factors import MATCHED, MISMATCHED
from harness.analysis.pairs import mean_size, sampling_effect
from harness.analysis.questions import (
    EXPLORATORY,
    compared,
    comparisons,
    exploratory,
    question_named,
    questions,
)
from harness.analysis.statistics import holm
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.answers import answers
from harness.report.findings.questions import what_else
from harness.work.looks import Look

KID = MetricInfo.of("kid")
LEARNS = (0.3, 0.1, 0.2, 0.05)  # linear and cosine at 5 steps, and at 50


def moved(value, moves, reference=None, **of):
    """A cell whose images move its value."""
    influences = {"kid": moves} | ({} if reference is None else {"kid_reference": reference})
    return made.result(made.cell(**of), kid=made.measured(value, 0.5), influences=influences)


def names(of):
    return [one.name for one in questions(of)]


def only(of):
    [question] = questions(of)
    return question


def single(effect_of):
    """The one comparison of a question of two levels."""
    [made_of] = only(effect_of).comparisons
    return made_of


# Which questions there are.


def test_each_factor_that_varies_is_a_question():
    assert names(two_schedules(*LEARNS)) == ["schedule", "steps"]
    assert names(by_sampler({"ddim": [0.1], "ddpm": [0.2]})) == ["sampler"]
    spaced = {("cosine", "ddim", 5, spacing): 0.1 for spacing in ("trailing", "leading")}
    assert names(study(spaced)) == ["spacing"]
    assert names(study({("cosine", "ddim", 5): 0.1})) == names(Study.of([])) == []


RECIPES = {
    "model": made.part("small"), "target": "velocity", "weighting": made.part("min_snr(gamma=4)"),
    "loss": "mae", "training_steps": 50, "batch_size": 5, "learning_rate": 2e-4, "ema": 0.99,
    "optimizer": "muon",
}  # fmt: skip


@pytest.mark.parametrize("field", RECIPES)
def test_each_part_of_a_recipe_is_a_question_that_retrains(field):
    cells = results({("cosine", "ddim", 5): 0.2, ("linear", "ddim", 5): 0.3})
    other = results(
        {("cosine", "ddim", 5): 0.1, ("linear", "ddim", 5): 0.2}, **{field: RECIPES[field]}
    )
    of = Study.of([*cells, *other])
    question = question_named(of, field)
    assert {one.name for one in questions(of)} == {"schedule", field}
    assert question.factor.retrains
    assert question.covers_training
    [main] = question.main
    better = RECIPES[field]
    assert main.winner == (better if isinstance(better, int | float) else str(better))
    assert [say.place(one) for one in main.comparisons] == [
        "cosine, ddim, 5 steps",
        "linear, ddim, 5 steps",
    ]
    assert [say.network(one) for one in main.comparisons] == ["cosine", "linear"]
    [answer] = [one for one in answers(of) if one.question.lower() == say.called(field).lower()]
    assert answer.headline == say.shown(main.winner)
    [told] = [one for one in what_else(of) if say.noun(field) in one.question]
    assert say.named(field, main.winner) in told.sentence


def test_levels_are_compared_in_every_configuration_that_both_have():
    of = study({("linear", "ddim", 5): 0.3, ("cosine", "ddim", 5): 0.2, ("linear", "ddpm", 5): 0.5,
                ("sigmoid", "ddim", 5): 0.25})  # fmt: skip
    schedule = question_named(of, "schedule")
    assert [(one.first, one.second) for one in schedule.main] == [
        ("cosine", "linear"), ("cosine", "sigmoid"), ("linear", "sigmoid"),
    ]  # fmt: skip
    assert all(len(one.comparisons) == 1 for one in schedule.main)
    assert [one.first.schedule for one in question_named(of, "sampler").comparisons] == ["linear"]
    alone = study({("linear", "ddim", 5): 0.3, ("cosine", "ddpm", 5): 0.2})
    assert questions(alone) == ()


def test_steps_are_compared_with_the_next_alone():
    question = only(by_steps({5: 0.3, 10: 0.2, 50: 0.1}))
    assert [(one.first, one.second) for one in question.main] == [(5, 10), (10, 50)]
    assert question.best == (50,)


def test_a_network_under_another_schedule_is_compared_with_itself_under_its_own():
    of = study({("linear", "ddim", 5): 0.1, ("linear sampled as cosine", "ddim", 5): 0.3,
                ("linear sampled as sigmoid", "ddim", 5): 0.2})  # fmt: skip
    question = only(of)
    assert question.levels == (MISMATCHED, MATCHED)
    assert question.best == (MATCHED,)
    assert [one.first.sampled for one in question.comparisons] == ["cosine", "sigmoid"]
    assert all(one.effect.covers == SAMPLING for one in question.comparisons)


def test_a_cell_that_is_missing_makes_a_question_incomplete():
    cells = two_schedules(*LEARNS).results
    assert not questions(Study.of(cells))[0].is_incomplete
    of = Study.of(cells[1:])
    assert all(one.is_incomplete for one in questions(of))


# What their errors are.


def test_schedules_are_compared_over_seeds_on_the_logarithm():
    linear, cosine = [0.30, 0.31, 0.28], [0.25, 0.28, 0.24]
    found = single(study({("linear", "ddim", 5): linear, ("cosine", "ddim", 5): cosine}))
    expected = stats.ttest_ind(np.log(cosine), np.log(linear))
    assert found.effect.p == pytest.approx(expected.pvalue)
    assert (found.effect.covers, found.effect.n) == (TRAINING, 3)
    assert not found.effect.is_paired


def test_a_question_that_retrains_is_decided_as_its_values_are():
    of = two_schedules(*LEARNS)
    table = np.array([[[one.corrected[seed] for one in of.configurations()
                        if one.schedule == schedule] for seed in range(3)]
                      for schedule in ("cosine", "linear")])  # fmt: skip
    decision, [main] = decide(table), question_named(of, "schedule").main
    assert main.effect == decision.main[0, 1]
    assert [one.effect for one in main.comparisons] == [*decision.details[0, 1]]


def test_only_training_seeds_that_both_have_count():
    values = {("cosine", "ddim", 5): [0.1, 0.11, 0.12], ("linear", "ddim", 5): [0.2, 0.22, 0.21, 9]}
    assert single(study(values)).effect.n == 3
    apart = [*results({("linear", "ddim", 5): [0.3]}), *results({("cosine", "ddim", 5): [9, 0.2]})]
    assert single(Study.of([apart[0], apart[2]])).effect.reason == NO_PAIR
    assert single(two_seeds := study({key: those[:1] for key, those in values.items()})).effect.why
    assert only(two_seeds).main[0].effect.reason == ONE_SEED


def test_one_network_sampled_in_two_ways_is_compared_image_by_image():
    draw = np.random.default_rng(0)
    common = draw.normal(size=50)
    first, second = (common + 0.1 * draw.normal(size=50) for _ in range(2))
    of = Study.of([moved(0.1, first), moved(0.3, second, sampler="ddpm")])
    found = single(of).effect
    # By the delta method: image i moves log(a) - log(b) by a_i / a - b_i / b.
    moves = (first.astype(np.float32) / 0.1 - second.astype(np.float32) / 0.3).astype(float)
    error = math.sqrt(sum((moves - moves.mean()) ** 2) / 49 / 50)
    assert found.is_paired
    assert (found.value, found.covers) == (pytest.approx(math.log(1 / 3)), SAMPLING)
    assert found.error == pytest.approx(error, rel=1e-5)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.value) / error), rel=1e-4)


def test_sampling_seeds_add_up_and_the_reference_is_the_same_for_all_of_them():
    draw = np.random.default_rng(1)
    moves, reference = draw.normal(size=(2, 2, 50)), draw.normal(size=(2, 2, 40))
    group = [
        tuple(
            moved(1.0, moves[noise, side], reference[noise, side],
                  sampler=("ddim", "ddpm")[side], sampling_seed=noise)
            for side in (0, 1)
        )
        for noise in (0, 1)
    ]  # fmt: skip
    images = sum((a - b).std(ddof=1) ** 2 / 50 for a, b in moves)
    of_reference = (reference.sum(0)[0] - reference.sum(0)[1]).std(ddof=1) ** 2 / 40
    error = sampling_effect([group], KID, [None]).error
    assert error == pytest.approx(math.sqrt(images + of_reference) / 2, rel=1e-5)


@pytest.mark.parametrize("change", ["no influences", "another noise", "another number of images"])
def test_where_images_are_not_alike_the_errors_are_taken_as_independent(change):
    moves = np.random.default_rng(0).normal(size=50)
    second = {
        "no influences": made.result(made.cell(sampler="ddpm"), kid=made.measured(1.0, 0.5)),
        "another noise": moved(1.0, moves, sampler="ddpm", sampling_seed=1),
        "another number of images": moved(1.0, moves[:40], sampler="ddpm"),
    }[change]
    found = sampling_effect([[(moved(1.0, moves), second)]], KID, [None])
    if change == "another noise":  # independent images, each with its own spread
        assert found.error == pytest.approx(moves.std(ddof=1) * math.sqrt(2 / 50), rel=1e-5)
    else:
        assert not found.is_paired
        assert found.error == pytest.approx(math.sqrt(0.5))


def test_a_sampler_difference_is_found_as_often_as_the_error_says():
    """Between equals, one of twenty intervals misses zero (of 50 images a few more)."""
    draw, missed, rounds = np.random.default_rng(0), 0, 400
    for _ in range(rounds):
        first, second = draw.normal(size=(2, 50))
        pair = (moved(9 + first.mean(), first), moved(9 + second.mean(), second, sampler="ddpm"))
        missed += sampling_effect([[pair]], KID, [None]).p < 0.05
    assert missed / rounds == pytest.approx(0.056, abs=0.025)


def test_networks_that_disagree_give_no_verdict():
    of = study({("cosine", "ddim", 5): [0.1, 0.1, 0.1], ("cosine", "ddpm", 5): [0.2, 0.2, 0.05]})
    assert single(of).effect.reason == DISAGREE
    assert only(of).open


def test_differences_of_values_at_zero_are_no_ratios_and_no_division_by_zero():
    assert mean_size([0.0, 0.0]) == 1.0
    of = by_sampler({"ddim": [[0.0]], "ddpm": [[0.0]]}, error=0.01)
    found = single(of).effect
    assert (found.value, found.verdict, found.is_ratio) == (0.0, "inconclusive", False)


def test_without_an_error_samplers_are_compared_over_seeds():
    of = by_sampler({"ddim": [0.1], "ddpm": [0.3]}, error=None)
    assert single(of).effect.covers == TRAINING
    one_seed = by_sampler({"ddim": [[0.1]], "ddpm": [[0.3]]}, error=None)
    assert single(one_seed).effect.reason in (UNMEASURED, ONE_SEED)
    alike = by_sampler({"ddim": [0.1], "ddpm": [0.1]}, error=0.0)
    assert single(alike).effect.reason == CONSTANT


def test_exact_denoisers_are_compared_by_sampling_error_and_nothing_trained_is_said():
    values = {("cosine", "ddim", 10): [0.1], ("linear", "ddim", 10): [0.1]}
    pair = [exactly(one, value) for one, value in zip(results(values), (0.1, 0.9), strict=True)]
    [main] = only(Study.of(pair)).main
    assert (main.effect.covers, main.winner) == (SAMPLING, "cosine")


def test_effects_are_of_values_less_their_bias():
    cells = [made.cell("cosine", sampler) for sampler in ("ddim", "ddpm")]
    fids = made.measured(5.0, corrected=4.0), made.measured(7.0, corrected=4.5)
    pair = [made.result(cell, fid=fid) for cell, fid in zip(cells, fids, strict=True)]
    found = single(Study.of(pair))
    assert found.effect.value == pytest.approx(math.log(4.0 / 4.5))


# What is decided.


def test_the_best_level_is_better_than_all_others_and_else_several_may_be():
    clear = {("linear", "ddim", 5): 0.4, ("cosine", "ddim", 5): 0.1, ("sigmoid", "ddim", 5): 0.2}
    question = only(study(clear))
    assert (question.best, question.is_decided, question.open) == (("cosine",), True, [])
    near = only(study(clear | {("sigmoid", "ddim", 5): [0.1, 0.12, 0.09]}))
    assert near.best == ("cosine", "sigmoid")
    assert [(one.first, one.second) for one in near.open] == [("cosine", "sigmoid")]
    assert near.better_than("linear") == ["cosine", "sigmoid"]


def test_where_a_configuration_is_decided_the_other_way_nothing_is_open():
    question = question_named(two_schedules(0.3, 0.1, 0.05, 0.2), "schedule")
    [main] = question.main
    assert main.is_opposed
    assert (main.winner, question.open, question.is_decided) == (None, [], False)
    # As where the networks of two schedules disagree about steps, each significantly.
    steps = question_named(two_schedules(0.3, 0.1, 0.05, 0.2), "steps")
    assert steps.main[0].effect.reason == DISAGREE
    assert steps.main[0].is_opposed
    assert steps.open == []


def test_more_steps_that_do_not_help_leave_several_numbers_of_them():
    values = {5: 0.3, 10: 0.2, 20: 0.2, 50: 0.1}
    assert only(by_steps(values)).best == (50,)
    assert only(by_steps({5: 0.3, 10: 0.2, 20: 0.2})).best == (10, 20)
    assert only(by_steps({5: 0.1, 10: 0.2})).best == (5,)
    # Better than the 10 that lost, and not compared with 5.
    assert only(by_steps({5: 0.1, 10: 0.2, 20: 0.15})).best == (5, 20)


def test_one_computation_under_two_names_counts_once_among_the_pairs():
    values = {("linear", "ddim", 5): [0.3, 0.2], ("cosine", "ddim", 5): [0.1, 0.15]}
    twice = values | {(schedule, "euler", 5): both for (schedule, _, _), both in values.items()}
    for given in (values, twice):
        [main] = question_named(study(given), "schedule").main
        assert main.agreement == (2, 2)


def test_means_and_agreement_are_over_the_configurations_that_both_have():
    [main] = question_named(two_schedules([0.3, 0.2], [0.1, 0.3], 0.2, 0.05), "schedule").main
    assert main.agreement == (4, 5)  # one of two at 5 steps, three of three at 50
    assert main.means == pytest.approx((0.125, 0.225), abs=0.001)
    assert {*main.keys} == {one.cell.key for one in two_schedules(
        [0.3, 0.2], [0.1, 0.3], 0.2, 0.05).results}  # fmt: skip


def test_comparisons_come_by_steps_and_those_of_one_question_on_demand():
    of = two_schedules(*LEARNS)
    assert [one.steps for one in comparisons(of, "schedule")] == [5, 50]
    assert {one.question for one in comparisons(of)} == {"schedule", "steps"}


def test_what_a_question_compares_has_its_verdict_in_either_direction():
    of = two_schedules(*LEARNS)
    [made_of, _] = comparisons(of, "schedule")
    assert compared(of, made_of.first, made_of.second) is made_of
    back = compared(of, made_of.second, made_of.first)
    assert (back.question, back.verdict) == ("schedule", "worse")
    assert back.winner is back.second


def test_what_is_chosen_after_looking_is_judged_together_by_holm():
    of = study({("linear", "ddim", 5): 0.3, ("cosine", "ddpm", 5): 0.2,
                ("linear", "ddim", 9): 0.25, ("sigmoid", "ab2", 9): [0.1, 0.4, 0.2]})  # fmt: skip
    first, second, *_ = of.configurations()
    pairs = [(one, other) for one in of.configurations() for other in of.configurations()
             if one.label < other.label]  # fmt: skip
    made_of = exploratory(of, pairs)
    assert {one.question for one in made_of} == {EXPLORATORY}
    assert [one.effect.adjusted for one in made_of] == pytest.approx(
        [*holm([one.effect.p for one in made_of])]
    )
    assert math.isnan(compared(of, first, second).effect.adjusted)
    within = [(one.first, one.second) for one in comparisons(of, "steps")]
    assert [one.question for one in exploratory(of, within)] == ["steps"]


def test_verdicts_do_not_change_with_the_order_of_results():
    of = two_schedules(*LEARNS)
    back = Study.of([replace(one) for one in reversed(of.results)])
    assert [(one.keys, one.effect) for one in comparisons(of)] == [
        (one.keys, one.effect) for one in comparisons(back)
    ]


def test_a_look_that_saw_nothing_of_a_level_leaves_it_open():
    cells = results({("cosine", "ddim", 5): 0.1, ("cosine", "ddpm", 5): 0.2})
    late = [replace(one, cell=replace(one.cell, sampling_seed=7)) for one in cells]
    looks = Look((0, 1, 2), (0,)), Look((0, 1, 2), (0, 7))
    assert only(Study(tuple(late), looks=looks)).main[0].effect.look == 2
    first = results({("cosine", "heun", 5): 0.3})
    effects = only(Study((*late, *first), looks=looks)).main
    assert [one.effect.reason == NO_PAIR for one in effects] == [False, True, True]
