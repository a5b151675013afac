"""What a store holds, and whether all of it is what was written: `harness status`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness.clean import Unneeded, result_of, size_of, unneeded
from harness.downloads import no_downloads
from harness.errors import HarnessError, StoreError, at_most
from harness.execute.machine import size as in_bytes
from harness.store import DAMAGED, STATE, Store, aside, is_whole, kept_checksum, set_aside
from harness.work.cells import Part
from harness.work.options import Workplace
from harness.work.results import RESULT, CellResult

if TYPE_CHECKING:
    from harness.work.outputs import GridInStore, StatusOutput

SMALL = 10_000  # bytes, below which a part of a store is not worth a word
MOST_PATHS = 10  # that a person is shown
WIDTH = 80


@dataclass(frozen=True)
class GridState:
    """How many cells a grid has, and how it stands with them."""

    cells: int
    finished: int
    failed: int  # when they were last tried
    stale: int  # finished, of images that have changed since

    @property
    def pending(self) -> int:
        return self.cells - self.finished - self.failed - self.stale

    def as_json(self) -> GridInStore:
        return {
            "cells": self.cells, "finished": self.finished, "failed": self.failed,
            "pending": self.pending, "stale": self.stale,
        }  # fmt: skip


@dataclass(frozen=True)
class Status:
    """What a store holds."""

    store: Path
    trainings: int
    cells: int
    grids: Mapping[str, GridState]
    runs: int  # in MLflow, whose files are in the store
    unfinished: int  # trainings that were stopped and will go on
    outdated: int  # results of another result version, which this one does not read
    sizes: Mapping[str, int]  # bytes, by part
    spare: Unneeded | None  # what no grid needs; None where that cannot be told
    aside: tuple[Path, ...] = ()  # as damaged, by this command or before
    verified: int | None = None  # files
    damaged: tuple[Path, ...] = ()

    def as_text(self) -> str:
        lines = [
            f"{self.store}: {counted(self.cells, 'cell')}, {counted(self.trainings, 'training')}, "
            f"{counted(self.runs, 'run')} in MLflow"
        ]
        lines += self._table()
        if self.unfinished:
            unfinished = counted(self.unfinished, "unfinished training")
            lines.append(f"  {unfinished}: to go on with when its grid is run")
        if self.outdated:
            outdated = counted(self.outdated, "result")
            lines.append(f"  {outdated} of another result version, which this one does not read")
        if any(one.stale for one in self.grids.values()):
            lines.append("  stale: the images have changed since; harness run does them again")
        parts = ", ".join(f"{name} {in_bytes(size)}" for name, size in self.sizes.items())
        lines += textwrap.wrap(
            f"{in_bytes(sum(self.sizes.values()))}: {parts}",
            WIDTH, initial_indent="  ", subsequent_indent="    ",
        )  # fmt: skip
        if self.aside:
            lines.append("  set aside as damaged:")
            lines += [f"    {path}" for path in at_most(self.aside, MOST_PATHS)]
        if self.spare:
            lines.append(f"  no grid needs {in_bytes(self.spare.bytes)} of it: see harness clean")
        if self.verified is not None:
            lines.append(f"  {self.verified:,} files verified: {self._verdict}")
        return "\n".join(lines)

    def _table(self) -> list[str]:
        if not self.grids:
            return []
        wide = max(len(name) for name in ("grid", *self.grids))
        columns = ("cells", "finished", "failed", "pending", "stale")
        lines = ["  ".join([f"  {'grid':{wide}}", *columns])]
        for name, one in self.grids.items():
            numbers = [one.cells, one.finished, one.failed, one.pending, one.stale]
            shown = [f"{n:>{len(title)},}" for n, title in zip(numbers, columns, strict=True)]
            lines.append("  ".join([f"  {name:{wide}}", *shown]))
        return lines

    @property
    def _verdict(self) -> str:
        if not self.damaged:
            return "all are what was written."
        return (
            f"{len(self.damaged):,} were not what was written. Use harness run with their grid, "
            "which makes again what it needs of them."
        )

    def as_json(self) -> StatusOutput:
        told: Any = vars(self) | {
            "store": str(self.store),
            "grids": {name: one.as_json() for name, one in self.grids.items()},
            "spare": None if self.spare is None else self.spare.as_json(),
            "aside": [str(path) for path in self.aside],
            "damaged": [str(path) for path in self.damaged],
        }
        return cast("StatusOutput", told)


def status_of(folder: Path, data_dir: Path, verify: bool = False) -> Status:
    """What the store in this folder holds, whose images are in `data_dir`. To `verify` reads every
    file that has a checksum, and sets aside what is damaged. Raises StoreError where there is no
    store, or where one that is to be verified is in use or may not be written."""
    store = Store(folder)
    if not folder.is_dir():
        raise StoreError(f"there is no store {folder}. Use `harness run` with a grid, or --store.")
    store.check_version()
    verified, damaged = None, list[Path]()
    if verify:
        with store.locked():
            checked = list(files_of(store))
            verified = len(checked)
            damaged = [path for path, is_good in checked if not is_good]
            for path in damaged:
                set_aside(path)
    outdated = {path.parent for path in results_in(store) if is_outdated(path)}
    results = store.cell_results()
    seen: set[int] = set()  # runs share files with cells and models
    parts = sorted(folder.iterdir(), key=lambda part: (part.name == "artifacts", part.name))
    sizes = {part.name: size_of(part, seen) for part in parts}
    spare = None
    with suppress(StoreError):
        spare = unneeded(folder)
    return Status(
        folder,
        len(store.training_results()),
        len(results),
        states_of(store, results, Workplace(folder, data_dir)),
        len(list(folder.glob("artifacts/*"))),
        len(list(folder.glob(f"models/*/{STATE}"))),
        len(outdated),
        {name: size for name, size in sizes.items() if size > SMALL},
        spare,
        tuple(aside(folder)),
        verified,
        tuple(damaged),
    )


def states_of(store: Store, results: Iterable[CellResult], at: Workplace) -> dict[str, GridState]:
    """How it stands with the cells of each grid that was run here."""
    trainings = {one.cell.key: one.cell.training for one in results}
    now: dict[tuple[Part, str], bool] = {}
    changed = set()
    for key, training in trainings.items():
        data = training.data, training.data_fingerprint
        if data not in now:
            now[data] = is_changed(*data, at)
        if now[data]:
            changed.add(key)
    states = {}
    for name, asked in store.grids().items():
        there = asked.cells.keys() & trainings.keys()
        failed = (asked.cells.keys() & store.failed(name).keys()) - there
        stale = len(there & changed)
        states[name] = GridState(len(asked.cells), len(there) - stale, len(failed), stale)
    return states


def is_changed(data: Part, fingerprint: str, at: Workplace) -> bool:
    """Whether the images of a data set here are no longer those of this fingerprint; not where
    they are not here to be looked at."""
    from harness.engine.identity import data_fingerprint

    with suppress(HarnessError), no_downloads():
        return data_fingerprint(data, at) != fingerprint
    return False


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def results_in(store: Store) -> Iterator[Path]:
    """The text of each result of a store."""
    for path in sorted(store.root.glob(f"*/*/{RESULT}")):
        if path.parents[1].name in ("models", "cells") and DAMAGED not in path.parent.name:
            yield path


def is_outdated(path: Path) -> bool:
    """Whether a result is whole, and of work that has another key now: of another version."""
    result = result_of(path)
    return result is not None and result.work.key != path.parent.name


def files_of(store: Store) -> Iterator[tuple[Path, bool]]:
    """Each file of a store that has a checksum, and whether it is what was written."""
    for pattern in ("models/*", "cells/*", "artifacts/*/artifacts"):
        for path in sorted(store.root.glob(f"{pattern}/{RESULT}")):
            if DAMAGED not in path.parent.name:
                yield from files_of_result(path)
    beside = chain(store.root.glob("features/*.npy"), store.root.glob("networks/*/*.safetensors"))
    for path in sorted(beside):
        if (known := kept_checksum(path)) is not None:
            yield path, is_whole(path, known)


def files_of_result(path: Path) -> Iterator[tuple[Path, bool]]:
    """A result and those of its files that are there."""
    result = result_of(path)
    is_elsewhere = path.parents[1].name not in ("models", "cells")  # with its run
    is_good = result is not None and (is_elsewhere or path.parent.name == result.work.key)
    yield path, is_good
    if result is not None and is_good:
        for name, expected in result.artifacts.checksums.items():
            if (file := path.with_name(name)).exists():
                yield file, is_whole(file, expected)
