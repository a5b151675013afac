"""A whole run, from a grid file to a report: once, again, and after a failure or a stop."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import made
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from rich.console import Console
from running import in_turn, paths_in
from safetensors.torch import load_file

from harness.cli import main
from harness.errors import BadOption, StoreError
from harness.execute.progress import Progress
from harness.execute.screen import Screen
from harness.interim import InterimReport
from harness.metrics.distances import METRICS
from harness.plan.grid import expand, load_grid
from harness.plan.preflight import identified
from harness.report import page
from harness.reporting import report_grid
from harness.run import plan_grid, run_grid
from harness.store import Store
from harness.tracking import Tracker
from harness.tracking.views import SHARED
from harness.work.cells import Asked, Training
from harness.work.filters import Filter
from harness.work.options import Options, Paths
from harness.work.projection import column_of
from harness.work.results import Experiment, Failure


def go(grid_file, paths, overrides=(), execute=in_turn, **options):
    said = io.StringIO()
    with Screen(Console(file=said, width=200)) as screen:
        grid = load_grid(grid_file, overrides)
        summary = run_grid(grid, paths, Options(**options), screen, execute)
    return summary, said.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, database, small_grid):
    """A finished run of the small grid: its folder, to be copied by tests that change it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(small_grid)
    (folder / "store").mkdir()
    shutil.copy(database, folder / "store" / "mlflow.db")
    summary, said = go(folder / "small.yaml", paths_in(folder))
    assert summary.status == 0, said
    return folder


def cells_of(grid_file, overrides=(), at=None):
    """The cells of a grid with the keys that a run gives them."""
    return identified(
        expand(load_grid(grid_file, overrides)), at or paths_in(grid_file.parent).workplace
    )


def tracker_of(folder, name="small"):
    return Tracker(paths_in(folder).tracking_uri, name)


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
        assert {name: influence[name].shape for name in influence} == shapes
        assert tracker.artifact(cell.run_id, "result.json")
    for run_id in tracker.trainings()["run_id"]:
        assert tracker.artifact(run_id, "weights.safetensors")
        assert tracker.artifact(run_id, "schedule.csv").startswith(b"t,alpha,sigma,log_snr")


def test_the_report_is_with_the_parent_run(finished):
    client = MlflowClient(paths_in(finished).tracking_uri)
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
    summary, said = go(finished / "small.yaml", paths_in(finished))
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert "Nothing to do" in said
    assert "up to date" in said
    assert summary.status == 0
    assert before == after


def test_what_was_recorded_without_views_gets_them_though_nothing_is_to_do(finished, tmp_path):
    copied = shutil.copytree(finished, tmp_path / "copied")
    client = MlflowClient(paths_in(copied).tracking_uri)

    def views():
        tags = client.get_experiment_by_name("small").tags
        return {name for name in tags if name.startswith(SHARED)}

    before, experiment = views(), client.get_experiment_by_name("small").experiment_id
    for name in before:
        client.delete_experiment_tag(experiment, name)
    assert "Nothing to do" in go(copied / "small.yaml", paths_in(copied))[1]
    assert views() == before != set()


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
        report_grid("small", replace(paths_in(finished), report_dir=tmp_path / "again"), screen)
    for path in sorted((finished / "report").rglob("*.*")):
        again = tmp_path / "again" / path.relative_to(finished / "report")
        assert again.read_bytes() == path.read_bytes(), path.name


@pytest.mark.slow
def test_metrics_of_a_cell_beside_the_sampling_of_the_next_are_the_same(finished, copied):
    again = Filter("steps=2")
    summary, said = go(copied / "small.yaml", paths_in(copied), redo=again, overlap=True)
    assert summary.status == 0, said
    before, after = (tracker_of(folder) for folder in (finished, copied))
    for key, result in after.cell_results().items():
        assert result.measurements == before.cell_results()[key].measurements
    was, is_now = (one.table().set_index("key")["run_id"] for one in (before, after))
    assert (was != is_now).sum() == (before.table()["steps"] == 2).sum()


@pytest.mark.slow
def test_a_grid_that_is_changed_is_reported_beside(finished, tmp_path, monkeypatch):
    copied = shutil.copytree(finished, tmp_path / "copied")
    monkeypatch.chdir(copied)
    for arguments in (
        ["run", "small.yaml"], ["run", "small.yaml", "steps=[2]"], ["report", "small"],
        ["report", "small.yaml"],
    ):  # fmt: skip
        told = CliRunner().invoke(main, [*arguments, "--store", "store"])
        assert told.exit_code == 0, told.output
    assert {folder.name for folder in Path("reports").iterdir()} == {"small", "small--steps=2"}
    for name, command, cells in (
        ("small", "small.yaml", 8), ("small--steps=2", "small.yaml 'steps=[2]'", 4),
    ):  # fmt: skip
        page = (Path("reports") / name / "report.md").read_text()
        assert f"harness run {command} --store store  " in page
        assert len(pd.read_csv(Path("reports") / name / "results.csv")) == cells


