"""When to stop: Ctrl-C, a signal from the system, or a limit of time."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from harness.errors import BadOption

INTERRUPTED, OUT_OF_TIME = 130, 75  # exit statuses: as shells say Ctrl-C; EX_TEMPFAIL, try again


class Interruption:
    """Within this context a first Ctrl-C or SIGTERM asks the work to stop and save; a second
    Ctrl-C ends the program at once."""

    def __init__(self, time_limit: float | None, say: Callable[[str], None]):
        self._deadline = None if time_limit is None else time.monotonic() + time_limit
        self._say = say
        self._before: dict[int, Any] = {}
        self.status: int | None = None
        self._told = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # else signals are not ours
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def should_stop(self) -> bool:
        if self.status is None and self._deadline and time.monotonic() > self._deadline:
            self.status = OUT_OF_TIME
            self._say("The time limit is reached: saving what is under way.")
        if self.status == INTERRUPTED and not self._told:
            self._told = True  # said here: a signal may come in the middle of another line
            self._say("Stopping: saving what is under way. Press Ctrl-C again to stop at once.")
        return self.status is not None

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.status == INTERRUPTED and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.status = INTERRUPTED


def parse_duration(text: str) -> float:
    """`90`, `90s`, `9m`, `1h30m` as seconds. Raises BadOption."""
    units = {"h": 3600, "m": 60, "s": 1}
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    found = re.findall(r"(\d+(?:\.\d+)?)([hms])", text)
    if not found or "".join(number + unit for number, unit in found) != text:
        raise BadOption(f"'{text}' is no length of time. Use 90s, 9m or 1h30m.")
    return sum(float(number) * units[unit] for number, unit in found)
