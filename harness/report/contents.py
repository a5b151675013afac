"""What the pages print, computed: the templates only arrange it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from inspect import getdoc
from statistics import median
from typing import Any

import pandas as pd

from harness.plan.work import EXACT
from harness.report import method, plots, style
from harness.report.findings import answers, found
from harness.report.phrases import pairs, signed
from harness.report.points import Point, best, family, points
from harness.report.table import (
    QUANTITY,
    Measure,
    Results,
    column_of,
    comparable,
    labels,
    learned,
    numbers,
    quantity_of,
    text_of,
    tidy,
)
from harness.report.words import count, duration, estimate, listed, number

YES_OR_NO = {"True": "yes", "False": "no"}
FEWEST_IMAGES_A_FEATURE = 5  # below it the jackknife leaves a part of FID's bias, by simulation
NOT_COVERED = (
    "Not covered: another data set, network, size or length of training; the luck in the choice of "
    "the reference images; what the features do not see. The best of many cells is picked by the "
    "numbers it is judged by, so it is a little flattered."
)
TITLE = "Which schedule, which sampler, how many steps?"


@dataclass(frozen=True)
class Picture:
    """A figure as a page shows it."""

    name: str
    caption: str
    reading: str  # how to read it
    png: bytes
    source: str  # a data: URI, so that the page needs no other file


@dataclass(frozen=True)
class Row:
    """One line of a table of quality; `is_best` for the best value of its table."""

    cells: list[str]
    is_best: bool = False


@dataclass(frozen=True)
class Table:
    """One comparable group in numbers."""

    heading: str
    header: list[str]
    rows: list[Row]
    floor: list[str]


def contents(results: Results) -> dict[str, Any]:
    """Everything a template may ask for, by the name it asks by."""
    groups = comparable(results)
    main = groups[0] if groups else results
    measures = main.present()
    frame = tidy(main, measures[0]) if measures else pd.DataFrame()
    told = found(frame) if len(frame) else []
    pictures = _pictures(main)
    return {
        "title": TITLE,
        "name": results.name,
        "answer": [finding.sentence for finding in answers(frame)] if len(frame) else [],
        "findings": told,
        "lead": next((p for p in pictures if p.name == "quality_by_steps"), None),
        "pictures": pictures,
        "tables": [_quality(group) for group in groups if group.present()],
        "quality": frame["quantity"].iloc[0] if len(frame) else "",
        "compared": _compared(main),
        "formulae": _formulae(main),
        "metrics": [method.METRICS[m.column] for m in measures if m.column in method.METRICS],
        "trainings": _trainings(results),
        "limits": _limits(results, groups),
        "covers_reference": any(
            column.endswith("_reference_se") for column in results.cells.columns
        ),
        "failures": [
            {column: text_of(value) for column, value in row.items()}
            for row in results.failures.to_dict("records")
        ],
        "grid_text": results.grid_text.rstrip(),
        "grid_file": f"{results.name}.yaml",
        "versions": sorted(results.versions.items()),
        "commit": results.commit,
    }


def verdicts(results: Results) -> list[str]:
    """Every comparison of the report in a line, as the tracker keeps them."""
    groups = comparable(results)
    measures = groups[0].present() if groups else []
    if not measures:
        return []
    return [
        f"{pairs([contrast])}: {contrast.comparison.verdict}, {signed(contrast.comparison)} in "
        f"{measures[0].title}" + (f" ({reason})" if (reason := contrast.comparison.reason) else "")
        for contrast in family(tidy(groups[0], measures[0]))
    ]


def _pictures(results: Results) -> list[Picture]:
    pictures = []
    for name in [*plots.BUILT_IN, *(name for name in plots.PLOTS if name not in plots.BUILT_IN)]:
        figure = plots.drawn(name, results)
        if figure is None:
            continue
        caption, _, reading = (getdoc(plots.PLOTS[name]) or name).partition("\n")
        png = style.saved(figure, "png")
        kind, data = (
            ("png", png) if style.is_raster(figure) else ("svg+xml", style.saved(figure, "svg"))
        )
        source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        pictures.append(Picture(name, caption, " ".join(reading.split()), png, source))
    return pictures


def _quality(group: Results) -> Table:
    """Quality by schedule, sampler and steps: means over training seeds with their intervals."""
    measures = group.present()
    frames = [tidy(group, measure) for measure in measures]
    columns = [{(p.schedule, p.sampler, p.steps): p for p in points(frame)} for frame in frames]
    ways = sorted({way for column in columns for way in column})
    leader = best(columns[0].values()).keys
    seconds = _seconds(frames[0])
    centred = [bool((frame["centre"] != frame["value"]).any()) for frame in frames]
    exact = _exact(frames[0])
    unit = "evaluations allowed" if group.budgets else "steps"
    rows = []
    for way in ways:
        values = [
            text
            for column, is_centred in zip(columns, centred, strict=True)
            for text in _values(column.get(way), is_centred)
        ]
        point = next(column[way] for column in columns if way in column)
        schedule, sampler, steps = way
        rows.append(
            Row(
                [schedule, sampler, f"{steps:,}", _whole(point.nfe), *values,
                 *([exact.get(way, "–")] if exact else []), seconds.get(way, "–"),
                 "–" if point.is_exact else str(point.seeds)],
                is_best=point.keys == leader,
            )
        )  # fmt: skip
    floor = [
        text
        for frame, measure, is_centred in zip(frames, measures, centred, strict=True)
        for text in _floors(frame, numbers(group.cells, f"{measure.column}_floor"), is_centred)
    ]
    at = numbers(group.cells, "floor_images").dropna()
    real = f"real held-out images (n = {int(at.iloc[0]):,})" if len(at) else "real held-out images"
    named = [
        text
        for measure, is_centred in zip(measures, centred, strict=True)
        for text in (
            [_named(measure, group), f"{measure.title} less its bias"]
            if is_centred
            else [_named(measure, group)]
        )
    ]
    return Table(
        heading=_heading(group),
        header=[
            "schedule", "sampler", unit, "NFE", *named,
            *([f"{measures[0].title} of the exact denoiser"] if exact else []),
            "ms per image", "seeds",
        ],
        rows=rows,
        floor=[real, *floor, *([""] if exact else []), "", ""],
    )  # fmt: skip


def _values(point: Point | None, is_centred: bool) -> list[str]:
    """A point in the columns of one measure: with its interval, and where that is centred on the
    value less its bias, the value as measured before it."""
    if point is None:
        return ["–", "–"] if is_centred else ["–"]
    span = point.interval()
    text = estimate(span.estimate, span.low, span.high)
    return [number(point.as_measured), text] if is_centred else [text]


def _floors(frame: pd.DataFrame, measured: pd.Series[float], is_centred: bool) -> list[str]:
    """What real images reach, in the columns of one measure."""
    columns = [measured, frame["floor"]] if is_centred else [frame["floor"]]
    known = [column.dropna() for column in columns]
    return [number(float(values.mean()), 2) if len(values) else "–" for values in known]


def _exact(frame: pd.DataFrame) -> dict[tuple[str, str, int], str]:
    """What the exact denoiser reaches in each way, where it was sampled beside the networks."""
    known = frame[frame["exact_value"].notna()]
    means = known.groupby(["schedule", "sampler", "steps"])["exact_value"].mean()
    return {way: number(value) for way, value in means.items()}  # type: ignore[misc]


def _heading(group: Results) -> str:
    """`digits data, digits features, train reference, 2,000 images, bfloat16`."""
    shared = quantity_of(group)
    words = {"data": "{} data", "extractor": "{} features", "reference": "{} reference"}
    parts = [words.get(key, "{}").format(value) for key, value in shared.items() if value]
    return ", ".join(parts)


def _whole(value: float) -> str:
    """Evaluations are counted; only a mean over unequal cells has decimals."""
    return f"{value:,.0f}" if float(value).is_integer() else number(value)


def _named(measure: Measure, group: Results) -> str:
    images = numbers(group.cells, "images").fillna(0)
    return f"{measure.title} at n = {int(images.iloc[0]):,}" if measure.biased else measure.title


def _seconds(frame: pd.DataFrame) -> dict[tuple[str, str, int], str]:
    """Milliseconds per image of each way, on the machine that timed most cells."""
    timed = frame[frame["seconds"].notna()]
    if timed.empty:
        return {}
    machine = timed["machine"].value_counts().sort_index().idxmax()
    timed = timed[timed["machine"] == machine]
    ways: dict[tuple[str, str, int], list[float]] = {}
    rows: Iterable[Any] = timed.itertuples()
    for row in rows:
        ways.setdefault((row.schedule, row.sampler, row.steps), []).append(row.seconds)
    return {way: number(1e3 * median(seconds)) for way, seconds in ways.items()}


def _compared(results: Results) -> dict[str, str]:
    """What was compared, one line for each thing that was chosen."""
    cells = learned(results.cells)
    if cells.empty:
        return {}
    allowed = [budget for key, budget in results.budgets.items() if key in {*cells["key"]}]
    models = {*_distinct(results.trainings, "model"), *_distinct(results.cells, "model")}
    seeds = sorted(set(numbers(cells, "seed").dropna().astype(int)))
    lines = {
        "data": listed(_distinct(cells, "data")),
        "model": listed(sorted(models)),
        "schedules": listed(_distinct(cells, "schedule")),
        "samplers": listed(_distinct(cells, "sampler")),
        "spacing": listed(_distinct(cells, "spacing")),
        "steps": _counted(cells, "steps"),
        "evaluations allowed": listed(f"{budget:,}" for budget in sorted({*allowed})),
        "training seeds": listed(seeds),
        "training steps": _counted(cells, "training_steps"),
        "target": listed(_distinct(cells, "target")),
        "loss": listed(_distinct(results.trainings, "loss_function")),
        "images per cell": _counted(cells, "images"),
        "features": listed(_distinct(cells, "extractor")),
        "reference": listed(_distinct(cells, "reference")),
        "precision": listed(_distinct(cells, "precision")),
        "estimate clipped": listed(YES_OR_NO.get(clip, clip) for clip in _distinct(cells, "clip")),
        "machine": listed(_distinct(cells, "machine")),
    }
    return {name: value for name, value in lines.items() if value}


def _counted(cells: pd.DataFrame, column: str) -> str:
    return listed(f"{value:,.0f}" for value in sorted(set(numbers(cells, column).dropna())))


def _distinct(frame: pd.DataFrame, role: str) -> list[str]:
    """The different parts in a role, with their options."""
    return sorted(set(labels(frame, role)) - {""})


def _formulae(results: Results) -> list[tuple[str, str, str]]:
    """(kind, name, formula) of the parts that were used and have a formula."""
    known: list[tuple[str, str, Mapping[str, str]]] = [
        ("schedule", "schedule", method.SCHEDULES),
        ("sampler", "sampler", method.SAMPLERS),
        ("spacing", "spacing", method.SPACINGS),
        ("model", "model", method.MODELS),
    ]
    return [
        (kind, name, formulae[name])
        for kind, column, formulae in known
        for name in sorted(set(column_of(results.cells, column)))
        if name in formulae
    ]


def _trainings(results: Results) -> list[list[str]]:
    """One line for each training: schedule, seed, parameters, loss, seconds, machine."""
    frame = results.trainings
    if frame.empty:
        return []
    columns = [
        labels(frame, "schedule"),
        numbers(frame, "seed").map(_whole),
        numbers(frame, "parameters").map(_whole),
        numbers(frame, "loss").map(number),
        numbers(frame, "seconds").map(duration),
        numbers(frame, "images_per_second").map(number),
        column_of(frame, "machine"),
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def _limits(results: Results, groups: list[Results]) -> list[str]:
    """What these pages do not say, and what was left out of them."""
    cells, limits = results.cells, []
    missing = results.expected_cells - len(cells)
    if missing > 0:
        limits.append(
            f"{count(missing, 'cell')} of {results.expected_cells:,} "
            f"{'is' if missing == 1 else 'are'} missing; what is said holds for the rest."
        )
    if len(groups) > 1:
        names = "; ".join(
            f"{count(len(group.cells), 'cell')} with {', '.join(quantity_of(group).values())}"
            for group in groups
        )
        limits.append(
            f"The cells fall into {len(groups)} groups that differ in {listed(QUANTITY, 'or')} and "
            f"are not comparable ({names}). Answer, figures and findings are about the first; the "
            "others have their own tables."
        )
    machines = sorted(set(column_of(cells, "machine")) - {""})
    if len(machines) > 1:
        limits.append(
            f"Cells were measured on {len(machines)} machines ({listed(machines)}). Quality is "
            "compared across them, seconds are not: those shown are of the machine with most cells."
        )
    reused = int((column_of(cells, "reused") == "True").sum())
    if reused:
        were = "was" if reused == 1 else "were"
        limits.append(f"{count(reused, 'cell')} {were} measured by an earlier run and reused.")
    for column in sorted(cells.columns):
        if (name := column.removeprefix("undefined_")) != column:
            for reason in _distinct(cells, column)[:1]:
                limits.append(f"No {name} is given for some cells: {reason}")
    thin = numbers(cells, "images") < FEWEST_IMAGES_A_FEATURE * numbers(cells, "features")
    if thin.any() and "fid" in cells:
        width, images = (int(numbers(cells[thin], name).iloc[0]) for name in ("features", "images"))
        enough = FEWEST_IMAGES_A_FEATURE * width
        limits.append(
            f"FID of {images:,} images with {width:,} features is hardly known: its bias is larger "
            f"than what is taken off, and its error rough. About {enough:,} images would do; KID "
            "has no such bias."
        )
    clamped = int((numbers(cells, "clamped_times") > 0).sum())
    if clamped:
        limits.append(
            f"{count(clamped, 'cell')}, sampled under another schedule than trained under, asked "
            f"{'its' if clamped == 1 else 'their'} network about noise levels that it was not "
            "trained on; the nearest that it was took their place (`clamped_times` in the results "
            "counts them)."
        )
    networks = cells[column_of(cells, "model") != EXACT]
    seeds = numbers(networks, "seed").nunique()
    if len(networks) and seeds < 3:
        limits.append(
            "One training seed gives no verdict about schedules; two almost never can: "
            f"here {'is one' if seeds == 1 else 'are two'}."
        )
    return [*limits, NOT_COVERED]
