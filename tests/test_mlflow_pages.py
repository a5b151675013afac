"""What MLflow's pages show of an experiment: shared views, curves, and how long work took."""

import base64
import json
import re
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import made
import pytest
from mlflow import MlflowClient

from harness.errors import TrackingError
from harness.report.render import home
from harness.store import Store
from harness.tracking import Tracker
from harness.tracking.recorder import Recorder
from harness.tracking.ui import page_of
from harness.tracking.views import SHARED, tag_of, views_of
from harness.work.cells import Asked

PAGES = "http://127.0.0.1:5000"


@pytest.fixture
def uri(store_folder):
    return f"sqlite:///{store_folder / 'mlflow.db'}"


@pytest.fixture
def record(uri, store_folder):
    """Records cells of one grid as a run does, with their KID."""

    def record(kids, views=None, name="small"):
        store = Store(store_folder)
        tracker = Tracker(uri, name, store_folder / "artifacts", "mine", store_folder)
        recorder = Recorder(tracker, store, name, print)
        views = views_of([*kids], ["kid"]) if views is None else views
        recorder.open(f"name: {name}", Asked.of(kids), {}, views)
        for cell, kid in kids.items():
            store.keep(made.result(cell, kid=kid))
            recorder.ended(cell, made.result(cell, kid=kid))
        recorder.close("FINISHED")
        return tracker

    return record


def grid(seeds=(0, 1), samplers=("ddim", "ddim(eta=0.5)"), steps=(5, 10)):
    """Cells, with a KID that tells them apart."""
    return {
        made.cell("cosine", sampler, n, seed): 1 / n + seed
        for seed in seeds
        for sampler in samplers
        for n in steps
    }


def run_of(uri, kind="grid"):
    client = MlflowClient(uri)
    found = client.search_runs(["1"], f"tags.`harness.kind` = '{kind}'")
    return found[0]


def shared(uri):
    """The views of the first experiment, by their keys, as a page reads them."""
    tags = MlflowClient(uri).get_experiment("1").tags
    states = {
        name.removeprefix(SHARED): json.loads(value)["state"].removeprefix("deflate;")
        for name, value in tags.items()
        if name.startswith(SHARED)
    }
    return {
        name: json.loads(zlib.decompress(base64.b64decode(state))) for name, state in states.items()
    }


# Views.


def test_the_columns_are_what_every_grid_has_and_what_this_one_varies():
    view = views_of([*grid()], ["precision", "kid"])["harness"][1]
    params = ["schedule", "sampler", "steps", "seed", "sampler_options"]
    numbers = ["precision", "kid", "seconds_per_image", "nfe"]
    assert view["selectedColumns"] == [
        *(f"params.`{name}`" for name in params), *(f"metrics.`{name}`" for name in numbers)
    ]  # fmt: skip
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`precision`", False)
    assert [one["type"] for one in view["compareRunCharts"][:3]] == ["SCATTER"] * 2 + ["PARALLEL"]


def test_the_exact_denoiser_is_left_out_where_there_are_networks():
    networks = [made.cell("cosine"), made.cell("linear")]
    exact = [
        replace(one, training=replace(one.training, model=made.part("exact"))) for one in networks
    ]
    for cells, is_left_out in ((networks, False), (exact, False), ([*networks, *exact], True)):
        view = views_of(cells, ["kid"])["harness"][1]
        assert ("'exact'" in view["searchFilter"]) == is_left_out
        assert "params.`model`" not in view["selectedColumns"]


def test_the_schedule_that_is_sampled_under_is_a_column_only_where_it_may_be_another():
    matched = [made.cell("cosine"), made.cell("linear")]
    mismatched = made.cell("linear", sample_schedule=made.part("cosine"))
    for cells, is_shown in ((matched, False), ([*matched, mismatched], True)):
        columns = views_of(cells, ["kid"])["harness"][1]["selectedColumns"]
        assert ("params.`sample_schedule`" in columns) == is_shown


def test_a_view_is_written_again_only_where_it_changed(record, uri):
    record(grid())
    tags = MlflowClient(uri).get_experiment("1").tags
    assert {"harness", "harness-curves"} == {*shared(uri)}
    record(grid(seeds=(0, 1, 2)))
    assert MlflowClient(uri).get_experiment("1").tags == tags
    record(grid(steps=(5, 10)) | {made.cell(target="v"): 0.3})
    assert "params.`target`" in shared(uri)["harness"]["selectedColumns"]


@pytest.mark.parametrize("damaged", ["{", "[]", '{"state": 1}', '{"state": "deflate;AAAA"}'])
def test_what_is_no_view_is_written_over(damaged):
    assert tag_of("harness", "Cells", {"a": 1}, damaged, 5)


