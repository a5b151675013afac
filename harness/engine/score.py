"""Score a cell: sample its network, take features once, and compute every metric from them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from harness.data.images import ImageSet
from harness.engine.curves import path_csv, schedule_csv
from harness.engine.denoisers import denoiser_of
from harness.engine.exact import ExactDenoiser
from harness.engine.fitted import is_fitted, kept_fit, written_out
from harness.engine.inputs import extractor_of, images_of
from harness.engine.measure import measured, with_files
from harness.engine.memory import said_in_one_line
from harness.engine.network import Trained
from harness.engine.pictures import SHEET_IMAGES, forward, nearest_pairs, png, sheet
from harness.engine.pixel_spread import pixel_spread
from harness.engine.reference import RealImages, in_chunks, write_features
from harness.engine.sample import Samples, path_of, sample, sampling_path
from harness.engine.scale import Scale
from harness.execute import machine
from harness.execute.progress import Report
from harness.metrics.features import Features
from harness.store import FEATURES, FROM_SAMPLES, Store, checksum_of
from harness.work.cells import Cell
from harness.work.options import Workplace
from harness.work.results import (
    EVERY_STEP,
    FILM,
    FORWARD,
    NEAREST,
    PATH_CURVE,
    SAMPLES,
    SCHEDULE_CURVE,
    Artifacts,
    CellResult,
    Cost,
    Provenance,
)
from harness.work.timing import timings_of


@dataclass(frozen=True)
class ScoreJob:
    """A cell, the metrics that are wanted of it, and what else is asked."""

    cell: Cell
    metrics: tuple[str, ...]
    retime: bool = False
    reference_variance: bool = False
    compile: bool = False

    @property
    def work(self) -> Cell:
        return self.cell

    @property
    def works(self) -> tuple[Cell]:
        return (self.cell,)


def score(job: ScoreJob, at: Workplace, report: Report) -> CellResult:
    """Do what is missing of a cell and keep it; the result's small files are in memory.

    The network is loaded only to sample: a metric that is added later comes from kept features.
    """
    with said_in_one_line(f"cell {job.cell.key} was scored", at.device):
        kept = kept_samples(job, at, report)
        result = measured(kept, job.metrics, job.reference_variance, at, report)
        if result is not kept:
            Store(at.store).keep(result)
        return replace(result, artifacts=with_files(result.artifacts, {}))


def sample_alone(job: ScoreJob, at: Workplace, report: Report) -> None:
    """Do what a GPU is needed for of a cell and keep it: its samples, and all features."""
    with said_in_one_line(f"cell {job.cell.key} was scored", at.device):
        kept_samples(job, at, report)
        RealImages(job.cell, at, report).take_all(job.metrics)


def score_beside(job: ScoreJob, at: Workplace, report: Report) -> CellResult:
    """Do the rest of a cell in a process that gives way to the one that samples the next."""
    machine.give_way()
    return score(replace(job, retime=False), at, report)


def kept_samples(job: ScoreJob, at: Workplace, report: Report) -> CellResult:
    """The result of a cell as the store has it once it is sampled, and timed again where that is
    asked for."""
    store = Store(at.store)
    result = store.cell_result(job.cell.key)
    if result is None or store.lacking(result, FROM_SAMPLES):
        if result:
            store.set_aside_files(result, FROM_SAMPLES)
        result = sampled_result(job, at, report)
    elif job.retime:
        result = timed_again(result, job, at, report)
    else:
        return result
    store.keep(result)  # what was sampled stays sampled
    return result


def sampled_result(job: ScoreJob, at: Workplace, report: Report) -> CellResult:
    """The result of a cell without measurements: its pictures and what it cost; its features are
    in the store."""
    cell, store = job.cell, Store(at.store)
    images, extract = images_of(cell.training, at), extractor_of(cell, at)
    denoiser = denoiser_of(cell, at, job.compile)
    found = kept_fit(cell, denoiser, store, report) if is_fitted(cell) else None
    times = found.path(cell.steps) if found else ()
    sampled = written_out(cell, times)
    samples = sampled_images(cell, times, denoiser, report)
    real = RealImages(cell, at, report)
    began = time.perf_counter()
    features = in_chunks(extract, samples.images, real.device, report)
    seconds = (time.perf_counter() - began) / len(features)
    path = store.cell(cell.key, FEATURES)
    write_features(path, features, f"cell {cell.key} ({cell.title})")
    made = CellResult(
        cell=cell,
        measurements={},
        cost=replace(
            cost_of(samples, denoiser, seconds), fit_seconds=found.seconds if found else 0.0
        ),
        provenance=Provenance(
            machine=machine.name(denoiser.device),
            precision=denoiser.precision,
            data=images.fingerprint,
            versions=machine.versions(),
            extractor=extract.label,
            extractor_fingerprint=extract.fingerprint,
            is_compiled=denoiser.compiled is not None,
            compile_trouble=denoiser.compile_trouble,
        ),
        path=replace(sampling_path(sampled), times=times),
        feature_width=features.shape[1],
        pixel_spread=pixel_spread(sampled, samples.images, images),
        artifacts=Artifacts({FEATURES: checksum_of(path)}),
    )
    files = {**curves(sampled, images, denoiser.scale), **pictures(cell, samples, features, real)}
    return replace(made, artifacts=with_files(made.artifacts, files))


def timed_again(result: CellResult, job: ScoreJob, at: Workplace, report: Report) -> CellResult:
    """The result with what the images cost now, on this machine."""
    denoiser = denoiser_of(job.cell, at, job.compile)
    samples = sampled_images(job.cell, result.path.times, denoiser, report)
    here = replace(
        result.provenance,
        machine=machine.name(denoiser.device),
        is_shared=False,
        is_compiled=denoiser.compiled is not None,
        compile_trouble=denoiser.compile_trouble,
    )
    cost = cost_of(samples, denoiser, result.cost.feature_seconds_per_image)
    cost = replace(cost, fit_seconds=result.cost.fit_seconds)
    return replace(result, cost=cost, provenance=here)


def sampled_images(
    cell: Cell, times: tuple[float, ...], denoiser: Trained | ExactDenoiser, report: Report
) -> Samples:
    """The images of a cell, timed."""
    return sample(written_out(cell, times), denoiser, report, timings=timings_of(cell), asked=cell)


def cost_of(samples: Samples, denoiser: Trained | ExactDenoiser, feature_seconds: float) -> Cost:
    """What these samples cost; features take so many seconds an image."""
    return Cost(
        nfe=samples.nfe,
        seconds_per_image=samples.seconds_per_image,
        feature_seconds_per_image=feature_seconds,
        peak_memory_bytes=samples.peak_memory_bytes,
        joules_per_image=samples.joules_per_image,
        compile_seconds=denoiser.compile_seconds,
    )


def curves(cell: Cell, real: ImageSet, scale: Scale) -> dict[str, bytes]:
    """The path of a cell, and its schedule where its training does not keep that one; where there
    is no training, also that schedule at work."""
    schedule, times = path_of(cell)
    files = {PATH_CURVE: path_csv(schedule, times)}
    if not (cell.training.is_trained and cell.is_matched):
        files[SCHEDULE_CURVE] = schedule_csv(schedule)
    if not cell.training.is_trained:
        files[FORWARD] = forward(real, schedule, scale)
    return files


def pictures(
    cell: Cell, samples: Samples, features: Features, real: RealImages
) -> dict[str, bytes]:
    """The first images of a cell, how two of them came about, and those nearest to a training
    image; of a cell at a checkpoint none."""
    if cell.weights != "final":
        return {}
    images = samples.images
    files = {
        SAMPLES: png(sheet(images[:SHEET_IMAGES])),
        FILM: samples.film.png(images),
        EVERY_STEP: samples.film.webp(images),
    }
    if cell.reference != "held_out" and real.images.distribution is None:
        others = real.features(real.key(cell.reference))
        with machine.numpy_threads_for(features.size):
            files[NEAREST] = nearest_pairs(images, features, real.images, others)
    return files
