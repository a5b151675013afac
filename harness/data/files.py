"""Images out of a folder or a zip, all brought to one size."""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from harness.data.images import Images
from harness.errors import DataError

SUFFIXES = frozenset({".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm",
                      ".tif", ".tiff", ".webp"})  # fmt: skip


def read_images(path: Path, size: int, *, grey: bool = False, part: str = "") -> Images:
    """Every image below a folder or in a zip, in the order of their names; [N, C, size, size].

    Of each, the square in its centre, resized with antialiasing; what is transparent is composed
    on white. `part` takes only those in a folder of that name. Raises DataError, naming the file,
    where one cannot be read or where there is none.
    """
    return images_and_notes(path, size, grey=grey, part=part)[0]


def images_and_notes(
    path: Path, size: int, *, grey: bool = False, part: str = ""
) -> tuple[Images, tuple[str, ...]]:
    """The images as `read_images` gives them, and what was left out of them or altered, in
    sentences. Hidden files are no images and not counted."""
    images, altered = [], Counter[str]()
    with files(path) as readers, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, and yet allowed
        names = sorted(name for name in readers if not part or part in name.parts[:-1])
        for name in filter(is_image, names):
            content = read(readers[name], f"{name} in {path}")
            images.append(as_square(content, f"{name} in {path}", size, grey, altered))
    if not images:
        where = f"a folder '{part}' of {path}" if part else str(path)
        raise DataError(
            f"no image in {where}. Use files that end in {', '.join(sorted(SUFFIXES))}."
        )
    changes = [f"{counted(number, 'image')} {change}" for change, number in altered.items()]
    return np.stack(images), (*skipped(names), *changes)


def skipped(names: Iterable[PurePosixPath]) -> list[str]:
    """How many files are no images by their names, as a sentence or none."""
    others = Counter(
        name.suffix.lower() or "no suffix"
        for name in names
        if not is_hidden(name) and not is_image(name)
    )
    if not others:
        return []
    return [f"{counted(others.total(), 'file')} skipped ({', '.join(sorted(others))})"]


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def image_files(path: Path) -> list[Path]:
    """The files that `read_images` reads: the images below a folder, else the zip itself."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in below(path) if is_image(PurePosixPath(file.relative_to(path))))


@contextmanager
def files(path: Path) -> Iterator[dict[PurePosixPath, Callable[[], bytes]]]:
    """The files below a folder or in a zip: the name of each, and how to read it."""
    if path.is_dir():
        found = below(path)
        yield {PurePosixPath(file.relative_to(path).as_posix()): file.read_bytes for file in found}
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


def below(folder: Path) -> Iterator[Path]:
    """All files of a folder and its sub-folders, each of which is entered once: links to folders
    are followed, and may lead back."""
    entered = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in entered:
            folders.clear()
            continue
        entered.add(real)
        folders.sort()
        yield from (file for name in names if (file := Path(place, name)).is_file())


def is_hidden(name: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.parts)


def is_image(name: PurePosixPath) -> bool:
    return name.suffix.lower() in SUFFIXES and not is_hidden(name)


def read(reader: Callable[[], bytes], name: str) -> bytes:
    try:
        return reader()
    except Exception as error:  # a damaged zip fails in zipfile, in zlib, or as a RuntimeError
        raise DataError(f"{name} cannot be read ({error}). Copy or pack it once more.") from error


def as_square(content: bytes, name: str, size: int, grey: bool, altered: Counter[str]) -> Images:
    """The centre square of an image file, [C, size, size]; counts what it had to alter."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            if opened.mode.startswith(("I", "F")):  # Pillow would clip these to white
                raise ValueError(f"its pixels have more than 8 bits, mode {opened.mode}")
            if getattr(opened, "is_animated", False):
                altered["of several frames, of which the first is taken"] += 1
            upright = on_white(ImageOps.exif_transpose(opened), altered)
            image = upright.convert("L" if grey else "RGB")
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise DataError(
            f"the image {name} has more than {most:,} pixels. Use a smaller copy of it, or take "
            "it out."
        ) from error
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


def on_white(image: Image.Image, altered: Counter[str]) -> Image.Image:
    """An image with its transparent parts composed on white, instead of the colours that its file
    hides there."""
    if not image.has_transparency_data:
        return image
    colours = image.convert("RGBA")
    if colours.getchannel("A").getextrema() == (255, 255):
        return image
    altered["with transparent parts, composed on white"] += 1
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours)
