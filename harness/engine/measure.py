"""Measure a cell: every wanted metric from its kept features."""

from __future__ import annotations

import io
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.engine.inputs import extractor_of, images_of
from harness.engine.reference import OTHER_PART, RealImages, read_features
from harness.errors import DataError, NotDefined, PartFailed, StoreError
from harness.execute import machine
from harness.execute.progress import Report
from harness.metrics.distances import METRICS
from harness.metrics.evaluation import Evaluation, deciding, evaluate, lacking
from harness.metrics.features import Features
from harness.store import FEATURES, Store
from harness.work.options import Workplace
from harness.work.results import INFLUENCES, Artifacts, CellResult

Named = TypeVar("Named")


def measured(
    result: CellResult,
    metrics: tuple[str, ...],
    reference_variance: bool,
    at: Workplace,
    report: Report,
) -> CellResult:
    """The result with the wanted metrics that it lacks, each beside its baseline: what as many
    real held-out images score against the same reference."""
    names = lacking(result, metrics, reference_variance)
    if (arrays := kept_influences(result)) is None:
        arrays = {}
        names = list(dict.fromkeys([*metrics, *filter(can_be_evaluated, result.measurements)]))
    if not names:
        return result
    refuse_other_inputs(result, at)
    cell, real = result.cell, RealImages(result.cell, at, report)
    features = read_features(Store(at.store).cell(cell.key, FEATURES))
    reference = real.key(cell.reference)
    measurements, undefined = without(result.measurements, names), without(result.undefined, names)
    for name in names:
        try:
            with_error = reference_variance or has_reference_error(result, name)
            found = evaluation(name, features, reference, real, with_error)
        except NotDefined as error:  # for so few images, say: other metrics may be defined
            undefined[name] = str(error)
            continue
        measurements[name] = found.measurement
        arrays |= found.arrays
    sources = {name: source for name in names if (source := METRICS.source(name))}
    scaled = {deciding(metrics), *(n for n, one in result.measurements.items() if one.degraded)}
    result = replace(
        result,
        measurements=measurements,
        undefined=undefined,
        metric_sources=without(result.metric_sources, names) | sources,
        reference_features=reference,
        artifacts=with_files(result.artifacts, {INFLUENCES: npz(arrays)}),
    )
    return with_baselines(result, names, scaled, real)


def kept_influences(result: CellResult) -> dict[str, NDArray[Any]] | None:
    """The arrays beside a result, [N] of its images or [M] of the reference; None where they are
    gone, or of another moment, as a kill may leave them: then all that is measured is measured
    again."""
    try:
        content = result.artifacts.read(INFLUENCES)
    except StoreError:
        return None
    if content is None and INFLUENCES in result.artifacts.checksums:
        return None
    return dict(result.artifacts.arrays())


def can_be_evaluated(name: str) -> bool:
    """Whether a metric, of another package perhaps, is here to be used."""
    return name in METRICS and not METRICS.problem(name)


def has_reference_error(result: CellResult, name: str) -> bool:
    """Whether it was asked for before, and is then not to be lost."""
    known = result.measurements.get(name)
    return known is not None and known.reference_error is not None


def evaluation(
    name: str, features: Features, reference: str, real: RealImages, reference_variance: bool
) -> Evaluation:
    """One metric of features [N, d] against the reference of this key. Raises NotDefined, also
    where the metric fails: it loses its own value alone."""
    given, metric = real.needed_by(name, features), METRICS[name]
    against = real.features(reference)
    try:
        with METRICS.blamed(name), machine.numpy_threads_for(features.size):
            return evaluate(
                name, metric, features, against, reference_variance=reference_variance, **given
            )
    except PartFailed as error:
        raise NotDefined(str(error)) from error


def without(named: Mapping[str, Named], names: Iterable[str]) -> dict[str, Named]:
    """The mapping without these names."""
    return {name: value for name, value in named.items() if name not in names}


def with_baselines(
    result: CellResult, names: list[str], scaled: Container[str | None], real: RealImages
) -> CellResult:
    """The result with these measurements beside what real images score that are not the
    reference: as many as the cell has, if there are so many; and, of those that are to be
    `scaled`, beside what degraded copies and pure noise do."""
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
                degraded=real.degraded(name, which, reference) if name in scaled else {},
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
    """Arrays of any shape as the bytes of a compressed npz file."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()