def test_the_report_links_each_cell_to_its_run_where_that_is_asked(finished, tmp_path):
    told = replace(paths_in(finished), report_dir=tmp_path, ui_url="http://127.0.0.1:5000/")
    with Screen(Console(file=io.StringIO())) as screen:
        report_grid("small", told, screen)
    html = (tmp_path / "report.html").read_text()
    for run_id in tracker_of(finished).table()["run_id"]:
        assert f"http://127.0.0.1:5000/#/experiments/1/runs/{run_id}" in html


def test_seeds_of_a_first_run_were_added_to_nothing(finished):
    assert "by hand" not in (finished / "report" / "report.md").read_text()


def test_a_wrong_address_of_the_pages_is_refused_before_any_work(tmp_path, grid_file):
    paths = replace(paths_in(tmp_path), ui_url="ftp://pages")
    with pytest.raises(BadOption, match="--ui-url is 'ftp://pages'"):
        go(grid_file, paths)
    assert not (paths.store / "models").exists()


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
    summary, said = go(copied / "small.yaml", paths_in(copied), ["steps=[2,3,4]"])
    assert summary.status == 0, said
    assert "training 1/" not in said
    assert len(tracker_of(copied).table()) == 12


def test_another_grid_reuses_what_the_store_knows(copied):
    summary, said = go(copied / "small.yaml", paths_in(copied), ["name=other", "samplers=[ddim]"])
    assert summary.status == 0, said
    table = tracker_of(copied, "other").table()
    assert len(table) == 4
    assert table["reused"].all()
    assert "cell 1/" not in said


def test_a_metric_added_later_is_computed_from_kept_features(copied):
    first = paths_in(copied)
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
    summary, said = go(copied / "small.yaml", paths_in(copied), changed)
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
    page.write(tracker_of(copied).read(), copied / "report")
    report = (copied / "report" / "report.md").read_text()
    assert "FID at infinitely many images" in report
    _, said = go(copied / "small.yaml", paths_in(copied), changed)
    assert "Nothing to do" in said


def test_the_verdicts_of_the_report_are_tags_of_the_parent_run(finished, tmp_path, monkeypatch):
    """Networks of twelve steps have learned nothing to have verdicts on, so these are made up."""
    made_up = ["schedule: cosine against linear: better", "sampler: inconclusive"]
    monkeypatch.setattr(page, "verdicts", lambda experiment: made_up)
    monkeypatch.setattr("harness.report.contents._pictures", lambda study: ([], []))
    folder = shutil.copytree(finished, tmp_path / "copied")
    shutil.rmtree(folder / "report")
    go(folder / "small.yaml", paths_in(folder))
    client = MlflowClient(paths_in(folder).tracking_uri)
    experiment = client.get_experiment_by_name("small").experiment_id
    [parent] = [
        run for run in client.search_runs([experiment]) if run.data.tags["harness.kind"] == "grid"
    ]
    told = {k: v for k, v in parent.data.tags.items() if k.startswith("harness.verdict.")}
    assert [told[name] for name in sorted(told)] == made_up


def test_a_run_whose_networks_learned_nothing_says_that_alone(finished):
    answers = (finished / "report" / "answers.txt").read_text()
    assert "nothing learned" in answers
    assert "training.steps=" in answers
    assert page.verdicts(tracker_of(finished).read()) == []


def test_only_some_cells_can_be_asked_for(tmp_path, grid_file, store_folder, without_report):
    summary, _ = go(grid_file, paths_in(tmp_path), only=Filter("schedule=cosine,steps=3"))
    assert summary.cells == summary.done == 2
    table = tracker_of(tmp_path).table()
    assert set(table["schedule"]) == {"cosine"}
    assert set(table["steps"]) == {3}


def test_cells_are_done_again_when_that_is_asked(copied):
    before = tracker_of(copied).table().set_index("key")
    summary, said = go(copied / "small.yaml", paths_in(copied), redo=Filter("sampler=ddim,steps=2"))
    assert summary.status == 0, said
    after = tracker_of(copied).table().set_index("key")
    redone = before.index[(before["sampler"] == "ddim") & (before["steps"] == 2)]
    assert len(after) == 8
    assert (before["run_id"] != after["run_id"])[redone].all()
    assert (before["run_id"] == after["run_id"]).drop(redone).all()
    assert (before["kid"] == after["kid"]).all()
    assert "training 1/" not in said


