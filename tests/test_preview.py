"""`harness data`: what is said of a folder of images, and the sheet of what a network will see."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from harness.cli import main
from harness.data.images import ImageSet
from harness.data.sheet import sheet
from harness.metrics.enough import purposes
from harness.plan.grid import load_grid
from harness.work.cells import Part


@pytest.fixture
def harness(tmp_path, monkeypatch):
    """Runs the command in a folder that holds `photos`, two classes with a broken file."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "photos" / ("cat" if number % 3 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "photos" / "cat" / "broken.png").write_bytes(b"")
    (tmp_path / "photos" / "notes.txt").write_text("")
    return lambda *arguments: CliRunner().invoke(main, ["data", *arguments])


def test_a_folder_is_told_as_a_grid_would_read_it(harness, tmp_path):
    told = json.loads(harness("photos", "--size", "16", "--json").stdout)
    assert told["data"] == {"name": "folder", "path": "photos", "image_size": 16, "on_bad": "skip"}
    assert (told["train"], told["held_out"]) == (10, 2)
    assert told["images"]["classes"] == {"cat": 8, "dog": 4}
    assert told["images"]["unreadable"]["example"] == "cat/broken.png"
    assert {"tiny", "small"} <= {*told["networks"]}
    grid = tmp_path / "own.yaml"
    fields = "schedules: [cosine]\nsamplers: [ddim]\nsteps: [2]\nextractor: pixels\n"
    grid.write_text(f"name: own\n{told['grid']}\n{fields}")
    assert load_grid(grid).data == Part.of(
        "folder", {"path": "photos", "image_size": 16, "on_bad": "skip"}
    )


def test_lines_fit_a_terminal_and_the_sheet_is_a_picture(harness, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    found = harness("photos", "--size", "16", "--out", "sheet.png")
    assert found.exit_code == 0
    assert all(len(line) <= 80 for line in found.output.splitlines())
    with Image.open(tmp_path / "sheet.png") as picture:
        assert np.asarray(picture).std() > 20


@pytest.mark.parametrize(
    "arguments",
    [["nowhere"], ["folder"], ["photos/notes.txt"], ["photos/cat/1.png"], ["empty"],
     ["digits", "--size", "8"], ["photos", "--out", "photos/sheet.png"],
     ["photos", "--out", "sheet.txt"], ["photos", "--out", "no/sheet.png"]],
    ids=" ".join,
)  # fmt: skip
def test_what_cannot_be_looked_at_is_refused_in_a_line(harness, tmp_path, arguments):
    (tmp_path / "empty").mkdir()
    before = {*tmp_path.rglob("*")}
    found = harness(*arguments)
    assert found.exit_code == 1
    told = " ".join(found.output.split())  # whatever the length of the path
    assert told.startswith("Error: ")
    assert " Use " in told or " Available: " in told or "Leave" in told
    assert {*tmp_path.rglob("*")} == before


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 8), (4, 200)])
def test_a_sheet_of_any_images_can_be_made(channels, size):
    pixels = np.random.default_rng(0).integers(0, 256, (5, channels, size, size), np.uint8)
    picture = sheet(ImageSet("x", pixels[:3], pixels[3:]))
    assert picture.mode == "RGB"


def test_more_images_are_enough_for_more():
    def enough(*counts):
        return {each.purpose: each.is_enough for each in purposes(*counts)}

    assert not any(enough(10, 2).values())
    assert all(enough(20_000, 5_000).values())
    assert enough(2_000, 500) == {"training": True, "KID": True, "FID": False, "baseline": True}
