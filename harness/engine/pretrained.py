"""Networks that were trained elsewhere: found where a grid says, and kept in the store under the
fingerprint of their weights.

The store has a copy, so that it goes on where the folder is gone, can be moved, and gives it to the
nodes of a cluster.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from harness.data.folder import existing_path
from harness.errors import DataError, StoreError
from harness.models.pretrained import (
    CONFIG,
    NETWORK_FILES,
    WEIGHTS,
    PretrainedNetwork,
    read_config,
    read_network,
)
from harness.store import Store, replacing, set_aside
from harness.work.cells import Cell, Part, Training
from harness.work.options import Workplace

_places: dict[str, Path] = {}  # by fingerprint, where this process has seen a network


def folder_of(part: Part, at: Workplace) -> Path:
    """The folder that a model names. Raises DataError where it is not there."""
    return existing_path(part.keywords["path"], at.data_dir, "folder of a network of diffusers")


def network_at(part: Part, at: Workplace) -> PretrainedNetwork:
    """The network that a model names. Raises DataError or BadOption where it cannot be used."""
    options = {name: value for name, value in part.keywords.items() if name != "path"}
    return read_network(folder_of(part, at), **options)


def remember(fingerprint: str, network: PretrainedNetwork) -> None:
    """Know where a network is until the store has a copy of it."""
    _places[fingerprint] = network.folder


def network_of(training: Training, at: Workplace) -> PretrainedNetwork:
    """The network of a training that has been looked at, from the store where that has it. Raises
    StoreError where it is nowhere."""
    name, fingerprint = training.origin, training.model_fingerprint
    folder = Store(at.store).network(fingerprint)
    if not all((folder / file).is_file() for file in NETWORK_FILES):
        if fingerprint not in _places:
            raise StoreError(
                f"the store {at.store} does not have the network '{name}'. Use harness run with "
                "its grid."
            )
        folder = _places[fingerprint]
    schedule = training.schedule
    return PretrainedNetwork(
        name, folder, read_config(folder / CONFIG), schedule.name, schedule.keywords,
        training.target,
    )  # fmt: skip


def keep_networks(cells: Iterable[Cell], at: Workplace) -> None:
    """Copy the networks of cells that were trained elsewhere into the store, those that it has not.
    Raises DataError where a network has changed since it was looked at."""
    given = {t.model_fingerprint: t for cell in cells if (t := cell.training).is_given}
    for fingerprint, training in given.items():
        kept = Store(at.store).network(fingerprint)
        if kept.exists():
            if network_of(training, at).fingerprint == fingerprint:
                continue
            set_aside(kept)
        source = network_of(training, at)
        for name in NETWORK_FILES:
            with replacing(kept / name) as temporary:
                shutil.copyfile(source.folder / name, temporary)
        if network_of(training, at).fingerprint != fingerprint:
            shutil.rmtree(kept)
            raise DataError(
                f"the network '{training.origin}' changed while it was copied into the store. Use "
                "the same command again once it no longer changes."
            )
        Store(at.store).keep_checksum(kept / WEIGHTS)
