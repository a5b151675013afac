"""Sixty kills at random moments: the driver, a worker, or all processes of the run at once.

Whatever is killed, and how often, the same command ends in the same weights and numbers as a run
that nothing stopped, and records each piece of work once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress

import psutil
import pytest
from mlflow import MlflowClient
from safetensors.torch import load_file

from harness.status import status_of

pytestmark = pytest.mark.faults
GRID = """
name: killed
data: digits
model: {name: tiny, widths: [8, 8], attention: []}
training: {steps: 300, batch_size: 16, precision: float32}
schedules: [linear, cosine]
samplers: [ddim, ddpm]
steps: [2, 5]
images: 64
extractor: pixels
metrics: [kid]
"""
KILLS = 5  # of one store, before it may end
CHAINS = 4  # for each victim
MOST_RUNS = 40


def start(folder):
    """The real command, in a session of its own."""
    command = [sys.executable, "-m", "harness", "run", "killed.yaml", "--store", "store",
               "--report-dir", "report"]  # fmt: skip
    with (folder / "said").open("a") as said:
        return subprocess.Popen(
            command, cwd=folder, start_new_session=True, stdout=said, stderr=said
        )


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The store of a run that nothing stopped, and how long it took."""
    folder = tmp_path_factory.mktemp("straight")
    (folder / "killed.yaml").write_text(GRID)
    began = time.monotonic()
    assert start(folder).wait(300) == 0, (folder / "said").read_text()
    return folder, time.monotonic() - began


def children_of(running):
    """The workers of a run, without Python's own helpers."""
    with suppress(psutil.Error):
        return [
            child
            for child in psutil.Process(running.pid).children(recursive=True)
            if any("spawn_main" in part for part in child.cmdline())
        ]
    return []


def kill(running, victim, draw):
    """Kill what is to be killed; whether it was there."""
    if victim == "group":
        os.killpg(running.pid, signal.SIGKILL)
    elif victim == "driver":
        running.kill()
    else:
        workers = children_of(running)
        if not workers:
            return False
        with suppress(psutil.Error):
            draw.choice(workers).kill()
    return True


def phase_of(folder, running):
    """How far a run said it is."""
    said = (folder / "said").read_text()
    if "Report:" in said.rsplit("About", 1)[-1]:
        return "the report"
    last = [line for line in said.splitlines() if line.startswith(("cell", "training", "About"))]
    return last[-1].split()[0] if last and running.poll() is None else "the start"


@pytest.mark.parametrize("chain", range(CHAINS))
@pytest.mark.parametrize("victim", ["driver", "worker", "group"])
def test_what_was_killed_ends_as_if_nothing_had_been(tmp_path, straight, victim, chain):
    folder, seconds = straight
    draw = random.Random(f"{victim} {chain}")
    (tmp_path / "killed.yaml").write_text(GRID)
    kills, phases = 0, Counter()
    for _ in range(MOST_RUNS):
        running = start(tmp_path)
        try:
            if kills < KILLS:
                moment = time.monotonic() + draw.uniform(0.0, seconds)
                while running.poll() is None and time.monotonic() < moment:
                    time.sleep(0.01)
                while victim == "worker" and running.poll() is None and not children_of(running):
                    time.sleep(0.01)
                if running.poll() is None:
                    phases[phase_of(tmp_path, running)] += kill(running, victim, draw)
                    kills += 1
            status = running.wait(300)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
        if status == 0 and (kills >= KILLS or victim == "worker"):
            break
        assert status in (0, 1, -9), (tmp_path / "said").read_text()
    print(f"{victim}: {kills} kills, {dict(phases)}")
    assert status == 0, (tmp_path / "said").read_text()
    same_results(folder / "store", tmp_path / "store")
    recorded_once(tmp_path / "store")
    left = [path for path in (tmp_path / "store").rglob(".*") if path.is_file()]
    assert left == []
    told = status_of(tmp_path / "store", tmp_path, verify=True)
    assert told.damaged == told.aside == ()
    assert (tmp_path / "report" / "report.html").exists()


def same_results(straight, killed):
    for pattern in ("models/*/weights.safetensors", "cells/*/result.json"):
        wanted = sorted(path.relative_to(straight) for path in straight.glob(pattern))
        assert wanted
        assert wanted == sorted(path.relative_to(killed) for path in killed.glob(pattern))
        for path in wanted:
            if path.suffix == ".json":
                mine, theirs = (
                    json.loads((store / path).read_text())["measurements"]
                    for store in (straight, killed)
                )
                assert mine == theirs
            else:
                mine, theirs = (load_file(store / path) for store in (straight, killed))
                assert all((mine[name] == theirs[name]).all() for name in mine)


def recorded_once(store):
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("killed").experiment_id
    runs = client.search_runs([experiment])
    assert not [run for run in runs if run.info.status == "RUNNING"]
    finished = Counter(
        run.data.tags["harness.key"]
        for run in runs
        if run.info.status == "FINISHED" and "harness.key" in run.data.tags
    )
    assert set(finished.values()) == {1}
    works = [*store.glob("cells/*/result.json"), *store.glob("models/*/result.json")]
    assert finished.keys() == {path.parent.name for path in works}
