"""One metric of one set of images: its value, how sure that is, and what comparisons need later.

    kid, kid_se                 the value and its standard error
    fid_centre                  the value less its bias, where few images bring one
    kid_reference_se            what the luck of the reference adds, where it is asked for

and as arrays: how far each image moves the value (by the metric's name), the values without each
group of images (`fid_left_out`), and how far each reference image moves it (`kid_reference`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import NotDefined
from harness.metrics.arrays import Matrix, Vector
from harness.metrics.distances import METRICS, Metric
from harness.metrics.neighbours import GROUPS
from harness.metrics.uncertainty import fid_centre, fid_groups, jackknife_error

FEWEST_IN_A_GROUP = 2  # images: fewer groups are left out where there are hardly any


@dataclass
class Judgement:
    """Numbers and arrays by the names above."""

    numbers: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


def numbers_of(
    metrics: Iterable[str], reference_variance: bool, at_checkpoint: bool = False
) -> frozenset[str]:
    """The numbers without which these metrics are not all there; `at_checkpoint` where the cell is
    also to be sampled with its network as it was before the end of its training."""
    metrics = list(metrics)
    wanted = {*metrics}
    if at_checkpoint and (name := decisive(metrics)):
        wanted |= {f"{name}_checkpoint"}
    if reference_variance:
        wanted |= {f"{name}_reference_se" for name in metrics if METRICS[name].reference_variance}
    return frozenset(wanted)


def decisive(metrics: Iterable[str]) -> str | None:
    """The metric that decides, of those that are a sum over images: KID before FID, since it is
    unbiased."""
    return next((name for name in ("kid", "fid") if name in {*metrics}), None)


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
        return metric.left_out(features, reference, groups=groups, **given)
    except NotDefined:
        return None


def judge(
    name: str,
    metric: Metric,
    features: Matrix,
    reference: Matrix,
    *,
    reference_variance: bool = False,
    **given: Matrix,
) -> Judgement:
    """Everything about one metric of features [N, d] against reference [M, d]; `given` is what the
    metric names in `needs`. Raises NotDefined where it has no meaning for these images."""
    found = Judgement({name: metric.function(features, reference, **given)})
    numbers, arrays = found.numbers, found.arrays
    error = math.nan
    if metric.influence:
        influence = metric.influence(features, reference, **given)
        arrays[name] = influence.astype(np.float32)
        error = float(influence.std(ddof=1) / len(influence) ** 0.5)
    left_out = without_groups(metric, features, reference, **given)
    if left_out is not None:
        arrays[f"{name}_left_out"] = left_out
        if metric.biased:
            numbers[f"{name}_centre"] = fid_centre(numbers[name], left_out)
        if not metric.influence:
            error = jackknife_error(left_out)
    if metric.standard_error:
        error = metric.standard_error(features, reference, **given)
    if math.isfinite(error):
        numbers[f"{name}_se"] = error
    if reference_variance and metric.reference_influence and metric.reference_variance:
        numbers[f"{name}_reference_se"] = metric.reference_variance(features, reference) ** 0.5
        arrays[f"{name}_reference"] = metric.reference_influence(features, reference).astype(
            np.float32
        )
    return found
