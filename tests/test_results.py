"""What a report is made from: which recorded cells it tells of, and why it leaves others out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.plan.grid import expand, load_grid
from harness.plan.work import RECIPE
from harness.results import left_out, read_results
from harness.tracking import Tracker

OUTCOME = {"metrics": {"kid": 0.1, "kid_checkpoint": 0.2, "nfe": 2.0}, "machine": "a processor"}
OLD = "they were made by another recipe of the program, whose results may differ"
GONE = "the grid no longer asks for them"


@pytest.fixture
def cells(grid_file):
    return expand(load_grid(grid_file))


@pytest.fixture
def tracker(store_folder, cells):
    uri = f"sqlite:///{store_folder / 'mlflow.db'}"
    opened = Tracker(uri, "small", store_folder / "artifacts", store="mine")
    opened.open("name: small", [cell.key for cell in cells], {})
    return opened


def keep(tracker, cell, files=()):
    tracker.end(tracker.begin(cell, {}, 3.0), OUTCOME, files)


def results_of(tracker, cells, **more):
    return read_results("small", "name: small", cells, tracker, **more)


def test_cells_of_the_grid_are_told_of_and_none_is_left_out(tracker, cells):
    for cell in cells[:3]:
        keep(tracker, cell)
    results = results_of(tracker, cells, ui_url="http://127.0.0.1:5000")
    assert set(results.cells["key"]) == {cell.key for cell in cells[:3]}
    assert results.left_out == {}
    assert results.expected_cells == len(cells)
    assert results.experiment == tracker.experiment() != ""
    assert results.ui_url == "http://127.0.0.1:5000"


def test_cells_that_the_grid_no_longer_asks_for_are_counted(tracker, cells):
    for cell in cells[:3]:
        keep(tracker, cell)
    results = results_of(tracker, cells[1:2])
    assert results.cells["key"].tolist() == [cells[1].key]
    assert results.left_out == {GONE: 2}


def test_cells_of_another_recipe_are_counted_apart(tracker, cells, monkeypatch):
    keep(tracker, cells[0])
    keep(tracker, cells[1])
    with monkeypatch.context() as older:
        older.setattr("harness.tracking.RECIPE", RECIPE - 1)
        # The key of the same work is another one under another recipe.
        for number in (7, 8, 9):
            keep(tracker, replace(cells[0], sampling_seed=number))
    with monkeypatch.context() as newer:
        newer.setattr("harness.tracking.RECIPE", RECIPE + 1)
        keep(tracker, replace(cells[0], sampling_seed=10))
    results = results_of(tracker, cells[:1])
    assert results.left_out == {OLD: 4, GONE: 1}


def test_cells_from_before_recipes_were_recorded_are_only_no_longer_asked_for():
    assert left_out(pd.DataFrame({"key": ["a", "b"]})) == {GONE: 2}
    mixed = pd.DataFrame({"key": ["a", "b", "c"], "recipe": [np.nan, str(RECIPE), "0"]})
    assert left_out(mixed) == {OLD: 1, GONE: 2}
    assert left_out(mixed.iloc[:0]) == {}


def test_the_pictures_and_the_path_of_a_cell_go_with_it(tracker, cells, tmp_path):
    for name in ("samples.png", "film.png", "nearest.png"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "path.csv").write_text("t,log_snr\n1.0,-inf\n0.0,inf\n")
    files = [tmp_path / name for name in ("samples.png", "film.png", "nearest.png", "path.csv")]
    keep(tracker, cells[0], files)
    keep(tracker, cells[1])
    results = results_of(tracker, cells)
    key = cells[0].key
    assert results.sheets == {key: b"samples.png"}
    assert results.films == {key: b"film.png"}
    assert results.nearest == {key: b"nearest.png"}
    assert results.paths.keys() == {key}
    assert results.paths[key].to_dict("list") == {"t": [1, 0], "log_snr": [-np.inf, np.inf]}
