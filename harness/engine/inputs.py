"""What work takes in beside its own fields: images and extractors, loaded once in a process.

A training names the fingerprint of its images and a cell that of its extractor's weights, where
they have been looked at; other images or weights under the same name are refused.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from harness.data.datasets import load
from harness.data.images import Images, ImageSet
from harness.errors import DataError, Fault
from harness.execute import machine
from harness.metrics.features import EXTRACTORS, Classifier, Extractor, Features, has_logits
from harness.registry.signature import shown
from harness.store import Store
from harness.work.cells import Cell, Part, Training
from harness.work.options import Workplace


def image_set(data_dir: Path, part: Part, is_fresh: bool = False) -> ImageSet:
    """A data set, from memory where it is there unless it is to be looked at anew."""
    if is_fresh:
        _image_set.cache_clear()
    return _image_set(data_dir, part)


@lru_cache(maxsize=4)
def _image_set(data_dir: Path, part: Part) -> ImageSet:
    return load(part.name, data_dir, part.keywords)


@lru_cache(maxsize=2)
def _sent_images(path: Path) -> ImageSet:
    return ImageSet.from_npz(path)


def images_of(training: Training, at: Workplace) -> ImageSet:
    """The images of a training: those that were sent here from another machine, else those of this
    one. Raises DataError where they are not those that it names."""
    sent = Store(at.store).images(training.data_fingerprint)
    images = _sent_images(sent) if sent.exists() else image_set(at.data_dir, training.data)
    wanted = training.data_fingerprint or images.fingerprint
    if images.fingerprint != wanted:
        images = image_set(at.data_dir, training.data, is_fresh=True)
    if images.fingerprint != wanted:
        raise DataError(
            f"the images of '{training.data}' are not those that training {training.key} names: "
            "they changed. Use the same command again, or give the changed images a folder of "
            "their own."
        )
    return images


@lru_cache(maxsize=2)
def extractor(data_dir: Path, device: str, part: Part, fingerprint: str = "") -> Extractor:
    """An extractor, which loads its weights when it is first used. Raises DataError where they are
    not those of this fingerprint."""
    made = new_extractor(data_dir, device, part)
    if fingerprint not in ("", made.fingerprint):
        raise DataError(
            f"the weights of the extractor '{part}' are not those that its cells name: they "
            "changed. Use the same command again, or give the changed weights a file of their own."
        )
    return made


def new_extractor(data_dir: Path, device: str, part: Part) -> Extractor:
    """An extractor whose features are looked at as they come. Raises PartFailed where it is
    none."""
    made = EXTRACTORS.make(part.name, part.keywords, data_dir, device)
    with EXTRACTORS.blamed(part.name):
        for name in ("label", "fingerprint"):
            if not isinstance(found := getattr(made, name, None), str) or not found.isprintable():
                raise Fault(f"has no {name}, but {shown(found)}")
        if not callable(made) or not callable(getattr(made, "check", None)):
            raise Fault(f"is no Extractor, but {shown(made)}")
    return cast(Extractor, Checked(made, part.name))


class Checked:
    """An extractor whose features are looked at as they come."""

    def __init__(self, made: Extractor, name: str):
        self._made, self._name = made, name
        self._width: int | None = None  # of all features so far

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)

    def check(self, channels: int, size: int) -> None:
        """Raises DataError where images of this kind do not suit, and PartFailed where the
        extractor cannot say."""
        with EXTRACTORS.blamed(self._name, "cannot say whether it takes such images"):
            self._made.check(channels, size)

    def __call__(self, images: Images, *sizes: int, **options: int) -> Features:
        """Raises PartFailed where it gives anything but finite features [N, d]."""
        with EXTRACTORS.blamed(self._name):
            found: Any = self._made(images, *sizes, **options)
            if not isinstance(found, np.ndarray) or found.dtype not in (np.float64, np.float32):
                raise Fault(f"gives no float64 features, but {shown(found)}")
            width = self._width or found.shape[-1]
            if found.shape != (len(images), width) or not width:
                raise Fault(
                    f"gives features of shape {list(found.shape)} for {len(images)} images"
                    + (f", and had {width} an image before" if self._width else "")
                )
            if not np.isfinite(found).all():
                raise Fault("gives features that are not finite")
            self._width = width
        features: Features = found.astype(np.float64, copy=False)
        return features


def extractor_of(cell: Cell, at: Workplace) -> Extractor:
    """The extractor of a cell on the device of this workplace. Raises DataError where its weights
    are not those that the cell names."""
    device = str(machine.find_device(at.device))
    return extractor(at.data_dir, device, cell.extractor, cell.extractor_fingerprint)


def with_logits(extract: Extractor) -> Classifier:
    """The extractor, which must give logits. Raises DataError where it does not."""
    if not has_logits(extract):
        raise DataError(
            f"the extractor '{extract.label}' gives no logits, which the inception score needs. "
            "Use the extractor 'digits', or 'inception' at layer 2048."
        )
    return extract
