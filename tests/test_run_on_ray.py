"""Whole runs on a Ray cluster of three nodes: the same results as here, once and after a kill."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clusters import nodes_of
from rich.console import Console
from running import in_turn, paths_in

from harness.errors import MachineError
from harness.execute.screen import Screen
from harness.plan.grid import load_grid
from harness.run import run_grid
from harness.store import Store
from harness.tracking import Tracker
from harness.work.options import Options
from harness.work.results import RESULT

pytestmark = pytest.mark.faults
PATIENCE = 300.0  # seconds, on a busy machine


@pytest.fixture(scope="module")
def nodes():
    with nodes_of(1, 1, 1) as nodes:
        yield nodes


@pytest.fixture
def store_of(tmp_path, database):
    """Makes a store of this name with an empty database."""

    def make(name):
        (tmp_path / name / "store").mkdir(parents=True)
        shutil.copy(database, tmp_path / name / "store" / "mlflow.db")
        return paths_in(tmp_path / name)

    return make


def go(grid_file, paths, overrides=(), **options):
    said = io.StringIO()
    with Screen(Console(file=said, width=200)) as screen:
        summary = run_grid(
            load_grid(grid_file, overrides), paths, Options(report=False, **options), screen,
            in_turn,
        )  # fmt: skip
    assert summary.status == 0, said.getvalue()
    return said.getvalue()


def assert_same_results(first, second):
    """Bit for bit, pictures and weights included; what they took aside."""
    one, other = Store(first.store), Store(second.store)
    for found, expected in zip(one.cell_results(), other.cell_results(), strict=True):
        assert found.cell == expected.cell
        assert found.measurements == expected.measurements
        assert found.artifacts == expected.artifacts
    for found, expected in zip(one.training_results(), other.training_results(), strict=True):
        assert found.artifacts == expected.artifacts
        assert found.loss_curve == expected.loss_curve


def test_results_are_the_same_as_here(nodes, grid_file, store_of):
    on_ray, here = store_of("ray"), store_of("here")
    go(grid_file, on_ray, ray=nodes.address)
    go(grid_file, here)
    assert_same_results(on_ray, here)
    tables = [Tracker(paths.tracking_uri, "small").table() for paths in (on_ray, here)]
    for column in ("kid", "kid_se", "fid", "nfe"):
        assert sorted(tables[0][column]) == sorted(tables[1][column])
    assert "Nothing to do" in go(grid_file, on_ray, ray=nodes.address)
    assert not [*on_ray.store.glob("cells/*/features.npy")]
    assert all(one.provenance.is_shared for one in Store(on_ray.store).cell_results())
    said = go(grid_file, on_ray, ["metrics=[kid, fid, density]"])  # sampled again, here
    assert "cell 8/8" in said
    go(grid_file, here, ["metrics=[kid, fid, density]"])
    assert_same_results(on_ray, here)


def test_a_request_that_no_node_can_satisfy_is_refused_before_any_work(nodes, grid_file, store_of):
    paths = store_of("refused")
    with pytest.raises(MachineError, match="2 cores, which no node of the Ray cluster has"):
        go(grid_file, paths, ["training.devices=2"], ray=nodes.address)
    assert not (paths.store / "models").exists()


def test_what_had_ended_is_not_repeated_when_the_driver_was_killed(nodes, grid_file, store_of):
    paths, here = store_of("ray"), store_of("here")
    more = ["training.steps=600", "seeds=[0, 1]", "images=400"]
    command = [
        sys.executable, "-m", "harness", "run", str(grid_file), *more, "--ray", nodes.address,
        "--store", str(paths.store), "--device", "cpu", "--json", "--report-dir",
        str(paths.report_dir),
    ]  # fmt: skip
    with open(os.devnull, "wb") as nowhere:
        killed = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
        wait_until(lambda: len([*paths.store.glob(f"cells/*/{RESULT}")]) > 3)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    ended = times_of(paths.store)
    assert 3 < sum("cells" in str(path) for path in ended) < 20
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["finished"] == 16
    assert ended.items() <= times_of(paths.store).items()
    go(grid_file, here, more)
    assert_same_results(paths, here)


def wait_until(is_so):
    until = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)


def times_of(store):
    return {path: path.stat().st_mtime_ns for path in store.glob(f"*/*/{RESULT}")}


def test_the_job_script_for_slurm_runs_a_grid(tmp_path, grid_file):
    """With Slurm's programs replaced by some that start everything on this machine."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, script in {
        "scontrol": "echo $3 | tr , '\\n'",
        "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
        "harness": f'exec {sys.executable} -m harness "$@"',
        "hostname": "echo 127.0.0.1",
    }.items():
        (programs / name).write_text(f"#!/bin/bash\n{script}\n")
        (programs / name).chmod(0o755)
    script = Path(__file__).parent.parent / "docs" / "slurm.sh"
    done = subprocess.run(
        ["bash", str(script), str(grid_file), "--json", "--device", "cpu"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE,
        env=os.environ | {
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SLURM_JOB_NODELIST": "one,two", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "4711",
            "SLURM_CPUS_ON_NODE": "1",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["finished"] == 8
    assert "2 of 2 nodes have joined" in done.stderr
    assert "node" in (tmp_path / "ray-nodes.log").read_text().lower()
