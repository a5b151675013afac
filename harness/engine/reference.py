"""The features that a cell is measured against: of real images, taken once for a store.

Each set has a key that names what it was made from, so it serves every cell that it fits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from harness.data.degraded import DEGRADATIONS
from harness.data.images import Images, ImageSet
from harness.engine.inputs import extractor_of, images_of, with_logits
from harness.engine.memory import in_halves
from harness.engine.sample import NotFinite
from harness.engine.side_by_side import at_once, on_all_cores
from harness.errors import DataError, NotDefined, PartFailed
from harness.execute import machine
from harness.execute.progress import Progress, Report
from harness.metrics.distances import METRICS
from harness.metrics.evaluation import value_of
from harness.metrics.features import EXTRACTORS, Extractor, Features
from harness.store import Store, replacing
from harness.work.cells import Cell
from harness.work.options import Workplace

CHUNK = 64  # images whose features are taken between two reports

OTHER_PART = {"train": "held_out", "held_out": "train"}  # the baseline of a reference

Baseline = tuple[float, float | None]  # a value, and corrected for its bias where it has one

_baselines: dict[tuple[str, str, str], Baseline | None] = {}


@dataclass(frozen=True)
class RealImages:
    """The real images of a cell's data set, in the feature space of its extractor."""

    cell: Cell
    at: Workplace
    report: Report

    @property
    def images(self) -> ImageSet:
        """The data set of the cell. Raises DataError where it has changed."""
        return images_of(self.cell.training, self.at)

    @property
    def extract(self) -> Extractor:
        """The extractor of the cell."""
        return extractor_of(self.cell, self.at)

    @property
    def device(self) -> str:
        """The device that features are taken on, by name."""
        return str(machine.find_device(self.at.device))

    def key(self, which: str, count: int | None = None, degradation: str = "") -> str:
        """The key of the features [M, d] of a part of the real images, or of its first `count`,
        degraded or not; they are kept in the store from now on. On a CPU they may take longer
        than all else."""
        key, chosen = self._named(which, count, degradation)
        store, path = Store(self.at.store), Store(self.at.store).reference(key)
        if not store.has_whole(path):
            chosen = DEGRADATIONS[degradation].do(chosen) if degradation else chosen
            features = in_chunks(self.extract, chosen, self.device, self.report)
            write_features(path, features, f"the images of '{self.cell.training.data}'")
            store.keep_checksum(path, self.images.fingerprint, self.extract.fingerprint)
        return key

    def _named(self, which: str, count: int | None, degradation: str) -> tuple[str, Images]:
        """The key of these features, and the images [M, C, H, W] before they are degraded."""
        images, extract = self.images, self.extract
        chosen = images.reference(which)[:count]
        text = f"{images.fingerprint} {which} {len(chosen)} {extract.label} {extract.fingerprint}"
        text += f" {degradation}" if degradation else ""
        return f"real-{hashlib.sha256(text.encode()).hexdigest()[:12]}", chosen

    def without_features(self) -> int:
        """How many images the features are still to be taken of, of all that this cell is held
        against."""
        sets = [self._named(*each) for each in self._sets()]
        store = Store(self.at.store)
        there = {key: len(chosen) for key, chosen in sets if not store.reference(key).exists()}
        return sum(there.values())

    def take_all(self, metrics: Iterable[str]) -> None:
        """Take the features of all real images that these metrics of the cell need."""
        for each in self._sets():
            self.key(*each)
        if any("held_out" in METRICS[name].needs for name in metrics):
            self.key("held_out")

    def _sets(self) -> list[tuple[str, int | None, str]]:
        """What the cell is held against, as `key` names it: the reference, the baseline, and the
        degraded copies of that."""
        sets: list[tuple[str, int | None, str]] = [(self.cell.reference, None, "")]
        if which := OTHER_PART.get(self.cell.reference):
            degraded = DEGRADATIONS if self.images.distribution is None else ()
            sets += [(which, self.cell.images, each) for each in ("", *degraded)]
        return sets

    def features(self, key: str) -> Features:
        """The kept features of this key, [N, d]."""
        return read_once(Store(self.at.store).reference(key))

    def needed_by(self, name: str, features: Features) -> dict[str, Features]:
        """What a metric takes beyond two sets of features, for the images of these features.
        Raises DataError where that is lacking."""
        given: dict[str, Features] = {}
        for need in METRICS[name].needs:
            if need == "held_out":
                given[need] = self.features(self.key("held_out"))
            elif need == "logits":
                with EXTRACTORS.blamed(self.cell.extractor.name, "gives no logits"):
                    given[need] = with_logits(self.extract).logits_from(features)
            else:
                raise DataError(
                    f"metric '{name}' needs '{need}', which nothing here gives. Use needs of "
                    "'held_out' and 'logits' alone."
                )
        return given

    def baseline(self, name: str, real: str, reference: str) -> Baseline | None:
        """What real images score, both sets given by their keys; None where there are too few.
        The same for all cells of a grid, so it is worked out once."""
        if (name, real, reference) not in _baselines:
            features = self.features(real)
            given = self.needed_by(name, features)
            against = self.features(reference)
            try:
                with METRICS.blamed(name):
                    found = value_of(name, METRICS[name], features, against, **given)
            except (NotDefined, PartFailed):
                found = None
            _baselines[name, real, reference] = found
        return _baselines[name, real, reference]

    def degraded(self, name: str, which: str, reference: str) -> dict[str, float]:
        """What degraded copies of the real images and as many of pure noise score, less the bias:
        the scale of the distance. Nothing for draws from a known distribution, which are no
        pictures."""
        if self.images.distribution is not None:
            return {}
        found = {}
        for degradation in DEGRADATIONS:
            real = self.key(which, self.cell.images, degradation)
            if scored := self.baseline(name, real, reference):
                value, corrected = scored
                found[degradation] = value if corrected is None else corrected
        return found


def in_chunks(extract: Extractor, images: Images, device: str, report: Report) -> Features:
    """The features of all images, with reports of the progress; of fewer at once where a chunk of
    them does not fit into memory."""
    if device == "cpu":
        extract(images[:1])  # loads the weights before several threads want them
    every = range(len(images))
    chunks = [every[start : start + CHUNK] for start in every[::CHUNK]]

    def of_chunk(chunk: range) -> Features:
        report(Progress(chunk.start, len(images), phase="real images"))
        return features_of(extract, images[chunk.start : chunk.stop], device)

    return np.concatenate(list(in_halves(chunks, of_chunk, device)))


def features_of(extract: Extractor, images: Images, device: str) -> Features:
    """The features of a chunk; on a processor by all cores where the extractor is a large one."""
    if device != "cpu" or not (most := getattr(extract, "at_a_time", 0)):
        return extract(images)
    size = min(most, -(-len(images) // at_once()))
    pieces = [images[start : start + size] for start in range(0, len(images), size)]
    return np.concatenate(on_all_cores(extract, pieces))


def write_features(path: Path, features: Features, of: str) -> None:
    """Raises NotFinite, naming `of` what they are, for features that are not finite."""
    if not np.isfinite(features).all():
        raise NotFinite(
            f"the features of {of} are not finite. Use another extractor, or get its weights once "
            "more."
        )
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, features)


def read_features(path: Path) -> Features:
    """Kept features as the metrics want them: in float64, and read-only, so that what is known of
    them stays true."""
    features: Features = np.load(path, allow_pickle=False).astype(np.float64)
    features.flags.writeable = False
    return features


# For features whose name is their content: a whole grid is held against the same ones.
read_once = lru_cache(maxsize=4)(read_features)
