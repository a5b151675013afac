"""Which sampler is best, what fresh noise does, and how to space the steps."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd

from harness.report.family import Contrast
from harness.report.finding import Finding, asked, finding_over
from harness.report.phrases import (
    at,
    described,
    is_known,
    quantity,
    signed,
    steps_by,
    unit_of,
    versus,
)
from harness.report.points import Point, points
from harness.report.words import at_steps, count, listed, number


def ddim_against_ddpm(frame: pd.DataFrame) -> list[Finding]:
    """Is DDIM or DDPM better, and at how many steps does one overtake the other?"""
    contrasts = [
        contrast
        for contrast in asked(frame, "sampler")
        if (contrast.first.kind, contrast.second.kind) == ("ddim", "ddpm")
    ]
    return [
        _one_against_another(
            frame, line, f"Is {line[0].first.sampler} or {line[0].second.sampler} better with "
            f"{line[0].first.schedule}?",
        )
        for line in _lines(contrasts)
    ]  # fmt: skip


def price_of_eta(frame: pd.DataFrame) -> list[Finding]:
    """What does the fresh noise of eta do to DDIM?"""
    return [
        _one_against_another(
            frame, line, f"What does fresh noise (eta) do to DDIM with {line[0].first.schedule}?",
            _by_eta(frame, line[0].first),
        )
        for line in _lines(asked(frame, "eta"))
    ]  # fmt: skip


def effect_of_spacing(frame: pd.DataFrame) -> Finding | None:
    """Does it matter how the steps are spaced?"""
    contrasts = asked(frame, "spacing")
    if not contrasts:
        return None
    unit, decided = unit_of(frame), [contrast for contrast in contrasts if contrast.winner]
    undecided = [contrast for contrast in contrasts if not contrast.winner]
    widest = max(decided or contrasts, key=lambda contrast: abs(contrast.comparison.difference))
    gap = (
        f"{described(widest.first)} against {widest.second.spacing}: {versus(widest)}, "
        f"{signed(widest.comparison)}"
    )
    if decided:
        won = steps_by(decided, lambda contrast: (contrast.winner or contrast.first).spacing)
        split = listed(f"{name} {at_steps(steps, unit)}" for name, steps in won.items())
        words = f"The best spacing is {split}, by {quantity(frame)}"
        words += f"; {at(undecided)} the best cannot be told from the next" if undecided else ""
    else:
        words = (
            f"By {quantity(frame)} the best spacing cannot be told from the next {at(contrasts)}"
        )
    return finding_over(
        "Does it matter how the steps are spaced?", f"{words} (the widest gap: {gap})", contrasts,
        widest,
    )  # fmt: skip


def _lines(contrasts: list[Contrast]) -> list[list[Contrast]]:
    """The contrasts of each schedule and setting, by the number of steps."""
    lines: dict[tuple[str, str], list[Contrast]] = {}
    for contrast in contrasts:
        line = (contrast.first.schedule, contrast.first.setting)
        lines.setdefault(line, []).append(contrast)
    return [line for _, line in sorted(lines.items())]


def _by_eta(frame: pd.DataFrame, like: Point) -> str:
    """The means at each eta between, where there are more than two."""
    alike = [
        point
        for point in points(frame)
        if point.kind.startswith("ddim")
        and is_known(point.eta)
        and (point.schedule, point.setting) == (like.schedule, like.setting)
        and point.steps == like.steps
    ]
    if len(alike) < 3:
        return ""
    alike = sorted(alike, key=lambda point: point.eta)
    means = listed(f"{number(point.mean)} at eta {point.eta:g}" for point in alike)
    return f"; {at_steps([like.steps], like.unit)} it is {means}"


def _one_against_another(
    frame: pd.DataFrame, contrasts: list[Contrast], question: str, beside: str = ""
) -> Finding:
    """Two samplers under one schedule at every number of steps, and where one overtakes."""
    first, second = contrasts[0].first, contrasts[0].second
    decided = [contrast for contrast in contrasts if contrast.winner]
    undecided = [contrast for contrast in contrasts if not contrast.winner]
    verdicts = steps_by(decided, lambda contrast: contrast.comparison.verdict)
    parts = [f"{verdict} {at_steps(steps, first.unit)}" for verdict, steps in verdicts.items()]
    parts = [f"{parts[0].replace(' ', f' than {second.sampler} ', 1)}", *parts[1:]] if parts else []
    words = f"With {first.schedule}, {first.sampler} "
    if parts:
        words += f"is {listed(parts)}"
        words += f", without a verdict {at(undecided)}" if undecided else ""
    else:
        words += f"cannot be told from {second.sampler} {at(undecided)}"
    turns = [
        f"{after.winner.sampler} overtakes between {before.first.steps:,} and "
        f"{after.first.steps:,} {first.unit}s"
        for before, after in pairwise(decided)
        if before.winner and after.winner and before.winner.sampler != after.winner.sampler
    ]
    words += f", so {listed(turns)}" if turns else ""
    ends = contrasts if len(contrasts) < 2 else [contrasts[0], contrasts[-1]]
    numbers = listed(f"{versus(c)} {at_steps([c.first.steps], first.unit)}" for c in ends)
    words += (
        f" ({quantity(frame)} {numbers}; on {count(contrasts[0].comparison.n, 'trained model')})"
    )
    return finding_over(question, words + beside, contrasts, (decided or contrasts)[0])
