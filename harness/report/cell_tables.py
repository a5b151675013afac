"""The tables of single cells and of trainings: one row for each that was recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.analysis.configurations import MetricInfo, total_error
from harness.analysis.study import Study
from harness.report.tables import (
    NOTHING,
    Column,
    Source,
    Table,
    Value,
    heading,
    numbers,
    sources,
    title_of,
    whole,
    words,
    yes_or_no,
)
from harness.report.wording import decimals_for, duration, number
from harness.work.cells import Param
from harness.work.results import CellResult, Experiment, Measurement, Run

# The settings that have a column where the cells differ in them.
OF_THE_TRAINING = ("target", "weighting", "loss_function", "training_steps", "batch_size",
                   "learning_rate", "ema")  # fmt: skip
SETTINGS = ("spacing", "clip", "model", *OF_THE_TRAINING, "sampling_seed")


def every_cell(study: Study) -> Table:
    """One row for each cell with final weights, with all in which the cells differ."""
    final = [one for one in study.results if one.cell.weights == "final"]
    study = replace(study, results=tuple(final))
    results = study.results
    cells = [one.cell for one in results]
    sampled = [cell.sample_schedule for cell in cells]
    seeds = [None if cell.training.is_exact else cell.training.seed for cell in cells]
    columns = [
        words("schedule", [cell.training.schedule for cell in cells]),
        *([] if all(cell.is_matched for cell in cells) else [words("sampled under", sampled)]),
        words("sampler", [cell.sampler for cell in cells]),
        *_settings(study),
        numbers("steps", [cell.steps for cell in cells], whole),
        numbers("seed", seeds, whole),
        *(_measured(study, metric, n == 0) for n, metric in enumerate(study.metrics)),
        numbers("ms per image", [1e3 * one.cost.seconds for one in results]),
    ]
    runs = sources(study)
    return Table(heading(study), columns, [[runs[cell.key]] for cell in cells])


def trainings(experiment: Experiment) -> Table | None:
    """One row for each model that was trained."""
    found = sorted(experiment.trainings, key=lambda one: (one.training.title, one.training.key))
    if not found:
        return None
    compiling = [one.compile_seconds + _compiling(experiment, one.training.key) for one in found]
    columns = [
        words("schedule", [one.training.schedule for one in found]),
        numbers("seed", [one.training.seed for one in found], whole),
        numbers("parameters", [one.parameters for one in found], whole),
        numbers("final loss", [one.loss for one in found]),
        numbers("time", [one.seconds for one in found], duration),
        numbers("images/s", [one.images_per_second for one in found]),
        *([numbers("compiling", compiling, duration)] if any(compiling) else []),
        words("machine", [one.provenance.machine for one in found]),
    ]
    ids = [experiment.runs.get(one.training.key, Run()).id for one in found]
    return Table("Trainings", columns, [[Source(run_id)] for run_id in ids])


def _compiling(experiment: Experiment, training_key: str) -> float:
    """How long compiling a network took for its cells: seconds that are in none of the others."""
    of_cells = [
        one.cost.compile_seconds
        for one in experiment.cells
        if one.cell.training.key == training_key
    ]
    return max(of_cells, default=0.0)


def _settings(study: Study) -> list[Column]:
    """A column for each setting in which the cells or their trainings differ. An exact denoiser
    has no training, which is no difference."""
    compared = {one.cell.key for one in study.cells}
    columns = []
    for name in SETTINGS:
        values = [_setting(one, name) for one in study.results]
        of_networks = [
            value
            for value, one in zip(values, study.results, strict=True)
            if one.cell.key in compared
        ]
        if len({*(of_networks if name in OF_THE_TRAINING else values)}) > 1:
            columns.append(words(name.replace("_", " "), values))
    return columns


def _setting(result: CellResult, name: str) -> Param:
    value = result.cell.fields()[name]
    return yes_or_no(value) if isinstance(value, bool) else value


def _measured(study: Study, metric: MetricInfo, with_error: bool) -> Column:
    measured = [one.measurements.get(metric.key) for one in study.results]
    return Column(title_of(metric, study), [_shown(each, with_error) for each in measured])


def _shown(measured: Measurement | None, with_error: bool) -> Value:
    """`0.1623 ± 0.0041`, both to the decimals that the error leaves meaningful."""
    if measured is None:
        return Value(NOTHING)
    value, error = measured.value, total_error(measured)
    if not (with_error and np.isfinite([value, error]).all()):
        return Value(number(value), number=value)
    decimals = max(decimals_for(error, 2), decimals_for(value, 2))
    error_text = f"± {number(error, decimals=decimals)}"
    return Value(number(value, decimals=decimals), error_text, value)