def test_a_training_is_done_again_where_all_its_cells_are(copied):
    _, said = go(copied / "small.yaml", paths_in(copied), redo=Filter("schedule=cosine"))
    assert "training 1/1" in said
    assert "\ncell 4/4" in said
    assert "checkpoint cell 1/1" in said
    assert len(tracker_of(copied).trainings()) == 2


def test_seconds_are_measured_again_without_new_images(copied):
    before = tracker_of(copied).table().set_index("key")
    _, said = go(copied / "small.yaml", paths_in(copied), retime=True, only=Filter("steps=2"))
    after = tracker_of(copied).table().set_index("key")
    assert "cell 4/4" in said
    again = before["steps"] == 2
    assert (before["seconds_per_image"] != after["seconds_per_image"])[again].all()
    assert (before["seconds_per_image"] == after["seconds_per_image"])[~again].all()
    assert (before["run_id"] == after["run_id"]).all()
    assert (before["kid"] == after["kid"]).all()


def failing_for(which):
    """An executor under which the chosen pieces of work fail."""

    def execute(function, jobs, at, on_progress, should_stop, **how):
        for job, outcome in in_turn(function, jobs, at, on_progress, should_stop):
            yield job, Failure("it broke") if which(job.work) else outcome

    return execute


def test_a_failing_cell_is_named_and_the_others_finish(
    tmp_path, grid_file, store_folder, without_report
):
    broken = cells_of(grid_file)[3]
    summary, _ = go(grid_file, paths_in(tmp_path), execute=failing_for(lambda work: work == broken))
    assert summary.status == 1
    assert summary.done == 7
    assert [work.key for work, _ in summary.failed] == [broken.key]
    assert broken.key in summary.text()
    assert "it broke" in summary.text()
    [failed] = tracker_of(tmp_path).failures()
    assert failed.key == broken.key

    shutil.rmtree(tmp_path / "store" / "cells" / broken.key)  # a real failure leaves no result
    summary, _ = go(grid_file, paths_in(tmp_path))
    assert summary.status == 0
    assert tracker_of(tmp_path).failures() == ()


def test_a_failure_outside_the_grid_is_not_in_its_report(tmp_path, grid_file, store_folder):
    paths = paths_in(tmp_path)
    go(grid_file, paths, only=Filter("steps=2"))
    go(grid_file, paths, ["steps=[5]"], execute=failing_for(lambda work: getattr(work, "steps", 0)))
    assert len(tracker_of(tmp_path).failures()) == 6
    summary, _ = go(grid_file, paths, only=Filter("steps=2"))
    assert summary.status == 0
    assert "it broke" not in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")


def test_a_failing_training_fails_its_cells_and_no_others(
    tmp_path, grid_file, store_folder, without_report
):
    broken = cells_of(grid_file)[0].training

    def fails(function, jobs, at, on_progress, should_stop, **how):
        done = [job for job in jobs if job.work != broken]
        yield from in_turn(function, done, at, on_progress, should_stop)
        yield from ((job, Failure("no memory")) for job in jobs if job.work == broken)

    summary, _ = go(grid_file, paths_in(tmp_path), execute=fails)
    assert summary.status == 1
    assert summary.done == 4
    reasons = [failure.reason for work, failure in summary.failed if work != broken]
    assert reasons == ["its training failed: no memory"] * 5  # one at its checkpoint


def test_work_that_was_tried_again_is_counted_and_recorded(
    tmp_path, grid_file, store_folder, without_report
):
    def loses_a_worker(function, jobs, at, on_progress, should_stop, **how):
        on_progress(jobs[-1], Progress(0, 1, lost="its process was killed by SIGKILL"))
        yield from in_turn(function, jobs, at, on_progress, should_stop)

    chosen = Filter("schedule=linear,steps=2,sampler=ddim")
    summary, said = go(grid_file, paths_in(tmp_path), execute=loses_a_worker, only=chosen)
    assert summary.status == 0
    assert summary.retries == said.count("SIGKILL; it is tried again") > 1
    assert summary.as_json()["retries"] == summary.retries
    assert f"tried again {summary.retries} times" in summary.text()
    client = MlflowClient(paths_in(tmp_path).tracking_uri)
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    retries = [
        run.data.tags["harness.retries"] for run in runs if "harness.retries" in run.data.tags
    ]
    assert retries == ["1"] * summary.retries


