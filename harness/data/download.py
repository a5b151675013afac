"""Downloads by other libraries, whose many ways to fail become one error."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import DataError

PATIENCE = 30  # seconds without a byte; the libraries themselves would wait for ever


@contextmanager
def download(what: str, remedy: str) -> Iterator[None]:
    """Do a download inside. Raises DataError, whatever was raised there, that ends in `remedy`."""
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    except Exception as error:  # no network, half a file, a full disk, a moved server
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{what} could not be downloaded ({reason}). {remedy}") from error
    finally:
        socket.setdefaulttimeout(patience)
