"""`harness clean` removes what no grid needs, and no more; `harness status` says what is there."""

import json
import shutil
from dataclasses import replace

import made
import pytest
from click.testing import CliRunner

from harness import clean as cleaning
from harness.clean import clean, unneeded
from harness.cli import main
from harness.errors import StoreError
from harness.lock import locked
from harness.status import GridState, status_of
from harness.store import FEATURES, TRAININGS, WEIGHTS, Store, set_aside, write_bytes
from harness.work.cells import Asked, Part
from harness.work.options import CHANGED
from harness.work.results import RESULT

FIRST, SECOND = (
    replace(made.CELL, training=replace(made.TRAINING, seed=seed, data_fingerprint="d" * 64),
            extractor_fingerprint="e" * 64)
    for seed in (0, 1)
)  # fmt: skip
OLD = replace(FIRST, steps=5)  # that the grid no longer asks for


@pytest.fixture
def store(tmp_path):
    """Two grids of a cell each, and a cell of an earlier one."""
    store = Store(tmp_path / "store")
    for cell in (FIRST, SECOND, OLD, replace(FIRST, weights="0.9"), replace(OLD, weights="0.9")):
        store.keep(made.result(cell, {FEATURES: b"f" * 1000}, kid=0.1))
    for cell in (FIRST, SECOND):
        store.keep(made.trained(cell.training))
        write_bytes(store.model(cell.training.key, WEIGHTS), b"w" * 1000)
    store.keep_grid("first", Asked.of([FIRST]))
    store.keep_grid("second", Asked.of([SECOND]))
    with store.locked():
        pass  # writes what every store has
    return store


def files_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def state_of(store, cell, *trainings):
    """An unfinished training, as far as it tells of which trainings it is."""
    header = json.dumps({"__metadata__": {TRAININGS: json.dumps(trainings)}}).encode()
    path = store.state(cell.training)
    write_bytes(path, len(header).to_bytes(8, "little") + header)
    return path


def features_of(store, name, *sources):
    path = store.reference(name)
    write_bytes(path, b"features")
    store.keep_checksum(path, *sources)
    return path


def test_what_a_grid_asks_for_stays_with_its_checkpoint_cells(store):
    found = unneeded(store.root)
    assert found.paths == {
        "cell": tuple(sorted(store.folder(cell) for cell in (OLD, replace(OLD, weights="0.9"))))
    }
    assert found.bytes > 2000
    before = files_in(store.root)
    clean(found)
    assert before - files_in(store.root) == {
        path for path in before if any(folder.name in path for folder in found.paths["cell"])
    }
    assert not unneeded(store.root)


def test_a_grid_that_is_forgotten_goes_with_what_it_alone_needed(store):
    of_run = store.root / "artifacts/run/artifacts"
    shutil.copytree(store.folder(SECOND.training), of_run)
    store.keep_failed("second", {"key": "why"})
    clean(unneeded(store.root, ["second"]))
    assert not store.folder(SECOND).exists()
    assert not store.folder(SECOND.training).exists()
    assert not (of_run / WEIGHTS).exists()
    assert (of_run / RESULT).exists()
    assert not store.failed("second")
    assert [*store.grids()] == ["first"]
    assert store.cell_result(FIRST.key)
    with pytest.raises(StoreError, match="Did you mean 'first'"):
        unneeded(store.root, ["frist"])


def test_unfinished_trainings_that_a_grid_waits_for_stay(store):
    third = replace(SECOND, training=replace(SECOND.training, seed=2))
    waited = state_of(store, FIRST, FIRST.training.key)
    of_nobody = state_of(store, third, third.training.key)
    of_before = state_of(store, replace(third, training=replace(third.training, seed=3)))
    assert unneeded(store.root).paths["unfinished"] == (of_nobody,)
    clean(unneeded(store.root))
    assert waited.exists()
    assert of_before.exists()
    assert not of_nobody.parent.exists()


