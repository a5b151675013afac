"""Pairs of cells of the same networks: their difference and its error, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.analysis.configurations import MetricInfo, total_error
from harness.analysis.decisions import (
    CONSTANT,
    DISAGREE,
    LOGARITHMIC,
    SAMPLING,
    UNMEASURED,
    Effect,
    quantile,
)
from harness.work.results import CellResult

Pair = tuple[CellResult, CellResult]
Group = Sequence[Pair]  # of one configuration each side, over networks and sampling seeds


def mean_size(values: Sequence[float]) -> float | None:
    """What differences between these values are divided by; None where all are clearly positive,
    and their logarithms are taken."""
    size = float(np.abs(values).mean())
    return None if min(values) > LOGARITHMIC * size else size or 1.0


def sampling_effect(
    groups: Sequence[Group], metric: MetricInfo, sizes: Sequence[float | None]
) -> Effect:
    """The mean over these configurations of the relative difference, on the networks at hand, with
    its sampling error by the delta method.

    Images of one sampling seed start from the same noise in every cell and under every network, so
    their influences are added up image by image; those of other sampling seeds are independent. Of
    KID the error is slightly too wide, never too narrow: what pairs of images do together is
    counted twice. A metric without influences has its errors taken as independent.
    """
    effect = _effect(groups, metric, sizes)
    if not effect.p < 1:
        return effect
    trainings = {pair[0].cell.training for group in groups for pair in group}
    for training in trainings if effect.n > 1 else ():
        of_it = [[pair for pair in group if pair[0].cell.training == training] for group in groups]
        there = [(group, size) for group, size in zip(of_it, sizes, strict=True) if group]
        alone = _effect([group for group, _ in there], metric, [size for _, size in there])
        if (
            alone.value * effect.value < 0
            and abs(alone.value) > quantile(np.inf, 0.05) * alone.error
        ):
            return replace(effect, reason=DISAGREE)
    return effect


def _effect(groups: Sequence[Group], metric: MetricInfo, sizes: Sequence[float | None]) -> Effect:
    value, apart = 0.0, 0.0
    moves: dict[int, NDArray[np.float64]] = {}  # by sampling seed, of each image
    of_reference: list[NDArray[np.float64]] = []
    is_paired = True
    for group, size in zip(groups, sizes, strict=True):
        for side, sign in ((0, 1 / len(groups)), (1, -1 / len(groups))):
            cells = [pair[side] for pair in group]
            mean = float(np.mean([one.measurements[metric.key].corrected for one in cells]))
            if size is None and mean <= 0:  # one network alone, or a subset
                return Effect(np.nan, np.nan, np.inf, 0, SAMPLING, reason=UNMEASURED)
            value += sign * (float(np.log(mean)) if size is None else mean / size)
            slope = sign / len(cells) / (mean if size is None else size)
            for one in cells:
                apart += (slope * total_error(one.measurements[metric.key])) ** 2
                is_paired &= _add(moves, one.cell.sampling_seed, one.influence(metric.key), slope)
                if (influence := one.reference_influence(metric.key)) is not None:
                    of_reference.append(slope * np.asarray(influence, np.float64))
    networks = {pair[0].cell.training for group in groups for pair in group}
    error = float(np.sqrt(apart))
    if is_paired and moves:
        variance = sum(_variance(each) for each in moves.values())
        if of_reference and len({len(one) for one in of_reference}) == 1:
            variance += _variance(np.sum(of_reference, axis=0))
        error = float(np.sqrt(variance))
    effect = Effect(
        value, error, np.inf, len(networks), SAMPLING, metric.lower_is_better, is_paired=is_paired,
        is_ratio=all(size is None for size in sizes),
    )  # fmt: skip
    if not np.isfinite(error):
        return replace(effect, reason=UNMEASURED)
    return replace(effect, reason=CONSTANT) if error <= 1e-12 else effect


def _add(
    moves: dict[int, NDArray[np.float64]],
    seed: int,
    influence: NDArray[np.float32] | None,
    slope: float,
) -> bool:
    """Whether these images could be added to those of the same noise."""
    if influence is None or (seed in moves and len(moves[seed]) != len(influence)):
        return False
    moves[seed] = moves.get(seed, np.zeros(len(influence))) + slope * np.asarray(
        influence, np.float64
    )
    return True


def _variance(moves: NDArray[np.float64]) -> float:
    """Of the mean of these moves, each of one image."""
    return float(moves.var(ddof=1) / len(moves))
