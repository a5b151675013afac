"""MLflow, and nothing but MLflow: the only module that imports it.

One experiment per grid name. In it one parent run, found by its tag and reopened, and under it,
flat, one child per training and one per cell. Only the process that a person started writes here;
workers return their results, so SQLite is enough and nobody waits for a lock.
"""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pandas as pd

from harness.errors import TrackingError
from harness.plan.work import RECIPE, Cell, Training
from harness.runtime.execute import Failure

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# As it comes, MLflow asks a server that is not there for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

from mlflow import MlflowClient  # it reads these settings when it is imported
from mlflow.entities import Metric, Param, Run, RunTag

KIND, KEY, STORE, REUSED = "harness.kind", "harness.key", "harness.store", "harness.reused"
SUPERSEDED, REASON, MACHINE = "harness.superseded", "harness.reason", "harness.machine"
VERDICT, RESOLVED = "harness.verdict.", "harness.resolved."
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
EXPERIMENT_KIND = "mlflow.experimentKind"  # so that the UI shows trainings, not conversations
NUMBERS = (
    "steps", "seed", "sampling_seed", "images", "eta", "training_steps", "batch_size",
    "learning_rate", "ema", "forecast_seconds",
)  # fmt: skip
BATCH = 500  # entities in one request; MLflow takes 1,000


