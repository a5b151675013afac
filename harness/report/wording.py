"""Numbers, lists and comparisons in words, the same in every sentence of a report."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence

from harness.analysis.comparisons import Comparison
from harness.analysis.configurations import Configuration
from harness.analysis.statistics import SAMPLING, SMALL, Difference, Interval

MOST_COUNTS = 6  # in one list
MINUS = "\N{MINUS SIGN}"


def number(value: float, digits: int = 3, decimals: int | None = None) -> str:
    """`0.162`, `35.5`, `1,240`: three significant digits, never scientific for everyday sizes."""
    if not math.isfinite(value):
        return "–"
    decimals = decimals_for(value, digits) if decimals is None else decimals
    return f"{value:z,.{decimals}f}".replace("-", MINUS)  # z: a rounded zero has no sign


def decimals_for(value: float, digits: int = 3) -> int:
    """How many decimals show this many significant digits; five at most."""
    if value == 0 or not math.isfinite(value):
        return 0
    return min(max(digits - 1 - math.floor(math.log10(abs(value))), 0), 5)


def interval(low: float, high: float, decimals: int | None = None) -> str:
    """`[0.131, 0.193]`, and nothing where there are no bounds."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    decimals = decimals_for(max(abs(low), abs(high))) if decimals is None else decimals
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


def are(n: int) -> str:
    return "is" if n == 1 else "are"


def listed(items: Iterable[object], last: str = "and") -> str:
    """`5, 10 and 20`."""
    words = [str(item) for item in items]
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else "".join(words)


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


def time_of(seconds: float) -> str:
    """`12.4 ms`, `1.3 s`, `4.10 min`: seconds in the unit in which they are read."""
    if not math.isfinite(seconds):
        return "–"
    for unit, size, least in (("h", 3600, 7200), ("min", 60, 120), ("s", 1, 1), ("ms", 1e-3, 1e-3)):
        if seconds >= least:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds / 1e-6)} µs"


def percent(share: float, digits: int = 2) -> str:
    """`27 %`."""
    return f"{number(100 * share, digits)} %"


def spanned(span: Interval, factor: float = 1.0) -> str:
    """`0.162 [0.131, 0.193]`; a factor of 100 makes per cent of it."""
    return estimate(factor * span.estimate, factor * span.low, factor * span.high)


def described(one: Configuration) -> str:
    """`cosine with ddim at 10 steps`."""
    return f"{one.schedule} with {sampler_at(one)}"


def sampler_at(one: Configuration) -> str:
    """`ddim at 10 steps`."""
    return f"{sampler_of(one)} {at_steps([one.steps], one.unit)}"


def sampler_of(one: Configuration) -> str:
    """`ddim`, or `ddim (trailing)` where configurations differ in more than the sampler."""
    return f"{one.kind} ({one.setting.removeprefix(', ')})" if one.setting else one.kind


def versus(made: Comparison) -> str:
    """`0.100 against 0.262`."""
    return f"{number(made.first.mean)} against {number(made.second.mean)}"


def magnitude(difference: Difference) -> str:
    """`0.162 [0.131, 0.193]`: the size of a difference, without a sign to misread."""
    low, high = difference.low, difference.high
    bounds = (-high, -low) if difference.value < 0 else (low, high)
    return estimate(abs(difference.value), *bounds)


def change_of(difference: Difference, down: str, up: str) -> str:
    """`lower by 0.162 [0.131, 0.193]`."""
    return f"{down if difference.value < 0 else up} by {magnitude(difference)}"


def signed(difference: Difference) -> str:
    """`a difference of 0.003 [−0.002, 0.008]`, where the sign is not settled."""
    return f"a difference of {estimate(difference.value, difference.low, difference.high)}"


def basis(difference: Difference) -> str:
    """`over 3 training seeds`, or `on the same 3 models`: which variance the interval covers."""
    if difference.covers != SAMPLING:
        return f"over {count(difference.n, 'training seed')}"
    return f"on the same {'model' if difference.n == 1 else count(difference.n, 'model')}"


def why_undecided(difference: Difference) -> str:
    """`within sampling error`, `not significant after correction for 15 comparisons`."""
    is_small = difference.reason == SMALL and difference.covers == SAMPLING
    return "within sampling error" if is_small else difference.reason


def at(made: Sequence[Comparison]) -> str:
    """`at 5 and 10 steps`."""
    return at_steps(sorted({one.steps for one in made}), made[0].first.unit)


def steps_by(made: Iterable[Comparison], name: Callable[[Comparison], str]) -> dict[str, list[int]]:
    """The step counts of the comparisons that share a name, names in the order they appear."""
    steps: dict[str, list[int]] = {}
    for one in made:
        steps.setdefault(name(one), []).append(one.steps)
    return steps


def each_at(made: Sequence[Comparison], name: Callable[[Comparison], str]) -> list[str]:
    """`cosine at 5 and 10 steps`, `linear at 50 steps`."""
    unit = made[0].first.unit if made else "step"
    return [f"{of} {at_steps(steps, unit)}" for of, steps in steps_by(made, name).items()]


def pairs(made: Sequence[Comparison], most: int = 6) -> str:
    """`cosine against linear at 20 and 50 steps, ddim against ddpm with linear at 20 steps`."""
    alike = [one for one in made if one.question not in ("steps", "configuration")]
    names = each_at(alike, _pair) + [_pair(one) for one in made if one not in alike]
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return ", ".join(names)


def _pair(made: Comparison) -> str:
    one, other = made.first, made.second
    match made.question:
        case "schedule" | "mismatched":
            return f"{one.schedule} against {other.schedule}"
        case "spacing":
            return f"{one.spacing} against {other.spacing} with {one.schedule} and {one.kind}"
        case "steps":
            steps = f"{one.steps:,} against {count(other.steps, other.unit)}"
            return f"{steps} with {one.schedule} and {sampler_of(one)}"
        case "configuration":
            return f"{described(one)} against {described(other)}"
    return f"{sampler_of(one)} against {sampler_of(other)} with {one.schedule}"
