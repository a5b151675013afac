"""MLflow's SQLite databases, read and mended without MLflow: to load it takes longer than all else
where nothing is to be done, and its own reading takes a minute of ten thousand runs.

A database whose tables are not those of the MLflow that is installed is refused.
"""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from harness.errors import HarnessError, TrackerAway, TrackingError
from harness.store import not_written
from harness.tracking.runs import MlflowExperiment, MlflowRun

DAMAGED = ". Move it away, and `harness run` records everything again from the store"
OWN = "default"  # the workspace of all that asks for none
OF_RUNS = (
    "SELECT run_uuid, {} FROM {} JOIN runs USING (run_uuid) "
    "WHERE experiment_id = ? AND lifecycle_stage = 'active'"
)
BUSY_SECONDS = 60.0  # for which another program may hold a database
REMEDIES = {
    sqlite3.SQLITE_IOERR: ". Look at its disk, your quota of it and `ulimit -f`, then use the same "
    "command",
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
}


class DatabaseRuns:
    """The experiments and runs of a SQLite database. Raises TrackingError where the tables are not
    those of the MLflow that is installed."""

    def __init__(self, uri: str, path: Path):
        self._uri, self._path = uri, path

    def experiment(self, name: str) -> MlflowExperiment | None:
        with self._opened() as database:
            database.row_factory = sqlite3.Row
            rows = map(dict, database.execute("SELECT * FROM experiments WHERE name = ?", (name,)))
            # Versions that know workspaces may have the name in others, too.
            found = next((row for row in rows if row.get("workspace", OWN) == OWN), None)
            if found is None:
                return None
            number = found["experiment_id"]
            tags = database.execute(
                "SELECT key, value FROM experiment_tags WHERE experiment_id = ?", (number,)
            )
            is_deleted = found["lifecycle_stage"] == "deleted"
            return MlflowExperiment(str(number), is_deleted, dict(map(tuple, tags)))

    def of(self, experiment: str) -> list[MlflowRun]:
        """The runs of an experiment, newest first. Most are alike in what their metrics and tags
        are called, so that these names are kept once."""
        number, names = (int(experiment),), dict[Any, Any]()
        every_tag = OF_RUNS.format("key, value", "tags")
        every_metric = OF_RUNS.format("key", "latest_metrics")
        tags: dict[str, dict[str, str]] = {}
        metrics: dict[str, list[str]] = {}
        with self._opened() as database:
            for run_id, key, value in database.execute(every_tag, number):
                tags.setdefault(run_id, {})[names.setdefault(key, key)] = value
            for run_id, key in database.execute(every_metric, number):
                metrics.setdefault(run_id, []).append(key)
            rows = database.execute(
                "SELECT run_uuid, name, status, start_time, end_time, artifact_uri FROM runs "
                "WHERE experiment_id = ? AND lifecycle_stage = 'active' "
                "ORDER BY start_time DESC, run_uuid", number,
            ).fetchall()  # fmt: skip
        found = []
        for run_id, name, status, began, ended, artifacts in rows:
            measured = frozenset(metrics.get(run_id, ()))
            found.append(
                MlflowRun(
                    run_id, name or "", status, began or 0, ended, artifacts or "",
                    tags.get(run_id, {}), names.setdefault(measured, measured),
                )
            )  # fmt: skip
        return found

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The database as it is at one moment."""
        with explained(self._uri), closing(opened_to_read(self._path)) as database:
            database.execute("BEGIN")
            [[version]] = database.execute("SELECT version_num FROM alembic_version")
            if other := of_other_version(version):
                raise TrackingError(cannot_be_used(self._uri, other))
            yield database


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """What goes wrong with a SQLite database, as an error in one line."""
    try:
        yield
    except sqlite3.Error as error:
        raise told_of(error, uri) from error


def told_of(error: sqlite3.Error, uri: str) -> HarnessError:
    """What to say of trouble with a SQLite database: its cause, in one line."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of the bits are details
    if code == sqlite3.SQLITE_FULL and (database := database_of(uri)):
        return not_written(database, errno.ENOSPC)
    if why := why_busy(error):
        return TrackerAway(does_not_answer(uri, why))
    return TrackingError(cannot_be_used(uri, f"{error}{REMEDIES.get(code, '')}"))


def why_busy(error: BaseException) -> str:
    """Why a SQLite database cannot be used now but may be soon; empty for other trouble."""
    return "another program has locked it" if "database is locked" in str(error) else ""


def does_not_answer(uri: str, why: str) -> str:
    return f"the tracking store {without_password(uri)} does not answer ({why})"


def cannot_be_used(uri: str, why: str) -> str:
    return f"the tracking store {without_password(uri)} cannot be used: {why}"


def of_other_version(found: str) -> str:
    """What to say of a database whose tables, by the number of their version, another MLflow made;
    empty where they are those of the one that is installed."""
    newest, earlier = versions_of_tables()
    if found in newest:
        return ""
    if found not in earlier:
        return f"a newer MLflow than {version('mlflow')} made it. Use that one"
    return "an older MLflow made it. Use `mlflow db upgrade` with a copy of it first, then with it"


@cache
def versions_of_tables() -> tuple[frozenset[str], frozenset[str]]:
    """The version of the tables that the installed MLflow makes, and those before it, as its
    migrations have them: each names itself, and that which it follows."""
    spec = find_spec("mlflow")
    assert spec is not None  # it is a dependency
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "store" / "db_migrations" / "versions"
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("*_*.py")]
    own, before = (
        {name for text in texts for name in re.findall(rf'^{of} = "(\w+)"', text, re.MULTILINE)}
        for of in ("revision", "down_revision")
    )
    return frozenset(own - before), frozenset(before)


def database_of(uri: str) -> Path | None:
    """The file of a SQLite database; None for a server. Raises TrackingError where it is none that
    would stay."""
    if not uri.startswith("sqlite:"):
        return None
    path = Path(unquote(uri.removeprefix("sqlite:///")))
    if not uri.startswith("sqlite:///") or not path.name or path.name == ":memory:":
        raise TrackingError(f"{uri} names no file that would stay. Use sqlite:///FILE.")
    return path


def is_database(uri: str, path: Path) -> bool:
    """Whether there is anything of MLflow's to read: it would turn any SQLite file that it opens
    into one of its own. Raises TrackingError where it should not."""
    if not path.exists():
        return False
    if not path.is_file():
        raise TrackingError(cannot_be_used(uri, f"{path} is not a file. Use another."))
    with explained(uri), closing(opened_to_read(path)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    if tables and "experiments" not in tables:
        raise TrackingError(
            cannot_be_used(uri, f"{path} is a database of something else. Use another file.")
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
    """A database that is there already. What a program left half written when it was killed has to
    be taken back before anything is read, and is; where that may not be written, it stays."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)


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
