"""Drawings within a line of a table: small enough to be part of the page's own text."""

from __future__ import annotations

from html import escape
from math import isfinite, log1p

from harness.analysis.statistics import Interval
from harness.report.wording import spanned

WIDE, HIGH, EDGE = 230, 30, 8  # pixels
LEAST = -0.99999  # a share further below would have no logarithm


def strip(
    change: Interval, low: float, high: float, is_sure: bool = True, colour: str = "currentColor"
) -> str:
    """A relative difference with its 95 % interval, on an axis from `low` to `high`, with a line at
    none; all are shares, -0.56 is 56 % lower. The mark is filled where there is a verdict. SVG to
    stand inside a page.

    Ratios are drawn to scale: half and twice as much are equally far from the line. A share beyond
    the axis stops at its end.
    """
    left, right = (log1p(max(LEAST, end)) for end in (min(low, 0.0), max(high, 0.0)))

    def place(share: float) -> str:
        part = (log1p(max(LEAST, share)) - left) / (right - left or 1.0)
        return f"{EDGE + (WIDE - 2 * EDGE) * min(1.0, max(0.0, part)):.1f}"

    paint = escape(colour)
    mark = f'fill="{paint}"' if is_sure else f'fill="Canvas" stroke="{paint}" stroke-width="2"'
    middle, zero = HIGH // 2, place(0.0)
    drawn = [f'<path d="M{zero} 3V{HIGH - 3}" stroke="currentColor" opacity="0.5"/>']
    says = "no difference was measured"
    if isfinite(change.estimate):
        says = f"{spanned(change, 100)} %"
        if isfinite(change.low) and isfinite(change.high):
            drawn.append(
                f'<path d="M{place(change.low)} {middle}H{place(change.high)}" stroke-width="3" '
                f'stroke="{escape(colour)}" opacity="0.55"/>'
            )
        drawn.append(f'<circle cx="{place(change.estimate)}" cy="{middle}" r="5" {mark}/>')
    return (
        f'<svg class="strip" role="img" width="{WIDE}" height="{HIGH}" viewBox="0 0 {WIDE} {HIGH}">'
        f"<title>{escape(says)}</title>{''.join(drawn)}</svg>"
    )
