"""Every finding with a study in which it is true, one with nothing to say, one in which it is
undecided, and one with a single cell: verdict, effect, interval and evidence."""

import math
import re
from dataclasses import replace

import made
import numpy as np
import pytest
from studies import (
    before,
    by_sampler,
    by_steps,
    denoised,
    exactly,
    forecast,
    noise_of,
    results,
    study,
    two_schedules,
)

from harness.analysis.study import Study, studies
from harness.registry import Registry
from harness.report.decision_table import decisions
from harness.report.findings import catalogue
from harness.report.findings.catalogue import (
    FINDINGS,
    IN_ORDER,
    OPEN,
    all_findings,
    matter,
)
from harness.report.findings.networks import HAS_IT_LEARNED
from harness.report.findings.unsaid import unsaid
from harness.work.cells import Part
from harness.work.results import Mean, PixelSpread, SamplingPath

LEARNS = (0.3, 0.1, 0.2, 0.05)  # linear and cosine at 5 steps, and at 50
ONE_SEED = ([0.3], [0.1], [0.2], [0.05])
DIM = {"ddim": [0.1, 0.08, 0.06, 0.05], "ddpm": [0.3, 0.15, 0.1, 0.02]}
ALIKE = {"ddim": [0.1, 0.08, 0.06, 0.05], "ddpm": [0.1, 0.0801, 0.06, 0.02]}


def spreads(predicted, measured, last=(1.0, 0.95), values=LEARNS, error=0.002, **options):
    """Linear and cosine with their pixel standard deviation, predicted and measured, and the
    signal rate at their last time."""

    def more(result):
        place = ["linear", "cosine"].index(str(result.cell.training.schedule))
        return replace(
            result,
            pixel_spread=PixelSpread(measured[place], error, predicted[place]),
            path=SamplingPath(4.1e-5, last[place] ** 2, 0),
        )

    return two_schedules(*values, more=more, **options)


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
    ("cosine", "ddim", 10): 0.05, ("cosine sampled as linear", "ddim", 10): 0.08,
}  # fmt: skip
SAMPLERS = {"ddim": (0.3, 0.1), "ab2": (0.2, 0.08), "ddpm": (0.4, 0.3), "ddpm_large": (0.6, 0.2)}
ETAS = {"ddim": [0.1, 0.05], "ddim(eta=0.5)": [0.2, 0.1], "ddim(eta=1)": [0.3, 0.15]}
NOISY = two_schedules([0.3, 0.2, 0.25], [0.2, 0.22, 0.3], [0.1, 0.2, 0.3], [0.15, 0.1, 0.12])
NAN = math.nan
# Cosine learned better where there is little noise, linear where there is much.
APART = {"linear": [0.1, 0.2, 0.3, 0.5, 0.7], "cosine": [0.2, 0.3, 0.3, 0.4, 0.5]}
SAME = {name: [0.1, 0.2, 0.3, 0.4, 0.5] for name in APART}

# finding: (study, verdict, effect, the number of cells it rests on)
TRUE = {
    "has_it_learned": (two_schedules(*LEARNS, **noise_of(1.0)), "measured", 0.05, 12),
    # The geometric mean of 1 / 3 and 1 / 4: 71 % lower.
    "which_schedule": (two_schedules(*LEARNS), "better", 12**-0.5 - 1, 12),
    "which_sampler": (by_sampler({"ddim": [0.1, 0.05], "ddpm": [0.2, 0.1]}), "better", -0.5, 12),
    "more_steps": (by_steps({5: 0.4, 10: 0.2, 20: 0.1}), "better", -0.5, 9),
    "fewest_evaluations_near_the_best": (
        by_steps({5: 0.3, 10: 0.102, 50: 0.1}, baseline=-0.01), "measured", 0.002 / 0.11, 6,
    ),
    "best_of_all": (two_schedules(*LEARNS), "better", 0.05, 6),
    "open_questions": (two_schedules(*ONE_SEED), "inconclusive", 12**-0.5 - 1, 4),
    "what_else": (spaced((0.1, 0.05), (0.2, 0.1)), "better", -0.5, 12),
    "training_long_enough": (
        still_training({"linear": 0.0, "cosine": 0.2}, baseline=0.0), "measured", 1 / 6, 6,
    ),
    "distance_to_real_images": (by_steps({5: 0.3, 50: 0.1}, baseline=0.0), "worse", 0.1, 3),
    "memorisation": (beside({"ddim": {"memorisation": 0.3}}), "worse", 0.3, 3),
    # At 5 steps cosine is ahead by .2, at 50 by .15.
    "why_at_few_steps": (spreads((0.65, 0.71), (0.7, 0.75)), "measured", 0.25, 6),
    "lost_at_few_steps": (two_schedules(*LEARNS, baseline=0.0), "measured", 0.5, 12),
    "where_it_learned": (
        denoised(APART), "measured", (2 * 1.5 * 0.8 * 5 / 7) ** 0.2 - 1, 12,
    ),
    "how_much_it_learned": (denoised(APART), "measured", 0.34, 12),
    "longer_training": (denoised(SAME), "measured", -0.01 / 1.01, 12),
    "best_under_a_budget": (by_sampler(DIM), "measured", 0.08, 6),
    "pareto_front": (by_sampler(DIM, seconds=milliseconds), "measured", NAN, 12),
    "published_schedules": (two_schedules(0.2, 0.3, 0.2, 0.3), "measured", 0.5, 12),
    "published_order": (by_sampler(SAMPLERS, steps=(10, 50)), "measured", -1 / 3, 21),
    "effect_of_eta": (by_sampler(ETAS), "better", -2 / 3, 12),
    "pixel_spread_lost": (spreads((0.95, 0.9), (0.96, 0.89)), "measured", -0.11, 6),
    "sampler_against_network": (with_exact({5: 0.2, 50: 0.01}), "measured", 0.09, 8),
    "variety_against_fidelity": (
        beside({"ddim": {"precision": 0.9, "recall": 0.6},
                "ddpm": {"precision": 0.7, "recall": 0.8}}),
        "measured", 0.2, 6,
    ),
    "between_seed_variance": (
        two_schedules(*LEARNS), "measured", np.std([0, 4, -3], ddof=1) / 1e3, 12,
    ),
    "sampling_variance": (noises(0.01), "measured", 0.01, 60),
    "price_of_an_evaluation": (priced(0.001), "measured", 0.002, 9),
    "forecast_against_actual": (forecast(1.1), "measured", 0.1, 3),
}  # fmt: skip

