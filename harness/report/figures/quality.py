"""Quality by the number of steps and by the seconds that an image takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis.configurations import Configuration, best_of_each
from harness.analysis.costs import Costs, Placed, pareto_front, seconds_of
from harness.analysis.questions import MainEffect
from harness.analysis.reference import exact_value
from harness.analysis.study import Study
from harness.report.figures import effects, style
from harness.report.wording import listed, number, wrapped

REAL: style.Look = {"color": "#3a3d44", "linewidth": 1.2, "alpha": 0.6}  # real images
NEAR_ZERO = 0.1  # of the smallest value
BEHIND = "#c9ccd2"
HEIGHT, DIFFERENCE = 4.2, 2.1  # inches: of one panel with what is around it, of the one below
MOST_BANDS = 4  # of a panel: more hide each other
SHORT = 9  # letters of a label beside one of several panels
ALWAYS = ("ddim", "ddpm")  # samplers that have a panel however many there are


def quality_by_steps(study: Study) -> Figure | None:
    """Quality by number of steps.

    A line for each schedule (colour) and sampler (dash and marker), on logarithmic axes.
    [linear] The vertical one is linear near zero, where logarithms end.
    [seeds] Bars are each configuration's own 95 % interval over training seeds.
    [alone] Bars are the 95 % interval of the sampling error alone.
    [bands] Bands join them.
    [baseline] The grey line is the real-data baseline: what held-out real images score.
    [exact] Crosses are the exact denoiser's: the sampler's own error.
    [panels] Each {panels} has a panel.
    [grey] The lines of the others stand behind in grey.
    [left] Drawn are {left}; the table has all.
    [mismatched] Mismatched schedules have a figure of their own.
    [difference] Below, the difference that counts: {difference} in the same configuration.
    [paired] Its bars are 95 % intervals; a filled mark is a verdict, an open one is none.
    [overall] The dashed line is the effect over all configurations.
    [interval] The shaded band is its 95 % interval.
    [cut] A bar that reaches the edge goes on beyond it.
    """
    placed = [(float(one.steps), one) for one in study.configurations()]
    if not placed:
        return None
    effect = _difference(study)
    below = DIFFERENCE if effect else 0
    steps = [one.steps for _, one in placed]

    def scale(axes: Axes, is_alone: bool) -> None:
        style.steps_axis(axes, steps, 9 if is_alone else 4)

    figure, panels, lower = _quality_lines(study, placed, f"{study.unit}s", scale, below)
    if effect:
        figure.drawn |= _draw_difference(lower[0], study, effect)
        style.steps_axis(lower[0], steps)
        lower[0].set_xlabel(f"{study.unit}s")
        if len(panels) == 1:
            panels[0].set_xlabel("")
            lower[0].set_xlim(panels[0].get_xlim())
    return figure


def quality_by_seconds(study: Study) -> Figure | None:
    """Quality by seconds per image.

    The same configurations as by steps, against the measured time of the sampler for one image, on
    one machine only.
    [seeds] Bars are each configuration's own 95 % interval over training seeds.
    [alone] Bars are the 95 % interval of the sampling error alone.
    [bands] Bands join them.
    [numbers] Numbers are steps, at the Pareto-optimal configurations: none is better in the same
    time or less.
    [baseline] The grey line is the real-data baseline: what held-out real images score.
    [exact] Crosses are the exact denoiser's: the sampler's own error.
    [panels] Each {panels} has a panel.
    [grey] The lines of the others stand behind in grey.
    [left] Drawn are {left}; the table has all.
    """
    across, placed = costs_placed(study, seconds_of(study), "milliseconds per image")
    if not placed:
        return None

    def scale(axes: Axes, _: bool) -> None:
        style.log_axis(axes, "x", [cost for cost, _ in placed], milliseconds)

    figure, panels, _ = _quality_lines(study, placed, across, scale)
    if len(panels) == 1:
        front = pareto_front([item for item in placed if item[1].is_matched] or placed)
        number_steps(panels[0], front, sampler_looks(study), HEIGHT - 1.2)
        figure.drawn["numbers"] = True
    return figure


def milliseconds(seconds: float, _: object = None) -> str:
    return number(1e3 * seconds, 1)


def costs_placed(study: Study, costs: Costs, unit: str) -> tuple[str, list[Placed]]:
    """`joules per image on AMD EPYC, 2 cores`, and the configurations by that cost."""
    placed = [(costs.of[one.keys], one) for one in study.configurations() if one.keys in costs.of]
    return f"{unit} on {costs.machine}" if costs.machine else unit, placed


def sampler_looks(study: Study) -> style.Looks:
    """How the schedules and the samplers are drawn."""
    return style.looks(study, [one.sampler for one in study.configurations()])


def quality_name(study: Study) -> str:
    """`KID, lower is better`."""
    direction = "lower" if study.metric.lower_is_better else "higher"
    return f"{study.named(study.metric)}, {direction} is better"


def real_images(study: Study) -> dict[str, style.Look]:
    """The legend's entry for the real-data baseline, where it was measured."""
    return {"real images": REAL} if np.isfinite(study.baseline()) else {}


