"""No page says where on a disk a file lies, and with it whose disk that is."""

from dataclasses import replace

import pandas as pd
import pytest

from harness.report import contents, page
from harness.report.places import without_places


def told(results, text):
    return without_places(replace(results, grid_text=text)).grid_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/anna/data/x.npy not found", "…/data/x.npy not found"),
        ("No such file: '/home/anna/my data/x.npy'", "No such file: '…/my data/x.npy'"),
        ("data:\n  folder: {path: /home/anna/pics}", "data:\n  folder: {path: …/pics}"),
        ("folder(path=/mnt/disk/sets/birds/train)", "folder(path=…/birds/train)"),
        ('{"path": "/srv/a/b/c.pt"}', '{"path": "…/b/c.pt"}'),
        ("[/a/b/c,/d/e/f]", "[…/b/c,…/e/f]"),
        ("sqlite:////home/anna/mlflow.db", "sqlite:…/mlflow.db"),
        (r"C:\Users\anna\pics\x.png is broken", "…/pics/x.png is broken"),
        (r"\\host\share\sets\birds", "…/sets/birds"),
        ("/nfs/home/anna", "…/"),
        ("/root/x.npy", "…/x.npy"),
    ],
)
def test_an_absolute_path_is_cut_to_its_last_parts_and_names_no_person(results, text, expected):
    assert told(results, text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "images/s and/or 10 images / s", "x₀ = (x_t − σ ε̂)/α", "https://example.org/home/anna/x",
        "data/birds/x.npy", "~/birds", "<b>bold</b>", "1/2, 3/4",
    ],
)  # fmt: skip
def test_what_is_no_absolute_path_stays(results, text):
    assert told(results, text) == text


def test_two_paths_do_not_become_one(results):
    text = "/home/anna/pics, /home/bob/pics, /home/anna/pics"
    assert told(results, text) == "…/pics, …/pics (2), …/pics"


def test_a_data_set_is_called_the_same_everywhere(results):
    cells = results.cells.assign(data="folder(path=/home/anna/pics)")
    grid = "data: {folder: {path: /home/anna/pics}}"
    shown = without_places(replace(results, cells=cells, grid_text=grid))
    assert set(shown.cells["data"]) == {"folder(path=…/pics)"}
    assert shown.grid_text == "data: {folder: {path: …/pics}}"
    assert [*shown.cells["key"]] == [*results.cells["key"]]


def test_no_file_of_a_report_holds_an_absolute_path(results, tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "_pictures", lambda results: [])
    home = "/home/anna"
    reason = f"FileNotFoundError: [Errno 2] No such file: '{home}/data/x.npy'"
    broken = replace(
        results,
        cells=results.cells.assign(data=f"folder(path={home}/pics)", undefined_fid=f"{home}/a.npy"),
        trainings=results.trainings.assign(model=f"mine(weights={home}/nets/w.pt)"),
        failures=pd.DataFrame([{"kind": "cell", "key": "k", "what": home, "reason": reason}]),
        grid_text=f"data: {{folder: {{path: {home}/pics}}}}",
        left_out={f"{home}/old/store is gone": 1},
    )
    page.write(broken, tmp_path)
    for path in tmp_path.rglob("*.*"):
        assert b"anna" not in path.read_bytes()
    frame = pd.read_parquet(tmp_path / "results.parquet")
    assert "anna" not in frame.to_csv()
    text = (tmp_path / "report.md").read_text()
    assert "'…/data/x.npy'" in text
    assert "A path that begins with … is cut short here" in text


def test_a_whole_grid_text_has_no_note_about_paths(results, tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "_pictures", lambda results: [])
    page.write(results, tmp_path)
    assert "cut short" not in (tmp_path / "report.md").read_text()
