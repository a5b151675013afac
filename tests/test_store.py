"""The store: complete or absent, moved, joined, and refused where it is another's."""

import os
import shutil
import stat
import subprocess
import time
from contextlib import suppress
from dataclasses import replace

import made
import pytest

from harness.errors import StoreError
from harness.reporting import left_out
from harness.store import FEATURES, PROBES, Store, in_memory, replacing, set_aside, write_bytes
from harness.work.cells import Asked
from harness.work.looks import Look
from harness.work.results import RESULT, Artifacts
from harness.work.speeds import Speeds

RESULT_OF_A_CELL = made.result(kid=0.1, files={"samples.png": b"png", "path.csv": b"t\n1\n"})


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_a_file_is_complete_or_absent(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with suppress(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half of it, and then" + str(1 / 0))
    assert list(path.parent.iterdir()) == []
    with replacing(path) as temporary:
        temporary.write_text("all of it")
    assert path.read_text() == "all of it"
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]


def test_a_store_is_driven_by_one_process_at_a_time(store):
    with store.locked(), pytest.raises(StoreError, match="in use by process"), store.locked():
        pass
    with store.locked():
        pass


def test_a_store_below_a_file_is_refused_and_makes_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="not a folder"):
        Store(tmp_path / "file" / "store").check()
    assert (tmp_path / "file").read_text() == ""


def test_looking_at_a_store_makes_nothing(store):
    assert store.cell_result("abc") is None
    assert store.training_result("abc") is None
    assert store.cell_results() == []
    store.check()
    assert not store.root.exists()


def test_what_is_kept_is_read_back_equal_with_its_files(store):
    trained = made.trained(files={"schedule.csv": b"t\n1\n"})
    store.keep(RESULT_OF_A_CELL)
    store.keep(trained)
    again = store.result(RESULT_OF_A_CELL.cell)
    assert again == RESULT_OF_A_CELL
    assert again.artifacts.read("samples.png") == b"png"
    assert store.training_results() == [trained]
    assert store.training_result(trained.training.key).artifacts.read("schedule.csv") == b"t\n1\n"


def test_a_result_is_written_after_its_files(store, monkeypatch):
    written = []
    monkeypatch.setattr(
        "harness.store.write_bytes", lambda path, content, **how: written.append(path.name)
    )
    store.keep(RESULT_OF_A_CELL)
    assert written == ["path.csv", "samples.png", RESULT]


def test_files_that_lie_in_the_store_already_stay_as_they_are(store):
    features = store.cell(made.CELL.key, FEATURES)
    write_bytes(features, b"features")
    result = made.result()
    store.keep(
        replace(result, artifacts=Artifacts(Artifacts.of({FEATURES: b"features"}).checksums))
    )
    assert store.cell_result(made.CELL.key).artifacts.read(FEATURES) == b"features"
    write_bytes(features, b"feat")
    with pytest.raises(StoreError, match="damaged"):
        store.cell_result(made.CELL.key).artifacts.read(FEATURES)


def test_a_store_can_be_moved_and_two_can_be_joined(store, tmp_path):
    other = Store(tmp_path / "other")
    second = made.result(replace(made.CELL, steps=20), kid=0.2, files={"samples.png": b"two"})
    store.keep(RESULT_OF_A_CELL)
    other.keep(second)
    store.root.rename(tmp_path / "moved")
    shutil.copytree(tmp_path / "moved", other.root, dirs_exist_ok=True)
    found = {one.cell.steps: one for one in other.cell_results()}
    assert found == {10: RESULT_OF_A_CELL, 20: second}
    assert found[10].artifacts.read("samples.png") == b"png"
    texts = [path.read_text() for path in other.root.rglob(RESULT)]
    assert not any(str(tmp_path) in text for text in texts)