def table_of(placed: Iterable[Placed]) -> pd.DataFrame:
    """A row for each configuration."""
    rows = [(x, one.mean, one.schedule, one.sampler) for x, one in placed]
    return pd.DataFrame(rows, columns=["x", "y", "schedule", "sampler"])


def quality_axis(
    axes: Axes,
    study: Study,
    shown: Iterable[Configuration],
    others: Iterable[float] = (),
    room: float = 0.07,
) -> None:
    """The vertical axis, for these configurations and other values, with the baseline; `room` is
    what is left above and below them."""
    shown, baseline = list(shown), study.baseline()
    values = [*(one.mean for one in shown), *others]
    positive = [value for value in values if value > 0]
    if np.isfinite(baseline):
        axes.axhline(baseline, zorder=0.9, **REAL)
        values.append(baseline)
    # Decades between a baseline near zero and all else would hold nothing but paper.
    if min(values) > NEAR_ZERO * min(positive, default=np.inf):
        style.log_axis(axes, "y", values)
    else:
        # What is smaller than every error differs from zero by nothing that was measured.
        reaches = [one.interval.high - one.interval.estimate for one in shown]
        error = min((reach for reach in reaches if reach > 0), default=0.0)
        style.symmetric_axis(axes, values, max(min(positive, default=0.0), error))
        values.append(0.0)
    # All panels show the same range, so that they can be read against each other.
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(np.array([min(values), max(values)]))
    more = room * (high - low) or 0.1
    axes.set_ylim(*scale.inverted().transform(np.array([low - more, high + more])))


def number_steps(axes: Axes, front: Sequence[Placed], look: style.Looks, inches: float) -> None:
    """The steps beside these points of a Pareto front, on the side where no point can be; `inches`
    is how high the panel is. Of labels that would touch, that of the better point stays."""
    axes.get_xlim(), axes.get_ylim()  # brings the limits up to date, which the next line reads
    place_of = axes.transScale + axes.transLimits
    taken: list[tuple[float, float, int]] = []
    for x, one in reversed(front):
        along, up = place_of.transform((x, one.mean)) * (5.2, inches)
        text, lower = f"{one.steps:,}", one.lower_is_better
        if any(
            abs(along - other) < style.LETTER[0] * max(len(text), letters) + 0.03
            and abs(up - level) < style.LETTER[1]
            for other, level, letters in taken
        ):
            continue
        taken.append((along, up, len(text)))
        axes.annotate(
            text, (x, one.mean), (-4, -5 if lower else 5), textcoords="offset points", ha="right",
            va="top" if lower else "bottom", fontsize=style.SMALL,
            color=style.readable(look.colours[one.schedule]),
        )  # fmt: skip


@dataclass(frozen=True)
class Split:
    """What has a panel of its own."""

    by: str  # sampler or schedule; empty where one panel has all
    names: list[str]
    placed: Sequence[Placed]  # what is drawn
    left: str  # what is drawn of what there is, where that is not all


