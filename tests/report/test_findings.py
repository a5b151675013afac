"""Every finding with a study in which it is true, one with nothing to say, one that is undecidable,
and one with a single cell: verdict, effect, interval and evidence."""

import math
from dataclasses import replace

import made
import numpy as np
import pytest
from studies import (
    before,
    by_sampler,
    by_steps,
    exactly,
    forecast,
    results,
    study,
    two_schedules,
)

from harness.analysis.study import Study, studies
from harness.registry import Registry
from harness.report.findings import catalogue
from harness.report.findings.catalogue import FINDINGS, IN_ORDER, all_findings, answers
from harness.work.results import PixelSpread, SamplingPath

LEARNS = (0.3, 0.1, 0.2, 0.05)  # linear and cosine at 5 steps, and at 50
ONE_SEED = ([0.3], [0.1], [0.2], [0.05])
DIM = {"ddim": [0.1, 0.08, 0.06, 0.05], "ddpm": [0.3, 0.15, 0.1, 0.02]}
ALIKE = {"ddim": [0.1, 0.08, 0.06, 0.05], "ddpm": [0.1, 0.0801, 0.06, 0.02]}


def spreads(predicted, measured, last=(1.0, 0.95), values=LEARNS, error=0.002):
    """Linear and cosine with their pixel standard deviation, predicted and measured, and the
    signal rate at their last time."""

    def more(result):
        place = ["linear", "cosine"].index(str(result.cell.training.schedule))
        return replace(
            result,
            pixel_spread=PixelSpread(measured[place], error, predicted[place]),
            path=SamplingPath(4.1e-5, last[place] ** 2, 0),
        )

    return two_schedules(*values, more=more)


def still_training(change, moves=None, metric="kid", **options):
    """Linear and cosine whose cells at 50 steps were higher by this share at 90 %."""

    def more(result):
        if moves is None:
            return result
        now = made.result(result.cell, influences={"kid": moves + 0.01})
        return replace(result, artifacts=now.artifacts)

    now = two_schedules(*LEARNS, metric=metric, more=more, **options).results
    then = [
        before(one, metric, 1 + change[str(one.cell.training.schedule)], moves)
        for one in now
        if one.cell.steps == 50
    ]
    return Study.of([*now, *then])


def beside(values, error=0.005, **options):
    """DDIM and others at 50 steps with other metrics: {sampler: {metric: value}}."""

    def more(result):
        others = values[str(result.cell.sampler)]
        extra = {name: made.measured(value, error) for name, value in others.items()}
        return replace(result, measurements={**result.measurements, **extra})

    return by_sampler({name: [0.1] for name in values}, steps=(50,), more=more, **options)


def with_exact(exact):
    networks = results({("cosine", "ddim", 5): 0.3, ("cosine", "ddim", 50): 0.1})
    once = [one for one in networks if one.cell.training.seed == 0]
    return Study.of([*networks, *(exactly(one, exact[one.cell.steps]) for one in once)])


def spaced(trailing, leading, **options):
    values = {("cosine", "ddim", n, spacing): value
              for spacing, pair in (("trailing", trailing), ("leading", leading))
              for n, value in zip((5, 50), pair, strict=True)}  # fmt: skip
    return study(values, **options)


def noises(error):
    """Three networks, twenty sampling seeds."""
    values = np.random.default_rng(0).normal(0.1, 0.01, (20, 3))
    return study({("cosine", "ddim", 10): values}, error=error)


def priced(noise):
    """A millisecond and two for each evaluation, with noise of either sign."""
    sign = {}

    def seconds(cell):
        sign[0] = -sign.get(0, 1)
        return (0.001 + 0.002 * cell.steps) * (1 + noise * sign[0])

    return by_steps({5: 0.2, 10: 0.1, 50: 0.05}, seconds=seconds)


def milliseconds(cell):
    return cell.steps / 1000


