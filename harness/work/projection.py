"""A result as plain numbers and texts: what MLflow shows people, and one row of a table.

Nothing here is ever read back: the result itself is kept as `result.json`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from harness.work.cells import RESULT_VERSION, Param
from harness.work.results import CellResult, Denoising, Measurement, Result, Run, TrainingResult

LOG_SNRS = (-6, 0, 6)  # at which MLflow shows the denoising error
SOURCE = "source_"  # of a metric of another package, before its name


def metrics_of(result: Result) -> dict[str, float]:
    """The numbers of a result by the names that MLflow shows; NaN for what is undefined."""
    if isinstance(result, TrainingResult):
        return {
            "loss": result.loss,
            "seconds": result.seconds,
            "images_per_second": result.images_per_second,
            "parameters": result.parameters,
            "compile_seconds": result.compile_seconds,
            **_numbers_of_denoising(result.denoising),
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
        "fit_seconds": cost.fit_seconds if path.times else None,
        "first_abar": path.first_abar,
        "last_abar": path.last_abar,
        "clamped_times": path.clamped,
        "contrast": spread.value if spread else None,
        "contrast_error": spread.standard_error if spread else None,
        "contrast_theory": spread.predicted if spread else None,
        "features": result.feature_width,
        "floor_images": result.baseline_images,
    }
    for name, measured in result.measurements.items():
        numbers |= {f"{name}{suffix}": value for suffix, value in _numbers_of(measured).items()}
    # With their errors: a cell is complete where each name that it should have is there.
    undefined = (f"{name}{suffix}" for name in result.undefined for suffix in ("", "_reference_se"))
    numbers |= dict.fromkeys(undefined, math.nan)
    return {name: float(value) for name, value in numbers.items() if value is not None}


def _numbers_of_denoising(measured: Denoising | None) -> dict[str, float]:
    """Of all levels a few; the others stand in a table beside the run."""
    if measured is None:
        return {}
    nearest = [min(measured.levels, key=lambda one: abs(one.log_snr - at)) for at in LOG_SNRS]
    numbers = {f"denoising_error_log_snr_{one.log_snr:.1f}": one.held_out.value for one in nearest}
    bits = {"bits_per_dim": measured.bits, "bits_per_dim_train": measured.train_bits}
    return numbers | {name: one.value for name, one in bits.items() if one}


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


def names_of(
    metrics: Iterable[str],
    with_reference_error: Iterable[str] = (),
    sources: Mapping[str, str] = {},
) -> frozenset[str]:
    """The names without which a cell of these metrics is not complete in MLflow: `sources` are
    those of metrics of other packages, as `facts_of` tells them."""
    errors = (f"{name}_reference_se" for name in with_reference_error)
    return frozenset([*metrics, *errors, *(f"{SOURCE}{n}={told}" for n, told in sources.items())])


def facts_of(result: Result) -> dict[str, str]:
    """What only the machine that did the work could say of it, as texts."""
    made = result.provenance
    facts: dict[str, object] = {
        "result_version": RESULT_VERSION,
        "precision": made.precision,
        "data_fingerprint": made.data,
        "compiled": made.compile_trouble or made.is_compiled,
        "shared_machine": made.is_shared,
    }
    if isinstance(result, TrainingResult):
        facts |= {
            "threads": made.threads,
            "processes": made.processes,
            "micro_batches": made.micro_batches,
        }
        facts |= {"shared_with": result.shared_with} if result.shared_with else {}
    else:
        facts |= {
            "training_key": result.cell.training.key,
            "training_steps": result.cell.training.training_steps,
            "extractor": made.extractor,
            "extractor_fingerprint": made.extractor_fingerprint,
            **({"fitted_times": list(result.path.times)} if result.path.times else {}),
            **{f"undefined_{name}": reason for name, reason in result.undefined.items()},
            **{f"{SOURCE}{name}": source for name, source in result.metric_sources.items()},
        }
    return {name: str(value) for name, value in facts.items()}


def rows_of(results: Iterable[Result], runs: Mapping[str, Run]) -> list[dict[str, Param]]:
    """A row for each result: params, metrics, `key`, `run_id`, `machine` and what else is known.
    What a cell scored at a checkpoint stands in its own row, as `kid_checkpoint`."""
    results = list(results)
    final = [one for one in results if not _is_checkpoint(one)]
    again = {
        replace(one.cell, weights="final"): one
        for one in results
        if isinstance(one, CellResult) and _is_checkpoint(one)
    }
    rows = []
    for one in final:
        row = _row_of(one, runs.get(one.work.key, Run()))
        if isinstance(one, CellResult) and (checkpoint := again.get(one.cell)):
            for name, measured in checkpoint.measurements.items():
                row[f"{column_of(name)}_checkpoint"] = measured.corrected
        rows.append(row)
    return rows


def _is_checkpoint(result: Result) -> bool:
    return isinstance(result, CellResult) and result.cell.weights != "final"


def _row_of(result: Result, run: Run) -> dict[str, Param]:
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
