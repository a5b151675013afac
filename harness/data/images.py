"""A set of images in memory, in two parts: one to train on and one held out.

Images are uint8 from 0 to 255, [N, channels, side, side]: what a PNG holds is what is compared.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.data.labels import Labels
from harness.errors import BadOption, DataError, suggestion
from harness.registry.signature import shown
from harness.work.reading import Reading

Images = NDArray[np.uint8]
Load = TypeVar("Load", bound=Callable[..., "ImageSet"])

REFERENCES = ["train", "held_out", "all"]
PIXEL_CHUNK = 256  # images in float64 at a time
MIRRORED = frozenset({"cifar10", "flowers102"})  # of which a mirrored image is one of the kind


@dataclass(frozen=True, eq=False)
class Distribution:
    """The distribution that images were drawn from, in -1..1: a mixture of isotropic Gaussians of
    these means, variances and weights."""

    means: NDArray[np.float64]  # [K, C, H, W]
    variances: NDArray[np.float64]  # [K]
    weights: NDArray[np.float64]  # [K]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Square images of one size. Raises DataError where the two parts are not that."""

    name: str
    train: Images  # [N, C, H, W]
    held_out: Images  # [M, C, H, W]
    flip: bool = False  # whether a mirrored image is another image of the same kind
    distribution: Distribution | None = None  # where it is known; else that of the images
    notes: tuple[str, ...] = ()  # which files were skipped or altered, in sentences
    labels: Labels | None = None  # where the images have classes
    reading: Reading | None = None  # where they were read from files of a person's own

    def __post_init__(self) -> None:
        self._check_types()
        self._check_labels()
        for part, images in [("train", self.train), ("held_out", self.held_out)]:
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != images.shape[3]:
                raise DataError(
                    f"data set '{self.name}': {part} must be uint8 [images, channels, side, side], "
                    f"not {images.dtype} of shape {images.shape}. Use square images of bytes."
                )
            if images.size == 0:
                raise DataError(
                    f"data set '{self.name}': no image is left for the part '{part}': both parts "
                    "need one. Use more images that differ, or change how many are held out."
                )
        if self.train.shape[1:] != self.held_out.shape[1:]:
            raise DataError(
                f"data set '{self.name}': training images are {self.train.shape[1:]} and held-out "
                f"images {self.held_out.shape[1:]} (channels, height, width): they must be alike. "
                "Use images of one size."
            )

    def _check_types(self) -> None:
        """Raises DataError where a field is not what it says: a package may give anything."""
        is_masked = any(isinstance(each, np.ma.MaskedArray) for each in (self.train, self.held_out))
        wanted: dict[str, type | tuple[type, ...]] = {
            "name": str, "train": np.ndarray, "held_out": np.ndarray, "flip": bool,
            "distribution": (Distribution, NoneType), "notes": tuple,
            "labels": (Labels, NoneType), "reading": (Reading, NoneType),
        }  # fmt: skip
        wrong = [name for name, kind in wanted.items() if not isinstance(getattr(self, name), kind)]
        if wrong or is_masked:
            name = wrong[0] if wrong else "train"
            raise DataError(
                f"data set '{self.name}': {name} cannot be {shown(getattr(self, name))}. Use two "
                "arrays of images (not masked), flip: bool, and notes: a tuple of texts."
            )

    def _check_labels(self) -> None:
        """Raises DataError where the images have not one class each."""
        if self.labels is None:
            return
        names = self.labels.names
        for part in ("train", "held_out"):
            images, found = getattr(self, part), getattr(self.labels, part)
            is_whole = isinstance(found, np.ndarray) and found.dtype.kind == "i"
            is_of_each = is_whole and found.shape == images.shape[:1]
            if not is_of_each or not np.isin(found, range(len(names))).all():
                raise DataError(
                    f"data set '{self.name}': the labels of {part} must be whole numbers from 0 to "
                    f"{len(names) - 1}, one for each of its {len(images)} images. Use "
                    "Labels.of(names of the classes of train, and of held_out)."
                )

    @property
    def as_read(self) -> Reading:
        """How many images there are, of which classes, and what became of their files."""
        return replace(
            self.reading or Reading(),
            used=len(self.train) + len(self.held_out),
            side=self.size,
            classes=self.labels.counts if self.labels else {},
        )

    @property
    def channels(self) -> int:
        """Channels of an image: 1 where it is grey, 3 in colour."""
        return int(self.train.shape[1])

    @property
    def size(self) -> int:
        """Pixels along a side."""
        return int(self.train.shape[2])

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the pixels of both parts, in their order; hexadecimal. Labels are not in it,
        as nothing is trained on them."""
        digest = hashlib.sha256()
        for images in (self.train, self.held_out):
            digest.update(repr(images.shape).encode())
            digest.update(np.ascontiguousarray(images).data)
        return digest.hexdigest()

    def as_npz(self) -> bytes:
        """The set as one file, to be sent to another machine; `from_npz` reads it back."""
        arrays: dict[str, Any] = {"train": self.train, "held_out": self.held_out, "name": self.name,
                  "flip": self.flip, "notes": np.array(self.notes, dtype=str)}  # fmt: skip
        if self.distribution is not None:
            arrays |= vars(self.distribution)
        if self.labels is not None:
            arrays |= {"classes": np.array(self.labels.names, dtype=str),
                       "train_labels": self.labels.train,
                       "held_out_labels": self.labels.held_out}  # fmt: skip
        if self.reading is not None:
            arrays["reading"] = self.reading.to_json()
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **arrays)
        return file.getvalue()

    @classmethod
    def from_npz(cls, path: Path) -> Self:
        """The images that `as_npz` wrote, with what is known of them."""
        with np.load(path, allow_pickle=False) as file:
            known = [file[name] for name in ("means", "variances", "weights") if name in file]
            return cls(
                str(file["name"]), file["train"], file["held_out"], bool(file["flip"]),
                Distribution(*known) if known else None, tuple(map(str, file["notes"])),
                Labels(tuple(map(str, file["classes"])), file["train_labels"],
                       file["held_out_labels"]) if "classes" in file else None,
                Reading.from_json(str(file["reading"])) if "reading" in file else None,
            )  # fmt: skip

    def reference(self, which: str) -> Images:
        """The images to compare with: "train", "held_out" or "all". Raises BadOption."""
        if which == "all":
            return np.concatenate([self.train, self.held_out])
        if which not in REFERENCES:
            raise BadOption(f"unknown reference '{which}'.{suggestion(which, REFERENCES)}")
        return self.train if which == "train" else self.held_out


def in_parts(images: Images) -> Iterator[NDArray[np.float64]]:
    """The images in order, a few at a time: float64 [n, C, H, W] from 0 to 255."""
    for start in range(0, len(images), PIXEL_CHUNK):
        yield images[start : start + PIXEL_CHUNK].astype(np.float64)


def data_set(sources: Callable[..., Sequence[Path] | None]) -> Callable[[Load], Load]:
    """Give a data set's function the attribute `sources`. Called with the same arguments, it gives
    the files whose sizes and times tell whether the images may have changed: none for what is
    embedded, computed or not downloaded yet; None where that is unknown."""

    def mark(load: Load) -> Load:
        load.sources = sources  # type: ignore[attr-defined]
        return load

    return mark


def no_files(data_dir: Path, **options: object) -> list[Path]:
    """The sources of what is embedded or computed."""
    return []


def split_by_content(
    name: str,
    images: Images,
    held_out: int,
    *,
    flip: bool = False,
    notes: tuple[str, ...] = (),
    classes: Sequence[str] | None = None,
    digests: Sequence[str] | None = None,
    reading: Reading | None = None,
) -> ImageSet:
    """Hold out the `held_out` images whose pixels have the lowest sha256; images [N, C, H, W].

    So the parts and their order are fixed by the images alone, whatever the order of their files,
    and equal images are never on both sides: those that equal the last one held out go with it.
    `classes` names the class of each image, and `digests` its sha256 where that is known. Raises
    DataError where that leaves a part empty.
    """
    if digests is None:
        digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    order = np.argsort(np.array(digests), kind="stable")
    ranked = np.array(digests)[order]
    cut = int(np.searchsorted(ranked, ranked[held_out - 1], side="right")) if held_out else 0
    train, others = order[cut:], order[:cut]
    labels = None
    if classes is not None:
        labels = Labels.of([classes[i] for i in train], [classes[i] for i in others])
    return ImageSet(
        name, images[train], images[others], flip, notes=notes, labels=labels, reading=reading
    )
