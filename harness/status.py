"""What a store holds, and whether all of it is what was written: `harness status`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.execute.machine import size as in_bytes
from harness.store import DAMAGED, STATE, Store, is_whole, kept_checksum, set_aside
from harness.work.results import RESULT, CellResult, Result, TrainingResult, from_json

SMALL = 10_000  # bytes, below which a part of a store is not worth a word


@dataclass(frozen=True)
class Status:
    """What a store holds."""

    store: Path
    trainings: int
    cells: int
    grids: dict[str, tuple[int, int]]  # by name, how many of its cells are finished, and how many
    unfinished: int  # trainings that were stopped and will go on
    sizes: dict[str, int]  # bytes, by part
    aside: tuple[Path, ...] = ()  # as damaged, by this command or before
    verified: int | None = None  # files
    damaged: tuple[Path, ...] = ()

    def as_text(self) -> str:
        lines = [f"{self.store}: {self.cells:,} cells and {self.trainings:,} trainings"]
        lines += [
            f"  grid {name}: {done:,} of {asked:,} cells are finished"
            for name, (done, asked) in self.grids.items()
        ]
        if self.unfinished:
            lines.append(f"  {self.unfinished:,} unfinished trainings, which go on with their grid")
        parts = ", ".join(f"{name} {in_bytes(size)}" for name, size in self.sizes.items())
        lines.append(f"  {in_bytes(sum(self.sizes.values()))}: {parts}")
        if self.aside:
            lines.append("  set aside as damaged, and to be removed when you like:")
            lines += [f"    {path}" for path in self.aside]
        if self.verified is not None:
            lines.append(f"  {self.verified:,} files verified: {self._verdict}")
        return "\n".join(lines)

    @property
    def _verdict(self) -> str:
        if not self.damaged:
            return "all are what was written."
        return (
            f"{len(self.damaged):,} were not what was written. Use harness run with their grid, "
            "which makes again what it needs of them."
        )

    def as_json(self) -> dict[str, Any]:
        grids = {
            name: {"finished": done, "cells": asked} for name, (done, asked) in self.grids.items()
        }
        paths = {
            "store": str(self.store),
            "aside": [str(path) for path in self.aside],
            "damaged": [str(path) for path in self.damaged],
        }
        return vars(self) | paths | {"grids": grids}


def status_of(folder: Path, verify: bool = False) -> Status:
    """What the store in this folder holds. To `verify` reads every file that has a checksum, and
    sets aside what is damaged. Raises StoreError where there is no store, or where one that is to
    be verified is in use or may not be written."""
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
    finished = {one.cell.key for one in store.cell_results()}
    seen: set[int] = set()  # runs share files with cells and models
    parts = sorted(folder.iterdir(), key=lambda part: (part.name == "artifacts", part.name))
    sizes = {part.name: size_of(part, seen) for part in parts}
    return Status(
        folder,
        len(store.training_results()),
        len(finished),
        {
            name: (len(finished & asked.cells.keys()), len(asked.cells))
            for name, asked in store.grids().items()
        },
        len(list(folder.glob(f"models/*/{STATE}"))),
        {name: size for name, size in sizes.items() if size > SMALL},
        tuple(sorted(folder.rglob(f"*{DAMAGED}*"))),
        verified,
        tuple(damaged),
    )


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
    result: Result | None = None
    with suppress(OSError):
        text = path.read_bytes()
        with suppress(StoreError):
            result = from_json(CellResult, text, None, str(path))
        with suppress(StoreError):
            result = result or from_json(TrainingResult, text, None, str(path))
    is_elsewhere = path.parents[1].name not in ("models", "cells")  # with its run
    is_good = result is not None and (is_elsewhere or path.parent.name == result.work.key)
    yield path, is_good
    if result is not None and is_good:
        for name, expected in result.artifacts.checksums.items():
            if (file := path.with_name(name)).exists():
                yield file, is_whole(file, expected)


def size_of(path: Path, seen: set[int]) -> int:
    """Bytes of a file, or of all in a folder, without files of several names that were `seen`."""
    total = 0
    for each in [path, *path.rglob("*")]:
        with suppress(FileNotFoundError):  # a run goes on
            stat = each.stat()
            if each.is_file() and stat.st_ino not in seen:
                seen.add(stat.st_ino)
                total += stat.st_size
    return total