CROSSED = {
    ("linear", "ddim", 10): 0.1, ("linear sampled as cosine", "ddim", 10): 0.2,
    ("cosine", "ddim", 10): 0.05, ("cosine sampled as linear", "ddim", 10): 0.02,
}  # fmt: skip
SAMPLERS = {"ddim": (0.3, 0.1), "ab2": (0.2, 0.1), "ddpm": (0.4, 0.3), "ddpm_large": (0.6, 0.2)}
NAN = math.nan

# finding: (study, verdict, effect, the number of cells it rests on)
TRUE = {
    "best_of_all": (two_schedules(*LEARNS), "better", 0.05, 6),
    "schedule_at_few_steps": (two_schedules(*LEARNS), "better", -0.2, 6),
    "schedule_at_many_steps": (two_schedules(0.1, 0.3, 0.05, 0.2), "better", -0.15, 6),
    "schedule_across_steps": (two_schedules(*LEARNS), "better", -0.15, 12),
    "published_schedules": (two_schedules(0.2, 0.3, 0.2, 0.1), "measured", -0.1, 12),
    "why_at_few_steps": (spreads((0.65, 0.71), (0.7, 0.75)), "measured", 0.06, 6),
    "pixel_spread_lost": (spreads((0.95, 0.9), (0.96, 0.89)), "measured", -0.11, 6),
    "ddim_against_ddpm": (by_sampler(DIM), "better", -0.2, 24),
    "effect_of_eta": (
        by_sampler({"ddim": [0.1, 0.05], "ddim(eta=0.5)": [0.2, 0.04], "ddim(eta=1)": [0.3, 0.02]}),
        "better", -0.2, 12,
    ),
    "effect_of_spacing": (spaced((0.1, 0.05), (0.2, 0.03)), "better", -0.1, 12),
    "published_order": (by_sampler(SAMPLERS, steps=(10, 50)), "measured", -0.1, 21),
    "fewest_evaluations_near_the_best": (
        by_steps({5: 0.3, 10: 0.102, 50: 0.1}, baseline=-0.01), "measured", 0.002 / 0.11, 6,
    ),
    "more_steps": (by_steps({5: 0.4, 10: 0.2, 20: 0.1}), "better", -0.1, 9),
    "best_under_a_budget": (by_sampler(DIM), "better", 0.08, 6),
    "best_under_a_time_budget": (by_sampler(DIM, seconds=milliseconds), "better", 0.08, 6),
    "pareto_front": (by_sampler(DIM, seconds=milliseconds), "measured", NAN, 12),
    "price_of_an_evaluation": (priced(0.001), "measured", 0.002, 9),
    "forecast_against_actual": (forecast(1.1), "measured", 0.1, 3),
    "between_seed_variance": (two_schedules(*LEARNS), "measured", np.std([0, 4, -3], ddof=1) / 1e3,
                              12),
    "sampling_variance": (noises(0.01), "measured", 0.01, 60),
    "training_long_enough": (
        still_training({"linear": 0.0, "cosine": 0.2}, baseline=0.0), "measured", 1 / 6, 6,
    ),
    "sampler_against_network": (with_exact({5: 0.2, 50: 0.01}), "measured", 0.09, 8),
    "mismatched_schedules": (study(CROSSED), "better", -0.1, 12),
    "distance_to_real_images": (by_steps({5: 0.3, 50: 0.1}, baseline=0.0), "worse", 0.1, 3),
    "variety_against_fidelity": (
        beside({"ddim": {"precision": 0.9, "recall": 0.6}, "ddpm": {"precision": 0.7,
                                                                    "recall": 0.8}}),
        "measured", 0.2, 6,
    ),
    "memorisation": (beside({"ddim": {"memorisation": 0.3}}), "worse", 0.3, 3),
    "inconclusive_comparisons": (two_schedules(*ONE_SEED), "inconclusive", -0.2, 4),
}  # fmt: skip

