"""Databases that are full, locked, damaged, half made or of another MLflow: one line each."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from harness.errors import DiskFull, TrackingError
from harness.tracking import Tracker, client
from harness.work.cells import Asked

ASKED = Asked({}, ())


@pytest.fixture
def path(tmp_path, database):
    return shutil.copy(database, tmp_path / "mlflow.db")


def changed(path, statement, *values):
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute(statement, values)


@pytest.mark.parametrize(
    ("version", "what"), [("f" * 12, "a newer MLflow"), ("451aebb31d03", "an older MLflow")]
)
def test_a_database_of_another_mlflow_is_told_as_that(path, version, what):
    changed(path, "UPDATE alembic_version SET version_num = ?", version)
    with pytest.raises(TrackingError, match=rf"{what}.*Use ") as told:
        Tracker(f"sqlite:///{path}", "small").finished()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("damage", [lambda whole: whole[:100_000], lambda whole: b"text" * 5000])
def test_a_damaged_database_may_be_moved_away(path, damage):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TrackingError, match="Move it away"):
        Tracker(f"sqlite:///{path}", "small").finished()


@pytest.fixture
def no_larger(path):
    """Has SQLite find no room for more than the database has."""
    most = f"PRAGMA max_page_count = {path.stat().st_size // 4096}"

    def limit(connection, record):
        connection.execute(most)

    event.listen(Engine, "connect", limit)
    yield
    event.remove(Engine, "connect", limit)


@pytest.mark.usefixtures("no_larger")
def test_a_full_disk_is_told_as_that_and_no_sql_is_printed(path, capfd):
    tracker, tags = Tracker(f"sqlite:///{path}", "small"), {f"n{n}": "x" * 4000 for n in range(50)}
    with pytest.raises(DiskFull, match=r"is full: .*mlflow\.db") as told:
        tracker.open("name: small", ASKED, tags)
    assert "\n" not in str(told.value)
    assert "SQL" not in "".join(capfd.readouterr())


def test_what_a_killed_program_left_half_written_is_taken_back(path):
    script = (
        "import os, sqlite3, sys; one = sqlite3.connect(sys.argv[1]);"
        "one.execute('PRAGMA cache_size = 1'); one.execute('BEGIN');"
        "one.executemany('INSERT INTO experiments (experiment_id, name) VALUES (?, ?)',"
        " ((n, 'x' * 200 + str(n)) for n in range(2, 2000))); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert path.with_name(f"{path.name}-journal").stat().st_size
    assert Tracker(f"sqlite:///{path}", "x" * 200 + "2").finished() == {}
    assert not path.with_name(f"{path.name}-journal").exists()


def test_reading_a_database_loads_no_mlflow(path):
    script = (
        "import sys; from harness.tracking import Tracker; Tracker(sys.argv[1], 'Default').asked();"
        "print({'mlflow', 'sqlalchemy', 'pandas'} & {*sys.modules})"
    )
    found = subprocess.check_output([sys.executable, "-c", script, f"sqlite:///{path}"], text=True)
    assert found.strip() == "set()"


def test_another_program_that_holds_the_database_is_named(path, monkeypatch):
    monkeypatch.setattr("harness.tracking.database.BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TrackingError, match="another program has locked it"):
            Tracker(f"sqlite:///{path}", "small").finished()


def test_a_new_database_has_its_name_once_it_is_whole(tmp_path, database, monkeypatch):
    path = tmp_path / "deep" / "mlflow.db"

    def die(uri, name):
        (tmp_path / "deep" / uri.rpartition("/")[2]).write_text("half of it")
        raise KeyboardInterrupt

    def make(uri, name):
        shutil.copy(database, tmp_path / "deep" / uri.rpartition("/")[2])
        assert not path.exists()

    monkeypatch.setattr(client, "Client", die)
    with pytest.raises(KeyboardInterrupt):
        client.make_database(f"sqlite:///{path}")
    assert list(path.parent.iterdir()) == []
    monkeypatch.setattr(client, "Client", make)
    client.make_database(f"sqlite:///{path}")
    assert [each.name for each in path.parent.iterdir()] == ["mlflow.db"]
    client.make_database(f"sqlite:///{path}")  # it is there
