"""What the report says: every finding by name, each a predicate over the table.

A finding reads the tidy frame of one comparable group (`table.tidy`) and returns what the numbers
support: a sentence with its effect, interval and verdict, or None where there is nothing to say.
What cannot be decided says so, and what would decide it. To add one, write the function in
`questions/` and name it in BUILT_IN; another package uses the entry point `harness.findings`.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from harness.registry import Registry
from harness.report.finding import Finding, Found
from harness.report.points import best, points
from harness.report.questions.best import (
    best_of_all,
    best_under_a_budget,
    best_under_a_time_budget,
    fewest_evaluations_near_the_best,
    pareto_front,
)
from harness.report.questions.costs import (
    forecast_against_actual,
    more_steps,
    price_of_an_evaluation,
)
from harness.report.questions.luck import sampling_spread, training_spread, without_verdict
from harness.report.questions.networks import (
    distance_to_real_images,
    memorisation,
    sampler_against_network,
    training_long_enough,
    variety_against_fidelity,
)
from harness.report.questions.published import published_order, published_schedules
from harness.report.questions.samplers import ddim_against_ddpm, effect_of_spacing, price_of_eta
from harness.report.questions.schedules import (
    sampled_elsewhere,
    schedule_across_steps,
    schedule_at_few_steps,
    schedule_at_many_steps,
)
from harness.report.questions.theory import contrast_lost, why_at_few_steps


def found(frame: pd.DataFrame) -> list[Finding]:
    """All findings of one comparable group, in the order of the questions."""
    findings: list[Finding] = []
    for name in [*BUILT_IN, *(name for name in FINDINGS if name not in BUILT_IN)]:
        answer = FINDINGS[name](frame)
        findings += answer if isinstance(answer, list) else [answer] if answer else []
    return findings


def answers(frame: pd.DataFrame) -> list[Finding]:
    """The findings that answer the three questions of the title, at most one for each."""
    everything = points(frame)
    if not everything:
        return []
    leader = best(everything).schedule
    samplers = sorted(
        ddim_against_ddpm(frame), key=lambda found: not found.question.endswith(f"with {leader}?")
    )
    chosen = [
        schedule_across_steps(frame) or schedule_at_few_steps(frame),
        samplers[0] if samplers else None,
        fewest_evaluations_near_the_best(frame) or best_of_all(frame),
    ]
    return [finding for finding in chosen if finding]


# In the order in which a reader asks; the registry itself is in the order of names.
BUILT_IN: dict[str, Callable[[pd.DataFrame], Found]] = {
    "best_of_all": best_of_all,
    "schedule_at_few_steps": schedule_at_few_steps,
    "schedule_at_many_steps": schedule_at_many_steps,
    "schedule_across_steps": schedule_across_steps,
    "published_schedules": published_schedules,
    "why_at_few_steps": why_at_few_steps,
    "contrast_lost": contrast_lost,
    "ddim_against_ddpm": ddim_against_ddpm,
    "price_of_eta": price_of_eta,
    "effect_of_spacing": effect_of_spacing,
    "published_order": published_order,
    "fewest_evaluations_near_the_best": fewest_evaluations_near_the_best,
    "more_steps": more_steps,
    "best_under_a_budget": best_under_a_budget,
    "best_under_a_time_budget": best_under_a_time_budget,
    "pareto_front": pareto_front,
    "price_of_an_evaluation": price_of_an_evaluation,
    "forecast_against_actual": forecast_against_actual,
    "training_spread": training_spread,
    "sampling_spread": sampling_spread,
    "training_long_enough": training_long_enough,
    "sampler_against_network": sampler_against_network,
    "sampled_elsewhere": sampled_elsewhere,
    "distance_to_real_images": distance_to_real_images,
    "variety_against_fidelity": variety_against_fidelity,
    "memorisation": memorisation,
    "without_verdict": without_verdict,
}

FINDINGS = Registry("finding", BUILT_IN)
