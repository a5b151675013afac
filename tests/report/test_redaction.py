"""No page says where on a disk a file lies, and with it whose disk that is."""

from dataclasses import replace

import pandas as pd
import pytest

from harness.report import contents, page
from harness.report.redaction import without_paths
from harness.work.cells import Part
from harness.work.results import FailedWork


def shown(results, text):
    return without_paths(replace(results, grid_text=text)).grid_text


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
    assert shown(results, text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "images/s and/or 10 images / s", "x₀ = (x_t − σ ε̂)/α", "https://example.org/home/anna/x",
        "data/birds/x.npy", "~/birds", "<b>bold</b>", "1/2, 3/4",
    ],
)  # fmt: skip
def test_what_is_no_absolute_path_stays(results, text):
    assert shown(results, text) == text


def test_an_experiment_without_paths_stays_itself(results):
    assert without_paths(results) is results


def test_two_paths_do_not_become_one(results):
    text = "/home/anna/pics, /home/bob/pics, /home/anna/pics"
    assert shown(results, text) == "…/pics, …/pics (2), …/pics"


def of_folder(one, path):
    training = replace(one.cell.training, data=Part.of("folder", {"path": path}))
    return replace(one, cell=replace(one.cell, training=training))


def test_a_data_set_is_called_the_same_everywhere_and_keeps_its_key(results):
    grid = "data: {folder: {path: /home/anna/pics}}"
    given = replace(
        results,
        cells=tuple(of_folder(one, "/home/anna/pics") for one in results.cells),
        grid_text=grid,
    )
    redacted = without_paths(given)
    assert {str(one.cell.training.data) for one in redacted.cells} == {"folder(path=…/pics)"}
    assert redacted.grid_text == "data: {folder: {path: …/pics}}"
    assert [one.cell.key for one in redacted.cells] == [one.cell.key for one in given.cells]
    assert [one.cell.training.key for one in redacted.cells] == [
        one.cell.training.key for one in given.cells
    ]
    assert redacted.cells[0].artifacts.read("samples.png")


def test_no_file_of_a_report_holds_an_absolute_path(results, tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "_pictures", lambda study: ([], []))
    home = "/home/anna"
    reason = f"FileNotFoundError: [Errno 2] No such file: '{home}/data/x.npy'"
    model = Part.of("mine", {"weights": f"{home}/nets/w.pt"})
    broken = replace(
        results,
        cells=tuple(
            replace(of_folder(one, f"{home}/pics"), undefined={"recall": f"{home}/a.npy"})
            for one in results.cells
        ),
        trainings=tuple(
            replace(one, training=replace(one.training, model=model)) for one in results.trainings
        ),
        failures=(FailedWork("cell", "k", home, reason),),
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
    page.write(results, tmp_path)
    assert "cut short" not in (tmp_path / "report.md").read_text()
