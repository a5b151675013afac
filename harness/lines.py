"""Lines of text that fit a terminal."""

from __future__ import annotations

import os
import re
import textwrap
from typing import IO

LEAST = 40  # columns: below that words are broken by the terminal
BEFORE_A_COLUMN = re.compile(r"(?<=\S)\s{2,}(?=\S)|^\s+(?=\S)")


def width_of(stream: IO[str]) -> int | None:
    """The columns of the terminal that a stream writes to, or what the environment's COLUMNS says;
    None for a pipe or a file, whose lines stay whole for the program that reads them."""
    if (told := os.environ.get("COLUMNS", "")).isdigit() and int(told) > 0:
        return max(LEAST, int(told))
    try:
        columns = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError, AttributeError):  # closed, or no file at all
        columns = 0
    return max(LEAST, columns) if columns else None


def fitted(text: str, width: int | None) -> str:
    """Text whose lines are at most so long, broken between words; what goes on stands under the
    column that it belongs to. Commands stay whole, to be copied."""
    if width is None:
        return text
    return "\n".join(_wrapped(line, width) for line in text.split("\n"))


def column_starts(line: str) -> list[int]:
    """Where the columns of a line begin: after its indentation, and after two spaces or more."""
    return [found.end() for found in BEFORE_A_COLUMN.finditer(line)]


def _wrapped(line: str, width: int) -> str:
    if len(line) <= width or line.lstrip().startswith("harness "):
        return line
    under = max((start for start in column_starts(line) if start <= 3 * width // 5), default=0)
    pieces = textwrap.wrap(
        line, width, subsequent_indent=" " * under, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(pieces)
