"""When to stop: Ctrl-C, a signal from the system, or a limit of time."""

from __future__ import annotations

import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import FrameType
from typing import Any, Self

from harness.errors import BadOption, Ended

OUT_OF_TIME = 75  # exit status: EX_TEMPFAIL, try again
SAVING = 5.0  # seconds for what is under way to be saved and its processes to end ...
MARGIN = 1.5  # ... before what follows, of which a prediction may be short by so much
LARGEST_SHARE = 0.5  # of the time that is left, to be kept
# Of signals, as shells say them; not every system has all.
STATUSES = {
    number: 128 + number
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if (number := getattr(signal, name, None))
}


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], Any], *passed: int) -> Iterator[None]:
    """Have a function called on the signals that end a program, but for those passed over. One that
    the program was started to ignore, as under nohup, stays ignored; Ctrl-C alone is for it even
    where a shell put it into the background."""
    before = {}
    try:
        if threading.current_thread() is threading.main_thread():  # else signals are not ours
            for number in STATUSES.keys() - {*passed}:
                if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, one in before.items():
            signal.signal(number, one)


def ending_in_order() -> AbstractContextManager[None]:
    """Within this context SIGTERM and SIGHUP end the program at once, but as an error does: nothing
    half written stays behind, and no process. Ctrl-C is Python's."""
    return handled_by(_end, signal.SIGINT)


def _end(number: int, frame: FrameType | None) -> None:
    raise Ended(STATUSES[number])


class Interruption:
    """Within this context a first Ctrl-C, SIGTERM or SIGHUP asks the work to stop and save; a
    second Ctrl-C ends the program at once. So does a time limit, early enough for what is kept."""

    def __init__(self, time_limit: float | None, say: Callable[[str], None]):
        self._deadline = math.inf if time_limit is None else time.monotonic() + time_limit
        self._kept, self._before = 0.0, 0.0  # seconds that are kept; when the work ends before it
        self._say = say
        self._handlers = ExitStack()
        self.status: int | None = None
        self._is_told = False

    def __enter__(self) -> Self:
        self._handlers.enter_context(handled_by(self._stop))
        return self

    def __exit__(self, *_: object) -> None:
        self._handlers.close()

    @property
    def _left(self) -> float:
        """Seconds to the time limit."""
        return self._deadline - time.monotonic()

    def keep(self, seconds: float) -> bool:
        """Stop the work so long before the time limit that as many seconds remain for what follows
        it; not where that would take most of what is left. Returns whether they are kept."""
        before = SAVING + MARGIN * seconds
        is_kept = before <= LARGEST_SHARE * self._left
        self._kept, self._before = (seconds, before) if is_kept else (0.0, 0.0)
        return is_kept

    @property
    def has_kept_time(self) -> bool:
        """Whether the work ran out of its time, and what was kept of it is still there."""
        return self.status == OUT_OF_TIME and 0 < self._kept <= self._left

    def should_stop(self) -> bool:
        if self.status is None and self._left < self._before:
            self.status = OUT_OF_TIME
            why = "leaves the rest for the report" if self._kept else "is reached"
            self._say(f"The time limit {why}: saving what is under way.")
        if self._is_signalled and not self._is_told:
            self._is_told = True  # said here: a signal may come in the middle of another line
            is_typed = self.status == STATUSES[signal.SIGINT]
            again = " Press Ctrl-C again to stop at once." if is_typed else ""
            self._say(f"Stopping: saving what is under way.{again}")
        return self.status is not None

    @property
    def _is_signalled(self) -> bool:
        return self.status in STATUSES.values()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if not self._is_signalled:
            self.status = STATUSES[number]
        elif number == signal.SIGINT:
            raise KeyboardInterrupt


def parse_duration(text: str) -> float:
    """`90`, `90s`, `9m`, `1h30m` as seconds. Raises BadOption."""
    units = {"h": 3600, "m": 60, "s": 1}
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    found = re.findall(r"(\d+(?:\.\d+)?)([hms])", text)
    if not found or "".join(number + unit for number, unit in found) != text:
        raise BadOption(f"'{text}' is no length of time. Use 90s, 9m or 1h30m.")
    return sum(float(number) * units[unit] for number, unit in found)