# finding: a study of which it has nothing to say
NOTHING = {
    **dict.fromkeys(IN_ORDER, two_schedules(*LEARNS)),
    "best_of_all": study({("cosine", "ddim", 5): 0.1}),
    "schedule_at_few_steps": by_sampler(DIM),
    "schedule_at_many_steps": study({("linear", "ddim", 5): 0.1, ("cosine", "ddim", 5): 0.2}),
    "schedule_across_steps": study({("linear", "ddim", 5): 0.1, ("cosine", "ddim", 5): 0.2}),
    "published_schedules": study({("linear", "ddim", 5): 0.1, ("sigmoid", "ddim", 5): 0.2}),
    "pixel_spread_lost": spreads((0.95, 0.9), (0.96, 0.89), last=(1.0, 1.0)),
    "published_order": by_sampler({"ddim": [0.1], "euler": [0.2]}),
    "fewest_evaluations_near_the_best": by_steps({5: 0.3}),
    "more_steps": by_steps({5: 0.3}),
    "best_under_a_budget": by_steps({100: 0.2, 200: 0.1}),
    "pareto_front": study({("linear", "ddim", 5): 0.1, ("cosine", "ddim", 5): 0.2}),
    "between_seed_variance": Study.of([]),
}

UNDECIDABLE = {
    "best_of_all": two_schedules(0.3, 0.1, [0.05], [0.05]),
    "schedule_at_few_steps": two_schedules(*ONE_SEED),
    "schedule_at_many_steps": two_schedules(0.3, 0.1, [0.10, 0.13, 0.11], [0.11, 0.10, 0.13]),
    "schedule_across_steps": two_schedules(*ONE_SEED),
    "published_schedules": two_schedules(*ONE_SEED),
    "why_at_few_steps": spreads((0.65, 0.71), (0.7, 0.75), values=ONE_SEED),
    "pixel_spread_lost": spreads((0.95, 0.9), (0.96, 0.89), error=0.2),
    "ddim_against_ddpm": by_sampler(ALIKE, steps=(5, 10), error=0.01),
    "effect_of_eta": by_sampler({"ddim": [0.1], "ddim(eta=1)": [0.101]}, error=0.01),
    "effect_of_spacing": spaced((0.1, 0.05), (0.101, 0.0501), error=0.01),
    "published_order": by_sampler(ALIKE, steps=(5, 10), error=0.01),
    "fewest_evaluations_near_the_best": by_steps({5: 0.3, 50: 0.001}, baseline=0.0, error=0.01),
    "more_steps": by_steps({5: 0.2, 10: 0.199}, error=0.01),
    "best_under_a_budget": by_sampler(ALIKE, error=0.01),
    "best_under_a_time_budget": by_sampler(ALIKE, error=0.01, seconds=milliseconds),
    "pareto_front": by_steps({5: 0.2, 10: 0.199}, error=0.01),
    "price_of_an_evaluation": priced(0.9),
    "forecast_against_actual": forecast(2.0, steps=(5,)),
    "between_seed_variance": two_schedules(*ONE_SEED),
    "training_long_enough": still_training({"linear": 0.0, "cosine": 0.02}, error=0.02),
    "sampler_against_network": with_exact({5: 0.2, 50: 0.0999}),
    "mismatched_schedules": study({("linear", "ddim", 10): 0.1,
                                   ("linear sampled as cosine", "ddim", 10): 0.1001}, error=0.01),
    "distance_to_real_images": by_steps({5: 0.3, 50: 0.001}, baseline=0.0),
    "variety_against_fidelity": beside(
        {"ddim": {"precision": 0.9, "recall": 0.6}, "ddpm": {"precision": 0.89, "recall": 0.8}},
        error=0.05,
    ),
    "memorisation": beside({"ddim": {"memorisation": 0.1}}, error=0.1),
    "inconclusive_comparisons": by_sampler({"ddim": [0.1], "ddpm": [0.101]}, error=0.01),
}  # fmt: skip


def told(name, of):
    answer = FINDINGS[name](of)
    return answer if isinstance(answer, list) else [answer] if answer else []


