"""What a page must not give away: where on a disk a file lies, and with it whose disk that is.

Every text of the results goes through here before anything is printed of it, so that tables,
figures, sentences and files agree on what a shortened path is called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from harness.report.table import Results

START = r"(?:/+(?=[\w.])|[A-Za-z]:[\\/]+(?=\w)|\\\\(?=\w))"
PATH = re.compile(
    rf"""
    \b(?!file:|sqlite:)[A-Za-z][\w+.-]*://[^\s'"]+  # an address in the web, which stays
    | (?<=['"]) (?P<quoted> {START} [^'"\n]+ ) (?=['"])
    | (?<![^\s='"(\[{{:,|`]) (?P<bare> {START} [^\s'"<>|,;:()\[\]{{}}`]+ )
    """,
    re.VERBOSE,
)
SHORTENED = "…/"  # how a shortened path begins
KEPT = 2  # of the last parts of a path
HOMES = {"home", "users"}  # the part that follows is a person's name
IDENTIFIERS = {"key", "run_id", "training_key"}


def without_places(results: Results) -> Results:
    """The same results with every absolute path cut down to its last parts: `…/data/x.npy`.

    Two paths never become one text: what differs goes on differing, and is not averaged over.
    """
    names = _names(sorted({path for text in _texts(results) for path in _paths(text)}))
    if not names:
        return results

    def told(text: str) -> str:
        return PATH.sub(lambda match: names.get(_path(match), match[0]), text)

    return replace(
        results,
        cells=_told(results.cells, told),
        trainings=_told(results.trainings, told),
        failures=_told(results.failures, told),
        schedules={told(label): curve for label, curve in results.schedules.items()},
        left_out={told(reason): cells for reason, cells in results.left_out.items()},
        grid_text=told(results.grid_text),
    )


def _texts(results: Results) -> Iterator[str]:
    """All that is printed somewhere, each text of a column once."""
    yield results.grid_text
    yield from results.schedules
    yield from results.left_out
    for frame in (results.cells, results.trainings, results.failures):
        for column in frame:
            yield from _texts_of(frame[column])


def _texts_of(column: pd.Series[Any]) -> set[str]:
    """The different texts in a column that is not there to be looked up by."""
    is_wordy = column.dtype == object or isinstance(column.dtype, pd.StringDtype)
    if not is_wordy or column.name in IDENTIFIERS:
        return set()
    return {value for value in column if isinstance(value, str)}


def _told(frame: pd.DataFrame, told: Callable[[str], str]) -> pd.DataFrame:
    changed: dict[str, Any] = {}
    for column in frame:
        names = {text: told(text) for text in _texts_of(frame[column])}
        if any(text != name for text, name in names.items()):
            changed[str(column)] = [
                names[value] if isinstance(value, str) else value for value in frame[column]
            ]
    return frame.assign(**changed)


def _paths(text: str) -> Iterator[str]:
    """The absolute paths in a text."""
    if "/" in text or "\\" in text:
        yield from filter(None, map(_path, PATH.finditer(text)))


def _path(match: re.Match[str]) -> str:
    return match["quoted"] or match["bare"] or ""


def _names(paths: list[str]) -> dict[str, str]:
    """What each path is called, no two alike."""
    names: dict[str, str] = {}
    for path in paths:
        name, n = _short(path), 1
        while name in names.values():
            n += 1
            name = f"{_short(path)} ({n})"
        names[path] = name
    return names


def _short(path: str) -> str:
    parts = [part for part in re.split(r"[\\/]+", path) if part]
    if re.match(r"[A-Za-z]:|\\\\", path):
        del parts[0]  # a drive, or a machine
    for n, part in enumerate(parts):
        is_file = n + 2 == len(parts) and "." in parts[-1]
        if part.lower() in HOMES and not is_file:
            parts = parts[n + 2 :]
            break
    if parts[:1] == ["root"]:
        del parts[0]
    return SHORTENED + "/".join(parts[-KEPT:])
