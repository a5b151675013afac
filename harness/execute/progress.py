"""What a job reports while it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

SECONDS = 0.2  # between two messages about one job: more would only cost the job its time


@dataclass(frozen=True)
class Progress:
    """How far a piece of work is: `done` of `total`, with numbers to show or record."""

    done: int
    total: int
    values: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)  # by name, newly made and worth seeing
    # Likewise of other works that the same job does, by the keys of those.
    of_others: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    saved: Any = None  # on another machine, where to get the state that was just saved
    phase: str = ""  # what is done now, where that is not the next of the steps
    lost: str = ""  # why the job begins again: how its process was killed


class Stopped(Exception):
    """The work was asked to stop: raised by `report` in the job, which saves what it has."""


Report = Callable[[Progress], None]


def throttled(send: Report, should_stop: Callable[[], bool]) -> Report:
    """The `report` a job is given: it passes on what matters and what is due, and raises Stopped
    when the job should stop."""
    last, phase = 0.0, ""

    def report(progress: Progress) -> None:
        nonlocal last, phase
        now = time.monotonic()
        is_news = progress.values or progress.files or progress.saved is not None
        is_news = is_news or progress.phase != phase
        if is_news or now - last > SECONDS:
            last, phase = now, progress.phase
            send(progress)
        if should_stop():
            raise Stopped

    return report
