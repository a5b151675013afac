"""MLflow's client and its databases: how they are reached, and what they may not do."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from harness.errors import HarnessError, TrackerAway, TrackingError
from harness.store import not_written
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

import mlflow
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from mlflow import MlflowClient  # it reads these settings when it is imported
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from requests import ConnectionError as NoConnection
from requests import HTTPError, RequestException, Timeout
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

DAMAGED = ". Move it away, and `harness run` records everything again from the store"
# What MLflow, its databases and the network raise; ValueError and ImportError for a URI that is
# none, or whose driver is not installed. Errors of ours stay what they are.
TROUBLE = (MlflowException, SQLAlchemyError, sqlite3.Error, CommandError, RequestException, OSError,
           ValueError, ImportError)  # fmt: skip


BUSY_SECONDS = 60.0  # for which another program may hold a database
REMEDIES = {
    sqlite3.SQLITE_IOERR: ". Look at its disk, your quota of it and `ulimit -f`, then use the same "
    "command",
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
}


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
        is_locked = any("database is locked" in str(each) for each in seen)
        return "another program has locked it" if is_locked else ""
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
    found = next((each for each in causes(error) if isinstance(each, sqlite3.Error)), None)
    code = getattr(found, "sqlite_errorcode", 0) & 0xFF  # the rest of the bits are details
    if code == sqlite3.SQLITE_FULL and (database := database_of(uri)):
        return not_written(database, errno.ENOSPC)
    told, *_ = str(found or error).strip().splitlines() or [type(error).__name__]
    if version := re.search(r"database schema \(found version (\w+)", told):
        told = of_other_version(version[1])
    shown, remedy = without_password(uri), REMEDIES.get(code, "")
    if why := why_away(error, uri):
        return TrackerAway(f"the tracking store {shown} does not answer ({why})")
    return TrackingError(f"the tracking store {shown} cannot be used: {told}{remedy}")


def of_other_version(version: str) -> str:
    """What to say of a database whose tables another version of MLflow made."""
    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    try:
        scripts.get_revision(version)
    except CommandError:
        return f"a newer MLflow than {mlflow.__version__} made it. Use that one"
    return "an older MLflow made it. Use `mlflow db upgrade` with a copy of it first, then with it"


def database_of(uri: str) -> Path | None:
    """The file of a SQLite database; None for a server. Raises TrackingError where it is none that
    would stay."""
    if not uri.startswith("sqlite:"):
        return None
    path = Path(unquote(uri.removeprefix("sqlite:///")))
    if not uri.startswith("sqlite:///") or not path.name or path.name == ":memory:":
        raise TrackingError(f"{uri} names no file that would stay. Use sqlite:///FILE.")
    return path


def make_database(uri: str) -> None:
    """Make a SQLite database that is not there yet, under another name until it is whole: MLflow
    takes seconds for it, and whoever came in between or after a crash would meet half of one."""
    if (path := database_of(uri)) is None or path.exists():
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


def is_database(uri: str, path: Path) -> bool:
    """Whether there is anything of MLflow's to read: it would turn any SQLite file that it opens
    into one of its own. Raises TrackingError where it should not."""
    if not path.exists():
        return False
    if not path.is_file():
        raise TrackingError(
            f"the tracking store {uri} cannot be used: {path} is not a file. Use another."
        )
    try:
        with closing(opened_to_read(path)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error as error:
        raise told_of(error, uri) from None
    if tables and "experiments" not in tables:
        raise TrackingError(
            f"the tracking store {uri} cannot be used: {path} is a database of something else. "
            "Use another file."
        )
    return bool(tables)


def home_of(uri: str) -> Path | None:
    """Where the files of runs are kept beside a database, wherever it has been moved to."""
    database = database_of(uri)
    return database.parent.resolve() / "artifacts" if database else None


def files_of(uri: str, run_id: str, store: str) -> Path | None:
    """The folder of a run's files, if it is on this machine; `uri` is where MLflow says it is, and
    `store` the tracking store."""
    home = home_of(store)
    if home and (home / run_id).is_dir():
        return home / run_id / "artifacts"
    if (said := path_of(uri)) and home and is_left_behind(said.parent.parent, run_id, home.parent):
        return home / run_id / "artifacts"
    return said


def path_of(uri: str) -> Path | None:
    parts = urlsplit(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


@cache
def is_left_behind(location: Path, run_id: str, folder: Path) -> bool:
    """Whether a run's files are said to be where the store in this folder was before it was moved
    or copied: nothing is there, or a database that has the run, too."""
    before = location.parent
    if before == folder or not before.is_dir():
        return before != folder
    asked = "SELECT 1 FROM runs WHERE run_uuid = ?"
    for original in before.glob("*.db"):
        with suppress(sqlite3.Error), closing(opened_to_read(original)) as database:
            if database.execute(asked, (run_id,)).fetchone():
                return True
    return False


def opened_to_read(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)


def move_artifacts(uri: str) -> None:
    """Tell MLflow where the files of runs are now that lie beside its database. It keeps absolute
    places: after a store was moved it would look in vain, and a copy would write into the
    original. Raises TrackingError where the database cannot be written."""
    home, database = home_of(uri), database_of(uri)
    if not (home and database and database.is_file()):
        return
    now = home.as_uri()
    here = {folder.name for folder in home.iterdir()} if home.is_dir() else set()
    connected = closing(sqlite3.connect(database, timeout=BUSY_SECONDS))
    with explained(uri), connected as opened, opened:
        rows = opened.execute(
            "SELECT run_uuid, experiments.experiment_id, artifact_location FROM runs "
            "JOIN experiments ON runs.experiment_id = experiments.experiment_id "
            "WHERE artifact_location != ?", (now,),
        )  # fmt: skip
        moved = {
            (number, before)
            for run, number, before in rows
            if run in here
            or ((place := path_of(before)) and is_left_behind(place, run, home.parent))
        }
        for number, before in moved:
            opened.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                (now, number),
            )
            opened.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
                "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
                (now, len(before) + 1, number, len(before) + 1, f"{before}/"),
            )


def forget_metrics(uri: str, run_id: str, before: Iterable[str]) -> None:
    """Delete the metrics of a run whose names begin so. MLflow keeps every value that a metric ever
    had at a step, and draws them all; only in a database on this machine can they be taken back.
    Raises TrackingError where it cannot be written."""
    database = database_of(uri)
    if database is None:
        return
    connected = closing(sqlite3.connect(database, timeout=BUSY_SECONDS))
    with explained(uri), connected as opened, opened:
        for table in ("metrics", "latest_metrics"):
            for start in before:
                opened.execute(
                    f"DELETE FROM {table} WHERE run_uuid = ? AND substr(key, 1, ?) = ?",
                    (run_id, len(start), start),
                )


def without_password(uri: str) -> str:
    """The URI as it may be shown: a database's password is nobody's business."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # not a URI at all
        return uri
    if not parts.password:
        return uri
    return parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")).geturl()
