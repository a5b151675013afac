"""Whether there are enough real images for a metric to have a value, and for the value to mean
something: asked before any work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np

from harness.errors import DataError
from harness.metrics.distances import METRICS

FEWEST_IMAGES_A_FEATURE = 5  # below it the jackknife leaves a part of FID's bias, by simulation
PLENTY = 64  # images: more than any count that a metric asks for

MANY = 1_000  # images: below it, networks learn images by heart, and the choice of them shows
FEWEST_HELD_OUT = 100  # below it a real-data baseline is hardly known
LAYERS = (64, 192, 768, 2048)  # of the extractor `inception`: as many features each


@dataclass(frozen=True)
class Enough:
    """Whether a number of images is enough for one purpose, and what follows."""

    purpose: str
    is_enough: bool
    told: str


def purposes(train: int, held_out: int) -> Iterator[Enough]:
    """What so many images to train on and so many held out are enough for."""
    few = (
        "few, and a network may learn them by heart. Use more images, flip: true where a mirrored "
        "image is as good, and the metric memorisation, which shows it"
    )
    yield Enough(
        "training", train >= MANY, f"{train:,} images: {'enough' if train >= MANY else few}."
    )
    times = sqrt(MANY / train)
    wide = (
        f"no bias, but the choice of these {train:,} images adds {times:.1f} times the error that "
        f"a choice of {MANY:,} adds. Use reference_variance: true, so that intervals cover it"
    )
    yield Enough("KID", train >= MANY, f"{'enough' if train >= MANY else wide}.")
    yield fid(train)
    low = "the baseline of real images is rough. Use a larger held_out"
    is_known = held_out >= FEWEST_HELD_OUT
    yield Enough(
        "baseline", is_known, f"{held_out:,} images held out: {'enough' if is_known else low}."
    )


def fid(train: int) -> Enough:
    """FID is biased by as much as there are features to an image."""
    fits = [layer for layer in LAYERS if train >= FEWEST_IMAGES_A_FEATURE * layer]
    if LAYERS[-1] in fits:
        return Enough("FID", True, f"enough, where as many are sampled ({LAYERS[-1]:,} features).")
    needed = FEWEST_IMAGES_A_FEATURE * LAYERS[-1]
    other = f" or the extractor {{name: inception, layer: {fits[-1]}}}" if fits else ""
    told = f"of {LAYERS[-1]:,} features it is biased below about {needed:,} images. Use KID{other}."
    return Enough("FID", False, told)


def check_enough(metrics: Iterable[str], reference: int, held_out: int) -> None:
    """Raises DataError where a metric has no value against so many reference images, with so many
    held out: each is tried on noise, so that it is asked itself."""
    random = np.random.default_rng(0)
    sets = {
        "features": random.standard_normal((PLENTY, 2)),
        "reference": random.standard_normal((min(reference, PLENTY), 2)),
        "held_out": random.standard_normal((min(held_out, PLENTY), 2)),
        "logits": random.standard_normal((PLENTY, 2)),
    }
    for name in metrics:
        metric = METRICS[name]
        given = {need: sets[need] for need in metric.needs if need in sets}
        with METRICS.blamed(name):
            try:
                metric.function(sets["features"], sets["reference"], **given)
            except ValueError as error:
                raise DataError(
                    f"metric '{name}' has no value with {reference:,} reference and {held_out:,} "
                    f"held-out images: {error} Use a larger held_out, more images, or another "
                    "metric."
                ) from error
