"""A store that is copied, cleaned, or of another version; what is gone is made again or said."""

import json
import re
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from situations import EXACT, harness
from test_other_inputs import state

from harness.tracking import Tracker


@pytest.fixture(scope="module")
def once(tmp_path_factory, database):
    """A finished run, to be copied by each test."""
    folder = tmp_path_factory.mktemp("once")
    (folder / "store").mkdir()
    shutil.copy(database, folder / "store/mlflow.db")
    (folder / "exact.yaml").write_text(EXACT)
    harness("run", folder / "exact.yaml", "steps=[2,3]", "--store", folder / "store",
            "--report-dir", folder / "report")  # fmt: skip
    return folder / "store"


@pytest.fixture
def done(place, once):
    shutil.rmtree(place / "runs/store")
    shutil.copytree(once, place / "runs/store")
    return place


def client_of(store):
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    return client, client.get_experiment_by_name("exactcase").experiment_id


def runs_of(store):
    client, experiment = client_of(store)
    return client.search_runs([experiment])


def report_of(place, folder="again", **where):
    """Without the commands, which name the places of whoever ran them."""
    store = where.get("store", place / "runs/store")
    harness("report", "exactcase", "--report-dir", folder, "--store", store)
    text = (place / folder / "report.md").read_text().partition("## Rebuild")[0]
    return re.sub(r"^harness run .*$", "", text, flags=re.M)


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_copied_store_goes_on_in_both_places_and_neither_sees_the_other(done):
    here, there = done / "runs/store", done / "copy"
    shutil.copytree(here, there)
    before = contents(here)
    grid = ("exact.yaml", "steps=[2,3,4]", "--store", there, "--report-dir", "there")
    shutil.rmtree(there / "artifacts")
    assert "3 of 3" in harness("run", *grid)
    assert contents(here) == before
    assert len([*there.glob("artifacts/*/artifacts/result.json")]) == 3
    copied = contents(there)
    assert "3 of 3" in harness("run", "exact.yaml", "steps=[2,3,5]")
    assert contents(there) == copied


@pytest.mark.parametrize("name", ["a%20b", "a?b#c%3Fd", "größe & 'x'", "x" * 200])
def test_a_store_may_be_at_any_path_and_nothing_is_written_elsewhere(done, name):
    """`done` is copied there: a database without an experiment takes long to make."""
    place = done / "places"
    place.mkdir()
    shutil.copytree(done / "runs/store", place / name)
    there = ("--store", place / name, "--report-dir", place / name / "report")
    assert "3 of 3" in harness("run", "exact.yaml", "steps=[2,3,4]", *there)
    assert "up to date" in harness("report", "exact.yaml", "steps=[2,3,4]", *there)
    harness("sample", "steps=4", "--out", place / name / "s.png", "--store", place / name)
    assert [path.name for path in place.iterdir()] == [name]
    assert len([*(place / name).glob("artifacts/*/artifacts/result.json")]) == 3


def test_deleted_files_of_the_runs_are_read_from_the_store_and_put_back(done):
    store, before = done / "runs/store", report_of(done)
    count = len(runs_of(store))
    shutil.rmtree(store / "artifacts")
    assert report_of(done, "without").partition("```yaml")[0] == before.partition("```yaml")[0]
    assert "2 of 2" in harness("run", "exact.yaml", "steps=[2,3]")
    assert len(runs_of(store)) == count
    assert len([*store.glob("artifacts/*/artifacts/result.json")]) == 2
    shutil.rmtree(store / "cells")
    assert report_of(done, "with") == before
    assert "Nothing to do" in harness("run", "exact.yaml", "steps=[2,3]")


def test_what_is_gone_from_both_is_said_and_made_again(done):
    store = done / "runs/store"
    shutil.rmtree(store / "cells")
    shutil.rmtree(store / "artifacts")
    told = harness("report", "exactcase", status=1)
    assert "are gone" in told
    assert "harness run" in told
    assert "2 of 2" in harness("run", "exact.yaml", "steps=[2,3]")
    report_of(done)


def test_a_deleted_picture_is_named_and_the_rest_reported(done):
    for picture in [*(done / "runs/store").rglob("samples.png")]:
        picture.unlink()
    page = report_of(done)
    assert "samples.png of 2 results (missing)" in page
    assert "--redo" in page
    harness("run", "exact.yaml", "steps=[2,3]", "--redo", "steps=[2,3]")
    assert "(missing)" not in report_of(done)


def test_a_deleted_parent_is_made_again_where_there_is_nothing_else_to_do(done):
    store, before = done / "runs/store", report_of(done)
    client, _ = client_of(store)
    [parent] = [run for run in runs_of(store) if run.data.tags["harness.kind"] == "grid"]
    client.delete_run(parent.info.run_id)
    assert "3 steps" in report_of(done)
    harness("run", "exact.yaml", "steps=[2,3]")
    assert report_of(done).partition("```yaml")[0] == before.partition("```yaml")[0]


def test_a_deleted_run_is_recorded_again_from_the_store(done):
    client, _ = client_of(done / "runs/store")
    for run in runs_of(done / "runs/store"):
        if run.data.tags["harness.kind"] == "cell":
            client.delete_run(run.info.run_id)
    assert state("exact.yaml") == ["in the store"]
    assert "2 of 2" in harness("run", "exact.yaml", "steps=[2,3]")


