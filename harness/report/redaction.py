"""What a page must not give away: where on a disk a file lies, and with it whose disk that is.

Every text of an experiment goes through here before anything is printed of it, so that tables,
figures, sentences and files agree on what a shortened path is called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from harness.errors import legible
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
PARTS_KEPT = 2  # of the last parts of a path
HOMES = {"home", "users"}  # the part that follows is a person's name

V = TypeVar("V")


def shown(experiment: Experiment) -> Experiment:
    """The experiment as a page shows it: no path of a disk, and written out what would hide the
    text beside it or turn it round."""
    return _changed(without_paths(experiment), lambda text: legible(text, kept="\n\r\t"))


def without_paths(experiment: Experiment) -> Experiment:
    """The same experiment with every absolute path cut down to its last parts: `…/data/x.npy`.
    Keys and addresses stay what they are.

    Two paths never become one text: what differs goes on differing, and is not averaged over.
    """
    texts: dict[str, None] = {}
    _changed(experiment, lambda text: texts.setdefault(text) or text)
    # Most texts hold none, and a search of each takes seconds.
    some = [text for text in texts if "/" in text or "\\" in text]
    found = {_path_in(match) for text in some for match in PATH.finditer(text)}
    names = _names(sorted(found - {""}))
    if not names:
        return experiment

    def shortened(text: str) -> str:
        return PATH.sub(lambda match: names.get(_path_in(match), match[0]), text)

    return replace(_changed(experiment, shortened), ui_url=experiment.ui_url)


def _changed(value: V, shortened: Callable[[str], str]) -> V:
    """The value with every text changed, itself where none does; artifacts stay, whose names are
    the program's own."""
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


def _path_in(match: re.Match[str]) -> str:
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
    return SHORTENED + "/".join(parts[-PARTS_KEPT:])