# finding: a study of which it has nothing to say
NOTHING = {
    **dict.fromkeys(IN_ORDER, two_schedules(*LEARNS)),
    "which_schedule": by_sampler(DIM),
    "more_steps": by_steps({5: 0.3}),
    "fewest_evaluations_near_the_best": by_steps({5: 0.3}),
    "best_of_all": study({("cosine", "ddim", 5): 0.1}),
    "why_at_few_steps": spreads((0.65, 0.71), (0.7, 0.75), values=ONE_SEED),
    "lost_at_few_steps": study({("linear", "ddim", 5): 0.3, ("cosine", "ddim", 5): 0.1}),
    "best_under_a_budget": by_steps({100: 0.2, 200: 0.1}),
    "pareto_front": study({("linear", "ddim", 5): 0.1, ("cosine", "ddim", 5): 0.2}),
    "published_schedules": two_schedules(*ONE_SEED),
    "published_order": by_sampler({"ddim": [0.1], "euler": [0.2]}),
    "effect_of_eta": by_sampler({name: ETAS[name] for name in ("ddim", "ddim(eta=1)")}),
    "pixel_spread_lost": spreads((0.95, 0.9), (0.96, 0.89), last=(1.0, 1.0)),
    "between_seed_variance": two_schedules(*ONE_SEED),
    "price_of_an_evaluation": priced(0.9),
    "forecast_against_actual": forecast(2.0, steps=(5,)),
}

UNDECIDED = {
    "which_schedule": two_schedules(*ONE_SEED),
    "which_sampler": by_sampler({"ddim": [0.1, 0.08], "ddpm": [0.101, 0.08]}, error=0.01),
    "more_steps": by_steps({5: 0.2, 10: 0.199}, error=0.01),
    "fewest_evaluations_near_the_best": by_steps({5: 0.102, 50: 0.1}, baseline=0.0, error=0.01),
    "open_questions": NOISY,
    "what_else": spaced((0.1, 0.05), (0.101, 0.0501), error=0.01),
    "training_long_enough": still_training({"linear": 0.0, "cosine": 0.02}, error=0.02),
    "where_it_learned": denoised(APART, seeds=1),
    "distance_to_real_images": by_steps({5: 0.3, 50: 0.001}, baseline=0.0),
    "memorisation": beside({"ddim": {"memorisation": 0.1}}, error=0.1),
    "effect_of_eta": by_sampler({"ddim": [0.1], "ddim(eta=1)": [0.101], "ddpm": [1]}, error=0.01),
    "pixel_spread_lost": spreads((0.95, 0.9), (0.96, 0.89), error=0.2),
    "sampler_against_network": with_exact({5: 0.2, 50: 0.0999}),
    "variety_against_fidelity": beside(
        {"ddim": {"precision": 0.9, "recall": 0.6}, "ddpm": {"precision": 0.89, "recall": 0.8}},
        error=0.05,
    ),
}  # fmt: skip


def told(name, of):
    answer = FINDINGS[name](of)
    return answer if isinstance(answer, list) else [answer] if answer else []


def said(name, of):
    return told(name, of)[0].sentence


def is_whole(finding):
    slips = ("nan", "None", "  ", "..", " ,", "inf ", "{")
    text = finding.sentence
    tables = [row for row in finding.rows if len(row) != len(finding.columns)]
    return (
        text.endswith(".") and text.count("(") == text.count(")") and not tables
        and not any(slip in text for slip in slips)
    )  # fmt: skip


# What is no number of its own: an interval after its estimate, steps that name a configuration,
# options of a part, the names of data sets, and how many a list leaves out.
NOT_COUNTED = (
    r"\[[^]]*\]", r"\([^)]*=[^)]*\)", r"64x64|CIFAR-10|at least 2 training seeds",
    r"\d+(?:(?:, | and | to )\d+)* (?:steps?|evaluations?|numbers of)\b", r"from \d+ to \d+",
    r"up to \d+", r"\d+ more\b", r"log SNR (?:from )?\S+(?: to \S+)?",
)  # fmt: skip


def numbers(sentence):
    for pattern in NOT_COUNTED:
        sentence = re.sub(pattern, " ", sentence)
    sentence = re.sub(r"(\d[\d,]*) of (\d[\d,]*)", r"\1", sentence)  # a share is one
    return re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w])", sentence)


def is_short(finding):
    sentences = re.findall(r"\.(?= [A-Za-z]|$)", finding.sentence)
    return len(sentences) <= 2 and len(numbers(finding.sentence)) <= 3


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
    assert is_whole(finding), finding.sentence


