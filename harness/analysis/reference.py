"""Reference quantities for effect sizes: the real-data baseline, the variance between seeds, and
what else was measured of the same cells."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from harness.analysis.configurations import Configuration
from harness.analysis.statistics import Interval, mean_interval
from harness.analysis.study import Study
from harness.work.results import CellResult

Z = 1.959964  # two-sided 95 % of a normal distribution
NEAR = 0.15  # of a forecast: as close as it need be


def normal_interval(value: float, error: float) -> Interval:
    """A value with the 95 % bounds of its standard error."""
    return Interval(value, value - Z * error, value + Z * error, 1)


def interval_of(values: ArrayLike, error: float) -> Interval:
    """The mean over training seeds; of one, with the bounds of its sampling error."""
    over_seeds = mean_interval(values)
    return over_seeds if over_seeds.n > 1 else normal_interval(over_seeds.estimate, error)


def gap(one: Interval, other: Interval) -> Interval:
    """The difference of two values, their errors taken as independent."""
    value = one.estimate - other.estimate
    reach = float(np.hypot(one.high - one.low, other.high - other.low)) / 2
    return Interval(value, value - reach, value + reach, 1)


def mean_of(measured: Iterable[tuple[float, float | None]]) -> Interval:
    """The mean of values with their standard errors, on the models at hand; an error that was not
    measured adds none."""
    values, errors = zip(*measured, strict=True)
    known = [error for error in errors if error is not None and np.isfinite(error)]
    error = float(np.sqrt(np.sum(np.square(known)))) / len(values)
    return normal_interval(float(np.mean(values)), error)


def beside(cells: Iterable[CellResult], metric: str) -> Interval | None:
    """What another metric found of these cells; None where it was measured of none."""
    found = [cell.measurements[metric] for cell in cells if metric in cell.measurements]
    return mean_of((one.value, one.standard_error) for one in found) if found else None


def distance_to_baseline(study: Study, one: Configuration) -> Interval | None:
    """How far a configuration is from real held-out images; None where that was not measured."""
    baseline = study.baseline(one.metric.key)
    if not np.isfinite(baseline):
        return None
    return normal_interval(
        one.mean - baseline, float(np.hypot(one.error, baseline_error(study, one)))
    )


def baseline_error(study: Study, one: Configuration) -> float:
    """The standard error of the baseline: that of one cell of a configuration beside it, scaled to
    the baseline's number of images."""
    error = float(np.mean(list(one.errors.values())))
    ratios = [
        cell.cell.images / cell.baseline_images for cell in study.cells if cell.baseline_images
    ]
    return error * float(np.mean(ratios)) ** 0.5 if ratios else error


def share_bounds(one: Configuration, leader: Configuration, baseline: float) -> tuple[float, float]:
    """95 % bounds of (one - baseline) / (leader - baseline) - 1 on the models at hand, from the
    sampling errors of both, with the baseline held fixed."""
    left = leader.mean - baseline
    ratio = (one.mean - baseline) / left
    reach = Z * float(np.hypot(one.error, ratio * leader.error)) / abs(left)
    return ratio - 1 - reach, ratio - 1 + reach


def spread(group: Iterable[Configuration]) -> tuple[float, float]:
    """Pooled over these configurations: the standard deviation between training seeds, and the
    sampling error of one cell."""
    group = list(group)
    variances = [np.var(list(one.values.values()), ddof=1) for one in group]
    errors = [error**2 for one in group for error in one.errors.values()]
    return float(np.sqrt(np.mean(variances))), float(np.sqrt(np.mean(errors)))


def exact_value(study: Study, one: Configuration) -> float:
    """What the exact denoiser scores in the same configuration; NaN where that is not known."""
    twins = [twin for cell in one.cells if (twin := study.exact_twin(cell))]
    found = [twin.measurements.get(one.metric.key) for twin in twins]
    known = [measured.corrected for measured in found if measured]
    return float(np.mean(known)) if known else np.nan
