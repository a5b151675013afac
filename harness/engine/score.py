"""Score a cell: sample its network, take features once, and compute every metric from them."""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.data.damage import DAMAGES
from harness.data.datasets import DATASETS
from harness.data.images import Images, ImageSet
from harness.engine.compiled import compiled
from harness.engine.contrast import contrast, foreseen_contrast
from harness.engine.curves import write_curves, write_path
from harness.engine.exact import Exact
from harness.engine.network import Trained, load
from harness.engine.pictures import SHEET_IMAGES, nearest_pairs, png, sheet
from harness.engine.sample import (
    Samples,
    batches_of,
    clamped_times,
    first_abar,
    last_abar,
    path_of,
    sample,
    spread,
)
from harness.engine.side_by_side import at_once, on_all_cores
from harness.errors import DataError, NotDefined
from harness.metrics.distances import METRICS
from harness.metrics.features import EXTRACTORS, Classifier, Extractor, Features, has_logits
from harness.metrics.judgement import decisive, judge, numbers_of, without_groups
from harness.metrics.uncertainty import fid_centre
from harness.plan.work import Cell, Part, Training
from harness.runtime import machine
from harness.runtime.progress import Progress, Report
from harness.runtime.store import Store, replacing, write_bytes, write_json

CHUNK = 64  # images whose features are taken between two reports


@dataclass(frozen=True)
class ScoreJob:
    """A cell, the metrics that are wanted of it, and where it runs."""

    cell: Cell
    metrics: tuple[str, ...]
    store: Path
    data_dir: Path
    device: str
    retime: bool = False
    reference_variance: bool = False
    at_checkpoint: bool = False  # also with the network as it was before its training's end
    compile: bool = False

    @property
    def work(self) -> Cell:
        return self.cell


def score(job: ScoreJob, report: Report) -> dict[str, Any]:
    """Do what is missing of a cell; returns its outcome, as also written to `outcome.json`.

    The network is loaded only to sample: a metric that is added later comes from kept features.
    """
    cell, store = job.cell, Store(job.store)
    outcome = store.outcome(cell.key)
    if outcome is None or not store.features(cell.key).exists():
        outcome = first_outcome(job, report)
        write_json(store.cell(cell.key, "outcome.json"), outcome)  # what was sampled stays sampled
    elif job.retime:
        trained = network_of(job)
        outcome = with_cost(outcome, sample(cell, trained, report), trained.device)
    measure(outcome, job, report)
    if job.at_checkpoint:
        measure_checkpoint(outcome, job, report)
    write_json(store.cell(cell.key, "outcome.json"), outcome)
    return outcome


def first_outcome(job: ScoreJob, report: Report) -> dict[str, Any]:
    """Sample the cell and keep its features, its pictures and what it cost."""
    cell, store = job.cell, Store(job.store)
    images = image_set(job.data_dir, cell.training.data)
    trained = network_of(job)
    samples = sample(cell, trained, report)
    write_bytes(store.cell(cell.key, "samples.png"), png(sheet(samples.images[:SHEET_IMAGES])))
    write_bytes(store.cell(cell.key, "film.png"), samples.film.png(samples.images))

    write_path(store.cell(cell.key, "path.csv"), *path_of(cell))
    if cell.training.is_exact or cell.sample_schedule != cell.training.schedule:
        # Else the training keeps the curves.
        write_curves(store.cell(cell.key, "schedule.csv"), path_of(cell)[0])

    extract = extractor(job.data_dir, job.device, cell.extractor)
    began = time.perf_counter()
    features = in_chunks(extract, samples.images, job.device, report)
    seconds = (time.perf_counter() - began) / len(features)
    write_features(store.features(cell.key), features)
    if cell.reference != "held_out" and images.law is None:
        others = read_once(real_features(job, cell.reference, None, report))
        with machine.numpy_threads_for(features.size):
            pairs = nearest_pairs(samples.images, features, images, others)
        write_bytes(store.cell(cell.key, "nearest.png"), pairs)
    outcome: dict[str, Any] = {
        "cell": cell.canonical(),
        "metrics": {
            "feature_seconds_per_image": seconds,
            "first_abar": first_abar(cell),
            "last_abar": last_abar(cell),
            "clamped_times": clamped_times(cell),
            **contrast_numbers(cell, samples.images, images),
        },
        "extractor": extract.label,
        "extractor_fingerprint": extract.fingerprint,
        "precision": trained.precision,
        "data_fingerprint": images.fingerprint,
        "versions": machine.versions(),
    }
    if isinstance(trained, Trained):
        outcome["metrics"]["compile_seconds"] = trained.compile_seconds
        outcome["compiled"] = trained.compile_trouble or str(trained.compiled is not None)
    return with_cost(outcome, samples, trained.device)


