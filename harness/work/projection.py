"""A result as plain numbers and texts: what MLflow shows people, and one row of a table.

Nothing here is ever read back: the result itself is kept as `result.json`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from harness.work.cells import RESULT_VERSION, Param
from harness.work.results import CellResult, Measurement, Result, Run, TrainingResult


def metrics_of(result: Result) -> dict[str, float]:
    """The numbers of a result by the names that MLflow shows; NaN for what is undefined."""
    if isinstance(result, TrainingResult):
        return {
            "loss": result.loss,
            "seconds": result.seconds,
            "images_per_second": result.images_per_second,
            "parameters": result.parameters,
            "compile_seconds": result.compile_seconds,
        }
    cost, path, spread = result.cost, result.path, result.pixel_spread
    numbers: dict[str, float | None] = {
        "nfe": cost.nfe,
        "seconds_per_image": cost.seconds,
        "seconds_per_image_spread": cost.seconds_spread,
        "images_per_second": 1 / cost.seconds,
        "feature_seconds_per_image": cost.feature_seconds_per_image,
        "peak_memory_bytes": cost.peak_memory_bytes,
        "joules_per_image": cost.joules_per_image,
        "compile_seconds": cost.compile_seconds,
        "first_abar": path.first_abar,
        "last_abar": path.last_abar,
        "clamped_times": path.clamped,
        "contrast": spread and spread.value,
        "contrast_error": spread and spread.standard_error,
        "contrast_theory": spread and spread.predicted,
        "features": result.feature_width,
        "floor_images": result.baseline_images,
    }
    for name, measured in result.measurements.items():
        numbers |= {f"{name}{suffix}": value for suffix, value in _numbers_of(measured).items()}
    numbers |= dict.fromkeys(result.undefined, math.nan)
    return {name: float(value) for name, value in numbers.items() if value is not None}


def _numbers_of(measured: Measurement) -> dict[str, float | None]:
    """By what the name of a metric is followed by."""
    degraded = {f"_{name}": value for name, value in measured.degraded.items()}
    return {
        "": measured.value,
        "_se": measured.standard_error,
        "_centre": measured.corrected if measured.is_corrected else None,
        "_reference_se": measured.reference_error,
        "_floor": measured.baseline,
        "_floor_centre": measured.baseline_corrected,
        **degraded,
    }


def names_of(metrics: Iterable[str], with_reference_error: Iterable[str] = ()) -> frozenset[str]:
    """The names without which a cell of these metrics is not complete in MLflow."""
    return frozenset([*metrics, *(f"{name}_reference_se" for name in with_reference_error)])


def facts_of(result: Result) -> dict[str, str]:
    """What only the machine that did the work could say of it, as texts."""
    made = result.provenance
    facts: dict[str, object] = {
        "result_version": RESULT_VERSION,
        "precision": made.precision,
        "data_fingerprint": made.data,
        "compiled": made.compile_trouble or made.is_compiled,
    }
    if isinstance(result, TrainingResult):
        facts |= {"threads": made.threads, "processes": made.processes}
    else:
        facts |= {
            "training_key": result.cell.training.key,
            "training_steps": result.cell.training.training_steps,
            "extractor": made.extractor,
            "extractor_fingerprint": made.extractor_fingerprint,
            **{f"undefined_{name}": reason for name, reason in result.undefined.items()},
        }
    return {name: str(value) for name, value in facts.items()}


def row_of(result: Result, run: Run) -> dict[str, Param]:
    """One row of a table: params, metrics, `key`, `run_id`, `machine` and what else is known."""
    row: dict[str, Param] = dict(result.work.params())
    row |= {column_of(name): value for name, value in metrics_of(result).items()}
    row |= facts_of(result)
    if isinstance(result, CellResult):
        row["training_steps"] = result.cell.training.training_steps
    if run.forecast is not None:
        row["forecast_seconds"] = run.forecast
    row |= {
        "key": result.work.key,
        "run_id": run.id,
        "machine": result.provenance.machine,
        "reused": run.is_reused,
    }
    return row


def column_of(metric: str) -> str:
    """The column of a table that holds a metric's number: its name, unless a param has that. The
    precision of Kynkaanniemi et al. is not that in which a network computes."""
    is_taken = metric == "precision" or metric.startswith("precision_")
    return metric.replace("precision", "precision_score", 1) if is_taken else metric
