"""What is best: of all, for what it costs, and at how few evaluations something comes near it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

from harness.analysis import costs
from harness.analysis.configurations import Configuration, best, best_of_each, within
from harness.analysis.questions import EXPLORATORY, Comparison, exploratory
from harness.analysis.reference import Z, share_bounds
from harness.analysis.statistics import Interval
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.finding import Finding, finding


def best_of_all(study: Study) -> Finding | None:
    """Which configuration is best, whatever it costs?"""
    everything = study.configurations()
    if len(everything) < 2:
        return None
    metric, leader = study.metric.title, best(everything)
    words = f"{metric} of {say.spanned(leader.interval)} is the best of "
    words += f"{len(everything):,} configurations: {say.described(leader)}"
    made = _against_next(study, everything)
    if made:
        words += f". {_next(study).capitalize()} is {say.described(made.second)}, {_by(made)}"
    is_sure = made is not None and made.winner is not None
    return finding(
        "Which configuration is best, whatever it costs?", words,
        made.keys if made else leader.keys, leader.interval, n=leader.seeds,
        verdict="better" if is_sure else "measured",
    )  # fmt: skip


def best_under_a_budget(study: Study) -> Finding | None:
    """What is best with at most 10, 25 and 50 network evaluations per image, or in a limited time?

    The time is a round one that about half of the configurations fit into, on one machine.
    """
    every = _budgets(study)
    if not every:
        return None
    won: dict[str, list[str]] = {}
    for name, affordable in every.items():
        won.setdefault(say.described(best(affordable)), []).append(name)
    parts = [f"{configuration} within {say.listed(names)}" for configuration, names in won.items()]
    rows = []
    for name, affordable in every.items():
        leader, made = best(affordable), _against_next(study, affordable)
        of_next = (say.described(made.second), say.gap(made), _judged(made)) if made else ("–",) * 3
        rows.append((name, say.described(leader), say.spanned(leader.interval), *of_next))
    leaders = [best(affordable) for affordable in every.values()]
    return finding(
        "What is best under a budget?", f"Best by {study.metric.title}: {'; '.join(parts)}",
        (key for one in leaders for key in one.keys), leaders[0].interval, n=leaders[0].seeds,
        columns=("within", "best", "its value", _next(study), "difference", "verdict"), rows=rows,
    )  # fmt: skip


def pareto_front(study: Study) -> Finding | None:
    """Which configurations are Pareto-optimal?

    Those that nothing beats at the same cost or less: in evaluations, and where they were measured
    in seconds and joules.
    """
    everything = study.configurations()
    if len({one.nfe for one in everything}) < 2:
        return None
    kept = _front(everything, {one.keys: one.nfe for one in everything})
    words = f"{len(kept):,} of {say.count(len(everything), 'configuration')} {say.are(len(kept))} "
    words += f"Pareto-optimal in {study.metric.title} and network evaluations"
    others = []
    for unit, paid in (("seconds", costs.seconds_of(study)), ("joules", costs.joules_of(study))):
        if paid.of:
            is_same = {*_front(everything, paid.of)} == {*kept}
            others.append(f"{'the same' if is_same else 'others'} by measured {unit}")
    words += f"; {say.listed(others)}" if others else ""
    made = {one.first: one for one in _explored(study) if one.first in kept and one.second in kept}
    rows = [
        (say.described(one), f"{one.nfe:,.0f}", say.spanned(one.interval),
         _judged(made[one]) if one in made else "–")
        for one in kept
    ]  # fmt: skip
    return finding(
        "Which configurations are Pareto-optimal?", words, (k for one in kept for k in one.keys),
        n=kept[0].seeds, rows=rows,
        columns=("configuration", "evaluations", study.metric.title, "against the next cheaper"),
    )  # fmt: skip


def fewest_evaluations_near_the_best(study: Study) -> Finding | None:
    """How few network evaluations come within 10 % of the best?

    Ten per cent of its distance to the real-data baseline, not of the raw value: an unbiased KID
    may be zero or below, where a percentage means nothing. Without a baseline, the raw value.
    """
    everything = study.configurations()
    if len({one.nfe for one in everything}) < 2 or not (left := _to_real_images(study)):
        return None
    question = "How few network evaluations come within 10 % of the best?"
    leader, baseline = best(everything), _origin(study)
    near = [one for one in everything if one.rank <= leader.rank + 0.1 * left]
    cheapest = min(near, key=lambda one: (one.nfe, one.rank, one.label))
    if cheapest.nfe == leader.nfe:
        words = f"Nothing cheaper comes within 10 % of the best, {say.described(leader)}"
        if leader.nfe == min(one.nfe for one in everything):
            words = f"The best, {say.described(leader)}, is the cheapest, too"
        return finding(question, words, leader.keys, n=leader.seeds)
    share = (cheapest.mean - baseline) / (leader.mean - baseline) - 1
    low, high = share_bounds(cheapest, leader, baseline)
    is_sure = high <= 0.1
    words = (
        f"{say.described(cheapest)} comes{'' if is_sure else ', by the mean,'} within 10 % of the "
        f"best, {say.described(leader)}: {study.metric.title} is {say.number(cheapest.mean)} "
        f"instead of {say.number(leader.mean)}"
    )
    return finding(
        question, words, cheapest.keys + leader.keys, Interval(share, low, high, cheapest.seeds),
        n=cheapest.seeds, needs="" if is_sure else "more images per cell",
    )  # fmt: skip


def is_too_near_to_tell(study: Study) -> bool:
    """Whether the best is as near to real images as can be measured, so that 10 % of the rest
    cannot be resolved."""
    return len({one.nfe for one in study.configurations()}) > 1 and not _to_real_images(study)


def _to_real_images(study: Study) -> float:
    """How far the best is from the real-data baseline; 0 where that is within sampling error."""
    leader = best(study.configurations())
    left = (leader.mean - _origin(study)) * (1 if leader.lower_is_better else -1)
    return left if left > (Z * leader.error if np.isfinite(leader.error) else 0) else 0.0


def _origin(study: Study) -> float:
    baseline = study.baseline()
    return baseline if np.isfinite(baseline) else 0.0


def _front(
    everything: Iterable[Configuration], paid: Mapping[tuple[str, ...], float]
) -> list[Configuration]:
    placed = [(paid.get(one.keys, np.nan), one) for one in everything]
    return [one for _, one in costs.pareto_front(placed)]


def _budgets(study: Study) -> dict[str, Sequence[Configuration]]:
    """What each budget allows. One that everything fits into is the question of `best_of_all`."""
    everything = study.configurations()
    found: dict[str, Sequence[Configuration]] = {}
    for budget in costs.BUDGETS:
        if 1 < len(affordable := within(everything, budget)) < len(everything):
            found[f"{budget:.0f} evaluations"] = affordable
    if (limited := costs.budget_of_time(study)) is not None:
        found[say.time_of(limited.seconds)] = limited.configurations
    return found


def _ranked(candidates: Sequence[Configuration]) -> list[Configuration]:
    return best_of_each(candidates, lambda one: one.label)[:2]


@lru_cache(maxsize=8)
def _explored(study: Study) -> list[Comparison]:
    """The comparisons that are chosen by their results, judged together: the best against the next,
    under every budget and without one, and along the Pareto front."""
    everything = study.configurations()
    pairs = [_ranked(each) for each in (everything, *_budgets(study).values())]
    front = _front(everything, {one.keys: one.nfe for one in everything})
    pairs += [[dearer, cheaper] for cheaper, dearer in pairwise(front)]
    once = {tuple(pair): None for pair in pairs if len(pair) == 2}
    return exploratory(study, [(first, second) for first, second in once])


def _against_next(study: Study, candidates: Sequence[Configuration]) -> Comparison | None:
    pair = _ranked(candidates)
    return next((one for one in _explored(study) if [one.first, one.second] == pair), None)


def _next(study: Study) -> str:
    """What the best is compared with: hardly the same with a step more."""
    return f"the next that differs in more than its {study.unit}s"


def _by(made: Comparison) -> str:
    """`5.3 % higher [1.0, 9.8]`, of the second of the two."""
    told = say.change(made.effect.reversed) or f"with {say.number(made.second.mean)}"
    told += "" if made.winner else ", not significantly worse"
    return f"{told} (exploratory)" if made.question == EXPLORATORY else told


def _judged(made: Comparison) -> str:
    told = made.effect.why or made.verdict
    return f"{told} (exploratory)" if made.question == EXPLORATORY else told
