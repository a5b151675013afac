"""The files below a folder or in a zip: their names, and how to read each."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

from harness.data.formats import is_hidden, is_image
from harness.errors import DataError, legible
from harness.work.reading import Files

LARGEST_FILE = 2**30  # bytes; what it holds would be refused for its pixels


@contextmanager
def files(path: Path) -> Iterator[dict[PurePosixPath, Callable[[], bytes]]]:
    """The files below a folder or in a zip: the name of each, and how to read it. Raises DataError
    where it is neither."""
    if path.is_dir():
        found = below(path)
        yield {
            PurePosixPath(file.relative_to(path).as_posix()): partial(read_file, file)
            for file in found
        }
        return
    if path.is_file() and is_image(PurePosixPath(path.name)):
        raise DataError(f"{path} is a single image. Use the folder that it is in.")
    try:
        if not path.is_file():  # a pipe would be waited for
            raise OSError("it is no file")
        archive = zipfile.ZipFile(path)
    except Exception as error:  # a damaged zip is answered with almost any exception
        raise DataError(
            f"{path} is neither a folder nor a zip that can be read ({error}). Use a folder or "
            "zip of images; where it is a zip that was cut short, get it once more."
        ) from error
    with archive:
        members = (member for member in archive.infolist() if not member.is_dir())
        yield {
            PurePosixPath(member.filename): partial(read_member, archive, member)
            for member in members
        }


def stray_names(path: Path) -> Files:
    """The names below a folder that lead to nothing that can be read."""
    if not path.is_dir():
        return Files()
    every = (PurePosixPath(name.relative_to(path).as_posix()) for name in names_below(path)
             if not name.is_file())  # fmt: skip
    stray = [name for name in every if not is_hidden(name)]
    return Files(len(stray), printable(stray[0])) if stray else Files()


def image_files(path: Path) -> list[Path]:
    """The files that images are read from: those below a folder, else the zip itself."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in below(path) if is_image(PurePosixPath(file.relative_to(path))))


def printable(name: object) -> str:
    """The name of a file in one line, whatever characters it has."""
    return legible(str(name), kept="")


def read_file(file: Path) -> bytes:
    """The content of a file. Raises ValueError where it is too long for an image."""
    check_length(file.stat().st_size)
    return file.read_bytes()


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The content of a file in a zip. Raises ValueError where it is too long for an image."""
    check_length(member.file_size)  # no more than this is unpacked
    return archive.read(member)


def check_length(length: int) -> None:
    """Raises ValueError where so many bytes are no image."""
    if length > LARGEST_FILE:
        raise ValueError(f"it has {length:,} bytes, and more than {LARGEST_FILE:,} are no image")


def below(folder: Path) -> Iterator[Path]:
    """All files of a folder and its sub-folders."""
    return (name for name in names_below(folder) if name.is_file())


def names_below(folder: Path) -> Iterator[Path]:
    """All that is in a folder and its sub-folders, each of which is entered once: links to folders
    are followed, and may lead back. Raises DataError where a folder cannot be read."""

    def refuse(error: OSError) -> None:
        raise DataError(
            f"{error.filename} cannot be read ({error.strerror}). Make it readable, or take it out."
        )

    entered = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if (real := os.path.realpath(place)) in entered:
            folders.clear()
            continue
        entered.add(real)
        folders.sort()
        yield from (Path(place, name) for name in names)