def with_cost(outcome: dict[str, Any], samples: Samples, device: torch.device) -> dict[str, Any]:
    """The outcome with what the images cost on this machine; seconds belong to a machine."""
    not_always = {"seconds_per_image_spread", "joules_per_image"}
    others = {k: v for k, v in outcome["metrics"].items() if k not in not_always}
    seconds = statistics.median(samples.seconds_per_image)
    cost = {
        "nfe": samples.nfe,
        "seconds_per_image": seconds,
        "seconds_per_image_spread": spread(samples.seconds_per_image),
        "images_per_second": 1 / seconds,
        "peak_memory_bytes": samples.peak_memory_bytes,
        "joules_per_image": samples.joules_per_image,
    }
    timings = outcome.get("timings", {}) | {machine.name(device): samples.seconds_per_image}
    return outcome | {
        "metrics": others | known(**cost),
        "machine": machine.name(device),
        "timings": timings,
    }


def contrast_numbers(cell: Cell, images: Images, real: ImageSet) -> dict[str, float]:
    """The contrast of a cell's images, measured and by theory, where there is any."""
    measured, error = contrast(images, real)
    theory = foreseen_contrast(cell, real)
    return known(contrast=measured, contrast_error=error, contrast_theory=theory)


def known(**numbers: float) -> dict[str, float]:
    """Those that could be told."""
    return {name: value for name, value in numbers.items() if not math.isnan(value)}


def measure(outcome: dict[str, Any], job: ScoreJob, report: Report) -> None:
    """Add the wanted metrics that the outcome lacks, each beside its floor: what as many real
    held-out images score against the same reference."""
    cell, store, metrics = job.cell, Store(job.store), outcome["metrics"]
    missing = [
        name
        for name in job.metrics
        if not numbers_of([name], job.reference_variance) <= metrics.keys()
    ]
    if not missing:
        return
    refuse_other_features(outcome, job)
    features = read_features(store.features(cell.key))
    reference = real_features(job, cell.reference, None, report)
    # What is not the reference is the floor: as many images as the cell has, if there are so many.
    other = {"train": "held_out", "held_out": "train"}.get(cell.reference)
    real = real_features(job, other, cell.images, report) if other else None
    arrays = load_arrays(store.cell(cell.key, "influence.npz"))
    for name in missing:
        metric = METRICS[name]
        given = needed_by(name, job, features, report)
        try:
            with machine.numpy_threads_for(features.size):
                found = judge(
                    name,
                    metric,
                    features,
                    read_once(reference),
                    reference_variance=job.reference_variance,
                    **given,
                )
        except NotDefined as error:  # for so few images, say: the other metrics are not
            metrics |= dict.fromkeys(numbers_of([name], job.reference_variance), math.nan)
            outcome.setdefault("undefined", {})[name] = str(error)
            continue
        metrics |= found.numbers
        arrays |= found.arrays
        if real is not None and len(read_once(real)) > 1:
            metrics |= floor(name, job, real, reference, report)
            metrics["floor_images"] = len(read_once(real))
            if name == decisive(job.metrics):
                metrics |= damaged(name, job, other, reference, report)
    outcome["reference_features"] = reference.stem
    metrics["features"] = features.shape[1]
    write_arrays(store.cell(cell.key, "influence.npz"), arrays)


