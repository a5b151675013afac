"""What a run takes on a machine beside training and sampling: forecast by its last run there.

Starting up, worker processes, MLflow and the report take the same for a small grid as for
a large one, and are most of what a small one takes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from statistics import median
from typing import Any, Self

SLOWEST, FASTEST = 4.0, 0.5  # how far a start may tell that a machine differs from the usual one


@dataclass(frozen=True)
class Overheads:
    """Seconds."""

    start: float = 0.0  # until the forecast: programs, images, weights, MLflow
    training: float = 0.0  # of trainings side by side: their processes, curves and record
    scoring: float = 0.0  # before the first cell: networks and metrics are loaded
    cell: float = 0.0  # of each cell: pictures and its record
    report: float = 0.0
    report_cell: float = 0.0  # of the report, for each cell in it

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self | None:
        """None where that is not what `vars` of one has."""
        known = [kept.get(one.name) for one in fields(cls)]
        if all(isinstance(value, int | float) and value >= 0 for value in known):
            return cls(*known)  # type: ignore[arg-type]
        return None

    def started_in(self, seconds: float | None) -> Self:
        """The same where starting takes so long, and all else takes longer or shorter likewise."""
        if seconds is None or not self.start:
            return self
        pace = min(max(seconds / self.start, FASTEST), SLOWEST)
        scaled = {one.name: getattr(self, one.name) * pace for one in fields(self)}
        return replace(self, **scaled | {"start": seconds})

    def seconds(self, rounds: int, cells: int, reported: int) -> float:
        """Of a run with so many rounds of trainings and cells to score, whose report has so many
        cells."""
        work = self.training * rounds + (self.scoring + self.cell * cells if cells else 0.0)
        return self.start + work + self.report_seconds(reported)

    def report_seconds(self, cells: int) -> float:
        """Of the report of so many cells."""
        return self.report + self.report_cell * cells


# Measured on two cores of a server that did little else, with digits and up to 10,000 cells.
USUAL = Overheads(6.0, 3.0, 0.5, 0.1, 3.0, 0.003)


@dataclass
class Stopwatch:
    """Measures these while a run goes on."""

    start: float | None = None  # seconds; None where the program had been started before
    _training: list[float] = field(default_factory=list)
    _scoring: float | None = None
    _cells: list[float] = field(default_factory=list)
    _report: tuple[float, int] | None = None
    _last: float = field(default_factory=time.monotonic)

    def lap(self) -> float:
        """Seconds since the last call."""
        last, self._last = self._last, time.monotonic()
        return self._last - last

    def trained(self, work: float) -> None:
        """A round of trainings ends, the longest of which was at work for so many seconds; for
        more than there were, where it went on from an earlier run."""
        if (beside := self.lap() - work) > 0:
            self._training.append(beside)

    @property
    def has_scored(self) -> bool:
        return self._scoring is not None

    def scored(self, work: float) -> None:
        """A cell ends, whose images, features and metrics took so many seconds."""
        beside = max(0.0, self.lap() - work)
        if self._scoring is None:
            self._scoring = beside
        else:
            self._cells.append(beside)

    def reported(self, cells: int) -> None:
        """The report of so many cells is written."""
        self._report = self.lap(), cells

    def __bool__(self) -> bool:
        return bool(self._training or self._cells or self._report)

    def overheads(self, before: Overheads) -> Overheads:
        """What was measured; of what was not, as before."""
        cell = median(self._cells) if self._cells else before.cell
        found = replace(
            before,
            start=before.start if self.start is None else self.start,
            training=median(self._training) if self._training else before.training,
            scoring=before.scoring if self._scoring is None else max(0.0, self._scoring - cell),
            cell=cell,
        )
        if not self._report:
            return found
        seconds, cells = self._report
        pace = seconds / (before.report_seconds(cells) or seconds or 1.0)
        return replace(found, report=before.report * pace, report_cell=before.report_cell * pace)
