"""Who drives a store: one process, on this machine or another, and none that has died."""

import errno
import fcntl
import json
import os
import threading
import time

import pytest

from harness import lock
from harness.errors import StoreError
from harness.store import Store


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(lock, "WATCH_SECONDS", 0.3)


@pytest.fixture
def root(tmp_path):
    return tmp_path


def refused(root, why):
    with pytest.raises(StoreError, match=why), lock.locked(root):
        pass


def left_behind(root, **holder):
    """What a run left that was killed; returns its note."""
    note = root / "lock.json"
    note.write_text(json.dumps({"process": 2**22 + 1, "command": "run g.yaml"} | holder))
    return note


@pytest.mark.parametrize("number", [None, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_one_at_a_time_also_where_the_file_system_has_no_locks(root, monkeypatch, number):
    if number:

        def refuse(opened, operation):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):
        with lock.locked(root):
            refused(root, f"in use by process {os.getpid()} ")
        assert not (root / "lock.json").exists()


def test_a_dead_run_of_this_machine_holds_nothing(root):
    left_behind(root, host=lock.platform.node())
    with lock.locked(root):
        assert lock.holder_of(root / "lock.json")["process"] == os.getpid()


def test_a_run_elsewhere_holds_the_store_while_its_note_changes(root, caplog):
    note = left_behind(root, host="elsewhere")
    is_over = threading.Event()

    def beat():
        while not is_over.wait(0.02):
            os.utime(note)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        refused(root, r"in use by process \d+ on elsewhere")
    finally:
        is_over.set()
        beating.join()
    assert "waiting" in caplog.text
    with lock.locked(root):  # it has died
        assert lock.holder_of(note)["host"] == lock.platform.node()


def test_a_note_changes_while_its_run_goes_on(root):
    with lock.locked(root):
        before, until = lock.changed(root / "lock.json"), time.monotonic() + 5
        while lock.changed(root / "lock.json") == before:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_a_lock_that_is_a_folder_is_named(root):
    (root / "lock").mkdir()
    refused(root, r"lock cannot be taken \(Is a directory\)")


def test_what_a_dead_process_left_half_written_is_removed(root):
    store, alive = Store(root / "store"), os.getppid()
    kept = [f".result.json.{alive}", "result.json", ".hidden", "a.7"]
    gone = [f".influence.npz.{2**22 + 1}", f".mlflow.db.{2**22 + 1}-journal"]
    folder = store.cell("abc", "").parent / "abc"
    folder.mkdir(parents=True)
    for name in (*kept, *gone):
        (folder / name).write_text("")
    before_us = folder / f".features.npy.{os.getpid()}"  # in a container numbers come again
    before_us.write_text("")
    os.utime(before_us, (1, 1))
    with store.locked():
        assert sorted(path.name for path in folder.iterdir()) == sorted(kept)
