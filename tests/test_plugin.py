"""A package of another author adds a schedule, a sampler, a metric, a finding and a figure: one
record and one line each, and no code here changes."""

import json
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.contracts import failures
from harness.contracts.check import Bench, Check
from harness.contracts.verify import CONTRACTS, of_part
from harness.lazy import torch
from harness.work.cells import Part

PACKAGE = Path(__file__).parent / "plugin"
ADDED = [("schedule", "straight"), ("sampler", "straight_euler"), ("metric", "mean_shift")]
GRID = """
name: plugin
data: {name: gaussian, size: 4, images: 200}
schedules: [linear, straight]
samplers: [ddim, straight_euler]
steps: [3, 6]
images: 60
extractor: pixels
metrics: [kid, mean_shift]
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Makes the package importable as an installer would: the module, and what it says of itself
    beside it."""
    site = tmp_path / "site"
    info = site / "straight_paths-1.2.dist-info"
    info.mkdir(parents=True)
    shutil.copy(PACKAGE / "straight_paths.py", site)
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    told = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(told)
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    yield site
    sys.modules.pop("straight_paths", None)


def harness(*arguments):
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(("kind", "name"), ADDED)
def test_its_parts_keep_their_contracts(installed, kind, name):
    bench = Bench(torch.float64, torch.device("cpu"))
    checks = of_part(kind, name, bench)
    assert [each for each in checks if not (isinstance(each, Check) and each.holds)] == []
    assert failures([(kind, Part(name))]) == []


def test_verify_checks_its_parts_beside_the_built_in_ones(installed, monkeypatch):
    kept = {kind: CONTRACTS[kind] for kind in ("schedule", "metric")}
    monkeypatch.setattr("harness.contracts.verify.CONTRACTS", kept)
    told = json.loads(harness("verify", "--precision", "float64", "--json"))
    found = {(check["kind"], check["part"]): check["holds"] for check in told["checks"]}
    assert found["schedule", "straight"]
    assert found["metric", "mean_shift"]


def test_parts_lists_what_it_adds_and_where_from(installed):
    listed = json.loads(harness("parts", "--json"))["parts"]
    added = {(each["kind"], each["name"]) for each in listed if each["origin"] == "straight-paths"}
    assert added >= {*ADDED, ("finding", "least_shift"), ("plot", "shift_by_steps")}


def test_a_grid_of_its_parts_runs_and_its_report_shows_them(installed, store_folder, tmp_path):
    grid, reports = tmp_path / "plugin.yaml", tmp_path / "reports"
    grid.write_text(GRID)
    places = ["--store", store_folder, "--report-dir", reports]
    harness("run", grid, *places)
    text = (reports / "report.md").read_text()
    assert "Which configuration shifts the mean least?" in text
    assert "![The mean shift by the number of steps.](figures/shift_by_steps.png)" in text
    assert "log SNR = 2 log((1 - u) / u)" in text
    table = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    column = next(row for row in table if "Mean shift" in row).index("Mean shift")
    rows = [row for row in table if "straight_euler" in row and "6" in row]
    assert rows
    assert all(float(row[column]) > 0 for row in rows)
    assert "Nothing to do" in harness("run", grid, *places)


def test_a_sampler_of_nonsense_is_refused_before_the_work(installed, store_folder, tmp_path):
    module = installed / "straight_paths.py"
    module.write_text(module.read_text().replace("z + (v - u)", "z - (v - u)"))
    grid = tmp_path / "plugin.yaml"
    grid.write_text(GRID)
    places = ["--store", str(store_folder), "--report-dir", str(tmp_path / "reports")]
    result = CliRunner().invoke(main, ["run", str(grid), *places])
    assert result.exit_code == 1
    assert "sampler 'straight_euler' of straight-paths does not keep its contract" in result.output
    assert not [*store_folder.glob("cells/*")]


def test_a_part_that_changed_is_other_work(installed, store_folder, tmp_path):
    from harness.plan.grid import expand, load_grid

    grid = tmp_path / "plugin.yaml"
    grid.write_text(GRID)

    def keys():
        return {cell.title: cell.key for cell in expand(load_grid(grid))}

    before = keys()
    module = installed / "straight_paths.py"
    module.write_text(module.read_text().replace("1e-3  #", "2e-3  #"))
    sys.modules.pop("straight_paths")
    after = keys()
    changed = {title for title in before if before[title] != after[title]}
    assert changed == {title for title in before if "straight" in title}
