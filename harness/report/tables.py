"""A table of a page, as values: what each place shows, what it sorts by, which runs it is of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from harness.analysis.configurations import MetricInfo
from harness.analysis.study import Study
from harness.report.wording import number
from harness.work.cells import Cell
from harness.work.results import Run

NOTHING = "–"


@dataclass(frozen=True)
class Value:
    """What stands at one place of a table."""

    text: str
    interval: str = ""
    number: float = np.nan  # what it sorts by in a column of numbers
    is_best: bool = False  # of its whole table

    @property
    def key(self) -> str:
        return f"{self.number:.9g}" if np.isfinite(self.number) else ""

    @property
    def whole(self) -> str:
        return f"{self.text} {self.interval}".strip()


@dataclass(frozen=True)
class Source:
    """A recorded run that a row rests on."""

    id: str
    name: str = ""  # tells it from the others of its row: the seeds
    seed: str = ""  # of its training


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    values: list[Value]
    runs: list[Source]
    is_best: bool = False

    @property
    def seeds(self) -> str:
        """How many trainings it rests on."""
        seeds = {run.seed for run in self.runs}
        return NOTHING if not any(map(str.isdecimal, seeds)) else str(len(seeds))


@dataclass(frozen=True)
class Column:
    """One column of a table, its rows in their order, and what real images reach in it."""

    title: str
    values: list[Value]
    baseline: str = ""
    is_number: bool = True


@dataclass(frozen=True)
class Table:
    """Columns of equal length."""

    heading: str
    columns: list[Column]
    runs: list[list[Source]] = field(default_factory=list)  # row by row
    best: int | None = None  # the row to point out
    baseline: str = ""  # what the line of baselines is called; empty where there is none
    title: str = ""

    @property
    def rows(self) -> list[Row]:
        values = zip(*(column.values for column in self.columns), strict=True)
        return [
            Row(list(line), runs, n == self.best)
            for n, (line, runs) in enumerate(zip(values, self.runs, strict=True))
        ]

    @property
    def before_baselines(self) -> int:
        """How many columns come before the first with a baseline: there is room for its name."""
        return next((n for n, column in enumerate(self.columns) if column.baseline), 0)


def sources(study: Study) -> dict[str, Source]:
    """The run of each cell, by key."""
    several = len({one.cell.sampling_seed for one in study.results}) > 1
    found = {}
    for cell in (one.cell for one in study.results):
        training = cell.training
        seed = f"{training.seed}" if training.is_trained else training.origin
        name = f"{seed}/{cell.sampling_seed}" if several else seed
        found[cell.key] = Source(study.runs.get(cell.key, Run()).id, name, seed)
    return found


def heading(study: Study) -> str:
    """`digits data, digits features, train reference, 2,000 images, bfloat16`."""
    of = study.quantity
    return (
        f"{of.data} data, {of.extractor} features, {of.reference} reference, "
        f"{of.images:,} images, {of.precision}"
    )


def title_of(metric: MetricInfo, study: Study) -> str:
    """`FID at n = 2,000`: of a biased metric with the number of images."""
    return f"{metric.title} at n = {study.quantity.images:,}" if metric.is_biased else metric.title


def words(title: str, values: Iterable[object]) -> Column:
    return Column(title, [Value(str(value)) for value in values], is_number=False)


def numbers(
    title: str,
    values: Iterable[float | None],
    shown: Callable[[float], str] = number,
    baseline: str = "",
) -> Column:
    """A column of numbers, each as `shown` writes it; None is not known."""
    known = [np.nan if value is None else float(value) for value in values]
    return Column(title, [Value(shown(value), number=value) for value in known], baseline)


def whole(value: float) -> str:
    """Evaluations are counted; only a mean over unequal cells has decimals."""
    return f"{value:,.0f}" if float(value).is_integer() else number(value)


def yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def clip_in_words(cell: Cell) -> str:
    """Whether a cell's estimates are clipped, or how."""
    return yes_or_no(cell.clip) if isinstance(cell.clip, bool) else str(cell.clip)
