"""Images out of a folder or a zip, all brought to one size."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from harness.data.images import Images
from harness.errors import DataError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff",
                      ".webp"})  # fmt: skip


def read_images(path: Path, size: int, *, grey: bool = False, part: str = "") -> Images:
    """Every image below a folder or in a zip, in the order of their names; [N, C, size, size].

    Of each, the square in its centre, resized with antialiasing. `part` takes only those in a
    folder of that name. Hidden files and all that has no image's suffix are passed over.
    Raises DataError, naming the file, where one cannot be read or where there is none.
    """
    images = []
    with files(path) as readers:
        for name in sorted(readers):
            if is_image(name) and (not part or part in name.parts[:-1]):
                content = read(readers[name], f"{name} in {path}")
                images.append(as_square(content, f"{name} in {path}", size, grey))
    if not images:
        where = f"a folder '{part}' of {path}" if part else str(path)
        raise DataError(
            f"no image in {where}. Files that end in {', '.join(sorted(SUFFIXES))} are read."
        )
    return np.stack(images)


@contextmanager
def files(path: Path) -> Iterator[dict[PurePosixPath, Callable[[], bytes]]]:
    """The files below a folder or in a zip: the name of each, and how to read it."""
    if path.is_dir():
        below = (file for file in path.rglob("*") if file.is_file())
        yield {PurePosixPath(file.relative_to(path).as_posix()): file.read_bytes for file in below}
        return
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is neither a folder nor a zip that can be read ({error}). A download or copy "
            "of it may have been cut short: get it once more."
        ) from error
    with archive:
        members = (member for member in archive.infolist() if not member.is_dir())
        yield {PurePosixPath(member.filename): partial(archive.read, member) for member in members}


def is_image(name: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.parts)
    return name.suffix.lower() in SUFFIXES and not hidden


def read(reader: Callable[[], bytes], name: str) -> bytes:
    try:
        return reader()
    except Exception as error:  # a damaged zip fails in zipfile, in zlib, or as a RuntimeError
        raise DataError(f"{name} cannot be read ({error}). Copy or pack it once more.") from error


def as_square(content: bytes, name: str, size: int, grey: bool) -> Images:
    """The centre square of an image file, [C, size, size]."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            if opened.mode.startswith(("I", "F")):  # Pillow would clip these to white
                raise ValueError(f"its pixels have more than 8 bits, mode {opened.mode}")
            image = ImageOps.exif_transpose(opened).convert("L" if grey else "RGB")
    except Exception as error:  # Pillow answers a damaged file with almost any exception
        why = "it is no image, or damaged" if "BytesIO" in str(error) else error
        raise DataError(
            f"the image {name} cannot be used ({why}). Replace it by an 8-bit image, "
            "or take it out."
        ) from error
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    pixels = np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))
    return pixels[None] if grey else pixels.transpose(2, 0, 1)
