"""What work takes in beside its own fields: images and extractors, loaded once in a process.

A training names the fingerprint of its images and a cell that of its extractor's weights, where
they have been looked at; other images or weights under the same name are refused.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from harness.data.datasets import DATASETS
from harness.data.images import ImageSet
from harness.errors import DataError
from harness.execute import machine
from harness.metrics.features import EXTRACTORS, Classifier, Extractor, has_logits
from harness.work.cells import Cell, Part, Training
from harness.work.options import Workplace


def image_set(data_dir: Path, part: Part, is_fresh: bool = False) -> ImageSet:
    """A data set, from memory where it is there unless it is to be looked at anew."""
    if is_fresh:
        _image_set.cache_clear()
    return _image_set(data_dir, part)


@lru_cache(maxsize=4)
def _image_set(data_dir: Path, part: Part) -> ImageSet:
    images: ImageSet = DATASETS[part.name](data_dir, **part.keywords)
    return images


def images_of(training: Training, at: Workplace) -> ImageSet:
    """The images of a training. Raises DataError where they are not those that it names."""
    images = image_set(at.data_dir, training.data)
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
    made: Extractor = EXTRACTORS[part.name](data_dir, device, **part.keywords)
    if fingerprint not in ("", made.fingerprint):
        raise DataError(
            f"the weights of the extractor '{part}' are not those that its cells name: they "
            "changed. Use the same command again, or give the changed weights a file of their own."
        )
    return made


def extractor_of(cell: Cell, at: Workplace) -> Extractor:
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