@pytest.mark.parametrize("name", IN_ORDER)
def test_a_finding_is_silent_where_nothing_was_measured_that_answers_it(name):
    assert told(name, NOTHING[name]) == []
    assert told(name, Study.of([])) == []


@pytest.mark.parametrize("name", UNDECIDED)
def test_a_finding_that_is_undecided_says_what_decides_it(name):
    finding = told(name, UNDECIDED[name])[0]
    assert finding.verdict == "inconclusive", finding.sentence
    assert finding.would_decide
    assert is_whole(finding), finding.sentence


@pytest.mark.parametrize("name", IN_ORDER)
def test_a_single_cell_supports_no_comparison(name):
    allowed = {"distance_to_real_images": "worse"}
    verdicts = [one.verdict for one in told(name, by_steps({10: [0.1]}, baseline=0.0))]
    assert verdicts == ([allowed[name]] if name in allowed else [])


def every_study():
    """All studies made here, by name."""
    known = {name: of for name, (of, *_) in TRUE.items()}
    return [*known.items(), *UNDECIDED.items(), *NOTHING.items()]


@pytest.mark.parametrize(("name", "of"), every_study())
def test_every_sentence_is_short_with_at_most_three_numbers(name, of):
    for finding in all_findings(of):
        assert is_short(finding), (finding.sentence, numbers(finding.sentence))
        assert is_whole(finding), finding.sentence
    assert all(line.endswith(".") for line in unsaid(of))


@pytest.mark.parametrize(
    "axes",
    [{}, {"seeds": (0,)}, {"seeds": (0, 1)}, {"crossed": True, "exact": True},
     {"schedules": ("linear", "cosine", "sigmoid"), "gain": 9.0},
     {"samplers": ("ddim", "ddim(eta=1)", "ddpm", "heun"), "steps": (2, 3, 5, 8, 10, 20, 50)},
     {"schedules": ("linear", "cosine", "sigmoid"), "seeds": (0,), "samplers": ("ddim",)}],
)  # fmt: skip
def test_sentences_of_whole_experiments_are_short_and_whole(build, axes):
    of = studies(build(**axes))[0]
    found = all_findings(of)
    for finding in found:
        assert is_short(finding), (finding.sentence, numbers(finding.sentence))
        assert is_whole(finding), finding.sentence
        assert not re.search(r"\bwould\b|\bnot un|cannot be told", finding.sentence)
    stand_open, folded = matter(found)
    assert [*stand_open, *folded] == found
    assert len(stand_open) <= OPEN


def test_numbers_are_counted_as_a_reader_counts_them():
    assert numbers("KID is 57 % lower [50, 63] in 23 of 24 pairs at 5, 10 and 20 steps.") == [
        "57", "23",
    ]  # fmt: skip
    assert numbers("ddim(eta=0.5) and ab2 from 5 to 10: 0.1 instead of 0.25.") == ["0.1", "0.25"]


# Whether anything was learned.


def test_where_nothing_was_learned_that_is_all_that_is_said():
    of = two_schedules(2.1, 2.3, 2.2, 2.4, **noise_of(2.6))
    [finding] = all_findings(of)
    assert (finding.question, finding.verdict) == (HAS_IT_LEARNED, "worse")
    assert "Train longer" in finding.sentence


def test_a_training_that_has_not_learned_is_named_and_the_rest_is_said():
    found = all_findings(two_schedules(2.1, 0.3, 2.2, 0.2, **noise_of(2.6)))
    assert found[0].verdict == "worse"
    assert "linear" in found[0].sentence
    assert "cosine" not in found[0].sentence
    assert len(found) > 3


# The questions of the grid.


def test_a_different_schedule_may_be_better_at_each_number_of_steps():
    [finding] = told("which_schedule", two_schedules(0.3, 0.1, 0.05, 0.2))
    assert finding.verdict == "inconclusive"
    assert "cosine is better at 5 steps, linear at 50 steps" in finding.sentence
    assert finding.would_decide == ""  # it is decided that neither is better


def test_what_sets_the_winners_apart_may_be_the_schedule_or_nothing_simple():
    values = {("linear", "ddim"): (0.1, 0.1), ("linear", "ddpm"): (0.3, 0.3),
              ("cosine", "ddim"): (0.3, 0.3), ("cosine", "ddpm"): (0.1, 0.1)}  # fmt: skip

    def of(values):
        return study({(*pair, n): value for pair, those in values.items()
                      for n, value in zip((5, 50), those, strict=True)})  # fmt: skip

    assert "ddpm is better under cosine, ddim under linear" in said("which_sampler", of(values))
    mixed = values | {("cosine", "ddim"): (0.3, 0.1), ("cosine", "ddpm"): (0.1, 0.3)}
    assert "ddim is better in 3 configurations" in said("which_sampler", of(mixed)) or (
        "ddpm is better in 1 configuration" in said("which_sampler", of(mixed))
    )


def test_of_several_levels_the_best_is_held_against_the_next():
    values = {("linear", "ddim", 5): 0.4, ("cosine", "ddim", 5): 0.1, ("sigmoid", "ddim", 5): 0.2}
    [finding] = told("which_schedule", study(values))
    assert (finding.verdict, finding.effect) == ("better", pytest.approx(-0.5, abs=0.01))
    assert "sigmoid" in finding.sentence
    assert "linear" not in finding.sentence
    assert len(finding.rows) == 6  # of each pair, and in its one configuration
    level = values | {("sigmoid", "ddim", 5): [0.1, 0.12, 0.09]}
    [finding] = told("which_schedule", study(level))
    assert finding.verdict == "inconclusive"
    assert "cosine or sigmoid" in finding.sentence


