"""Which schedule is best, at how many steps, and whether networks keep to their own."""

from __future__ import annotations

import pandas as pd

from harness.metrics.statistics import FEW_SEEDS
from harness.report.family import Contrast
from harness.report.finding import Finding, asked, finding_over
from harness.report.phrases import (
    at,
    described,
    magnitude,
    moved,
    over_seeds,
    pairs,
    quantity,
    signed,
    steps_by,
    unit_of,
    versus,
)
from harness.report.points import Point, best, points
from harness.report.words import at_steps, listed


def schedule_at_few_steps(frame: pd.DataFrame) -> Finding | None:
    """Which schedule is best at the fewest steps?"""
    contrasts = asked(frame, "schedule")
    return _schedule_at(frame, contrasts[0]) if contrasts else None


def schedule_at_many_steps(frame: pd.DataFrame) -> Finding | None:
    """Which schedule is best at the most steps?"""
    contrasts = asked(frame, "schedule")
    return _schedule_at(frame, contrasts[-1]) if len(contrasts) > 1 else None


def schedule_across_steps(frame: pd.DataFrame) -> Finding | None:
    """Is the same schedule best at every number of steps?"""
    contrasts = asked(frame, "schedule")
    if len(contrasts) < 2:
        return None
    decided = [contrast for contrast in contrasts if contrast.winner]
    undecided = [contrast for contrast in contrasts if not contrast.winner]
    # Without a verdict the means still have an order, which is said as that and no more.
    won = steps_by(decided or contrasts, lambda c: (c.winner or best([c.first, c.second])).schedule)
    leader = next(iter(won))
    unit = unit_of(frame)
    tried = f"at every number of {unit}s tried ({listed(f'{c.first.steps:,}' for c in contrasts)})"
    where = tried if len(won[leader]) == len(contrasts) else at_steps(won[leader], unit)
    split = listed(f"{name} {at_steps(steps, unit)}" for name, steps in won.items())
    if decided:
        words = (
            f"The {leader} schedule is best {where}, by {quantity(frame)}"
            if len(won) == 1
            else f"Which schedule is best depends on the {unit}s: {split}, by {quantity(frame)}"
        )
        words += f"; {at(undecided)} no schedule can be told from the next" if undecided else ""
        narrowest = min(decided, key=lambda contrast: abs(contrast.comparison.difference))
        gap = f"{magnitude(narrowest.comparison)}, {at_steps([narrowest.first.steps], unit)}"
        words += f" (the narrowest gap is {gap})"
    else:
        reason = undecided[0].comparison.reason
        ahead = f"the {leader} schedule is ahead {where}" if len(won) == 1 else f"ahead is {split}"
        words = f"By the means of {quantity(frame)} {ahead}, but without a verdict: {reason}"
        narrowest = min(contrasts, key=lambda contrast: abs(contrast.comparison.difference))
    words += _not_compared(frame, contrasts)
    return finding_over(
        f"Is the same schedule best at every number of {unit}s?", words, contrasts, narrowest,
        verdict=decided[0].comparison.verdict if decided else "inconclusive",
    )  # fmt: skip


def sampled_elsewhere(frame: pd.DataFrame) -> Finding | None:
    """Is a network best sampled under the schedule that it was trained under?"""
    contrasts = asked(frame, "elsewhere")
    if not contrasts:
        return None
    parts = []
    for trained in dict.fromkeys(contrast.first.trained for contrast in contrasts):
        of_it = [contrast for contrast in contrasts if contrast.first.trained == trained]
        verdicts = {
            verdict: [contrast for contrast in of_it if contrast.comparison.verdict == verdict]
            for verdict in ("better", "worse", "inconclusive")
        }
        words = {
            "better": f"is best sampled under its own {at(verdicts['better'])}",
            "worse": f"is better sampled under another {at(verdicts['worse'])} "
            f"({pairs(verdicts['worse'])})",
            "inconclusive": f"gives no verdict {at(verdicts['inconclusive'])}",
        }
        parts.append(
            f"a network trained under {trained} "
            + listed(words[verdict] for verdict, those in verdicts.items() if those)
        )
    strongest = max(contrasts, key=lambda contrast: abs(contrast.comparison.difference))
    numbers = f"{described(strongest.first)} against {strongest.second.schedule}"
    words_of_all = (
        f"By {quantity(frame)}, {'; '.join(parts)} (the widest gap: {numbers}, {versus(strongest)})"
    )
    return finding_over(
        "Is a network best sampled under the schedule it was trained under?",
        words_of_all, contrasts, strongest,
    )  # fmt: skip


