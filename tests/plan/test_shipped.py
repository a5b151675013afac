"""Which grids there are, without a checkout too, and what `harness run` alone says."""

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.errors import GridError
from harness.plan.grid import load_grid
from harness.plan.shipped import as_text, grid_path, grids_at_hand, headline

ROOT = Path(__file__).parents[2]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_wheel_takes_every_grid_along():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    taken = told["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    runs = {f"runs/{path.name}" for path in (ROOT / "runs").glob("*.yaml")}
    assert taken == {path: f"harness/{path}" for path in runs}


def test_the_grids_of_the_program_are_at_hand_in_any_folder_with_the_main_job_first(elsewhere):
    (elsewhere / "runs").mkdir()
    (elsewhere / "runs/mine.yaml").write_text("# What I want to know: which.\n# And more.\n#\n# N")
    (elsewhere / "runs/mute.yaml").write_text("name: mute\n")
    grids = grids_at_hand()
    assert next(iter(grids)) == "digits"
    assert {"smoke", "mine", "mute"} < grids.keys()
    assert headline(grids["mine"]) == "What I want to know"
    assert max(map(len, as_text(grids).splitlines())) <= 80


def test_a_grid_that_is_at_hand_can_be_named_and_a_file_comes_first(elsewhere):
    assert load_grid("smoke").name == "smoke"
    (elsewhere / "smoke").write_text("")
    assert grid_path(Path("smoke")) == Path("smoke")
    with pytest.raises(GridError, match="Did you mean 'digits'"):
        load_grid("digit")


def test_a_run_of_no_grid_says_what_there_is_and_does_nothing(elsewhere):
    result = CliRunner().invoke(main, ["run"])
    assert result.exit_code == 2
    assert "harness run digits" in result.output
    told = json.loads(CliRunner().invoke(main, ["run", "--json"]).stdout)
    assert (told["status"], "digits" in told["error"]) == (2, True)
    assert not list(elsewhere.iterdir())
