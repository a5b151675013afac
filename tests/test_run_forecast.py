"""A run says what it will cost, records that beside what it took, and scores one cell of each
training again with its weights at 90 %."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console
from running import in_turn, paths_in

from harness.clean import clean, unneeded
from harness.cli import main
from harness.execute.screen import Screen
from harness.plan.grid import expand, load_grid
from harness.plan.pending import pending
from harness.plan.preflight import identified
from harness.reporting import recorder_of
from harness.run import plan_grid, run_grid, too_long
from harness.store import OVERHEADS, Store
from harness.stored import sample_cell
from harness.work.cells import RESULT_VERSION
from harness.work.execution import Format
from harness.work.options import Options
from harness.work.overheads import Overheads
from harness.work.results import Failure

GRID = """
name: forecast
data: digits
model: {name: tiny, widths: [8], attention: []}
training: {steps: 10, batch_size: 16, precision: float32}
schedules: [linear, cosine]
samplers: [ddim]
steps: [2, 3]
images: 40
extractor: digits
metrics: [kid]
"""


def grid_of(folder, *overrides):
    return load_grid(folder / "grid.yaml", overrides)


def go(folder, *overrides, **options):
    said = io.StringIO()
    with Screen(Console(file=said, width=200)) as screen:
        summary = run_grid(
            grid_of(folder, *overrides), paths_in(folder), Options(**options), screen, in_turn
        )
    assert summary.status == 0, said.getvalue()
    return said.getvalue()


@pytest.fixture(autouse=True, scope="module")
def without_report():
    """Reports take seconds, and what these tests look at is not in them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.run.write_report", lambda *arguments: None)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory, database, without_report):
    """A finished run: its folder, and what it said. Tests that change it copy it."""
    folder = tmp_path_factory.mktemp("forecast")
    (folder / "grid.yaml").write_text(GRID)
    (folder / "store").mkdir()
    shutil.copy(database, folder / "store" / "mlflow.db")
    (folder / "said.txt").write_text(go(folder))
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    folder = tmp_path / "copied"
    shutil.copytree(finished, folder)
    return folder


def tracker_of(folder, *overrides):
    return recorder_of(grid_of(folder, *overrides).name, paths_in(folder), print).tracker


def checkpoints_of(folder):
    return sorted((folder / "store").glob("models/*/checkpoint.safetensors"))


# What is said, and what is recorded of it.


def test_a_run_says_its_cost_before_its_work(finished):
    said = (finished / "said.txt").read_text()
    # 4 cells of 40 images, each in one batch that is timed three times, after an evaluation that
    # is not; those of 3 steps again at the checkpoint, timed once.
    assert f"{40 * 2 * (3 * 2 + 1 + 3 * 3 + 1 + 3 + 1):,} network evaluations" in said
    assert said.index("About ") < said.index("training")
    assert said.count("network evaluations") == 1


def test_forecasts_are_recorded_beside_what_the_work_took(finished):
    for table in (tracker_of(finished).table(), tracker_of(finished).trainings()):
        assert len(table) in (2, 4)
        assert (table["forecast_seconds"] > 0).all()
        assert table["forecast_seconds"].dtype == float
        assert (table["result_version"] == str(RESULT_VERSION)).all()


def test_a_cell_of_more_steps_is_foretold_to_take_longer(finished):
    seconds = tracker_of(finished).table().groupby("steps")["forecast_seconds"].max()
    assert seconds[2] < seconds[3]


def test_what_another_grid_has_paid_for_has_no_forecast_and_no_cost(copied):
    said = go(copied, "name=other")
    table = tracker_of(copied, "name=other").table()
    assert table["reused"].all()
    assert "forecast_seconds" not in table
    assert "About" not in said
    checkpoints = [one for one in tracker_of(copied, "name=other").cell_results().values()
                   if one.cell.weights != "final"]  # fmt: skip
    assert {one.cell for one in checkpoints} == checkpoint_cells_in(copied)


def test_what_failed_tells_nothing_of_what_a_run_takes_beside_its_work(copied):
    """A training that fails after an hour has not started for an hour."""

    def failing(function, jobs, at, on_progress, should_stop, **how):
        for job in jobs:
            yield job, Failure("it diverged")

    before = (copied / "store" / OVERHEADS).read_bytes()
    with Screen(Console(quiet=True)) as screen:
        grid = grid_of(copied, "seeds=[1]")
        summary = run_grid(grid, paths_in(copied), Options(), screen, failing)
    assert summary.status == 1
    assert (copied / "store" / OVERHEADS).read_bytes() == before
    assert {*Store(copied / "store").failed("forecast")} == {one.key for one, _ in summary.failed}
    go(copied, "seeds=[1]")
    assert not Store(copied / "store").failed("forecast")