def said(name, of):
    return told(name, of)[0].sentence


def is_whole(sentence):
    slips = ("nan", "None", "  ", "..", " ,", "–", "inf ", "{")
    return (
        (sentence[0].isupper() or sentence[0].isdigit())
        and sentence.endswith(".")
        and sentence.count("(") == sentence.count(")")
        and not any(slip in sentence for slip in slips)
    )


@pytest.mark.parametrize("name", IN_ORDER)
def test_a_finding_says_what_the_study_supports_and_what_it_rests_on(name):
    of, verdict, effect, cells = TRUE[name]
    finding = told(name, of)[0]
    assert finding.verdict == verdict, finding.sentence
    # A standard deviation of 60 values is known to a tenth.
    tolerance = 0.15 if name == "sampling_variance" else 0.02
    assert finding.effect == pytest.approx(effect, rel=tolerance, nan_ok=True)
    if math.isfinite(finding.low):
        assert finding.low <= finding.effect <= finding.high
    assert len(finding.evidence) == len({*finding.evidence}) == cells
    assert {*finding.evidence} <= {one.cell.key for one in of.results}
    assert is_whole(finding.sentence), finding.sentence


@pytest.mark.parametrize("name", [*IN_ORDER])
def test_a_finding_is_silent_where_nothing_was_measured_that_answers_it(name):
    assert told(name, NOTHING[name]) == []
    assert told(name, Study.of([])) == []


@pytest.mark.parametrize("name", UNDECIDABLE)
def test_a_finding_that_cannot_be_decided_says_what_would_decide_it(name):
    finding = told(name, UNDECIDABLE[name])[0]
    assert finding.verdict == "inconclusive", finding.sentence
    assert finding.would_decide
    assert is_whole(finding.sentence), finding.sentence


@pytest.mark.parametrize("name", IN_ORDER)
def test_a_single_cell_supports_no_comparison(name):
    allowed = {"between_seed_variance": "inconclusive", "distance_to_real_images": "worse"}
    verdicts = [one.verdict for one in told(name, by_steps({10: [0.1]}, baseline=0.0))]
    assert verdicts == ([allowed[name]] if name in allowed else [])


# What is best, and what steps buy.


def test_a_different_schedule_may_be_best_at_each_number_of_steps():
    [finding] = told("schedule_across_steps", two_schedules(0.3, 0.1, 0.05, 0.2))
    assert finding.verdict == "better"
    assert "depends on the steps: cosine at 5 steps and linear at 50 steps" in finding.sentence


def test_without_a_verdict_the_pairs_that_agree_are_counted():
    of = two_schedules([0.3, 0.2], [0.1, 0.3], [0.2, 0.2], [0.05, 0.05])
    assert "in 3 of 4 pairs" in said("schedule_across_steps", of)


def test_more_steps_may_be_worse():
    [finding] = told("more_steps", by_steps({5: 0.2, 10: 0.1, 20: 0.3}))
    assert (finding.verdict, finding.effect) == ("worse", pytest.approx(0.2, rel=0.01))


def test_where_nothing_cheaper_is_near_the_best_more_evaluations_pay():
    of = by_steps({5: 0.3, 10: 0.2, 50: 0.1}, baseline=-0.01)
    [finding] = told("fewest_evaluations_near_the_best", of)
    assert finding.verdict == "measured"
    assert {*finding.evidence} == {*of.configurations()[-1].keys}


def test_a_budget_counts_evaluations_and_not_steps():
    def more(result):
        nfe = 19 if str(result.cell.sampler) == "heun" else result.cell.steps
        return replace(result, cost=replace(result.cost, nfe=nfe))

    of = study({("cosine", "heun", 10): 0.01, ("cosine", "ddim", 10): 0.1,
                ("cosine", "ddim", 50): 0.05}, more=more)  # fmt: skip
    last = told("best_under_a_budget", of)[-1]
    assert "25" in last.question
    assert last.effect == pytest.approx(0.01, rel=0.05)