def test_a_deleted_experiment_is_refused_in_one_sentence_and_nothing_is_lost(done):
    client, experiment = client_of(done / "runs/store")
    client.delete_experiment(experiment)
    for command in (("run", "exact.yaml"), ("plan", "exact.yaml"), ("report", "exactcase")):
        assert "was deleted in MLflow. Restore it" in harness(*command, status=1)
    client.restore_experiment(experiment)
    assert "Nothing to do" in harness("run", "exact.yaml", "steps=[2,3]")


def edited(text):
    return re.sub(r'"kid": \{\s*"value": [^,]*', '"kid": {"value": 0.5', text)


def null_metrics(text):
    fields = json.loads(text)
    fields.pop("sha256")  # as one would who knows of it
    return json.dumps(fields | {"measurements": None})


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "{",
        edited,
        null_metrics,
        lambda text: text.replace("e", "f"),
        lambda text: "[]",
    ],
    ids=["cut", "edited", "null", "other letters", "list"],
)
def test_a_damaged_result_is_named_never_used_and_made_again(done, damage):
    before = numbers_in(done)
    paths = [*(done / "runs/store").rglob("result.json")]
    for path in paths:
        damaged = damage(path.read_text())
        assert damaged != path.read_text()
        path.write_text(damaged)
    for command in (
        ("report", "exactcase"), ("compare", "steps=2", "steps=3"),
        ("sample", "steps=2", "--out", "s.png"),
    ):  # fmt: skip
        told = harness(*command, status=1)
        assert "se harness run" in told.replace("`", "")
    assert "2 of 2" in harness("run", "exact.yaml", "steps=[2,3]")
    assert len([*(done / "runs/store/cells").glob("*.damaged")]) == 2
    assert numbers_in(done) == before


def numbers_in(place):
    """The KID of each recorded cell."""
    uri = f"sqlite:///{(place / 'runs/store/mlflow.db').absolute()}"
    return Tracker(uri, "exactcase").table().set_index("key")["kid"].to_dict()


def test_one_of_two_copies_of_a_result_is_enough(done):
    """The store has one, and the run in MLflow."""
    store, before = done / "runs/store", report_of(done)
    for path in store.glob("artifacts/*/artifacts/result.json"):
        path.write_text(edited(path.read_text()))
    assert report_of(done, "from the store") == before
    assert "2 of 2" in harness("run", "exact.yaml", "steps=[2,3]")
    for path in store.glob("cells/*/result.json"):
        path.write_text(edited(path.read_text()))
    assert report_of(done, "from the runs") == before


@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_a_damaged_influence_or_picture_is_made_again(done, damage):
    before = numbers_in(done)
    for name in ("influence.npz", "samples.png"):
        for path in (done / "runs/store").rglob(name):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 4
            path.unlink() if damage == "gone" else path.write_bytes(content)
    assert f"({'missing' if damage == 'gone' else 'damaged'})" in report_of(done)
    harness("compare", "steps=2", "steps=3")
    assert "2 of 2" in harness("run", "exact.yaml", "steps=[2,3]")
    assert "intervals that are paired" not in report_of(done, "mended")
    assert numbers_in(done) == before


def test_folders_copied_without_the_version_of_the_store_are_read(done):
    (done / "runs/store/store.json").unlink()
    assert state("exact.yaml") == ["finished"]


def test_a_store_of_an_earlier_version_is_refused_in_one_sentence(place):
    store = place / "runs/store"
    for kind, name in (("cells", "outcome.json"), ("models", "weights.safetensors")):
        (store / kind / "0123456789ab").mkdir(parents=True)
        (store / kind / "0123456789ab" / name).write_text("{}")
    for command in (
        ("run", "exact.yaml"), ("plan", "exact.yaml"), ("compare", "steps=2", "steps=3"),
        ("sample", "steps=2", "--out", "s.png"),
    ):  # fmt: skip
        assert "made by another version of harness" in harness(*command, status=1)


def test_an_experiment_of_an_earlier_version_is_told_from_an_empty_one(done):
    client, _ = client_of(done / "runs/store")
    for run in runs_of(done / "runs/store"):
        if run.data.tags["harness.kind"] == "cell":
            client.set_tag(run.info.run_id, "harness.resolved.result_version", "1")
    for path in (done / "runs/store").rglob("cells.json"):
        path.write_text('["0123456789ab"]')
    assert "another result version" in harness("report", "exactcase", status=1)


def test_the_status_of_a_store_names_what_is_damaged_and_a_run_makes_it_again(done):
    store, before = done / "runs/store", numbers_in(done)
    told = harness("status", "--verify", "--store", store)
    assert "all are what was written" in told
    [*_, picture] = sorted(store.glob("cells/*/samples.png"))
    [features, *_] = sorted(store.glob("features/*.npy"))
    [result, *_] = sorted(store.glob("cells/*/result.json"))
    for path in (picture, features):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    result.write_text(edited(result.read_text()))
    told = json.loads(harness("status", "--verify", "--json", "--store", store, status=1))
    assert {picture, features, result} <= {Path(path) for path in told["damaged"]}
    assert {f"{path}.damaged" for path in (picture, features, result)} <= {*told["aside"]}
    harness("run", "exact.yaml", "steps=[2,3]")
    told = json.loads(harness("status", "--verify", "--json", "--store", store))
    counts = {"cells": 2, "finished": 2, "failed": 0, "pending": 0, "stale": 0}
    assert told["grids"] == {"exactcase": counts}
    assert numbers_in(done) == before
    assert "there is no store" in harness("status", "--store", "nowhere", status=1)
