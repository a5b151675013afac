"""Code of other packages, kept from what it should not change for everybody."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from threading import Timer

# After which a person is told what is being waited for, and that it can be ended: importing torch
# alone takes some ten seconds where the disk is slow.
SLOW_SECONDS, VERY_SLOW_SECONDS = 15.0, 60.0


@contextmanager
def contained() -> Iterator[None]:
    """What the code prints goes to standard error, since standard output may be JSON. The working
    folder and torch's default type are put back: built-in parts would compute other numbers."""
    folder, before = "", _default_type()
    with suppress(OSError):  # it is gone
        folder = os.getcwd()
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if folder:
            os.chdir(folder)
        if (torch := sys.modules.get("torch")) and _default_type() != before:
            torch.set_default_dtype(before or torch.float32)


def _default_type() -> object:
    """None where torch has not been loaded yet."""
    found = getattr(sys.modules.get("torch"), "get_default_dtype", None)
    return found and found()


@contextmanager
def told_if_slow(what: str) -> Iterator[None]:
    """Say what is being loaded where that takes long, and later how to end it: an import may wait
    for anything."""
    log = logging.getLogger("harness").warning
    timers = [
        Timer(SLOW_SECONDS, log, ["loading %s ...", what]),
        Timer(VERY_SLOW_SECONDS, log, ["still loading %s; Ctrl-C ends it", what]),
    ]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
