"""Pairs of cells: how much the first differ from the second, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis.configurations import MetricInfo, total_error
from harness.analysis.statistics import (
    Difference,
    paired_difference,
    paired_error,
    sampling_difference,
)
from harness.work.results import CellResult

Pair = tuple[CellResult, CellResult]


@dataclass(frozen=True)
class PairedDifference:
    """The difference of pairs of cells, and how its error was had."""

    difference: Difference
    means: tuple[float, float]  # of each side, less the bias
    is_paired: bool = False  # image by image
    is_exact: bool = False  # nothing was trained


def difference_of(pairs: Sequence[Pair], metric: MetricInfo) -> PairedDifference:
    """The difference of the first cells of these pairs from the second ones.

    Where both cells of each pair are of one network, or nothing is trained, only sampling varies,
    and the interval covers the networks at hand; else it is over training seeds.
    """
    is_one_network = all(a.cell.training == b.cell.training for a, b in pairs)
    is_exact = all(one.cell.training.is_exact for pair in pairs for one in pair)
    by_model: dict[object, list[Pair]] = {}
    for a, b in pairs:
        training = a.cell.training
        by_model.setdefault(training if is_one_network else training.seed, []).append((a, b))
    first, second = (
        [
            sum(pair[side].measurements[metric.key].corrected for pair in group) / len(group)
            for group in by_model.values()
        ]
        for side in (0, 1)
    )
    means = (float(np.mean(first)), float(np.mean(second))) if pairs else (np.nan, np.nan)
    lower = metric.lower_is_better
    over_seeds = paired_difference(first, second, lower_is_better=lower)
    if not pairs or not (is_one_network or is_exact):
        return PairedDifference(over_seeds, means, is_exact=is_exact)
    errors = [_error_of(group, metric.key) for group in by_model.values()]
    difference = sampling_difference(
        first, second, errors=[error for error, _ in errors], lower_is_better=lower
    )
    is_paired = all(is_paired for _, is_paired in errors)
    return PairedDifference(
        difference if difference.n else over_seeds, means, is_paired, is_exact
    )  # fmt: skip


def _error_of(group: list[Pair], metric: str) -> tuple[float, bool]:
    """The standard error of the mean difference of pairs of one network, and whether it is paired
    image by image.

    Pairs of one sampling seed start from the same noise, so their influences are added up image by
    image; those of different sampling seeds are independent. Of KID the error is slightly too
    wide, never too narrow: what pairs of images do together is counted twice.
    """
    by_noise: dict[int, list[Pair]] = {}
    for a, b in group:
        by_noise.setdefault(a.cell.sampling_seed, []).append((a, b))
    variance = 0.0
    for same_noise in by_noise.values():
        starts_alike = all(a.cell.sampling_seed == b.cell.sampling_seed for a, b in same_noise)
        sides = [_summed([pair[side].influence(metric) for pair in same_noise]) for side in (0, 1)]
        if (
            not starts_alike
            or sides[0] is None
            or sides[1] is None
            or len(sides[0]) != len(sides[1])
        ):
            apart = [total_error(one.measurements[metric]) ** 2 for pair in group for one in pair]
            return float(np.sqrt(sum(apart))) / len(group), False
        variance += paired_error(sides[0], sides[1]) ** 2
    of_reference = [
        _summed([pair[side].reference_influence(metric) for pair in group]) for side in (0, 1)
    ]
    if of_reference[0] is not None and of_reference[1] is not None:
        # All of them hold the same reference images against theirs.
        variance += paired_error(of_reference[0], of_reference[1]) ** 2
    return float(np.sqrt(variance)) / len(group), True


def _summed(influences: list[NDArray[np.float32] | None]) -> NDArray[np.float64] | None:
    known = [np.asarray(one, np.float64) for one in influences if one is not None]
    if len(known) < len(influences) or len({len(one) for one in known}) != 1:
        return None
    total: NDArray[np.float64] = np.sum(known, axis=0)
    return total