class Tracker:
    """What has been recorded of one experiment, and how more is.

    Raises TrackingError where the server or database cannot be used.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path | None = None, store: str = ""):
        """`artifacts` is the folder for a new experiment's files where the tracking store is a
        database; `store` names whose runs these are, so that what a dead process of ours left
        can be told from what another machine is doing. Nothing is made before `open`."""
        self._uri, self._name, self._artifacts, self._store = uri, experiment, artifacts, store
        self._experiment: str | None = None
        self._parent: str | None = None
        self._runs_read: list[Run] | None = None
        self._folders_read: dict[str, Path] | None = None
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        if database_is_there(uri):
            self._client = Client(uri)
            self._experiment = self._find_experiment()

    def _find_experiment(self) -> str | None:
        found = self._client.get_experiment_by_name(self._name)
        if found and found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"the experiment '{self._name}' was deleted in MLflow. Restore it there, or give "
                "the grid another name."
            )
        return str(found.experiment_id) if found else None

    # Reading.

    def finished(self) -> dict[str, frozenset[str]]:
        """Keys of the trainings and cells that are recorded as complete, and their metrics."""
        return {
            run.data.tags[KEY]: frozenset(run.data.metrics)
            for run in self._complete("training", "cell")
        }

    def run_ids(self) -> dict[str, str]:
        """The run of each training and cell that is recorded as complete."""
        return {run.data.tags[KEY]: run.info.run_id for run in self._complete("training", "cell")}

    def table(self) -> pd.DataFrame:
        """One row per finished cell: params, metrics, `key`, `run_id`, `machine`."""
        return self._frame("cell")

    def trainings(self) -> pd.DataFrame:
        """One row per finished training, in the same manner."""
        return self._frame("training")

    def failures(self) -> pd.DataFrame:
        """What failed and has not succeeded since: `kind`, `key`, `what`, `reason`."""
        done = {*self.finished(), ""}
        rows = {
            run.data.tags[KEY]: {
                "kind": run.data.tags[KIND],
                "key": run.data.tags[KEY],
                "what": run.info.run_name,
                "reason": run.data.tags.get(REASON, ""),
            }
            for run in reversed(self._runs())
            if run.info.status == "FAILED" and run.data.tags.get(KEY, "") not in done
        }
        return pd.DataFrame(rows.values(), columns=["kind", "key", "what", "reason"])

    def artifact(self, run_id: str, name: str) -> bytes | None:
        """A file of a run, or None where it has none of that name."""
        try:
            if (folder := self._folders().get(run_id)) is not None:
                return (folder / name).read_bytes()
            return Path(self._client.download_artifacts(run_id, name)).read_bytes()
        except (TrackingError, OSError):
            return None

    def experiment(self) -> str:
        """The experiment's id in MLflow; empty where nothing has been recorded."""
        return self._experiment or ""

    def grid_cells(self) -> set[str]:
        """Keys of the cells that the grid asked for when it was last run."""
        parent = self._find_parent()
        text = self.artifact(parent.info.run_id, "cells.json") if parent else None
        return set(json.loads(text)) if text else set()

    def grid_text(self) -> str:
        """The grid file as it was last run."""
        parent = self._find_parent()
        text = self.artifact(parent.info.run_id, "grid.yaml") if parent else None
        return text.decode() if text else ""

    def commit(self) -> str:
        """The commit of the program that last wrote here, where one is known."""
        parent = self._find_parent()
        return parent.data.tags.get("harness.commit", "") if parent else ""

    def versions(self) -> dict[str, str]:
        parent = self._find_parent()
        tags = parent.data.tags if parent else {}
        prefix = "harness.version."
        return {
            name.removeprefix(prefix): value
            for name, value in sorted(tags.items())
            if name.startswith(prefix)
        }

    # Writing.

    def open(self, grid_text: str, cells: Iterable[str], tags: Mapping[str, str]) -> None:
        """Begin to write: mark what a dead process left, then find or make the parent run."""
        self._client = Client(self._uri)
        self._experiment = self._find_experiment()
        if self._experiment is None:
            folder = self._artifacts.resolve().as_uri() if self._artifacts else None
            self._experiment = self._client.create_experiment(
                self._name,
                artifact_location=folder,
                tags={EXPERIMENT_KIND: "custom_model_development"},
            )
        for run in self._runs():
            if run.info.status == "RUNNING" and run.data.tags.get(STORE) == self._store:
                self._client.set_terminated(run.info.run_id, "KILLED")
        found = self._find_parent()
        if found:
            self._parent = found.info.run_id
            self._client.update_run(self._parent, "RUNNING")
        else:
            self._parent = self._create(self._name, {KIND: "grid", STORE: self._store})
        self._tag(self._parent, tags)
        self._client.log_text(self._parent, grid_text, "grid.yaml")
        self._client.log_text(self._parent, json.dumps(sorted(cells)), "cells.json")
        self._runs_read = None

    def close(self, status: str) -> None:
        """The parent is no longer being written to: FINISHED, FAILED or KILLED."""
        if self._parent:
            self._end(self._parent, status)

    def begin(self, work: Training | Cell, tags: Mapping[str, str], forecast: float = 0.0) -> str:
        """A new RUNNING child for this work, which is foretold to take `forecast` seconds; returns
        its run id."""
        assert self._parent, "open() comes first"
        kind = "training" if isinstance(work, Training) else "cell"
        known = {"recipe": str(RECIPE)}
        if forecast:
            known["forecast_seconds"] = f"{forecast:.4g}"
        if isinstance(work, Cell):
            known["training_key"] = work.training.key
            known["training_steps"] = str(work.training.training_steps)
        known = {f"{RESOLVED}{name}": value for name, value in known.items()}
        told = {KIND: kind, KEY: work.key, STORE: self._store, PARENT: self._parent}
        run_id = self._create(work.title, {**told, **known, **tags})
        params = [Param(name, str(value)) for name, value in work.params().items()]
        self._client.log_batch(run_id, params=params)
        self._runs_read = None
        return run_id

    def progress(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        """Live numbers of a run under way."""
        self._log(run_id, values, step)

    def file(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """Keep a file with a run."""
        if path.exists():
            self._client.log_artifact(run_id, str(path), folder)

    def end(
        self, run_id: str, outcome: Mapping[str, Any], files: Iterable[Path], step: int = 0
    ) -> None:
        """The work is complete: its numbers, its files, and only then the status FINISHED.

        `step` is that of the last live numbers: of a metric MLflow shows the value at the highest.
        """
        self._log(run_id, outcome["metrics"], step, resolved(outcome))
        for path in files:
            self.file(run_id, path)
        self._end(run_id, "FINISHED")

    def amend(self, run_id: str, outcome: Mapping[str, Any], files: Iterable[Path] = ()) -> None:
        """Add what is new (a metric, other timings) to a finished run. The metrics come last: once
        they are there, the work counts as done."""
        for path in files:
            self.file(run_id, path)
        self._log(run_id, outcome["metrics"], 0, resolved(outcome))
        self._runs_read = None

    def fail(self, run_id: str, failure: Failure) -> None:
        self._tag(run_id, {REASON: failure.reason[:4000]})
        if failure.details:
            self._client.log_text(run_id, failure.details, "traceback.txt")
        self._end(run_id, "FAILED")

    def abandon(self, run_id: str) -> None:
        """The work was asked to stop and will go on another time."""
        self._end(run_id, "KILLED")

    def supersede(self, keys: Iterable[str]) -> None:
        """Set aside the finished runs of this work: it is being done again."""
        wanted = set(keys)
        for run in self._complete("training", "cell"):
            if run.data.tags[KEY] in wanted:
                self._tag(run.info.run_id, {SUPERSEDED: "true"})
        self._runs_read = None

    def publish(
        self, folder: Path, files: Iterable[Path], description: str, verdicts: Iterable[str] = ()
    ) -> None:
        """Keep a report's files with the parent run, its beginning as its description, and its
        comparisons as tags."""
        parent = self._find_parent()
        if parent:
            for path in files:
                inside = path.relative_to(folder).parent
                self.file(parent.info.run_id, path, str(Path("report") / inside))
            self._client.set_tag(parent.info.run_id, NOTE, description[:5000])
            told = {f"{VERDICT}{n:02}": text[:5000] for n, text in enumerate(verdicts, start=1)}
            for name in parent.data.tags:
                if name.startswith(VERDICT) and name not in told:
                    self._client.delete_tag(parent.info.run_id, name)
            self._tag(parent.info.run_id, told)

    # Details.

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        assert self._experiment, "open() comes first"
        run = self._client.create_run(self._experiment, run_name=name, tags=dict(tags))
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

    def _find_parent(self) -> Run | None:
        found = [run for run in self._runs() if run.data.tags.get(KIND) == "grid"]
        return found[-1] if found else None

    def _complete(self, *kinds: str) -> Iterator[Run]:
        """The newest complete run of each piece of work."""
        newest: dict[str, Run] = {}
        for run in self._runs():  # newest first
            tags = run.data.tags
            if tags.get(KIND) in kinds and run.info.status == "FINISHED" and SUPERSEDED not in tags:
                newest.setdefault(tags[KEY], run)
        yield from newest.values()

    def _runs(self) -> list[Run]:
        """All runs of the experiment, newest first; read once and again after a change."""
        if self._experiment is None:
            return []
        if self._runs_read is None:
            read: list[Run] = []
            token = None
            while token != "":
                page = self._client.search_runs(
                    [self._experiment],
                    order_by=["attributes.start_time DESC"],
                    max_results=1000,
                    page_token=token,
                )
                read += page
                token = page.token or ""
            self._runs_read, self._folders_read = read, None
        return self._runs_read

    def _folders(self) -> dict[str, Path]:
        """Where the files of runs are, for those that are on this machine: to ask MLflow for each
        takes longer than all else in a report of many cells."""
        if self._folders_read is None:
            self._folders_read = {
                run.info.run_id: Path(url2pathname(uri.path))
                for run in self._runs()
                if (uri := urlsplit(run.info.artifact_uri or "")).scheme == "file"
            }
        return self._folders_read

    def _frame(self, kind: str) -> pd.DataFrame:
        rows = [
            {
                **run.data.params,
                **{column_of(name): value for name, value in run.data.metrics.items()},
                **{
                    name.removeprefix(RESOLVED): value
                    for name, value in run.data.tags.items()
                    if name.startswith(RESOLVED)
                },
                "key": run.data.tags[KEY],
                "run_id": run.info.run_id,
                "machine": run.data.tags.get(MACHINE, ""),
                "reused": REUSED in run.data.tags,
            }
            for run in self._complete(kind)
        ]
        frame = pd.DataFrame(rows)
        if frame.empty:
            return pd.DataFrame(columns=["key", "run_id", "machine", "reused"])
        for column in frame.columns.intersection(pd.Index(NUMBERS)):
            frame[column] = pd.to_numeric(frame[column])
        if "clip" in frame:
            frame["clip"] = frame["clip"] == "True"
        return frame.sort_values("key", ignore_index=True)


class Client:
    """MLflow's client, whose errors are TrackingErrors whatever its back end raises: SQLAlchemy's,
    requests' or MLflow's own."""

    def __init__(self, uri: str):
        self._uri = uri
        self._client = self._explained(MlflowClient)(uri)

    def __getattr__(self, name: str) -> Any:
        return self._explained(getattr(self._client, name))

    def _explained(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            try:
                return method(*arguments, **keywords)
            except Exception as error:
                told = str(error).strip().splitlines()
                raise TrackingError(
                    f"the tracking store {without_password(self._uri)} cannot be used: "
                    f"{told[0] if told else type(error).__name__}"
                ) from error

        return call


def column_of(metric: str) -> str:
    """The column of a table that holds a metric's number: its name, unless a param has that. The
    precision of Kynkaanniemi et al. is not that in which a network computes."""
    is_taken = metric == "precision" or metric.startswith("precision_")
    return metric.replace("precision", "precision_score", 1) if is_taken else metric


def resolved(outcome: Mapping[str, Any]) -> dict[str, str]:
    """What only the machine that did the work could say of it."""
    tags = {MACHINE: str(outcome["machine"])}
    for name in (
        "precision", "extractor", "extractor_fingerprint", "threads", "data_fingerprint",
        "compiled", "processes",
    ):  # fmt: skip
        if name in outcome:
            tags[f"{RESOLVED}{name}"] = str(outcome[name])
    for name, reason in outcome.get("undefined", {}).items():
        tags[f"{RESOLVED}undefined_{name}"] = reason
    for name, version in outcome.get("versions", {}).items():
        tags[f"harness.version.{name}"] = version
    return tags


def database_is_there(uri: str) -> bool:
    """Whether there is anything of MLflow's to read: it would turn any SQLite file that it opens
    into one of its own. Raises TrackingError where it should not."""
    if not uri.startswith("sqlite:"):
        return True
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or not path.name or path.name == ":memory:":
        raise TrackingError(f"{uri} names no file that would stay; sqlite:///FILE would do")
    if not path.exists():
        return False
    if not path.is_file():
        raise TrackingError(f"the tracking store {uri} cannot be used: {path} is not a file")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error as error:
        raise TrackingError(f"the tracking store {uri} cannot be used: {error}") from None
    if tables and "experiments" not in tables:
        raise TrackingError(
            f"the tracking store {uri} cannot be used: {path} is a database of something else"
        )
    return bool(tables)


def without_password(uri: str) -> str:
    """The URI as it may be shown: a database's password is nobody's business."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # not a URI at all
        return uri
    if not parts.password:
        return uri
    return parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")).geturl()


def serve(uri: str, host: str, port: int, announce: Callable[[], None]) -> int:
    """MLflow's UI on a tracking store, until Ctrl-C; returns its exit status.

    One worker and no job runner: as it comes it is fifteen processes and 1.8 GB for one reader.
    """
    if not database_is_there(uri):
        raise TrackingError(f"there is nothing at {without_password(uri)} yet; run a grid first")
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise TrackingError(
            f"cannot listen at {host}:{port} ({error.strerror}). Another --port would do."
        ) from None
    announce()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri,
               "--host", host, "--port", str(port), "--workers", "1"]  # fmt: skip
    quiet = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # In a session of its own, so that a Ctrl-C ends it through us, without its traceback.
    server = subprocess.Popen(command, env=quiet, start_new_session=True)
    try:
        return server.wait()
    except KeyboardInterrupt:
        server.terminate()
        server.wait(10)
        return 0
