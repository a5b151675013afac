"""Experiments and runs as MLflow has them, whether its server tells of them or its database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class MlflowExperiment:
    """An experiment, with its tags."""

    id: str
    is_deleted: bool
    tags: Mapping[str, str]


@dataclass(frozen=True)
class MlflowRun:
    """A run, with its tags and the names of its metrics."""

    id: str
    name: str
    status: str  # RUNNING, FINISHED, FAILED or KILLED
    began: int  # milliseconds since 1970
    ended: int | None  # likewise
    artifact_uri: str
    tags: Mapping[str, str]
    metrics: frozenset[str]


class Runs(Protocol):
    """Where experiments and their runs are read. Its methods raise TrackingError."""

    def experiment(self, name: str) -> MlflowExperiment | None:
        """The experiment of this name, deleted or not; None where there is none."""

    def of(self, experiment: str) -> list[MlflowRun]:
        """The runs of the experiment of this id that are not deleted, newest first."""
