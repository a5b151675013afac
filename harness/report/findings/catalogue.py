"""What the report says: every finding by name, each a function of a study.

A finding reads one `Study` and returns what its numbers support: a sentence with its effect,
interval and verdict, or None where there is nothing to say: what was not tested is a limitation
(`unsaid`). To add one, write the function beside those of its question and name it in IN_ORDER;
another package uses the entry point `harness.findings`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.analysis.learning import learned
from harness.analysis.study import Study
from harness.errors import PartFailed
from harness.registry import Registry
from harness.registry.foreign import contained
from harness.report.findings import (
    best,
    costs,
    denoising,
    networks,
    published,
    questions,
    theory,
    variance,
)
from harness.report.findings.finding import Finding, Found, checked, finding

OPEN = 10  # that stand open on the page, at most

# By what matters to a reader who has to choose.
IN_ORDER: dict[str, Callable[[Study], Found]] = {
    each.__name__: each
    for each in (
        networks.has_it_learned, questions.which_schedule, networks.training_long_enough,
        questions.which_sampler, questions.more_steps, best.fewest_evaluations_near_the_best,
        best.best_of_all, theory.why_at_few_steps, questions.open_questions, questions.what_else,
        networks.distance_to_real_images, networks.memorisation, theory.lost_at_few_steps,
        denoising.where_it_learned, denoising.how_much_it_learned, denoising.longer_training,
        best.best_under_a_budget, best.pareto_front, published.published_schedules,
        published.published_order, questions.effect_of_eta, theory.pixel_spread_lost,
        networks.sampler_against_network, networks.variety_against_fidelity,
        variance.between_seed_variance, variance.sampling_variance, costs.price_of_an_evaluation,
        costs.forecast_against_actual,
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
    """All findings of a study, those that matter most first and those of other packages last; where
    no network has learned anything, that alone."""
    if nothing := _nothing_learned(study):
        return nothing
    findings = [one for each in IN_ORDER.values() for one in _listed(each(study))]
    for name in FINDINGS:
        if name not in IN_ORDER:
            findings += _of_another_package(name, study)
    return findings


def matter(findings: Sequence[Finding]) -> tuple[list[Finding], list[Finding]]:
    """The findings that stand open on a page, and those that are folded."""
    return list(findings[:OPEN]), list(findings[OPEN:])


def _nothing_learned(study: Study) -> list[Finding]:
    found = learned(study)
    return _listed(networks.has_it_learned(study)) if found and not found.any_has_learned else []


def _listed(answer: Found) -> list[Finding]:
    return answer if isinstance(answer, list) else [answer] if answer else []


def _of_another_package(name: str, study: Study) -> list[Finding]:
    """What a finding of another package says. One that fails must not cost the report: it is named
    with its error."""
    try:
        with FINDINGS.blamed(name), contained():
            answer = FINDINGS[name](study)
            found = answer if isinstance(answer, list) else [answer] * (answer is not None)
            return list(map(checked, found))
    except PartFailed as error:
        needs = f"a repair of '{name}'"
        return [finding(f"What does '{name}' find?", f"The {error}", [], needs=needs)]