def test_a_plan_says_the_cost_that_a_run_would_have(finished, tmp_path):
    arguments = ["plan", finished / "grid.yaml", "--store", tmp_path / "none", "--device", "cpu"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "About " in result.output
    assert "1,680 network evaluations" in result.output


def test_what_a_run_took_beside_its_work_is_kept_for_the_next(finished):
    [kept] = json.loads((finished / "store/overheads.json").read_text()).values()
    assert Overheads.from_json(kept).cell > 0
    plan = plan_grid(grid_of(finished, "steps=[2,3,4]"), paths_in(finished), Options())
    assert plan.forecast.beside == Overheads.from_json(kept)


def test_later_work_is_foretold_from_earlier_work(finished):
    plan = plan_grid(grid_of(finished, "steps=[2,3,4]"), paths_in(finished), Options())
    told = plan.as_json()["forecast"]
    assert told["source"] == "earlier runs on this machine"
    # The two cells of 4 steps are now those with the most, so they are scored again.
    assert plan.evaluations == 2 * 40 * (3 * 4 + 1 + 4 + 1)
    assert told["sampling_seconds"] > 0
    assert told["training_seconds"] == 0


def test_what_a_probe_finds_is_said_and_trained_and_sampled_in_and_asked_once(copied, monkeypatch):
    chosen, probes = Format("float32", True), []

    def fastest(of, rule, formats, threads, is_worth):
        probes.append(of.batch)
        return replace(rule, format=chosen, gain=1.25)

    monkeypatch.setattr("harness.engine.fastest.fastest", fastest)
    monkeypatch.setattr("harness.execute.machine.cores", lambda: 1)  # else more go side by side
    changed = "training.precision=auto", "schedules=[linear]"
    said = go(copied, *changed)
    assert "is computed in float32, channels last" in said
    go(copied, *changed, "seeds=[0, 1]")
    assert probes == [(16, 1, 8, 8)]
    store, cells = Store(copied / "store"), cells_of(copied, *changed, "seeds=[0, 1]")
    trained = [store.training_result(cell.training.key).provenance for cell in cells]
    assert {(one.precision, one.channels_last) for one in trained} == {("float32", True)}
    assert {store.cell_result(cell.key).provenance.precision for cell in cells} == {"float32"}
    planned = plan_grid(grid_of(copied, *changed, "seeds=[0, 1, 2]"), paths_in(copied), Options())
    assert planned.computed[0] in said


# At the checkpoint.


def cells_of(folder, *overrides):
    return identified(expand(grid_of(folder, *overrides)), paths_in(folder).workplace)


def checkpoint_cells_in(folder, *overrides):
    """Those that a run of this grid has, or would have."""
    grid, paths = grid_of(folder, *overrides), paths_in(folder)
    recorded = recorder_of(grid.name, paths, print).finished()
    cells = cells_of(folder, *overrides)
    return {*pending(grid, cells, Store(paths.store), recorded, Options()).checkpoints}


def recorded_checkpoints(folder, *overrides):
    results = tracker_of(folder, *overrides).cell_results().values()
    return {one.cell: one for one in results if one.cell.weights != "final"}


def test_one_cell_of_each_training_is_scored_again_at_its_checkpoint(finished):
    found = recorded_checkpoints(finished)
    assert {*found} == checkpoint_cells_in(finished)
    assert {str(cell.training.schedule) for cell in found} == {"linear", "cosine"}
    assert [cell.steps for cell in found] == [3, 3]
    assert len(checkpoints_of(finished)) == 2
    finals = tracker_of(finished).cell_results()
    for cell, result in found.items():
        final = finals[replace(cell, weights="final").key]
        assert {*result.measurements} == {"kid"}
        assert result.measurements["kid"].value != final.measurements["kid"].value
        assert len(result.influence("kid")) == cell.images


def test_a_time_limit_that_is_too_short_is_said_to_be(finished):
    plan = plan_grid(grid_of(finished, "steps=[2,3,4]"), paths_in(finished), Options())
    assert "limit of 1 s" in too_long(plan, 1.0, True)
    assert "status 75" in too_long(plan, 1.0, True)
    assert "no report" in too_long(plan, 1.0, False)
    assert not too_long(plan, 1e6, True)
    assert not too_long(plan, None, True)


def test_before_any_training_each_is_expected_to_keep_one(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    found = checkpoint_cells_in(tmp_path)
    assert {replace(cell, weights="final") for cell in found} == {
        cell for cell in cells_of(tmp_path) if cell.steps == 3
    }
    assert not (tmp_path / "store").exists()


def test_without_a_metric_that_decides_nothing_is_scored_again(finished):
    assert checkpoint_cells_in(finished, "metrics=[precision]") == set()
    grid = grid_of(finished, "name=other", "metrics=[precision]", "sampling_seeds=[9]")
    assert plan_grid(grid, paths_in(finished), Options()).evaluations == 40 * 2 * (
        3 * 2 + 1 + 3 * 3 + 1
    )


def test_a_training_that_kept_no_checkpoint_has_no_cell_scored_again(copied):
    lost, kept = checkpoints_of(copied)
    lost.unlink()
    [left] = checkpoint_cells_in(copied, "steps=[4]")
    assert left.training.key == kept.parent.name
    go(copied, "steps=[4]")
    assert {cell for cell in recorded_checkpoints(copied) if cell.steps == 4} == {left}
    assert "Nothing to do" in go(copied, "steps=[4]")


def test_a_finished_run_needs_nothing_more_though_its_checkpoints_are_gone(copied):
    for path in checkpoints_of(copied):
        path.unlink()
    assert checkpoint_cells_in(copied) == set()
    assert "Nothing to do" in go(copied)


def test_nothing_is_trained_again_for_a_checkpoint_where_the_store_is_gone(copied):
    for kind in ("models", "cells", "features"):
        shutil.rmtree(paths_in(copied).store / kind)
    assert checkpoint_cells_in(copied, "steps=[2]") == set()
    assert "Nothing to do" in go(copied, "steps=[2]")


def test_a_finished_run_needs_nothing_more(finished):
    assert "Nothing to do" in go(finished)
    assert "About" not in go(finished)


def test_a_checkpoint_cell_that_is_missing_is_made(copied):
    # With the cells of 3 steps gone from the grid, those of 2 are the ones to tell.
    before = tracker_of(copied).table().set_index("key")
    said = go(copied, "steps=[2]")
    assert "training 1/" not in said
    after = tracker_of(copied).table().set_index("key")
    assert sum(cell.steps == 2 for cell in recorded_checkpoints(copied)) == 2
    assert (after["kid"] == before["kid"]).all()
    assert (after["run_id"] == before["run_id"]).all()


def test_after_what_no_grid_needs_is_removed_a_finished_run_needs_nothing_more(copied):
    go(copied, "steps=[2]")
    assert not unneeded(copied / "store")  # its file still asks for 3 steps
    (copied / "grid.yaml").write_text(GRID.replace("steps: [2, 3]", "steps: [2]"))
    go(copied)
    found = unneeded(copied / "store")
    assert found.paths.keys() == {"cell"}
    clean(found)
    assert "Nothing to do" in go(copied)


# Images of a finished cell on their own.


def test_images_on_their_own_are_those_of_the_cell(finished, tmp_path):
    cell = cells_of(finished)[1]
    whole = np.asarray(Image.open(Store(finished / "store").cell(cell.key, "samples.png")))
    at = paths_in(finished).workplace

    def images(out, seed=None):
        sample_cell(cell.key, at, tmp_path / out, 10, seed)
        return tmp_path / out

    sheet = np.asarray(Image.open(images("sheet.png")))
    times = len(sheet) // 16  # enlarged, to be looked at
    assert sheet.shape == (16 * times, 64 * times)
    sheet = sheet[::times, ::times]
    # Within rounding: a convolution may sum in another order in a batch of another size.
    assert np.abs(sheet[:8].astype(int) - whole[:8]).max() <= 1
    files = sorted(images("folder").iterdir())
    assert [file.name for file in files] == [f"{number:05}.png" for number in range(10)]
    alone = [np.asarray(Image.open(file)) for file in files]
    assert (np.concatenate(alone[:8], axis=1) == sheet[:8]).all()
    other = np.asarray(Image.open(images("other.png", seed=9)))[::times, ::times]
    assert not (other == sheet).all()
