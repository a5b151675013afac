"""What a page must not give away: where on a disk a file lies, and with it whose disk that is.

Every text of an experiment goes through here before anything is printed of it, so that tables,
figures, sentences and files agree on what a shortened path is called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import is_
from typing import Any, TypeVar, cast

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
# Most parts of a result; the names of artifacts are the program's own.
NO_TEXTS = (float, int, type(None), Artifacts)
HOMES = {"home", "users"}  # the part that follows is a person's name

V = TypeVar("V")


def shown(experiment: Experiment) -> Experiment:
    """The experiment as a page shows it: no path of a disk, and written out what would hide the
    text beside it or turn it round."""
    found = without_paths(experiment)
    return _changed(found, lambda text: legible(text, kept="\n\r\t"))


def without_paths(experiment: Experiment) -> Experiment:
    """The same experiment with every absolute path cut down to its last parts: `…/data/x.npy`.
    Keys and addresses stay what they are.

    Two paths never become one text: what differs goes on differing, and is not averaged over.
    """
    # Most texts hold none, and a search of each takes seconds.
    some = [text for text in _texts(experiment) if "/" in text or "\\" in text]
    found = {_path_in(match) for text in some for match in PATH.finditer(text)}
    names = _names(sorted(found - {""}))
    if not names:
        return experiment

    def shortened(text: str) -> str:
        return PATH.sub(lambda match: names.get(_path_in(match), match[0]), text)

    return replace(_changed(experiment, shortened), ui_url=experiment.ui_url)


def _changed(value: V, rewritten: Callable[[str], str]) -> V:
    """The value with every text rewritten; itself where none changes."""
    texts = {text: new for text in _texts(value) if (new := rewritten(text)) != text}
    return _with(value, texts) if texts else value


def _texts(value: object) -> set[str]:
    """The texts of a value."""
    texts, others = set[str](), [value]
    while others:
        one = others.pop()
        if isinstance(one, str):
            texts.add(one)
        elif not isinstance(one, NO_TEXTS):
            others += _parts(one)
    return texts


def _with(value: V, texts: Mapping[str, str]) -> V:
    """The value with others in the place of these texts; itself where it has none of them."""
    old: Any = value
    if isinstance(old, str):
        return cast("V", texts.get(old, old))
    parts = _parts(old)
    changed = [part if isinstance(part, NO_TEXTS) else _with(part, texts) for part in parts]
    if all(map(is_, changed, parts)):
        return value
    if isinstance(old, tuple):
        return cast("V", tuple(changed))
    if isinstance(old, Mapping):
        return cast("V", dict(zip(changed[: len(old)], changed[len(old) :], strict=True)))
    new = replace(old, **dict(zip(_fields(old), changed, strict=True)))
    if isinstance(old, Work):
        new.__dict__["key"] = old.key  # names the work as it was done, not as it is shown
    return cast("V", new)


def _parts(value: object) -> Sequence[object]:
    """What a value consists of: the items of a tuple, the keys and values of a mapping, the fields
    of a dataclass."""
    if isinstance(value, tuple):
        return value
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    return [getattr(value, name) for name in _fields(value)]


def _fields(value: Any) -> Mapping[str, object]:
    """The fields of a dataclass by name; none of anything else."""
    fields: Mapping[str, object] = getattr(value, "__dataclass_fields__", {})
    return fields


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
