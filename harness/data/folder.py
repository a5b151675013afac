"""A person's own images."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

from harness.data.contents import image_files
from harness.data.files import read_folder
from harness.data.images import ImageSet, data_set, split_by_content
from harness.data.prepare import Preparation
from harness.errors import DataError
from harness.registry import Between
from harness.work.reading import Background, OnBad


def files_of_folder(data_dir: Path, *, path: str, **options: object) -> list[Path]:
    """The files that the images come from. Raises DataError where they are not there."""
    return image_files(existing_path(path, data_dir))


@data_set(sources=files_of_folder)
def folder(
    data_dir: Path,
    *,
    path: str,
    image_size: Annotated[int, Between(1, 4096)] = 64,
    held_out: Annotated[float, Between(0.001, 0.999)] = 0.2,
    flip: bool = False,
    grey: bool = False,
    background: Background = "white",
    on_bad: OnBad = "refuse",
) -> ImageSet:
    """A folder or zip of images of any size: the centre square of each, resized.

    A relative `path` is looked for from the working directory, then in the data folder.
    `held_out` is the share of images that is never trained on. What is transparent is composed on
    `background`. A file that cannot be read is left out where `on_bad` is skip. Folders one level
    down are read as classes. Raises DataError where the images cannot be read or are fewer than
    two.
    """
    how = Preparation(image_size, grey, background)
    found = read_folder(existing_path(path, data_dir), how, on_bad=on_bad)
    images = found.images
    count = min(max(1, round(held_out * len(images))), len(images) - 1)
    return split_by_content(
        "folder", images, count, flip=flip, notes=found.reading.sentences(), classes=found.classes,
        digests=found.digests, reading=found.reading,
    )  # fmt: skip


def existing_path(path: str, data_dir: Path, what: str = "folder or zip of images") -> Path:
    """Where a path that a person wrote is. Raises DataError, naming the places, if nowhere."""
    given = Path(path)
    with suppress(RuntimeError):  # `~somebody` whom this machine does not know
        given = given.expanduser()
    places = list(dict.fromkeys([given, data_dir / given]))  # one, where the path is absolute
    for place in places:
        with suppress(OSError, ValueError):  # too long a name, or none that a file can have
            if path and place.exists():
                return place
    raise DataError(
        f"'{path}' does not exist: neither {' nor '.join(map(str, places))}. "
        f"Give the {what} as 'path'."
    )