def test_a_front_in_seconds_may_differ_from_that_in_evaluations():
    slow = {"ddim": 0.1, "ddpm": 0.001}
    of = study(
        {("cosine", "ddim", 5): 0.1, ("cosine", "ddpm", 10): 0.09, ("cosine", "ddim", 50): 0.05},
        seconds=lambda cell: slow[str(cell.sampler)] * cell.steps,
    )
    assert "by seconds on one not cosine with ddim at 5 steps" in said("pareto_front", of)


def test_seconds_of_two_machines_are_never_put_into_one_line():
    slow = results({("cosine", "ddim", 7): 0.2, ("cosine", "ddim", 12): 0.1}, machine="two",
                   seconds=lambda cell: 9.0 * cell.steps)  # fmt: skip
    [finding] = told("price_of_an_evaluation", Study.of([*priced(0.001).results, *slow]))
    assert finding.effect == pytest.approx(0.002, rel=0.01)
    assert len(finding.evidence) == 9


@pytest.mark.parametrize(("ratio", "share"), [(0.86, "100 % of the 4"), (1.16, "none of the 4")])
def test_fifteen_per_cent_are_of_the_forecast(ratio, share):
    assert share in said("forecast_against_actual", forecast(ratio))


def test_a_metric_of_which_more_is_better_turns_the_verdicts_round():
    lower, higher = (two_schedules(*LEARNS, metric=name) for name in ("kid", "coverage"))
    assert "cosine is better than linear" in said("schedule_at_few_steps", lower)
    assert "linear is better than cosine" in said("schedule_at_few_steps", higher)
    assert "higher by" in said("schedule_at_few_steps", higher)


# Schedules and samplers.


def test_what_needs_no_training_is_evaluated_by_its_sampling_error_alone():
    assert told("schedule_at_few_steps", two_schedules(*ONE_SEED))[0].verdict == "inconclusive"
    exact = two_schedules(*ONE_SEED, model=made.Part("exact"))
    [finding] = told("schedule_at_few_steps", exact)
    assert finding.verdict == "better"
    assert "seed" not in finding.sentence
    assert told("between_seed_variance", exact) == []
    assert told("published_schedules", exact) == []


def test_a_verdict_counts_all_comparisons_of_the_report():
    """The same two schedules: decided alone, not where the study invites many comparisons."""
    alone = {("linear", "ddim", 5): [0.111, 0.116, 0.110],
             ("cosine", "ddim", 5): [0.100, 0.101, 0.099]}  # fmt: skip
    crowd = {("linear", "ddim", n): [0.1, 0.13, 0.11] for n in range(6, 30)}
    crowd |= {("cosine", "ddim", n): [0.11, 0.10, 0.13] for n in range(6, 30)}
    assert told("schedule_at_few_steps", study(alone))[0].verdict == "better"
    [finding] = told("schedule_at_few_steps", study(alone | crowd))
    assert finding.verdict == "inconclusive"
    assert "after correction for" in finding.sentence
    assert finding.high < 0


def test_schedules_are_compared_where_they_have_the_most_training_seeds_in_common():
    # Another sampler, and another schedule, are better by far but on one network each.
    values = {("linear", "ddim", 5): 0.3, ("cosine", "ddim", 5): 0.2, ("sigmoid", "ddim", 5): [0.1],
              ("linear", "ab2", 5): [0.1], ("cosine", "ab2", 5): [0.15]}  # fmt: skip
    [finding] = told("schedule_at_few_steps", study(values))
    assert finding.effect == pytest.approx(-0.1, rel=0.01)
    assert "the means are in the opposite order with ab2" in finding.sentence
    assert "sigmoid, ahead at 5 steps by the mean, shares too few" in finding.sentence
    behind = values | {("sigmoid", "ddim", 5): [0.9]}
    assert "sigmoid" not in said("schedule_at_few_steps", study(behind))
    elsewhere = values | {("sigmoid", "ddim", 5): [NAN] * 7 + [0.1]}
    kept = [one for one in results(elsewhere) if one.measurements["kid"].value > 0]
    assert "sigmoid" not in said("schedule_at_few_steps", Study.of(kept))


