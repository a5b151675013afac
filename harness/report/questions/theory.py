"""Why: what is known beforehand of schedules and samplers, held against what was measured.

For Gaussian data the images of an exact denoiser are known in closed form. With the covariance of
the training images it foresees how much contrast, the spread of images around their mean, a way of
sampling keeps.
"""

from __future__ import annotations

import pandas as pd

from harness.report.family import Contrast
from harness.report.finding import Finding, asked
from harness.report.phrases import is_known, quantity, versus
from harness.report.points import best, points
from harness.report.words import at_steps, estimate, listed, number, sentence
from harness.report.yardsticks import Z, mean_of

FULL = 0.99  # of the signal: a schedule that ends above this loses nothing that shows
ALIKE = 0.01  # of the contrast: a smaller difference explains nothing


def contrast_lost(frame: pd.DataFrame) -> Finding | None:
    """Do images lose contrast however many steps are taken?

    They do under a schedule whose signal never reaches 1: the last estimate is of an image that is
    still mixed with noise.
    """
    known = frame[frame["is_home"] & frame["contrast"].notna() & frame["last_signal"].notna()]
    kinds = set(known["kind"])
    if not (known["last_signal"] < FULL).any():
        return None
    shown = known[known["kind"] == ("ddim" if "ddim" in kinds else best(points(known)).kind)]
    shown = shown[shown["steps"] == shown["steps"].max()]
    losing = shown[shown["last_signal"] < FULL]
    if losing.empty:
        return None
    schedule = losing.groupby("schedule")["last_signal"].mean().idxmin()
    rows = losing[losing["schedule"] == schedule]
    measured, error = mean_of(rows, "contrast")
    low, high = measured - Z * error, measured + Z * error
    first = rows.iloc[0]
    words = (
        f"Under {schedule} the signal rate never exceeds {number(first['last_signal'])}, so "
        f"contrast is lost for good: {at_steps([first['steps']], first['unit'])} with "
        f"{first['sampler']} images have {_percent(measured, low, high)} of the contrast of real "
        f"ones, and the closed form for Gaussian data foresees {_share(rows)}"
    )
    others = [
        f"{_share(group, 'contrast')} under {name} ({_share(group)} foreseen)"
        for name, group in shown.groupby("schedule")
        if name != schedule
    ]
    words += f"; it is {listed(others)}" if others else ""
    is_clear = high < 1
    return Finding(
        "Is contrast lost for good?", sentence(words), sorted(shown["key"]), measured - 1, low - 1,
        high - 1, "measured" if is_clear else "inconclusive", int(rows["seed"].nunique()),
        "" if is_clear else "more images per cell",
    )  # fmt: skip


def why_at_few_steps(frame: pd.DataFrame) -> Finding | None:
    """Why is one schedule better at few steps?

    Theory ranks schedules by the contrast that the sampler keeps at so many steps; the measured
    ranking agrees or does not.
    """
    contrasts = asked(frame, "schedule")
    if not contrasts:
        return None
    contrast = contrasts[0]
    first, second = contrast.first, contrast.second
    rows = [frame[frame["key"].isin(point.keys)] for point in (first, second)]
    foreseen = [float(each["contrast_theory"].mean()) for each in rows]
    if not is_known(*foreseen):
        return None
    there = f"{first.sampler} {at_steps([first.steps], first.unit)}"
    measured = [_share(each, "contrast") for each in rows if each["contrast"].notna().any()]
    words = (
        f"For Gaussian data with the covariance of the training images, {there} keeps "
        f"{_share(rows[0])} of the contrast under {first.schedule} and {_share(rows[1])} under "
        f"{second.schedule} by the closed form"
        + (f" (measured: {listed(measured)})" if len(measured) == len(rows) else "")
    )
    return Finding(
        "Why is one schedule better at few steps?",
        sentence(f"{words}; {_held_against(frame, contrast, foreseen)}"), sorted(contrast.keys),
        foreseen[0] - foreseen[1], verdict="measured" if contrast.winner else "inconclusive",
        n=contrast.comparison.n, would_decide=contrast.would_decide,
    )  # fmt: skip


def _held_against(frame: pd.DataFrame, contrast: Contrast, foreseen: list[float]) -> str:
    """Whether theory and measurement agree on which of two schedules is better."""
    numbers = f"{quantity(frame)} is {versus(contrast)}"
    lost = [abs(1 - value) for value in foreseen]
    if contrast.winner is None:
        return f"{numbers}, which decides nothing, so theory cannot be held against it"
    loser = contrast.second if contrast.winner is contrast.first else contrast.first
    if abs(lost[0] - lost[1]) < ALIKE:
        return (
            f"{numbers}, so what makes {contrast.winner.schedule} better than {loser.schedule} is "
            "not the contrast that the sampler keeps"
        )
    expected = contrast.first if lost[0] < lost[1] else contrast.second
    if expected is contrast.winner:
        return f"{numbers}, so theory and measurement agree on {expected.schedule}"
    return (
        f"yet {numbers}, better for {contrast.winner.schedule}: theory and measurement disagree, "
        "and the contrast that the sampler keeps is not what decides"
    )


def _share(rows: pd.DataFrame, column: str = "contrast_theory") -> str:
    return f"{number(100 * float(rows[column].mean()))} %"


def _percent(measured: float, low: float, high: float) -> str:
    return f"{estimate(100 * measured, 100 * low, 100 * high)} %"
