"""The store: files named by the content key of the work they come from.

    store.json                          the layout's version
    models/<key>/weights.safetensors    the averaged weights
    models/<key>/checkpoint.safetensors the same at 90 % of the training
    models/<key>/result.json            what came of it: exists only when it is complete
    models/<key>/state.safetensors      where unfinished trainings go on, under the key of all that
                                        the same steps make: that of their training without a decay
    models/<key>/fitted-<name>.json     what steps are fitted to it by, with its own .sha256
    cells/<key>/result.json ...         likewise of a cell, with its pictures and features
    features/<key>.npy                  features of a reference set, with <key>.npy.sha256
    images/<fingerprint>.npz            images that were sent to this node of a cluster
    networks/<fingerprint>/...          a network that was trained elsewhere, as it came
    grids/<name>.yaml, <name>.json      a grid as it was last run, and what it stood for
    grids/<name>-<store>.keys           all that its file, as it is now, has stood for in a store
    owed/<name>-<tracker>.json          what is still to be recorded where MLflow was away
    failed/<name>.json                  why work of a grid failed when it was last tried
    overheads.json                      what runs took on each machine beside their work
    probes.json                         how fast machines were by probes of the last day
    executions/<key>.json               how a network is computed on a machine, once measured
    fingerprints.json                   of data and weights, by the sizes and times of their files

A file is complete or absent: everything is written under a temporary name and then moved, the
result last, with the checksum of each file in it and its own. A file that is not what was written
is renamed to *.damaged by the run that needs it, and made again. No path outside the store is
written in it, so that it can be moved, copied, and joined with another by copying one into the
other.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from harness.errors import DiskFull, StoreError, say_once
from harness.lock import locked
from harness.work.cells import Asked, Cell, Training
from harness.work.execution import PRECISIONS, Execution
from harness.work.options import as_in_its_file
from harness.work.overheads import Overheads
from harness.work.results import (
    DRAWN_FILES,
    RESULT,
    Artifacts,
    CellResult,
    R,
    Result,
    TrainingResult,
    from_json,
    to_json,
)
from harness.work.speeds import Speeds

LAYOUT = 2  # of the files above
WEIGHTS, CHECKPOINT, STATE = "weights.safetensors", "checkpoint.safetensors", "state.safetensors"
# Of all averages in a saved state, among its metadata: their decays, the keys of their trainings,
# and in what format on which machine they are computed.
DECAYS, TRAININGS, FORMAT = "decays", "trainings", "format"
LARGEST_HEADER = 100_000_000  # bytes: more are no safetensors
FEATURES = "features.npy"
FROM_SAMPLES = (FEATURES, *DRAWN_FILES)  # what of a cell only its network can make again
GRIDS, OWED, FAILED, EXECUTIONS = "grids", "owed", "failed", "executions"
OVERHEADS, PROBES = "overheads.json", "probes.json"
PROBED_FOR = 86_400.0  # seconds, after which a machine may be as busy as it was not
# What a store may share a folder with is not ours to clear up.
OWN_FILES = ("store.json", "fingerprints.json", "mlflow.db", OVERHEADS, PROBES)
OWN_FOLDERS = (
    "models", "cells", "features", "images", "networks", "artifacts", GRIDS, OWED, FAILED,
    EXECUTIONS,
)  # fmt: skip
CELLS, GRID = "cells.json", "grid.yaml"  # what a grid stands for, and its text
KEYS = ".keys"  # of what it has stood for
DAMAGED = ".damaged"  # after the key of what is set aside
MADE_FROM = "# made from "  # how that comment begins
TEMPORARY = re.compile(r"\..+\.(\d{1,9})(-journal)?")  # the name of a file that is being written
NO_ROOM = {
    errno.ENOSPC: ("the disk at {disk} is full", "Make room there"),
    errno.EDQUOT: ("your quota of the disk at {disk} is used up", "Make room there"),
    errno.EFBIG: ("files may not be as large as that (ulimit -f)", "Raise that limit"),
}


@dataclass(frozen=True)
class Store:
    """A folder of results. Making this value touches no disk."""

    root: Path

    @property
    def id(self) -> str:
        """Tells this store from others, without saying where it is."""
        text = f"{platform.node()} {self.root.resolve()}"
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]

    def model(self, key: str, name: str) -> Path:
        return self.root / "models" / key / name

    def cell(self, key: str, name: str) -> Path:
        return self.root / "cells" / key / name

    def state(self, training: Training) -> Path:
        """Where the steps of an unfinished training go on, and with them all averages that they
        make."""
        return self.model(replace(training, ema=0.0).key, STATE)

    def states(self, trainings: Iterable[Training]) -> list[Path]:
        """Where the state of trainings that the same steps make may lie, the newest first: an
        earlier version had it under the key of one of them."""
        trainings = list(trainings)
        own = [self.model(one.key, STATE) for one in trainings]
        return [*dict.fromkeys([*map(self.state, trainings), *own])]

    def saved_decays(self, training: Training) -> tuple[float, ...] | None:
        """Of which averages there is a saved state; None where there is none that tells."""
        found = told_by_state(self.state(training), DECAYS)
        return None if found is None else tuple(map(float, found))

    def saved_format(self, training: Training) -> tuple[str, str, bool] | None:
        """In what an unfinished training is computed: on which machine, in which precision, and
        whether channels are last; empty, `auto` and false where an earlier version began it, which
        went by the rule. None where none is saved."""
        path = next((path for path in self.states([training]) if path.exists()), None)
        if path is None or told_by_state(path, DECAYS) is None:  # or it is damaged
            return None
        match told_by_state(path, FORMAT):
            case [str(machine), str(precision), bool(last)] if precision in PRECISIONS:
                return machine, precision, last
        return "", "auto", False

    def remove_states(self, trainings: Iterable[Training]) -> None:
        """Remove the state of trainings that are finished, and a folder that held nothing else."""
        for path in self.states(trainings):
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()

    def fit(self, cell: Cell) -> Path:
        """What the steps of a cell are fitted to its network by, and of all cells alike but for
        their samplers and steps."""
        return self.model(cell.training.key, f"fitted-{cell.fit_name}.json")

    def reference(self, key: str) -> Path:
        """The features of a set of real images."""
        return self.root / "features" / f"{key}.npy"

    def network(self, fingerprint: str) -> Path:
        """The folder of a network that was trained elsewhere."""
        return self.root / "networks" / fingerprint

    def images(self, fingerprint: str) -> Path:
        """A set of images that came from another machine."""
        return self.root / "images" / f"{fingerprint}.npz"

    def has_model(self, key: str) -> bool:
        return self.model(key, RESULT).exists() and self.model(key, WEIGHTS).exists()

    def has_checkpoint(self, key: str) -> bool:
        return self.model(key, CHECKPOINT).exists()

    def cell_result(self, key: str) -> CellResult | None:
        """What came of a cell; None where it has not been finished. Raises StoreError where the
        file is not what was written."""
        return _read(CellResult, self.cell(key, RESULT))

    def training_result(self, key: str) -> TrainingResult | None:
        """What came of a training, in the same manner."""
        return _read(TrainingResult, self.model(key, RESULT))

    def damage(self, work: Training | Cell) -> Path | None:
        """The file that is not what was written, so that all that is kept of this work is of no
        use; None where there is no such file."""
        folder = self.folder(work)
        try:
            result = self.result(work)
        except StoreError:
            return folder / RESULT
        if result is None or not (folder / WEIGHTS).exists():
            return None
        return folder / WEIGHTS if self.lacking(result, [WEIGHTS]) else None

    def result(self, work: Training | Cell) -> Result | None:
        if isinstance(work, Training):
            return self.training_result(work.key)
        return self.cell_result(work.key)

    def keep(self, result: Result) -> None:
        """Write a result and its files, those that are not there yet; the result last, with which
        the names of all outlast a power cut: one that comes before costs files, which are missed by
        their checksums."""
        folder = self.folder(result.work)
        for name, expected in result.artifacts.checksums.items():
            content = result.artifacts.read(name)
            if content is not None and not is_whole(folder / name, expected):
                write_bytes(folder / name, content, is_last=False)
        write_bytes(folder / RESULT, to_json(result).encode())

    def finished_cells(self) -> set[str]:
        """The keys of cells that have a result, which is not read."""
        return {path.parent.name for path in (self.root / "cells").glob(f"*/{RESULT}")}

    def cell_results(self) -> list[CellResult]:
        """Of all finished cells of the store; damaged ones are named and left out."""
        return self._results(self.cell_result, "cells")

    def training_results(self) -> list[TrainingResult]:
        return self._results(self.training_result, "models")

    def keep_grid(self, name: str, asked: Asked, text: str = "") -> None:
        """Remember a grid and what it stands for: its comparisons are judged together. What the
        same file stood for before, with other changes on the command line or at other looks, is
        still needed."""
        before = (self.grid_file(name, GRID) or b"").decode(errors="replace")
        keys, others = {*asked.cells, *asked.trainings}, self.keys_of(name)
        is_same = bool(text) and as_in_its_file(before) == as_in_its_file(text)
        if is_same:
            keys |= self.needed_by(name)
        own = self.root / GRIDS / f"{name}-{self.id}{KEYS}"
        write_bytes(own, "\n".join(sorted(keys)).encode())
        for path in others:
            if path != own and not is_same:
                path.unlink(missing_ok=True)
        for file, content in ((CELLS, asked.as_json()), (GRID, text.encode())):
            write_bytes(self._of_grid(name, file), content)

    def keys_of(self, name: str) -> list[Path]:
        """The notes of all that the file of a grid has stood for: in this store, and in those that
        were joined with it."""
        return sorted((self.root / GRIDS).glob(f"{name}-{'[0-9a-f]' * 12}{KEYS}"))

    def needed_by(self, name: str) -> set[str]:
        """The keys of all cells and trainings that the file of a grid, as it was last run, has
        stood for."""
        asked = self.grids().get(name, Asked({}))
        notes = Folder(self.root / GRIDS)
        texts = [(notes.read(path.name) or b"").decode("ascii", "replace")
                 for path in self.keys_of(name)]  # fmt: skip
        return {*asked.cells, *asked.trainings, *" ".join(texts).split()}

    def owed(self, ledger: str) -> dict[str, Any]:
        """By the key of work, what is still to be recorded of it in a tracker."""
        return read_json(self.root / OWED / f"{ledger}.json")

    def keep_owed(self, ledger: str, debts: Mapping[str, Any]) -> None:
        path = self.root / OWED / f"{ledger}.json"
        if debts:
            write_json(path, debts)
        else:
            path.unlink(missing_ok=True)

    def failed(self, name: str) -> dict[str, str]:
        """By the key of work of a grid, why it failed and has not succeeded since."""
        return read_json(self.root / FAILED / f"{name}.json")

    def keep_failed(self, name: str, failed: Mapping[str, str]) -> None:
        path = self.root / FAILED / f"{name}.json"
        if failed:
            write_json(path, failed)
        else:
            path.unlink(missing_ok=True)

    def overheads(self, machine: str) -> Overheads | None:
        """What the last run on this machine took beside its work; None where there was none."""
        kept = read_json(self.root / OVERHEADS).get(machine)
        return Overheads.from_json(kept) if isinstance(kept, dict) else None

    def keep_overheads(self, machine: str, found: Overheads) -> None:
        path = self.root / OVERHEADS
        write_json(path, read_json(path) | {machine: vars(found)})

    def probed(self, key: str) -> Speeds | None:
        """What the last probe of this kind measured; None where there was none for a day."""
        kept = self._probes().get(key)
        return None if kept is None else Speeds.from_json(kept)

    def keep_probed(self, key: str, found: Speeds) -> None:
        """Remember what a probe measured, where there is a store that can be written."""
        if self.root.is_dir():
            with suppress(StoreError):
                kept = {"at": time.time(), **vars(found)}
                write_json(self.root / PROBES, self._probes() | {key: kept})

    def _probes(self) -> dict[str, Any]:
        """Those of the last day."""
        kept, now = read_json(self.root / PROBES), time.time()
        return {
            key: one
            for key, one in kept.items()
            if isinstance(one, dict)
            and isinstance(at := one.get("at"), int | float)
            and 0 <= now - at < PROBED_FOR
        }

    def execution(self, key: str) -> Execution | None:
        """How a network is computed on a machine; None where that has not been settled here."""
        return _execution(self.root / EXECUTIONS / f"{key}.json")

    def executions(self) -> list[Execution]:
        """All that have been settled here."""
        found = map(_execution, sorted((self.root / EXECUTIONS).glob("*.json")))
        return [one for one in found if one]

    def measured_precisions(self, like: Training, machine: str) -> list[str]:
        """In which networks for the same images are computed on a machine, where that was measured
        and the grid asked for the same as that of this training."""
        of = machine, str(like.data), like.precision
        return [
            one.format.precision
            for one in self.executions()
            if (one.machine, one.data, one.asked) == of
        ]

    def keep_execution(self, key: str, found: Execution) -> Execution:
        """Settle how a network is computed on a machine; returns what is settled, which is another
        where another program came first. Raises StoreError where it cannot be written."""
        path = self.root / EXECUTIONS / f"{key}.json"
        if _execution(path) is None:
            write_json(path, asdict(found), once=not path.exists())  # else it is damaged
        return _execution(path) or found

    def grid_file(self, name: str, file: str) -> bytes | None:
        """What was kept of a grid: its text, or what it stands for."""
        return Folder(self.root / GRIDS).read(self._of_grid(name, file).name)

    def _of_grid(self, name: str, file: str) -> Path:
        return self.root / GRIDS / f"{name}{Path(file).suffix}"

    def grids(self) -> dict[str, Asked]:
        """What each grid that was run here stood for when it was last run; a damaged note of it is
        none."""
        found = {}
        for path in sorted((self.root / GRIDS).glob("*.json")):
            with suppress(OSError, ValueError, TypeError, KeyError):
                found[path.stem] = Asked.from_json(path.read_bytes())
        return found

    def forget(self, work: Training | Cell) -> None:
        """Remove what came of a piece of work, the file that says it is complete first, and where
        it would go on."""
        remove(self.folder(work))
        if isinstance(work, Training):
            self.remove_states([work])

    def lacking(self, result: Result, names: Iterable[str]) -> list[str]:
        """Which of these files of a result are missing here, or are not what was written."""
        folder, known = self.folder(result.work), result.artifacts.checksums
        return [one for one in names if one in known and not is_whole(folder / one, known[one])]

    def set_aside_files(self, result: Result, names: Iterable[str]) -> None:
        """Set aside those of these files of a result that are not what was written."""
        for name in self.lacking(result, names):
            if (path := self.folder(result.work) / name).exists():
                set_aside(path)

    def keep_checksum(self, path: Path, *made_from: str) -> None:
        """Write beside a file that belongs to no result what `sha256sum` says of it, and in a
        comment the fingerprints of what it was made from."""
        with suppress(FileNotFoundError):  # another worker has set it aside
            written = f"{checksum_of(path)}  {path.name}\n"
            written += f"{MADE_FROM}{' '.join(made_from)}\n" if made_from else ""
            write_bytes(checksum_beside(path), written.encode())

    def has_whole(self, path: Path) -> bool:
        """Whether a file that belongs to no result is here and what was written; one that is not
        is set aside, and one of an earlier version, without a checksum, is no such file."""
        known = kept_checksum(path)
        if known is None or not path.exists():
            return False
        if is_whole(path, known):
            return True
        set_aside(path)
        return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process drives a store at a time; what a dead one left half written is removed.
        Raises StoreError saying who holds it."""
        self.check()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise not_written(self.root, error.errno or 0) from None
        with locked(self.root):
            write_json(self.root / "store.json", {"layout": LAYOUT})
            remove_leftovers(self.root)
            yield

    def check(self) -> None:
        """Raises StoreError where the folder cannot be made or written, or is of an earlier
        version; makes nothing."""
        self.check_version()
        check_writable(self.root, "store", "--store")

    def check_version(self) -> None:
        """Raises StoreError where an earlier version of this program made the store."""
        has_work = any((self.root / kind).is_dir() for kind in ("models", "cells"))
        layout = read_json(self.root / "store.json").get("layout")
        if layout is None and any(self.root.glob(f"*/*/{RESULT}")):
            layout = LAYOUT  # folders of results that were copied without it
        if has_work and layout != LAYOUT:
            raise StoreError(
                f"the store {self.root} was made by another version of harness, whose results "
                "this one does not read. Use another --store, or remove it."
            )

    def folder(self, work: Training | Cell) -> Path:
        """Where what came of a piece of work is kept."""
        return self.root / ("models" if isinstance(work, Training) else "cells") / work.key

    def _results(self, read: Callable[[str], R | None], kind: str) -> list[R]:
        folder, found = self.root / kind, []
        for key in sorted(path.name for path in folder.iterdir()) if folder.is_dir() else ():
            if DAMAGED in key:
                continue
            try:
                if result := read(key):
                    found.append(result)
            except StoreError as error:
                say_once(str(error))
        return found


