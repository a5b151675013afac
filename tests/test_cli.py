"""The command line: its help, its refusals, and that refusing leaves nothing behind."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.parts import REGISTRIES


@pytest.fixture
def harness(tmp_path, monkeypatch, grid_file):
    """Runs the command line in a folder that holds one good grid, `small.yaml`."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, arguments)


def refused(result, message):
    assert result.exit_code in (1, 2), result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("command", main.commands.values(), ids=lambda command: command.name)
def test_every_command_has_help_with_an_example(command):
    assert "Example:" in command.help
    for parameter in command.params:
        assert parameter.param_type_name == "argument" or parameter.help, parameter.name


def test_help_waits_for_nothing():
    script = (
        "import sys, harness.cli; heavy = {'torch', 'mlflow', 'pandas', 'numpy', 'pydantic'};"
        "sys.exit(bool(heavy & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("option", ["-h", "--help", "--version"])
def test_help_and_version_answer(harness, option):
    result = harness(option)
    assert result.exit_code == 0
    assert "harness" in result.output


@pytest.mark.parametrize("command", ["run", "plan", "report"])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("samplers=[dimm]", "unknown sampler 'dimm'. Did you mean 'ddim'?"),
        ("steps=[]", "at least 1 item"),
        ("stepz=[4]", "there is no such field. Did you mean 'steps'?"),
        ("training.steps", "not of the form field=value"),
    ],
)
def test_a_bad_grid_is_refused_and_nothing_is_written(harness, tmp_path, command, line, message):
    refused(harness(command, "small.yaml", line), message)
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "sampler=dimm"], "no cell of the grid matches"),
        (["--only", "smapler=ddim"], "Did you mean 'sampler'?"),
        (["--only", "nonsense"], "not of the form"),
        (["--redo", "steps=99"], "no cell of the grid matches"),
        (["--device", "tpuu"], "device 'tpuu' cannot be used here"),
        (["--store", "small.yaml"], "small.yaml is not a folder"),
        (["--store", "small.yaml/below"], "small.yaml is not a folder"),
        (["--tracking-uri", "ftp://nowhere"], "ftp://nowhere cannot be used"),
        (["data={name: folder, path: none}"], "'none' does not exist"),
        (["data={name: folder, path: small.yaml}"], "small.yaml"),
        (["extractor={name: inception, layer: 7}"], "layer must be one of 64, 192, 768, 2048"),
        (["model={name: tiny, widths: [8, 8, 8, 8, 8]}"], "halve the image 4 times"),
        (["model={name: tiny, widths: [7]}"], "multiples of 8"),
    ],
)
def test_what_a_run_cannot_have_is_refused_before_any_work(
    harness, tmp_path, command, arguments, message
):
    refused(harness(command, "small.yaml", *arguments), message)
    assert not list(tmp_path.glob("**/models"))
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_a_missing_file_and_an_odd_time_limit_are_refused(harness):
    refused(harness("run", "none.yaml"), "No such file")
    refused(harness("run", "small.yaml", "--time-limit", "soon"), "no length of time")


def test_a_broken_archive_is_named(harness, tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and then nothing")
    refused(harness("plan", "small.yaml", "data={name: folder, path: broken.zip}"), "broken.zip")


def test_commands_on_an_empty_store_say_what_to_do(harness, tmp_path):
    refused(harness("report", "small.yaml"), "run the grid first")
    refused(harness("ui"), "run a grid first")
    refused(harness("sample", "abc", "--out", "x.png"), "run a grid first")
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_a_plan_says_what_is_to_do_and_writes_nothing(harness, tmp_path):
    result = harness("plan", "small.yaml")
    assert result.exit_code == 0, result.output
    assert result.output.startswith(
        "small: 2 trainings, 8 cells; 2 to train, 8 to sample and score."
    )
    assert "probe of this machine" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_a_plan_for_programs_is_json(harness):
    planned = json.loads(harness("plan", "small.yaml", "--json", "--only", "steps=2").output)
    assert len(planned["cells"]) == 4
    assert {cell["state"] for cell in planned["cells"]} == {"to do"}
    assert planned["forecast"]["network_evaluations"] == 4 * 80 * 2


def test_a_plan_warns_of_sampling_that_does_not_start_from_noise(harness):
    result = harness("plan", "small.yaml", "schedules=[cosine_discrete]", "spacing=[quadratic]")
    assert "not from pure noise" in result.output
    assert "not from pure noise" not in harness("plan", "small.yaml").output


def test_the_schema_knows_every_field(harness):
    schema = json.loads(harness("schema").output)
    assert {"name", "data", "schedules", "samplers", "training"} <= schema["properties"].keys()
    assert schema["additionalProperties"] is False
    assert "ddim" in json.dumps(schema["properties"]["samplers"])


def test_every_part_is_listed_with_its_description(harness):
    text = harness("parts").output
    parts = json.loads(harness("parts", "--json").output)
    for registry in REGISTRIES:
        assert f"{registry.kind}s" in text
        for name in registry:
            [part] = [p for p in parts if (p["kind"], p["name"]) == (registry.kind, name)]
            assert part["description"], name
            assert part["origin"] == "built in"
