"""The grids that are at hand: those of the working folder, and those that come with the program.

A wheel holds `runs/*.yaml` beside the code; an editable install finds those of its checkout.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

from harness.errors import GridError, legible, suggestion

MAIN = "digits"  # the main job
HERE = Path("runs")
PACKAGE = Path(__file__).parents[1]
PLACES = (PACKAGE / "runs", PACKAGE.parent / "runs")  # of a wheel, of a checkout
WIDTH = 80


def grids_at_hand() -> dict[str, Path]:
    """By name, the grid files of `runs/` in the working folder and of the program; the main job
    first."""
    found: dict[str, Path] = {}
    for folder in (*PLACES, HERE):
        found |= {path.stem: path for path in folder.glob("*.yaml")}
    return {name: found[name] for name in sorted(found, key=lambda name: (name != MAIN, name))}


def grid_path(given: Path) -> Path:
    """The file that a person means: its path, or the name alone of a grid that is at hand. Raises
    GridError for a name that none has."""
    if given.suffix or len(given.parts) != 1 or given.exists():
        return given
    known = grids_at_hand()
    if given.name not in known:
        raise GridError(f"there is no grid '{given}'.{suggestion(given.name, list(known))}")
    return known[given.name]


def headline(path: Path) -> str:
    """What the comment that a grid file begins with says first, up to the end of a sentence or a
    colon; empty where there is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    comment = re.match(r"(?:#[^\n]*\n?)*", text)
    lines = [line.lstrip("# ") for line in (comment[0] if comment else "").splitlines()]
    paragraph = " ".join(lines[: lines.index("")] if "" in lines else lines)
    return re.split(r"(?<=[.?!])\s|[:;]\s", paragraph, maxsplit=1)[0]


def as_text(grids: Mapping[str, Path], width: int = WIDTH) -> str:
    """Which grids there are, what each asks, and how to begin."""
    names = {path: legible(written(name, path)) for name, path in grids.items()}
    wide = max(map(len, names.values()), default=0) + 4
    lines = ["A grid says what to train, how to sample it and what to measure. There are:", ""]
    for path, name in names.items():
        told = legible(headline(path))
        lines += textwrap.wrap(
            told or "(says nothing of itself)", width, break_on_hyphens=False,
            initial_indent=f"  {name:{wide - 2}}", subsequent_indent=" " * wide,
        )  # fmt: skip
    main = names.get(grids.get(MAIN, HERE), MAIN)
    return "\n".join([
        *lines, "",
        f"The main job, in minutes:   harness run {main}",
        "What a grid would cost:     harness plan GRID",
        "A grid of your own:         harness new NAME [--data FOLDER]",
    ])  # fmt: skip


def written(name: str, path: Path) -> str:
    """What to type for a grid: its path here, or its name where it comes with the program."""
    return name if path.is_absolute() else path.as_posix()
