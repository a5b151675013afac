"""From the tracker to what a report is made from: one table of cells, one of trainings, and the
files that go with them. A report needs nothing else: no store, no grid file, no torch."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.metrics.distances import METRICS, Metric
from harness.plan.work import RECIPE, Cell
from harness.report.table import Measure, Results, labels, numbers
from harness.tracking import Tracker, column_of


def read_results(
    name: str,
    grid_text: str,
    grid_cells: list[Cell],
    tracker: Tracker,
    budgets: Mapping[str, int] | None = None,
    ui_url: str = "",
) -> Results:
    """What is recorded of these cells and their trainings; `budgets` are the evaluations that each
    cell was allowed, where the grid counts those, and `ui_url` is where runs can be looked at."""
    wanted = {work.key for cell in grid_cells for work in (cell, cell.training)}
    recorded = tracker.table()
    cells = recorded[recorded["key"].isin([*wanted])].reset_index(drop=True)
    trainings = tracker.trainings()
    if len(cells):
        trainings = trainings[trainings["key"].isin(cells["training_key"])].reset_index(drop=True)
    failures = tracker.failures()
    failures = failures[failures["key"].isin([*wanted])].reset_index(drop=True)
    run_of = dict(zip(trainings["key"], trainings["run_id"], strict=True))
    run_of_cell = dict(zip(cells["key"], cells["run_id"], strict=True))
    return Results(
        name=name,
        cells=cells,
        trainings=trainings,
        failures=failures,
        losses=tables(tracker, run_of, "loss.csv"),
        time_losses=tables(tracker, run_of, "loss_by_time.csv"),
        schedules=schedule_curves(tracker, trainings, cells),
        sheets=files(tracker, run_of_cell, "samples.png"),
        films=files(tracker, run_of_cell, "film.png"),
        nearest=files(tracker, run_of_cell, "nearest.png"),
        paths=tables(tracker, run_of_cell, "path.csv"),
        grid_text=grid_text,
        expected_cells=len(grid_cells),
        versions=tracker.versions(),
        commit=tracker.commit(),
        budgets=budgets or {},
        influences={
            key: arrays(kept) for key, kept in files(tracker, run_of_cell, "influence.npz").items()
        },
        measures=tuple(measure_of(name, METRICS[name]) for name in in_order(METRICS.names())),
        left_out=left_out(recorded[~recorded["key"].isin([*wanted])]),
        experiment=tracker.experiment(),
        ui_url=ui_url,
    )


def left_out(cells: pd.DataFrame) -> dict[str, int]:
    """Why recorded cells are not told of, and of how many that is true."""
    recipes = numbers(cells, "recipe")
    is_old = recipes.notna() & (recipes != RECIPE)
    reasons = {
        "they were made by another recipe of the program, whose results may differ": is_old,
        "the grid no longer asks for them": ~is_old,
    }
    return {reason: int(those.sum()) for reason, those in reasons.items() if those.any()}


def in_order(names: Iterable[str]) -> list[str]:
    """KID first: it is unbiased, so it decides where both are there; then FID."""
    distances = ["kid", "fid", "fid_infinity"]
    return sorted(names, key=lambda name: (distances.index(name) if name in distances else 9, name))


def measure_of(name: str, metric: Metric) -> Measure:
    """What the report must know of a metric."""
    return Measure(column_of(name), metric.name, metric.lower_is_better, biased=metric.biased)


def arrays(kept: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(kept), allow_pickle=False) as file:
        return {column_of(name): file[name] for name in file.files}


def files(tracker: Tracker, run_of: dict[str, str], file: str) -> dict[str, bytes]:
    """One file of each run that has it."""
    return {key: kept for key, run_id in run_of.items() if (kept := tracker.artifact(run_id, file))}


def tables(tracker: Tracker, run_of: dict[str, str], file: str) -> dict[str, pd.DataFrame]:
    """One CSV of each run that has it."""
    return {
        key: pd.read_csv(io.BytesIO(text)) for key, text in files(tracker, run_of, file).items()
    }


def schedule_curves(
    tracker: Tracker, trainings: pd.DataFrame, cells: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """The curves of each schedule once, by its label: of those trained under, and of those that
    were only sampled under, which cells keep."""
    run_of: dict[str, str] = {}
    for frame, role in ((cells, "sample_schedule"), (trainings, "schedule")):
        if len(frame):
            run_of |= dict(zip(labels(frame, role), frame["run_id"], strict=True))
    return tables(tracker, run_of, "schedule.csv")