DECAYS = ["training.ema=[0.9,0.5]", "schedules=[cosine]", "samplers=[ddim]", "steps=[2]"]


def test_decays_of_an_average_are_one_job_and_results_of_their_own(
    tmp_path, grid_file, store_folder, without_report
):
    jobs = []

    def counting(function, some, *args, **how):
        jobs.extend(some)
        yield from in_turn(function, some, *args, **how)

    summary, said = go(grid_file, paths_in(tmp_path), [*DECAYS, "seeds=[0,1]"], counting)
    assert summary.status == 0, said
    assert [len(job.works) for job in jobs if len(job.works) > 1] == [2, 2]
    lines = [(what, title) for what, title in lines_of(said) if what.startswith("training")]
    assert [what for what, _ in lines] == [f"training {n}/4" for n in (1, 2, 3, 4)]
    assert {title for _, title in lines} == {
        f"cosine, seed {seed}, ema {ema}" for seed in (0, 1) for ema in (0.5, 0.9)
    }
    experiment = tracker_of(tmp_path).read()
    assert sorted(one.training.ema for one in experiment.trainings) == [0.5, 0.5, 0.9, 0.9]
    assert len({one.seconds for one in experiment.trainings}) == 2
    assert tracker_of(tmp_path).table()["kid"].nunique() == 4
    assert tracker_of(tmp_path).trainings()["forecast_seconds"].count() == 2
    assert "Nothing to do" in go(grid_file, paths_in(tmp_path), [*DECAYS, "seeds=[0,1]"])[1]


def test_a_damaged_result_of_one_decay_is_the_loss_of_that_one_alone(
    tmp_path, grid_file, store_folder, without_report
):
    def damages_the_second(function, some, *args, **how):
        for job, outcome in in_turn(function, some, *args, **how):
            for work in job.works[1:2]:
                paths_in(tmp_path).store.joinpath("models", work.key, "result.json").write_text("")
            yield job, outcome

    decays = ["training.ema=[0.9,0.7,0.5]", *DECAYS[1:]]
    summary, _ = go(grid_file, paths_in(tmp_path), decays, damages_the_second)
    failed = [work for work, _ in summary.failed if isinstance(work, Training)]
    assert [one.ema for one in failed] == [0.7]


def test_a_training_that_fails_fails_for_each_decay(
    tmp_path, grid_file, store_folder, without_report
):
    def fails(function, jobs, at, on_progress, should_stop, **how):
        yield from ((job, Failure("no memory")) for job in jobs)

    summary, _ = go(grid_file, paths_in(tmp_path), DECAYS, execute=fails)
    failed = [work.key for work, _ in summary.failed]
    assert (
        len(failed) == len({*failed}) == 2 + 2 * 2
    )  # two trainings, a cell and its checkpoint each


# 4 trainings, a cell and a checkpoint cell each.
SEEDS = ["seeds=[0, 1]", "samplers=[ddim]", "steps=[2]"]


def lines_of(said):
    """What was trained and scored, in order: ("training 1/4", "linear, seed 0")."""
    return re.findall(
        r"^((?:training|(?:checkpoint )?cell) \d+/\d+)  (.*?)(?:  |$)", said, re.MULTILINE
    )


def test_cells_are_scored_as_soon_as_their_networks_are_there(
    tmp_path, grid_file, store_folder, without_report, monkeypatch
):
    monkeypatch.setattr("harness.execute.machine.cores", lambda: 2)
    summary, said = go(grid_file, paths_in(tmp_path), SEEDS)
    assert summary.status == 0, said
    lines = lines_of(said)
    stages = [what for what, _ in lines]
    assert stages[:2] == ["training 1/4", "training 2/4"]
    scored = [f"{what} {n}/4" for n in (1, 2, 3, 4) for what in ("cell", "checkpoint cell")]
    assert sorted(stages[2:6]) == sorted(scored[:4])
    assert stages[6:8] == ["training 3/4", "training 4/4"]
    assert sorted(stages[8:]) == sorted(scored[4:])
    assert all("seed 0" in title for _, title in lines[:6])
    assert all("seed 1" in title for _, title in lines[6:])