def test_one_seed_gives_no_verdict_but_an_order():
    [finding] = told("which_schedule", two_schedules(*ONE_SEED))
    assert "cosine is ahead in 2 of 2 configurations" in finding.sentence


def test_without_a_verdict_the_pairs_that_agree_are_counted():
    assert "in 3 of 6 pairs" in said("which_schedule", NOISY)
    assert "training seeds" in told("which_schedule", NOISY)[0].would_decide


def test_levels_that_are_alike_are_a_tie():
    of = two_schedules(0.3, 0.301, 0.2, 0.2)
    assert "tied" in said("which_schedule", of)
    assert told("open_questions", of) == []


def test_near_zero_means_are_said_and_no_ratio():
    of = two_schedules([-0.001, 0.001, 0.0], [0.1, 0.11, 0.12], [0.001, 0.0, -0.001], 0.05)
    assert "instead of" in said("which_schedule", of)
    assert "%" not in said("which_schedule", of)


def test_what_needs_no_training_is_evaluated_by_its_sampling_error_alone():
    exact = two_schedules(*ONE_SEED, model=made.Part("exact"))
    [finding] = told("which_schedule", exact)
    assert finding.verdict == "better"
    assert "seed" not in finding.sentence
    assert told("between_seed_variance", exact) == told("published_schedules", exact) == []


def test_a_metric_of_which_more_is_better_turns_the_verdicts_round():
    lower, higher = (two_schedules(*LEARNS, metric=name) for name in ("kid", "coverage"))
    assert said("which_schedule", lower).startswith("cosine is better than linear")
    assert said("which_schedule", higher).startswith("linear is better than cosine")
    assert "higher" in said("which_schedule", higher)


def test_more_steps_may_be_better_and_then_worse():
    [finding] = told("more_steps", by_steps({5: 0.2, 10: 0.1, 20: 0.3}))
    assert (finding.verdict, finding.effect) == ("better", pytest.approx(-0.5, rel=0.02))
    assert "up to 10" in finding.sentence
    assert "higher" in finding.sentence
    assert told("more_steps", by_steps({5: 0.1, 10: 0.2}))[0].verdict == "worse"
    assert "not significant" in said("more_steps", by_steps({5: 0.2, 10: 0.1, 20: 0.1}))


def test_where_more_steps_help_one_schedule_alone_it_depends():
    [finding] = told("more_steps", two_schedules(0.3, 0.1, 0.05, 0.2))
    assert "5 is better under cosine, 50 under linear" in finding.sentence
    assert finding.would_decide == ""


def test_a_matched_schedule_is_held_against_all_mismatched_ones():
    [finding] = told("what_else", study(CROSSED))
    assert (finding.verdict, len(finding.evidence)) == ("better", 12)
    assert "sampled under" in finding.question
    turned = CROSSED | {("cosine sampled as linear", "ddim", 10): 0.02}
    assert "another schedule is better under cosine" in said("what_else", study(turned))


def test_other_factors_are_asked_by_their_own_names():
    cells = [replace(one, cell=replace(one.cell, clip=clip))
             for clip, value in ((False, 0.1), (True, 0.2))
             for one in results({("cosine", "ddim", 5): value})]  # fmt: skip
    assert said("what_else", Study.of(cells)).startswith("No clipping is better than clipping")


def test_three_ways_to_clip_are_one_question():
    cells = [replace(one, cell=replace(one.cell, clip=clip))
             for clip, value in ((False, 0.2), (True, 0.3), (Part("dynamic"), 0.1))
             for one in results({("cosine", "ddim", 5): value})]  # fmt: skip
    assert "dynamic clipping" in said("what_else", Study.of(cells)).lower()


def test_where_evaluations_are_counted_no_sentence_speaks_of_steps():
    cells = [*by_sampler(DIM, baseline=0.0).results, *two_schedules(*LEARNS).results]
    once = {one.cell: one for one in cells}.values()
    allowed = [replace(one, cell=replace(one.cell, budget=one.cell.steps)) for one in once]
    for finding in all_findings(Study.of(allowed)):
        if "step cost" not in finding.question:
            assert "step" not in finding.question + finding.sentence


# What is best, and what it costs.


def test_where_nothing_cheaper_is_near_the_best_that_is_said():
    of = by_steps({5: 0.3, 10: 0.2, 50: 0.1}, baseline=-0.01)
    [finding] = told("fewest_evaluations_near_the_best", of)
    assert finding.verdict == "measured"
    assert {*finding.evidence} == {*of.configurations()[-1].keys}


def test_a_comparison_that_is_chosen_by_its_results_is_called_exploratory():
    values = {("linear", "ddim", 5): 0.1, ("cosine", "ddpm", 50): 0.2, ("linear", "ddim", 50): 0.3}
    assert "(exploratory)" in said("best_of_all", study(values))
    assert "(exploratory)" not in said("best_of_all", by_sampler({"ddim": [0.1], "ddpm": [0.2]}))


def test_a_budget_counts_evaluations_and_not_steps():
    def more(result):
        nfe = 19 if str(result.cell.sampler) == "heun" else result.cell.steps
        return replace(result, cost=replace(result.cost, nfe=nfe))

    of = study({("cosine", "heun", 10): 0.01, ("cosine", "ddim", 10): 0.1,
                ("cosine", "ddim", 50): 0.05}, more=more)  # fmt: skip
    [finding] = told("best_under_a_budget", of)
    assert finding.rows[-1][:2] == ("25 evaluations", "cosine with heun at 10 steps")


