"""What every data set must satisfy: two parts of square uint8 images, the same each time."""

from __future__ import annotations

from functools import partial

import numpy as np

from harness.contracts.check import Bench, Claims, check
from harness.data.datasets import load
from harness.data.images import ImageSet

MANY = 20_000  # images: more are not read a second time


def of_dataset(name: str, bench: Bench) -> Claims:
    images = load(name, bench.data_dir, {})
    about = partial(check, bench, f"dataset {name}")
    yield about("two parts of square uint8 images (faults)", 0, partial(dataset_faults, images))
    if len(images.train) + len(images.held_out) <= MANY:
        again = partial(changes, images, name, bench)
        yield about("other images the next time (1 if so)", 0, again)


def dataset_faults(images: ImageSet) -> int:
    """ImageSet itself refuses parts that are not alike; its distribution, where known, must be of
    such images."""
    known = images.distribution
    if known is None:
        return 0
    counts = {len(known.means), len(known.variances), len(known.weights)}
    is_shaped = known.means.shape[1:] == images.train.shape[1:]
    return sum([not is_shaped, len(counts) != 1, not np.isclose(known.weights.sum(), 1)])


def changes(images: ImageSet, name: str, bench: Bench) -> bool:
    return load(name, bench.data_dir, {}).fingerprint != images.fingerprint