@dataclass(frozen=True)
class Folder:
    """The files of one result, read where they are now."""

    path: Path

    def read(self, name: str) -> bytes | None:
        """A file's content; None where it is not there."""
        try:
            return (self.path / name).read_bytes()
        except OSError:
            return None


def _read(kind: type[R], path: Path) -> R | None:
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read ({error.strerror}). Make it readable, or use another --store."
        ) from None
    result = from_json(kind, text, Folder(path.parent).read, str(path))
    if result.work.key != path.parent.name:
        raise StoreError(
            f"{path} is not what was written there: it is of {result.work.key}. Use harness run "
            "with its grid, which makes it again."
        )
    return result


def _execution(path: Path) -> Execution | None:
    """What is kept of how a network is computed; None where that is missing or damaged."""
    with suppress(OSError):
        return Execution.from_json(path.read_bytes())
    return None


def is_whole(path: Path, expected: str) -> bool:
    """Whether this file is there, with the content of this checksum."""
    with suppress(OSError):
        return checksum_of(path) == expected
    return False


def checksum_of(path: Path) -> str:
    """sha256 of a file; read once in a process, and again where its size or time has changed."""
    stat = path.stat()
    return _checksum_of(str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _checksum_of(path: str, *_: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum_beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def kept_checksum(path: Path) -> str | None:
    """The checksum beside a file that belongs to no result; None where there is none."""
    kept = Folder(path.parent).read(checksum_beside(path).name)
    return None if kept is None else kept[:64].decode(errors="replace")


def made_from(path: Path) -> tuple[str, ...]:
    """The fingerprints of what a file that belongs to no result was made from; empty where an
    earlier version wrote it, which did not say."""
    kept = Folder(path.parent).read(checksum_beside(path).name) or b""
    lines = kept.decode(errors="replace").splitlines()
    told = (line.removeprefix(MADE_FROM) for line in lines if line.startswith(MADE_FROM))
    return tuple(next(told, "").split())


def told_by_state(path: Path, name: str) -> list[Any] | None:
    """A list among the metadata of a saved state; None where it cannot be read or has none."""
    with suppress(OSError, ValueError, KeyError, TypeError), path.open("rb") as file:
        size = min(int.from_bytes(file.read(8), "little"), LARGEST_HEADER)
        return list(json.loads(json.loads(file.read(size))["__metadata__"][name]))
    return None


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it as far as that can be removed, the file
    that says it is complete first."""
    if path.is_dir() and not path.is_symlink():
        (path / RESULT).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def aside(root: Path) -> list[Path]:
    """What was set aside as damaged in a store."""
    found = (root / part for part in OWN_FOLDERS)
    return sorted(path for folder in found for path in folder.rglob(f"*{DAMAGED}*"))


def set_aside(path: Path) -> None:
    """Move a damaged file, or the folder of a damaged result, out of the way, so that it is made
    again, and say so. Nothing is removed. Raises StoreError where it cannot be moved."""
    number, aside = 1, path.with_name(f"{path.name}{DAMAGED}")
    while aside.exists():  # it happened before
        number += 1
        aside = path.with_name(f"{path.name}{DAMAGED}-{number}")
    try:
        path.rename(aside)
    except FileNotFoundError:  # nothing is there
        return
    except OSError as error:
        raise StoreError(
            f"{path}, which is damaged, cannot be moved to {aside} ({error.strerror}). Use a store "
            "that you may write, or move it yourself."
        ) from None
    synced(path.parent)
    logging.getLogger("harness").warning("%s was damaged: it is made again; see %s", path, aside)


def in_memory(artifacts: Artifacts, *names: str) -> Artifacts:
    """The artifacts with these files at hand as bytes, to be sent to another process."""
    contents = {name: content for name in names if (content := artifacts.read(name)) is not None}
    return replace(artifacts, read_from=contents.get)


def check_writable(folder: Path, what: str, option: str) -> None:
    """Raises StoreError where this folder cannot be made or written; makes nothing."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        why = "may not be written" if existing.is_dir() else "is not a folder"
        raise StoreError(
            f"the {what} {folder} cannot be written: {existing} {why}. "
            f"Use a folder of yours with {option}."
        )


@contextmanager
def replacing(path: Path, *, once: bool = False, is_last: bool = True) -> Iterator[Path]:
    """A temporary path beside this one, moved to it when the block ends without an error; `once`,
    only where no other program has come first. The name outlasts a power cut where it is the last
    of several in its folder. Raises StoreError where it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")  # as TEMPORARY reads it
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())  # else a power cut may leave the name without the content
        if not (once and linked(temporary, path)):
            os.replace(temporary, path)
        if is_last:
            synced(path.parent)
    except OSError as error:
        # numpy's errors have no number: they say only that less was written than there is.
        raise not_written(path, error.errno or errno.ENOSPC) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def linked(temporary: Path, path: Path) -> bool:
    """Give a file a second name, or find that name taken; false where the disk knows no links."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return True
    except OSError:
        return False
    return True


def not_written(path: Path, number: int) -> StoreError:
    """What to say of a file that the system refuses to write with this error number."""
    folder = path.resolve().parent
    disk = next((each for each in (folder, *folder.parents) if os.path.ismount(each)), folder)
    if number not in NO_ROOM:
        why = os.strerror(number)
        return StoreError(f"{path} cannot be written ({why}). Use a folder that may be written.")
    what, remedy = NO_ROOM[number]
    return DiskFull(
        f"{what.format(disk=disk)}: {path} cannot be written. {remedy}, then use the same command: "
        "it goes on from here."
    )


def remove_leftovers(root: Path) -> None:
    """Remove what dead processes of this machine left half written of a store."""
    for path in leftovers(root):
        with suppress(OSError):
            remove(path)


def leftovers(root: Path) -> Iterator[Path]:
    """What dead processes of this machine left half written of a store."""
    ours = [(str(root), path.name) for name in OWN_FILES for path in root.glob(f".{name}.*")]
    for part in OWN_FOLDERS:
        ours += ((folder, name) for folder, _, names in os.walk(root / part) for name in names)
    for folder, name in ours:
        if name.startswith(".") and (found := TEMPORARY.fullmatch(name)):
            path = Path(folder, name)
            with suppress(OSError):
                if not is_running(int(found[1]), path.stat().st_mtime):
                    yield path


def is_running(process: int, then: float) -> bool:
    """Whether the process that had this number then goes on. In containers, numbers come again."""
    try:
        return psutil.Process(process).create_time() <= then
    except psutil.NoSuchProcess:
        return False


def synced(folder: Path) -> None:
    """Have the names in a folder outlast a power cut, on systems that can."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def read_json(path: Path) -> dict[str, Any]:
    """The fields of a small file of ours; none where it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Mapping[str, Any], once: bool = False) -> None:
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode(), once=once)


def write_bytes(path: Path, content: bytes, *, once: bool = False, is_last: bool = True) -> None:
    with replacing(path, once=once, is_last=is_last) as temporary:
        temporary.write_bytes(content)
