"""A tracking server that is down, slow, broken or choosy: nothing is lost or recorded twice."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from collections import Counter

import pytest
from mlflow import MlflowClient
from situations import EXACT, harness
from sqlalchemy.exc import OperationalError

from faults.servers import Proxy, Server, free_port
from harness.tracking import client as module

pytestmark = pytest.mark.faults
GRID = EXACT.replace("steps: [2]", "steps: [2, 3, 4]")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("server"))
    yield started
    started.stop()


@pytest.fixture
def proxy(server):
    started = Proxy(server.uri)
    yield started
    started.stop()


@pytest.fixture
def place(tmp_path, monkeypatch, request):
    """A working directory, with an experiment of its own for each test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.tracking.recorder.FIRST_WAIT", 0.0)
    monkeypatch.setattr("harness.tracking.recorder.AT_THE_END", (0.0, 0.0, 1.0))
    name = request.node.name.translate(str.maketrans("[]", "--"))[:90]
    (tmp_path / "g.yaml").write_text(GRID.replace("exactcase", name))
    return name


def go(proxy, *more, status=0):
    return harness("run", "g.yaml", "--tracking-uri", proxy.uri, *more, status=status)


def recorded(server, name, **wanted):
    """The status of each run of the experiment, by the key of its work; each once."""
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name(name)
    runs = [] if experiment is None else client.search_runs([experiment.experiment_id])
    cells = [run for run in runs if run.data.tags["harness.kind"] == "cell"]
    done = Counter(r.data.tags["harness.key"] for r in cells if r.info.status == "FINISHED")
    assert set(done.values()) <= {1}
    assert not [run for run in runs if run.info.status == "RUNNING"]
    assert all("kid" in run.data.metrics for run in cells if run.info.status == "FINISHED")
    return len(done)


def of_path(part, answer, times=10**9):
    left = [times]

    def fault(number, method, path):
        if part in path and left[0] > 0:
            left[0] -= 1
            return answer
        return None

    return fault


def test_down_at_the_start_and_still_at_the_end(server, proxy, place, tmp_path):
    proxy.stop()
    told = go(proxy, status=75)
    assert "3 of 3" in told
    assert "3 results are not recorded" in told
    assert (tmp_path / "reports" / place / "results.csv").read_text().count("\n") == 4
    assert recorded(server, place) == 0
    there = Proxy(server.uri)
    told = go(there)
    assert "cell 1/" not in told  # nothing is done twice
    assert recorded(server, place) == 3
    assert "Nothing to do" in go(there)
    there.stop()


@pytest.mark.parametrize("answer", ["drop", "lose", 500, 503, 429])
@pytest.mark.parametrize("after", [1, 3, 5, 8, 12, 16])
def test_away_for_a_while_in_the_middle(server, proxy, place, answer, after):
    """From some request on, for so many that a retry of the client does not help."""
    proxy.fault = lambda number, method, path: answer if after <= number < after + 4 else None
    told = go(proxy, status=0)
    assert "3 of 3" in told
    assert recorded(server, place) == 3
    assert "Nothing to do" in go(proxy)


@pytest.mark.parametrize("after", [1, 6, 14])
def test_away_from_the_middle_to_the_end_and_back_the_next_time(server, proxy, place, after):
    proxy.fault = lambda number, method, path: "drop" if number >= after else None
    told = go(proxy, status=75)
    assert "3 of 3" in told
    proxy.fault = lambda *_: None
    assert "cell 1/" not in go(proxy)
    assert recorded(server, place) == 3
    assert "Nothing to do" in go(proxy)


@pytest.mark.parametrize("answer", [403, 413, 500])
def test_a_refused_artifact_stays_in_the_store_and_is_offered_again(server, proxy, place, answer):
    proxy.fault = of_path("influence.npz", answer)
    told = go(proxy, status=75 if answer == 500 else 0)
    assert "3 of 3" in told
    proxy.fault = lambda *_: None
    assert "cell 1/" not in go(proxy)
    assert recorded(server, place) == 3
    assert "Nothing to do" in go(proxy)
    assert len(proxy.of(r"PUT|influence\.npz")) >= 3


def test_a_slow_server_costs_its_requests_and_no_more(server, proxy, place):
    proxy.delay = 0.5
    began = time.monotonic()
    assert "3 of 3" in go(proxy)
    assert time.monotonic() - began < 60 + 0.5 * len(proxy.seen)
    assert recorded(server, place) == 3


def test_requests_are_few(server, proxy, place, tmp_path):
    go(proxy)
    of_cells = [path for _, path in proxy.seen]
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name(place).experiment_id
    for run in client.search_runs([experiment], "tags.`harness.kind` = 'cell'"):
        files = [path for path in of_cells if run.info.run_id in path]
        assert len(files) + 3 <= 10  # made, its numbers, ended
    before = len(proxy.seen)
    where = ("--tracking-uri", proxy.uri, "--store", tmp_path / "none")
    harness("report", place, "--report-dir", "elsewhere", *where)
    assert len(proxy.seen) - before <= 6
    before = len(proxy.seen)
    harness("report", place, "--report-dir", "once more", *where)
    assert len(proxy.seen) - before <= 5
    assert (tmp_path / "elsewhere/results.csv").read_bytes() == (
        tmp_path / "reports" / place / "results.csv"
    ).read_bytes()


def test_no_folder_is_left_behind(server, proxy, place, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    go(proxy)
    harness("report", place, "--tracking-uri", proxy.uri, "--report-dir", "again")
    left = {path.name for path in (tmp_path / "tmp").iterdir()}
    assert {name for name in left if "torch" not in name} == set()


def test_a_server_that_is_none_is_refused_in_a_sentence(place):
    told = harness("run", "g.yaml", "--tracking-uri", "nothing://of/the/kind", status=1)
    assert "cannot be used" in told
    assert "Traceback" not in told


def test_a_report_is_made_from_the_store_while_the_server_why_away(server, proxy, place, tmp_path):
    go(proxy)
    away = f"http://127.0.0.1:{free_port()}"
    told = harness("report", "g.yaml", "--tracking-uri", away, "--report-dir", "away")
    assert "does not answer (no connection)" in told
    table = "results.csv"
    assert (tmp_path / "away" / table).read_text().count("\n") == 4


def test_a_database_that_another_program_holds_for_a_while(place, tmp_path, monkeypatch):
    """As a backup does: the work goes on, and is recorded when it is free."""
    harness("run", "g.yaml", "steps=[2]")
    database = tmp_path / "runs/store/mlflow.db"
    held = sqlite3.connect(database, check_same_thread=False)
    held.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(20, held.rollback)
    release.start()
    told = harness("run", "g.yaml")
    assert "3 of 3" in told
    release.join()
    held.close()
    assert "Nothing to do" in harness("run", "g.yaml")


def test_what_may_pass_is_told_from_what_will_not():
    locked = OperationalError("SELECT 1", {}, Exception("database is locked"))
    assert module.why_away(locked, "sqlite:///x.db")
    none = OperationalError("SELECT 1", {}, Exception("no such table: runs"))
    assert not module.why_away(none, "sqlite:///x.db")
    assert module.why_away(none, "postgresql://host/db")