def test_features_go_when_no_cell_is_held_against_them(store):
    used = features_of(store, "real-used", "d" * 64, "e" * 64)
    other = features_of(store, "real-other", "x" * 64, "e" * 64)
    unknown = features_of(store, "real-unknown")
    assert unneeded(store.root).paths["features"] == (other,)
    shutil.rmtree(store.folder(SECOND))  # what it will be held against is not known
    assert "features" not in unneeded(store.root).paths
    store.keep_grid("second", Asked.of([FIRST]))
    clean(unneeded(store.root))
    assert used.exists()
    assert unknown.exists()
    assert {path.name for path in used.parent.iterdir()} == {
        *(f"{name}.npy" for name in ("real-used", "real-unknown")),
        *(f"{name}.npy.sha256" for name in ("real-used", "real-unknown")),
    }


def test_a_network_from_elsewhere_goes_when_no_cell_is_sampled_from_it(store):
    given = replace(FIRST.training, model=Part.of("diffusers", {"path": "net"}),
                    model_fingerprint="a" * 64)  # fmt: skip
    cell = replace(FIRST, training=given)
    store.keep(made.result(cell, {FEATURES: b"f"}, kid=0.1))
    store.keep_grid("first", Asked.of([cell]))
    needed, other = (store.network(name * 64) / "config.json" for name in "ab")
    for path in (needed, other):
        write_bytes(path, b"{}")
    clean(unneeded(store.root))
    assert needed.exists()
    assert not other.parent.exists()


def test_what_the_same_file_stood_for_before_stays(store):
    """With FIELD=VALUE, or at an early look of --until, a run stands for less than its file."""
    changed = f"{CHANGED}steps=[5]\nname: third\n"
    store.keep_grid("third", Asked.of([OLD]), changed)
    store.keep_grid("third", Asked.of([SECOND]), "name: third\n")
    assert not unneeded(store.root)
    assert store.grids()["third"] == Asked.of([SECOND])
    store.keep_grid("third", Asked.of([FIRST]), "name: third\nsteps: [10]\n")
    assert len(unneeded(store.root).paths["cell"]) == 2
    clean(unneeded(store.root, ["third"]))
    assert not [*store.root.glob("grids/third*")]


def test_what_was_of_other_images_or_another_version_goes(store):
    text = "name: third\n"
    store.keep_grid("third", Asked.of([OLD]), text)
    store.keep_grid("third", Asked.of([SECOND]), text)
    anew = replace(SECOND, training=replace(SECOND.training, data_fingerprint="c" * 64))
    store.keep(made.result(anew, kid=0.1))
    for name in ("first", "second", "third"):
        store.keep_grid(name, Asked.of([anew]), text)  # the images have changed
    gone = {path.name for path in unneeded(store.root).paths["cell"]}
    assert {OLD.key, SECOND.key} < gone
    assert anew.key not in gone
    assert store.folder(SECOND.training) in unneeded(store.root).paths["training"]


def test_what_a_grid_stood_for_in_joined_stores_stays(store, tmp_path):
    theirs = Store(tmp_path / "theirs")
    for one, cell in ((store, SECOND), (theirs, OLD)):
        one.keep_grid("ours", Asked.of([cell]), "name: ours\n")
    shutil.copytree(theirs.root, store.root, dirs_exist_ok=True)
    assert not unneeded(store.root)
    store.keep_grid("ours", Asked.of([SECOND]), "name: ours\n")
    assert not unneeded(store.root)
    store.keep_grid("ours", Asked.of([SECOND]), "name: ours\nsteps: [10]\n")
    assert len(unneeded(store.root).paths["cell"]) == 2


def test_what_is_not_of_the_store_stays(store):
    """A store may be a folder where a person has other things, too."""
    theirs = [
        store.root / name
        for name in ("thesis/ch1.damaged.tex", "models/mine/net.pt", "cells/notes/a.txt",
                     "images/faces.npz", "features/mine.npy", "networks/mine/net.pt")
    ]  # fmt: skip
    for path in theirs:
        write_bytes(path, b"mine")
    clean(unneeded(store.root))
    assert all(path.exists() for path in theirs)


