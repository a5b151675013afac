"""What a page must not give away: where on a disk a file lies, and with it whose disk that is.

Every text of an experiment goes through here before anything is printed of it, so that tables,
figures, sentences and files agree on what a shortened path is called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from harness.work.cells import Work
from harness.work.results import Artifacts, Experiment

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

V = TypeVar("V")


def without_paths(experiment: Experiment) -> Experiment:
    """The same experiment with every absolute path cut down to its last parts: `…/data/x.npy`.
    Keys and addresses stay what they are.

    Two paths never become one text: what differs goes on differing, and is not averaged over.
    """
    names = _names(sorted({path for text in {*_texts(experiment)} for path in _paths(text)}))
    if not names:
        return experiment

    def shortened(text: str) -> str:
        return PATH.sub(lambda match: names.get(_path(match), match[0]), text)

    return replace(_changed(experiment, shortened), ui_url=experiment.ui_url)


def _texts(value: object) -> Iterator[str]:
    """All texts in a value; none of artifacts, whose names are the program's own."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in (*value.keys(), *value.values()):
            yield from _texts(each)
    elif isinstance(value, tuple):
        for each in value:
            yield from _texts(each)
    elif is_dataclass(value) and not isinstance(value, Artifacts):
        for each in fields(value):
            yield from _texts(getattr(value, each.name))


def _changed(value: V, shortened: Callable[[str], str]) -> V:
    """The value with every text changed: itself where none does."""
    old: Any = value
    new: Any = value
    if isinstance(old, str):
        new = shortened(old)
    elif isinstance(old, Mapping):
        new = {_changed(key, shortened): _changed(each, shortened) for key, each in old.items()}
    elif isinstance(old, tuple):
        new = tuple(_changed(each, shortened) for each in old)
    elif is_dataclass(old) and not isinstance(old, Artifacts | type):
        new = replace(
            old, **{each.name: _changed(getattr(old, each.name), shortened) for each in fields(old)}
        )
        if isinstance(old, Work):
            new.__dict__["key"] = old.key  # names the work as it was done, not as it is shown
    return new if new != old else value


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
