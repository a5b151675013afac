"""The figure of the comparisons: a row for each effect, with its interval and its verdict."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis.decisions import (
    CONSTANT,
    NO_PAIR,
    NOT_SIGNIFICANT,
    ONE_SEED,
    UNMEASURED,
    Effect,
    Verdict,
)
from harness.analysis.questions import questions
from harness.analysis.study import Study
from harness.report.figures import effects, style
from harness.report.wording import called, wrapped

MOST_ROWS = 24  # beyond this a figure is wallpaper; the table has the rest
LINE, GAP = 0.165, 0.07  # inches: of a line of type, and between rows
LONGEST_LINE = 30  # letters beside a row
BRIEFLY = {ONE_SEED: "one seed", NO_PAIR: "no shared seed", CONSTANT: "no variance",
           UNMEASURED: "no error known"}  # fmt: skip
DIFFERS = "differs by configuration"


@dataclass(frozen=True)
class Row:
    name: str
    effect: Effect
    verdict: Verdict
    says: str
    is_main: bool

    @property
    def lines(self) -> int:
        return max(self.name.count("\n"), self.says.count("\n")) + 1


def main_comparisons(study: Study) -> Figure | None:
    """The effect of each factor, with the verdict in words.

    A row for each effect: the first of the two relative to the second, in per cent, on a scale of
    ratios. Large diamonds are effects over all configurations that both levels have. A filled mark
    is a verdict; better and worse are said of the first.
    [intervals] Bars are 95 % intervals.
    [details] Below each, smaller, the configurations one by one.
    [ordered] Of ordered levels each is compared with the one before.
    [levels] Of more than two levels the leading one is compared with each other.
    [cut] A bar that reaches the edge goes on beyond it.
    [left] The table has {left} more.
    """
    asked = questions(study)
    rows, left = _rows(study)
    if not rows:
        return None
    high = sum(row.lines * LINE + GAP for row in rows)
    figure, axes = style.figure_of(0.75 + high)
    up = 0.0
    places = []
    for row in rows:
        places.append(up + (row.lines * LINE + GAP) / 2)
        up += row.lines * LINE + GAP
        _draw_row(axes, places[-1], row)
    axes.set_yticks(places, [row.name for row in rows], fontsize=style.SMALL)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set(fontweight="bold" if row.is_main else "normal", color=style.INK)
    axes.set_ylim(up, 0)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    spans = [row.effect.interval for row in rows]
    is_cut = effects.ratio_axis(axes, "x", spans, 2.0)
    axes.set_xlabel(f"difference in {study.named(study.metric)}")
    has = {
        "intervals": any(isfinite(span.low) for span in spans),
        "details": any(not row.is_main for row in rows),
        "ordered": any(one.factor.is_ordered for one in asked),
        "levels": any(not one.factor.is_ordered and len(one.levels) > 2 for one in asked),
        "cut": is_cut,
    }
    figure.drawn = {name: True for name, there in has.items() if there}
    figure.drawn |= {"left": left} if left else {}
    return figure


def _rows(study: Study) -> tuple[list[Row], int]:
    """All main effects that are led by the best level, and of the configurations under them as many
    as there is room for; and how many the table has beside them."""
    asked = [(question, effects.leading(question)) for question in questions(study)]
    mains = sum(len(led) for _, led in asked)
    room = MOST_ROWS - mains
    if not asked:
        return [], 0
    everywhere = set.intersection(*(set(effects.parts(one)) for one in study.configurations()))
    rows, total = [], 0
    for question, led in asked:
        details = [len(one.comparisons) if len(one.comparisons) > 1 else 0 for one in question.main]
        total += len(question.main) + sum(details)
        for main in led:
            pair = " against ".join(effects.named(main, study.unit))
            heading = called(question.name)
            pair = pair.removeprefix(f"{heading} ")
            name = f"{heading}\n{wrapped(pair, LONGEST_LINE)}"
            says = DIFFERS if main.is_opposed else _says(main.effect)
            says = f"{says}\n{effects.per_cent(main.effect.change)}".strip()
            rows.append(Row(name, main.effect, main.verdict, says, is_main=True))
            known = [one for one in main.comparisons if isfinite(one.effect.value)]
            if len(main.comparisons) < 2 or (len(known) > room < MOST_ROWS - mains):
                continue  # a part of them says little, but where it is all there is
            for one in sorted(known, key=lambda one: one.steps)[: max(0, room)]:
                name = wrapped(effects.shared(one, everywhere), LONGEST_LINE)
                rows.append(Row(name, one.effect, one.verdict, _says(one.effect), is_main=False))
                room -= 1
    return rows, total - len(rows)


def _says(effect: Effect) -> str:
    if effect.verdict != "inconclusive":
        return effect.verdict
    if effect.why.startswith(NOT_SIGNIFICANT):  # after correction or not: there is no room to say
        return NOT_SIGNIFICANT
    return BRIEFLY.get(effect.why, effect.why)


def _draw_row(axes: Axes, place: float, row: Row) -> None:
    span, is_sure = row.effect.interval, row.verdict != "inconclusive"
    if isfinite(span.low):
        axes.hlines(place, span.low, span.high, color=style.INK, linewidth=2 if row.is_main else 1)
    axes.plot(
        span.estimate, place, marker="D" if row.is_main else "o", color=style.INK,
        markersize=8 if row.is_main else 5, markerfacecolor=style.INK if is_sure else "white",
    )  # fmt: skip
    axes.annotate(
        row.says, (1.02, place), xycoords=("axes fraction", "data"), va="center",
        fontsize=style.SMALL, fontweight="bold" if row.is_main and is_sure else "normal",
        color=style.INK if is_sure else style.EDGE, annotation_clip=False,
    )  # fmt: skip
