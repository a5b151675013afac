"""The repository's own files agree with each other and with the program."""

import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

import harness
from harness.plan.grid_file import parsed

ROOT = Path(__file__).parent.parent


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere():
    [version, date] = re.search(
        r"^## (\d[\d.]*) - (\d{4}-\d\d-\d\d)$", read("CHANGELOG.md"), re.M
    ).groups()
    cited = parsed(read("CITATION.cff"), "CITATION.cff")
    assert version == harness.__version__ == cited["version"]
    assert date == str(cited["date-released"])


def test_the_workflow_asks_for_environments_that_there_are():
    workflow = parsed(read(".github/workflows/ci.yml"), "ci.yml")["jobs"]
    tox = ConfigParser()
    tox.read_string(read("tox.ini"))
    there = {each for name in tox.sections() for each in written_out(name.removeprefix("testenv:"))}
    matrix = workflow["environment"]["strategy"]["matrix"]["include"]
    asked = {one["environment"] for one in matrix}
    asked |= {name for job in workflow.values() for step in job["steps"]
              for name in re.findall(r"tox -e (\w+)", step.get("run", ""))}  # fmt: skip
    assert asked <= there


@pytest.mark.slow  # it loads torch
def test_tests_of_a_gpu_fail_where_there_is_none_if_one_is_needed():
    command = "-m pytest -q -m gpu --need-gpu --collect-only tests/engine/test_gpu.py"
    told = subprocess.run(
        [sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert told.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no CUDA device" in told.stderr


def written_out(name):
    """The environments that tox takes a name for: of `py3{11,12}` two."""
    before, brace, rest = name.partition("{")
    values, _, after = rest.partition("}")
    return [f"{before}{value}{after}" for value in values.split(",")] if brace else [name]


def test_hooks_use_the_versions_that_are_tested():
    hooks = parsed(read(".pre-commit-config.yaml"), ".pre-commit-config.yaml")["repos"][0]["hooks"]
    needed = {one for hook in hooks for one in hook.get("additional_dependencies", ())}
    assert needed <= {*read("constraints.txt").splitlines()}
