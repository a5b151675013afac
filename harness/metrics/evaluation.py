"""One metric of one set of images: its value, its errors, and what comparisons need later.

The arrays of an evaluation are how far each image moves the value (by the metric's name), the
values without each group of images (`fid_left_out`), and how far each reference image moves it
(`kid_reference`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import NotDefined
from harness.metrics.answers import a_number, vector
from harness.metrics.arrays import Matrix, Vector
from harness.metrics.distances import METRICS, Metric
from harness.metrics.neighbours import GROUPS
from harness.metrics.uncertainty import fid_centre, fid_groups, jackknife_error
from harness.work.results import PURE_NOISE, CellResult, Measurement

FEWEST_IN_A_GROUP = 2  # images: fewer groups are left out where there are hardly any


@dataclass(frozen=True)
class Evaluation:
    """A measurement, its real-data baseline still missing, and arrays by the names above."""

    measurement: Measurement
    arrays: Mapping[str, NDArray[Any]]


def deciding(metrics: Iterable[str]) -> str | None:
    """The metric that decides, of those that are a sum over images: KID before FID, since it is
    unbiased."""
    return next((name for name in ("kid", "fid") if name in {*metrics}), None)


def lacking(
    result: CellResult | None, metrics: Iterable[str], reference_variance: bool = False
) -> list[str]:
    """The metrics that are still to be evaluated for a cell."""
    metrics = list(metrics)
    if result is None:
        return metrics
    decides = deciding(metrics)
    return [
        name
        for name in metrics
        if not _is_evaluated(result, name, reference_variance)
        or (name == decides and _lacks_scale(result, name))
    ]


def _lacks_scale(result: CellResult, name: str) -> bool:
    """Whether the scale is of another metric alone, which decided then, or of a time when it did
    not reach to pure noise."""
    known = result.measurements.get(name)
    if known is None or known.baseline is None or PURE_NOISE in known.degraded:
        return False
    return any(one.degraded for one in result.measurements.values())


def _is_evaluated(result: CellResult, name: str, reference_variance: bool) -> bool:
    if result.metric_sources.get(name, "") != METRICS.source(name):
        return False  # evaluated by other code
    if name in result.undefined:
        return True
    if (measured := result.measurements.get(name)) is None:
        return False
    wanted = reference_variance and METRICS[name].reference_variance
    return not wanted or measured.reference_error is not None


def evaluate(
    name: str,
    metric: Metric,
    features: Matrix,
    reference: Matrix,
    *,
    reference_variance: bool = False,
    **given: Matrix,
) -> Evaluation:
    """The evaluation of features [N, d] against reference [M, d]; `given` is what the metric names
    in `needs`. Raises NotDefined where it has no meaning for these images."""
    arrays: dict[str, NDArray[Any]] = {}
    value = _value(name, metric, features, reference, **given)
    error, reference_error = math.nan, None
    if metric.influence:
        influence = vector(metric.influence(features, reference, **given), len(features))
        arrays[name] = influence.astype(np.float32)
        error = float(influence.std(ddof=1) / len(influence) ** 0.5)
    left_out = without_groups(metric, features, reference, **given)
    if left_out is not None:
        arrays[f"{name}_left_out"] = left_out
        if not metric.influence:
            error = jackknife_error(left_out)
    if metric.standard_error:
        error = a_number(metric.standard_error(features, reference, **given))
    if reference_variance and metric.reference_influence and metric.reference_variance:
        reference_error = a_number(metric.reference_variance(features, reference)) ** 0.5
        influence = vector(metric.reference_influence(features, reference), len(reference))
        arrays[f"{name}_reference"] = influence.astype(np.float32)
    measurement = Measurement(
        value=value,
        corrected=value,
        standard_error=error if math.isfinite(error) else None,
        reference_error=reference_error,
    )
    if left_out is not None and metric.biased:
        measurement = replace(measurement, corrected=float(fid_centre(value, left_out)))
    return Evaluation(measurement, arrays)


def value_of(
    name: str, metric: Metric, features: Matrix, reference: Matrix, **given: Matrix
) -> tuple[float, float | None]:
    """The value alone, and less its bias where it has one that is known. Raises NotDefined."""
    value = _value(name, metric, features, reference, **given)
    left_out = without_groups(metric, features, reference, **given) if metric.biased else None
    return value, None if left_out is None else float(fid_centre(value, left_out))


def without_groups(
    metric: Metric, features: Matrix, reference: Matrix, **given: Matrix
) -> Vector | None:
    """The values without each group of images, [groups]; None where the metric has none, or none
    for so few images."""
    if not metric.left_out:
        return None
    most = fid_groups(features.shape[1]) if metric.biased else GROUPS
    try:
        groups = min(most, max(2, len(features) // FEWEST_IN_A_GROUP))
        return vector(metric.left_out(features, reference, groups=groups, **given), groups)
    except NotDefined:
        return None


def _value(
    name: str, metric: Metric, features: Matrix, reference: Matrix, **given: Matrix
) -> float:
    value = a_number(metric.function(features, reference, **given))
    if not math.isfinite(value):
        raise NotDefined(f"{name} of these images is {value}, no number. Use more images.")
    return value
