"""What every extractor must satisfy: features of each image alone, and a name for them."""

from __future__ import annotations

import re
from functools import partial

import numpy as np

from harness.contracts.check import Bench, CannotCheck, Claims, check, refuses
from harness.errors import DataError, Fault
from harness.metrics.features import EXTRACTORS, Classifier, Extractor, Images, has_logits

KINDS = ((1, 8), (3, 32), (3, 64), (1, 28), (1, 32))  # channels and side: the first that suits


def of_extractor(name: str, bench: Bench) -> Claims:
    extract = EXTRACTORS[name](bench.data_dir, str(bench.device))
    images = suitable(extract)
    about = partial(check, bench, f"extractor {name}")
    yield about(
        "features [N, d] float64 (not finite)", 0, partial(features_misshapen, extract, images)
    )
    yield about("one batch or several (difference)", 1e-4, partial(batches_apart, extract, images))
    floats = partial(refuses, ValueError, extract, images / 255)
    yield about("refuses floats from 0 to 1 (1 if so)", 0, floats, 1.0)
    yield about("has a label and a fingerprint (faults)", 0, partial(nameless, extract))
    if has_logits(extract):
        logits = partial(logit_faults, extract, images)
        yield about("logits [N, classes] of its features (faults)", 0, logits)


def suitable(extract: Extractor) -> Images:
    """Five images of the first kind that the extractor takes."""
    for channels, side in KINDS:
        if not refuses(DataError, extract.check, channels, side):
            shape = (5, channels, side, side)
            return np.random.default_rng(4).integers(0, 256, shape, dtype=np.uint8)
    raise CannotCheck("it takes none of the images that are tried")


def features_misshapen(extract: Extractor, images: Images) -> int:
    found: object = extract(images)
    if not isinstance(found, np.ndarray):
        raise Fault(f"gives no array, but {found!r:.60}")
    if found.dtype != np.float64 or found.ndim != 2 or len(found) != len(images):
        raise Fault(f"gives {found.dtype} {list(found.shape)} for {len(images)} images")
    return int((~np.isfinite(found)).sum())


def batches_apart(extract: Extractor, images: Images) -> float:
    whole = extract(images)
    return float(np.abs(whole - extract(images, batch_size=2)).max() / np.abs(whole).max())


def nameless(extract: Extractor) -> int:
    label: object = extract.label
    is_named = isinstance(label, str) and bool(label)
    return sum([not is_named, not re.fullmatch("[0-9a-f]{64}", str(extract.fingerprint))])


def logit_faults(extract: Classifier, images: Images) -> int:
    logits, again = extract.logits(images), extract.logits_from(extract(images))
    is_shaped = logits.shape == (len(images), extract.classes)
    return sum([not is_shaped, not np.allclose(logits, again, rtol=1e-4)])
