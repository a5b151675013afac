"""A whole run, from a grid file to a report: once, again, and after a failure or a stop."""

import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from mlflow import MlflowClient
from rich.console import Console
from safetensors.torch import load_file

from harness.errors import BadOption
from harness.metrics.distances import METRICS
from harness.plan.grid import expand, load_grid
from harness.plan.work import Filter
from harness.report import page
from harness.results import read_results
from harness.run import Place, Wishes, plan_grid, report_grid, run_grid
from harness.runtime.execute import Failure, in_this_process
from harness.runtime.progress import Screen
from harness.runtime.store import Store
from harness.tracking import Tracker, column_of


def in_turn(function, jobs, on_progress, should_stop, workers=1):
    """Everything in this process: a worker would take seconds to load torch."""
    return in_this_process(function, jobs, on_progress, should_stop)


def place_in(folder):
    return Place(
        store=folder / "store",
        tracking_uri=f"sqlite:///{folder / 'store' / 'mlflow.db'}",
        report_dir=folder / "report",
        data_dir=folder / "data",
        device="cpu",
    )


def go(grid_file, place, overrides=(), execute=in_turn, **wishes):
    said = io.StringIO()
    with Screen(Console(file=said, width=200)) as screen:
        grid = load_grid(grid_file, overrides)
        summary = run_grid(grid, place, Wishes(**wishes), screen, execute)
    return summary, said.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, database, small_grid):
    """A finished run of the small grid: its folder, to be copied by tests that change it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(small_grid)
    (folder / "store").mkdir()
    shutil.copy(database, folder / "store" / "mlflow.db")
    summary, said = go(folder / "small.yaml", place_in(folder))
    assert summary.status == 0, said
    return folder


def tracker_of(folder, name="small"):
    return Tracker(place_in(folder).tracking_uri, name)


def test_every_cell_has_its_numbers_and_its_floor(finished):
    table = tracker_of(finished).table()
    assert len(table) == 8
    for column in ("kid", "kid_se", "kid_floor", "fid", "fid_floor", "nfe", "seconds_per_image"):
        assert np.isfinite(table[column]).all(), column
    assert (table["nfe"] == table["steps"]).all()
    assert (table["floor_images"] == 80).all()
    assert (table["kid"] > table["kid_floor"]).all()


def test_each_network_is_trained_once(finished):
    trainings = tracker_of(finished).trainings()
    assert len(trainings) == 2
    assert set(trainings["schedule"]) == {"linear", "cosine"}
    assert np.allclose(trainings["images_per_second"], 12 * 16 / trainings["seconds"])
    table = tracker_of(finished).table()
    assert set(table["training_key"]) == set(trainings["key"])


def test_runs_keep_their_files(finished):
    tracker = tracker_of(finished)
    for cell in tracker.table().itertuples():
        for name in ("samples.png", "film.png", "nearest.png"):
            assert tracker.artifact(cell.run_id, name).startswith(b"\x89PNG")
        assert tracker.artifact(cell.run_id, "path.csv").startswith(b"t,log_snr")
        influence = np.load(io.BytesIO(tracker.artifact(cell.run_id, "influence.npz")))
        shapes = {"kid": (80,), "fid": (80,), "fid_left_out": (40,)}
        if (cell.sampler, cell.steps) == ("ddim", 3):  # one of each training
            shapes["kid_checkpoint"] = (80,)
        assert {name: influence[name].shape for name in influence} == shapes
    for run_id in tracker.trainings()["run_id"]:
        assert tracker.artifact(run_id, "loss.csv").startswith(b"step,loss")
        assert tracker.artifact(run_id, "weights.safetensors")
        assert tracker.artifact(run_id, "schedule.csv").startswith(b"t,alpha,sigma,log_snr")


def test_the_report_is_with_the_parent_run(finished):
    client = MlflowClient(place_in(finished).tracking_uri)
    experiment = client.get_experiment_by_name("small").experiment_id
    [parent] = [
        run for run in client.search_runs([experiment]) if run.data.tags["harness.kind"] == "grid"
    ]
    kept = {file.path for file in client.list_artifacts(parent.info.run_id, "report")}
    assert {"report/report.html", "report/report.md", "report/results.csv"} <= kept
    assert "schedule" in parent.data.tags["mlflow.note.content"]
    assert parent.info.status == "FINISHED"


def test_a_second_run_does_nothing_and_says_so(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    summary, said = go(finished / "small.yaml", place_in(finished))
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert "Nothing to do" in said
    assert "up to date" in said
    assert summary.status == 0
    assert before == after


def test_with_nothing_to_do_torch_is_not_imported(finished):
    script = """
import sys
from harness.cli import main
try:
    main(["run", "small.yaml", "--store", "store", "--report-dir", "report"])