def test_schedules_without_a_training_seed_in_common_are_not_hidden():
    both = [*results({("linear", "ddim", 5): [0.3]}), *results({("cosine", "ddim", 5): [9, 0.2]})]
    [finding] = told("schedule_at_few_steps", Study.of([both[0], both[2]]))
    assert finding.verdict == "inconclusive"


def test_where_one_sampler_overtakes_the_other_is_said():
    of = by_sampler({"ddim": [0.1, 0.08, 0.06, 0.05], "ddpm": [0.3, 0.15, 0.0601, 0.02]})
    assert "ddpm overtakes between 10 and 50 steps" in said("ddim_against_ddpm", of)


def test_where_evaluations_are_counted_no_sentence_speaks_of_steps():
    cells = [*by_sampler(DIM, baseline=0.0).results, *two_schedules(*LEARNS).results]
    once = {one.cell: one for one in cells}.values()
    allowed = [replace(one, cell=replace(one.cell, budget=one.cell.steps)) for one in once]
    for finding in all_findings(Study.of(allowed)):
        if "step cost" not in finding.question:
            assert "step" not in finding.question + finding.sentence


# What others published.


def test_published_orders_of_schedules_are_those_of_networks_that_differ_in_nothing_else():
    values = {("linear(beta_end=0.01)", "ddim", 50): 0.2, ("cosine_discrete", "ddim", 50): 0.1}
    [finding] = told("published_schedules", study(values))
    assert "(as on 64x64 ImageNet)" in finding.sentence
    cells = results(values)
    other = [replace(one, cell=replace(one.cell, training=replace(one.cell.training,
             target="velocity"))) for one in cells[3:]]  # fmt: skip
    assert told("published_schedules", Study.of([*cells[:3], *other])) == []


def test_what_contradicts_the_published_order_is_said_to():
    values = {"ddim": (0.3, 0.1), "ab2": (0.5, 0.1), "ddpm": (0.2, 0.3), "ddpm_large": (0.6, 0.4)}
    sentence = said("published_order", by_sampler(values, steps=(10, 50)))
    assert "disagrees in 3 comparisons" in sentence
    assert "ddim ahead of ddpm at 10 steps" in sentence
    assert "here ddpm is ahead at 50" in sentence
    agreeing = said("published_order", by_sampler(SAMPLERS, steps=(10, 50)))
    assert "ddpm_large overtakes ddpm between 8 and 16 evaluations; here between 10" in agreeing


# Theory, and what networks add.


@pytest.mark.parametrize(
    ("predicted", "words"),
    [((0.75, 0.71), "prediction and measurement disagree"), ((0.71, 0.712), "does not explain")],
)
def test_theory_is_said_to_be_wrong_or_silent_where_it_is(predicted, words):
    assert words in said("why_at_few_steps", spreads(predicted, (0.8, 0.7)))


def test_of_two_schedules_that_lose_pixel_spread_the_one_with_less_signal_is_told():
    [finding] = told("pixel_spread_lost", spreads((0.95, 0.9), (0.96, 0.89), last=(0.9, 0.95)))
    assert finding.effect == pytest.approx(-0.04)
    assert "Under linear" in finding.sentence


@pytest.mark.parametrize("change", [0.01, -0.2])
def test_trainings_that_gain_little_or_lose_have_settled(change):
    of = still_training({"linear": change, "cosine": change}, baseline=0.0)
    assert told("training_long_enough", of)[0].verdict == "measured"


def test_the_last_tenth_is_evaluated_image_by_image_where_that_is_known():
    change = {"linear": 0.1, "cosine": 0.1}
    [apart] = told("training_long_enough", still_training(change, error=0.5))
    assert apart.verdict == "inconclusive"
    moves = np.random.default_rng(0).standard_normal(50)
    [paired] = told("training_long_enough", still_training(change, moves=moves, error=0.5))
    assert paired.verdict == "measured"
    assert "were still improving" in paired.sentence


