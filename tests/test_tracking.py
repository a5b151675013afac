"""What MLflow is told, and what comes back."""

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace

import made
import pytest
from mlflow import MlflowClient

from harness.errors import TrackingError
from harness.plan.grid import expand, load_grid
from harness.store import Store
from harness.tracking import Tracker, without_password
from harness.tracking.client import Client, ClientRuns
from harness.tracking.database import DatabaseRuns, database_of
from harness.work.cells import RESULT_VERSION, Asked
from harness.work.results import FailedWork, Failure, Measurement, to_json


@pytest.fixture
def cells(grid_file):
    return expand(load_grid(grid_file))


@pytest.fixture
def uri(store_folder):
    return f"sqlite:///{store_folder / 'mlflow.db'}"


@pytest.fixture
def tracker(uri, store_folder, cells):
    opened = Tracker(uri, "small", store_folder / "artifacts", store="mine")
    opened.open("name: small", Asked.of(cells), {"harness.commit": "abc1234"})
    return opened


@pytest.fixture
def keep(tracker, store_folder):
    """Records a result as a run does: from the store."""
    store = Store(store_folder)

    def keep(work, forecast=None, files=None, **measured):
        is_cell = hasattr(work, "training")
        result = made.result(work, files, **measured) if is_cell else made.trained(work, files)
        store.keep(result)
        run_id = tracker.started(work, forecast)
        tracker.completed(run_id, result, store.folder(work))
        return run_id

    return keep


def runs_of(uri, name="small"):
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name).experiment_id
    return client.search_runs([experiment])


def test_looking_makes_no_database(tmp_path):
    looked = Tracker(f"sqlite:///{tmp_path / 'none.db'}", "small")
    assert looked.table().empty
    assert looked.finished() == {}
    assert looked.grid_text() == ""
    assert list(tmp_path.iterdir()) == []


def test_looking_makes_no_experiment(uri):
    assert Tracker(uri, "small").table().empty
    assert MlflowClient(uri).get_experiment_by_name("small") is None


def test_a_finished_cell_is_a_row_in_the_words_of_the_grid(tracker, keep, cells):
    run_id = keep(cells[2], kid=0.1)
    [row] = tracker.table().to_dict("records")
    assert row["key"] == cells[2].key
    assert row["run_id"] == run_id
    assert row["machine"] == made.MACHINE
    assert (row["schedule"], row["sampler"], row["spacing"]) == ("linear", "ddim", "trailing")
    assert (row["steps"], row["seed"], row["sampling_seed"], row["images"]) == (2, 0, 0, 80)
    assert row["eta"] == 0
    assert row["precision"] == "float32"
    assert row["kid"] == 0.1
    assert row["training_key"] == cells[2].training.key
    assert not row["reused"]


def test_plain_clients_read_params_metrics_and_tags(keep, uri, cells):
    run_id = keep(cells[2], kid=made.measured(0.1, 0.01))
    data = MlflowClient(uri).get_run(run_id).data
    assert (data.params["schedule"], data.params["steps"]) == ("linear", "2")
    assert (data.metrics["kid"], data.metrics["kid_se"]) == (0.1, 0.01)
    assert data.tags["harness.kind"] == "cell"
    assert data.tags["harness.key"] == cells[2].key
    assert data.tags["harness.resolved.result_version"] == str(RESULT_VERSION)