def test_it_is_said_that_results_would_be_lost_that_are_not_recorded(store):
    store.keep_owed(f"second-{'0' * 12}", {SECOND.key: {}})
    assert unneeded(store.root).unrecorded == 0
    assert "would be lost" in unneeded(store.root, ["second"]).as_text()
    store.keep_owed(f"first-{'0' * 12}", {SECOND.key: {}})
    assert unneeded(store.root, ["second"]).unrecorded == 0


def test_what_was_set_aside_or_left_half_written_goes(store):
    set_aside(store.folder(OLD))
    write_bytes(store.root / "cells/.result.json.999999999", b"half")
    assert {"damaged", "leftover"} <= unneeded(store.root).paths.keys()
    clean(unneeded(store.root))
    assert not unneeded(store.root)


def test_cut_short_it_loses_nothing_that_is_needed(store, monkeypatch):
    found = unneeded(store.root, ["second"])
    needed = files_in(store.folder(FIRST)) | files_in(store.folder(FIRST.training))
    whole, done = cleaning._remove, []

    def interrupted(path):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(whole(path))

    monkeypatch.setattr(cleaning, "_remove", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clean(found)
    monkeypatch.setattr(cleaning, "_remove", whole)
    clean(unneeded(store.root))
    assert files_in(store.folder(FIRST)) | files_in(store.folder(FIRST.training)) == needed
    assert {path.name for path in store.root.glob("cells/*")} == {
        FIRST.key, replace(FIRST, weights="0.9").key
    }  # fmt: skip


def test_what_has_come_to_be_needed_since_it_was_listed_stays(store):
    found = unneeded(store.root)
    store.keep_grid("first", Asked.of([FIRST, OLD]))
    clean(found)
    assert store.cell_result(OLD.key)


def test_what_cannot_be_told_to_be_needed_is_refused(store):
    with locked(store.root), pytest.raises(StoreError, match="in use"):
        clean(unneeded(store.root))
    write_bytes(store.root / "grids/first.json", b"{ damaged")
    with pytest.raises(StoreError, match=r"first\.json cannot be read"):
        unneeded(store.root)
    shutil.rmtree(store.root / "grids")
    with pytest.raises(StoreError, match="no note of a grid"):
        unneeded(store.root)


def test_nobody_is_asked_where_nobody_can_answer(store):
    def harness(*arguments):
        return CliRunner().invoke(main, ["clean", "--store", str(store.root), *arguments])

    assert harness().exit_code == 2
    assert harness("--dry-run").exit_code == 0
    assert store.cell_result(OLD.key)
    assert json.loads(harness("--yes", "--json").output)["is_removed"]
    assert not store.cell_result(OLD.key)
    assert "need all" in harness().output


def test_the_status_counts_what_is_finished_failed_pending_and_stale(store, tmp_path):
    asked = [FIRST, SECOND, *(replace(FIRST, steps=steps) for steps in (20, 50))]
    store.keep_grid("first", Asked.of(asked))
    store.keep_failed("first", {asked[2].key: "why", OLD.key: "of an earlier grid"})
    told = status_of(store.root, tmp_path)
    # No images have these fingerprints, so the cells are of others than there are now.
    assert told.grids["first"] == GridState(cells=4, finished=0, failed=1, stale=2)
    assert told.grids["first"].pending == 1
    gone = replace(FIRST.training, data=Part.of("folder", {"path": "gone"}))
    store.keep(made.result(replace(FIRST, training=gone), kid=0.1))
    store.keep_grid("second", Asked.of([replace(FIRST, training=gone)]))
    told = status_of(store.root, tmp_path)
    assert told.grids["second"] == GridState(cells=1, finished=1, failed=0, stale=0)
    assert told.spare.bytes > 0
    assert json.loads(json.dumps(told.as_json()))["grids"]["first"]["pending"] == 1


def test_results_of_another_version_are_counted_and_not_read(store, tmp_path):
    folder = store.folder(OLD)
    folder.rename(folder.with_name("0123456789ab"))
    assert status_of(store.root, tmp_path).outdated == 1
