"""Downloads: whole or not at all, none where none is wanted, and one error for all that fails."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from harness.errors import DataError

PATIENCE = 30  # seconds without a byte; some libraries would wait for ever

_forbidden = ContextVar("downloads are forbidden", default=False)


class NotHereYet(DataError):
    """What would have to be downloaded first, where nothing may be; `remedy` says what belongs
    where without a network."""

    def __init__(self, message: object = "", remedy: str = ""):
        super().__init__(message)
        self.remedy = remedy


@contextmanager
def no_downloads() -> Iterator[None]:
    """Within, a download raises NotHereYet instead: a plan writes nothing."""
    before = _forbidden.set(True)
    try:
        yield
    finally:
        _forbidden.reset(before)


def fetch(what: str, url: str, file: Path, remedy: str, sha256: str = "") -> Path:
    """The file, downloaded from `url` and of this checksum where one is published; raises what
    `download` raises."""
    with download(what, file.parent, remedy):
        import pooch

        pooch.get_logger().setLevel("WARNING")
        pooch.retrieve(
            url,
            f"sha256:{sha256}" if sha256 else None,
            file.name,
            file.parent,
            downloader=pooch.HTTPDownloader(timeout=PATIENCE),
        )
    return file


@contextmanager
def download(what: str, into: Path, remedy: str) -> Iterator[None]:
    """Do a download inside, by any library. Raises DataError, whatever was raised there, that ends
    in `remedy`; empty folders that it made in `into` are gone then."""
    if _forbidden.get():
        raise NotHereYet(f"{what} would be downloaded into {into} first", remedy)
    present = folders_in(into)
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    except Exception as error:  # no network, half a file, a full disk, a moved server
        for folder in sorted(folders_in(into) - present, reverse=True):  # those within others first
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
