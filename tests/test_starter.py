"""`harness new`: a grid that loads, expands and is planned, of what was found and not asked."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from harness.cli import main
from harness.plan.grid import expand, load_grid
from harness.starter import PRESETS
from harness.work.speeds import Speeds

SPEEDS = Speeds(train=0.01, evaluate=0.002, features=0.01, source="a guess")


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    """The probe takes seconds, minutes with the large network."""
    monkeypatch.setattr("harness.engine.probe.probe", lambda *_: SPEEDS)
    monkeypatch.setattr("harness.engine.fastest.fastest", lambda *_: None)


@pytest.fixture
def harness(tmp_path, monkeypatch):
    """Runs a command in a folder with forty photographs and as many grey ones."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for folder, shape in (("photos", (40, 50, 3)), ("grey", (40, 40))):
        (tmp_path / folder).mkdir()
        for number in range(40):
            pixels = draw.integers(0, 256, shape, np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")

    def harness(*arguments):
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return harness


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("data", [[], ["--data", "photos"]], ids=["digits", "folder"])
def test_each_preset_is_a_grid_that_is_planned(harness, tmp_path, preset, data):
    begun = harness("new", "mine", "--preset", preset, "--device", "cpu", "--json", *data)
    assert begun.exit_code == 0, begun.output
    told = json.loads(begun.stdout)
    grid = load_grid(tmp_path / "mine.yaml")
    assert (told["cells"], told["preset"]) == (len(expand(grid)), preset)
    assert told["seconds"] > 0
    assert grid.name == "mine"
    if data:
        sides = {"image_size": 64} | grid.data.keywords  # what is the default is not kept
        assert sides == {"path": "photos", "image_size": PRESETS[preset].side}
        assert grid.extractor.name == "inception"
    text = (tmp_path / "mine.yaml").read_text()
    assert max(map(len, text.splitlines())) <= 100
    planned = harness("plan", "mine.yaml", "--device", "cpu")
    assert planned.exit_code == 0, planned.output


def test_what_is_found_is_written(harness, tmp_path):
    assert harness("new", "mine", "--data", "grey", "--size", 28, "--device", "cpu").exit_code == 0
    grid = load_grid(tmp_path / "mine.yaml")
    assert grid.data.keywords["grey"]
    [model] = grid.networks
    assert model.keywords["widths"] == (32, 64, 96)  # 28 pixels can be halved twice


def test_what_cannot_be_read_is_skipped_and_the_store_is_in_the_command(harness, tmp_path):
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    given = ("--data", "photos", "--device", "cpu", "--store", "my store", "--json")
    begun = harness("new", "mine", *given)
    assert begun.exit_code == 0, begun.output
    told = json.loads(begun.stdout)
    assert told["run"] == "harness run mine.yaml --store 'my store'"
    assert (
        "leaves out 1 file that cannot be read: broken.png\n"
        in (tmp_path / "mine.yaml").read_text()
    )
    assert any("could not be read" in note for note in told["notes"])
    assert load_grid(tmp_path / "mine.yaml").data.keywords["on_bad"] == "skip"
    refused = harness("data", "photos"), harness("plan", "mine.yaml", "data.on_bad=refuse")
    assert [one.exit_code for one in refused] == [0, 1]
    assert "on_bad: skip" in refused[1].output


def test_a_slow_machine_gets_fewer_steps_and_images_than_a_fast_one(harness, tmp_path, monkeypatch):
    given = ("--data", "photos", "--device", "cpu", "--store")
    harness("new", "fast", *given, "of fast")
    tenth = Speeds(train=0.1, evaluate=0.02, features=0.01, source="a guess")
    monkeypatch.setattr("harness.engine.probe.probe", lambda *_: tenth)
    harness("new", "slow", *given, "of slow")
    fast, slow = (load_grid(tmp_path / f"{name}.yaml") for name in ("fast", "slow"))
    assert slow.training.steps < fast.training.steps
    assert slow.images < fast.images
    monkeypatch.setattr("harness.engine.probe.probe", lambda *_: SPEEDS)
    planned = json.loads(harness("plan", "fast.yaml", "extractor=pixels", "--json").stdout)
    assert planned["forecast"]["total_seconds"] < 1.5 * PRESETS["laptop"].seconds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine", "--data", "nowhere"], "does not exist"),
        (["mine", "--data", "photos", "--size", 31], "Use --size 32"),
        (["mine", "--size", 32], "Use it without --size"),
        (["mine", "--data", "gaussian"], "a folder of images"),
        (["photos/no/mine"], "there is no folder"),
        (["-x-"], "No such option"),
        (["a b"], "a grid cannot be called"),
        (["taken"], "is there already"),
    ],
    ids=str,
)
def test_what_cannot_be_begun_is_refused_and_nothing_is_written(
    harness, tmp_path, arguments, message
):
    (tmp_path / "taken.yaml").write_text("mine")
    result = harness("new", *arguments, "--device", "cpu")
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert [path.name for path in tmp_path.glob("**/*.yaml")] == ["taken.yaml"]
    assert (tmp_path / "taken.yaml").read_text() == "mine"


def test_a_machine_is_measured_once_for_a_grid_that_is_begun_and_its_plans(
    harness, tmp_path, monkeypatch
):
    probed = []
    monkeypatch.setattr("harness.engine.probe.probe", lambda *_: probed.append(1) or SPEEDS)
    given = ("extractor=pixels", "--device", "cpu")
    assert harness("plan", "digits", *given).exit_code == 0
    assert probed
    assert not (tmp_path / "runs").exists()  # a plan makes no store
    harness("new", "mine", "--data", "photos", "--device", "cpu")
    here = len(probed)
    told = harness("plan", "mine.yaml", *given), harness("plan", "mine.yaml", "images=60", *given)
    assert all("a guess" in one.stdout for one in told)
    assert len(probed) == here
    harness("plan", "mine.yaml", "training.batch_size=3", *given)
    assert len(probed) == here + 1


def test_a_grid_for_a_gpu_says_that_none_is_here(harness, tmp_path):
    begun = harness("new", "mine", "--preset", "gpu", "--device", "cpu")
    assert "without a GPU, about" in begun.output
    assert "without a GPU, about" in (tmp_path / "mine.yaml").read_text()
    assert "without" not in harness("new", "other", "--device", "cpu").output