def test_cells_that_came_with_a_joined_store_are_told_where_a_report_leaves_them_out(
    store, tmp_path
):
    other, text = Store(tmp_path / "other"), "name: made\n"
    second = made.result(replace(made.CELL, steps=20), kid=0.2, files={})
    for one, result in ((other, second), (store, RESULT_OF_A_CELL)):
        one.keep(result)
        one.keep_grid("made", Asked.of([result.cell]), text)
    asked = Asked.of([RESULT_OF_A_CELL.cell])
    assert left_out(store, "made", asked) == ""
    (tmp_path / "joined").mkdir()
    for one in (other, store):
        shutil.copytree(one.root, tmp_path / "joined", dirs_exist_ok=True)
    joined = Store(tmp_path / "joined")
    told = left_out(joined, "made", asked)
    assert "1 finished cell of 'made'" in told
    assert second.cell.title in told
    assert left_out(joined, "made", Asked.of([RESULT_OF_A_CELL.cell, second.cell])) == ""
    assert left_out(joined, "another", Asked({})) == ""


def test_a_model_without_its_weights_is_not_finished(store):
    trained = made.trained()
    store.keep(trained)
    assert not store.has_model(trained.training.key)
    write_bytes(store.model(trained.training.key, "weights.safetensors"), b"")
    assert store.has_model(trained.training.key)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\x00\xff", b'{"cell": 1}'])
def test_a_damaged_result_is_named(store, content):
    write_bytes(store.cell("abc", RESULT), content)
    with pytest.raises(StoreError, match=r"result\.json"):
        store.cell_result("abc")


def test_a_result_that_is_a_folder_is_named(store):
    store.cell("abc", RESULT).mkdir(parents=True)
    with pytest.raises(StoreError, match=r"result\.json"):
        store.cell_result("abc")


def test_a_damaged_folder_is_set_aside_whole_and_the_work_counts_as_not_done(store, caplog):
    other = made.result(replace(made.CELL, steps=20), kid=0.2)
    store.keep(other)
    for damaged in (b"{", b"[]"):
        store.keep(RESULT_OF_A_CELL)
        write_bytes(store.cell(made.CELL.key, RESULT), damaged)
        set_aside(store.folder(made.CELL))
        assert store.result(made.CELL) is None
        assert store.cell_results() == [other]
    assert "was damaged" in caplog.text
    folder = store.folder(made.CELL)
    for name, text in ((".damaged", b"{"), (".damaged-2", b"[]")):
        aside = folder.with_name(folder.name + name)
        assert (aside / RESULT).read_bytes() == text
        assert (aside / "samples.png").read_bytes() == b"png"
    set_aside(store.folder(made.CELL))  # nothing is there
    assert len(list(folder.parent.iterdir())) == 3


def test_a_written_name_outlasts_a_power_cut(tmp_path, monkeypatch):
    """The folder is synced once the file has its name; not every system can."""
    synced = []

    def fsync(opened):
        is_folder = stat.S_ISDIR(os.fstat(opened).st_mode)
        synced.append(("folder" if is_folder else "file", path.exists()))
        if is_folder:
            raise OSError("not here")

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "file.txt"
    write_bytes(path, b"all of it")
    assert synced == [("file", False), ("folder", True)]
    assert path.read_bytes() == b"all of it"


def test_what_a_grid_stood_for_is_read_back_and_the_last_run_counts(store):
    assert store.grids() == {}
    first = Asked.of([made.cell(seed=0)])
    looks = [Look((0, 1), (0,)), Look((0, 1, 2), (0, 1))]
    last = replace(Asked.of([made.cell(seed=n) for n in (0, 1, 2)], looks), looked=(2,))
    store.keep_grid("digits", first)
    store.keep_grid("flowers", first)
    store.keep_grid("digits", last)
    assert store.grids() == {"digits": last, "flowers": first}


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"cells": 3, "trainings": []}', b"\xff"])
def test_a_damaged_note_of_a_grid_is_none(store, content):
    store.keep_grid("digits", Asked.of([made.cell()]))
    (store.root / "grids" / "flowers.json").write_bytes(content)
    assert [*store.grids()] == ["digits"]