def measure_checkpoint(outcome: dict[str, Any], job: ScoreJob, report: Report) -> None:
    """Add what the cell's decisive metric would be had its training ended a tenth earlier, from
    the same noise: whether the rest of the training still helped."""
    cell, store, metrics = job.cell, Store(job.store), outcome["metrics"]
    name = decisive(job.metrics)
    if name is None or f"{name}_checkpoint" in metrics:
        return
    checkpoint = store.checkpoint(cell.training.key)
    if not checkpoint.exists():
        metrics[f"{name}_checkpoint"] = math.nan
        reason = "its training kept no checkpoint"
        outcome.setdefault("undefined", {})[f"{name}_checkpoint"] = reason
        return
    refuse_other_features(outcome, job)
    images = image_set(job.data_dir, cell.training.data)
    trained = load(cell.training, store, images, torch.device(job.device), checkpoint.name)
    samples = sample(cell, trained, report, repeats=1)
    extract = extractor(job.data_dir, job.device, cell.extractor)
    features = in_chunks(extract, samples.images, job.device, report)
    reference = read_once(real_features(job, cell.reference, None, report))
    with machine.numpy_threads_for(features.size):
        found = judge(name, METRICS[name], features, reference)
    metrics[f"{name}_checkpoint"] = found.numbers.get(f"{name}_centre", found.numbers[name])
    path = store.cell(cell.key, "influence.npz")
    write_arrays(path, load_arrays(path) | {f"{name}_checkpoint": found.arrays[name]})


def damaged(
    name: str, job: ScoreJob, which: str | None, reference: Path, report: Report
) -> dict[str, float]:
    """What the same real images score after a small damage: the scale of the distance. Nothing for
    draws from a known law, which are no pictures."""
    if which is None or image_set(job.data_dir, job.cell.training.data).law is not None:
        return {}
    found = {}
    for damage in DAMAGES:
        real = real_features(job, which, job.cell.images, report, damage)
        scored = floor(name, job, real, reference, report)
        if scored:
            less_bias = scored.get(f"{name}_floor_centre", scored[f"{name}_floor"])
            found[f"{name}_{damage}"] = less_bias
    return found


def floor(
    name: str, job: ScoreJob, real: Path, reference: Path, report: Report
) -> dict[str, float]:
    """What real images score, less the bias where there is one; nothing where there are too few.
    The same for all cells of a grid, so it is worked out once."""
    found = _floors.get((name, real, reference))
    if found is None:
        metric, features, others = METRICS[name], read_once(real), read_once(reference)
        given = needed_by(name, job, features, report)
        try:
            found = {f"{name}_floor": metric.function(features, others, **given)}
        except NotDefined:
            found = {}
        if found and metric.biased:
            left_out = without_groups(metric, features, others, **given)
            if left_out is not None:
                found[f"{name}_floor_centre"] = fid_centre(found[f"{name}_floor"], left_out)
        _floors[name, real, reference] = found
    return found


_floors: dict[tuple[str, Path, Path], dict[str, float]] = {}


def needed_by(name: str, job: ScoreJob, features: Features, report: Report) -> dict[str, Features]:
    """What a metric takes beyond two sets of features, for the images of these features. Raises
    DataError where that is lacking."""
    given: dict[str, Features] = {}
    for need in METRICS[name].needs:
        if need == "held_out":
            given[need] = read_once(real_features(job, "held_out", None, report))
        elif need == "logits":
            extract = extractor(job.data_dir, job.device, job.cell.extractor)
            given[need] = with_logits(extract).logits_from(features)
        else:
            raise DataError(f"metric '{name}' needs {need}, which nothing here gives")
    return given


def with_logits(extract: Extractor) -> Classifier:
    """The extractor, which must give logits. Raises DataError where it does not."""
    if not has_logits(extract):
        raise DataError(
            f"the extractor '{extract.label}' gives no logits, which the inception score needs. "
            "The extractors 'digits', or 'inception' at layer 2048, would do."
        )
    return extract


def refuse_other_features(outcome: dict[str, Any], job: ScoreJob) -> None:
    """Raises DataError where kept features were made by other weights, or to be held against other
    images, than there are now: their key names both by what the grid says."""
    now = {
        "extractor_fingerprint": extractor(
            job.data_dir, job.device, job.cell.extractor
        ).fingerprint,
        "data_fingerprint": image_set(job.data_dir, job.cell.training.data).fingerprint,
    }
    if changed := [name for name, value in now.items() if outcome.get(name, value) != value]:
        what = "weights of the extractor" if "extractor_fingerprint" in changed else "images"
        raise DataError(
            f"the {what} of cell {job.cell.key} are not those it was scored with. Put the old ones "
            "back, or do the cell again with --redo."
        )


