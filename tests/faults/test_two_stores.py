"""Two stores that write one experiment at the same time, through `mlflow server` on PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from glob import glob
from importlib.util import find_spec

import pytest
from mlflow import MlflowClient

from faults.servers import Server, free_port
from harness.tracking import Tracker

pytestmark = pytest.mark.faults
GRID = """
name: shared
data: digits
model: {name: tiny, widths: [8, 8], attention: []}
training: {steps: 200, batch_size: 16, precision: float32}
schedules: [linear, cosine]
samplers: [ddim]
steps: [2, 3, 5]
images: 64
extractor: pixels
metrics: [kid]
"""


def program(name):
    found = [shutil.which(name), *sorted(glob(f"/usr/lib/postgresql/*/bin/{name}"))]
    return next(filter(None, found), None)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """The address of a database of its own."""
    if not (program("initdb") and program("postgres")):
        pytest.skip("PostgreSQL is not installed")
    if not find_spec("psycopg"):
        pytest.skip("psycopg is not installed")
    folder, port = tmp_path_factory.mktemp("postgres"), free_port()
    as_another = []
    if os.getuid() == 0:  # which PostgreSQL refuses to run as
        if not shutil.which("setpriv"):
            pytest.skip("PostgreSQL does not run as root, and there is no setpriv")
        as_another = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        os.chown(folder, 65534, 65534)
        for above in folder.parents:
            if above.stat().st_mode & 0o005 != 0o005:
                above.chmod(above.stat().st_mode | 0o055)
    data = folder / "data"
    subprocess.run(
        [*as_another, program("initdb"), "-D", data, "-U", "harness", "-A", "trust", "-N"],
        check=True, capture_output=True, cwd="/",
    )  # fmt: skip
    server = subprocess.Popen(
        [*as_another, program("postgres"), "-D", data, "-p", str(port), "-k", folder],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    yield f"postgresql://harness@127.0.0.1:{port}/postgres"
    server.terminate()
    server.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory, postgres):
    started = Server(tmp_path_factory.mktemp("server"), postgres)
    yield started
    started.stop()


def start(folder, uri, *more):
    folder.mkdir(exist_ok=True)
    (folder / "shared.yaml").write_text(GRID)
    command = [sys.executable, "-m", "harness", "run", "shared.yaml", "--store", "store",
               "--report-dir", "report", "--tracking-uri", uri, *more]  # fmt: skip
    with (folder / "said").open("a") as said:
        return subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)


def test_two_stores_write_one_experiment_at_the_same_time(server, tmp_path):
    folders = [tmp_path / "here", tmp_path / "there"]
    # The second asks for more than the first, so that some of the work is both's.
    runs = [start(folders[0], server.uri), start(folders[1], server.uri, "steps=[2,3,5,8]")]
    for folder, run in zip(folders, runs, strict=True):
        assert run.wait(400) == 0, (folder / "said").read_text()
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("shared").experiment_id
    runs = client.search_runs([experiment])
    assert {run.info.status for run in runs} == {"FINISHED"}
    finished = Counter(run.data.tags.get("harness.key") for run in runs)
    del finished[None]
    table = Tracker(server.uri, "shared").table()
    assert len(table) == 8
    # Both may have done the same work, which is deterministic: either run has the same numbers.
    assert set(finished.values()) <= {1, 2}
    for key in finished:
        kids = {r.data.metrics.get("kid") for r in runs if r.data.tags.get("harness.key") == key}
        assert len(kids) == 1
    for folder in folders:  # the first one's grid is done whoever did it
        told = start(folder, server.uri)
        assert told.wait(200) == 0
        assert "cell 1/" not in (folder / "said").read_text().rsplit("Nothing to do", 1)[-1]


def test_a_database_that_is_restarted_in_the_middle_loses_nothing(server, tmp_path):
    folder = tmp_path / "alone"
    run = start(folder, server.uri, "name=restarted")
    server.stop()
    server.start()
    assert run.wait(400) in (0, 75), (folder / "said").read_text()
    again = start(folder, server.uri, "name=restarted")
    assert again.wait(300) == 0
    assert len(Tracker(server.uri, "restarted").table()) == 6
