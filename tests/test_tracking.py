"""What MLflow is told, and what comes back."""

import math

import pytest
from mlflow import MlflowClient

from harness.errors import TrackingError
from harness.plan.grid import expand, load_grid
from harness.runtime.execute import Failure
from harness.tracking import Tracker, without_password

OUTCOME = {
    "metrics": {"kid": 0.1, "kid_se": 0.01, "nfe": 2, "seconds_per_image": 0.5},
    "machine": "a processor, 2 cores",
    "precision": "float32",
    "extractor": "digits",
    "versions": {"torch": "2.0"},
}


@pytest.fixture
def cells(grid_file):
    return expand(load_grid(grid_file))


@pytest.fixture
def uri(store_folder):
    return f"sqlite:///{store_folder / 'mlflow.db'}"


@pytest.fixture
def tracker(uri, store_folder, cells):
    opened = Tracker(uri, "small", store_folder / "artifacts", store="mine")
    opened.open("name: small", [cell.key for cell in cells], {"harness.commit": "abc1234"})
    return opened


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


def test_a_finished_cell_is_a_row_in_the_words_of_the_grid(tracker, cells):
    run_id = tracker.begin(cells[2], {})
    tracker.end(run_id, OUTCOME, [])
    [row] = tracker.table().to_dict("records")
    assert row["key"] == cells[2].key
    assert row["run_id"] == run_id
    assert row["machine"] == "a processor, 2 cores"
    assert (row["schedule"], row["sampler"], row["spacing"]) == ("linear", "ddim", "trailing")
    assert (row["steps"], row["seed"], row["sampling_seed"], row["images"]) == (2, 0, 0, 80)
    assert row["eta"] == 0
    assert row["precision"] == "float32"
    assert row["kid"] == 0.1
    assert row["training_key"] == cells[2].training.key
    assert not row["reused"]


def test_a_forecast_is_a_number_beside_what_the_work_took(tracker, cells):
    cell, training = cells[0], cells[0].training
    tracker.end(tracker.begin(training, {}, 123456.7), OUTCOME, [])
    tracker.end(tracker.begin(cell, {}, 0.0123456), OUTCOME, [])
    [row] = tracker.table().to_dict("records")
    assert row["forecast_seconds"] == pytest.approx(0.0123456, rel=1e-3)
    [row] = tracker.trainings().to_dict("records")
    assert row["forecast_seconds"] == pytest.approx(123456.7, rel=1e-3)


def test_what_was_not_foretold_has_no_forecast(tracker, cells):
    tracker.end(tracker.begin(cells[0], {}), OUTCOME, [])
    assert "forecast_seconds" not in tracker.table()
    tracker.end(tracker.begin(cells[1], {}, 2.0), OUTCOME, [])
    table = tracker.table().set_index("key")
    assert math.isnan(table.loc[cells[0].key, "forecast_seconds"])
    assert table.loc[cells[1].key, "forecast_seconds"] == 2


def test_every_run_names_the_recipe_that_made_it(tracker, cells, monkeypatch):
    monkeypatch.setattr("harness.tracking.RECIPE", 7)
    tracker.end(tracker.begin(cells[0].training, {}), OUTCOME, [])
    tracker.end(tracker.begin(cells[0], {}), OUTCOME, [])
    assert tracker.table()["recipe"].tolist() == ["7"]
    assert tracker.trainings()["recipe"].tolist() == ["7"]
    assert tracker.table()["training_key"].tolist() == [cells[0].training.key]
    assert "training_key" not in tracker.trainings()


def test_the_experiment_has_the_id_that_mlflow_gave_it(tracker, uri):
    known = MlflowClient(uri).get_experiment_by_name("small").experiment_id
    assert tracker.experiment() == Tracker(uri, "small").experiment() == known
    assert Tracker(uri, "never run").experiment() == ""


def test_a_run_counts_only_when_it_is_complete(tracker, cells):
    tracker.begin(cells[0], {})
    tracker.fail(tracker.begin(cells[1], {}), Failure("it broke", "Traceback: it broke"))
    tracker.abandon(tracker.begin(cells[2], {}))
    assert tracker.finished() == {}
    assert tracker.table().empty


