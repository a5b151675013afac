"""Images out of a folder or a zip, all brought to one size, and what became of each file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from harness.data.contents import files, printable, stray_names
from harness.data.formats import is_hidden, is_image, readable_suffixes
from harness.data.images import Images
from harness.data.labels import class_folders
from harness.data.prepare import Preparation, Prepared, Unusable, prepared
from harness.errors import DataError
from harness.work.reading import (
    ALTERATIONS,
    MOST_SUFFIXES,
    NO_SUFFIX,
    OTHERS,
    Alteration,
    Files,
    Measures,
    OnBad,
    Reading,
)

Tell = Callable[[int, int], None]  # how many files of how many are read

_tell: ContextVar[Tell | None] = ContextVar("who is told how far reading is", default=None)


@contextmanager
def telling(tell: Tell) -> Iterator[None]:
    """Within, `tell` is called as image files are read, of which thousands take minutes."""
    before = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(before)


@dataclass(frozen=True, eq=False)
class FolderImages:
    """The images of a folder or zip, in the order of their names."""

    images: Images  # [N, C, size, size]
    names: list[PurePosixPath]  # of their files, within the folder or zip
    digests: list[str]  # sha256 of the pixels of each
    reading: Reading

    @property
    def classes(self) -> list[str] | None:
        """The class of each, where they lie in folders of their class."""
        return class_folders(self.names)


def read_images(path: Path, size: int, *, grey: bool = False, part: str = "") -> Images:
    """Every image below a folder or in a zip, in the order of their names; [N, C, size, size].

    Of each, the square in its centre, resized with antialiasing; what is transparent is composed
    on white. `part` takes only those in a folder of that name. Raises DataError, naming the file,
    where one cannot be read or where there is none.
    """
    return read_folder(path, Preparation(size, grey), part=part).images


def read_folder(
    path: Path, how: Preparation, *, on_bad: OnBad | None = None, part: str = ""
) -> FolderImages:
    """The images as `read_images` gives them, with their classes and what became of each file.
    Hidden files are no images and not counted. A file that cannot be used is left out where
    `on_bad` is skip, else it raises DataError, which says so where a person chose; so does a folder
    without an image."""
    tally = Tally(how)
    with files(path) as readers:
        names = sorted(
            name
            for name in readers
            if not is_hidden(name) and (not part or part in name.parts[:-1])
        )
        for name in names:
            if not is_image(name):
                tally.skip(name)
        chosen = [name for name in names if is_image(name)]
        for number, name in enumerate(chosen):
            if tell := _tell.get():
                tell(number, len(chosen))
            try:
                tally.add(name, prepared(read(readers[name]), how))
            except Unusable as error:
                if on_bad != "skip":
                    told = printable(f"{name} in {path}")
                    skip = " Or use on_bad: skip to leave such files out." if on_bad else ""
                    raise DataError(
                        f"the image {told} cannot be used ({error.why}). {error.use}{skip}"
                    ) from error
                tally.leave_out(name, error.why)
        if tell := _tell.get():
            tell(len(chosen), len(chosen))
    reading = tally.reading(stray_names(path))
    if not tally.images:
        raise DataError(_nothing_in(f"a folder '{part}' of {path}" if part else str(path), reading))
    return FolderImages(np.stack(tally.images), tally.names, tally.digests, reading)


def read(reader: Callable[[], bytes]) -> bytes:
    """The content of a file. Raises Unusable."""
    try:
        return reader()
    except Exception as error:  # a damaged zip fails in zipfile, in zlib, or as a RuntimeError
        raise Unusable(f"it cannot be read: {error}", "Copy or pack it once more.") from error


@dataclass
class Tally:
    """What became of the files so far."""

    how: Preparation
    images: list[Images] = field(default_factory=list)
    names: list[PurePosixPath] = field(default_factory=list)  # of the images
    digests: list[str] = field(default_factory=list)
    _first: dict[str, PurePosixPath] = field(default_factory=dict)  # by digest
    _skipped: dict[str, list[PurePosixPath]] = field(default_factory=dict)
    _bad: list[tuple[PurePosixPath, str]] = field(default_factory=list)
    _altered: Counter[Alteration] = field(default_factory=Counter)
    # Of each alteration the image that shows it best, and how well.
    _shows: dict[Alteration, tuple[float, PurePosixPath]] = field(default_factory=dict)
    _sizes: list[tuple[int, int]] = field(default_factory=list)
    _copies: list[str] = field(default_factory=list)
    _grey: int = 0

    def skip(self, name: PurePosixPath) -> None:
        """Note a file that is no image by its suffix."""
        suffix = printable(name.suffix.lower()) or NO_SUFFIX
        self._skipped.setdefault(suffix, []).append(name)

    def leave_out(self, name: PurePosixPath, why: str) -> None:
        """Note an image that is not used, and why."""
        self._bad.append((name, why))

    def add(self, name: PurePosixPath, image: Prepared) -> None:
        """Take an image, and note whether another has the same pixels."""
        digest = hashlib.sha256(image.pixels.tobytes()).hexdigest()
        if digest in self._first:
            self._copies.append(f"{name}, as {self._first[digest]}")
        self._first.setdefault(digest, name)
        self.images.append(image.pixels)
        self.names.append(name)
        self.digests.append(digest)
        self._sizes.append((image.width, image.height))
        self._grey += image.is_grey
        self._altered.update(image.altered)
        short, long = sorted((image.width, image.height))
        weights: dict[Alteration, float] = {"cropped": long / short, "enlarged": 1 / short}
        for kind in image.altered:
            weight = weights.get(kind, 0.0)
            if kind not in self._shows or weight > self._shows[kind][0]:
                self._shows[kind] = weight, name

    def reading(self, stray: Files) -> Reading:
        """What became of all files."""
        ordered = sorted(self._skipped.items(), key=lambda item: (-len(item[1]), item[0]))
        skipped = {suffix: _files(names) for suffix, names in ordered[:MOST_SUFFIXES]}
        if rest := [name for _, names in ordered[MOST_SUFFIXES:] for name in names]:
            skipped[OTHERS] = _files(rest)
        skips = sum(files.count for files in skipped.values())
        bad = self._bad
        return Reading(
            used=len(self.images),
            side=self.how.size,
            found=len(self.images) + skips + len(bad),
            skipped=skipped,
            stray=stray,
            unreadable=Files(len(bad), printable(bad[0][0]), printable(bad[0][1]))
            if bad
            else Files(),
            altered={
                kind: Files(self._altered[kind], printable(self._shows[kind][1]))
                for kind in ALTERATIONS
                if kind in self._shows
            },
            duplicates=_files(self._copies),
            grey=self._grey,
            is_grey=self.how.grey,
            background=self.how.background,
            smallest=self._extreme(min),
            largest=self._extreme(max),
        )

    def _extreme(self, of: Callable[..., int]) -> Measures | None:
        """The smallest or largest image, by its shorter side."""
        if not self._sizes:
            return None
        place = of(range(len(self._sizes)), key=lambda n: (min(self._sizes[n]), self._sizes[n]))
        return Measures(*self._sizes[place], printable(self.names[place]))


def _files(names: list[PurePosixPath] | list[str]) -> Files:
    return Files(len(names), printable(names[0])) if names else Files()


def _nothing_in(where: str, reading: Reading) -> str:
    """What to do about a folder without an image."""
    told = "".join(f" {remark.sentence.rstrip('.')}." for remark in reading.remarks())
    suffixes = ", ".join(sorted(readable_suffixes()))
    return f"no image in {where}.{told} Use files that end in {suffixes}."