def test_a_tracker_that_refuses_views_records_all_the_same(record, uri, monkeypatch):
    def refuse(*_):
        raise TrackingError("it may not be changed")

    monkeypatch.setattr("mlflow.MlflowClient.set_experiment_tag", refuse)
    assert len(record(grid()).table()) == 8
    assert shared(uri) == {}


def test_a_report_leads_to_the_view_only_where_there_is_one(record):
    """By a key that it does not know MLflow opens a page without runs."""
    for views, is_there in (({}, False), (None, True)):
        experiment = replace(record(grid(seeds=(0,)), views).read(), ui_url=PAGES)
        assert ("viewStateShareKey=harness" in home(experiment)) == is_there


# Curves.


def test_means_over_seeds_are_metrics_of_the_grid_by_evaluations(record, uri):
    tracker = record(grid())
    parent, client = run_of(uri), MlflowClient(uri)
    assert {*parent.data.metrics} == {"kid/cosine ddim", "kid/cosine ddim eta 0.5"}
    history = client.get_metric_history(parent.info.run_id, "kid/cosine ddim")
    assert sorted((one.step, round(one.value, 6)) for one in history) == [(5, 0.7), (10, 0.6)]
    assert not [name for name in tracker.table() if "/" in name]


def test_more_seeds_leave_one_point_of_each_curve(record, uri):
    record(grid())
    record(grid(seeds=(0, 1, 2)))
    history = MlflowClient(uri).get_metric_history(run_of(uri).info.run_id, "kid/cosine ddim")
    assert sorted((one.step, round(one.value, 6)) for one in history) == [(5, 1.2), (10, 1.1)]


def test_cells_are_points_of_curves_by_their_evaluations(record, uri):
    record({made.cell(steps=10): 0.1})
    history = MlflowClient(uri).get_metric_history(run_of(uri, "cell").info.run_id, "kid")
    assert [(one.step, one.value) for one in history] == [(10, 0.1)]


def test_a_grid_of_more_cells_than_mlflow_shows_is_drawn_by_its_means(record, uri, monkeypatch):
    monkeypatch.setattr("harness.tracking.views.MLFLOW_PAGE", 3)
    record(grid())
    [chart] = shared(uri)["harness-curves"]["compareRunCharts"]
    assert chart["selectedMetricKeys"] == ["kid/cosine ddim", "kid/cosine ddim eta 0.5"]


# How long work took.


@pytest.mark.parametrize("is_reused", [False, True])
def test_a_run_of_a_cell_takes_as_long_as_its_images_did(uri, store_folder, is_reused):
    tracker = Tracker(uri, "small", store_folder / "artifacts", "mine")
    recorder = Recorder(tracker, Store(store_folder), "small", print)
    cost = replace(made.COST, seconds_per_image=(2.0, 2.0, 2.0))
    result = made.result(made.cell(images=50), kid=0.1, cost=cost)
    recorder.open("name: small", Asked.of([result.cell]), {})
    before = time.time()
    recorder.ended(result.cell, result, is_reused=is_reused)
    info = run_of(uri, "cell").info
    assert info.end_time - info.start_time >= 1000 * result.seconds >= 100_000
    assert info.end_time >= 1000 * before - 1


# The address.


def test_the_page_is_that_of_the_grid_that_ran_last_or_was_asked_for(record, uri):
    assert page_of(uri, PAGES) == PAGES
    record(grid(), name="first")
    record(grid(), {}, name="second")
    mode = "runs?workflowType=machine_learning"
    assert page_of(uri, PAGES) == f"{PAGES}/#/experiments/2/{mode}"  # it shares no view
    assert page_of(uri, PAGES, "first") == (
        f"{PAGES}/#/experiments/1/{mode}&viewStateShareKey=harness"
    )
    with pytest.raises(TrackingError, match="Did you mean 'second'"):
        page_of(uri, PAGES, "secnd")


# What a plain client reads.


def test_the_example_of_the_documentation_reads_it_all(record, store_folder):
    record(grid(), name="digits")
    (store_folder.parent / "runs").mkdir()
    store_folder.rename(store_folder.parent / "runs" / "store")
    text = (Path(__file__).parent.parent / "docs/pages/mlflow.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    # In a process of its own: MLflow keeps what it once opened under a relative path.
    ran = [sys.executable, "-c", example]
    told = subprocess.check_output(ran, cwd=store_folder.parent, text=True)
    assert "kid/cosine ddim {5: 0.7, 10: 0.6}" in told
    assert "metrics.kid" in told
