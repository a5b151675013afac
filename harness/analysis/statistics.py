"""Intervals of a few numbers, and p-values of several hypotheses.

Two sources of variance are kept apart. That *between training seeds* needs several of them; the
*sampling error* is the standard error of a metric on one finite set of images, and says nothing
about another training.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special


@dataclass(frozen=True)
class Interval:
    """A mean of n values and its confidence bounds, NaN where n is too small to give any."""

    estimate: float
    low: float
    high: float
    n: int


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


def paired_error(one: ArrayLike, other: ArrayLike) -> float:
    """The standard error of a difference between two cells, from how far each image moves either
    value: image j of both starts from the same noise, so what moves both alike falls out.

    For KID it is slightly too wide, since what pairs of images do together is counted twice.
    """
    apart = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    return float(apart.std(ddof=1) / len(apart) ** 0.5)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p-values [N], in the order given: below 5 % for none of the true nulls of the
    family in 95 of 100 families (Holm 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


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


def _t(confidence: float, degrees: int) -> float:
    return float(special.stdtrit(degrees, (1 + confidence) / 2))


def _z(confidence: float) -> float:
    return float(special.ndtri((1 + confidence) / 2))
