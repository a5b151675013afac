"""MLflow's client: how servers and databases are reached, and what they may not do."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote

from harness.errors import HarnessError, TrackerAway, TrackingError
from harness.tracking import database
from harness.tracking.runs import MlflowExperiment, MlflowRun
from harness.work.options import database_uri

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# As it comes, MLflow asks a server that is not there for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
# It tells where each run is, after a request for that alone, and asks for each run whether large
# files may come in parts.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")

from alembic.util import CommandError
from mlflow import MlflowClient  # it reads these settings when it is imported
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from requests import ConnectionError as NoConnection
from requests import HTTPError, RequestException, Timeout
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

for noisy in ("mlflow", "alembic"):  # which make themselves heard when they are imported
    logging.getLogger(noisy).setLevel(logging.CRITICAL)  # their errors reach us as such

# What MLflow, its databases and the network raise; ValueError and ImportError for a URI that is
# none, or whose driver is not installed. Errors of ours stay what they are.
TROUBLE = (MlflowException, SQLAlchemyError, sqlite3.Error, CommandError, RequestException, OSError,
           ValueError, ImportError)  # fmt: skip
PAGE = 1000  # runs in one answer


class Client:
    """MLflow's client, whose errors are TrackingErrors: its own, SQLAlchemy's, the network's. One
    that may pass is a TrackerAway."""

    def __init__(self, uri: str, name: str = ""):
        """`name` is what its errors call it, if not by its URI."""
        self._uri = name or uri
        with explained(self._uri):
            self._client = MlflowClient(uri)
        remove_stray_folder(uri)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **keywords: Any) -> Any:
            with explained(self._uri):
                return method(*arguments, **keywords)

        return call


class ClientRuns:
    """The experiments and runs that MLflow's client tells of."""

    def __init__(self, client: Client):
        self._client = client

    def experiment(self, name: str) -> MlflowExperiment | None:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return None
        is_deleted = found.lifecycle_stage == "deleted"
        return MlflowExperiment(str(found.experiment_id), is_deleted, dict(found.tags))

    def of(self, experiment: str) -> list[MlflowRun]:
        """The runs of an experiment, newest first."""
        found: list[MlflowRun] = []
        token = None
        while token != "":
            page = self._client.search_runs(
                [experiment],
                order_by=["attributes.start_time DESC"],
                max_results=PAGE,
                page_token=token,
            )
            found += map(_as_run, page)
            token = page.token or ""
        return found


def _as_run(run: Run) -> MlflowRun:
    info = run.info
    return MlflowRun(
        info.run_id, info.run_name or "", info.status, info.start_time or 0, info.end_time,
        info.artifact_uri or "", run.data.tags, frozenset(run.data.metrics),
    )  # fmt: skip


class RemoteFiles:
    """The files of a run that only MLflow's server, or a cloud, can give and take."""

    def __init__(self, artifact_uri: str, uri: str):
        self._uri = uri
        with explained(uri):
            files: Any = get_artifact_repository(artifact_uri, tracking_uri=uri)
            self._files = files

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none of that name, or it is refused. Raises
        TrackerAway."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            try:
                with explained(self._uri):
                    # The public way asks first whether it is a folder: twice the requests.
                    self._files._download_file(name, str(path))
            except TrackerAway:
                raise
            except TrackingError:
                return None
            return path.read_bytes() if path.exists() else None

    def write(self, path: Path, name: str) -> None:
        """Send a file, whose name ends as the path does. Raises TrackingError."""
        folder, _, _ = name.rpartition("/")
        with explained(self._uri):
            self._files.log_artifact(str(path), folder or None)


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """What goes wrong with a tracking store, as an error in one line."""
    try:
        yield
    except TROUBLE as error:
        raise told_of(error, uri) from error


def why_away(error: BaseException, uri: str) -> str:
    """Why a server or database does not answer now but may another time: it cannot be reached, is
    overloaded, fails by itself (HTTP 5xx), or another program has it. Empty for other trouble."""
    seen = list(causes(error))
    if any(isinstance(each, Timeout) for each in seen):
        return "it took too long"
    if any(isinstance(each, NoConnection) for each in seen):
        return "no connection"
    if uri.startswith("http"):
        code = next(filter(None, map(status_of, seen)), 0)
        return f"HTTP status {code}" if code >= 500 or code in (408, 429) else ""
    if uri.startswith("sqlite:"):
        return next(filter(None, map(database.why_busy, seen)), "")
    is_gone = any(
        isinstance(each, OperationalError)
        or (isinstance(each, DBAPIError) and each.connection_invalidated)
        for each in seen
    )
    return "no connection" if is_gone else ""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error is about."""
    if isinstance(error, HTTPError) and error.response is not None:
        return int(error.response.status_code)
    if found := re.search(r"error code (\d{3})", str(error)):  # its own has few kinds
        return int(found[1])
    told: Any = error
    return int(told.get_http_status_code()) if isinstance(error, MlflowException) else None


def told_of(error: BaseException, uri: str) -> HarnessError:
    """What to say of trouble with a tracking store: its cause, in one line."""
    if why := why_away(error, uri):
        return TrackerAway(database.does_not_answer(uri, why))
    if found := next((each for each in causes(error) if isinstance(each, sqlite3.Error)), None):
        return database.told_of(found, uri)
    told, *_ = str(error).strip().splitlines() or [type(error).__name__]
    if version := re.search(r"database schema \(found version (\w+)", told):
        told = database.of_other_version(version[1]) or told
    return TrackingError(database.cannot_be_used(uri, told))


def make_database(uri: str) -> None:
    """Make a SQLite database that is not there yet, under another name until it is whole: MLflow
    takes seconds for it, and whoever came in between or after a crash would meet half of one."""
    if (path := database.database_of(uri)) is None or path.exists():
        return
    temporary = path.resolve().with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Client(database_uri(temporary), uri)
        with suppress(FileExistsError):  # another store's run was faster
            os.link(temporary, path)
    except OSError:  # a disk that knows no links: MLflow makes it in its place
        return
    finally:
        with suppress(OSError):  # MLflow may hold it open, and Windows then keeps it
            temporary.unlink(missing_ok=True)


def remove_stray_folder(uri: str) -> None:
    """Remove the empty folder that MLflow makes where the path in a URI has escaped letters: it
    takes them for the folder's name."""
    if uri.startswith("sqlite:///") and unquote(uri) != uri:
        with suppress(OSError):
            os.removedirs(Path(uri.removeprefix("sqlite:///")).parent)
