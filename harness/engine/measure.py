"""Measure a cell: every wanted metric from its kept features."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.engine.inputs import extractor_of, images_of
from harness.engine.reference import RealImages, read_features
from harness.errors import DataError, NotDefined, StoreError
from harness.execute import machine
from harness.execute.progress import Report
from harness.metrics.distances import METRICS
from harness.metrics.evaluation import deciding, evaluate, lacking
from harness.store import FEATURES, Store
from harness.work.options import Workplace
from harness.work.results import INFLUENCES, Artifacts, CellResult

OTHER_PART = {"train": "held_out", "held_out": "train"}  # the baseline of a reference


def measured(
    result: CellResult,
    metrics: tuple[str, ...],
    reference_variance: bool,
    at: Workplace,
    report: Report,
) -> CellResult:
    """The result with the wanted metrics that it lacks, each beside its baseline: what as many
    real held-out images score against the same reference."""
    if not lacking(result, metrics, reference_variance):
        return result
    refuse_other_inputs(result, at)
    result, arrays = with_arrays(result)
    cell, real = result.cell, RealImages(result.cell, at, report)
    features = read_features(Store(at.store).cell(cell.key, FEATURES))
    reference = real.key(cell.reference)
    measurements, undefined = dict(result.measurements), dict(result.undefined)
    names = lacking(result, metrics, reference_variance)
    for name in names:
        given = real.needed_by(name, features)
        try:
            with machine.numpy_threads_for(features.size):
                found = evaluate(
                    name, METRICS[name], features, real.features(reference),
                    reference_variance=reference_variance, **given,
                )  # fmt: skip
        except NotDefined as error:  # for so few images, say: the other metrics are not
            undefined[name] = str(error)
            continue
        measurements[name] = found.measurement
        arrays |= found.arrays
    result = replace(
        result,
        measurements=measurements,
        undefined=undefined,
        reference_features=reference,
        artifacts=with_files(result.artifacts, {INFLUENCES: npz(arrays)}),
    )
    return with_baselines(result, names, deciding(metrics), real)


def with_arrays(result: CellResult) -> tuple[CellResult, dict[str, NDArray[Any]]]:
    """The result with what was kept of its measurements for comparisons; without measurements
    where that is of another moment, as a kill may leave it: all come again from kept features."""
    try:
        return result, dict(result.artifacts.arrays())
    except StoreError:
        return replace(result, measurements={}, undefined={}), {}


def with_baselines(
    result: CellResult, names: list[str], deciding: str | None, real: RealImages
) -> CellResult:
    """The result with these measurements beside what real images score that are not the
    reference: as many as the cell has, if there are so many."""
    cell, reference = result.cell, result.reference_features
    if (which := OTHER_PART.get(cell.reference)) is None:
        return result
    others = real.key(which, cell.images)
    count = len(real.features(others))
    if count < 2:
        return result
    measurements = dict(result.measurements)
    for name in names:
        if name in measurements and (scored := real.baseline(name, others, reference)):
            measurements[name] = replace(
                measurements[name],
                baseline=scored[0],
                baseline_corrected=scored[1],
                degraded=real.degraded(name, which, reference) if name == deciding else {},
            )
    return replace(result, measurements=measurements, baseline_images=count)


def refuse_other_inputs(result: CellResult, at: Workplace) -> None:
    """Raises DataError where kept features were made by other weights, or are to be held against
    other images, than there are now: a cell need not name its inputs by their content."""
    cell, made = result.cell, result.provenance
    what = "images" if made.data != images_of(cell.training, at).fingerprint else ""
    if made.extractor_fingerprint != extractor_of(cell, at).fingerprint:
        what = "weights of the extractor"
    if what:
        raise DataError(
            f"the {what} of cell {cell.key} are not those it was scored with. Use the old ones "
            "again, or --redo."
        )


def with_files(artifacts: Artifacts, more: Mapping[str, bytes]) -> Artifacts:
    """The artifacts with more files; all but the features are in memory, to be sent elsewhere."""
    files = {
        name: content
        for name in artifacts.checksums
        if name != FEATURES and name not in more and (content := artifacts.read(name)) is not None
    }
    files |= more
    return Artifacts({**artifacts.checksums, **Artifacts.of(files).checksums}, files.get)


def npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()
