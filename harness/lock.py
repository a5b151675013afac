"""One process drives a store at a time, also where several machines see the same folder.

    lock        locked by the system, which lets go of it when the process ends
    lock.json   who holds it; touched every few seconds, and removed at the end

The system's locks do not hold between the machines of every network file system. There the note
tells: while a run goes on its time changes, whatever any clock says.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from harness.errors import StoreError

BEAT_SECONDS = 4.0  # between two signs of life
WATCH_SECONDS = 5 * BEAT_SECONDS  # without one, after which a run elsewhere counts as dead
UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the lock of this folder. Raises StoreError, saying who holds it, where that is another
    process."""
    note = root / "lock.json"
    try:
        lock = acquired(root)
    except Timeout as error:
        raise in_use(root, holder_of(note), error.lock_file) from None
    except OSError as error:
        raise StoreError(
            f"the lock {error.filename or root / 'lock'} cannot be taken ({error.strerror}). "
            "Remove it if no run of yours goes on there, or use another --store."
        ) from None
    try:
        holder = holder_of(note)
        if holder.get("host", platform.node()) != platform.node() and is_alive(note, holder):
            raise in_use(root, holder)
        with signs_of_life(note):
            yield
    finally:
        lock.release()


def acquired(root: Path) -> BaseFileLock:
    """The system's lock; on file systems that know none, a file that names its process. Raises
    Timeout where another process has it."""
    lock: BaseFileLock = FileLock(root / "lock", timeout=0)
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # it does the same
            lock.acquire()
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in UNSUPPORTED:
            raise
        lock = SoftFileLock(root / "lock.process", timeout=0)
        lock.acquire()
    return lock


def holder_of(note: Path) -> dict[str, Any]:
    """What a run said of itself; empty where there is no note or half of one."""
    with suppress(OSError, ValueError):
        found = json.loads(note.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def in_use(root: Path, holder: Mapping[str, Any], lock: str = "") -> StoreError:
    is_here = holder.get("host", platform.node()) == platform.node()
    where = "" if is_here else f" on {holder['host']}"
    gone = f" If that machine is gone, remove {lock}." if lock and not is_here else ""
    return StoreError(
        f"the store {root} is in use by process {holder.get('process', 'unknown')}{where} "
        f"({holder.get('command', 'another run')}). Wait for it, or use another --store.{gone}"
    )


def is_alive(note: Path, holder: Mapping[str, Any]) -> bool:
    """Whether the run of another machine that left this note goes on: whether the note changes."""
    logging.getLogger("harness").warning(
        "process %s on %s has not said that it ended: waiting %.0f s for a sign of it",
        holder.get("process"), holder["host"], WATCH_SECONDS,
    )  # fmt: skip
    before, until = changed(note), time.monotonic() + WATCH_SECONDS
    while time.monotonic() < until:
        time.sleep(min(1.0, WATCH_SECONDS / 10))
        if changed(note) not in (None, before):
            return True
    return False


def changed(note: Path) -> int | None:
    """When a note was last touched, by the clock of its disk."""
    with suppress(OSError), note.open("rb") as opened:  # opened: asks a server for what is new
        return os.fstat(opened.fileno()).st_mtime_ns
    return None


@contextmanager
def signs_of_life(note: Path) -> Iterator[None]:
    """Keep a note of this process, touched again and again, until the end."""
    me = psutil.Process()
    command = " ".join(me.cmdline()[1:])[-200:]
    text = json.dumps({"process": me.pid, "host": platform.node(), "command": command})
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(BEAT_SECONDS):
            with suppress(OSError):
                os.utime(note)  # no rewriting: another machine would meet half a note

    beating = threading.Thread(target=beat, daemon=True)
    try:
        with suppress(OSError):  # on a full disk, say: it only tells others
            note.write_text(text, encoding="utf-8")
        beating.start()
        yield
    finally:
        is_over.set()
        if beating.is_alive():
            beating.join()
        with suppress(OSError):
            note.unlink(missing_ok=True)