def test_a_failure_is_told_until_it_succeeds(tracker, cells):
    tracker.fail(tracker.begin(cells[1], {}), Failure("it broke", "Traceback"))
    [told] = tracker.failures().to_dict("records")
    assert (told["kind"], told["key"], told["reason"]) == ("cell", cells[1].key, "it broke")
    tracker.end(tracker.begin(cells[1], {}), OUTCOME, [])
    assert tracker.failures().empty


def test_children_hang_flat_under_one_parent(tracker, uri, cells):
    tracker.end(tracker.begin(cells[0].training, {}), OUTCOME, [])
    tracker.end(tracker.begin(cells[0], {}), OUTCOME, [])
    tracker.close("FINISHED")
    again = Tracker(uri, "small", store="mine")
    again.open("name: small", [], {})
    again.close("FINISHED")
    runs = runs_of(uri)
    parents = [run for run in runs if run.data.tags["harness.kind"] == "grid"]
    assert len(parents) == 1
    children = [run for run in runs if run not in parents]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parents[0].info.run_id}
    assert {run.data.tags["harness.kind"] for run in children} == {"training", "cell"}


def test_what_a_dead_process_left_running_is_marked_killed(tracker, uri, cells):
    tracker.begin(cells[0], {})
    other = Tracker(uri, "small", store="another machine's")
    other.open("name: small", [], {})
    other.begin(cells[1], {})

    Tracker(uri, "small", store="mine").open("name: small", [], {})
    status = {run.data.tags.get("harness.key"): run.info.status for run in runs_of(uri)}
    assert status[cells[0].key] == "KILLED"
    assert status[cells[1].key] == "RUNNING"


def test_numbers_grow_while_work_goes_on(tracker, uri, cells):
    run_id = tracker.begin(cells[0].training, {})
    for step in (10, 20, 30):
        tracker.progress(run_id, step, {"loss": 1 / step})
    history = MlflowClient(uri).get_metric_history(run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(s, 1 / s) for s in (10, 20, 30)]


def test_infinity_is_nan_with_a_tag(tracker, uri, cells):
    run_id = tracker.begin(cells[0], {})
    tracker.end(run_id, OUTCOME | {"metrics": {"fid": math.inf, "kid": math.nan}}, [])
    run = MlflowClient(uri).get_run(run_id)
    assert math.isnan(run.data.metrics["fid"])
    assert run.data.tags["harness.infinite.fid"] == "inf"
    assert "harness.infinite.kid" not in run.data.tags


def test_a_metric_that_comes_later_joins_the_same_run(tracker, cells):
    run_id = tracker.begin(cells[0], {})
    tracker.end(run_id, OUTCOME, [])
    more = OUTCOME | {"metrics": OUTCOME["metrics"] | {"fid": 3.0}}
    tracker.amend(tracker.run_ids()[cells[0].key], more)
    [row] = tracker.table().to_dict("records")
    assert (row["run_id"], row["kid"], row["fid"]) == (run_id, 0.1, 3.0)


def test_superseded_runs_stay_but_do_not_count(tracker, uri, cells):
    tracker.end(tracker.begin(cells[0], {}), OUTCOME, [])
    tracker.supersede([cells[0].key])
    assert tracker.finished() == {}
    assert any(run.info.status == "FINISHED" for run in runs_of(uri))


def test_the_grid_and_the_commit_are_with_the_parent(tracker, uri, cells):
    again = Tracker(uri, "small")
    assert again.grid_text() == "name: small"
    assert again.grid_cells() == {cell.key for cell in cells}
    assert again.commit() == "abc1234"


def test_more_runs_than_one_page_are_all_read(tracker, cells, monkeypatch):
    client = tracker._client
    search = client.search_runs

    def small_pages(*arguments, **keywords):
        return search(*arguments, **keywords | {"max_results": 2})

    monkeypatch.setattr(client, "search_runs", small_pages)
    for cell in cells:
        tracker.end(tracker.begin(cell, {}), OUTCOME, [])
    assert len(tracker.table()) == len(cells)


def test_a_store_that_is_no_database_is_one_clear_error(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is not SQLite" * 100)
    with pytest.raises(TrackingError, match="cannot be used"):
        Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "small")


def test_passwords_are_not_shown():
    shown = without_password("postgresql://me:secret@host:5432/mlflow")
    assert "secret" not in shown
    assert shown == "postgresql://me:***@host:5432/mlflow"
