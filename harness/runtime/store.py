"""The store: files named by the content key of the work they come from.

    models/<key>/weights.safetensors    exists only when the training is complete
    models/<key>/checkpoint.safetensors the weights of a tenth before its end
    models/<key>/state.safetensors      where an unfinished training goes on
    models/<key>/training.json ...      what came of it, its losses and sheets
    cells/<key>/outcome.json ...        what came of a cell: exists only when it is complete
    features/<key>.npy                  features of a cell's images or of a reference set

A file is complete or absent: everything is written under a temporary name and then moved.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from harness.errors import StoreError


@dataclass(frozen=True)
class Store:
    """A folder of results. Making this value touches no disk."""

    root: Path

    def model(self, key: str, name: str) -> Path:
        return self.root / "models" / key / name

    def cell(self, key: str, name: str) -> Path:
        return self.root / "cells" / key / name

    def checkpoint(self, key: str) -> Path:
        """The averaged weights of a training a tenth before its end."""
        return self.model(key, "checkpoint.safetensors")

    def features(self, key: str) -> Path:
        return self.root / "features" / f"{key}.npy"

    def has_model(self, key: str) -> bool:
        return self.model(key, "weights.safetensors").exists()

    def outcome(self, key: str) -> dict[str, Any] | None:
        """What came of a cell, or None where it has not been finished."""
        return self._read(self.cell(key, "outcome.json"), "cell", "metrics")

    def trained(self, key: str) -> dict[str, Any] | None:
        """What came of a training, or None where it has not been finished."""
        if not self.has_model(key):
            return None
        return self._read(self.model(key, "training.json"), "training", "metrics")

    def keys(self, kind: str) -> list[str]:
        """The keys that have a folder under `models` or `cells`."""
        folder = self.root / kind
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def forget_cell(self, key: str) -> None:
        """Remove what came of a cell, the file that says it is complete first."""
        self.cell(key, "outcome.json").unlink(missing_ok=True)
        self.features(key).unlink(missing_ok=True)
        shutil.rmtree(self.root / "cells" / key, ignore_errors=True)

    def forget_model(self, key: str) -> None:
        """Remove a training, the file that says it is complete first."""
        self.model(key, "weights.safetensors").unlink(missing_ok=True)
        shutil.rmtree(self.root / "models" / key, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process drives a store at a time. Raises StoreError saying who holds it."""
        self.check()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be made ({error.strerror})") from None
        holder = self.root / "lock.json"
        lock = FileLock(self.root / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            told = self._read(holder) or {}
            raise StoreError(
                f"the store {self.root} is in use by process {told.get('process', 'unknown')} "
                f"({told.get('command', 'another run')}). Wait for it, or give another --store."
            ) from None
        try:
            me = psutil.Process()
            write_json(holder, {"process": me.pid, "command": " ".join(me.cmdline()[1:])[-200:]})
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def check(self) -> None:
        """Raises StoreError where the folder cannot be made or written; makes nothing."""
        check_writable(self.root, "store", "--store")

    def _read(self, path: Path, *needed: str) -> dict[str, Any] | None:
        try:
            value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            value = {}
        if not isinstance(value, dict) or not {*needed} <= value.keys() or not value:
            raise StoreError(
                f"{path} is not what was written there: something else changed it. Remove it and "
                "run again."
            )
        return value


def check_writable(folder: Path, what: str, option: str) -> None:
    """Raises StoreError where this folder cannot be made or written; makes nothing."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        why = "may not be written" if existing.is_dir() else "is not a folder"
        raise StoreError(
            f"the {what} {folder} cannot be written: {existing} {why}. "
            f"Give a folder of yours with {option}."
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside this one, moved to it when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())  # else a power cut may leave the name without the content
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror})") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
