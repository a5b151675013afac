"""The tables of quality of a comparable group: means over training seeds with their intervals.

A measure that is no distance to real images stands in a second table, with the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from harness.plan.work import EXACT
from harness.report.points import Point, best, points, seconds_of
from harness.report.table import Measure, Results, column_of, numbers, tidy
from harness.report.tables import (
    NOTHING,
    Column,
    Run,
    Table,
    Value,
    finite,
    heading,
    name_of,
    plain,
    whole,
)
from harness.report.words import estimate, number

DISTANCES = {"kid", "fid", "fid_infinity"}  # columns of the measures that belong side by side
MOST_DISTANCES = 3  # more columns than these leave no room for the rest
OTHER = "Fidelity, diversity and memory"

Way = tuple[str, str, int]  # schedule, sampler, steps


class _Group:
    """A comparable group with what its tables share, worked out once."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.measures = results.present()
        self.frames = {measure.column: tidy(results, measure) for measure in self.measures}
        self.points = {
            column: {(point.schedule, point.sampler, point.steps): point for point in points(frame)}
            for column, frame in self.frames.items()
        }

    @cached_property
    def ways(self) -> list[Way]:
        return sorted({way for known in self.points.values() for way in known})

    def point(self, way: Way) -> Point:
        return next(known[way] for known in self.points.values() if way in known)

    def runs(self, way: Way) -> list[Run]:
        """The cells of a way, by training seed and then by sampling seed."""
        keys = {key for known in self.points.values() if way in known for key in known[way].keys}
        cells = [self._cells[key] for key in keys]
        return [run for _, run in sorted(cells, key=lambda cell: cell[0])]

    @cached_property
    def _cells(self) -> dict[str, tuple[tuple[int, int, str], Run]]:
        """By key, the place of each cell among others and its run."""
        cells = self.results.cells
        columns = [numbers(cells, name).fillna(0).astype(int) for name in ("seed", "sampling_seed")]
        exact = column_of(cells, "model") == EXACT
        keys, ids = column_of(cells, "key"), column_of(cells, "run_id")
        several = columns[1].nunique() > 1
        return {
            key: (
                (seed, noise, key),
                Run(run_id, EXACT if is_exact else f"{seed}", f"{noise}" if several else ""),
            )
            for key, run_id, seed, noise, is_exact in zip(keys, ids, *columns, exact, strict=True)
        }


def quality(results: Results) -> list[Table]:
    """Quality by schedule, sampler and steps: means over training seeds with their intervals."""
    group = _Group(results)
    first, others = _split(group.measures)
    tables = [_table(group, first, with_costs=True)]
    return tables + ([_table(group, others, title=OTHER)] if others else [])


def _split(measures: Sequence[Measure]) -> tuple[list[Measure], list[Measure]]:
    """The measure that decides with the distances beside it, and the rest."""
    first = [
        measure
        for n, measure in enumerate(measures)
        if n == 0 or (n < MOST_DISTANCES and measure.column in DISTANCES)
    ]
    return first, [measure for measure in measures if measure not in first]


def _table(
    group: _Group, measures: Sequence[Measure], *, with_costs: bool = False, title: str = ""
) -> Table:
    steps = "evaluations allowed" if group.results.budgets else "steps"
    leader = best(group.points[group.measures[0].column].values())
    ends = (leader.schedule, leader.sampler, leader.steps)
    columns = [
        Column("schedule", [Value(schedule) for schedule, _, _ in group.ways], is_number=False),
        Column("sampler", [Value(sampler) for _, sampler, _ in group.ways], is_number=False),
        Column(steps, [Value(f"{count:,}", number=count) for _, _, count in group.ways]),
        *([_evaluations(group)] if with_costs else []),
        *(column for measure in measures for column in _columns(group, measure)),
        *(_costs(group) if with_costs else []),
    ]
    return Table(
        heading=heading(group.results),
        columns=columns,
        runs=[group.runs(way) for way in group.ways],
        best=group.ways.index(ends),
        floor=_real_images(group.results) if {c.floor for c in columns} - {"", NOTHING} else "",
        title=title,
    )


def _evaluations(group: _Group) -> Column:
    means = [group.point(way).nfe for way in group.ways]
    return Column("NFE", [Value(whole(mean), number=finite(mean)) for mean in means])


def _columns(group: _Group, measure: Measure) -> list[Column]:
    """A measure with its interval; where that is centred on the value less its bias, the value as
    measured stands before it."""
    frame, known = group.frames[measure.column], group.points[measure.column]
    is_centred = bool((frame["centre"] != frame["value"]).any())
    named = name_of(measure, group.results)
    less_bias = f"{measure.title} less its bias" if is_centred else named
    with_interval = Column(
        less_bias, [_estimate(known.get(way)) for way in group.ways], _floor(frame["floor"])
    )
    if not is_centred:
        return [with_interval]
    measured = numbers(group.results.cells, f"{measure.column}_floor")
    raw = [known[way].as_measured if way in known else np.nan for way in group.ways]
    return [Column(named, [plain(value) for value in raw], _floor(measured)), with_interval]


def _costs(group: _Group) -> list[Column]:
    """What the exact denoiser reaches, where it was sampled too; the time of an image."""
    main = group.measures[0]
    frame = group.frames[main.column]
    exact = frame[frame["exact_value"].notna()]
    reached = exact.groupby(["schedule", "sampler", "steps"])["exact_value"].mean().to_dict()
    seconds = seconds_of(frame).of
    milliseconds = {
        (point.schedule, point.sampler, point.steps): 1e3 * seconds[point.keys]
        for point in points(frame)
        if point.keys in seconds
    }
    title = f"{main.title} of the exact denoiser"
    return [
        *([_looked_up(title, reached, group.ways)] if reached else []),
        _looked_up("ms per image", milliseconds, group.ways),
    ]


def _looked_up(title: str, known: dict[Any, float], ways: list[Way]) -> Column:
    return Column(title, [plain(known.get(way, np.nan)) for way in ways])


def _estimate(point: Point | None) -> Value:
    if point is None:
        return Value(NOTHING)
    span = point.interval()
    text, _, bounds = estimate(span.estimate, span.low, span.high).partition(" ")
    return Value(text, bounds, finite(span.estimate))


def _floor(values: pd.Series[float]) -> str:
    known = values.dropna()
    return number(float(known.mean()), 2) if len(known) else NOTHING


def _real_images(results: Results) -> str:
    at = numbers(results.cells, "floor_images").dropna()
    return f"real held-out images (n = {int(at.iloc[0]):,})" if len(at) else "real held-out images"