finally:
    assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=finished, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Nothing to do" in done.stdout


def test_the_report_is_the_same_bytes_when_it_is_built_again(finished, tmp_path):
    with Screen(Console(file=io.StringIO())) as screen:
        grid = load_grid(finished / "small.yaml")
        report_grid(grid, replace(place_in(finished), report_dir=tmp_path / "again"), screen)
    for path in sorted((finished / "report").rglob("*.*")):
        again = tmp_path / "again" / path.relative_to(finished / "report")
        assert again.read_bytes() == path.read_bytes(), path.name


def test_the_report_links_each_cell_to_its_run_where_that_is_asked(finished, tmp_path):
    told = replace(place_in(finished), report_dir=tmp_path, ui_url="http://127.0.0.1:5000/")
    with Screen(Console(file=io.StringIO())) as screen:
        report_grid(load_grid(finished / "small.yaml"), told, screen)
    html = (tmp_path / "report.html").read_text()
    for run_id in tracker_of(finished).table()["run_id"]:
        assert f"http://127.0.0.1:5000/#/experiments/1/runs/{run_id}" in html


def test_a_wrong_address_of_the_pages_is_refused_before_any_work(tmp_path, grid_file):
    place = replace(place_in(tmp_path), ui_url="ftp://pages")
    with pytest.raises(BadOption, match="--ui-url is 'ftp://pages'"):
        go(grid_file, place)
    assert not (place.store / "models").exists()


@pytest.fixture
def without_report(monkeypatch):
    """Pictures take seconds, and what these tests look at is not in them."""
    monkeypatch.setattr("harness.run.write_report", lambda *arguments: None)


@pytest.fixture
def copied(finished, tmp_path, without_report):
    """The finished run in a folder of its own, to be changed."""
    folder = tmp_path / "copied"
    shutil.copytree(finished, folder)
    return folder


def test_more_steps_reuse_the_trained_networks(copied):
    summary, said = go(copied / "small.yaml", place_in(copied), ["steps=[2,3,4]"])
    assert summary.status == 0, said
    assert "training 1/" not in said
    assert len(tracker_of(copied).table()) == 12


def test_another_grid_reuses_what_the_store_knows(copied):
    summary, said = go(copied / "small.yaml", place_in(copied), ["name=other", "samplers=[ddim]"])
    assert summary.status == 0, said
    table = tracker_of(copied, "other").table()
    assert len(table) == 4
    assert table["reused"].all()
    assert "cell 1/" not in said


def test_a_metric_added_later_is_computed_from_kept_features(copied):
    first = place_in(copied)
    go(copied / "small.yaml", first, ["name=late", "metrics=[kid]", "sampling_seeds=[9]"])
    assert "fid" not in tracker_of(copied, "late").table()
    pictures = {path: path.stat().st_mtime_ns for path in copied.glob("store/cells/*/samples.png")}
    go(copied / "small.yaml", first, ["name=late", "metrics=[kid,fid]", "sampling_seeds=[9]"])
    table = tracker_of(copied, "late").table()
    assert np.isfinite(table["fid"]).all()
    assert len(table) == 8
    assert pictures == {path: path.stat().st_mtime_ns for path in pictures}


def test_every_metric_can_be_added_later_with_its_error_and_its_floor(copied):
    metrics = [name for name in METRICS if name != "fid_infinity"]
    changed = [f"metrics=[{','.join(metrics)},fid_infinity]", "reference_variance=true"]
    summary, said = go(copied / "small.yaml", place_in(copied), changed)
    assert summary.status == 0, said
    table = tracker_of(copied).table()
    for name in metrics:
        for number in (name, f"{name}_se", f"{name}_floor"):
            assert np.isfinite(table[column_of(number)]).all(), number
    assert set(table["precision"]) == {"float32"}  # what the network computes in
    for name in ("kid", "fid"):
        assert (table[f"{name}_reference_se"] > 0).all()
    assert np.isfinite(table["fid_centre"]).all()
    # 64 features would need 1,024 images: what has no meaning here is said, and nothing fails.
    assert table["fid_infinity"].isna().all()
    assert table["undefined_fid_infinity"].str.contains("1,024 images, not 80").all()
    results = read_results("small", "", expand(load_grid(copied / "small.yaml")),
                           tracker_of(copied))  # fmt: skip
    page.write(results, copied / "report")
    report = (copied / "report" / "report.md").read_text()
    assert "No fid_infinity is given for some cells: FID at infinitely many images" in report
    assert "includes the luck of which images the reference holds" in report
    _, said = go(copied / "small.yaml", place_in(copied), changed)
    assert "Nothing to do" in said