PLAIN_CLIENT = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
[run] = client.search_runs(
    [client.get_experiment_by_name("small").experiment_id], "tags.`harness.kind` = 'cell'"
)
files = {file.path for file in client.list_artifacts(run.info.run_id)}
text = open(client.download_artifacts(run.info.run_id, "result.json")).read()
told = [run.data.params["sampler"], run.data.metrics["kid"], json.loads(text)["feature_width"]]
print(json.dumps([told, sorted(files), any("harness" in name for name in sys.modules)]))
"""


@pytest.mark.slow
def test_a_program_without_harness_reads_params_metrics_and_files(keep, uri, cells, tmp_path):
    keep(cells[2], kid=0.1, files={"samples.png": b"png"})
    command = [sys.executable, "-c", PLAIN_CLIENT, uri]
    output = subprocess.check_output(command, text=True, cwd=tmp_path)
    told, files, is_imported = json.loads(output.splitlines()[-1])
    assert told == ["ddim", 0.1, 64]
    assert {"result.json", "samples.png"} <= {*files}
    assert not is_imported


def test_what_comes_back_is_the_result_itself(tracker, keep, uri, cells):
    keep(cells[0], kid=0.1, files={"samples.png": b"png"})
    keep(cells[0].training)
    result = made.result(cells[0], {"samples.png": b"png"}, kid=0.1)
    for reader in (tracker, Tracker(uri, "small")):
        assert reader.cell_results() == {cells[0].key: result}
        assert reader.training_results().keys() == {cells[0].training.key}
    kept = tracker.cell_results()[cells[0].key]
    assert kept.artifacts.read("samples.png") == b"png"


def test_what_people_change_in_mlflow_changes_no_result(tracker, keep, uri, cells):
    run_id = keep(cells[0], kid=0.1)
    client = MlflowClient(uri)
    client.log_metric(run_id, "kid", 7.0)
    client.set_tag(run_id, "harness.resolved.precision", "by hand")
    [row] = Tracker(uri, "small").table().to_dict("records")
    assert (row["kid"], row["precision"]) == (0.1, "float32")


def test_a_forecast_is_a_number_beside_what_the_work_took(tracker, keep, cells):
    keep(cells[0].training, 123456.7)
    keep(cells[0], 0.0123456)
    [row] = tracker.table().to_dict("records")
    assert row["forecast_seconds"] == pytest.approx(0.0123456, rel=1e-3)
    [row] = tracker.trainings().to_dict("records")
    assert row["forecast_seconds"] == pytest.approx(123456.7, rel=1e-3)


def test_what_was_not_predicted_has_no_forecast(tracker, keep, cells):
    keep(cells[0])
    assert "forecast_seconds" not in tracker.table()
    keep(cells[1], 2.0)
    table = tracker.table().set_index("key")
    assert math.isnan(table.loc[cells[0].key, "forecast_seconds"])
    assert table.loc[cells[1].key, "forecast_seconds"] == 2


def test_a_checkpoint_cell_is_a_run_of_its_own_and_no_row_of_the_table(tracker, keep, uri, cells):
    keep(cells[0], kid=0.1)
    at_nine_tenths = replace(cells[0], weights="0.9")
    run_id = keep(at_nine_tenths, kid=0.2)
    assert len(tracker.table()) == 1
    assert {*tracker.cell_results()} == {cells[0].key, at_nine_tenths.key}
    assert MlflowClient(uri).get_run(run_id).data.tags["harness.kind"] == "checkpoint"
    assert len(tracker.read().cells) == 2


# What a report is made from.


def test_a_report_is_made_of_the_cells_of_the_grid_as_it_was_last_run(tracker, keep, uri, cells):
    for cell in cells[:3]:
        keep(cell, kid=0.1)
    keep(cells[0].training)
    keep(replace(cells[0], sampling_seed=9), kid=0.1)
    experiment = Tracker(uri, "small").read()
    assert {one.cell for one in experiment.cells} == {*cells[:3]}
    assert {one.training for one in experiment.trainings} == {cells[0].training}
    assert (experiment.name, experiment.expected_cells) == ("small", len(cells))
    assert experiment.left_out == {"the grid no longer asks for them": 1}
    assert (experiment.grid_text, experiment.commit) == ("name: small", "abc1234")
    assert experiment.runs[cells[0].key].id == tracker.run_ids()[cells[0].key]
    assert experiment.id == MlflowClient(uri).get_experiment_by_name("small").experiment_id


def test_a_budget_belongs_to_the_grid_that_asks(tracker, keep, cells):
    keep(replace(cells[0], budget=9), kid=0.1)
    [result] = tracker.read().cells
    assert result.cell.budget is None
    [result] = tracker.read(Asked({cells[0].key: 20})).cells
    assert result.cell.budget == 20


def test_cells_of_another_result_version_are_counted_apart(tracker, keep, uri, cells, monkeypatch):
    keep(cells[0], kid=0.1)
    with monkeypatch.context() as older:
        older.setattr("harness.work.projection.RESULT_VERSION", RESULT_VERSION - 1)
        keep(replace(cells[0], sampling_seed=7), kid=0.1)
    assert len(tracker.table()) == 1
    [(reason, count)] = tracker.read().left_out.items()
    assert "another result version" in reason
    assert count == 1


def test_nothing_recorded_is_one_clear_error(tracker):
    with pytest.raises(TrackingError, match=r"nothing of 'small' is recorded.*harness run"):
        tracker.read()


def test_a_run_that_lost_its_files_is_read_from_the_store_and_to_be_recorded_again(
    tracker, keep, store_folder, cells
):
    run_id = keep(cells[0], kid=0.1, files={"samples.png": b"png"})
    shutil.rmtree(store_folder / "artifacts" / run_id)
    [kept] = tracker.cell_results().values()
    assert kept.artifacts.read("samples.png") == b"png"
    assert tracker.lost() == {cells[0].key: run_id}
    assert tracker.finished() == {}


def test_cells_whose_result_is_nowhere_are_counted_and_the_rest_is_read(
    tracker, keep, store_folder, cells, uri
):
    for cell in cells[:2]:
        keep(cell, kid=0.1)
    lost = tracker.run_ids()[cells[0].key]
    shutil.rmtree(store_folder / "cells")
    (store_folder / "artifacts" / lost / "artifacts" / "result.json").unlink()
    experiment = tracker.read()
    assert [one.cell for one in experiment.cells] == [cells[1]]
    [(reason, count)] = experiment.left_out.items()
    assert "result.json is gone" in reason
    assert count == 1
    shutil.rmtree(store_folder / "artifacts")
    with pytest.raises(TrackingError, match=r"the files of all cells of 'small' .* are gone"):
        Tracker(uri, "small").read(Asked({cells[1].key: None}))


def test_a_damaged_result_is_read_from_the_store_or_named_and_left_out(
    uri, keep, store_folder, cells, caplog
):
    run_id = keep(cells[0], kid=0.1)
    (store_folder / "artifacts" / run_id / "artifacts" / "result.json").write_text("{")
    assert [*Tracker(uri, "small").table()["kid"]] == [0.1]
    assert [*Tracker(uri, "small").lost()] == [cells[0].key]
    shutil.rmtree(store_folder / "cells")
    assert Tracker(uri, "small").table().empty
    assert "is not what was written" in caplog.text


def test_a_result_of_another_moment_is_not_what_was_recorded(uri, keep, store_folder, cells):
    """Whole by itself, as of another machine or put there by hand."""
    run_id = keep(cells[0], kid=0.1)
    text = to_json(made.result(cells[0], kid=0.5))
    (store_folder / "artifacts" / run_id / "artifacts" / "result.json").write_text(text)
    assert [*Tracker(uri, "small").table()["kid"]] == [0.1]


# A store that is moved or copied.


def test_a_moved_store_gives_the_same_results_with_their_files(keep, store_folder, cells):
    keep(cells[0], kid=0.1, files={"samples.png": b"png"})
    moved = store_folder.rename(store_folder.parent / "moved")
    tracker = Tracker(f"sqlite:///{moved / 'mlflow.db'}", "small")
    [result] = tracker.read().cells
    assert result.artifacts.read("samples.png") == b"png"


def test_a_copy_never_writes_into_the_original(keep, store_folder, cells):
    keep(cells[0], kid=0.1)
    before = {path: path.stat().st_mtime_ns for path in store_folder.rglob("*") if path.is_file()}
    copy = store_folder.parent / "copy"
    shutil.copytree(store_folder, copy)
    uri = f"sqlite:///{copy / 'mlflow.db'}"
    other = Tracker(uri, "small", copy / "artifacts")
    other.open("name: small", Asked.of(cells), {})
    run_id = other.started(cells[1])
    other.completed(run_id, made.result(cells[1], kid=0.2), copy)
    other.close("FINISHED")
    after = {path: path.stat().st_mtime_ns for path in store_folder.rglob("*") if path.is_file()}
    assert after == before
    assert len(Tracker(uri, "small").table()) == 2
    client = MlflowClient(uri)
    for run in client.search_runs([client.get_experiment_by_name("small").experiment_id]):
        assert run.info.artifact_uri.startswith(copy.as_uri())
        assert client.list_artifacts(run.info.run_id)


def test_a_database_away_from_its_files_keeps_where_they_are(tmp_path, database, cells):
    shutil.copy(database, tmp_path / "shared.db")
    uri, files = f"sqlite:///{tmp_path / 'shared.db'}", tmp_path / "store" / "artifacts"
    tracker = Tracker(uri, "small", files)
    tracker.open("name: small", Asked.of(cells), {})
    tracker.completed(tracker.started(cells[0]), made.result(cells[0], kid=0.1), tmp_path)
    assert list(files.glob("*/artifacts/result.json"))
    assert len(Tracker(uri, "small").table()) == 1


# How work goes on.


def test_a_run_counts_only_when_it_is_complete(tracker, cells):
    tracker.started(cells[0])
    tracker.failed(tracker.started(cells[1]), cells[1], Failure("it broke", "Traceback: it broke"))
    tracker.abandoned(tracker.started(cells[2]))
    assert tracker.finished() == {}
    assert tracker.table().empty


def test_a_failure_is_told_until_it_succeeds(tracker, keep, cells):
    tracker.failed(tracker.started(cells[1]), cells[1], Failure("it broke", "Traceback"))
    failed = FailedWork("cell", cells[1].key, cells[1].title, "it broke")
    assert tracker.failures() == (failed,)
    keep(cells[1], kid=0.1)
    assert tracker.failures() == ()


def test_children_hang_flat_under_one_parent(tracker, keep, uri, cells):
    keep(cells[0].training)
    keep(cells[0])
    tracker.close("FINISHED")
    again = Tracker(uri, "small", store="mine")
    again.open("name: small", Asked.of([]), {})
    again.close("FINISHED")
    runs = runs_of(uri)
    parents = [run for run in runs if run.data.tags["harness.kind"] == "grid"]
    assert len(parents) == 1
    children = [run for run in runs if run not in parents]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parents[0].info.run_id}
    assert {run.data.tags["harness.kind"] for run in children} == {"training", "cell"}


def test_what_a_dead_process_left_running_is_marked_killed(tracker, uri, cells):
    tracker.started(cells[0])
    other = Tracker(uri, "small", store="another machine's")
    other.open("name: small", Asked.of([]), {})
    other.started(cells[1])

    Tracker(uri, "small", store="mine").open("name: small", Asked.of([]), {})
    status = {run.data.tags.get("harness.key"): run.info.status for run in runs_of(uri)}
    assert status[cells[0].key] == "KILLED"
    assert status[cells[1].key] == "RUNNING"


def test_no_run_ends_before_it_began_though_the_clock_be_set_back(tracker, uri, cells, monkeypatch):
    run_id = tracker.started(cells[0])
    monkeypatch.setattr("harness.tracking.time.time", lambda: 1000.0)
    tracker.failed(run_id, cells[0], Failure("it broke"))
    tracker.close("FAILED")
    assert all(run.info.end_time >= run.info.start_time for run in runs_of(uri))


def test_numbers_grow_while_work_goes_on(tracker, uri, cells):
    run_id = tracker.started(cells[0].training)
    for step in (10, 20, 30):
        tracker.progress(run_id, step, {"loss": 1 / step})
    history = MlflowClient(uri).get_metric_history(run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(s, 1 / s) for s in (10, 20, 30)]


def test_infinity_is_nan_with_a_tag(keep, uri, cells):
    infinite = Measurement(math.inf, math.inf)
    run_id = keep(cells[0], fid=infinite, undefined={"kid": "too few images"})
    run = MlflowClient(uri).get_run(run_id)
    assert math.isnan(run.data.metrics["fid"])
    assert run.data.tags["harness.infinite.fid"] == "inf"
    assert "harness.infinite.kid" not in run.data.tags


def test_a_metric_that_comes_later_joins_the_same_run(tracker, keep, store_folder, cells):
    run_id = keep(cells[0], kid=0.1)
    more = made.result(cells[0], kid=0.1, fid=3.0)
    tracker.amended(tracker.run_ids()[cells[0].key], more, Store(store_folder).folder(cells[0]))
    [row] = tracker.table().to_dict("records")
    assert (row["run_id"], row["kid"], row["fid"]) == (run_id, 0.1, 3.0)


def test_superseded_runs_stay_but_do_not_count(tracker, keep, uri, cells):
    keep(cells[0], kid=0.1)
    tracker.superseded([cells[0].key])
    assert tracker.finished() == {}
    assert any(run.info.status == "FINISHED" for run in runs_of(uri))


def test_a_deleted_parent_is_made_again(tracker, keep, uri, cells):
    keep(cells[0], kid=0.1)
    [parent] = [run for run in runs_of(uri) if run.data.tags["harness.kind"] == "grid"]
    MlflowClient(uri).delete_run(parent.info.run_id)
    again = Tracker(uri, "small", store="mine")
    again.open("name: small", Asked.of(cells), {"harness.commit": "def5678"})
    again.close("FINISHED")
    assert (len(again.read().cells), again.read().commit) == (1, "def5678")


def test_a_database_tells_of_runs_what_the_client_does(tracker, keep, cells, uri, monkeypatch):
    monkeypatch.setattr("harness.tracking.client.PAGE", 2)  # runs: there are more
    for cell in cells:
        keep(cell, kid=0.1)
    told = ClientRuns(Client(uri))
    read = DatabaseRuns(uri, database_of(uri))
    found = read.experiment("small")
    assert found == told.experiment("small")
    assert found.tags
    assert read.of(found.id) == told.of(found.id)
    assert len(read.of(found.id)) > len(cells)
    MlflowClient(uri).delete_experiment(found.id)
    assert read.experiment("small").is_deleted
    assert read.experiment("other") is None


def test_a_store_that_is_no_database_is_one_clear_error(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is not SQLite" * 100)
    with pytest.raises(TrackingError, match="cannot be used"):
        Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "small").table()


def test_passwords_are_not_shown():
    shown = without_password("postgresql://me:secret@host:5432/mlflow")
    assert "secret" not in shown
    assert shown == "postgresql://me:***@host:5432/mlflow"
