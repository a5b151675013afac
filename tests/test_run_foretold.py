"""A run says what it will cost, records that beside what it took, and samples one cell of each
training at its checkpoint, too."""

import io
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from harness.cli import main
from harness.plan.grid import expand, load_grid
from harness.plan.work import RECIPE
from harness.run import Place, Wishes, open_tracker, plan_grid, run_grid, sampled_twice
from harness.runtime.execute import in_this_process
from harness.runtime.progress import Screen
from harness.runtime.store import Store
from harness.sampling import sample_to

GRID = """
name: foretold
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


def in_turn(function, jobs, on_progress, should_stop, workers=1):
    return in_this_process(function, jobs, on_progress, should_stop)


def place_in(folder):
    return Place(
        store=folder / "store",
        tracking_uri=f"sqlite:///{folder / 'store' / 'mlflow.db'}",
        report_dir=folder / "report",
        data_dir=folder / "data",
        device="cpu",
    )


def grid_of(folder, *overrides):
    return load_grid(folder / "grid.yaml", overrides)


def go(folder, *overrides, **wishes):
    said = io.StringIO()
    with Screen(Console(file=said, width=200)) as screen:
        summary = run_grid(
            grid_of(folder, *overrides), place_in(folder), Wishes(**wishes), screen, in_turn
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
    folder = tmp_path_factory.mktemp("foretold")
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
    return open_tracker(grid_of(folder, *overrides), place_in(folder))


def checkpoints_of(folder):
    return sorted((folder / "store").glob("models/*/checkpoint.safetensors"))


# What is said, and what is recorded of it.


def test_a_run_says_its_cost_before_its_work(finished):
    said = (finished / "said.txt").read_text()
    # 4 cells of 40 images, those of 3 steps twice.
    assert f"({40 * 2 * (2 + 3 + 3):,} network evaluations)" in said
    assert said.index("About ") < said.index("training")
    assert said.count("network evaluations") == 1


def test_forecasts_are_recorded_beside_what_the_work_took(finished):
    for table in (tracker_of(finished).table(), tracker_of(finished).trainings()):
        assert len(table) in (2, 4)
        assert (table["forecast_seconds"] > 0).all()
        assert table["forecast_seconds"].dtype == float
        assert (table["recipe"] == str(RECIPE)).all()


def test_a_cell_of_more_steps_is_foretold_to_take_longer(finished):
    seconds = tracker_of(finished).table().groupby("steps")["forecast_seconds"].max()
    assert seconds[2] < seconds[3]


def test_what_another_grid_has_paid_for_has_no_forecast_and_no_cost(copied):
    said = go(copied, "name=other")
    table = tracker_of(copied, "name=other").table()
    assert table["reused"].all()
    assert "forecast_seconds" not in table
    assert "About" not in said
    assert set(table["key"][table["kid_checkpoint"].notna()]) == twice_in(copied)


def test_a_plan_says_the_cost_that_a_run_would_have(finished, tmp_path):
    arguments = ["plan", finished / "grid.yaml", "--store", tmp_path / "none", "--device", "cpu"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "About " in result.output
    assert "(640 network evaluations)" in result.output


def test_later_work_is_foretold_from_earlier_work(finished):
    plan = plan_grid(grid_of(finished, "steps=[2,3,4]"), place_in(finished), Wishes())
    assert plan.source == "earlier runs on this machine"
    # The two cells of 4 steps are now those with the most, so they are sampled twice.
    assert plan.evaluations == 2 * 40 * 4 * 2
    assert plan.sampling_seconds > 0
    assert plan.training_seconds == 0


# At the checkpoint.


def twice_in(folder, *overrides):
    grid, place = grid_of(folder, *overrides), place_in(folder)
    return sampled_twice(grid, Store(place.store), open_tracker(grid, place).finished())


def test_one_cell_of_each_training_is_also_scored_at_its_checkpoint(finished):
    table = tracker_of(finished).table()
    at_checkpoint = table[table["kid_checkpoint"].notna()]
    assert set(at_checkpoint["schedule"]) == {"linear", "cosine"}
    assert at_checkpoint["steps"].tolist() == [3, 3]
    assert set(at_checkpoint["key"]) == twice_in(finished)
    assert len(checkpoints_of(finished)) == 2
    for row in table.itertuples():
        kept = np.load(io.BytesIO(tracker_of(finished).artifact(row.run_id, "influence.npz")))
        assert ("kid_checkpoint" in kept) == (row.steps == 3)


def test_before_any_training_each_is_expected_to_keep_one(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    cells = expand(grid_of(tmp_path))
    assert twice_in(tmp_path) == {cell.key for cell in cells if cell.steps == 3}
    assert not (tmp_path / "store").exists()


def test_without_a_metric_that_decides_nothing_is_sampled_twice(finished):
    assert twice_in(finished, "metrics=[precision]") == frozenset()
    grid = grid_of(finished, "name=other", "metrics=[precision]", "sampling_seeds=[9]")
    assert plan_grid(grid, place_in(finished), Wishes()).evaluations == 40 * 2 * (2 + 3)


def test_a_training_that_kept_no_checkpoint_has_no_cell_sampled_twice(copied):
    lost, kept = checkpoints_of(copied)
    lost.unlink()
    cells = expand(grid_of(copied, "steps=[4]"))
    [left] = twice_in(copied, "steps=[4]")
    assert [cell.training.key for cell in cells if cell.key == left] == [kept.parent.name]
    go(copied, "steps=[4]")
    table = tracker_of(copied).table()
    four = table[table["steps"] == 4].set_index("key")["kid_checkpoint"]
    assert set(four.index[four.notna()]) == {left}
    assert "Nothing to do" in go(copied, "steps=[4]")


def test_a_finished_run_needs_nothing_more_though_its_checkpoints_are_gone(copied):
    for path in checkpoints_of(copied):
        path.unlink()
    assert twice_in(copied) == frozenset()
    assert "Nothing to do" in go(copied)


def test_nothing_is_trained_again_for_a_checkpoint_where_the_store_is_gone(copied):
    store = place_in(copied).store
    for kind in ("models", "cells", "features"):
        shutil.rmtree(store / kind)
    assert twice_in(copied, "steps=[2]") == frozenset()
    assert "Nothing to do" in go(copied, "steps=[2]")


def test_a_finished_run_needs_nothing_more(finished):
    assert "Nothing to do" in go(finished)
    assert "About" not in go(finished)


def test_a_cell_that_lacks_its_checkpoint_number_gets_it(copied):
    # With the cells of 3 steps gone from the grid, those of 2 are the ones to tell.
    before = tracker_of(copied).table().set_index("key")
    said = go(copied, "steps=[2]")
    assert "training 1/" not in said
    after = tracker_of(copied).table().set_index("key")
    assert after["kid_checkpoint"].notna().all()
    assert (after["kid"] == before["kid"]).all()
    assert (after["run_id"] == before["run_id"]).all()


# Images of a finished cell on their own.


def test_images_on_their_own_are_those_of_the_cell(finished, tmp_path):
    cell = expand(grid_of(finished))[1]
    whole = np.asarray(Image.open(Store(finished / "store").cell(cell.key, "samples.png")))
    key, place = cell.key, place_in(finished)

    def images(out, seed=None):
        sample_to(place.store, place.data_dir, "cpu", key, tmp_path / out, 10, seed)
        return tmp_path / out

    sheet = np.asarray(Image.open(images("sheet.png")))
    assert sheet.shape == (16, 64)
    # Within rounding: a convolution may sum in another order in a batch of another size.
    assert np.abs(sheet[:8].astype(int) - whole[:8]).max() <= 1
    files = sorted(images("folder").iterdir())
    assert [file.name for file in files] == [f"{number:05}.png" for number in range(10)]
    alone = [np.asarray(Image.open(file)) for file in files]
    assert (np.concatenate(alone[:8], axis=1) == sheet[:8]).all()
    assert not (np.asarray(Image.open(images("other.png", seed=9))) == sheet).all()
