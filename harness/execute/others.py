"""What else a machine did while something was measured on it: whether its seconds can be used."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from harness.work.outputs import OthersOutput

BUSY = 0.05  # of the processor, used by others: from there on seconds are too long ...
UNSTEADY = 0.1  # ... or where those of the same piece of work differ so much


@dataclass(frozen=True)
class Others:
    """Shares of the time of the processor cores that this process may use; None where the system
    does not say."""

    used: float | None  # by other programs, and by what follows
    stolen: float | None  # by other machines on the same host
    load: float | None  # of the last minute: programs at work or waiting for a core, ours included

    def is_quiet(self, spread: float) -> bool:
        """Whether seconds can be used, where those of one piece of work differ so much."""
        return (self.used or 0.0) < BUSY and spread < UNSTEADY

    def told(self, spread: float, where: str) -> str:
        """In a sentence, with the piece of work whose seconds differ most, and how much."""
        facts = "how much other programs used the processor is not known here"
        if self.used is not None:
            facts = f"other programs used {self.used * 100:.0f} % of the processor"
        if self.stolen and self.stolen >= BUSY:
            facts += f" (other machines on its host {self.stolen * 100:.0f} %)"
        if where:
            facts += (
                f", and the seconds of one piece differ by {spread * 100:.0f} % at most ({where})"
            )
        if self.is_quiet(spread):
            return f"The machine was quiet: {facts}. Ratios and seconds hold."
        state = "busy" if (self.used or 0.0) >= BUSY else "unsteady"
        return (
            f"The machine was {state}: {facts}. Ratios hold roughly, seconds do not. Measure again "
            "when nothing else is at work there."
        )

    def as_json(self, spread: float) -> OthersOutput:
        return {
            "is_quiet": self.is_quiet(spread),
            "used": self.used,
            "stolen": self.stolen,
            "load": self.load,
        }


@dataclass(frozen=True)
class Times:
    """Seconds of the cores that this process may use, since they began."""

    all: float
    idle: float
    stolen: float
    ours: float  # of this process and of those that it started

    @classmethod
    def now(cls) -> Times:
        cores = psutil.cpu_times(percpu=True)
        if hasattr(os, "sched_getaffinity"):
            allowed = os.sched_getaffinity(0)
            cores = [core for number, core in enumerate(cores) if number in allowed]
        idle = stolen = total = 0.0
        for core in cores:
            told = core._asdict()
            # Linux counts guests as users, too.
            total += sum(told.values()) - told.get("guest", 0.0) - told.get("guest_nice", 0.0)
            idle += told["idle"] + told.get("iowait", 0.0)
            stolen += told.get("steal", 0.0)
        return cls(total, idle, stolen, _ours())


def _ours() -> float:
    ended = os.times()
    found = ended.user + ended.system + ended.children_user + ended.children_system
    for child in psutil.Process().children(recursive=True):
        try:
            found += sum(child.cpu_times())
        except psutil.Error:  # it has just ended
            continue
    return found


@dataclass(frozen=True)
class Watch:
    """Looks at the machine from when it is made."""

    _before: Times = field(default_factory=Times.now)

    def others(self) -> Others:
        """What others did since then."""
        now, before = Times.now(), self._before
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        if (time := now.all - before.all) <= 0:
            return Others(None, None, load)
        used = time - (now.idle - before.idle) - (now.ours - before.ours)
        return Others(max(0.0, used) / time, (now.stolen - before.stolen) / time, load)
