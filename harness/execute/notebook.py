"""Progress in a notebook: one place on the page, written anew as the work goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from importlib import import_module
from typing import Any

from rich.console import Console

from harness.errors import legible
from harness.execute.progress import Progress
from harness.execute.screen import Screen
from harness.work.speeds import duration

SECONDS = 0.25  # between two looks of the bars: each is a message to the browser
LETTERS = 24  # of a bar where only text is shown
STYLE = "font-family:monospace;white-space:pre;line-height:1.5"


def screen_here(quiet: bool = False) -> Screen:
    """The screen for a program: bars of its own in a notebook, else those of the command line."""
    if quiet:
        return Screen(Console(quiet=True))
    return NotebookScreen() if is_notebook() else Screen(Console())


def is_notebook() -> bool:
    """Whether this program runs in the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


@dataclass(frozen=True)
class Bar:
    """One line of progress."""

    name: str
    done: int
    total: int
    note: str = ""

    def as_text(self, width: int) -> str:
        filled = LETTERS * self.done // self.total if self.total else LETTERS
        bar = "#" * filled + "." * (LETTERS - filled)
        return f"{self.name:<{width}}  {bar}  {self.done:,}/{self.total:,}  {self.note}".rstrip()

    def as_html(self, width: int) -> str:
        bar = f'<progress value="{self.done}" max="{max(self.total, 1)}"></progress>'
        count = f"{self.done:,}/{self.total:,}"
        return f"<div>{escape(f'{self.name:<{width}}')}  {bar}  {count}  {escape(self.note)}</div>"


class NotebookScreen(Screen):
    """Shows the stage of a run and the work under way as bars that stay in their place, and below
    them what a person should know. What a cell of the notebook says stays short: a finished piece
    of work is counted, and only one that failed has a line of its own."""

    def __init__(self) -> None:
        super().__init__(Console(file=sys.stdout))
        self._place: Any = None  # IPython's handle of what is shown
        self._works: dict[str, Bar] = {}
        self._last, self._drawn = "", 0.0
        self._began, self._at_first = 0.0, 0  # the stage: when, and pieces done by then

    def __exit__(self, *_: object) -> None:
        self._works.clear()
        self._draw(at_once=True)

    def say(self, text: str) -> None:
        print(legible(text), flush=True)

    def stage(self, name: str, totals: Mapping[str, int]) -> None:
        self._stage, self._totals = name, totals
        self._works.clear()
        self._began, self._at_first = time.monotonic(), self._done[name]
        self._draw(at_once=True)

    def update(self, piece: str, progress: Progress) -> None:
        note = "  ".join(f"{name} {value:.4g}" for name, value in progress.values.items())
        before = self._works.get(piece)
        note = progress.phase or note
        note = note or (before.note if before else "")  # not every report has numbers
        self._works[piece] = Bar(legible(piece), progress.done, progress.total, note)
        self._draw()

    def finish(self, piece: str, note: str, of: str) -> None:
        self._done[of] += 1
        self._works.pop(piece, None)
        self._last = legible(f"{piece}  {note}")
        if note.startswith("FAILED"):
            self.say(f"{piece}  {note}")
        self._draw(at_once=True)

    def _bars_now(self) -> Iterator[Bar]:
        for name, done in self._done.items():
            if name != self._stage:
                yield Bar(name, done, self._totals.get(name, done))
        if self._stage:
            done = self._done[self._stage]
            fresh, seconds = done - self._at_first, time.monotonic() - self._began
            total = self._totals[self._stage]
            left = seconds / fresh * (total - done) if fresh else 0.0
            yield Bar(self._stage, done, total, f"{duration(left)} left" if left >= 1 else "")
        yield from self._works.values()

    def _draw(self, at_once: bool = False) -> None:
        now = time.monotonic()
        bars = list(self._bars_now())
        if not bars or (now - self._drawn < SECONDS and not at_once):
            return
        self._drawn = now
        width = max(len(bar.name) for bar in bars)
        lines = [bar.as_text(width) for bar in bars]
        last = f"<div>{escape(self._last)}</div>" if self._last else ""
        shown = {
            "text/plain": "\n".join([*lines, self._last]).rstrip(),
            "text/html": f'<div style="{STYLE}">'
            f"{''.join(bar.as_html(width) for bar in bars)}{last}</div>",
        }
        if self._place is None:
            display: Any = import_module("IPython.display").display
            self._place = display(shown, raw=True, display_id=True)
        else:
            self._place.update(shown, raw=True)
