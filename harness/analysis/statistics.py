"""Intervals and verdicts: what the spread of a few numbers allows one to say.

Two sources of variance are kept apart. That *between training seeds* needs several of them; the
*sampling error* is the standard error of a metric on one finite set of images, and says nothing
about another training. Every difference names what its interval covers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Verdict = Literal["better", "worse", "inconclusive"]

TRAINING = "training and sampling"
SAMPLING = "sampling only"
FEW_SEEDS = {
    0: "no training seed has both",
    1: "one training seed gives no verdict about schedules",
    2: "two training seeds almost never give a verdict about schedules",  # t = 12.7 at 95 %
}
SMALL = "not significant"
MODELS_DISAGREE = "the models disagree"


@dataclass(frozen=True)
class Interval:
    """A mean of n values and its confidence bounds, NaN where n is too small to give any."""

    estimate: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """How much `a` differs from `b`, and whether that is significant.

    `verdict` is about `a`. `p` is the chance of a difference at least this large between equals,
    NaN where that could not be tested; `reason` says why a verdict is withheld, and is empty where
    one is given.
    """

    value: float
    low: float
    high: float
    verdict: Verdict
    n: int
    covers: str
    p: float = np.nan
    reason: str = ""
    lower_is_better: bool = True


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """The mean of independent values with Student's interval; values that are not finite are
    left out, and a single one has no bounds."""
    finite = _finite(values)
    n = len(finite)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    mean = float(finite.mean())
    if n == 1:
        return Interval(mean, np.nan, np.nan, 1)
    reach = _t(confidence, n - 1) * float(finite.std(ddof=1)) / n**0.5
    return Interval(mean, mean - reach, mean + reach, n)


def sampling_interval(values: ArrayLike, errors: ArrayLike, confidence: float = 0.95) -> Interval:
    """The mean over models at hand, each measured with its own standard error: covers the
    sampling error only, given these models and this reference."""
    values, errors = _pairs(values, errors)
    if not len(values):
        return Interval(np.nan, np.nan, np.nan, 0)
    mean, reach = float(values.mean()), _z(confidence) * _error_of_mean(errors)
    return Interval(mean, mean - reach, mean + reach, len(values))


def paired_difference(
    a: ArrayLike, b: ArrayLike, confidence: float = 0.95, lower_is_better: bool = True
) -> Difference:
    """Compare two ways of training: `a[i]` and `b[i]` come from the same training seed.

    Covers training and sampling alike. Below three seeds, and where all differences are the same,
    the verdict is withheld.
    """
    a, b = _pairs(a, b)
    interval = mean_interval(a - b, confidence)
    withheld = Difference(
        interval.estimate, interval.low, interval.high, "inconclusive", interval.n, TRAINING,
        reason=FEW_SEEDS.get(interval.n, ""), lower_is_better=lower_is_better,
    )  # fmt: skip
    if interval.n in FEW_SEEDS:
        return withheld
    error = float(np.std(a - b, ddof=1)) / interval.n**0.5
    if _negligible(error, a, b):
        return replace(
            withheld, reason="the differences do not vary, so nothing measures their error"
        )
    p = 2 * float(stats.t.sf(abs(interval.estimate) / error, interval.n - 1))
    return judged(replace(withheld, p=p), p, confidence)


def sampling_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    errors: ArrayLike,
    confidence: float = 0.95,
    lower_is_better: bool = True,
) -> Difference:
    """Compare two ways of sampling the same models: `a[i]` and `b[i]` come from one model.

    Covers the sampling error, on these models; `errors` are the standard errors of the differences
    themselves (`paired_error`, where image j of both starts from the same noise).
    """
    a, b, errors = _pairs(a, b, errors)
    nothing = Difference(
        np.nan, np.nan, np.nan, "inconclusive", len(a), SAMPLING,
        reason="no model has both with a standard error", lower_is_better=lower_is_better,
    )  # fmt: skip
    if not len(a):
        return nothing
    value = float((a - b).mean())
    error = _error_of_mean(errors)
    reach = _z(confidence) * error
    bounded = replace(nothing, value=value, low=value - reach, high=value + reach)
    if _negligible(error, a, b):
        return replace(bounded, reason="the images are the same, so nothing measures their error")
    p = 2 * float(stats.norm.sf(abs(value) / error))
    against = (a - b) * np.sign(value) < -_z(confidence) * errors
    reason = MODELS_DISAGREE if against.any() else ""
    return judged(replace(bounded, p=p, reason=reason), p, confidence)


def paired_error(one: ArrayLike, other: ArrayLike) -> float:
    """The standard error of a difference between two cells, from how far each image moves either
    value: image j of both starts from the same noise, so what moves both alike falls out.

    For KID it is slightly too wide, since what pairs of images do together is counted twice.
    """
    apart = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    return float(apart.std(ddof=1) / len(apart) ** 0.5)


def judged(difference: Difference, p: float, confidence: float = 0.95) -> Difference:
    """The difference with the verdict that this p-value allows."""
    if difference.reason or not np.isfinite(p):
        return replace(difference, verdict="inconclusive")
    if p >= 1 - confidence:
        return replace(difference, verdict="inconclusive", reason=SMALL)
    is_better = (difference.value < 0) == difference.lower_is_better
    return replace(difference, verdict="better" if is_better else "worse")


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p-values, in the order given: below 5 % for none of the true nulls of the
    family in 95 of 100 families (Holm 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def corrected(differences: Sequence[Difference], confidence: float = 0.95) -> list[Difference]:
    """Differences judged together by Holm's p-values, so that the family-wise error rate is kept.
    What could not be tested at all does not make the others pay."""
    together = list(differences)
    tested = [place for place, one in enumerate(together) if np.isfinite(one.p)]
    for place, p in zip(tested, holm([together[place].p for place in tested]), strict=True):
        alone = together[place]
        if alone.reason in ("", SMALL):
            judgement = judged(replace(alone, p=float(p), reason=""), float(p), confidence)
            if alone.verdict != judgement.verdict:
                reason = f"not significant after correction for {len(tested)} comparisons"
                judgement = replace(judgement, reason=reason)
            together[place] = judgement
    return together


def values_needed(differences: ArrayLike, confidence: float = 0.95, most: int = 100) -> int | None:
    """How many paired values would settle a difference like this one, if its mean and spread
    stay as they are; None where more than `most` would be needed or nothing can be foreseen."""
    finite = _finite(differences)
    if len(finite) < 2 or finite.mean() == 0:
        return None
    ratio = float(finite.std(ddof=1) / abs(finite.mean()))
    n = np.arange(3, most + 1)
    enough = n[stats.t.ppf((1 + confidence) / 2, n - 1) * ratio / n**0.5 < 1]
    return int(enough[0]) if len(enough) else None


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]


def _pairs(*columns: ArrayLike) -> list[NDArray[np.float64]]:
    arrays = [np.asarray(column, dtype=np.float64).ravel() for column in columns]
    if len({len(array) for array in arrays}) > 1:
        raise ValueError("paired values must be equally many")
    complete = np.all([np.isfinite(array) for array in arrays], axis=0)
    return [array[complete] for array in arrays]


def _error_of_mean(errors: NDArray[np.float64]) -> float:
    return float(np.sqrt((errors**2).sum())) / len(errors)


def _negligible(error: float, *values: NDArray[np.float64]) -> bool:
    """Zero but for rounding: equal differences of floats rarely have a spread of exactly 0."""
    scale = max(float(np.abs(value).max()) for value in values)
    return error <= 1e-12 * scale


def _t(confidence: float, degrees: int) -> float:
    return float(stats.t.ppf((1 + confidence) / 2, degrees))


def _z(confidence: float) -> float:
    return float(stats.norm.ppf((1 + confidence) / 2))