def test_a_training_that_fails_late_takes_its_cells_alone_along(
    tmp_path, grid_file, store_folder, without_report, monkeypatch
):
    monkeypatch.setattr("harness.execute.machine.cores", lambda: 2)
    broken = cells_of(grid_file, SEEDS)[-2].training
    fails = failing_for(lambda work: work == broken)
    summary, said = go(grid_file, paths_in(tmp_path), SEEDS, fails)
    assert (summary.status, summary.done) == (1, 3)
    assert [what for what, _ in lines_of(said)][-2:] == ["cell 3/3", "checkpoint cell 3/3"]
    assert "cell 1/4" in said  # it was not known yet
    shutil.rmtree(tmp_path / "store" / "models" / broken.key)  # a real failure leaves no result
    _, said = go(grid_file, paths_in(tmp_path), SEEDS)
    assert [what for what, _ in lines_of(said)] == [
        "training 1/1",
        "cell 1/1",
        "checkpoint cell 1/1",
    ]


# The report while the run goes on.


@pytest.fixture
def always(monkeypatch):
    """A report between all rounds, however long it takes."""
    monkeypatch.setattr("harness.interim.SHARE", float("inf"))


def counting(seen, folder):
    """An executor that notes, whenever it is called, what the report says is missing."""

    def execute(function, jobs, at, on_progress, should_stop, **how):
        written = folder / "report" / "report.md"
        text = written.read_text(encoding="utf-8") if written.exists() else ""
        seen.extend(re.findall(r"\d+ cells? of \d+", text) or [bool(text)])
        yield from in_turn(function, jobs, at, on_progress, should_stop)

    return execute


def test_the_report_is_there_while_the_run_goes_on(
    tmp_path, grid_file, store_folder, monkeypatch, always
):
    monkeypatch.setattr("harness.execute.machine.cores", lambda: 2)
    seen, paths = [], paths_in(tmp_path)
    published = []
    monkeypatch.setattr(Tracker, "publish", lambda *given: published.append(given))
    summary, said = go(grid_file, paths, SEEDS, counting(seen, tmp_path))
    assert summary.status == 0
    # Training, cells of linear and of cosine; and again with another seed.
    assert seen == [False, False, "3 cells of 4", "2 cells of 4", "2 cells of 4", "1 cell of 4"]
    assert said.count("Report so far") == 1
    assert f"Report so far (1 of 4 cells): {tmp_path / 'report' / 'report.html'}" in said
    assert len(published) == 1
    last = {path: path.read_bytes() for path in (tmp_path / "report").glob("*.*")}
    with Screen(Console(file=io.StringIO())) as screen:
        report_grid("small", replace(paths, report_dir=tmp_path / "again"), screen)
    for path, content in last.items():
        assert (tmp_path / "again" / path.name).read_bytes() == content, path.name


def test_a_run_that_is_stopped_leaves_the_report_of_what_it_did(
    tmp_path, grid_file, store_folder, always
):
    def stops(function, jobs, at, on_progress, should_stop, **how):
        is_first = not (tmp_path / "report").exists()
        yield from in_turn(
            function, jobs, at, on_progress, should_stop if is_first else lambda: True
        )

    summary, _ = go(grid_file, paths_in(tmp_path), SEEDS, stops)
    assert summary.status == 1
    assert "3 cells of 4" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert not summary.lacking  # its status asks for the report anyway
    client = MlflowClient(paths_in(tmp_path).tracking_uri)
    [experiment] = client.search_experiments(filter_string="name = 'small'")
    assert "RUNNING" not in {
        run.info.status for run in client.search_runs([experiment.experiment_id])
    }


def test_a_run_out_of_time_reports_what_stands_within_its_limit(
    tmp_path, grid_file, store_folder, monkeypatch
):
    ahead, clock = [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + ahead[0])
    monkeypatch.setattr("harness.run.report_seconds", lambda plan: 3000.0)

    def slow(function, jobs, at, on_progress, should_stop, **how):
        for job, outcome in in_turn(function, jobs, at, on_progress, should_stop):
            yield job, outcome
            # Too late for another cell by what is kept for the report alone.
            ahead[0] += 32_000 * hasattr(outcome, "cell")

    summary, said = go(grid_file, paths_in(tmp_path), SEEDS, slow, time_limit=36_000)
    assert (summary.status, summary.done) == (75, 1)
    assert summary.report == tmp_path / "report" / "report.html"
    assert "3 cells of 4" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "for the report" in said
    assert not summary.lacking


def test_a_run_out_of_time_says_how_its_report_is_brought_up_to_date(tmp_path):
    command = "harness run small.yaml --store s"
    interim = InterimReport(None, None, paths_in(tmp_path), None, True)
    told = "`harness report small.yaml --store s`"
    assert told in interim.lacking(4, command)
    interim._written = 3
    assert "is of 3 cells" in interim.lacking(4, command)
    assert told in interim.lacking(4, command)
    assert interim.lacking(3, command) == ""
    assert replace(interim, is_wanted=False).lacking(4, command) == ""


