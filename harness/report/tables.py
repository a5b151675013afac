"""A table of a report, as values: what each place shows, what it sorts by, which runs it is of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from harness.plan.work import EXACT
from harness.report.table import Measure, Results, numbers, quantity_of
from harness.report.words import number

NOTHING = "–"


@dataclass(frozen=True)
class Value:
    """What stands at one place of a table."""

    text: str
    interval: str = ""
    number: float | None = None  # what it sorts by, where that is not its text

    @property
    def whole(self) -> str:
        return f"{self.text} {self.interval}".strip()


@dataclass(frozen=True)
class Run:
    """A recorded cell, or training, that a row rests on."""

    id: str
    seed: str = ""  # of its training
    noise: str = ""  # its sampling seed, where cells differ in that

    @property
    def name(self) -> str:
        """What tells it from the others of its row."""
        return f"{self.seed}/{self.noise}" if self.noise else self.seed

    @property
    def short(self) -> str:
        return self.id[:8]


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    values: list[Value]
    runs: list[Run] = field(default_factory=list)
    is_best: bool = False

    @property
    def seeds(self) -> str:
        """How many trainings it rests on."""
        seeds = {run.seed for run in self.runs}
        return NOTHING if seeds == {EXACT} else str(len(seeds))


@dataclass(frozen=True)
class Column:
    """One column of a table, its rows in their order, and what real images reach in it."""

    title: str
    values: list[Value]
    floor: str = ""
    is_number: bool = True


@dataclass(frozen=True)
class Table:
    """Columns of equal length."""

    heading: str
    columns: list[Column]
    runs: list[list[Run]]  # row by row
    best: int | None = None  # the row to point out
    floor: str = ""  # what the line of floors is called; empty where there is none
    title: str = ""

    @property
    def rows(self) -> list[Row]:
        values = zip(*(column.values for column in self.columns), strict=True)
        return [
            Row(list(line), runs, n == self.best)
            for n, (line, runs) in enumerate(zip(values, self.runs, strict=True))
        ]

    @property
    def before_floors(self) -> int:
        """How many columns come before the first with a floor: there is room for its name."""
        return next((n for n, column in enumerate(self.columns) if column.floor), 0)


def heading(group: Results) -> str:
    """`digits data, digits features, train reference, 2,000 images, bfloat16`."""
    shared = quantity_of(group)
    words = {"data": "{} data", "extractor": "{} features", "reference": "{} reference"}
    parts = [words.get(key, "{}").format(value) for key, value in shared.items() if value]
    return ", ".join(parts)


def name_of(measure: Measure, group: Results) -> str:
    images = numbers(group.cells, "images").fillna(0)
    return f"{measure.title} at n = {int(images.iloc[0]):,}" if measure.biased else measure.title


def words(title: str, values: Iterable[str]) -> Column:
    return Column(title, [Value(value) for value in values], is_number=False)


def counts(title: str, values: Iterable[float]) -> Column:
    return Column(title, [Value(whole(value), number=finite(value)) for value in values])


def plain(value: float) -> Value:
    return Value(number(value), number=finite(value))


def finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def whole(value: float) -> str:
    """Evaluations are counted; only a mean over unequal cells has decimals."""
    return f"{value:,.0f}" if float(value).is_integer() else number(value)
