"""What a page must not give away: where on a disk a file lies, and with it whose disk that is.

Every text of an experiment goes through here before anything is printed of it, so that tables,
figures, sentences and files agree on what a shortened path is called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
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
NO_TEXTS = (int, float, type(None), Artifacts)  # most parts of a result
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
    some = [text for text in {*_texts(experiment)} if "/" in text or "\\" in text]
    found = {_path_in(match) for text in some for match in PATH.finditer(text)}
    names = _names(sorted(found - {""}))
    if not names:
        return experiment

    def shortened(text: str) -> str:
        return PATH.sub(lambda match: names.get(_path_in(match), match[0]), text)

    return replace(_changed(experiment, shortened), ui_url=experiment.ui_url)


def _changed(value: V, rewritten: Callable[[str], str]) -> V:
    """The value with every text rewritten; itself where none changes."""
    texts = {text: new for text in {*_texts(value)} if (new := rewritten(text)) != text}
    return _with(value, texts) if texts else value


def _texts(value: object) -> Iterator[str]:
    """Every text of a value, as often as it occurs."""
    if isinstance(value, str):
        yield value
    else:
        for part in _parts(value):
            if not isinstance(part, NO_TEXTS):
                yield from _texts(part)


def _with(value: V, texts: Mapping[str, str]) -> V:
    """The value with others in the place of these texts; itself where it has none of them."""
    old: Any = value
    if isinstance(old, str):
        return cast("V", texts.get(old, old))
    parts = _parts(old)
    changed = [_with(part, texts) for part in parts]
    if all(new is part for new, part in zip(changed, parts, strict=True)):
        return value
    if isinstance(old, tuple):
        return cast("V", tuple(changed))
    if isinstance(old, Mapping):
        return cast("V", dict(zip(changed[: len(old)], changed[len(old) :], strict=True)))
    names = (each.name for each in fields(old))
    new = replace(old, **dict(zip(names, changed, strict=True)))
    if isinstance(old, Work):
        new.__dict__["key"] = old.key  # names the work as it was done, not as it is shown
    return cast("V", new)


def _parts(value: object) -> Sequence[object]:
    """What a value consists of; of artifacts nothing, whose names are the program's own."""
    if isinstance(value, tuple):
        return value
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    if is_dataclass(value) and not isinstance(value, Artifacts | type):
        return [getattr(value, each.name) for each in fields(value)]
    return ()


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