def test_a_front_in_seconds_may_differ_from_that_in_evaluations():
    slow = {"ddim": 0.1, "ddpm": 0.001}
    values = {
        ("cosine", "ddim", 5): 0.1,
        ("cosine", "ddpm", 10): 0.09,
        ("cosine", "ddim", 50): 0.05,
    }
    of = study(values, seconds=lambda cell: slow[str(cell.sampler)] * cell.steps)
    assert "others by measured seconds" in said("pareto_front", of)
    alike = study(values, seconds=lambda cell: 0.1 * cell.steps)
    assert "the same by measured seconds" in said("pareto_front", alike)


def test_seconds_of_two_machines_are_never_put_into_one_line():
    slow = results({("cosine", "ddim", 7): 0.2, ("cosine", "ddim", 12): 0.1}, machine="two",
                   seconds=lambda cell: 9.0 * cell.steps)  # fmt: skip
    [finding] = told("price_of_an_evaluation", Study.of([*priced(0.001).results, *slow]))
    assert finding.effect == pytest.approx(0.002, rel=0.01)
    assert len(finding.evidence) == 9


@pytest.mark.parametrize(("ratio", "near"), [(0.86, "3 of 3"), (1.16, "0 of 3")])
def test_fifteen_per_cent_are_of_the_forecast(ratio, near):
    [finding] = told("forecast_against_actual", forecast(ratio))
    assert finding.rows[-1][-1] == near


# What others published.


def test_published_orders_of_schedules_are_those_of_networks_that_differ_in_nothing_else():
    values = {("linear(beta_end=0.01)", "ddim", 50): 0.2, ("cosine_discrete", "ddim", 50): 0.1}
    assert "as on 64x64 ImageNet" in said("published_schedules", study(values))
    cells = results(values)
    other = [replace(one, cell=replace(one.cell, training=replace(one.cell.training,
             target="velocity"))) for one in cells[3:]]  # fmt: skip
    assert told("published_schedules", Study.of([*cells[:3], *other])) == []


def test_what_contradicts_the_published_order_is_said_to():
    values = {"ddim": (0.3, 0.1), "ab2": (0.5, 0.12), "ddpm": (0.2, 0.3), "ddpm_large": (0.6, 0.4)}
    sentence = said("published_order", by_sampler(values, steps=(10, 50)))
    assert "ddpm ahead of ddim at 10 steps" in sentence
    agreeing = said("published_order", by_sampler(SAMPLERS, steps=(10, 50)))
    assert "other way round" not in agreeing


# Theory, and what networks add.


@pytest.mark.parametrize(
    ("predicted", "words"),
    [((0.65, 0.71), "predicts that order"), ((0.75, 0.71), "predicts the opposite"),
     ((0.71, 0.712), "does not explain")],
)  # fmt: skip
def test_theory_is_said_to_be_right_wrong_or_silent_where_it_is(predicted, words):
    assert words in said("why_at_few_steps", spreads(predicted, (0.8, 0.7)))


@pytest.mark.parametrize(
    ("many", "words"),
    [((0.05, 0.05), "no longer"), ((0.4, 0.05), "no less"), ((0.2, 0.05), "25.00 ["),
     (([0.2, 0.9, 0.01], [0.2, 0.05, 0.3]), "is open")],
)  # fmt: skip
def test_a_difference_stays_as_far_as_more_steps_leave_it(many, words):
    of = spreads((0.65, 0.71), (0.8, 0.7), values=(0.3, 0.1, *many))
    assert words in said("why_at_few_steps", of)


def test_the_exact_denoiser_says_how_much_of_a_difference_needs_no_network():
    networks = spreads((0.65, 0.71), (0.8, 0.7)).results
    values = {("linear", 5): 0.06, ("cosine", 5): 0.04, ("linear", 50): 0.0, ("cosine", 50): 0.0}
    exact = [
        exactly(one, values[str(one.cell.training.schedule), one.cell.steps])
        for one in networks
        if one.cell.training.seed == 0
    ]
    of = Study.of([*networks, *exact])
    assert "the exact denoiser, sampled alike, has 10.0 % of the" in said("why_at_few_steps", of)
    assert "Discretisation alone makes 40 % of it" in said("lost_at_few_steps", of)


@pytest.mark.parametrize(
    ("linear", "cosine", "of_the_difference", "of_the_distance"),
    [(0.04, 0.06, "has the opposite order", "makes 60 % of it"),
     (0.6, 0.06, "has more than all of the difference", "makes 60 % of it"),
     (0.2, 0.2, "has 0 % of the difference", "is even farther from real images"),
     (0.1, -0.01, "has 55 % of the difference", "has none of this distance")],
)  # fmt: skip
def test_no_share_of_the_exact_denoiser_is_above_all_or_below_none(
    linear, cosine, of_the_difference, of_the_distance
):
    networks = spreads((0.65, 0.71), (0.8, 0.7), values=(0.3, 0.1, 0.2, 0.05)).results
    few = [one for one in networks if (one.cell.steps, one.cell.training.seed) == (5, 0)]
    values = {"linear": linear, "cosine": cosine}
    exact = [exactly(one, values[str(one.cell.training.schedule)]) for one in few]
    of = Study.of([*networks, *exact])
    assert of_the_difference in said("why_at_few_steps", of)
    assert of_the_distance in said("lost_at_few_steps", of)


