"""The tables of single cells and of trainings: one row for each that was recorded."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.plan.work import EXACT
from harness.report.table import (
    OF_THE_SAMPLING,
    OF_THE_TRAINING,
    Measure,
    Results,
    column_of,
    labels,
    learned,
    numbers,
)
from harness.report.tables import (
    Column,
    Run,
    Table,
    Value,
    counts,
    finite,
    heading,
    name_of,
    plain,
    words,
)
from harness.report.words import decimals_for, duration, number


def every_cell(results: Results) -> Table:
    """One row for each cell, with all in which the cells differ."""
    cells = results.cells
    measures = results.present()
    is_exact = column_of(cells, "model") == EXACT
    seconds = 1e3 * numbers(cells, "seconds_per_image")
    sampled = labels(cells, "sample_schedule")
    is_away = bool(((sampled != "") & (sampled != labels(cells, "schedule"))).any())
    columns = [
        words("schedule", labels(cells, "schedule")),
        *([words("sampled under", sampled)] if is_away else []),
        words("sampler", labels(cells, "sampler")),
        *_what_varies(results),
        counts("steps", numbers(cells, "steps")),
        counts("seed", numbers(cells, "seed").mask(is_exact)),
        *(_measured(results, measure, n == 0) for n, measure in enumerate(measures)),
        Column("ms per image", [plain(value) for value in seconds]),
    ]
    ids = column_of(cells, "run_id")
    return Table(heading(results), columns, [[Run(run_id)] for run_id in ids])


def trainings(results: Results) -> Table | None:
    """One row for each model that was trained."""
    frame = results.trainings
    if frame.empty:
        return None
    seconds = numbers(frame, "seconds")
    columns = [
        words("schedule", labels(frame, "schedule")),
        counts("seed", numbers(frame, "seed")),
        counts("parameters", numbers(frame, "parameters")),
        Column("final loss", [plain(value) for value in numbers(frame, "loss")]),
        Column("time", [Value(duration(value), number=finite(value)) for value in seconds]),
        Column("images/s", [plain(value) for value in numbers(frame, "images_per_second")]),
        *_compiling(results),
        words("machine", column_of(frame, "machine")),
    ]
    runs = [[Run(run_id)] for run_id in column_of(frame, "run_id")]
    return Table("Trainings", columns, runs)


def _compiling(results: Results) -> list[Column]:
    """How long each training's network took to compile, for its own steps and for its cells:
    seconds that are in none of the others. No column where nothing was compiled."""
    frame, cells = results.trainings, results.cells
    total = numbers(frame, "compile_seconds").fillna(0.0)
    if "training_key" in cells and "key" in frame:
        of_cells = numbers(cells, "compile_seconds").groupby(cells["training_key"]).max()
        total = total + frame["key"].map(of_cells).fillna(0.0).astype(float)
    if not total.any():
        return []
    return [Column("compiling", [Value(duration(value), number=value) for value in total])]


def _what_varies(results: Results) -> list[Column]:
    """A column for each setting in which the cells or their trainings differ. An exact denoiser
    has no training, which is no difference."""
    trained = learned(results.cells).index
    columns = []
    for name in (*OF_THE_SAMPLING, *OF_THE_TRAINING, "sampling_seed"):
        values = _setting(results, name)
        if (values if name == "model" else values[trained]).nunique() > 1:
            columns.append(words(name.replace("_", " "), values))
    return columns


def _setting(results: Results, name: str) -> pd.Series[str]:
    """A setting of each cell, which its training may know where the cell does not."""
    cells, trainings = results.cells, results.trainings
    if name in cells or not {"key", name} <= {*trainings.columns} or "training_key" not in cells:
        return labels(cells, name)
    known = labels(trainings, name).set_axis(trainings["key"])
    return cells["training_key"].map(known[~known.index.duplicated()]).astype(object).fillna("")


def _measured(results: Results, measure: Measure, with_error: bool) -> Column:
    cells = results.cells
    values = numbers(cells, measure.column)
    sampling = numbers(cells, f"{measure.column}_se")
    reference = numbers(cells, f"{measure.column}_reference_se").fillna(0.0)
    errors = np.hypot(sampling, reference) if with_error else sampling * np.nan
    shown = [_with_error(value, error) for value, error in zip(values, errors, strict=True)]
    return Column(name_of(measure, results), shown)


def _with_error(value: float, error: float) -> Value:
    """`0.1623 ± 0.0041`, both to the decimals that the error leaves meaningful."""
    if not np.isfinite([value, error]).all():
        return plain(value)
    decimals = max(decimals_for(error, 2), decimals_for(value, 2))
    error_text = f"± {number(error, decimals=decimals)}"
    return Value(number(value, decimals=decimals), error_text, finite(value))
