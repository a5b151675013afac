"""Downloads by other libraries: their many ways to fail become one error, and none may be made
where none is wanted."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from harness.errors import DataError

PATIENCE = 30  # seconds without a byte; the libraries themselves would wait for ever

_forbidden = ContextVar("downloads are forbidden", default=False)


class NotHereYet(DataError):
    """What would have to be downloaded first, where nothing may be."""


@contextmanager
def no_downloads() -> Iterator[None]:
    """Within, a download raises NotHereYet instead: a plan writes nothing."""
    before = _forbidden.set(True)
    try:
        yield
    finally:
        _forbidden.reset(before)


@contextmanager
def download(what: str, into: Path, remedy: str) -> Iterator[None]:
    """Do a download inside. Raises DataError, whatever was raised there, that ends in `remedy`;
    empty folders that it made in `into` are gone then."""
    if _forbidden.get():
        raise NotHereYet(f"{what} would be downloaded into {into} first")
    there = folders_in(into)
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    except Exception as error:  # no network, half a file, a full disk, a moved server
        for folder in folders_in(into) - there:
            remove_empty(folder)
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{what} could not be downloaded ({reason}). {remedy}") from error
    finally:
        socket.setdefaulttimeout(patience)


def folders_in(folder: Path) -> set[Path]:
    """The folder itself and those directly in it, as far as they exist."""
    if not folder.is_dir():
        return set()
    return {folder, *(path for path in folder.iterdir() if path.is_dir())}


def remove_empty(folder: Path) -> None:
    """Remove a folder that holds nothing but folders that hold nothing."""
    for path in folder.iterdir():
        if path.is_dir():
            remove_empty(path)
    if not any(folder.iterdir()):
        folder.rmdir()
