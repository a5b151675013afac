"""A package of another author adds a schedule, a sampler, a metric, a finding and a figure: one
record and one line each, and no code here changes."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.contracts import failures
from harness.contracts.check import Bench, Check
from harness.contracts.verify import CONTRACTS, of_part
from harness.lazy import torch
from harness.work.cells import Part

PACKAGE = Path(__file__).parent.parent / "docs" / "example-package"
ADDED = [("schedule", "straight"), ("sampler", "straight_euler"), ("metric", "mean_shift")]
GRID = (PACKAGE / "straight.yaml").read_text()
BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The package, built as an installer does from a copy of its folder."""
    if find_spec("setuptools") is None:  # not imported here, where it takes the place of distutils
        pytest.skip("setuptools is not installed")
    copy, out = tmp_path_factory.mktemp("copy") / "package", tmp_path_factory.mktemp("wheel")
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    subprocess.run([sys.executable, "-c", BUILD, out], cwd=copy, check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.fixture
def installed(wheel, tmp_path, monkeypatch):
    """Installs the package into a folder of this test."""
    site = tmp_path / "site"
    with ZipFile(wheel) as archive:
        archive.extractall(site)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    yield site
    sys.modules.pop("straight_paths", None)


def harness(*arguments):
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    # Beside JSON a busy machine tells its progress, on standard error.
    return result.stdout if "--json" in arguments else result.output


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
    grid, reports = tmp_path / "straight.yaml", tmp_path / "reports"
    grid.write_text(GRID)
    places = ["--store", store_folder, "--report-dir", reports]
    harness("run", grid, *places)
    text = (reports / "report.md").read_text()
    assert "Which configuration shifts the mean least?" in text
    assert "![The mean shift by the number of steps.](figures/shift_by_steps.png)" in text
    assert "log SNR = 2 log((1 - u) / u)" in text
    table = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    column = next(row for row in table if "Mean shift" in row).index("Mean shift")
    rows = [row for row in table if "straight_euler" in row and "4" in row]
    assert rows
    assert all(float(row[column]) > 0 for row in rows)
    assert "Nothing to do" in harness("run", grid, *places)


def test_its_figure_is_none_where_the_grid_does_not_ask_for_its_metric(installed):
    import straight_paths

    class Study:
        def configurations(self, metric):
            return []

    assert straight_paths.shift_by_steps(Study()) is None


def test_a_schedule_that_rises_is_refused_with_where_it_does(installed):
    module = installed / "straight_paths.py"
    module.write_text(module.read_text().replace("(1 - u) / u)).to", "u / (1 - u))).to"))
    [told] = failures([("schedule", Part("straight"))])
    assert "log SNR falls" in told
    assert "1,000 of 1,000 table entries" in told


def test_a_sampler_of_nonsense_is_refused_before_the_work(installed, store_folder, tmp_path):
    module = installed / "straight_paths.py"
    module.write_text(module.read_text().replace("z + (v - u)", "z - (v - u)"))
    grid = tmp_path / "straight.yaml"
    grid.write_text(GRID)
    places = ["--store", str(store_folder), "--report-dir", str(tmp_path / "reports")]
    result = CliRunner().invoke(main, ["run", str(grid), *places])
    assert result.exit_code == 1
    assert "sampler 'straight_euler' of straight-paths does not keep its contract" in result.output
    assert not [*store_folder.glob("cells/*")]


def test_a_part_that_changed_is_other_work(installed, store_folder, tmp_path):
    from harness.plan.grid import expand, load_grid

    grid = tmp_path / "straight.yaml"
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
