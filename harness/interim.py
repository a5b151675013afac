"""The report while a run goes on, so that nobody has to wait for its end to see how it goes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from harness.execute.screen import Screen
from harness.report import page
from harness.tracking.recorder import Recorder
from harness.work.cells import Asked
from harness.work.options import Paths, report_command

SHARE = 0.05  # of the time of a run that its interim reports may take
USUAL = 5.0  # seconds that the first one is taken to take


@dataclass
class InterimReport:
    """The report while a run goes on. Written between its rounds, never while a cell is timed, and
    so seldom that the run takes hardly longer; kept with the run in MLflow at the end alone."""

    recorder: Recorder
    asked: Asked
    paths: Paths
    screen: Screen
    is_wanted: bool
    is_long: bool = False  # whether the run is: the first then comes with the first cells
    _since: float = field(default_factory=time.monotonic)  # the run began, or the last was written
    _seconds: float = USUAL  # that the last one took
    _written: int | None = None  # cells in the last one
    _told: set[str] = field(default_factory=set)

    def refresh(self) -> None:
        """Write the report of what is recorded by now, if it is time. Failing to do so stops no
        run."""
        began = time.monotonic()
        is_due = self._seconds <= SHARE * (began - self._since)
        if not self.is_wanted or not (is_due or (self.is_long and not self._told)):
            return
        try:
            known = self.recorder.finished().keys() | self.recorder.owed.keys()
            if not known & self.asked.cells.keys():
                return  # nothing was scored yet, or all that was tried failed
            experiment = replace(self.recorder.read(self.asked), ui_url=self.paths.ui_url)
            page.write(experiment, self.paths.report_dir)
        except Exception as error:  # of a disk, a server, or a figure of another package
            self._tell("There is no report so far", str(error))
        else:
            done = sum(one.cell.weights == "final" for one in experiment.cells)
            self._written = done
            count = f"Report so far ({done:,} of {experiment.expected_cells:,} cells)"
            self._tell(count, str(self.paths.report_dir / "report.html"))
        self._since = time.monotonic()
        self._seconds = self._since - began

    def lacking(self, done: int, command: str) -> str:
        """What the report lacks when a run with so many finished cells is stopped, and the command
        that writes it; empty where that is nothing."""
        if not (self.is_wanted and done and command) or self._written == done:
            return ""
        told = f"`{report_command(command)}`"
        if self._written is not None:
            cells = "1 cell" if self._written == 1 else f"{self._written:,} cells"
            return f"The report is of {cells}; {told} brings it up to date."
        if (self.paths.report_dir / "report.html").exists():
            return f"The report is of before this run; {told} brings it up to date."
        return f"There is no report yet; {told} writes it."

    def _tell(self, what: str, more: str) -> None:
        """Say it; of later reports, and of the same trouble, nothing."""
        if more not in self._told:
            self._told.add(more)
            self.screen.say(f"{what}: {more}")
