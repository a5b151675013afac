"""What is best: of all, for what it costs, and at how few evaluations something comes near it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from harness.analysis import costs
from harness.analysis.comparisons import compared, comparison_of, comparisons
from harness.analysis.configurations import Configuration, best, best_of_each, within
from harness.analysis.reference import Z, share_bounds
from harness.analysis.statistics import Interval
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.finding import Finding, finding

MOST_NAMED = 6  # configurations in a sentence
SMALLER_ERROR = "more images per cell, for a smaller error"


def best_of_all(study: Study) -> Finding | None:
    """Which configuration is best, whatever it costs?"""
    everything = study.configurations()
    if len(everything) < 2:
        return None
    start = f"The best of the {say.count(len(everything), 'configuration')} is"
    return _best_of(study, "Which configuration is best, whatever it costs?", start, everything)


def best_under_a_budget(study: Study) -> list[Finding]:
    """What is best with at most 10, 25 and 50 network evaluations per image?"""
    everything = study.configurations()
    budgets_of: dict[tuple[str, ...], list[float]] = {}
    for budget in costs.BUDGETS:
        # A budget that everything fits into is the question of `best_of_all`.
        if 1 < len(affordable := within(everything, budget)) < len(everything):
            budgets_of.setdefault(best(affordable).keys, []).append(budget)
    findings = []
    for budgets in budgets_of.values():
        most = f"at most {say.listed(map(int, budgets), 'or')} network evaluations per image"
        question, affordable = f"What is best with {most}?", within(everything, budgets[-1])
        findings.append(_best_of(study, question, "The best is", affordable))
    return findings


def best_under_a_time_budget(study: Study) -> Finding | None:
    """What is best in a limited time per image?

    The limit is a round time that about half of the configurations fit into, on one machine.
    """
    budget = costs.budget_of_time(study)
    if budget is None:
        return None
    start = f"In at most {say.time_of(budget.seconds)} per image on {budget.machine} the best is"
    return _best_of(study, "What is best in a limited time?", start, budget.configurations)


def pareto_front(study: Study) -> Finding | None:
    """Which configurations are Pareto-optimal?

    Those that nothing beats at the same cost or less: in evaluations, and where they were measured
    in seconds and joules.
    """
    everything = study.configurations()
    if len({one.nfe for one in everything}) < 2:
        return None
    kept = _front(everything, {one.keys: one.nfe for one in everything})
    named = [f"{say.described(one)} ({say.number(one.mean)})" for one in kept[:MOST_NAMED]]
    named += [f"{len(kept) - MOST_NAMED} more"] if len(kept) > MOST_NAMED else []
    words = f"{len(kept)} of {say.count(len(everything), 'configuration')} {say.are(len(kept))} "
    words += f"Pareto-optimal in {study.named(study.metric)} and network evaluations: "
    words += say.listed(named)
    unclear = [
        f"{say.described(dearer)} and {say.described(cheaper)}"
        for cheaper, dearer in pairwise(kept)
        if compared("configuration", dearer, cheaper).difference.verdict == "inconclusive"
    ]
    if len(unclear) == len(kept) - 1 > 1:
        words += "; none is significantly better than the next cheaper one"
    elif unclear:
        words += f"; no significant difference between {say.listed(unclear[:MOST_NAMED])}"
    for unit, paid in (("seconds", costs.seconds_of(study)), ("joules", costs.joules_of(study))):
        if paid.of:
            words += f"; by {unit} on {paid.machine} {_beside(_front(everything, paid.of), kept)}"
    keys = (key for one in kept for key in one.keys)
    needs = "more images per cell, and more training seeds" if unclear else ""
    question = "Which configurations are Pareto-optimal?"
    return finding(question, words, keys, n=kept[0].seeds, needs=needs)


def fewest_evaluations_near_the_best(study: Study) -> Finding | None:
    """How few network evaluations come within 10 % of the best?

    Ten per cent of its distance to the real-data baseline, not of the raw value: an unbiased KID
    may be zero or below, where a percentage means nothing. Without a baseline, the raw value.
    """
    everything = study.configurations()
    if len({one.nfe for one in everything}) < 2:
        return None
    question = "How few network evaluations come within 10 % of the best?"
    leader, metric = best(everything), study.named(study.metric)
    baseline = study.baseline()
    origin = f"the real-data baseline ({say.number(baseline, 2)})"
    if np.isnan(baseline):
        baseline, origin = 0.0, "zero"
    left = (leader.mean - baseline) * (1 if leader.lower_is_better else -1)
    named, at_best = say.described(leader), f"({metric} {say.spanned(leader.interval)})"
    if left <= (Z * leader.error if np.isfinite(leader.error) else 0):
        words = f"The best, {named}, is as near to {origin} as can be measured {at_best}, so 10 % "
        words, left = f"{words}of the rest cannot be resolved", leader.mean - baseline
        return finding(question, words, leader.keys, left, n=leader.seeds, needs=SMALLER_ERROR)
    near = [one for one in everything if one.rank <= leader.rank + 0.1 * left]
    cheapest = min(near, key=lambda one: (one.nfe, one.rank, one.label))
    if cheapest.nfe == leader.nfe:
        words = f"{_no_cheaper(leader, everything)} {at_best}"
        return finding(question, words, leader.keys, n=leader.seeds)
    share = (cheapest.mean - baseline) / (leader.mean - baseline) - 1
    low, high = share_bounds(cheapest, leader, baseline)
    words = (
        f"{_evaluations(cheapest)} {'comes' if cheapest.nfe == 1 else 'come'} within 10 % of the "
        f"best: {say.described(cheapest)} has {metric} {say.number(cheapest.mean)} against "
        f"{say.number(leader.mean)} for {named}, {say.percent(share)} further from {origin}"
    )
    if not high <= 0.1 and np.isfinite(high):
        words += f" (sampling error allows {say.number(100 * low, 2)} to {say.percent(high)})"
    needs, span = "" if high <= 0.1 else SMALLER_ERROR, Interval(share, low, high, cheapest.seeds)
    return finding(question, words, cheapest.keys + leader.keys, span, n=span.n, needs=needs)


def _front(
    everything: Iterable[Configuration], paid: Mapping[tuple[str, ...], float]
) -> list[Configuration]:
    placed = [(paid.get(one.keys, np.nan), one) for one in everything]
    return [one for _, one in costs.pareto_front(placed)]


def _beside(front: list[Configuration], kept: list[Configuration]) -> str:
    more = [say.described(one) for one in front if one not in kept]
    less = [say.described(one) for one in kept if one not in front]
    changes = [f"also {say.listed(more[:3])}"] if more else []
    changes += [f"not {say.listed(less[:3])}"] if less else []
    return ", but ".join(changes) or "the same"


def _best_of(
    study: Study, question: str, start: str, candidates: Sequence[Configuration]
) -> Finding:
    """The best of these configurations, and how sure it is that the next is worse."""
    ranked = best_of_each(candidates, lambda one: one.label)
    leader = ranked[0]
    words = f"{start} {say.described(leader)} ({study.named(study.metric)} "
    words += f"{say.spanned(leader.interval)})"
    made = comparison_of(comparisons(study), leader, ranked[1]) if len(ranked) > 1 else None
    if made is None:
        return finding(question, words, leader.keys, leader.interval, n=leader.seeds)
    words += f"; next is {say.described(ranked[1])}, "
    if made.winner:
        words += f"worse by {say.magnitude(made.difference)} {say.basis(made.difference)}"
    else:
        words += f"with no significant difference ({say.why_undecided(made.difference)})"
    return finding(
        question, words, made.keys, leader.interval, verdict="better", n=leader.seeds,
        needs=made.would_decide,
    )  # fmt: skip


def _no_cheaper(leader: Configuration, everything: Iterable[Configuration]) -> str:
    tried = [one.nfe for one in everything]
    if leader.nfe == min(tried):
        return f"The best, {say.described(leader)}, is already the cheapest tried"
    more = "More evaluations still pay: nothing" if leader.nfe == max(tried) else "Nothing"
    near = f"comes within 10 % of the best, {say.described(leader)}"
    return f"{more} under {_evaluations(leader)} {near}"


def _evaluations(one: Configuration) -> str:
    return f"{say.count(round(one.nfe), 'network evaluation')} per image"