def _split(placed: Sequence[Placed]) -> Split:
    shown = [one for _, one in placed]
    schedules, samplers = (
        {getattr(one, each) for one in shown} for each in ("schedule", "sampler")
    )
    if len({one.label for one in shown}) <= style.MOST_LINES:
        return Split("", [], placed, "")
    said = []
    if min(len(schedules), len(samplers)) > style.MOST_LINES:
        best_ones = best_of_each(shown, lambda one: one.schedule)[: style.MOST_LINES]
        kept = {one.schedule for one in best_ones}
        said.append(f"the best {len(kept)} of {len(schedules)} schedules")
        placed = [item for item in placed if item[1].schedule in kept]
        shown, schedules = [one for _, one in placed], kept
    is_by_sampler = len(samplers) > 1 and len(schedules) <= style.MOST_LINES
    by, everything = ("sampler", samplers) if is_by_sampler else ("schedule", schedules)
    leaders = [getattr(one, by) for one in best_of_each(shown, lambda one: str(getattr(one, by)))]
    # What all others are known by has its place, however it does here.
    first = [name for name in leaders if name.split(",")[0] in ALWAYS]
    names = list(dict.fromkeys([*first, *leaders]))[: style.MOST_PANELS]
    if len(names) < len(everything):
        said.append(f"the best {by}s, {len(names)} of {len(everything)}"
                    + (f", and always {listed(sorted(first))}" if first else ""))  # fmt: skip
    placed = [item for item in placed if getattr(item[1], by) in names]
    return Split(by, sorted(names), placed, " and ".join(said))


def _quality_lines(
    study: Study,
    placed: Sequence[Placed],
    across: str,
    scale: Callable[[Axes, bool], None],
    below: float = 0,
) -> tuple[style.Drawing, list[Axes], list[Axes]]:
    """Lines of quality over what the configurations are placed by: on one panel, or on one for each
    sampler or schedule."""
    drawn: dict[str, object] = {}
    matched = [item for item in placed if item[1].is_matched]
    if matched and len(matched) < len(placed):
        placed, drawn["mismatched"] = matched, True
    split = _split(placed)
    shown, table = [one for _, one in split.placed], _lines_of(study, split.placed)
    drawn |= {"panels": split.by} if split.by else {}
    drawn |= {"left": split.left} if split.left else {}
    if (table["low"] < table["high"]).any():
        drawn["seeds" if any(one.seeds > 1 for one in shown) else "alone"] = True
    abreast = table.groupby(split.by or (lambda _: 0))[["schedule", "sampler"]]
    has_bands = all(len(each.drop_duplicates()) <= MOST_BANDS for _, each in abreast)
    drawn |= {"bands": True} if has_bands and {"seeds", "alone"} & {*drawn} else {}
    is_single = split.by and len({one.label for one in shown}) == len(split.names)
    drawn |= {"grey": True} if is_single else {}
    figure, panels, lower = style.panels_of(split.names, across, HEIGHT, below)
    looks, real = sampler_looks(study), real_images(study)
    ends: list[list[style.Label]] = []
    for axes, name in zip(panels, split.names or [""], strict=True):
        here = table[table[split.by] == name] if name else table
        for _, line in table.groupby(["schedule", "sampler"]) if is_single else ():
            axes.plot(line["x"], line["y"], color=BEHIND, linewidth=0.8, zorder=1)
        ends.append([])
        for pair, line in here.groupby(["schedule", "sampler"]):
            look = looks.of(*map(str, pair))
            _draw_line(axes, line, look, has_bands)
            words = [each for each, by in zip(map(str, pair), ("schedule", "sampler"), strict=True)
                     if here[by].nunique() > 1]  # fmt: skip
            look = look if here["sampler"].nunique() > 1 else look | {"marker": ""}
            ends[-1].append(style.Label.of(", ".join(words), line, look))
        quality_axis(axes, study, shown, table["exact"].dropna())
        scale(axes, not split.by)
    has = {"linear": panels[0].get_yscale() == "symlog", "baseline": real,
           "exact": table["exact"].notna().any()}  # fmt: skip
    figure.drawn |= drawn | {name: True for name, there in has.items() if there}
    entries: dict[str, style.Look] = {}
    if "exact" in figure.drawn:
        entries["exact denoiser"] = {"marker": "x", "linestyle": "", "markeredgecolor": style.INK}
    inches = 1.7 if split.by else HEIGHT - 1
    if is_direct := all(style.fits([*(one.text for one in labels), *real], inches)
                        and (not split.by or max(len(one.text) for one in labels) <= SHORT)
                        for labels in ends):  # fmt: skip
        for axes, labels in zip(panels, ends, strict=True):
            if not split.by:  # panels of several have no room for longer words
                labels += [style.Label(name, table["x"].max(), study.baseline(), look)
                           for name, look in real.items()]  # fmt: skip
            style.label_ends(figure, axes, [one for one in labels if one.text], inches)
    schedules = () if is_direct or split.by == "schedule" else table["schedule"]
    has_markers = not is_direct and split.by != "sampler"
    samplers = table["sampler"] if has_markers or (split.by and below) else ()
    entries |= looks.entries(schedules, samplers) | (real if split.by or not is_direct else {})
    style.explain(figure, entries, quality_name(study), below)
    return figure, panels, lower


