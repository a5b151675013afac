"""Relative differences as figures draw them: which pairs of levels, and on which axis."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import isfinite, log1p

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from harness.analysis.configurations import Configuration
from harness.analysis.decisions import is_vague
from harness.analysis.factors import SAMPLED_UNDER
from harness.analysis.questions import Comparison, MainEffect, Question, questions
from harness.analysis.statistics import Interval
from harness.analysis.study import Study
from harness.report.figures.style import INK
from harness.report.wording import count, number

# Ticks of an axis of ratios, as shares: evenly spaced where it is short, else as many of these as
# there is room for, those named first before the others.
STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25)
TICKS = (0, -0.5, 1, -0.9, 9, -0.75, 3, -0.99, 99, -0.25, 0.5, -0.999, 999, 2, 5, -0.1, 0.2, 0.1)
SHOWN_BOUNDS = 2.5  # times as far as the farthest effect: what a bound may stretch an axis to


def leading(question: Question) -> list[MainEffect]:
    """The level that is best, or ahead of most others by the mean, against each other level, the
    closest first; of an ordered factor each level against the one before."""
    if question.factor.is_ordered:
        return [one.turned for one in question.main]
    leader = question.leader
    made = [one if one.first == leader else one.turned
            for one in question.main if leader in (one.first, one.second)]  # fmt: skip
    sign = 1 if all(one.effect.lower_is_better for one in made) else -1
    return sorted(made, key=lambda one: (not isfinite(one.effect.value), -sign * one.effect.value))


def leading_question(study: Study) -> Question | None:
    """The question whose effect is drawn at each number of steps: that of the schedule, else the
    first with a verdict, else the first."""
    asked = [one for one in questions(study) if not one.factor.is_ordered]
    named = [one for one in asked if one.name == "schedule"]
    sure = [one for one in asked
            if any(m.verdict != "inconclusive" for m in one.main)
            or any(c.verdict != "inconclusive" for c in one.comparisons)]  # fmt: skip
    return next(iter([*named, *sure, *asked]), None)


def named(one: MainEffect, unit: str) -> tuple[str, str]:
    """Its levels in words: `cosine` and `linear`, `50 steps` and `20`, `batch size 64` and `32`."""
    if isinstance(one.first, str):
        return one.first, str(one.second)
    if one.question == "steps":
        return count(int(one.first), unit), f"{one.second:,}"
    return f"{one.question.replace('_', ' ')} {one.first:,}", f"{one.second:,}"


def shared(one: Comparison, everywhere: set[str]) -> str:
    """What both configurations are, less what all of a study are: `ddim, 5 steps`."""
    first, second = parts(one.first), parts(one.second)
    kept = [part for part in first if part in second and part not in everywhere]
    if one.question == SAMPLED_UNDER.name:
        names = sorted((one.first.schedule, one.second.schedule), key=len)
        kept.insert(0, names[-1].replace(" sampled as ", " as "))
    return ", ".join(kept)


def parts(one: Configuration) -> list[str]:
    """All that its labels say, each by itself, and its number of steps, which no line breaks."""
    labels = re.split(r", (?![^(]*\))", f"{one.schedule}, {one.sampler}")
    return [*labels, count(one.steps, one.unit).replace(" ", "\N{NO-BREAK SPACE}")]


def per_cent(span: Interval) -> str:
    """`−56 % [−72, −41]`; empty where values near zero make a ratio meaningless."""
    if is_vague(span):
        return ""
    reach = 100 * (span.high - span.low) / 2
    decimals = 1 if reach < 1 or (not isfinite(reach) and abs(span.estimate) < 0.1) else 0
    low, value, high = (
        number(100 * each, decimals=decimals) for each in (span.low, span.estimate, span.high)
    )
    return f"{value} % [{low}, {high}]" if isfinite(reach) else f"{value} %"


def ratio_axis(axes: Axes, which: str, spans: Iterable[Interval], inches: float) -> bool:
    """An axis of logarithms of ratios with ticks in per cent and a line at no difference, for
    these; whether an interval goes on beyond its end."""
    known = [one for one in spans if isfinite(one.estimate)]
    values = [one.estimate for one in known] + [0.0]
    farthest = SHOWN_BOUNDS * max(0.02, *map(abs, values))
    bounds = [end for one in known for end in (one.low, one.high) if isfinite(end)]
    ends = [*values, *(max(-farthest, min(farthest, end)) for end in bounds)]
    room = 0.06 * (max(ends) - min(ends)) or 0.1
    low, high = min(ends) - room, max(ends) + room
    letters = 0.5 if which == "x" else 0.3  # inches that a number needs along the axis
    apart = letters * (high - low) / inches
    ticks = _ticks(low, high, apart)
    axis, line = (axes.xaxis, axes.axvline) if which == "x" else (axes.yaxis, axes.axhline)
    line(0, color=INK, linewidth=1, zorder=1.5)
    axis.set(major_locator=FixedLocator(ticks), minor_locator=NullLocator())
    axis.set_major_formatter(lambda value, _: f"{_signed(100 * np.expm1(value))} %")
    axes.set(**{f"{which}lim": (low, high)})
    return any(end < low or end > high for end in bounds)


def _ticks(low: float, high: float, apart: float) -> list[float]:
    """Logarithms of ratios between these, no nearer to each other than this."""

    def inside(shares: Iterable[float]) -> list[float]:
        return [place for one in shares if low <= (place := log1p(one)) <= high]

    for step in STEPS:
        even = inside(step * n for n in range(-12, 13) if step * n > -1)
        if 2 < len(even) < 8 and min(np.diff(even)) >= apart:
            return even
    kept: list[float] = []
    for place in inside(TICKS):
        if all(abs(place - other) >= apart for other in kept):
            kept.append(place)
    return kept


def _signed(value: float) -> str:
    text = number(round(value, 6), 2)
    return f"+{text}" if value > 1e-6 else text