def flip_a_bit(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_anywhere_in_a_result_is_noticed(store):
    store.keep(RESULT_OF_A_CELL)
    path = store.cell(made.CELL.key, RESULT)
    whole = path.read_bytes()
    for place in {*range(0, len(whole), 7), *range(90)}:
        flip_a_bit(path, place)
        with pytest.raises(StoreError, match="not what was written"):
            store.cell_result(made.CELL.key)
        path.write_bytes(whole)
    assert store.cell_result(made.CELL.key) == RESULT_OF_A_CELL


def test_a_result_of_other_work_is_no_result(store):
    store.keep(RESULT_OF_A_CELL)
    other = replace(made.CELL, steps=20)
    shutil.copytree(store.folder(made.CELL), store.folder(other))
    with pytest.raises(StoreError, match=made.CELL.key):
        store.cell_result(other.key)


def test_a_result_without_a_checksum_as_earlier_versions_wrote_it_is_read(store):
    store.keep(RESULT_OF_A_CELL)
    path = store.cell(made.CELL.key, RESULT)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if "sha256" not in line))
    assert store.cell_result(made.CELL.key) == RESULT_OF_A_CELL


def test_files_that_are_missing_or_damaged_are_told_apart_from_good_ones(store, caplog):
    store.keep(RESULT_OF_A_CELL)
    names = [*RESULT_OF_A_CELL.artifacts.checksums]
    assert store.lacking(RESULT_OF_A_CELL, names) == []
    picture, curve = (store.cell(made.CELL.key, name) for name in ("samples.png", "path.csv"))
    flip_a_bit(picture)
    curve.unlink()
    assert store.lacking(RESULT_OF_A_CELL, names) == names == ["path.csv", "samples.png"]
    store.set_aside_files(RESULT_OF_A_CELL, names)
    assert not picture.exists()
    assert picture.with_name("samples.png.damaged").exists()
    assert caplog.text.count("was damaged") == 1
    store.keep(RESULT_OF_A_CELL)
    assert store.lacking(RESULT_OF_A_CELL, names) == []


def test_a_file_of_no_result_has_its_checksum_beside_it(store, tmp_path):
    path = store.reference("real")
    write_bytes(path, b"features")
    assert not store.has_whole(path)  # as of an earlier version
    store.keep_checksum(path)
    assert store.has_whole(path)
    if program := shutil.which("sha256sum"):
        subprocess.run([program, "-c", "real.npy.sha256"], cwd=path.parent, check=True)
    flip_a_bit(path)
    assert not store.has_whole(path)
    assert path.with_name("real.npy.damaged").exists()


def test_what_is_forgotten_is_gone(store):
    store.keep(RESULT_OF_A_CELL)
    write_bytes(store.state(made.TRAINING), b"where its steps would go on")
    store.forget(RESULT_OF_A_CELL.cell)
    store.forget(made.TRAINING)
    assert not store.state(made.TRAINING).exists()
    assert store.cell_results() == []
    assert not store.folder(RESULT_OF_A_CELL.cell).exists()


def test_a_store_of_an_earlier_version_is_refused_in_a_sentence(store):
    write_bytes(store.cell("abc", "outcome.json"), b"{}")
    with pytest.raises(StoreError, match=r"made by another version of harness.*Use another"):
        store.check()
    with pytest.raises(StoreError, match="another version"), store.locked():
        pass


def test_files_can_be_sent_along_in_memory(store):
    store.keep(RESULT_OF_A_CELL)
    kept = store.cell_result(RESULT_OF_A_CELL.cell.key).artifacts
    sent = in_memory(kept, "samples.png")
    shutil.rmtree(store.root)
    assert sent.read("samples.png") == b"png"
    assert sent.read("path.csv") is None


def test_a_probe_holds_for_a_day_where_there_is_a_store(store, monkeypatch):
    speeds = Speeds(1.0, 2.0, 3.0, "a probe")
    store.keep_probed("a", speeds)
    assert not store.root.exists()
    store.root.mkdir()
    store.keep_probed("a", speeds)
    assert (store.probed("a"), store.probed("b")) == (speeds, None)
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 90_000)
    assert store.probed("a") is None
    store.keep_probed("b", speeds)
    assert '"a"' not in (store.root / PROBES).read_text()
    (store.root / PROBES).write_text('{"b": 1, "c": {"at": 1e99}, "d": {"at": null}}')
    assert store.probed("b") is store.probed("c") is store.probed("d") is None
