"""What differences are weighed against: real images, the luck of training, the price of a step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from harness.report.points import Point, on_one_machine

Z = 1.959964  # two-sided 95 % of a normal distribution
NEAR = 0.15  # of a forecast: as close as it need be


@dataclass(frozen=True)
class Price:
    """seconds per image = fixed + each * evaluations, on one machine."""

    machine: str
    fixed: float
    each: float
    reach: float  # half the 95 % interval of `each`; NaN for a line through two cells
    departure: float  # the largest relative distance of a cell from the line
    keys: list[str]
    left_out: int  # cells timed on other machines

    @property
    def holds(self) -> bool:
        """Whether the line is good enough to foresee other step counts by."""
        return bool(np.isfinite(self.reach) and self.each > self.reach and self.departure < 0.25)


def floor_of(frame: pd.DataFrame) -> float:
    """What real held-out images reach under the same measure, or NaN."""
    return float(frame["floor"].mean()) if frame["floor"].notna().any() else np.nan


def floor_error(frame: pd.DataFrame, beside: Point) -> float:
    """The standard error of the floor; where it was not measured, that of one cell beside it,
    scaled to the floor's number of images."""
    measured = frame["floor_error"].dropna()
    if len(measured):
        return float(measured.mean())
    ratio = float((frame["images"] / frame["floor_images"]).mean())
    one_cell = float(np.mean(list(beside.errors.values())))
    return one_cell * ratio**0.5 if np.isfinite(ratio) else one_cell


def share_bounds(point: Point, leader: Point, floor: float) -> tuple[float, float]:
    """95 % bounds of (point - floor) / (leader - floor) - 1 on the models at hand, from the
    sampling errors of both, with the floor held fixed."""
    left = leader.mean - floor
    ratio = (point.mean - floor) / left
    reach = Z * float(np.hypot(point.error, ratio * leader.error)) / abs(left)
    return ratio - 1 - reach, ratio - 1 + reach


def spread(group: Iterable[Point]) -> tuple[float, float]:
    """Pooled over these points: the standard deviation between training seeds, and the standard
    error of sampling one cell."""
    group = list(group)
    variances = [np.var(list(point.values.values()), ddof=1) for point in group]
    errors = [error**2 for point in group for error in point.errors.values()]
    return float(np.sqrt(np.mean(variances))), float(np.sqrt(np.mean(errors)))


def price(frame: pd.DataFrame) -> Price | None:
    """The line through the timed cells of the machine that timed most of them; None where they
    do not have two different numbers of evaluations."""
    timed = frame[(frame["seconds"] > 0) & frame["nfe"].notna()]
    machine, here = on_one_machine(timed, timed["seconds"])
    if here["nfe"].nunique() < 2:
        return None
    fixed, each, reach, departure = _line(here["nfe"].to_numpy(), here["seconds"].to_numpy())
    return Price(
        machine, fixed, each, reach, departure, sorted(here["key"]), len(timed) - len(here)
    )


def mean_of(rows: pd.DataFrame, name: str) -> tuple[float, float]:
    """The mean of what else was measured of these cells, and its error on the models at hand."""
    errors = rows[f"{name}_error"].fillna(0.0)
    return float(rows[name].mean()), float(np.sqrt((errors**2).sum()) / len(rows))


def foretold(frame: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """What was foretold to take how long, and how long it took: seconds [pieces, 2] of trainings
    and of cells, for what was done here after a forecast."""
    kinds = {
        "training": frame.drop_duplicates("training_key")[["training_forecast", "training_took"]],
        "cell": frame[["forecast", "took"]],
    }
    known = {name: both.to_numpy()[(both > 0).all(axis=1)] for name, both in kinds.items()}
    return {name: both for name, both in known.items() if len(both)}


def front(placed: Sequence[tuple[float, Point]]) -> list[tuple[float, Point]]:
    """The points that nothing beats at the same cost or less, by rising cost: each is strictly
    better than all cheaper ones, and of equal cost only the best is there. A cost that is not a
    number above zero is none."""
    known = [(cost, point) for cost, point in placed if np.isfinite(cost) and cost > 0]
    kept: list[tuple[float, Point]] = []
    for cost, point in sorted(
        known, key=lambda item: (item[0], item[1].rank, item[1].steps, item[1].label)
    ):
        if not kept or point.rank < kept[-1][1].rank:
            kept.append((cost, point))
    return kept


def _line(
    nfe: NDArray[np.float64], seconds: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Relative least squares, so that a cell of 1,000 steps does not drown the others."""
    design = np.column_stack([np.ones_like(nfe), nfe]) / seconds[:, None]
    solution, *_ = np.linalg.lstsq(design, np.ones_like(nfe), rcond=None)
    departures = design @ solution - 1
    reach, free = np.nan, len(nfe) - 2
    if free > 0:
        covariance = np.linalg.inv(design.T @ design) * (departures @ departures) / free
        reach = float(stats.t.ppf(0.975, free) * np.sqrt(covariance[1, 1]))
    return float(solution[0]), float(solution[1]), reach, float(np.abs(departures).max())