@pytest.mark.parametrize(
    ("few", "many", "words", "verdict"),
    [([0.3, 0.31, 0.29], [0.4, 0.41, 0.39], "do not help: at 50 steps", "measured"),
     ([0.3], [0.4], "do not help", "measured"),
     ([0.3, 0.31, 0.29], [0.15, 0.16, 0.14], "is gone; 25 % remains", "measured"),
     ([0.3, 0.3, 0.3], [0.1, 0.9, 0.01], "is open", "inconclusive"),
     ([0.3, 0.3, 0.3], [0.28, 0.31, 0.30], "is open", "inconclusive")],
)  # fmt: skip
def test_what_more_steps_mend_is_said_as_far_as_it_is_known(few, many, words, verdict):
    of = study({("cosine", "ddim", 5): few, ("cosine", "ddim", 50): many}, baseline=0.1)
    [finding] = told("lost_at_few_steps", of)
    assert words in finding.sentence
    assert "network's" not in finding.sentence  # no exact denoiser bounds it
    assert finding.verdict == verdict


def test_closed_form_exact_denoiser_and_denoising_error_stand_side_by_side():
    learned = denoised(APART, path=(-4.0, 4.0), of=spreads((0.65, 0.71), (0.7, 0.75)))
    [finding] = told("why_at_few_steps", learned)
    # Linear has .1 and .7 at the levels that it visits, cosine .2 and .5: of .5 and .5.
    assert finding.rows[0][4:] == ("71.0 % / 65.0 %", "75.0 % / 70.0 %", "– / –", "70 % / 80 %")


def test_each_network_is_named_where_it_learned_better_and_where_that_costs():
    sentence = said("where_it_learned", denoised(APART, path=(-4.0, -2.0, 2.0)))
    assert "under cosine at log SNR from 2.0 to 4.0 (by up to 29 %)" in sentence
    assert "under linear at log SNR from −4.0 to −2.0 (by up to 50 %)" in sentence
    assert "Under cosine 2 of 3 sampling steps lie where its error is" in sentence
    [tied] = told("where_it_learned", denoised(SAME))
    assert tied.verdict == "inconclusive"


def three(linear, cosine, sigmoid, **options):
    of = study({(name, "ddim", 5): 0.1 for name in ("linear", "cosine", "sigmoid")})
    errors = {"linear": linear, "cosine": cosine, "sigmoid": sigmoid}
    return denoised(errors, of=of, **options)


@pytest.mark.parametrize(
    ("of", "words"),
    [(three([0.9] * 5, [0.3] * 5, [0.3] * 5),
      "significantly higher under linear at log SNR from −4.0 to 4.0 (by up to 200 %)"),
     (three([0.1, *[0.5] * 4], [0.5, 0.1, *[0.5] * 3], [0.5, 0.5, *[0.1] * 3]),
      "lowest under sigmoid at log SNR from 0 to 4.0 (by up to 80 %), under cosine"),
     (denoised(SAME, seeds=1), "but one training seed gives no verdict"),
     (denoised(SAME), "not significant at any level")],
)  # fmt: skip
def test_of_networks_that_learned_alike_the_one_that_is_behind_is_named(of, words):
    assert words in said("where_it_learned", of)


def test_a_network_without_a_result_does_not_cost_the_others_theirs():
    of = three([0.9] * 5, [0.3] * 5, [0.2] * 5)
    kept = [one for one in of.trainings if one.training.schedule.name != "sigmoid"]
    assert "under cosine" in said("where_it_learned", Study(of.results, tuple(kept)))


def test_where_scales_differ_log_snr_is_said_to_be_that_of_the_pixels():
    of = denoised(APART)
    linear, *_ = [one for one in of.trainings if one.training.schedule.name == "linear"]
    lower = tuple(replace(one, log_snr=one.log_snr - 1) for one in linear.denoising.levels)
    in_units = [
        replace(one, denoising=replace(one.denoising, levels=tuple(
            replace(mine, log_snr=there.log_snr)
            for mine, there in zip(one.denoising.levels, lower, strict=True)), offset=1.0))
        if one.training.schedule.name == "linear" else one
        for one in of.trainings
    ]  # fmt: skip
    for name in ("where_it_learned", "how_much_it_learned"):
        assert "of pixels in −1..1" in said(name, Study(of.results, tuple(in_units)))
        assert "of pixels" not in said(name, of)


def test_what_a_network_was_not_trained_on_is_marked_and_compared_by_nobody():
    [finding] = told("where_it_learned", denoised(APART, outside={"cosine": 2}))
    assert "under linear" not in finding.sentence
    assert [("not trained on" in row[1], row[-2]) for row in finding.rows] == [
        (True, "–"), (True, "–"), (False, "–"), (False, "cosine"), (False, "cosine"),
    ]  # fmt: skip
    [of_all] = told("how_much_it_learned", denoised(APART, outside={"cosine": 2}))
    assert of_all.effect == pytest.approx(0.4)


def test_a_network_that_is_worse_than_the_best_affine_denoiser_somewhere_is_said_to_be():
    assert "worse than" not in said("how_much_it_learned", denoised(SAME))
    assert "log SNR 4.0 it is worse than the best affine" in said(
        "how_much_it_learned", denoised({name: [0.1, 0.1, 0.1, 0.1, 0.6] for name in APART})
    )


@pytest.mark.parametrize(
    ("last_tenth", "words"),
    [(-0.02, "training helps"), (-0.001, "had settled"), (0.02, "does not help")],
)
def test_longer_training_helps_where_the_last_tenth_did(last_tenth, words):
    assert words in said("longer_training", denoised(SAME, last_tenth=last_tenth))


