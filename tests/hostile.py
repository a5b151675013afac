"""What goes wrong with files and text on their way here: grids that were mutated, and names that
are code to a terminal, a browser, a spreadsheet, Markdown, LaTeX or SQL."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from functools import reduce
from itertools import cycle, islice
from operator import getitem
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from ruamel.yaml import YAML

from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.metrics.distances import METRICS

GRIDS = [path.read_text() for path in sorted(Path(__file__).parents[1].glob("runs/*.yaml"))]
GRIDS.append("""
name: t
data: {name: mixture, size: 4}
scale: [unit, 0.5]
model: [exact, tiny]
training: {ema: [0.9, 0.99], loss: mae}
schedules: [linear]
spacing: [{name: explicit, times: [1, 0.5]}]
samplers: [{name: ddim, eta: 0.5}]
steps: [2]
extractor: pixels
include: [{steps: [1], spacing: [karras], training: {target: [noise, image], ema: 0.5}}]
exclude: [{steps: 1, seed: 1}]
""")
PLAIN = [YAML(typ="safe", pure=True).load(text) for text in GRIDS]

# What is code to somebody who reads it, or moves what stands beside it.
TEXTS = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><svg onload=alert(1)>",
    "![x](http://x)", "[x](javascript:alert(1))", "`a|b*c_d`", "<!--0-->", "&lt;b&gt;", "{{ 7*7 }}",
    "=cmd|' /C calc'!A0", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1+1", "\r=1+1",
    "a\nb", "\x1b[2J\x1b]0;owned\x07", "a\x00b", "a\u202egnp.exe", "\u2066a\u2069", "\x9b31m",
    r"\input{x}$&%#_^~", "'; DROP TABLE runs; --", "a%20b", "größe 花 \U0001f600", "--help",
]  # fmt: skip

VALUES = [
    "-1", "0", "1", "1e400", "-1e400", "99999999999999999999", "9" * 5000, "0x" + "f" * 300,
    "1e-320", "100000", "1000000000", ".nan", ".inf", "-.inf", "null", "~", "true", "''", '""',
    "[]", "{}", "[[]]", "[null]", "[.nan, .inf]", "2024-01-01", "12:30:45", "0b11", "0o17", "1_000",
    "*a", "&a b", "&a [*a]", "!!binary aGk=", "!!python/object:os.system {}", "!!set {a, b}",
    "!!omap [a: 1]", "!local x", "<<: 1", "{<<: {a: 1}}", "|\n  text", ">-\n  text", "? x", "- x",
    "%TAG ! !", "'", '"', "x" * 20_000, "[" * 60 + "]" * 60, "{a: " * 60 + "1" + "}" * 60,
    '"\\e[2J"', '"\\0"', '"\\u202e"', '"\\ud800"', "'\u202e'", "{name: ddim, eta: .nan}",
    "{name: exact}", "{name: folder, path: /}", "{name: explicit, times: [1, .nan]}",
    "{name: tiny, widths: [8], blocks: 1000000000}", "{name: karras, rho: 1e-300}",
    "{name: finite, of: folder}",
]  # fmt: skip

OLD = re.compile(r"(?<=: )[^\n]+|(?<=\[)[^\],\n]+|(?<=, )[^\],}\n]+|^\w+", re.MULTILINE)


def values() -> st.SearchStrategy[str]:
    """What stands in the place of a value of a grid, in YAML."""
    quoted = st.sampled_from(TEXTS).map(lambda text: "'" + text.replace("'", "''") + "'")
    return st.one_of(st.sampled_from(VALUES), quoted, st.sampled_from(TEXTS))


def mutated_grids() -> st.SearchStrategy[bytes]:
    """A grid of ours with a few faults in it: of its letters, of its values, or of its size."""
    kinds = [other_letters()] * 4 + [other_values()] * 5 + [other_sizes()]
    return st.sampled_from(kinds).flatmap(lambda kind: kind)


@st.composite
def other_letters(draw: st.DrawFn) -> bytes:
    """A grid that was cut, joined, or changed by somebody who does not know YAML."""
    text = draw(st.sampled_from(GRIDS))
    for fault in draw(st.lists(st.sampled_from(FAULTS), min_size=1, max_size=2)):
        text = fault(draw, text)
    content = bytearray(text, "utf-8", "surrogatepass")
    if content and draw(st.booleans()):
        content[draw(st.integers(0, len(content) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(content)


def replaced(draw: st.DrawFn, text: str) -> str:
    if not (found := list(OLD.finditer(text))):
        return text
    old = draw(st.sampled_from(found))
    return text[: old.start()] + draw(values()) + text[old.end() :]


def cut(draw: st.DrawFn, text: str) -> str:
    return text[: draw(st.integers(0, len(text)))]


def inserted(draw: st.DrawFn, text: str) -> str:
    place = draw(st.integers(0, len(text)))
    return text[:place] + draw(st.one_of(st.sampled_from(TEXTS), st.characters())) + text[place:]


def lines_changed(draw: st.DrawFn, text: str) -> str:
    """A line that is gone, there twice, or at another place or depth."""
    lines = text.split("\n")
    line = lines.pop(draw(st.integers(0, len(lines) - 1)))
    for _ in range(draw(st.integers(0, 2))):
        depth = " " * draw(st.sampled_from([0, 0, 2, 60]))
        lines.insert(draw(st.integers(0, len(lines))), depth + line)
    return "\n".join(lines)


FAULTS = [replaced, cut, inserted, lines_changed]


@st.composite
def other_values(draw: st.DrawFn) -> bytes:
    """A grid in good YAML, of which up to three values or names are others."""
    fields = deepcopy(draw(st.sampled_from(PLAIN)))
    written = {}
    for n in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from([*places(fields)]))
        holder = reduce(getitem, above, fields)
        if isinstance(holder, dict) and draw(st.integers(0, 5)) == 0:
            holder[draw(st.sampled_from([*TEXTS, "name", "steps", "x"]))] = holder.pop(last)
        else:
            holder[last] = mark = f"({n})"
            written[json.dumps(mark)] = draw(values())
    text = json.dumps(fields, indent=1)
    for mark, value in written.items():
        text = text.replace(mark, value)
    return text.encode("utf-8", "surrogatepass")


def places(fields: Any) -> Iterator[tuple[Any, ...]]:
    """The steps to every value within lists and mappings."""
    items = fields.items() if isinstance(fields, dict) else enumerate(fields)
    for step, value in items:
        yield (step,)
        if isinstance(value, dict | list):
            yield from ((step, *more) for more in places(value))


@st.composite
def other_sizes(draw: st.DrawFn) -> bytes:
    """A grid whose lists are long, or multiply to very many cells."""
    fields = deepcopy(draw(st.sampled_from(PLAIN)))
    for name in draw(st.lists(st.sampled_from(sorted(LONG)), min_size=1, max_size=5)):
        count = draw(st.sampled_from([1, 7, 40, 300, 2000, 9000, 10_001]))
        fields[name] = LONG[name](count)
    fields["budget"] = draw(st.sampled_from(["steps", "nfe"]))
    return json.dumps(fields).encode()


def cycled(names: Iterable[Any]) -> Callable[[int], list[Any]]:
    return lambda count: [*islice(cycle([*names]), count)]


LONG: dict[str, Callable[[int], Any]] = {
    "seeds": lambda count: [*range(count)],
    "sampling_seeds": lambda count: [*range(count)],
    "steps": lambda count: [*range(1, count + 1)],
    "schedules": cycled([*SCHEDULES, {"name": "linear", "zero_terminal_snr": True}]),
    "sample_schedules": cycled(["same", "cosin", *SCHEDULES]),
    "samplers": cycled(SAMPLERS),
    "spacing": cycled(name for name in SPACINGS if name != "explicit"),
    "metrics": cycled(METRICS),
    "include": cycled(
        [{"steps": [*range(1, 50)]}, {"samplers": [*SAMPLERS]}, {"steps": [100_000]}]
    ),
    "exclude": cycled([{"seed": 1}, {"steps": [*range(50)]}, {"sampler": "ddim", "step": 1}]),
    "model": lambda count: {"name": "tiny", "widths": [8] * count, "blocks": count},
    "colour": lambda count: {f"{n}": n for n in range(count)},
}


def unprintable(text: str) -> list[str]:
    """The characters of a message that would move, hide or colour what a terminal shows."""
    kinds = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return [each for each in text if each != "\n" and unicodedata.category(each) in kinds]