def _lines_of(study: Study, placed: Sequence[Placed]) -> pd.DataFrame:
    shown, table = [one for _, one in placed], table_of(placed)
    table["low"] = [one.interval.low for one in shown]
    table["high"] = [one.interval.high for one in shown]
    table["exact"] = [exact_value(study, one) for one in shown]
    return table.fillna({"low": table["y"], "high": table["y"]})


def _draw_line(axes: Axes, line: pd.DataFrame, look: style.Look, has_bands: bool) -> None:
    """One line with its intervals, as bars so that crossing bands can be read."""
    x, colour = line["x"], look["color"]
    axes.plot(x, line["y"], markersize=6, markeredgecolor="white", zorder=3, **look)
    if has_bands:
        axes.fill_between(x, line["low"], line["high"], color=colour, alpha=0.13, linewidth=0)
    axes.vlines(x, line["low"], line["high"], color=colour, linewidth=1, alpha=0.7)
    axes.plot(x, line["exact"], "x", markersize=6, color=colour, zorder=3)


def _draw_difference(axes: Axes, study: Study, main: MainEffect) -> dict[str, object]:
    """The effect in each configuration by its number of steps, and over all of them; what is drawn
    in words."""
    looks = sampler_looks(study)
    first, second = effects.named(main, study.unit)
    says = f"{study.metric.title} of {first} relative to {second}"
    drawn: dict[str, object] = {"difference": says}
    made = [one for one in main.comparisons if isfinite(one.effect.value)]
    steps = sorted({one.steps for one in made})
    # Side by side where several have the same number of steps, by less than goes to the next.
    abreast = max(sum(one.steps == count for one in made) for count in steps)
    gaps = np.diff(np.log(steps))
    apart = min(0.035 * (np.log(steps[-1] / steps[0]) or 1), 0.8 * gaps.min(initial=1) / abreast)
    for count in steps:
        here = sorted(
            (one for one in made if one.steps == count), key=lambda one: one.first.sampler
        )
        for place, one in enumerate(here):
            x = count * np.exp(apart * (place - (len(here) - 1) / 2))
            span, is_sure = one.effect.interval, one.verdict != "inconclusive"
            if isfinite(span.low):
                axes.vlines(x, span.low, span.high, color=style.INK, linewidth=1.2)
                drawn["paired"] = True
            axes.plot(
                x, span.estimate, marker=looks.markers[one.first.sampler], color=style.INK,
                markersize=6, markerfacecolor=style.INK if is_sure else "white", zorder=3,
            )  # fmt: skip
    spans = [one.effect.interval for one in made]
    if len(main.comparisons) > 1:
        spans.append(main.effect.interval)
        drawn |= _draw_overall(axes, main)
    if effects.ratio_axis(axes, "y", spans, DIFFERENCE - 0.7):
        drawn["cut"] = True
    axes.set_title(wrapped(says, 60), loc="left")
    return drawn


def _draw_overall(axes: Axes, main: MainEffect) -> dict[str, object]:
    span = main.effect.interval
    axes.axhline(span.estimate, color=style.FAINT, linewidth=1.2, linestyle=(0, (5, 2)), zorder=1.2)
    if has_interval := isfinite(span.low):
        axes.axhspan(span.low, span.high, color=style.INK, alpha=0.1, linewidth=0, zorder=1)
    text = effects.per_cent(main.effect.change).replace(" [", "\n[")
    axes.annotate(
        f"overall\n{text}", (1.025, span.estimate), xycoords=("axes fraction", "data"), va="center",
        fontsize=style.SMALL, annotation_clip=False,
    )  # fmt: skip
    return dict.fromkeys(["overall", *["interval"] * has_interval], True)


def _difference(study: Study) -> MainEffect | None:
    """The leading pair of levels of the question that is drawn at each number of steps."""
    question = effects.leading_question(study)
    main = effects.leading(question)[0] if question else None
    has_some = main and any(isfinite(one.effect.value) for one in main.comparisons)
    return main if has_some else None
