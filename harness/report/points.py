"""Ways to make images, each under every training seed, and what an image costs by them."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from harness.metrics.statistics import Interval, mean_interval, sampling_interval

LATEST = 8  # frames whose points are kept
BUDGETS = (10, 25, 50, np.inf)  # network evaluations per image

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Point:
    """One way to make images, with its measure under each training seed."""

    schedule: str
    sampler: str
    steps: int  # or the evaluations it was allowed: see `unit`
    kind: str
    setting: str
    nfe: float
    values: dict[int, float]  # by training seed; the mean over sampling seeds
    centres: dict[int, float]  # the same less their bias: what intervals and differences are of
    errors: dict[int, float]  # the standard error of each from sampling alone
    # By training seed and sampling seed, how far each image moves the value, where that is known.
    influences: dict[int, dict[int, Any]]
    # The same of each reference image, where the luck of the reference is to be covered.
    reference_influences: dict[int, dict[int, Any]]
    keys: tuple[str, ...]
    lower_is_better: bool = True
    trained: str = ""  # the schedule and training of its networks
    is_home: bool = True  # sampled under the schedule that it was trained under
    is_exact: bool = False  # no network: there is no luck of training
    unit: str = "step"
    eta: float = np.nan  # of DDIM
    spacing: str = ""

    @property
    def mean(self) -> float:
        """Less the bias that few images bring, where the measure has one."""
        return float(np.mean(list(self.centres.values())))

    @property
    def as_measured(self) -> float:
        """The mean with that bias: a figure such as "FID at n"."""
        return float(np.mean(list(self.values.values())))

    @property
    def rank(self) -> float:
        """Smaller is better, whichever way the measure goes."""
        return self.mean if self.lower_is_better else -self.mean

    @property
    def seeds(self) -> int:
        return len(self.values)

    def interval(self) -> Interval:
        """Over training seeds; with a single one, over its sampling alone."""
        centres = list(self.centres.values())
        if self.seeds > 1:
            return mean_interval(centres)
        return sampling_interval(centres, list(self.errors.values()))

    @property
    def error(self) -> float:
        """The standard error of the mean, on the models at hand."""
        return float(np.sqrt(np.sum(np.square(list(self.errors.values())))) / self.seeds)

    @property
    def label(self) -> str:
        return f"{self.schedule} with {self.sampler}"


def of_a_frame(function: Callable[[pd.DataFrame], Answer]) -> Callable[[pd.DataFrame], Answer]:
    """Keep the answers about the latest frames: every finding and figure asks for the same points
    and the same comparisons. By identity, so a frame that was asked about must not be changed."""
    kept: OrderedDict[int, tuple[weakref.ref[pd.DataFrame], Answer]] = OrderedDict()

    @wraps(function)
    def ask(frame: pd.DataFrame) -> Answer:
        known = kept.get(id(frame))
        if known is None or known[0]() is not frame:
            known = kept[id(frame)] = (weakref.ref(frame), function(frame))
        if len(kept) > LATEST:
            kept.popitem(last=False)
        return known[1]

    return ask


@of_a_frame
def points(frame: pd.DataFrame) -> list[Point]:
    """Every way to make images in the frame, in the order of their names and steps."""
    ways: dict[tuple[str, str, int], list[Any]] = {}
    rows: Iterable[Any] = frame.itertuples()
    for row in rows:
        ways.setdefault((row.schedule, row.sampler, row.steps), []).append(row)
    return [_point(*way, rows) for way, rows in sorted(ways.items())]


def best(candidates: Iterable[Point]) -> Point:
    """The best point by its mean; the cheaper one of two equals."""
    return min(candidates, key=lambda point: (point.rank, point.steps, point.label))


def best_of_each(candidates: Iterable[Point], name: Callable[[Point], str]) -> list[Point]:
    """The best point of each name, the best of all first."""
    by_name: dict[str, list[Point]] = {}
    for point in candidates:
        by_name.setdefault(name(point), []).append(point)
    return sorted(map(best, by_name.values()), key=lambda point: (point.rank, point.label))


def within(everything: Iterable[Point], budget: float) -> list[Point]:
    """The points that need no more network evaluations than this; infinity means any."""
    return [point for point in everything if budget == np.inf or point.nfe <= budget]


@dataclass(frozen=True)
class TimeBudget:
    """A round number of seconds per image, and what can be had for it on one machine."""

    seconds: float
    machine: str
    points: list[Point]


def budget_of_time(frame: pd.DataFrame) -> TimeBudget | None:
    """The largest round time that no more than half of the ways fit into; None where none are
    timed or all take about the same."""
    machine, seconds = seconds_of(frame).machine, seconds_of(frame).of
    if len(seconds) < 3:
        return None
    middle, longest = float(np.median([*seconds.values()])), max(seconds.values())
    decade = 10.0 ** np.floor(np.log10(middle))
    budget = max(step * decade for step in (1, 2, 5) if step * decade <= middle)
    fitting = [point for point in points(frame) if seconds.get(point.keys, np.inf) <= budget]
    if len(fitting) < 2 or longest <= budget:
        return None
    return TimeBudget(float(budget), machine, fitting)


@dataclass(frozen=True)
class Costs:
    """What an image costs on one machine, by the keys of a point: the median over its cells."""

    machine: str
    of: dict[tuple[str, ...], float]


@of_a_frame
def seconds_of(frame: pd.DataFrame) -> Costs:
    """The seconds of an image by each point."""
    return costs_of(frame, "seconds")


@of_a_frame
def joules_of(frame: pd.DataFrame) -> Costs:
    """The joules of an image by each point."""
    return costs_of(frame, "joules")


def costs_of(frame: pd.DataFrame, column: str) -> Costs:
    """What a column says that an image costs, on the machine that has most of it."""
    machine, here = on_one_machine(frame, frame[column])
    cost_of = dict(zip(here["key"], here[column], strict=True))
    return Costs(machine, {
        point.keys: float(np.median(paid))
        for point in points(frame)
        if (paid := [cost_of[key] for key in point.keys if key in cost_of])
    })  # fmt: skip


def on_one_machine(frame: pd.DataFrame, cost: pd.Series[float]) -> tuple[str, pd.DataFrame]:
    """The machine on which most cells have this cost, and its cells: costs of two machines are
    never put side by side."""
    paid = frame[cost > 0]
    if paid.empty:
        return "", paid
    machine = str(paid["machine"].value_counts().sort_index().idxmax())
    return machine, paid[paid["machine"] == machine]


def _point(schedule: str, sampler: str, steps: int, rows: list[Any]) -> Point:
    by_seed: dict[int, list[Any]] = {}
    for row in sorted(rows, key=lambda row: (row.seed, row.sampling_seed, row.key)):
        by_seed.setdefault(row.seed, []).append(row)
    nfe = [row.nfe for row in rows if np.isfinite(row.nfe)]
    return Point(
        schedule=schedule,
        sampler=sampler,
        steps=steps,
        kind=rows[0].kind,
        setting=rows[0].setting,
        nfe=sum(nfe) / len(nfe) if nfe else np.nan,
        values={
            seed: sum(cell.value for cell in cells) / len(cells) for seed, cells in by_seed.items()
        },
        centres={
            seed: sum(cell.centre for cell in cells) / len(cells) for seed, cells in by_seed.items()
        },
        influences={
            seed: {cell.sampling_seed: cell.influence for cell in cells}
            for seed, cells in by_seed.items()
        },
        reference_influences={
            seed: {cell.sampling_seed: cell.reference_influence for cell in cells}
            for seed, cells in by_seed.items()
        },
        errors={
            seed: sum(cell.error**2 for cell in cells) ** 0.5 / len(cells)
            for seed, cells in by_seed.items()
        },
        keys=tuple(sorted(row.key for row in rows)),
        lower_is_better=bool(rows[0].lower_is_better),
        trained=rows[0].trained,
        is_home=bool(rows[0].is_home),
        is_exact=bool(rows[0].is_exact),
        unit=rows[0].unit,
        eta=rows[0].eta,
        spacing=rows[0].spacing,
    )