@pytest.mark.parametrize(
    ("bits", "words"),
    [(0.01, "no overfitting shown"), (0.2, "cosine and linear overfit"),
     (-0.1, "it does not overfit")],
)  # fmt: skip
def test_overfitting_is_what_held_out_images_cost_beyond_training_images(bits, words):
    assert words in said("longer_training", denoised(SAME, bits=bits))


def changed_by(shares, seeds=3):
    """Linear and cosine whose last tenth changed the error by these shares of it, one for each
    training seed."""
    of = denoised(SAME, seeds=seeds)

    def changed(one):
        share = shares[str(one.training.schedule)][one.training.seed]
        levels = tuple(replace(each, last_tenth=Mean(share * each.held_out.value, 0.001))
                       for each in one.denoising.levels)  # fmt: skip
        return replace(one, denoising=replace(one.denoising, levels=levels))

    return Study(of.results, tuple(map(changed, of.trainings)))


@pytest.mark.parametrize(
    ("of", "words", "verdict"),
    [(denoised(SAME, last_tenth=-0.3, seeds=1), "training helps cosine and linear", "measured"),
     (denoised(SAME, last_tenth=0.3, seeds=1), "does not help cosine and linear", "measured"),
     (changed_by({"linear": (-0.3, 0.05, -0.02), "cosine": (-0.3, 0.05, -0.02)}),
      "whether longer training helps cosine and linear is open", "inconclusive"),
     (changed_by({"linear": (-0.05, 0.05, 0.0), "cosine": (-0.05, 0.05, 0.0)}),
      "whether longer training helps cosine and linear is open", "inconclusive"),
     (changed_by({"linear": (0.3, 0.301, 0.302), "cosine": (-0.001, -0.0009, -0.0008)}),
      "does not help linear (43.1", "measured"),
     (changed_by({"linear": (0.3, 0.301, 0.302), "cosine": (-0.001, -0.0009, -0.0008)}),
      "; cosine had settled", "measured"),
     (changed_by({"linear": (-0.1,), "cosine": (-0.001,)}, seeds=1),
      "helps linear (−9.1", "measured")],
)  # fmt: skip
def test_what_the_last_tenth_did_is_said_of_each_network_as_far_as_it_is_known(of, words, verdict):
    [finding] = told("longer_training", of)
    assert words in finding.sentence
    assert finding.verdict == verdict


def test_of_one_training_seed_the_last_tenth_has_its_sampling_error():
    [finding] = told("longer_training", changed_by({"linear": (0.2,), "cosine": (0.2,)}, seeds=1))
    # Five levels with an error of .001, of .8 of the sum 1.5.
    assert finding.high - finding.effect == pytest.approx(1.96 * 0.005 / 1.2, rel=1e-3)


def test_trainings_of_before_denoising_was_measured_are_counted_among_the_limitations():
    of = denoised(SAME)
    old = replace(of.trainings[0], denoising=None)
    mixed = Study(of.results, (old, *of.trainings[1:]))
    assert told("where_it_learned", mixed) == []
    assert any("not there for 1 training" in line for line in unsaid(mixed))
    first, *rest = of.trainings
    fewer = replace(first.denoising, levels=first.denoising.levels[1:])
    other = Study(of.results, (replace(first, denoising=fewer), *rest))
    assert any("at different levels" in line for line in unsaid(other))
    assert not any("different levels" in line for line in (*unsaid(of), *unsaid(mixed)))


def test_images_with_more_pixel_spread_than_real_ones_contradict_the_closed_form():
    [finding] = told("pixel_spread_lost", spreads((0.95, 0.9), (1.45, 1.13)))
    assert finding.sentence.startswith("No: with ddim at 50 steps images under cosine have 113.0")
    assert "under linear 145.0" in finding.sentence
    assert "closed form does not describe" in finding.sentence
    assert finding.verdict == "measured"


def test_of_two_schedules_that_lose_pixel_spread_the_one_with_less_signal_is_told():
    [finding] = told("pixel_spread_lost", spreads((0.95, 0.9), (0.96, 0.89), last=(0.9, 0.95)))
    assert finding.effect == pytest.approx(-0.04)
    assert "under linear" in finding.sentence


@pytest.mark.parametrize("change", [0.01, -0.2])
def test_trainings_that_gain_little_or_lose_have_settled(change):
    of = still_training({"linear": change, "cosine": change}, baseline=0.0)
    assert told("training_long_enough", of)[0].verdict == "measured"
    assert said("training_long_enough", of).startswith("Yes")
    assert ("farther" in said("training_long_enough", of)) == (change < 0)


def test_the_last_tenth_is_evaluated_image_by_image_where_that_is_known():
    change = {"linear": 0.1, "cosine": 0.1}
    [apart] = told("training_long_enough", still_training(change, error=0.5))
    assert apart.verdict == "inconclusive"
    moves = np.random.default_rng(0).standard_normal(50)
    [paired] = told("training_long_enough", still_training(change, moves=moves, error=0.5))
    assert paired.verdict == "measured"
    assert paired.sentence.startswith("No")


def test_what_a_training_gained_is_a_share_of_its_distance_to_real_images():
    # Cosine had .0604 to go to 0, and half of that to a baseline of .03.
    change = {"linear": 0.2, "cosine": 0.2}
    far = told("training_long_enough", still_training(change, baseline=0.0))[0]
    near = told("training_long_enough", still_training(change, baseline=0.03))[0]
    assert far.effect == pytest.approx(1 / 6)
    assert near.effect == pytest.approx(1 / 6 * 0.0604 / 0.0304, rel=0.02)


