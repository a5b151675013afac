"""Progress on the screen: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import IO, Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from harness.errors import legible
from harness.execute.progress import Progress
from harness.lines import fitted, width_of

COUNTS, TIME, NOTE = 11, 5, 12  # columns of a bar: 12000/20000, 12:34 and loss 0.01234
QUIET_SECONDS = 15.0  # between two plain lines about the same piece of work


class Counts(MofNCompleteColumn):
    """How many of how many; nothing where that is not known."""

    def render(self, task: Task) -> Text:
        return Text("") if task.total is None else super().render(task)


def note_width(width: int) -> int:
    """Of the numbers beside a bar."""
    return max(NOTE, width // 4)


def columns_of(width: int) -> tuple[ProgressColumn, ...]:
    """The columns of a bar that is at most so wide: a name that is too long is cut."""
    bar = max(8, width // 6)
    others = bar + COUNTS + TIME + note_width(width) + 4  # one space between two columns

    def cut(most: int) -> Column:
        return Column(no_wrap=True, overflow="ellipsis", max_width=most)

    return (
        TextColumn("{task.description}", table_column=cut(max(8, width - others))),
        BarColumn(bar),
        Counts(),
        TimeRemainingColumn(compact=True),
        TextColumn("[dim]{task.fields[note]}", table_column=cut(note_width(width))),
    )


class Unbroken:
    """A stream that no work ends for: where nobody reads it any more, or its disk is full, what is
    written to it is dropped from then on."""

    def __init__(self, stream: IO[str]):
        self._stream, self._is_broken = stream, False

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, act: Callable[[], object]) -> None:
        if not self._is_broken:
            try:
                act()
            except OSError:
                self._is_broken = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Screen:
    """Shows the stages of a run and the work under way: on a terminal one bar for the stage and one
    for each piece of work, with the time left; elsewhere a line now and then and at its end."""

    def __init__(self, console: Console):
        self._console = console
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}
        self._stage = ""
        self._totals: Mapping[str, int] = {}  # of pieces, by stage
        self._notes: dict[str, str] = {}  # the last numbers, by piece
        self._done: Counter[str] = Counter()  # pieces, by stage

    def __enter__(self) -> Self:
        width = self._console.width
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._bars = Bars(*columns_of(width), console=self._console, transient=True)
            self._bars.add_task("[dim]starting", total=None, note="")
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def say(self, text: str) -> None:
        """A line, which stays."""
        width = self._console.width if self._console.is_terminal else width_of(self._console.file)
        shown = fitted(legible(text), width)
        self._console.print(shown, highlight=False, markup=False, soft_wrap=True)

    def doing(self, what: str) -> None:
        """What goes on that nothing counts, until the next of it or the first stage: on a terminal,
        which else would seem to hang."""
        if self._bars and not self._stage:
            self._bars.update(self._bars.task_ids[0], description=f"[dim]{what}")

    def begin(self) -> None:
        """A run begins, and counts its pieces from one."""
        self._done.clear()

    def stage(self, name: str, totals: Mapping[str, int]) -> None:
        """A stage of so many pieces in the whole run begins, or goes on where it was left. Pieces
        of another name that are done in it are counted apart."""
        self._stage, self._totals, total = name, totals, totals.get(name, 0)
        if self._bars:
            for task in self._bars.task_ids:
                self._bars.remove_task(task)
            bar = self._bars.add_task(
                f"[bold]{name}", total=total, completed=self._done[name], note=""
            )
            self._tasks = {"": bar}

    def follow(self, stage: str, piece: str, total: int) -> None:
        """The next of `total` small pieces of a stage begins: a bar tells of it, and elsewhere each
        stage is a line."""
        if stage != self._stage:
            self._done.clear()
            self.stage(stage, {stage: total})
            if not self._bars:
                self.say(f"{stage}: {total:,}")
        if self._bars:
            self._bars.update(self._tasks[""], completed=self._done[stage], note=escape(piece))
        self._done[stage] += 1

    def update(self, piece: str, progress: Progress) -> None:
        """A piece of work got this far."""
        told = [f"{name} {value:.4g}" for name, value in progress.values.items()]
        note = "  ".join(told)
        if progress.phase:
            note, told = progress.phase, []
        if self._bars:
            while len(note) > note_width(self._console.width) and len(told) > 1:
                note = "  ".join(told := told[:-1])
            if piece not in self._tasks:
                shown = escape(legible(piece))
                self._tasks[piece] = self._bars.add_task(shown, total=progress.total, note=note)
            task = self._tasks[piece]
            self._bars.update(task, completed=progress.done, total=progress.total)
            if told:  # not every report has numbers: the last ones stay on the screen
                self._notes[piece] = note
            self._bars.update(task, note=progress.phase or self._notes.get(piece, ""))
        elif time.monotonic() - self._said.setdefault(piece, time.monotonic()) > QUIET_SECONDS:
            self._said[piece] = time.monotonic()
            self.say(f"  {piece}: {progress.done}/{progress.total}  {note}".rstrip())

    def finish(self, piece: str, note: str, of: str) -> None:
        """A piece of work ended: of this stage, or of what is counted apart in it."""
        self._done[of] += 1
        done, total = self._done[of], self._totals[of]
        if self._bars:
            if piece in self._tasks:
                self._bars.remove_task(self._tasks.pop(piece))
            self._bars.update(self._tasks[""], completed=self._done[self._stage])
        self.say(f"{of} {done}/{total}  {piece}  {note}".rstrip())
