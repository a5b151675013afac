"""What the report says: every finding by name, each a function of a study.

A finding reads one `Study` and returns what its numbers support: a sentence with its effect,
interval and verdict, or None where there is nothing to say. What cannot be decided says so, and
what would decide it. To add one, write the function beside those of its question and name it in
IN_ORDER; another package uses the entry point `harness.findings`.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.analysis import configurations
from harness.analysis.study import Study
from harness.registry import Registry
from harness.report.findings import (
    best,
    networks,
    published,
    samplers,
    schedules,
    steps_and_cost,
    theory,
    variance,
)
from harness.report.findings.finding import Finding, Found, finding

# In the order in which a reader asks.
IN_ORDER: dict[str, Callable[[Study], Found]] = {
    each.__name__: each
    for each in (
        best.best_of_all, schedules.schedule_at_few_steps, schedules.schedule_at_many_steps,
        schedules.schedule_across_steps, published.published_schedules, theory.why_at_few_steps,
        theory.pixel_spread_lost, samplers.ddim_against_ddpm, samplers.effect_of_eta,
        samplers.effect_of_spacing, published.published_order,
        best.fewest_evaluations_near_the_best, steps_and_cost.more_steps,
        best.best_under_a_budget, best.best_under_a_time_budget, best.pareto_front,
        steps_and_cost.price_of_an_evaluation, steps_and_cost.forecast_against_actual,
        variance.between_seed_variance, variance.sampling_variance,
        networks.training_long_enough, networks.sampler_against_network,
        schedules.mismatched_schedules, networks.distance_to_real_images,
        networks.variety_against_fidelity, networks.memorisation,
        variance.inconclusive_comparisons,
    )
}  # fmt: skip

FINDINGS = Registry(
    "finding",
    IN_ORDER,
    given=("study",),
    contract="""A function, whose first line of docstring says what it asks:

    finding(study) -> harness.report.findings.finding.Finding, a list of them, or None

study is a harness.analysis.study.Study.""",
)


def all_findings(study: Study) -> list[Finding]:
    """All findings of a study, in the order of the questions; those of other packages last."""
    findings = [one for each in IN_ORDER.values() for one in _listed(each(study))]
    for name in FINDINGS:
        if name not in IN_ORDER:
            findings += _of_another_package(name, study)
    return findings


def answers(study: Study) -> list[Finding]:
    """The findings that answer the three questions of the title, at most one for each."""
    if not study.configurations():
        return []
    leader = configurations.best(study.configurations()).schedule
    of_samplers = sorted(
        samplers.ddim_against_ddpm(study),
        key=lambda one: not one.question.endswith(f"with {leader}?"),
    )
    chosen = [
        schedules.schedule_across_steps(study) or schedules.schedule_at_few_steps(study),
        of_samplers[0] if of_samplers else None,
        best.fewest_evaluations_near_the_best(study) or best.best_of_all(study),
    ]
    return [one for one in chosen if one]


def _listed(answer: Found) -> list[Finding]:
    return answer if isinstance(answer, list) else [answer] if answer else []


def _of_another_package(name: str, study: Study) -> list[Finding]:
    """What a finding of another package says. One that fails must not cost the report: it is named
    with its error."""
    try:
        answer = _listed(FINDINGS[name](study))
        if not all(isinstance(one, Finding) for one in answer):
            raise TypeError("it returned something other than a Finding, a list of them, or None")
    except Exception as error:
        words = (
            f"The finding '{name}' of {FINDINGS.origin(name)} failed "
            f"({type(error).__name__}: {error})"
        )
        return [finding(f"What does '{name}' find?", words, [], needs=f"a repair of '{name}'")]
    return answer
