"""Whether samplers and schedules come in the order that others published."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from harness.report.family import Contrast, contrast_of, family, published_pairs
from harness.report.finding import Finding, asked, finding_over
from harness.report.phrases import quantity, steps_by, unit_of
from harness.report.points import points
from harness.report.published import PUBLISHED, WHERE_AHEAD, Published
from harness.report.words import at_steps, count, listed


@dataclass(frozen=True)
class Held:
    """One comparison of ours against the published order of the same two samplers."""

    better: str  # as published
    worse: str
    contrast: Contrast

    @property
    def steps(self) -> int:
        return self.contrast.first.steps

    @property
    def agrees(self) -> bool | None:
        """None where ours has no verdict."""
        return None if (won := self.contrast.winner) is None else won.kind == self.better


def published_order(frame: pd.DataFrame) -> list[Finding]:
    """Do samplers come in the order that others published, at about as many evaluations?"""
    return [
        _finding(frame, published, held)
        for published in PUBLISHED
        if (held := _held(frame, published))
    ]


def published_schedules(frame: pd.DataFrame) -> Finding | None:
    """Is linear or cosine ahead? Others found one on one data set and the other on another."""
    contrasts = [
        contrast
        for contrast in asked(frame, "schedule")
        if _is_linear_against_cosine(contrast) and not contrast.first.is_exact
    ]
    if not contrasts:
        return None
    unit = unit_of(frame)
    decided = [contrast for contrast in contrasts if contrast.winner]
    undecided = [contrast.first.steps for contrast in contrasts if not contrast.winner]
    ahead = steps_by(decided, lambda contrast: contrast.winner.schedule if contrast.winner else "")
    parts = [
        f"{name} is ahead {at_steps(steps, unit)} (as on {WHERE_AHEAD[_named(name)[0]]})"
        for name, steps in ahead.items()
    ]
    parts += [f"there is no verdict {at_steps(undecided, unit)}"] if undecided else []
    words = (
        "With 4,000 evaluations Nichol and Dhariwal (2021) found cosine_discrete ahead of linear "
        f"on {WHERE_AHEAD['cosine']} and a little behind it on {WHERE_AHEAD['linear']}, by FID. "
        f"Here, by {quantity(frame)}, {listed(parts)}"
    )
    return finding_over(
        "Is linear or cosine ahead, of which others found both?", words, contrasts,
        (decided or contrasts)[0], "measured" if decided else None,
    )  # fmt: skip


def _is_linear_against_cosine(contrast: Contrast) -> bool:
    (one, rest), (other, rest_of_other) = (
        _named(point.schedule) for point in (contrast.first, contrast.second)
    )
    return {one, other} == {*WHERE_AHEAD} and rest == rest_of_other


def _named(schedule: str) -> tuple[str, str]:
    """Its name without options, whether continuous or discrete; and what else the label says of
    its networks."""
    name, rest = re.fullmatch(r"(\w*)(?:\(.*?\))?(.*)", schedule).groups()  # type: ignore[union-attr]
    return name.removesuffix("_discrete"), rest


def _held(frame: pd.DataFrame, published: Published) -> list[Held]:
    contrasts = family(frame)
    held = [
        Held(*order, contrast)
        for first, second, order in published_pairs(points(frame), published)
        if (contrast := contrast_of(contrasts, first, second))
    ]
    return sorted(held, key=lambda each: (each.better, each.worse, each.steps))


def _finding(frame: pd.DataFrame, published: Published, held: list[Held]) -> Finding:
    agreeing = [each for each in held if each.agrees]
    opposed = [each for each in held if each.agrees is False]
    undecided = [each for each in held if each.agrees is None]
    parts = [
        f"{verb} {count(len(some), 'comparison')} ({_orders(some)})"
        for some, verb in (
            (agreeing, "agrees in"), (opposed, "disagrees in"), (undecided, "gives no verdict in"),
        )
        if some
    ]  # fmt: skip
    words = (
        f"With the order published for {published.source} at about as many evaluations, ours under "
        f"{published.schedule}, by {quantity(frame)}, {listed(parts)}"
    )
    words += "".join(f". {told}" for told in _crossings(published, held))
    return finding_over(
        f"Do the samplers come in the order published for {published.source}?", words,
        [each.contrast for each in held], (agreeing or opposed or held)[0].contrast,
        None if not agreeing + opposed else "measured",
    )  # fmt: skip


def _orders(held: Iterable[Held]) -> str:
    """`ddim ahead of ddpm at 10 and 20 steps`, which is the published order."""
    steps: dict[tuple[str, str], list[int]] = {}
    unit = "step"
    for each in held:
        steps.setdefault((each.better, each.worse), []).append(each.steps)
        unit = each.contrast.first.unit
    return listed(
        f"{better} ahead of {worse} {at_steps(some, unit)}"
        for (better, worse), some in steps.items()
    )


def _crossings(published: Published, held: list[Held]) -> Iterable[str]:
    """Where one sampler overtakes another there, and where here."""
    decided = [each for each in held if each.agrees is not None]
    for pair in dict.fromkeys(frozenset((each.better, each.worse)) for each in decided):
        ours = sorted(
            (each for each in decided if {each.better, each.worse} == pair),
            key=lambda each: each.steps,
        )
        first, second = sorted(pair)
        for low, high, wins, loses in published.crossings(first, second):
            here = next(
                (
                    (before.steps, after.steps)
                    for before, after in pairwise(ours)
                    if _winner(before) == loses and _winner(after) == wins
                ),
                None,
            )
            told = f"There {wins} overtakes {loses} between {low} and {high} evaluations; "
            if here:
                yield f"{told}here between {here[0]} and {here[1]}"
            elif len(ours) > 1:
                yield f"{told}here {_winner(ours[-1])} is ahead at {ours[-1].steps}"


def _winner(held: Held) -> str:
    return held.better if held.agrees else held.worse