def real_features(
    job: ScoreJob, which: str, count: int | None, report: Report, damage: str = ""
) -> Path:
    """Where the features [M, d] of a part of the real images, or of its first `count`, damaged or
    not, are kept, by what they were made from: on a CPU they may take longer than all else."""
    images = image_set(job.data_dir, job.cell.training.data)
    extract = extractor(job.data_dir, job.device, job.cell.extractor)
    chosen = images.reference(which)[:count]
    text = f"{images.fingerprint} {which} {len(chosen)} {extract.label} {extract.fingerprint}"
    text += f" {damage}" if damage else ""
    path = Store(job.store).features(f"real-{hashlib.sha256(text.encode()).hexdigest()[:12]}")
    if not path.exists():
        chosen = DAMAGES[damage].do(chosen) if damage else chosen
        write_features(path, in_chunks(extract, chosen, job.device, report))
    return path


def in_chunks(extract: Extractor, images: Images, device: str, report: Report) -> Features:
    """The features of all images, telling how far it is."""
    if device == "cpu":
        extract(images[:1])  # loads the weights before several threads want them
    found = []
    for start in range(0, len(images), CHUNK):
        report(Progress(start, len(images)))
        found.append(features_of(extract, images[start : start + CHUNK], device))
    return np.concatenate(found)


def features_of(extract: Extractor, images: Images, device: str) -> Features:
    """The features of a chunk; on a processor by all cores where the extractor is a large one."""
    if device != "cpu" or not (most := getattr(extract, "at_a_time", 0)):
        return extract(images)
    size = min(most, -(-len(images) // at_once()))
    pieces = [images[start : start + size] for start in range(0, len(images), size)]
    return np.concatenate(on_all_cores(extract, pieces))


def write_features(path: Path, features: Features) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, features)


def read_features(path: Path) -> Features:
    """Kept features as the metrics want them: in float64, and read-only, so that what is known of
    them stays true."""
    features: Features = np.load(path, allow_pickle=False).astype(np.float64)
    features.flags.writeable = False
    return features


@lru_cache(maxsize=4)
def read_once(path: Path) -> Features:
    """For features whose name is their content: a whole grid is held against the same ones."""
    return read_features(path)


@lru_cache(maxsize=4)
def image_set(data_dir: Path, part: Part) -> ImageSet:
    images: ImageSet = DATASETS[part.name](data_dir, **part.keywords)
    return images


@lru_cache(maxsize=2)
def extractor(data_dir: Path, device: str, part: Part) -> Extractor:
    made: Extractor = EXTRACTORS[part.name](data_dir, device, **part.keywords)
    return made


@lru_cache(maxsize=1)
def load_network(store: Store, training: Training, data_dir: Path, device: str) -> Trained | Exact:
    """The network of a training, or the exact denoiser in its place; kept for the next cell, since
    those of one training come together.

    Raises DataError where the images are no longer those that it was trained on: its key names
    them by what the grid says, which a changed folder does not change.
    """
    images = image_set(data_dir, training.data)
    if training.is_exact:
        return Exact(training, images, torch.device(device))
    trained = store.trained(training.key)
    if trained and trained["data_fingerprint"] != images.fingerprint:
        raise DataError(
            f"the images of '{training.data}' are not those that training {training.key} saw. "
            "Train again with --redo, or give the changed images a folder of their own."
        )
    return load(training, store, images, torch.device(device))


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def network_of(job: ScoreJob) -> Trained | Exact:
    """The network of a cell, compiled for its batches where it is to be."""
    cell, store = job.cell, Store(job.store)
    trained = load_network(store, cell.training, job.data_dir, job.device)
    if not job.compile or isinstance(trained, Exact):
        return trained
    sizes = {len(batch) for batch in batches_of(cell.images, trained.device)}
    return compiled_once(trained, tuple(sorted(sizes)))


@lru_cache(maxsize=1)
def compiled_once(trained: Trained, sizes: tuple[int, ...]) -> Trained:
    """The network compiled for batches of these sizes, and for as many threads as it will be
    given. The cells of one training come together and share it."""
    if trained.device.type == "cpu":
        torch.set_num_threads(machine.threads_for(math.prod(trained.shape)))
    shapes = [(size, *trained.shape) for size in sizes]
    try:
        made = compiled(
            trained.network, shapes, trained.precision, trained.device, for_training=False
        )
    except torch.OutOfMemoryError:
        if max(sizes) == 1:
            return trained
        machine.free_spare_memory()
        return compiled_once(trained, tuple(sorted({-(-size // 2) for size in sizes})))
    network = None if made.trouble else made.network
    return replace(
        trained, compiled=network, compile_seconds=made.seconds, compile_trouble=made.trouble
    )


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
