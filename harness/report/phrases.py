"""How points and comparisons are put into words, the same in every sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from harness.metrics.statistics import SAMPLING, Comparison
from harness.report.family import Contrast
from harness.report.points import Point
from harness.report.words import at_steps, count, estimate, number


def quantity(frame: pd.DataFrame) -> str:
    """`KID on digits features`: a sentence names what it measures by, in full, once."""
    return str(frame["quantity"].iloc[0])


def described(point: Point) -> str:
    """`cosine with ddim at 10 steps`."""
    return f"{point.label} {at_steps([point.steps], point.unit)}"


def unit_of(frame: pd.DataFrame) -> str:
    """What the numbers of steps count: `step`, or `evaluation`."""
    return str(frame["unit"].iloc[0])


def value(point: Point) -> str:
    """The mean of a point with its interval."""
    span = point.interval()
    return estimate(span.estimate, span.low, span.high)


def versus(contrast: Contrast) -> str:
    """`0.100 against 0.262`."""
    return f"{number(contrast.first.mean)} against {number(contrast.second.mean)}"


def magnitude(comparison: Comparison) -> str:
    """`0.162 [0.131, 0.193]`: the size of a difference, without a sign to misread."""
    low, high = comparison.low, comparison.high
    if comparison.difference < 0:
        low, high = -high, -low
    return estimate(abs(comparison.difference), low, high)


def moved(comparison: Comparison, down: str, up: str) -> str:
    """`lower by 0.162 [0.131, 0.193]`."""
    return f"{down if comparison.difference < 0 else up} by {magnitude(comparison)}"


def signed(comparison: Comparison) -> str:
    """`a difference of 0.003 [−0.002, 0.008]`, where the sign is not settled."""
    return f"a difference of {estimate(comparison.difference, comparison.low, comparison.high)}"


def over_seeds(comparison: Comparison) -> str:
    """`over 3 training seeds`."""
    return f"over {count(comparison.n, 'training seed')}"


def basis(comparison: Comparison) -> str:
    """`over 3 training seeds`, or `on the same 3 models`: what kind of luck was weighed."""
    if comparison.covers == SAMPLING:
        models = count(comparison.n, "model")
        return f"on the same {'model' if comparison.n == 1 else models}"
    return over_seeds(comparison)


def at(contrasts: Iterable[Contrast]) -> str:
    """`at 5 and 10 steps`."""
    contrasts = list(contrasts)
    steps = sorted({contrast.first.steps for contrast in contrasts})
    return at_steps(steps, _unit(contrasts))


def _unit(contrasts: list[Contrast]) -> str:
    return contrasts[0].first.unit if contrasts else "step"


def steps_by(
    contrasts: Iterable[Contrast], name: Callable[[Contrast], str]
) -> dict[str, list[int]]:
    """The step counts of the contrasts that share a name, names in the order they appear."""
    steps: dict[str, list[int]] = {}
    for contrast in contrasts:
        steps.setdefault(name(contrast), []).append(contrast.first.steps)
    return steps


def pairs(contrasts: Iterable[Contrast], most: int = 6) -> str:
    """`cosine against linear at 20 and 50 steps, ddim against ddpm with linear at 20 steps`."""
    contrasts = list(contrasts)
    names = [
        f"{name} {at_steps(steps, _unit(contrasts))}"
        for name, steps in steps_by((c for c in contrasts if c.question != "way"), _pair).items()
    ]
    names += [
        f"{described(contrast.first)} against {described(contrast.second)}"
        for contrast in contrasts
        if contrast.question == "way"
    ]
    return ", ".join(
        names if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} more"]
    )


def _pair(contrast: Contrast) -> str:
    first, second = contrast.first, contrast.second
    if contrast.question in ("schedule", "elsewhere"):
        return f"{first.schedule} against {second.schedule}"
    if contrast.question in ("sampler", "published"):
        return f"{first.sampler} against {second.sampler} with {first.schedule}"
    return f"{count(second.steps, second.unit)} with {first.label} against the same"


def is_known(*values: float) -> bool:
    """Whether all of these were measured."""
    return bool(np.isfinite(values).all())