@pytest.mark.parametrize(("options", "wrote"), [({}, 3), ({"report": False}, 0)])
def test_a_report_that_cannot_be_written_stops_no_run(
    tmp_path, grid_file, store_folder, without_report, monkeypatch, always, options, wrote
):
    calls = []

    def fails(*given):
        calls.append(given)
        raise OSError("the disk is full")

    monkeypatch.setattr("harness.execute.machine.cores", lambda: 2)
    monkeypatch.setattr("harness.report.page.write", fails)
    summary, said = go(grid_file, paths_in(tmp_path), SEEDS, **options)
    assert (summary.status, summary.done) == (0, 4)
    assert len(calls) == wrote
    assert said.count("There is no report so far: the disk is full") == bool(wrote)


def test_reports_while_a_run_goes_on_take_a_twentieth_of_its_time_at_most(tmp_path, monkeypatch):
    clock, written = [0.0], []

    def writes(*given):
        written.append(clock[0])
        clock[0] += 3.0

    monkeypatch.setattr("harness.interim.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("harness.report.page.write", writes)
    with Screen(Console(file=io.StringIO())) as screen:
        tracker = SimpleNamespace(
            finished=lambda: {made.CELL.key: "run"},
            read=lambda asked: Experiment("small", (made.result(),)),
            owed={},
        )
        asked = Asked.of([made.CELL])
        interim = InterimReport(tracker, asked, paths_in(tmp_path), screen, True, _since=0.0)
        for now in range(0, 200, 10):
            clock[0] = max(clock[0], now)
            interim.refresh()
    assert written == [100, 170]


def test_a_failed_training_is_in_the_report_though_none_of_its_cells_is(
    tmp_path, grid_file, store_folder
):
    broken = cells_of(grid_file)[0].training
    go(grid_file, paths_in(tmp_path), execute=failing_for(lambda work: work == broken))
    [failed] = tracker_of(tmp_path).read().failures
    assert failed.key == broken.key
    assert "it broke" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")


def test_a_grid_that_asks_for_less_than_before_is_reported_so(copied):
    grid_file, paths = copied / "small.yaml", paths_in(copied)
    summary, said = go(grid_file, paths, ["steps=[3]"])
    assert "Nothing to do" in said
    assert summary.cells == 4
    assert len(tracker_of(copied).read().cells) == 4 + 2  # and those at a checkpoint


def test_a_report_of_a_grid_counts_what_of_it_is_missing(copied, monkeypatch):
    told = []
    monkeypatch.setattr(
        "harness.reporting.write_report", lambda tracker, asked, *_: told.append(asked)
    )
    cells = expand(load_grid(copied / "small.yaml", ["steps=[3,7]"]))
    with Screen(Console(file=io.StringIO())) as screen:
        report_grid("small", paths_in(copied), screen, cells)
    experiment = tracker_of(copied).read(told[0])
    assert {one.cell.steps for one in experiment.cells} == {3}
    assert experiment.expected_cells == 8


def test_of_a_training_made_again_the_new_run_counts_whatever_the_clock_says(copied):
    for weights in (copied / "store").rglob("weights.safetensors"):
        weights.unlink()
    summary, said = go(copied / "small.yaml", paths_in(copied), redo=Filter("steps=2"))
    assert summary.status == 0, said
    client = MlflowClient(paths_in(copied).tracking_uri)
    [experiment] = [one for one in client.search_experiments() if one.name == "small"]
    complete = [
        run.data.tags["harness.key"]
        for run in client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'")
        if run.data.tags["harness.kind"] == "training" and "harness.superseded" not in run.data.tags
    ]
    assert len(complete) == len({*complete}) == 2


def test_what_is_damaged_in_store_and_record_is_set_aside_and_made_again(copied):
    for path in (copied / "store" / "cells").glob("*/result.json"):
        path.write_text("{")
    for path in (copied / "store" / "artifacts").rglob("result.json"):
        path.unlink()
    summary, _ = go(copied / "small.yaml", paths_in(copied), only=Filter("steps=2"))
    assert (summary.status, summary.done) == (0, 4)
    assert len(list((copied / "store" / "cells").glob("*.damaged"))) == 4


def test_an_error_in_the_middle_leaves_no_run_under_way(tmp_path, grid_file, store_folder):
    def breaks(function, jobs, at, on_progress, should_stop, **how):
        yield from ()
        raise StoreError("the disk is full")

    with pytest.raises(StoreError):
        go(grid_file, paths_in(tmp_path), execute=breaks)
    client = MlflowClient(paths_in(tmp_path).tracking_uri)
    [experiment] = client.search_experiments(filter_string="name = 'small'")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"


def test_the_first_failure_can_stop_the_run(tmp_path, grid_file, store_folder, without_report):
    summary, _ = go(
        grid_file,
        paths_in(tmp_path),
        execute=failing_for(lambda work: True),
        fail_fast=True,
    )
    assert summary.status == 1
    assert len(summary.failed) == 1


def test_a_run_out_of_time_says_so_and_goes_on_later(
    tmp_path, grid_file, store_folder, finished, without_report
):
    paths = paths_in(tmp_path)
    summary, said = go(grid_file, paths, time_limit=0.02)
    assert summary.status == 75
    assert "time limit" in said
    summary, _ = go(grid_file, paths)
    assert summary.status == 0
    for training in {cell.training for cell in cells_of(grid_file)}:
        mine, theirs = (
            load_file(Store(folder / "store").model(training.key, "weights.safetensors"))
            for folder in (tmp_path, finished)
        )
        assert all((mine[name] == theirs[name]).all() for name in theirs)


def test_a_plan_tells_what_is_done_and_writes_nothing(copied):
    before = sorted(copied.rglob("*"))
    grid = load_grid(copied / "small.yaml", ["steps=[2,3,4]"])
    plan = plan_grid(grid, paths_in(copied), Options())
    assert plan.text().startswith(
        "small: 2 trainings, 12 cells; 0 to train, 4 to sample and score, and 2 once more"
    )
    states = [row["state"] for row in plan.as_json()["cells"]]
    assert states.count("to do") == 6  # two of them at their checkpoint
    assert states.count("finished") == 8
    assert plan.evaluations == 80 * (4 * (3 * 4 + 1) + 2 * (4 + 1))  # of the first, three timings
    assert sorted(copied.rglob("*")) == before


@pytest.fixture
def own_images(tmp_path, store_folder, small_grid):
    """A grid of a folder of images, and how to fill that anew."""
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()

    def fill(seed):
        draw = np.random.default_rng(seed)
        for number in range(100):
            pixels = draw.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:03}.png")

    grid_file = tmp_path / "own.yaml"
    own = f"data: {{name: folder, path: {folder}, image_size: 8, grey: true}}"
    one = {"[linear, cosine]": "[linear]", "[ddpm, ddim]": "[ddim]", "steps: [2, 3]": "steps: [2]"}
    for before, after in {"data: digits": own, **one}.items():
        small_grid = small_grid.replace(before, after)
    grid_file.write_text(small_grid)
    fill(1)
    return grid_file, fill


