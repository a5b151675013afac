"""What every spacing must satisfy: N steps asked are N done, falling from at most 1 to 0."""

from __future__ import annotations

from functools import partial
from typing import Any

from harness.contracts.check import Bench, Claims, check
from harness.contracts.closed_forms import built_in_schedules
from harness.diffusion.schedules import Schedule
from harness.diffusion.times import SPACINGS
from harness.errors import BadOption

COUNTS = (1, 2, 3, 5, 10, 13, 50, 61, 100, 250, 500, 999, 1000)  # of steps


def claims(name: str, bench: Bench) -> Claims:
    about = partial(check, bench, f"spacing {name}")
    yield about("N asked are N done (cases where not)", 0, partial(no_paths, name))
    yield about("gives times in the dtype asked for (faults)", 0, partial(faults, name, bench))


def no_paths(name: str) -> int:
    schedules = built_in_schedules().values()
    return sum(not is_path(name, schedule, steps) for schedule in schedules for steps in COUNTS)


def is_path(name: str, schedule: Schedule, steps: int) -> bool:
    """Whether the spacing makes a path of so many steps, or says why it will not."""
    try:
        times = SPACINGS[name](schedule, steps, **written_out(name, steps))
    except BadOption:
        return True
    falls = bool((times.diff() < 0).all())
    return len(times) == steps + 1 and falls and float(times[0]) <= 1 and float(times[-1]) == 0


def faults(name: str, bench: Bench) -> int:
    schedule = built_in_schedules()["linear"]
    times = SPACINGS[name](schedule, 5, dtype=bench.dtype, **written_out(name, 5))
    return int(times.dtype != bench.dtype)


def written_out(name: str, steps: int) -> dict[str, Any]:
    """The option without which `explicit` has no times."""
    return {"times": tuple(1 - k / steps for k in range(steps))} if name == "explicit" else {}
