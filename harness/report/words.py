"""Numbers and lists as a careful person would write them."""

import math
import textwrap
from collections.abc import Iterable, Sequence

MOST_COUNTS = 6  # in one list
MINUS = "\N{MINUS SIGN}"


def number(value: float, digits: int = 3, decimals: int | None = None) -> str:
    """`0.162`, `35.5`, `1,240`: three significant digits, never scientific for everyday sizes."""
    if not math.isfinite(value):
        return "–"
    decimals = decimals_for(value, digits) if decimals is None else decimals
    text = f"{abs(value):,.{decimals}f}"
    # A rounded zero has no sign.
    return f"{MINUS}{text}" if value < 0 and float(text.replace(",", "")) != 0 else text


def decimals_for(value: float, digits: int = 3) -> int:
    """How many decimals show this many significant digits; five at most."""
    if value == 0 or not math.isfinite(value):
        return 0
    return min(max(digits - 1 - math.floor(math.log10(abs(value))), 0), 5)


def interval(low: float, high: float, decimals: int | None = None) -> str:
    """`[0.131, 0.193]`, and nothing where there are no bounds."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    if decimals is None:
        decimals = decimals_for(max(abs(low), abs(high)))
    return f"[{number(low, decimals=decimals)}, {number(high, decimals=decimals)}]"


def estimate(value: float, low: float, high: float) -> str:
    """`0.162 [0.131, 0.193]`: a value and its bounds to the same decimals, as many as the
    uncertainty leaves meaningful and no more than four digits of the value."""
    reach = (high - low) / 2
    if not math.isfinite(reach):
        return number(value)
    starts_small = f"{reach:e}"[0] in "12"  # one digit of 0.0012 would be too coarse
    meaningful = max(decimals_for(reach, 2 if starts_small else 1), decimals_for(value, 2))
    decimals = min(decimals_for(value, 4), meaningful)
    return f"{number(value, decimals=decimals)} {interval(low, high, decimals)}"


def wrapped(name: str, width: int = 26) -> str:
    """A long name on several lines, broken at spaces and before its options."""
    lines = textwrap.wrap(name.replace("(", " ("), width, break_on_hyphens=False)
    return "\n".join(lines).replace(" (", "(")


def count(n: int, noun: str, plural: str | None = None) -> str:
    """`1 step`, `20 steps`, `2 differences`."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def listed(items: Iterable[object], last: str = "and") -> str:
    """`5, 10 and 20`."""
    words = [str(item) for item in items]
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def sentence(*parts: str) -> str:
    """The parts as one sentence: a capital first, one full stop at the end."""
    text = " ".join(part for part in parts if part).strip()
    return text if text.endswith((".", "?")) else f"{text}."


def at_steps(steps: Sequence[int], unit: str = "step") -> str:
    """`at 20 steps`, `at 5, 10 and 20 steps`, `at 1 step`, `at 10 evaluations`, `at 8 numbers of
    steps from 2 to 12`."""
    if len(steps) > MOST_COUNTS:
        return f"at {len(steps)} numbers of {unit}s from {steps[0]:,} to {steps[-1]:,}"
    return f"at {listed(f'{n:,}' for n in steps)} {unit}{'' if [*steps] == [1] else 's'}"


def duration(seconds: float) -> str:
    """`12.4 ms`, `1.3 s`, `4.10 min`: seconds in the unit in which they are read."""
    if not math.isfinite(seconds):
        return "–"
    for unit, size, least in (("h", 3600, 7200), ("min", 60, 120), ("s", 1, 1), ("ms", 1e-3, 1e-3)):
        if seconds >= least:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds / 1e-6)} µs"
