"""A disk that is full, at whatever moment: one line, nothing lost, the same command goes on."""

import os
import shutil
import subprocess

import pytest
from situations import NETWORK, harness, images

from harness.store import Store


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, of 64 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode:
        pytest.skip(f"no disk can be mounted here: {told.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def filled_but_for(disk, room):
    """Fill a disk but for so many bytes; returns the file that fills it."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - room)
    return filler


def numbers_in(store):
    return {one.cell.key: one.measurements for one in Store(store).cell_results()}


@pytest.mark.faults
def test_a_disk_may_be_full_at_any_moment(disk, tmp_path, database, monkeypatch):
    """Runs with ever more room, each of which ends a little later for the lack of it."""
    images(tmp_path / "imgs")
    (tmp_path / "g.yaml").write_text(NETWORK.replace("steps: [2]", "steps: [2, 3]"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.plan.preflight.LEAST_DISK", 0)  # else it would not begin

    def fresh(name):
        shutil.rmtree(disk / "report", ignore_errors=True)
        (disk / name).mkdir()
        shutil.copy(database, disk / name / "mlflow.db")
        return disk / name

    def run(store, status=0):
        return harness("run", "g.yaml", "--store", store, "--report-dir", disk / "report",
                       status=status)  # fmt: skip

    store = fresh("whole")
    before = shutil.disk_usage(disk).free
    run(store)
    needed, expected = before - shutil.disk_usage(disk).free, numbers_in(store)
    kept = sorted(path.name for path in store.glob("artifacts/*/artifacts/report/*"))
    assert expected
    assert "report.md" in kept
    full = set()
    for part in range(0, 12, 2):
        shutil.rmtree(store)
        store = fresh(f"part{part}")
        filler = filled_but_for(disk, needed * part // 12)
        said = run(store, status=1)
        assert said.count(f"the disk at {disk} is full") == 1, said
        full.add(said.partition(" is full: ")[2].partition(" cannot")[0].rpartition("/")[2])
        filler.unlink()
        run(store)
        assert numbers_in(store) == expected
        assert kept == sorted(path.name for path in store.glob("artifacts/*/artifacts/report/*"))
        assert not [*disk.rglob(".*")]
    assert {"mlflow.db"} < full, full
    assert len(full) > 3, full