def test_what_a_training_gained_is_a_share_of_its_distance_to_real_images():
    # Cosine had .0604 to go to 0, and half of that to a baseline of .03.
    change = {"linear": 0.2, "cosine": 0.2}
    far = told("training_long_enough", still_training(change, baseline=0.0))[0]
    near = told("training_long_enough", still_training(change, baseline=0.03))[0]
    assert far.effect == pytest.approx(1 / 6)
    assert near.effect == pytest.approx(1 / 6 * 0.0604 / 0.0304, rel=0.02)


def test_where_more_is_better_a_training_that_rises_is_still_improving():
    of = still_training({"linear": -0.2, "cosine": -0.2}, metric="coverage")
    assert "were still improving" in said("training_long_enough", of)


def test_one_configuration_may_lead_in_fidelity_and_variety():
    of = beside({"ddim": {"precision": 0.9, "recall": 0.8}, "ddpm": {"precision": 0.7,
                                                                     "recall": 0.6}})  # fmt: skip
    assert "no variety" in said("variety_against_fidelity", of)


def test_as_few_copies_as_new_images_are_no_sign_of_memory():
    [finding] = told("memorisation", beside({"ddim": {"memorisation": 0.04}}, error=0.01))
    assert (finding.verdict, finding.effect) == ("measured", pytest.approx(0.04))


def test_a_distance_is_told_beside_that_of_degraded_copies():
    degraded = {"half_resolution": 0.0381, "noisy": 0.0412, "pure_noise": 7.5}

    def more(result):
        kid = replace(result.measurements["kid"], degraded=degraded)
        return replace(result, measurements={"kid": kid})

    plain, beside_them = (by_steps({10: [0.1]}, baseline=0.0, **options)
                          for options in ({}, {"more": more}))  # fmt: skip
    assert "for scale" not in said("distance_to_real_images", plain)
    sentence = said("distance_to_real_images", beside_them)
    assert "real images score 0.0381 at half their resolution and" in sentence
    assert "255; pure noise scores 7.50)" in sentence
    degraded.pop("pure_noise")  # as in results from before it was scored
    sentence = said("distance_to_real_images", by_steps({10: [0.1]}, baseline=0.0, more=more))
    assert "of 255)" in sentence


def test_what_kid_cannot_separate_from_real_images_another_metric_may():
    def more(result):
        precision = made.measured(0.5, 0.01, baseline=0.68)
        return replace(result, measurements={**result.measurements, "precision": precision})

    [finding] = told("distance_to_real_images", by_steps({10: 0.001}, baseline=0.0, more=more))
    assert finding.verdict == "inconclusive"
    assert "Precision can (0.500 against 0.680)" in finding.sentence


# All of them together.


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
def test_sentences_of_a_whole_experiment_are_whole(build, seeds):
    for finding in all_findings(studies(build(seeds=seeds))[0]):
        assert is_whole(finding.sentence), finding.sentence


def test_the_answer_is_at_most_three_sentences_one_for_each_question(build):
    chosen = answers(studies(build())[0])
    assert len(chosen) == 3
    for finding, word in zip(chosen, ["schedule", "ddpm", "How few"], strict=True):
        assert word in finding.question
    assert answers(Study.of([])) == []


@pytest.mark.parametrize("answer", [lambda study: 1 / 0, lambda study: "no finding"])
def test_a_finding_of_another_package_that_fails_is_named_and_the_others_stay(monkeypatch, answer):
    of = two_schedules(*LEARNS)
    before_it = all_findings(of)
    monkeypatch.setattr(catalogue, "FINDINGS", Registry("finding", {**IN_ORDER, "odd": answer}))
    *others, odd = all_findings(of)
    assert others == before_it
    assert (odd.verdict, odd.evidence) == ("inconclusive", [])
    assert "'odd'" in odd.sentence