def test_where_more_is_better_a_training_that_rises_is_still_improving():
    of = still_training({"linear": -0.2, "cosine": -0.2}, metric="coverage")
    assert said("training_long_enough", of).startswith("No")


def test_one_configuration_may_lead_in_fidelity_and_variety():
    of = beside({"ddim": {"precision": 0.9, "recall": 0.8}, "ddpm": {"precision": 0.7,
                                                                     "recall": 0.6}})  # fmt: skip
    assert "no variety" in said("variety_against_fidelity", of)


def test_a_recall_that_is_not_above_the_others_does_not_show_that_fidelity_costs_nothing():
    of = beside({"ddim": {"precision": 0.9, "recall": 0.61}, "ddpm": {"precision": 0.5,
                                                                      "recall": 0.6}},
                error=0.05)  # fmt: skip
    [finding] = told("variety_against_fidelity", of)
    assert finding.verdict == "inconclusive"
    assert "no variety" not in finding.sentence


def test_the_next_best_is_of_another_line_and_that_is_said():
    values = {("cosine", "ddpm", 50): 0.1, ("cosine", "ddpm", 20): 0.11, ("linear", "ddim", 5): 0.2}
    [finding] = told("best_of_all", study(values))
    assert "linear with ddim at 5 steps" in finding.sentence
    assert "more than its steps" in finding.sentence
    [budget] = told("best_under_a_budget", study(values))
    assert any("more than its steps" in name for name in budget.columns)


def test_a_finding_names_the_levels_in_the_order_of_the_decisions():
    of = by_sampler({"ddim": [0.2, 0.1], "ddpm": [0.1, 0.05]})
    [finding] = told("which_sampler", of)
    table = decisions(of)
    compared, *_ = next(one for one in table.columns if one.title == "compared").values
    assert finding.rows[0][0] == compared.text == "ddpm against ddim"


def test_as_few_copies_as_new_images_are_no_sign_of_memory():
    [finding] = told("memorisation", beside({"ddim": {"memorisation": 0.04}}, error=0.01))
    assert (finding.verdict, finding.effect) == ("measured", pytest.approx(0.04))


def test_of_the_exact_denoiser_copies_are_no_fault():
    of = beside({"ddim": {"memorisation": 0.9}}, error=0.01)
    training = replace(of.cells[0].cell.training, model=made.part("exact"))
    exact = Study.of(replace(one, cell=replace(one.cell, training=training)) for one in of.cells)
    [finding] = told("memorisation", exact)
    assert finding.verdict == "measured"
    assert "exact denoiser" in finding.sentence


def test_a_distance_stands_in_a_table_beside_that_of_degraded_copies():
    degraded = {"half_resolution": 0.0381, "noisy": 0.0412, "pure_noise": 7.5}

    def more(result):
        kid = replace(result.measurements["kid"], degraded=degraded)
        return replace(result, measurements={"kid": kid})

    plain, beside_them = (by_steps({10: [0.1]}, baseline=0.0, **options)
                          for options in ({}, {"more": more}))  # fmt: skip
    assert len(told("distance_to_real_images", plain)[0].rows) == 2
    rows = told("distance_to_real_images", beside_them)[0].rows
    assert [value for _, value in rows[2:]] == ["0.0381", "0.0412", "7.50"]


def test_what_kid_cannot_separate_from_real_images_another_metric_may():
    def more(result):
        precision = made.measured(0.5, 0.01, baseline=0.68)
        return replace(result, measurements={**result.measurements, "precision": precision})

    [finding] = told("distance_to_real_images", by_steps({10: 0.001}, baseline=0.0, more=more))
    assert finding.verdict == "inconclusive"
    assert "Precision can: 0.500 instead of 0.680" in finding.sentence


# What is not said, and all of them together.


def test_what_could_not_be_tested_is_a_line_among_the_limitations():
    one_seed = unsaid(spreads((0.65, 0.71), (0.7, 0.75), values=ONE_SEED))
    assert any("closed form" in line for line in one_seed)
    assert any("One training seed" in line for line in one_seed)
    assert any("published" in line for line in one_seed)
    several = unsaid(spreads((0.65, 0.71), (0.7, 0.75), baseline=0.0))
    assert not any(word in line for word in ("closed form", "published", "One training seed")
                   for line in several)  # fmt: skip
    assert any("pure noise" in line for line in several)
    assert not any("pure noise" in line for line in unsaid(two_schedules(*LEARNS, **noise_of(1))))
    assert any("line" in line for line in unsaid(priced(0.9)))
    near = by_steps({5: 0.3, 50: 0.001}, baseline=0.0, error=0.01)
    assert any("10 %" in line for line in unsaid(near))
    assert told("fewest_evaluations_near_the_best", near) == unsaid(Study.of([])) == []


@pytest.mark.parametrize("answer", [lambda study: 1 / 0, lambda study: "no finding"])
def test_a_finding_of_another_package_that_fails_is_named_and_the_others_stay(monkeypatch, answer):
    of = two_schedules(*LEARNS)
    before_it = all_findings(of)
    monkeypatch.setattr(catalogue, "FINDINGS", Registry("finding", {**IN_ORDER, "odd": answer}))
    *others, odd = all_findings(of)
    assert others == before_it
    assert (odd.verdict, odd.evidence) == ("inconclusive", [])
    assert "'odd'" in odd.sentence
