"""Errors a person can act on. The command line prints their text and no traceback.

Every message says what is wrong, where, what was given, and ends in what to do: "Use X".
"""

import errno
import logging
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import TypeVar
from unicodedata import category

T = TypeVar("T")

LONGEST_LINE = 1_000  # letters of a message
MOST_LETTERS = 3_000  # of a list in a message
MOST_NAMES = 24  # that a message lists

# Of torch on a GPU, a processor and Windows, of its libraries, and of the operating system.
OUT_OF_MEMORY = re.compile(
    "OutOfMemoryError|out of memory|allocate memory|not enough memory|ALLOC_FAILED|bad_alloc"
    "|could not create a primitive$"
)


class HarnessError(Exception):
    """Something the user can fix. What its message quotes may be anybody's: it is made legible."""

    def __init__(self, message: object = ""):
        super().__init__("\n".join(map(shortened, legible(str(message)).split("\n"))))

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it: no traceback, as on the command line."""
        return [f"{type(self).__name__}: {self}"]


class UnknownName(HarnessError, ValueError):
    """A name that no registered part has."""


class BadOption(HarnessError, ValueError):
    """A part was given an option it does not have, or a value it cannot take."""


class PartFailed(HarnessError, ValueError):
    """A part of another package cannot be loaded or used."""


class GridError(HarnessError):
    """The grid file cannot be read or does not describe a benchmark."""


class DataError(HarnessError):
    """A data set is missing, broken, or does not fit what was asked of it."""


class MissingPackage(DataError):
    """A part needs an optional package that is not installed."""


class NotComparable(HarnessError):
    """Two values that are different quantities, or that nothing pairs."""


class NotDefined(HarnessError, ValueError):
    """A metric has no meaning for these images: there are too few of them, say."""


class StoreError(HarnessError):
    """The store cannot be written, is in use, or lacks what was asked of it."""


class DiskFull(StoreError):
    """There is no room for a file: nothing goes on until there is."""


class MachineError(HarnessError):
    """The device, memory or disk that was asked for is not there."""


class TrackingError(HarnessError):
    """The tracking server or its database cannot be used."""


class TrackerAway(TrackingError):
    """The tracking server or its database does not answer now, and may do so later."""


@cache
def say_once(text: str) -> None:
    """A line about trouble that stops nothing, told once by a process."""
    logging.getLogger("harness").warning("%s", legible(text))


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or the interruption of a notebook's kernel, once what was under way is saved."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class Ended(SystemExit):
    """A signal asks the program to end: no failure of whatever was at work when it came."""


class Fault(Exception):
    """What a part does against its contract: `gives no number, but None`."""


def reason_of(error: BaseException) -> str:
    """What went wrong, in one line: our own errors in their words, any other with its type."""
    try:
        told = " ".join(legible(str(error).replace("\n", " ")).split())
    except Exception:  # an error of another package need not even have a text
        told = ""
    if isinstance(error, HarnessError | Fault) and told:
        return told
    return f"{type(error).__name__}: {told}".removesuffix(": ")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says, in the words of whichever library, that memory ran out."""
    if isinstance(error, HarnessError | Fault):
        return False
    is_said = bool(OUT_OF_MEMORY.search(reason_of(error)))
    return is_said or isinstance(error, MemoryError) or getattr(error, "errno", 0) == errno.ENOMEM


def installing(*packages: str) -> str:
    """The command that puts these packages beside this program, whose environment need not be the
    one in use. They are named themselves: an extra of ours would be looked up under our name, which
    in an index may be somebody else's."""
    python = Path(sys.executable or "python")
    with suppress(OSError, ValueError):  # ValueError: it is not below the working folder
        python = python.relative_to(Path.cwd())
    told = f'"{python}"' if " " in str(python) else str(python)
    if find_spec("pip"):
        return f"{told} -m pip install {' '.join(packages)}"
    return f"uv pip install --python {told} {' '.join(packages)}"


def suggestion(name: str, known: list[str]) -> str:
    """How an error about an unknown name ends."""
    return f"{guess(name, known)} Available: {', '.join(at_most(known, MOST_NAMES))}."


def guess(name: str, known: list[str]) -> str:
    """The known name that an unknown one is most like, as a question; empty where none is."""
    close = get_close_matches(str(name)[:LONGEST_LINE], known, n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def at_most(items: Sequence[T], most: int, in_words: Callable[[T], str] = str) -> list[str]:
    """As many items as a person reads, in words, and how many more there are."""
    told = [in_words(item) for item in items[:most]]
    fits = sum(size <= MOST_LETTERS for size in accumulate(map(len, told)))
    told = told[: max(1, fits)]
    more = len(items) - len(told)
    return [*told, f"... and {more:,} more"] if more else told


def legible(text: str, kept: str = "\n") -> str:
    """Text in which what a terminal would obey, or not show, is written out: `\\x1b`."""
    if text.isprintable():
        return text
    shown = (
        each if each.isprintable() or each in kept or category(each) == "Zs" else ascii(each)[1:-1]
        for each in text
    )
    return "".join(shown)


def shortened(line: str, longest: int = LONGEST_LINE) -> str:
    """A line whose middle is left out where it is too long to be read."""
    if len(line) <= longest:
        return line
    half = longest // 2
    return f"{line[:half]} ... {line[-half + 5 :]}"
