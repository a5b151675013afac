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
from harness.errors import DataError, at_most

SUFFIXES = frozenset({".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm",
                      ".tif", ".tiff", ".webp"})  # fmt: skip

LARGEST_FILE = 2**30  # bytes; what it holds would be refused for its pixels
MOST_SUFFIXES = 8  # that are named


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
    with files(path) as readers:
        names = sorted(name for name in readers if not part or part in name.parts[:-1])
        for name in filter(is_image, names):
            told = f"{name} in {path}".replace("\n", "\\n")
            images.append(as_square(read(readers[name], told), told, size, grey, altered))
    if not images:
        where = f"a folder '{part}' of {path}" if part else str(path)
        raise DataError(
            f"no image in {where}. Use files that end in {', '.join(sorted(SUFFIXES))}."
        )
    changes = [f"{counted(n, 'image')} {change}" for change, n in altered.items() if n]
    return np.stack(images), (*skipped(names), *no_files(path), *changes)


def skipped(names: Iterable[PurePosixPath]) -> list[str]:
    """How many files are no images by their names, as a sentence or none."""
    others = Counter(
        name.suffix.lower() or "no suffix"
        for name in names
        if not is_hidden(name) and not is_image(name)
    )
    if not others:
        return []
    suffixes = (suffix.replace("\n", "\\n") for suffix in sorted(others))
    told = ", ".join(at_most([*suffixes], MOST_SUFFIXES))
    return [f"{counted(others.total(), 'file')} skipped ({told})"]


def no_files(path: Path) -> list[str]:
    """How many names below a folder lead to nothing that can be read, as a sentence or none."""
    if not path.is_dir():
        return []
    stray = sum(
        not (file.is_file() or is_hidden(PurePosixPath(file.relative_to(path))))
        for file in names_below(path)
    )
    return [f"{counted(stray, 'name')} skipped (no file: a broken link, a pipe)"] if stray else []


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
        yield {
            PurePosixPath(file.relative_to(path).as_posix()): partial(read_file, file)
            for file in found
        }
        return
    try:
        if not path.is_file():  # a pipe would be waited for
            raise OSError("it is no file")
        archive = zipfile.ZipFile(path)
    except Exception as error:  # a damaged zip is answered with almost any exception
        raise DataError(
            f"{path} is neither a folder nor a zip that can be read ({error}). A download or copy "
            "of it may have been cut short. Get it once more."
        ) from error
    with archive:
        members = (member for member in archive.infolist() if not member.is_dir())
        yield {
            PurePosixPath(member.filename): partial(read_member, archive, member)
            for member in members
        }


def read_file(file: Path) -> bytes:
    check_length(file.stat().st_size)
    return file.read_bytes()


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    check_length(member.file_size)  # no more than this is unpacked
    return archive.read(member)


def check_length(length: int) -> None:
    if length > LARGEST_FILE:
        raise ValueError(f"it has {length:,} bytes, and more than {LARGEST_FILE:,} are no image")


def below(folder: Path) -> Iterator[Path]:
    """All files of a folder and its sub-folders."""
    return (name for name in names_below(folder) if name.is_file())


def names_below(folder: Path) -> Iterator[Path]:
    """All that is in a folder and its sub-folders, each of which is entered once: links to folders
    are followed, and may lead back. Raises DataError where a folder cannot be read."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}). Copy it once more.")

    entered = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if (real := os.path.realpath(place)) in entered:
            folders.clear()
            continue
        entered.add(real)
        folders.sort()
        yield from (Path(place, name) for name in names)


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
        with noticing_faults(altered), Image.open(io.BytesIO(content)) as opened:
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
        told = " ".join(str(error).split())
        why = "it is no image, or damaged" if "BytesIO" in told else told
        raise DataError(
            f"the image {name} cannot be used ({why}). Replace it by an 8-bit image, "
            "or take it out."
        ) from error
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    pixels = np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


@contextmanager
def noticing_faults(altered: Counter[str]) -> Iterator[None]:
    """Count an image whose reader warns that it passed over something, and say nothing of it."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, and yet allowed
        yield
    altered["with a fault in the file that was passed over"] += bool(warned)


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
