"""What the pages print, computed: the templates only arrange it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import getdoc
from typing import Any

import pandas as pd
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from PIL import Image

from harness.report import method, plots, style
from harness.report.cell_tables import every_cell, trainings
from harness.report.family import family
from harness.report.findings import answers, found
from harness.report.limits import limits
from harness.report.phrases import pairs, signed
from harness.report.places import SHORTENED
from harness.report.quality_tables import quality
from harness.report.table import (
    Results,
    column_of,
    comparable,
    labels,
    learned,
    numbers,
    text_of,
    tidy,
)
from harness.report.tables import Table, heading
from harness.report.words import listed

YES_OR_NO = {"True": "yes", "False": "no"}
MOST_ANSWERS = 3  # sentences that open the page
LEAD = "quality_by_steps"  # the figure that shows the answer
TITLE = "Which schedule, which sampler, how many steps?"


@dataclass(frozen=True)
class Picture:
    """A figure as a page shows it."""

    name: str
    caption: str
    reading: str  # how to read it
    png: bytes
    source: str  # a data: URI, so that the page needs no other file
    is_drawing: bool  # lines and letters, which a dark page may show light on dark


@dataclass(frozen=True)
class Group:
    """One comparable group in numbers."""

    heading: str
    quality: list[Table]
    every: Table


def contents(results: Results) -> dict[str, Any]:
    """Everything a template may ask for, by the name it asks by."""
    groups = comparable(results)
    main = groups[0] if groups else results
    measures = main.present()
    frame = tidy(main, measures[0]) if measures else pd.DataFrame()
    pictures = _pictures(main)
    return {
        "title": TITLE,
        "name": results.name,
        "answer": _answer(frame),
        "findings": found(frame) if len(frame) else [],
        "lead": next((p for p in pictures if p.name == LEAD), None),
        "pictures": pictures,
        "groups": [
            Group(heading(group), quality(group), every_cell(group))
            for group in groups
            if group.present()
        ],
        "compared": _compared(main),
        "formulae": _formulae(main),
        "metrics": [method.METRICS[m.column] for m in measures if m.column in method.METRICS],
        "trainings": trainings(results),
        "limits": limits(results, groups),
        "covers_reference": any(
            column.endswith("_reference_se") for column in results.cells.columns
        ),
        "failures": [
            {column: text_of(value) for column, value in row.items()}
            for row in results.failures.to_dict("records")
        ],
        "grid_text": results.grid_text.rstrip(),
        "grid_file": f"{results.name}.yaml",
        "grid_is_cut": SHORTENED in results.grid_text,
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


def _answer(frame: pd.DataFrame) -> list[str]:
    """The sentences that open the page."""
    told = answers(frame) if len(frame) else []
    return [finding.sentence for finding in told[:MOST_ANSWERS]]


def _pictures(results: Results) -> list[Picture]:
    names = [*plots.BUILT_IN, *(name for name in plots.PLOTS if name not in plots.BUILT_IN)]
    figures = ((name, plots.drawn(name, results)) for name in names)
    return [_picture(name, figure) for name, figure in figures if figure is not None]


def _picture(name: str, figure: Figure) -> Picture:
    caption, _, reading = (getdoc(plots.PLOTS[name]) or name).partition("\n")
    is_raster = style.is_raster(figure)
    png = style.saved(figure, "png")
    png = _smaller(png) if is_raster else png
    data = png if is_raster else style.saved(figure, "svg")
    return Picture(
        name=name,
        caption=caption,
        reading=" ".join(reading.split()),
        png=png,
        source=f"data:image/{'png' if is_raster else 'svg+xml'};base64,"
        + base64.b64encode(data).decode(),
        is_drawing=not is_raster and not _has_shades(figure),
    )


def _has_shades(figure: Figure) -> bool:
    """Whether it is dark where a value is high: turned light on dark it would say the opposite."""
    return any(isinstance(part, QuadMesh) for axes in figure.axes for part in axes.collections)


def _smaller(png: bytes) -> bytes:
    """The same pixels in fewer bytes: a figure is opaque, and needs no alpha."""
    image = Image.open(io.BytesIO(png))
    opaque = image.convert("RGB")
    if opaque.convert(image.mode).tobytes() != image.tobytes():
        return png
    file = io.BytesIO()
    opaque.save(file, "png", optimize=True, dpi=image.info.get("dpi"))
    return min(png, file.getvalue(), key=len)


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
    known: list[tuple[str, pd.DataFrame, str, Mapping[str, str]]] = [
        ("schedule", results.cells, "schedule", method.SCHEDULES),
        ("sampler", results.cells, "sampler", method.SAMPLERS),
        ("spacing", results.cells, "spacing", method.SPACINGS),
        ("model", results.cells, "model", method.MODELS),
        ("target", results.cells, "target", method.TARGETS),
        ("weighting", results.trainings, "weighting", method.WEIGHTINGS),
        ("loss", results.trainings, "loss_function", method.LOSSES),
    ]
    return [
        (kind, name, formulae[name])
        for kind, frame, column, formulae in known
        for name in sorted({part.partition("(")[0] for part in column_of(frame, column)})
        if name in formulae
    ]
