"""The classes of images: nothing is trained on them, but they say what a data set holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self

import numpy as np
from numpy.typing import NDArray

from harness.errors import legible

Numbers = NDArray[np.int64]

# Folders of parts and not of classes, as other tools name them.
PARTS = frozenset({"test", "train", "training", "val", "valid", "validation"})


@dataclass(frozen=True, eq=False)
class Labels:
    """The class of each image of both parts, as a place in `names`."""

    names: tuple[str, ...]
    train: Numbers  # [N]
    held_out: Numbers  # [M]

    @classmethod
    def of(cls, train: Sequence[str], held_out: Sequence[str]) -> Self:
        """From the name of the class of each image."""
        names = sorted({*train, *held_out}, key=_in_order)
        places = {name: place for place, name in enumerate(names)}
        parts = (np.array([places[name] for name in part], np.int64) for part in (train, held_out))
        return cls(tuple(names), *parts)

    @property
    def counts(self) -> dict[str, int]:
        """How many images of both parts each class has."""
        both = np.concatenate([self.train, self.held_out])
        counts = np.bincount(both, minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names, counts, strict=True)}


def class_folders(names: Sequence[PurePosixPath]) -> list[str] | None:
    """The class of each of these images by the folder that it lies in, as torchvision's ImageFolder
    takes it: one level down, below folders that all share and below train or test. None where an
    image lies in none, and of a single class."""
    folders = [name.parts[:-1] for name in names]
    while folders and all(folders):
        first = {each[0] for each in folders}
        if len(first) > 1 and not {name.lower() for name in first} <= PARTS:
            return [legible(each[0], kept="") for each in folders]
        folders = [each[1:] for each in folders]
    return None


def _in_order(name: str) -> tuple[int, str]:
    """Numbers by their value, before words."""
    is_number = name.isascii() and name.isdigit() and len(name) < 10
    return (int(name), "") if is_number else (10**9, name)
