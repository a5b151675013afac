"""What images and weights are, by their content: the fingerprints in the keys of work.

Files are read only where their sizes or times have changed since they were last looked at; what
was found then is kept in the store.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.data.datasets import DATASETS
from harness.diffusion.objective import check_target
from harness.diffusion.schedules import SCHEDULES
from harness.engine.inputs import image_set, new_extractor
from harness.engine.pretrained import folder_of, network_at, remember
from harness.errors import BadOption, StoreError
from harness.metrics.features import EXTRACTORS
from harness.models.presets import MODELS
from harness.models.pretrained import files_of
from harness.registry import Registry
from harness.store import Store, read_json, write_json
from harness.work.cells import Part, Training, by_name
from harness.work.options import Workplace

FINGERPRINTS = "fingerprints.json"
SETTLED_SECONDS = 2.0  # seconds without a change, after which a file's times show the next one
# Other versions may read other pixels from the same files, or make others.
READERS = ("numpy", "pillow", "pillow-heif", "scikit-learn", "torchvision")


def data_fingerprint(part: Part, at: Workplace) -> str:
    """sha256 of the images of a data set. Raises DataError where they cannot be had."""
    return _fingerprint(
        DATASETS, part, at, lambda: image_set(at.data_dir, part, is_fresh=True).fingerprint
    )


def extractor_fingerprint(part: Part, at: Workplace) -> str:
    """sha256 of the weights of an extractor. Raises DataError where they cannot be had."""
    return _fingerprint(
        EXTRACTORS, part, at, lambda: new_extractor(at.data_dir, "cpu", part).fingerprint
    )


def with_network(training: Training, at: Workplace) -> Training:
    """The training with the fingerprint of its network, where that was trained elsewhere, under its
    folder's name and with what it predicts. Raises DataError where the folder cannot be read, and
    BadOption where the network was trained under another schedule or in another scale."""
    if not training.is_given:
        return training
    found = network_at(training.model, at)
    schedule = Part.of(found.schedule, SCHEDULES.check_options(found.schedule, found.options))
    if training.schedule != schedule:
        written = f"{{name: {schedule.name}, {schedule.settings.replace('=', ': ')}}}"
        raise BadOption(
            f"schedules: the network '{found.name}' was trained under {schedule}, not "
            f"{training.schedule}. Use schedules: [{written if schedule.options else schedule}], "
            "and sample_schedules for others to sample it under."
        )
    if training.scale != "range":
        raise BadOption(
            f"scale: the network '{found.name}' knows pixels from -1 to 1, not scale "
            f"{training.scale}. Use scale: range."
        )
    check_target(found.target, SCHEDULES.make(schedule.name, schedule.keywords))
    fingerprint = _fingerprint(
        MODELS, training.model, at, lambda: found.fingerprint,
        lambda data_dir, **options: files_of(folder_of(training.model, at)),
    )  # fmt: skip
    remember(fingerprint, found)
    model = by_name(training.model)
    return replace(training, model=model, target=found.target, model_fingerprint=fingerprint)


def _fingerprint(
    registry: Registry[Any],
    part: Part,
    at: Workplace,
    look: Callable[[], str],
    sources: Callable[..., Iterable[Path] | None] | None = None,
) -> str:
    """What was found before, where the part's sources have not changed since; else what `look`
    finds, kept in the store where there is one. A part tells its sources itself, unless they are
    given."""
    sources = sources or getattr(registry[part.name], "sources", None)

    def stamp(settled_by: float) -> str:
        if not sources:
            return ""
        with registry.blamed(part.name, "cannot say from which files it comes"):
            return _stamp(sources(at.data_dir, **part.keywords), settled_by)

    path = Store(at.store).root / FINGERPRINTS
    name = f"{part.name}-{_sha256([registry.kind, asdict(part)])[:12]}"
    before = (read_json(path) | _found.get(path, {})).get(name)
    began = time.time()
    if isinstance(before, dict) and before.get("sources") == stamp(began):
        return str(before["fingerprint"])
    fingerprint = look()
    if now := stamp(began - SETTLED_SECONDS):
        _found.setdefault(path, {})[name] = {"sources": now, "fingerprint": fingerprint}
        if path.parent.is_dir():
            keep_fingerprints(at)
    return fingerprint


def keep_fingerprints(at: Workplace) -> None:
    """Write what this process has found into the store, which is made if it must be."""
    path = Store(at.store).root / FINGERPRINTS
    if found := _found.pop(path, {}):
        with suppress(StoreError):  # which may be read-only
            write_json(path, read_json(path) | found)


_found: dict[Path, dict[str, Mapping[str, str]]] = {}  # not written yet: there is no store


def _stamp(files: Iterable[Path] | None, settled_by: float) -> str:
    """A digest of the names, sizes and times of files; empty where there are none, and where one
    was changed later than that: a change that follows at once could leave the same time."""
    if files is None:
        return ""
    stats = {str(file): Path(file).stat() for file in files}
    if any(max(one.st_mtime, one.st_ctime) > settled_by for one in stats.values()):
        return ""
    above = os.path.commonpath([Path(file).parent for file in stats]) if stats else ""
    rows = [
        (file[len(above) :].replace(os.sep, "/"), one.st_size, one.st_mtime_ns, one.st_ctime_ns)
        for file, one in stats.items()
    ]
    return _sha256([_reader_versions(), sorted(rows)])


@cache
def _reader_versions() -> list[str]:
    found = []
    for package in READERS:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return found


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
