"""Recording while work goes on, also where the tracking server is away for a while.

Every result is in the store before it is recorded, so a server that does not answer stops nothing:
what it is owed is written when it is back, in this run or, from the store, by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from harness.analysis.sources import of_one_source
from harness.errors import TrackerAway, TrackingError
from harness.execute.progress import Progress
from harness.store import GRID, Store
from harness.tracking import Tracker, kind_of
from harness.tracking.records import asked_of
from harness.tracking.views import Shared
from harness.work.cells import Asked, Cell, Training
from harness.work.results import (
    Artifacts,
    CellResult,
    Experiment,
    FailedWork,
    Failure,
    Result,
    checksum,
)

SHARE = 0.05  # of the time of a run that live numbers and looking for a server may take
FIRST_WAIT, LONGEST_WAIT = 5.0, 120.0  # seconds before a server that was away is asked again
AT_THE_END = (0.0, 2.0, 8.0, 20.0)  # seconds before it is asked for the last times

Work = Training | Cell
Found = TypeVar("Found")


@dataclass(frozen=True)
class Owed:
    """Work that ended and is not recorded yet."""

    work: Work
    outcome: Result | Failure
    forecast: float | None = None
    is_reused: bool = False
    retries: int = 0


@dataclass
class Recorder:
    """Records what comes of work, or remembers that it is owed."""

    tracker: Tracker
    store: Store
    name: str  # of the grid
    say: Callable[[str], None]
    owed: dict[str, Owed] = field(default_factory=dict)  # by the key of the work
    # To open the tracker with.
    _grid: tuple[str, Asked, Mapping[str, str], Mapping[str, Shared]] | None = None
    _runs: dict[str, str] = field(default_factory=dict)  # of work under way, by its key
    _recorded: dict[str, str] = field(default_factory=dict)  # runs of what is complete
    _is_described: bool = False  # whether the run of the grid says what this grid is
    _ending: str = ""  # the status with which the run of the grid is to end
    _superseded: set[str] = field(default_factory=set)  # keys, not yet marked
    _away: TrackerAway | None = None
    _next_try: float = 0.0
    _next_progress: float = 0.0

    @property
    def is_away(self) -> bool:
        return self._away is not None

    @property
    def is_owing(self) -> bool:
        """Whether something is still to be written, were it only that the run of the grid ended."""
        return bool(self.owed or self._superseded or self._ending)

    @property
    def _ledger(self) -> str:
        """The name of what the store remembers of debts to this tracker."""
        return f"{self.name}-{checksum(self.tracker.uri.encode())[:12]}"

    @cached_property
    def _debts(self) -> dict[str, dict[str, Any]]:
        """By the key of work, what earlier runs of this grid have not recorded of it."""
        return self.store.owed(self._ledger)

    # What is known already.

    def finished(self) -> dict[str, frozenset[str]]:
        """As the tracker says it, without what an earlier run still owes it; nothing while it is
        away."""
        found = self._tried(self.tracker.finished) or {}
        return {key: names for key, names in found.items() if key not in self._debts}

    def cell_results(self) -> list[CellResult]:
        found = self._tried(self.tracker.cell_results)
        return self.store.cell_results() if found is None else list(found.values())

    @property
    def recorded(self) -> set[str]:
        """The keys of what is recorded, also of what lacks files that a server refused."""
        return {*(self._tried(self.tracker.run_ids) or ())}

    def asked(self) -> Asked:
        """What the grid stood for when it was last run; as the store remembers it while the
        tracker is away."""
        found = self._tried(self.tracker.asked)
        return self.store.grids().get(self.name, Asked({}, ())) if found is None else found

    def has_grid(self, text: str, asked: Asked) -> bool:
        return bool(self._tried(lambda: self.tracker.has_grid(text, asked)))

    def read(self, asked: Asked) -> Experiment:
        """What is recorded of what is asked for; from the store while the tracker is away or is
        owed a part of it. Raises TrackingError where nothing is known."""
        found = None if self.owed else self._tried(lambda: self.tracker.read(asked))
        if found is not None:
            return found
        cells = asked_of(self.store.cell_results(), asked)
        failures = [
            FailedWork(kind_of(one.work), key, one.work.title, one.outcome.reason)
            for key, one in self.owed.items()
            if isinstance(one.outcome, Failure)
        ]
        if not (cells or failures):
            if self._away:
                raise TrackerAway(f"{self._away}. Start it, or use another --tracking-uri.")
            raise TrackingError(
                f"nothing of '{self.name}' is in the store. Use `harness run` with its grid first."
            )
        text = (self.store.grid_file(self.name, GRID) or b"").decode(errors="replace")
        needed = {one.cell.training.key for one in cells}
        return Experiment(
            name=self.name,
            cells=tuple(of_one_source(cells)),
            trainings=tuple(
                one for one in self.store.training_results() if one.training.key in needed
            ),
            failures=tuple(failures),
            expected_cells=len(asked.cells),
            expected_trainings=len(asked.trainings),
            looks=asked.looks,
            looked=asked.looked,
            grid_text=text,
            versions=cells[0].provenance.versions if cells else {},
        )

    def publish(
        self,
        folder: Path,
        files: Iterable[Path],
        description: str,
        verdicts: Iterable[str],
        made_from: str,
    ) -> None:
        """Keep a report with the run of the grid, if the tracker is there."""
        self._tried(lambda: self.tracker.publish(folder, files, description, verdicts, made_from))

    def wants_report(self, made_from: str) -> bool:
        """Whether the tracker is there, and has another report or none."""
        return self._tried(lambda: self.tracker.has_report(made_from)) is False

    def share(self, views: Mapping[str, Shared]) -> None:
        """Have MLflow's pages show the cells so, if the tracker is there."""
        self._tried(lambda: self.tracker.share(views))

    # What comes of work.

    def open(
        self,
        text: str,
        asked: Asked,
        tags: Mapping[str, str],
        views: Mapping[str, Shared] = {},
    ) -> None:
        """Begin to write, now or once the tracker is there."""
        self._grid, self._ending, self._is_described = (text, asked, tags, views), "", False
        self._tried(self._pay)

    def close(self, status: str) -> None:
        """Write what is owed, and end the run of the grid: now, or once the tracker is there."""
        self._ending = status
        for wait in AT_THE_END if status == "FINISHED" else AT_THE_END[:1]:
            time.sleep(wait)
            self._next_try = 0.0
            self._tried(self._pay)
            if not self.is_away:
                return
        what = _results(len(self.owed)) if self.owed else "The end of the run is"
        self.say(
            f"{what} not recorded in MLflow yet. Use the same command once the tracking server is "
            "back."
        )

    def progress(
        self, work: Work, progress: Progress, forecast: float | None, others: Iterable[Work] = ()
    ) -> None:
        """Record live numbers of work under way, and of others that the same job does, as often as
        the server is quick."""
        began = time.monotonic()
        values = progress.values if began >= self._next_progress else {}
        if not (values or progress.files):
            return
        self._tried(partial(self._tell, work, replace(progress, values=values), forecast))
        for one in others:
            files = progress.of_others.get(one.key, {})
            told = replace(progress, values=values, files=files)
            self._tried(partial(self._tell, one, told, None))  # the forecast is of the job
        ended = time.monotonic()
        self._next_progress = ended + (ended - began) / SHARE

    def ended(
        self,
        work: Work,
        outcome: Result | Failure,
        forecast: float | None = None,
        is_reused: bool = False,
        retries: int = 0,
    ) -> None:
        """Record what came of a piece of work, once it is in the store."""
        if not isinstance(outcome, Failure):  # its files are in the store
            outcome = replace(outcome, artifacts=Artifacts(outcome.artifacts.checksums))
        if (debt := self._debts.get(work.key)) is not None:  # of an earlier run of this grid
            forecast, retries, is_reused = debt.get("forecast"), debt.get("retries", 0), False
        self.owed[work.key] = Owed(work, outcome, forecast, is_reused, retries)
        self._tried(self._pay)
        if self.is_away and not is_reused:
            self._debts[work.key] = {"forecast": forecast, "retries": retries}
            self.store.keep_owed(self._ledger, self._debts)

    def superseded(self, keys: Iterable[str]) -> None:
        self._superseded.update(keys)
        self._tried(self._pay)

    def abandon(self) -> None:
        """What is under way was asked to stop, and will go on another time."""
        while self._runs:
            _, run_id = self._runs.popitem()
            self._tried(partial(self.tracker.abandoned, run_id))

    # Details.

    def _tried(self, action: Callable[[], Found]) -> Found | None:
        """What an action returns; None while the tracker is away, which is asked again now and
        then."""
        began = time.monotonic()
        if self.is_away and began < self._next_try:
            return None
        try:
            if self.is_away:
                self._come_back()
            return action()
        except TrackerAway as error:
            now = time.monotonic()
            if self._away is None:
                self._away = error
                self.say(f"{error}. What is done meanwhile is kept, and recorded when it is back.")
            self._next_try = now + min(LONGEST_WAIT, max(FIRST_WAIT, (now - began) / SHARE))
            return None

    def _tell(self, work: Work, progress: Progress, forecast: float | None) -> None:
        run_id = self._run_of(work, forecast)
        if progress.values:
            self.tracker.progress(run_id, progress.done, progress.values)
        for name, picture in progress.files.items():
            self.tracker.sheet(run_id, name, picture)

    def _come_back(self) -> None:
        """Write what is owed; raises TrackerAway where it is not back. What was begun before, and
        perhaps without an answer, goes on in its run."""
        if self.tracker.is_open:
            self._runs = self.tracker.under_way() | self._runs
        count = len(self.owed)
        self._pay()
        self._away = None
        self.say(f"The tracking server is back: {_results(count)} recorded now.")

    def _pay(self) -> None:
        if self._grid and not (self.tracker.is_open and self._is_described):
            self.tracker.open(*self._grid)
            self._is_described = True
            # Read once: after each change it would take ever longer.
            self._recorded = self.tracker.run_ids()
        if not self.tracker.is_open:
            return
        if self._superseded:
            self.tracker.superseded(self._superseded)
            self._recorded = {k: r for k, r in self._recorded.items() if k not in self._superseded}
            self._superseded.clear()
        for key, owed in list(self.owed.items()):
            self._write(owed)
            del self.owed[key]
            if self._debts.pop(key, None) is not None:
                self.store.keep_owed(self._ledger, self._debts)
        if self._ending:
            self.tracker.close(self._ending)
            self._grid, self._ending = None, ""

    def _write(self, owed: Owed) -> None:
        work, outcome, folder = owed.work, owed.outcome, self.store.folder(owed.work)
        if isinstance(outcome, Failure):
            run_id = self._run_of(work, owed.forecast)
            self.tracker.failed(run_id, work, outcome)
        # Of work that had to be made again there is a new run, with its progress.
        elif work.key in self._recorded and work.key not in self._runs:
            run_id = self._recorded[work.key]
            self.tracker.amended(run_id, outcome, folder)
        else:
            run_id = self._run_of(work, owed.forecast, owed.is_reused, outcome.seconds)
            if work.key in self._recorded:  # not left to the clock, which may have been set back
                self.tracker.superseded([work.key], but=run_id)
            self.tracker.completed(run_id, outcome, folder)
            self._recorded[work.key] = run_id
        if owed.retries:
            self.tracker.retried(run_id, owed.retries)
        self._runs.pop(work.key, None)

    def _run_of(
        self, work: Work, forecast: float | None, is_reused: bool = False, seconds: float = 0.0
    ) -> str:
        """The run of a piece of work under way, which began so many seconds ago."""
        if work.key not in self._runs:
            self._runs[work.key] = self.tracker.started(work, forecast, is_reused, seconds)
        return self._runs[work.key]


def _results(count: int) -> str:
    return "1 result is" if count == 1 else f"{count:,} results are"
