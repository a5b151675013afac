"""MLflow, and nothing but MLflow: the only folder that imports it.

One experiment per grid name. In it one parent run, found by its tag and reopened, and under it,
flat, one child per training and one per cell. Only the process that a person started writes here;
workers return their results, so SQLite is enough and nobody waits for a lock.

Params, metrics and tags are for people and plain clients. We read back one file of each run, the
result itself, and find it where the store is now, not where it was when it was written.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.entities import Metric, Param, RunTag

from harness.store import WEIGHTS, replacing, write_bytes
from harness.tracking.client import Client, move_artifacts, path_of, without_password
from harness.tracking.records import Records
from harness.tracking.tags import (
    CELLS,
    FORECAST,
    GRID,
    KEY,
    KIND,
    MACHINE,
    NOTE,
    PARENT,
    REASON,
    RESOLVED,
    REUSED,
    STORE,
    SUPERSEDED,
    VERDICT,
    VERSION,
)
from harness.tracking.ui import serve
from harness.work.cells import Asked, Cell, Training
from harness.work.projection import facts_of, metrics_of
from harness.work.results import RESULT, SHOWN_FILES, Failure, Result, TrainingResult, to_json

EXPERIMENT_KIND = "mlflow.experimentKind"  # so that the UI shows trainings, not conversations
BATCH = 500  # entities in one request; MLflow takes 1,000

__all__ = ["Tracker", "serve", "without_password"]


class Tracker(Records):
    """What has been recorded of one experiment, and how more is."""

    def __init__(self, uri: str, experiment: str, artifacts: Path | None = None, store: str = ""):
        """`artifacts` is the folder for the files of a new experiment where the tracking store is
        a database (beside it, if none is given); `store` names whose runs these are, so that what
        a dead process of ours left can be told from what another machine is doing. Nothing is made
        before `open`."""
        super().__init__(uri, experiment)
        self._artifacts, self._store = artifacts or self._home, store
        self._parent: str | None = None

    def open(self, grid_text: str, asked: Asked, tags: Mapping[str, str]) -> None:
        """Begin to write: mark what a dead process left, then find or make the parent run."""
        self._client = Client(self._uri)
        self._experiment = self._find_experiment()
        if self._experiment is None:
            folder = self._artifacts.resolve().as_uri() if self._artifacts and self._home else None
            self._experiment = self._client.create_experiment(
                self._name,
                artifact_location=folder,
                tags={EXPERIMENT_KIND: "custom_model_development"},
            )
        move_artifacts(self._uri)
        self._runs_read = None
        for run in self._runs():
            if run.info.status == "RUNNING" and run.data.tags.get(STORE) == self._store:
                self._client.set_terminated(run.info.run_id, "KILLED")
        if found := self._find_parent():
            self._parent = found.info.run_id
            self._client.update_run(self._parent, "RUNNING")
        else:
            self._parent = self._create(self._name, {KIND: "grid", STORE: self._store})
        self._tag(self._parent, tags)
        self._write(self._parent, {GRID: grid_text.encode(), CELLS: asked.as_json()})
        self._runs_read = None

    def close(self, status: str) -> None:
        """The parent is no longer being written to: FINISHED, FAILED or KILLED."""
        if self._parent:
            self._end(self._parent, status)

    def started(
        self, work: Training | Cell, forecast: float | None = None, is_reused: bool = False
    ) -> str:
        """Make a RUNNING child for this work, which is predicted to take `forecast` seconds;
        returns its run id."""
        assert self._parent, "open() comes first"
        tags = {KIND: kind_of(work), KEY: work.key, STORE: self._store, PARENT: self._parent}
        if forecast:
            tags[FORECAST] = f"{forecast:.4g}"
        if is_reused:
            tags[REUSED] = "true"
        run_id = self._create(work.title, tags)
        params = [Param(name, str(value)) for name, value in work.params().items()]
        self._client.log_batch(run_id, params=params)
        self._runs_read = None
        return run_id

    def progress(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        """Record live numbers of a run under way."""
        self._log(run_id, values, step)

    def sheet(self, run_id: str, name: str, picture: bytes) -> None:
        """Keep a picture of how a training is coming along."""
        self._write(run_id, {name: picture})

    def completed(self, run_id: str, result: Result, folder: Path) -> None:
        """The work is complete: its files, the result, its numbers, and only then FINISHED.
        `folder` is where the store keeps the files."""
        self.amended(run_id, result, folder)
        self._end(run_id, "FINISHED")

    def amended(self, run_id: str, result: Result, folder: Path) -> None:
        """Record what is new (a metric, other timings). The numbers come last: once they are
        there, the work counts as done."""
        for name in result.artifacts.checksums:
            if name in (*SHOWN_FILES, WEIGHTS) and (folder / name).exists():
                self._link(run_id, folder / name, name)
        self._write(run_id, {RESULT: to_json(result).encode()})
        tags = {f"{RESOLVED}{name}": value for name, value in facts_of(result).items()}
        tags[MACHINE] = result.provenance.machine
        tags |= {f"{VERSION}{name}": value for name, value in result.provenance.versions.items()}
        # Of a metric MLflow shows the value at the highest step.
        last = result.training.training_steps if isinstance(result, TrainingResult) else 0
        self._log(run_id, metrics_of(result), last, tags)
        self._runs_read = None

    def failed(self, run_id: str, failure: Failure) -> None:
        self._tag(run_id, {REASON: failure.reason[:4000]})
        if failure.details:
            self._write(run_id, {"traceback.txt": failure.details.encode()})
        self._end(run_id, "FAILED")

    def abandoned(self, run_id: str) -> None:
        """The work was asked to stop and will go on another time."""
        self._end(run_id, "KILLED")

    def superseded(self, keys: Iterable[str]) -> None:
        """Set aside the finished runs of this work: it is being done again."""
        wanted = set(keys)
        for run in self._complete():
            if run.data.tags[KEY] in wanted:
                self._tag(run.info.run_id, {SUPERSEDED: "true"})
        self._runs_read = None

    def publish(
        self, folder: Path, files: Iterable[Path], description: str, verdicts: Iterable[str] = ()
    ) -> None:
        """Keep a report's files with the parent run, its beginning as its description, and its
        comparisons as tags."""
        if not (parent := self._find_parent()):
            return
        run_id = parent.info.run_id
        contents = {f"report/{one.relative_to(folder).as_posix()}": one for one in files}
        self._write(run_id, {name: path.read_bytes() for name, path in contents.items()})
        told = {f"{VERDICT}{n:02}": text[:5000] for n, text in enumerate(verdicts, start=1)}
        for name in parent.data.tags:
            if name.startswith(VERDICT) and name not in told:
                self._client.delete_tag(run_id, name)
        self._tag(run_id, {NOTE: description[:5000], **told})

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        assert self._experiment, "open() comes first"
        run = self._client.create_run(self._experiment, run_name=name, tags=dict(tags))
        self._folders[run.info.run_id] = path_of(run.info.artifact_uri or "")
        return str(run.info.run_id)

    def _end(self, run_id: str, status: str) -> None:
        self._client.set_terminated(run_id, status)
        self._runs_read = None

    def _log(
        self, run_id: str, values: Mapping[str, float], step: int, told: Mapping[str, str] = {}
    ) -> None:
        """Numbers, and tags with them: a request costs the same however much it holds."""
        now = int(time.time() * 1000)
        metrics = [
            Metric(name, float(value) if math.isfinite(value) else math.nan, now, step)
            for name, value in values.items()
        ]
        tags = [
            RunTag(f"harness.infinite.{name}", str(value))
            for name, value in values.items()
            if math.isinf(value)
        ]
        tags += [RunTag(name, value) for name, value in told.items()]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + BATCH], tags=tags)

    def _tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        self._client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    def _write(self, run_id: str, contents: Mapping[str, bytes]) -> None:
        """Keep these files with a run."""
        if (home := self._folder(run_id)) is not None:
            for name, content in contents.items():
                write_bytes(home / name, content)
            return
        with TemporaryDirectory() as folder:
            for name, content in contents.items():
                write_bytes(Path(folder) / name, content)
            self._client.log_artifacts(run_id, folder)

    def _link(self, run_id: str, path: Path, name: str) -> None:
        """Keep a file of the store with a run, without a second copy where that is possible."""
        if (home := self._folder(run_id)) is None:
            inside = str(Path(name).parent)
            self._client.log_artifact(run_id, str(path), None if inside == "." else inside)
            return
        with replacing(home / name) as temporary:
            try:
                os.link(path, temporary)
            except OSError:  # another disk, or one that knows no links
                shutil.copyfile(path, temporary)


def kind_of(work: Training | Cell) -> str:
    """What a run is of: training, cell or checkpoint."""
    if isinstance(work, Training):
        return "training"
    return "cell" if work.weights == "final" else "checkpoint"