def test_the_verdicts_of_the_report_are_tags_of_the_parent_run(finished):
    client = MlflowClient(place_in(finished).tracking_uri)
    experiment = client.get_experiment_by_name("small").experiment_id
    [parent] = [
        run for run in client.search_runs([experiment]) if run.data.tags["harness.kind"] == "grid"
    ]
    told = {k: v for k, v in parent.data.tags.items() if k.startswith("harness.verdict.")}
    assert "harness.verdict.01" in told
    verdicts = ("better", "worse", "inconclusive")
    assert all(any(verdict in text for verdict in verdicts) for text in told.values())


def test_only_some_cells_can_be_asked_for(tmp_path, grid_file, store_folder, without_report):
    summary, _ = go(grid_file, place_in(tmp_path), only=Filter("schedule=cosine,steps=3"))
    assert summary.cells == summary.done == 2
    table = tracker_of(tmp_path).table()
    assert set(table["schedule"]) == {"cosine"}
    assert set(table["steps"]) == {3}


def test_cells_are_done_again_when_that_is_asked(copied):
    before = tracker_of(copied).table().set_index("key")
    summary, said = go(copied / "small.yaml", place_in(copied), redo=Filter("sampler=ddim,steps=2"))
    assert summary.status == 0, said
    after = tracker_of(copied).table().set_index("key")
    redone = before.index[(before["sampler"] == "ddim") & (before["steps"] == 2)]
    assert len(after) == 8
    assert (before["run_id"] != after["run_id"])[redone].all()
    assert (before["run_id"] == after["run_id"]).drop(redone).all()
    assert (before["kid"] == after["kid"]).all()
    assert "training 1/" not in said


def test_a_training_is_done_again_where_all_its_cells_are(copied):
    _, said = go(copied / "small.yaml", place_in(copied), redo=Filter("schedule=cosine"))
    assert "training 1/1" in said
    assert "cell 4/4" in said
    assert len(tracker_of(copied).trainings()) == 2


def test_seconds_are_measured_again_without_new_images(copied):
    before = tracker_of(copied).table().set_index("key")
    _, said = go(copied / "small.yaml", place_in(copied), retime=True, only=Filter("steps=2"))
    after = tracker_of(copied).table().set_index("key")
    assert "cell 4/4" in said
    again = before["steps"] == 2
    assert (before["seconds_per_image"] != after["seconds_per_image"])[again].all()
    assert (before["seconds_per_image"] == after["seconds_per_image"])[~again].all()
    assert (before["run_id"] == after["run_id"]).all()
    assert (before["kid"] == after["kid"]).all()


def failing_for(which):
    """An executor under which the chosen pieces of work fail."""

    def execute(function, jobs, on_progress, should_stop, workers=1):
        for job, outcome in in_turn(function, jobs, on_progress, should_stop):
            yield job, Failure("it broke") if which(job.work) else outcome

    return execute


def test_a_failing_cell_is_named_and_the_others_finish(
    tmp_path, grid_file, store_folder, without_report
):
    broken = expand(load_grid(grid_file))[3]
    summary, _ = go(grid_file, place_in(tmp_path), execute=failing_for(lambda work: work == broken))
    assert summary.status == 1
    assert summary.done == 7
    assert [work.key for work, _ in summary.failed] == [broken.key]
    assert broken.key in summary.text()
    assert "it broke" in summary.text()
    [told] = tracker_of(tmp_path).failures().to_dict("records")
    assert told["key"] == broken.key

    shutil.rmtree(tmp_path / "store" / "cells" / broken.key)  # a real failure leaves no outcome
    summary, _ = go(grid_file, place_in(tmp_path))
    assert summary.status == 0
    assert tracker_of(tmp_path).failures().empty


def test_a_failure_outside_the_grid_is_not_in_its_report(tmp_path, grid_file, store_folder):
    place = place_in(tmp_path)
    go(grid_file, place, only=Filter("steps=2"))
    go(grid_file, place, ["steps=[5]"], execute=failing_for(lambda work: getattr(work, "steps", 0)))
    assert len(tracker_of(tmp_path).failures()) == 4
    summary, _ = go(grid_file, place, only=Filter("steps=2"))
    assert summary.status == 0
    assert "it broke" not in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")


def test_features_of_other_weights_are_never_compared(copied):
    place = place_in(copied)
    changed = ["name=late", "metrics=[kid]", "sampling_seeds=[9]", "samplers=[ddim]"]
    go(copied / "small.yaml", place, changed)
    for path in (copied / "store").glob("cells/*/outcome.json"):
        told = json.loads(path.read_text())
        path.write_text(json.dumps(told | {"extractor_fingerprint": "other weights"}))
    changed[1] = "metrics=[kid,fid]"
    summary, _ = go(copied / "small.yaml", place, changed)
    assert summary.status == 1
    assert all("--redo" in failure.reason for _, failure in summary.failed)