def _schedule_at(frame: pd.DataFrame, contrast: Contrast) -> Finding:
    first, second, comparison = contrast.first, contrast.second, contrast.comparison
    there = at_steps([first.steps], first.unit)
    where = f"{there.capitalize()} with {first.sampler},"
    numbers = f"{quantity(frame)} is {versus(contrast)}"
    if contrast.winner:
        words = (
            f"{where} {first.schedule} is {comparison.verdict} than {second.schedule}: {numbers}, "
            f"{moved(comparison, 'lower', 'higher')}{_over_what(contrast)}"
        )
    elif comparison.n in FEW_SEEDS and not first.is_exact:
        words = (
            f"{where} {first.schedule} is ahead of {second.schedule} ({numbers}), "
            f"but {comparison.reason}"
        )
    else:
        words = (
            f"{where} {first.schedule} and {second.schedule} cannot be told apart: {numbers}, "
            f"{signed(comparison)}{_over_what(contrast)}, {comparison.reason}"
        )
    question = f"Which schedule is best {there}?"
    words += _elsewhere(frame, contrast) + _not_compared(frame, [contrast])
    return finding_over(question, words, [contrast], contrast)


def _over_what(contrast: Contrast) -> str:
    """` over 3 training seeds`; nothing where no network is trained."""
    return "" if contrast.first.is_exact else f" {over_seeds(contrast.comparison)}"


def _elsewhere(frame: pd.DataFrame, contrast: Contrast) -> str:
    """Whether the other samplers order these two schedules the same way: no test, only means."""
    here = {(p.schedule, p.sampler): p for p in points(frame) if p.steps == contrast.first.steps}
    orders: dict[bool, list[str]] = {}
    for sampler in sorted({sampler for _, sampler in here} - {contrast.first.sampler}):
        first = here.get((contrast.first.schedule, sampler))
        second = here.get((contrast.second.schedule, sampler))
        if first and second:
            orders.setdefault(first.rank <= second.rank, []).append(sampler)
    parts = [
        f"with {listed(samplers)} the means are in the {'same' if is_same else 'opposite'} order"
        for is_same, samplers in sorted(orders.items(), reverse=True)
    ]
    return f"; {listed(parts)}" if parts else ""


def _not_compared(frame: pd.DataFrame, contrasts: list[Contrast]) -> str:
    """The schedules that are ahead by the mean of the seeds they share with the leader, with the
    same sampler, but share too few to be held against it."""
    ahead: dict[str, list[int]] = {}
    for contrast in contrasts:
        leader = contrast.first
        for point in points(frame):
            seeds = point.values.keys() & leader.values.keys()
            if (
                point.is_home
                and (point.steps, point.sampler) == (leader.steps, leader.sampler)
                and 0 < len(seeds) < contrast.comparison.n
                and _better_on(seeds, point, leader)
            ):
                ahead.setdefault(point.schedule, []).append(point.steps)
    return "".join(
        f"; {schedule}, ahead {at_steps(steps, unit_of(frame))} by the mean, has too few training "
        "seeds in common with it to be compared"
        for schedule, steps in ahead.items()
    )


def _better_on(seeds: set[int], point: Point, other: Point) -> bool:
    gap = sum(point.centres[seed] - other.centres[seed] for seed in seeds)
    return gap < 0 if point.lower_is_better else gap > 0
