"""What of a store no grid needs, and its removal: `harness clean`.

A grid needs the cells that its file, as it was last run, has stood for, with whatever changes on
the command line; their checkpoint cells, their trainings with all that is kept of them, and what is
still to be recorded of it. What has no name as the store gives them is not looked at. The runs in
MLflow stay, with their numbers and pictures, so that every report can still be written; the weights
of a training that is removed go there too, since they are most of what it takes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import StoreError, suggestion
from harness.execute.machine import size as in_bytes
from harness.store import (
    CELLS,
    FAILED,
    GRID,
    GRIDS,
    OWED,
    STATE,
    TRAININGS,
    WEIGHTS,
    Folder,
    Store,
    aside,
    checksum_beside,
    leftovers,
    made_from,
    remove,
    told_by_state,
)
from harness.work.cells import Asked, Part, training_of
from harness.work.results import RESULT, CellResult, Result, TrainingResult, from_json

if TYPE_CHECKING:
    from harness.work.outputs import UnneededOutput

NAME_OF_WORK, DIGEST = re.compile(r"[0-9a-f]{12}"), re.compile(r"[0-9a-f]{64}")
KINDS = {  # of what may be removed, one and several, in the order of its removal
    "grid": ("note of a grid to be forgotten", "notes of grids to be forgotten"),
    "cell": ("cell", "cells"),
    "weights": ("copy of weights in MLflow", "copies of weights in MLflow"),
    "training": ("training", "trainings"),
    "unfinished": ("unfinished training", "unfinished trainings"),
    "features": ("set of features of real images", "sets of features of real images"),
    "images": ("set of images of another machine", "sets of images of other machines"),
    "network": ("network that was trained elsewhere", "networks that were trained elsewhere"),
    "damaged": ("thing set aside as damaged", "things set aside as damaged"),
    "leftover": ("file left half written", "files left half written"),
}


@dataclass(frozen=True)
class Unneeded:
    """What no grid of a store needs, by kind, and the bytes that its removal frees."""

    store: Path
    grids: tuple[str, ...]  # that are kept
    forgotten: tuple[str, ...]
    paths: Mapping[str, tuple[Path, ...]]
    freed: Mapping[str, int]
    unrecorded: int = 0  # results that MLflow does not have yet

    def __bool__(self) -> bool:
        return any(self.paths.values())

    @property
    def bytes(self) -> int:
        return sum(self.freed.values())

    def as_text(self) -> str:
        kept = ", ".join(self.grids) or "none"
        if not self:
            return f"{self.store}: its grids ({kept}) need all that is there."
        lines = [f"{self.store}: its grids ({kept}) do not need"]
        for kind, paths in self.paths.items():
            told = f"{len(paths):,} {KINDS[kind][len(paths) > 1]}"
            size = self.freed[kind]
            lines.append(f"  {told:52} {in_bytes(size) if size >= 1e6 else 'under 1 MB':>10}")
        lines += [f"Removing that frees {in_bytes(self.bytes)}."]
        if {"cell", "training"} & self.paths.keys():
            lines += ["Their runs stay in MLflow, with numbers and pictures."]
        if self.unrecorded:
            lines += [
                f"{self.unrecorded:,} results are not recorded in MLflow yet, and would be lost. "
                "Use harness run with their grid first, once the tracking server is back."
            ]
        return "\n".join(lines)

    def as_json(self) -> UnneededOutput:
        return {
            "store": str(self.store),
            "grids": [*self.grids],
            "unneeded": {
                kind: {"paths": [str(path) for path in paths], "bytes": self.freed[kind]}
                for kind, paths in self.paths.items()
            },
            "bytes": self.bytes,
            "unrecorded": self.unrecorded,
        }


def unneeded(folder: Path, forgotten: Collection[str] = ()) -> Unneeded:
    """What of the store in this folder no grid needs but those that are to be forgotten. Raises
    StoreError where there is no store, or no grid of such a name, or where it cannot be told what
    the grids need."""
    store = Store(folder)
    if not folder.is_dir():
        raise StoreError(f"there is no store {folder}. Use `harness run` with a grid, or --store.")
    store.check_version()
    grids = store.grids()
    if unknown := sorted({*forgotten} - grids.keys()):
        raise StoreError(f"the store has no grid '{unknown[0]}'.{suggestion(unknown[0], [*grids])}")
    _refuse_unreadable(store, grids)
    kept = {name: asked for name, asked in grids.items() if name not in forgotten}
    found = {
        "grid": [path for name in forgotten for path in _notes_of(store, name)],
        **_of_work(store, kept),
        "damaged": aside(folder),
        "leftover": sorted(leftovers(folder)),
    }
    paths = {kind: tuple(found[kind]) for kind in KINDS if found[kind]}
    if not grids and {"cell", "training"} & paths.keys():
        raise StoreError(
            f"the store {folder} has results and no note of a grid that asked for them. Use "
            "`harness run` with your grids first, which notes them, or remove the folder."
        )
    lost = _owed(store, forgotten) - _owed(store, kept)
    return Unneeded(folder, tuple(kept), tuple(forgotten), paths, _freed(paths), len(lost))


def clean(listed: Unneeded) -> None:
    """Remove what was listed, but for what has come to be needed since. Cut short, it has removed
    nothing that is needed. Raises StoreError where a run goes on in the store, or where something
    cannot be removed."""
    store = Store(listed.store)
    with store.locked():
        now = unneeded(listed.store, [name for name in listed.forgotten if name in store.grids()])
        for kind, paths in listed.paths.items():
            for path in paths:
                if path in now.paths.get(kind, ()):
                    _remove(path)


def _remove(path: Path) -> None:
    """Remove one thing, with what belongs to it. Raises StoreError where it is still there."""
    why = "some of it is in use"
    try:
        remove(path)
        remove(checksum_beside(path))
    except OSError as error:
        why = error.strerror or why
    if path.exists():
        raise StoreError(f"{path} cannot be removed ({why}). Use a store that you may write.")
    with suppress(OSError):  # the folder of a state, where it held nothing else
        path.parent.rmdir()


def _refuse_unreadable(store: Store, grids: Mapping[str, Asked]) -> None:
    for path in sorted((store.root / GRIDS).glob("*.json")):
        if path.stem not in grids:
            raise StoreError(
                f"{path} cannot be read, so it is not known what the grid '{path.stem}' needs. "
                "Use `harness run` with that grid, which writes it again, or remove the file."
            )


def _notes_of(store: Store, name: str) -> Iterator[Path]:
    """What the store has of a grid itself, what it stands for last: until then it is needed."""
    of_grid = (store.root / GRIDS / f"{name}{Path(file).suffix}" for file in (GRID, CELLS))
    failed = store.root / FAILED / f"{name}.json"
    notes = (failed, *_ledgers(store, name), *store.keys_of(name), *of_grid)
    return (path for path in notes if path.exists())


def _of_work(store: Store, grids: Mapping[str, Asked]) -> dict[str, list[Path]]:
    """The results, features, images and networks that none of these grids needs."""
    root = store.root
    owed = _owed(store, grids)
    asked_cells = {key for one in grids.values() for key in one.cells}
    keys = owed.union(*map(store.needed_by, grids))
    now = owed | asked_cells | {key for one in grids.values() for key in one.trainings}
    keys -= {*_of_the_past(root, keys - now, asked_cells)}
    needed = [one for one in _cells(root) if {one.cell.key, _final_key(one)} & keys]
    asked = keys | {one.cell.key for one in needed}
    trainings = keys | {one.cell.training.key for one in needed}
    models = [path for path in _folders(root / "models") if path.name not in trainings]
    states = {path: path / STATE for path in models if (path / STATE).exists()}
    gone = [path for path in models if path not in states]
    found = {
        "cell": [path for path in _folders(root / "cells") if path.name not in asked],
        "training": gone,
        "weights": [*_weights_in_mlflow(root, {path.name for path in gone})],
        "unfinished": [path for path in states.values() if not _is_waited_for(path, trainings)],
        "features": [], "images": [], "network": [],
    }  # fmt: skip
    # Of cells that are still to be made it is not known what they will be held against.
    if asked_cells <= {one.cell.key for one in needed}:
        sources = {(one.cell.training.data_fingerprint, one.cell.extractor_fingerprint)
                   for one in needed}  # fmt: skip
        data = {fingerprint for fingerprint, _ in sources}
        reals = sorted(root.glob("features/real-*.npy"))
        images = [path for path in sorted(root.glob("images/*.npz")) if DIGEST.fullmatch(path.stem)]
        found["features"] = [path for path in reals if not _is_used(path, sources)]
        found["images"] = [path for path in images if path.stem not in data]
        networks = {one.cell.training.model_fingerprint for one in needed}
        found["network"] = [
            path for path in _folders(root / "networks", DIGEST) if path.name not in networks
        ]
    return found


def _of_the_past(root: Path, earlier: Collection[str], asked: Collection[str]) -> Iterator[str]:
    """The keys of work that a grid stood for earlier, and never will again: of another result
    version, or of images that have changed since."""
    images: dict[Part, set[str]] = {}
    for one in _cells(root):
        if one.cell.key in asked:
            training = one.cell.training
            images.setdefault(training.data, set()).add(training.data_fingerprint)
    for path in [*_folders(root / "cells"), *_folders(root / "models")]:
        if path.name in earlier and (result := result_of(path / RESULT)):
            training = training_of(result.work)
            known = images.get(training.data, {training.data_fingerprint})
            if result.work.key != path.name or training.data_fingerprint not in known:
                yield path.name


def _owed(store: Store, grids: Iterable[str]) -> set[str]:
    """The keys of work that is still to be recorded for these grids."""
    return {
        key for name in grids for path in _ledgers(store, name) for key in store.owed(path.stem)
    }


def _ledgers(store: Store, name: str) -> Iterator[Path]:
    return (store.root / OWED).glob(f"{name}-{'[0-9a-f]' * 12}.json")


def _final_key(one: CellResult) -> str:
    """The key of the cell that a checkpoint cell belongs to."""
    return replace(one.cell, weights="final").key


def _is_waited_for(state: Path, trainings: Collection[str]) -> bool:
    """Whether a grid asks for a training that this state is of; of an earlier version, which did
    not say, that is taken to be so."""
    of = told_by_state(state, TRAININGS)
    return not of or bool({*of} & {*trainings})


def _is_used(features: Path, sources: Collection[tuple[str, ...]]) -> bool:
    """Whether cells are held against these features; of an earlier version, which did not say what
    they were made from, that is taken to be so while there are cells."""
    made = made_from(features)
    return made in sources if made else bool(sources)


def _cells(root: Path) -> Iterator[CellResult]:
    """The results of cells that can be read."""
    for path in _folders(root / "cells"):
        with suppress(OSError, StoreError):
            yield from_json(CellResult, (path / RESULT).read_bytes(), None, str(path))


def _folders(folder: Path, named: re.Pattern[str] = NAME_OF_WORK) -> list[Path]:
    """The folders that are named as those of single pieces of work are."""
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in there if path.is_dir() and named.fullmatch(path.name)]


def _weights_in_mlflow(root: Path, keys: Collection[str]) -> Iterator[Path]:
    """The weights beside the runs of these trainings in the store's own MLflow."""
    for weights in sorted(root.glob(f"artifacts/*/artifacts/{WEIGHTS}")) if keys else ():
        text = Folder(weights.parent).read(RESULT)
        with suppress(StoreError):
            if text and from_json(TrainingResult, text, None, str(weights)).training.key in keys:
                yield weights


def _freed(paths: Mapping[str, Iterable[Path]]) -> dict[str, int]:
    """By kind, the bytes of files all of whose names are removed; the last kind counts them."""
    names: Counter[tuple[int, int]] = Counter()
    freed = dict.fromkeys(paths, 0)
    for kind in paths:
        for path in paths[kind]:
            for file in [path, *path.rglob("*"), checksum_beside(path)]:
                with suppress(OSError):
                    stat = file.lstat()
                    names[stat.st_dev, stat.st_ino] += 1
                    is_last = names[stat.st_dev, stat.st_ino] == stat.st_nlink
                    freed[kind] += stat.st_size * (is_last and not file.is_dir())
    return freed


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


def result_of(path: Path) -> Result | None:
    """The result in a file; None where it is none, or not what was written."""
    with suppress(OSError):
        text = path.read_bytes()
        with suppress(StoreError):
            return from_json(CellResult, text, None, str(path))
        with suppress(StoreError):
            return from_json(TrainingResult, text, None, str(path))
    return None
