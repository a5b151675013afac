"""`harness doctor`: what is missing or broken here, and what to do."""

import json
import os
import platform
from dataclasses import replace
from types import SimpleNamespace

import made
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from installing import installer
from safetensors.numpy import save_file

from harness.cli import main
from harness.doctor import Line, _precision_of_gpu, death_of_import, precision
from harness.engine.probe import PrecisionSpeeds
from harness.execute import drives, machine
from harness.store import Store

EQUAL = PrecisionSpeeds("small", 32, {"float32": 1.0, "bfloat16": 1.0}, frozenset())


@pytest.fixture
def install(tmp_path, monkeypatch):
    (tmp_path / "sites").mkdir()
    return installer(tmp_path / "sites", monkeypatch)


@pytest.fixture
def doctor(tmp_path, monkeypatch):
    """The state of each thing that is looked at, and what is told of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.engine.fastest.fastest", lambda of, rule, *_: rule)

    def doctor(*arguments):
        result = CliRunner().invoke(main, ["doctor", "--device", "cpu", "--json", *arguments])
        told = json.loads(result.stdout)
        assert told["is_well"] == (result.exit_code == 0)
        return {one["what"]: (one["state"], one["told"]) for one in told["checks"]}

    return doctor


def test_on_a_new_machine_what_a_run_makes_is_missing_and_nothing_is_broken(doctor, tmp_path):
    told = doctor()
    assert {told[what][0] for what in ("store", "tracking")} == {"missing"}
    assert {told[what][0] for what in ("device", "disk", "plug-ins")} == {"ok"}
    assert not list(tmp_path.iterdir())


def test_what_is_not_here_is_missing_with_what_belongs_where(doctor, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "mnist.zip").touch()
    last = {"Mixed_6e.weight": np.zeros(1, np.float32)}  # of what layer 768 needs
    save_file(last, folder / "inception-2015-12-05-to768.safetensors")
    told = doctor("--data-dir", str(folder))
    assert told["data mnist"] == ("ok", f"is in {folder}")
    assert told["data flowers102"][0] == "missing"
    assert "put flowers102-64.zip" in told["data flowers102"][1]
    assert told["weights inception"][0] == "ok"
    assert told["weights inception"][1].endswith("up to layer 768")
    assert "put dinov2_vitl14_pretrain.pth" in told["weights dinov2"][1]


def test_what_a_first_run_does_without_is_said_apart(doctor):
    doctor()
    well, _, rest = (
        CliRunner()
        .invoke(main, ["doctor", "--device", "cpu"])
        .output.partition("not needed for runs/digits.yaml")
    )
    assert "data flowers102" not in well
    assert "missing" not in rest
    assert "data flowers102" in rest


def test_how_networks_are_computed_is_told_as_the_store_has_it_or_by_a_probe(doctor, store_folder):
    state, told = doctor()["precision"]
    assert state == "ok"
    assert "small at 32x32" in told
    kept = replace(made.EXECUTION, machine=machine.name(torch.device("cpu")))
    Store(store_folder).keep_execution("key", kept)
    assert doctor("--store", str(store_folder))["precision"][1].startswith(kept.said())


def test_of_a_gpu_it_is_told_too(monkeypatch, store_folder):
    kept = replace(made.EXECUTION, machine="a card", threads=None)
    Store(store_folder).keep_execution("key", kept)
    monkeypatch.setattr(machine, "find_device", torch.device)
    monkeypatch.setattr(machine, "name", lambda device: "a card")
    monkeypatch.setattr("harness.doctor._precision_of_gpu", lambda gpu: Line("ok", "", str(gpu)))
    paths = SimpleNamespace(device="cuda", store=store_folder)
    settled, probed = precision(paths)
    assert settled.told.startswith(kept.said())
    assert probed.told == "cuda"


def test_a_precision_that_is_faster_on_a_gpu_than_what_is_taken_is_named(monkeypatch):
    """Unless what was measured there is how fast Python is."""
    faster = replace(EQUAL, speeds={"float32": 2.0, "bfloat16": 1.0})
    waiting = replace(faster, waiting=frozenset({"bfloat16"}))
    monkeypatch.setattr("harness.execute.machine.find_precision", lambda *_: "bfloat16")
    for probed, state, is_named in (
        (EQUAL, "ok", False), (faster, "missing", True), (waiting, "ok", False),
    ):  # fmt: skip
        monkeypatch.setattr(
            "harness.engine.probe.speeds_by_precision", lambda _, found=probed: found
        )
        line = _precision_of_gpu(torch.device("cuda"))
        assert line.state == state
        assert ("Use training.precision=float32" in line.told) == is_named


def test_a_store_that_is_well_is_said_to_be(doctor, store_folder):
    told = doctor("--store", str(store_folder))
    assert told["store"][0] == told["tracking"][0] == "ok"


def test_who_works_in_a_store_may_be_on_another_machine(doctor, store_folder):
    note = {"process": os.getpid(), "command": "run g.yaml"}
    for host, told in {platform.node(): "(run g.yaml)", "there": "on there"}.items():
        (store_folder / "lock.json").write_text(json.dumps(note | {"host": host}))
        state, words = doctor("--store", str(store_folder))["store"]
        assert state == "ok"
        assert f"in use by process {os.getpid()} {told}" in words


def test_a_store_of_another_version_and_a_damaged_database_are_broken(doctor, store_folder):
    (store_folder / "cells").mkdir()
    (store_folder / "store.json").write_text('{"layout": 1}')
    (store_folder / "mlflow.db").write_bytes(b"nothing of SQLite" * 100)
    told = doctor("--store", str(store_folder))
    assert told["store"][0] == told["tracking"][0] == "broken"
    assert "Use another --store" in told["store"][1]


def test_a_server_that_is_away_is_broken_and_its_password_is_not_shown(doctor):
    state, words = doctor("--tracking-uri", "http://me:secret@127.0.0.1:9")["tracking"]
    assert state == "broken"
    assert "127.0.0.1:9 does not answer" in words
    assert "secret" not in words


BROKEN = """
[harness.samplers]
ddim = kitchen_plugin:ddim
[harness.metrics]
ends = ends_it:x
[harness.findings]
raises = raises:x
"""


def test_each_part_of_another_package_that_cannot_be_used_is_named(doctor, install, tmp_path):
    install("def ddim(): pass\n", BROKEN)
    [site] = (tmp_path / "sites").iterdir()
    (site / "ends_it.py").write_text("import os\nos._exit(7)\n")  # also of whoever imports it
    (site / "raises.py").write_text("import nothere\n")
    (site / "torn-1.0.dist-info").mkdir()
    (site / "torn-1.0.dist-info/entry_points.txt").write_bytes(b"[x]\na = \xff")
    told = doctor()
    state, words = told["metric ends"]
    assert state == "broken"
    assert "the import of ends_it ends the process (7)" in words
    assert told["finding raises"][0] == "broken"
    assert "No module named 'nothere'" in told["finding raises"][1]
    assert told["sampler ddim"][0] == "missing"
    assert "a built-in part" in told["sampler ddim"][1]
    assert [told[what][0] for what in told if what.endswith("torn-1.0.dist-info")] == ["broken"]


def test_a_package_that_writes_at_its_exit_is_well(tmp_path, monkeypatch):
    code = "import atexit, sys\natexit.register(sys.stderr.write, 'bye')\n"
    (tmp_path / "says_bye.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert death_of_import("says_bye") == ""


def test_an_import_that_hangs_is_given_up(doctor, install, monkeypatch):
    monkeypatch.setattr("harness.doctor.PATIENCE", 0.3)
    install("import time\ntime.sleep(60)\n", "[harness.losses]\nwaits = kitchen_plugin:x\n")
    state, words = doctor()["loss waits"]
    assert state == "broken"
    assert "takes more than" in words


def test_a_person_reads_one_line_for_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["doctor", "--device", "nonsense"])
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].startswith("broken  device")
    told = lines[: lines.index("")]  # the rest a first run does without
    begun = [line for line in told if not line.startswith(" ")]
    assert {line.split()[0] for line in begun} <= {"ok", "missing", "broken"}
    paths = [line for line in lines if max(map(len, line.split()), default=0) > 40]
    assert max(len(line) for line in lines if line not in paths) <= 80


def test_a_database_on_a_network_drive_is_warned_of(doctor, store_folder, monkeypatch):
    monkeypatch.setattr(drives, "network_drive", lambda file: "nfs4")
    state, words = doctor("--store", str(store_folder))["local database"]
    assert state == "missing"
    assert "(nfs4)" in words
