"""What is best: of all, for what it costs, and how little comes near it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from harness.report.family import contrast_between, contrast_of, family
from harness.report.finding import Finding
from harness.report.phrases import basis, described, is_known, magnitude, quantity, value
from harness.report.points import (
    BUDGETS,
    Point,
    best,
    best_of_each,
    budget_of_time,
    joules_of,
    points,
    seconds_of,
    within,
)
from harness.report.words import count, duration, listed, number, sentence
from harness.report.yardsticks import Z, floor_of, front, share_bounds

MOST_NAMED = 6  # ways in a sentence


def best_of_all(frame: pd.DataFrame) -> Finding | None:
    """Which combination is best, whatever it costs?"""
    everything = points(frame)
    if len(everything) < 2:
        return None
    return _best_of(
        frame,
        "Which combination is best, whatever it costs?",
        f"The best of the {count(len(everything), 'combination')} is",
        everything,
    )


def best_under_a_budget(frame: pd.DataFrame) -> list[Finding]:
    """What is best with at most 10, 25 and 50 network evaluations per image?"""
    everything = points(frame)
    budgets_of: dict[tuple[str, ...], list[float]] = {}
    for budget in BUDGETS:
        affordable = within(everything, budget)
        # A budget that everything fits into is the question of `best_of_all`.
        if 1 < len(affordable) < len(everything):
            budgets_of.setdefault(best(affordable).keys, []).append(budget)
    findings = []
    for budgets in budgets_of.values():
        limits = listed((int(budget) for budget in budgets), "or")
        most = f"at most {limits} network evaluations per image"
        findings.append(
            _best_of(
                frame,
                f"What is best with {most}?",
                f"With {most} the best is",
                within(everything, budgets[-1]),
            )
        )
    return findings


def best_under_a_time_budget(frame: pd.DataFrame) -> Finding | None:
    """What is best in a limited time per image?

    The limit is a round time that about half of the ways fit into, on one machine.
    """
    budget = budget_of_time(frame)
    if budget is None:
        return None
    where = f" on {budget.machine}" if budget.machine else ""
    return _best_of(
        frame,
        "What is best in a limited time?",
        f"In at most {duration(budget.seconds)} per image{where} the best is",
        budget.points,
    )


def pareto_front(frame: pd.DataFrame) -> Finding | None:
    """Which ways are worth what they cost?

    Those that nothing beats at the same cost or less: in evaluations, and where they were measured
    in seconds and joules.
    """
    everything = points(frame)
    placed = [(point.nfe, point) for point in everything]
    if len(everything) < 2 or len({cost for cost, _ in placed if is_known(cost)}) < 2:
        return None
    kept = [point for _, point in front(placed)]
    named = [f"{described(point)} ({number(point.mean)})" for point in kept[:MOST_NAMED]]
    if len(kept) > MOST_NAMED:
        named.append(f"{len(kept) - MOST_NAMED} more")
    direction = "lower" if kept[0].lower_is_better else "higher"
    words = (
        f"{len(kept)} of {count(len(everything), 'way')} of making images "
        f"{'is' if len(kept) == 1 else 'are'} worth the network evaluations: nothing as cheap has "
        f"a {direction} {quantity(frame)} than {listed(named)}"
    )
    unclear = [
        f"{described(dearer)} from {described(cheaper)}"
        for cheaper, dearer in pairwise(kept)
        if contrast_between("way", dearer, cheaper).comparison.verdict == "inconclusive"
    ]
    if unclear:
        words += f"; by themselves these cannot be told apart: {listed(unclear[:MOST_NAMED])}"
    words += "".join(_other_front(name, costs, kept, everything) for name, costs in _prices(frame))
    return Finding(
        "Which ways are worth what they cost?", sentence(words),
        sorted({key for point in kept for key in point.keys}),
        verdict="inconclusive" if unclear else "measured", n=kept[0].seeds,
        would_decide="more images per cell, and more training seeds" if unclear else "",
    )  # fmt: skip


def fewest_evaluations_near_the_best(frame: pd.DataFrame) -> Finding | None:
    """How few network evaluations come within 10 % of the best?

    Ten per cent of what is left above real held-out images, not of the raw value: an unbiased KID
    may be zero or below, where a percentage means nothing. Without a floor, the raw value.
    """
    everything = [point for point in points(frame) if is_known(point.nfe)]
    if len({point.nfe for point in everything}) < 2:
        return None
    question = "How few network evaluations come within 10 % of the best?"
    leader, floor = best(everything), floor_of(frame)
    yardstick = f"the {number(floor, 2)} of real held-out images" if is_known(floor) else "zero"
    floor = floor if is_known(floor) else 0.0
    left = (leader.mean - floor) * (1 if leader.lower_is_better else -1)
    if left <= (Z * leader.error if is_known(leader.error) else 0):
        words = (
            f"The best, {described(leader)}, is as near to {yardstick} as can be measured "
            f"({quantity(frame)} {value(leader)}), so ten per cent of the rest means nothing"
        )
        return Finding(
            question, sentence(words), list(leader.keys), leader.mean - floor, n=leader.seeds,
            verdict="inconclusive", would_decide="more images per cell, for a smaller error",
        )  # fmt: skip
    near = [point for point in everything if point.rank <= leader.rank + 0.1 * left]
    cheapest = min(near, key=lambda point: (point.nfe, point.rank, point.label))
    if cheapest.nfe == leader.nfe:
        words = f"{_no_cheaper(leader, everything)} ({quantity(frame)} {value(leader)})"
        return Finding(question, sentence(words), list(leader.keys), n=leader.seeds)
    share = (cheapest.mean - floor) / (leader.mean - floor) - 1
    low, high = share_bounds(cheapest, leader, floor)
    is_sure = high <= 0.1
    words = (
        f"{_evaluations(cheapest)} {'comes' if cheapest.nfe == 1 else 'come'} within 10 % of the "
        f"best: {described(cheapest)} has {quantity(frame)} {number(cheapest.mean)} against "
        f"{number(leader.mean)} for {described(leader)}, {number(100 * share, 2)} % further from "
        f"{yardstick}"
    )
    if not is_sure and is_known(high):
        words += (
            f", though sampling error allows {number(100 * low, 2)} to {number(100 * high, 2)} %"
        )
    return Finding(
        question, sentence(words), [*cheapest.keys, *leader.keys], share, low, high,
        "measured" if is_sure else "inconclusive", cheapest.seeds,
        "" if is_sure else "more images per cell, for a smaller error",
    )  # fmt: skip


def _prices(frame: pd.DataFrame) -> list[tuple[str, dict[tuple[str, ...], float]]]:
    """What else an image costs, by the keys of a point, where that was measured."""
    prices = []
    for name, costs in (("seconds", seconds_of(frame)), ("joules", joules_of(frame))):
        where = f" on {costs.machine}" if costs.machine else ""
        if costs.of:
            prices.append((f"{name}{where}", costs.of))
    return prices


def _other_front(
    name: str, costs: dict[tuple[str, ...], float], kept: list[Point], everything: list[Point]
) -> str:
    """How the front by another cost differs from that by evaluations."""
    other = [
        point
        for _, point in front([(costs.get(point.keys, np.nan), point) for point in everything])
    ]
    more = [described(point) for point in other if point not in kept]
    less = [described(point) for point in kept if point not in other]
    changes = [f"also {listed(more[:3])}"] if more else []
    changes += [f"not {listed(less[:3])}"] if less else []
    return f"; by {name} they are {', but '.join(changes) or 'the same'}"


def _best_of(frame: pd.DataFrame, question: str, where: str, candidates: list[Point]) -> Finding:
    """The best of these points, and how sure it is that the next way is worse."""
    ranked = best_of_each(candidates, lambda point: point.label)
    leader = ranked[0]
    words = f"{where} {described(leader)} ({quantity(frame)} {value(leader)})"
    contrast = contrast_of(family(frame), leader, ranked[1]) if len(ranked) > 1 else None
    span = leader.interval()
    if contrast is None:
        return Finding(
            question, sentence(words), list(leader.keys), leader.mean, span.low, span.high,
            n=leader.seeds,
        )  # fmt: skip
    told = (
        f"worse by {magnitude(contrast.comparison)} {basis(contrast.comparison)}"
        if contrast.winner
        else f"which cannot be told from it ({contrast.comparison.reason})"
    )
    words += f"; next comes {described(ranked[1])}, {told}"
    return Finding(
        question, sentence(words), list(contrast.keys), leader.mean, span.low, span.high,
        "better" if contrast.winner else "inconclusive", leader.seeds, contrast.would_decide,
    )  # fmt: skip


def _no_cheaper(leader: Point, everything: list[Point]) -> str:
    """What it means that nothing cheaper than the best comes near it."""
    tried = [point.nfe for point in everything]
    if leader.nfe == min(tried):
        return f"The best, {described(leader)}, is already the cheapest tried"
    more = "More evaluations still pay: nothing" if leader.nfe == max(tried) else "Nothing"
    return f"{more} under {_evaluations(leader)} comes within 10 % of the best, {described(leader)}"


def _evaluations(point: Point) -> str:
    return f"{count(round(point.nfe), 'network evaluation')} per image"