def test_a_failing_training_fails_its_cells_and_no_others(
    tmp_path, grid_file, store_folder, without_report
):
    broken = expand(load_grid(grid_file))[0].training

    def fails(function, jobs, on_progress, should_stop, workers=1):
        done = [job for job in jobs if job.work != broken]
        yield from in_turn(function, done, on_progress, should_stop)
        yield from ((job, Failure("no memory")) for job in jobs if job.work == broken)

    summary, _ = go(grid_file, place_in(tmp_path), execute=fails)
    assert summary.status == 1
    assert summary.done == 4
    reasons = [failure.reason for work, failure in summary.failed if work != broken]
    assert reasons == ["its training failed: no memory"] * 4


def test_the_first_failure_can_stop_the_run(tmp_path, grid_file, store_folder, without_report):
    summary, _ = go(
        grid_file,
        place_in(tmp_path),
        execute=failing_for(lambda work: True),
        fail_fast=True,
    )
    assert summary.status == 1
    assert len(summary.failed) == 1


def test_a_run_out_of_time_says_so_and_goes_on_later(
    tmp_path, grid_file, store_folder, finished, without_report
):
    place = place_in(tmp_path)
    summary, said = go(grid_file, place, time_limit=0.02)
    assert summary.status == 75
    assert "time limit" in said
    summary, _ = go(grid_file, place)
    assert summary.status == 0
    for training in {cell.training for cell in expand(load_grid(grid_file))}:
        mine, theirs = (
            load_file(Store(folder / "store").model(training.key, "weights.safetensors"))
            for folder in (tmp_path, finished)
        )
        assert all((mine[name] == theirs[name]).all() for name in theirs)


def test_a_plan_tells_what_is_done_and_writes_nothing(copied):
    before = sorted(copied.rglob("*"))
    grid = load_grid(copied / "small.yaml", ["steps=[2,3,4]"])
    plan = plan_grid(grid, place_in(copied), Wishes())
    assert plan.text().startswith(
        "small: 2 trainings, 12 cells; 0 to train, 4 to sample and score."
    )
    states = [row["state"] for row in plan.as_json()["cells"]]
    assert states.count("to do") == 4
    assert states.count("finished") == 8
    assert plan.evaluations == (4 + 2) * 80 * 4  # two of them at their checkpoint, too
    assert sorted(copied.rglob("*")) == before


def test_changed_images_under_an_old_name_are_refused(
    tmp_path, store_folder, small_grid, without_report
):
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    draw = np.random.default_rng(0)

    def add(count):
        for number in range(count):
            pixels = draw.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:03}.png")

    add(100)
    grid_file = tmp_path / "own.yaml"
    own = f"data: {{name: folder, path: {folder}, image_size: 8, grey: true}}"
    grid_file.write_text(small_grid.replace("data: digits", own))
    assert go(grid_file, place_in(tmp_path))[0].status == 0
    add(100)
    from harness.engine import score

    score.image_set.cache_clear()
    score.load_network.cache_clear()
    summary, _ = go(grid_file, place_in(tmp_path), ["steps=[5]"])
    assert summary.status == 1
    assert "are not those that training" in summary.failed[0][1].reason


@pytest.mark.faults
@pytest.mark.parametrize("number", ["INT", "TERM", "KILL"])
def test_a_killed_run_ends_in_the_same_weights(tmp_path, grid_file, number):
    """The real command, its processes killed in the middle of training."""
    import os
    import signal
    import time

    command = [
        sys.executable, "-m", "harness.cli", "run", str(grid_file), "training.steps=400",
        "samplers=[ddim]", "steps=[2]", "--report-dir", "report",
    ]  # fmt: skip

    def start(store):
        return subprocess.Popen(
            [*command, "--store", store], cwd=tmp_path, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    assert start("straight").wait(300) == 0
    running = start("killed")
    while not list((tmp_path / "killed").glob("models/*/sheets/*40.png")):
        assert running.poll() is None
        time.sleep(0.05)
    os.killpg(running.pid, getattr(signal, f"SIG{number}"))
    assert running.wait(60) == {"INT": 130, "TERM": 130, "KILL": -9}[number]
    assert not list((tmp_path / "killed").glob("models/*/weights.safetensors"))
    assert start("killed").wait(300) == 0

    def pairs(pattern):
        for path in (tmp_path / "straight").glob(pattern):
            yield path, tmp_path / "killed" / path.relative_to(tmp_path / "straight")

    for paths in pairs("models/*/weights.safetensors"):
        straight, killed = map(load_file, paths)
        assert all((straight[name] == killed[name]).all() for name in straight)
    for paths in pairs("cells/*/outcome.json"):
        straight, killed = (json.loads(path.read_text())["metrics"] for path in paths)
        assert straight["kid"] == killed["kid"]
