"""Axes with plain numbers: logarithmic, and logarithmic on both sides of zero."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.scale import SymmetricalLogScale
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from harness.report.words import number

Which = Literal["x", "y"]
Show = Callable[[float, Any], str]


def steps_axis(axes: Axes, steps: Iterable[int], most: int = 9) -> None:
    """A logarithmic axis with ticks at the numbers of steps that were tried, `most` of them or
    fewer, so that their labels do not touch."""
    values = sorted(set(steps))
    apart = (values[-1] / values[0]) ** (1 / most)
    shown = values[:1]
    for value in values[1:]:
        if value >= shown[-1] * apart:
            shown.append(value)
    axes.set_xscale("log")
    _ticks(axes, "x", [float(value) for value in shown], lambda value, _: f"{value:,.0f}")
    if len(values) == 1:
        axes.set_xlim(values[0] / 2, values[0] * 2)


def log_axis(axes: Axes, which: Which, values: Iterable[float], show: Show | None = None) -> None:
    """A logarithmic axis with ticks at 1, 2 and 5."""
    positive = [value for value in values if np.isfinite(value) and value > 0]
    if positive:
        axes.set(**{f"{which}scale": "log"})
        _ticks(axes, which, _round_values(min(positive), max(positive)), show)


def symmetric_axis(axes: Axes, which: Which, values: Iterable[float], small: float) -> None:
    """Linear up to about a small value of interest, logarithmic beyond it on both sides."""
    values = list(values)
    # A power of ten between half and five times the value: it has a tick of its own.
    threshold = float(10 ** np.floor(np.log10(2 * small))) if small > 0 else 1.0
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": SymmetricalLogScale(axis, linthresh=threshold, linscale=0.35)})
    sizes = [v for v in _round_values(threshold, max(map(abs, values))) if v >= 0.99 * threshold]
    below = [size for size in sizes if size <= -1.6 * min(values)]
    above = [size for size in sizes if size <= 1.6 * max(values)]
    if which == "y" and sum(size <= max(values) for size in above) < 2:
        above = [threshold / 2, *above]
    if which == "x":  # there the labels stand side by side
        is_narrow = max(map(abs, values)) > 20 * threshold  # too near to zero to be read
        below, above = _sparse(below, is_narrow), _sparse(above, is_narrow)
    _ticks(axes, which, [*(-size for size in below), 0.0, *above])


def _ticks(axes: Axes, which: Which, places: list[float], show: Show | None = None) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(sorted(places)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(show or _plain))


def _round_values(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each decade from about `low` to about `high`; only the 1 of many decades."""
    decades = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 1)
    values = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    chosen = [value for value in values if low / 2.5 <= value <= high * 2.5]
    return chosen if len(chosen) <= 9 else [value for value in chosen if _is_power(value)]


def _sparse(sizes: list[float], is_narrow: bool) -> list[float]:
    """The powers of ten; only the largest where there is no room for more."""
    powers = [size for size in sizes if _is_power(size)]
    return powers[-1:] if is_narrow else powers


def _is_power(value: float) -> bool:
    return f"{value:.0e}".startswith("1e")


def _plain(value: float, _: Any) -> str:
    return number(round(value, 12), 1) if value else "0"