def test_changed_images_under_an_old_name_are_other_work(own_images, tmp_path, without_report):
    grid_file, fill = own_images
    assert go(grid_file, paths_in(tmp_path))[0].status == 0
    first = tracker_of(tmp_path).table()
    fill(2)
    summary, said = go(grid_file, paths_in(tmp_path))
    assert summary.status == 0
    assert "training 1/1" in said
    both = tracker_of(tmp_path).table()
    assert len(both) == 2
    assert both["data_fingerprint"].nunique() == 2
    experiment = tracker_of(tmp_path).read()
    assert {one.cell.key for one in experiment.cells} == {*both["key"]} - {*first["key"]} | {
        one.cell.key for one in experiment.cells if one.cell.weights != "final"
    }
    assert sum(experiment.left_out.values()) == 1


def test_the_same_images_written_again_are_the_same_work(own_images, tmp_path, without_report):
    grid_file, fill = own_images
    go(grid_file, paths_in(tmp_path))
    fill(1)
    assert "Nothing to do" in go(grid_file, paths_in(tmp_path))[1]


# A store that is moved, copied, read-only, or of an earlier version.


def test_a_moved_store_gives_the_same_report_and_goes_on_there(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copied")
    moved = (tmp_path / "copied").rename(tmp_path / "moved")
    paths = replace(paths_in(moved), report_dir=tmp_path / "again")
    with Screen(Console(file=io.StringIO())) as screen:
        report_grid("small", paths, screen)
    for path in sorted((finished / "report").rglob("*.*")):
        again = tmp_path / "again" / path.relative_to(finished / "report")
        assert again.read_bytes() == path.read_bytes(), path.name
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    summary, _ = go(moved / "small.yaml", paths_in(moved), ["steps=[2,3,4]"], report=False)
    assert summary.status == 0
    assert len(tracker_of(moved).table()) == 12
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert before == after


def test_two_stores_are_joined_by_copying_one_into_the_other(copied, tmp_path, without_report):
    grid_file = copied / "small.yaml"
    other = replace(
        paths_in(tmp_path),
        store=tmp_path / "other",
        tracking_uri=f"sqlite:///{tmp_path / 'other' / 'mlflow.db'}",
    )
    shutil.copytree(copied / "store" / "models", tmp_path / "other" / "models")
    shutil.copytree(copied / "store" / "cells", tmp_path / "other" / "cells")
    shutil.copy(copied / "store" / "store.json", tmp_path / "other")
    summary, said = go(grid_file, other)
    assert summary.status == 0
    assert "training 1/" not in said
    assert "cell 1/" not in said
    assert len(Tracker(other.tracking_uri, "small").table()) == 8


def test_a_report_needs_no_grid_file_and_no_store(finished, tmp_path):
    shutil.copytree(finished / "store", tmp_path / "there")
    for name in ("models", "cells", "features"):
        shutil.rmtree(tmp_path / "there" / name)
    uri = f"sqlite:///{tmp_path / 'there' / 'mlflow.db'}"
    elsewhere = Paths(tmp_path / "none", uri, tmp_path / "report", tmp_path / "data")
    with Screen(Console(file=io.StringIO())) as screen:
        report_grid("small", elsewhere, screen)
    for name in ("report.md", "results.csv", "report.html"):
        assert (tmp_path / "report" / name).read_bytes() == (
            finished / "report" / name
        ).read_bytes()
    assert not (tmp_path / "none").exists()


def test_a_report_of_fewer_cells_can_be_asked_for_with_a_grid(finished, tmp_path):
    paths = replace(paths_in(finished), report_dir=tmp_path)
    cells = expand(load_grid(finished / "small.yaml", ["steps=[3]"]))
    with Screen(Console(file=io.StringIO())) as screen:
        report_grid("small", paths, screen, cells)
    table = (tmp_path / "results.csv").read_text().splitlines()
    assert len(table) == 1 + 4


def test_a_store_of_an_earlier_version_is_refused_before_any_work(tmp_path, grid_file):
    old = tmp_path / "store" / "cells" / "abc" / "outcome.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    with pytest.raises(StoreError, match="another version of harness"):
        go(grid_file, paths_in(tmp_path))
    assert old.read_text() == "{}"


# Killed.


def command_in(folder, grid_text, store):
    """The real command, in a session of its own, so that a signal reaches all its processes."""
    (folder / "small.yaml").write_text(grid_text)
    command = [
        sys.executable, "-m", "harness", "run", "small.yaml", "training.steps=400",
        "samplers=[ddim]", "steps=[2]", "--report-dir", "report", "--store", store,
    ]  # fmt: skip
    with (folder / "said").open("a") as said:
        return subprocess.Popen(
            command, cwd=folder, start_new_session=True, stdout=said, stderr=said
        )


@pytest.fixture(scope="module")
def straight(tmp_path_factory, small_grid):
    """The store of the command that nothing stopped."""
    folder = tmp_path_factory.mktemp("straight")
    assert command_in(folder, small_grid, "store").wait(300) == 0, (folder / "said").read_text()
    return folder / "store"


@pytest.mark.faults
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
    ids=["INT", "TERM", "HUP", "KILL"],
)
def test_a_killed_run_ends_in_the_same_weights(tmp_path, small_grid, straight, number, status):
    """Killed in the middle of training, once there is a first picture of it."""
    killed, until = tmp_path / "killed", time.monotonic() + 200
    running = command_in(tmp_path, small_grid, "killed")
    try:
        while not list(killed.glob("artifacts/*/artifacts/sheets/step_*.png")):
            assert running.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() < until, "there was no picture of a training"
            time.sleep(0.05)
        os.killpg(running.pid, number)
        assert running.wait(60) == status
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
    assert not list(killed.glob("models/*/weights.safetensors"))
    assert command_in(tmp_path, small_grid, "killed").wait(300) == 0

    def pairs(pattern):
        found = sorted(path.relative_to(straight) for path in straight.glob(pattern))
        assert found
        return [(straight / path, killed / path) for path in found]

    for paths in pairs("models/*/weights.safetensors"):
        mine, theirs = map(load_file, paths)
        assert all((mine[name] == theirs[name]).all() for name in mine)
    for paths in pairs("cells/*/result.json"):
        mine, theirs = (json.loads(path.read_text())["measurements"] for path in paths)
        assert mine["kid"] == theirs["kid"]
