"""What programs read: one JSON object on standard output, of the type that is documented."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.bench.timing import BenchReport, Part, Ratio
from harness.cli import main
from harness.contracts.verify import CONTRACTS
from harness.work.outputs import OUTPUTS, adapter_of, schema_of

WITH_JSON = {
    command.name
    for command in main.commands.values()
    if any(parameter.name == "as_json" for parameter in command.params)
}
PART = Part("a", {"a": Ratio("a / b", 1.0)}, {"s": 2.0}, {"b": 0.1}, {"seconds": 1, "trouble": ""})
MEASURED = BenchReport({"name": "CPU", "batch": 3}, [PART])
AT = ["--store", "store", "--device", "cpu"]
FEW = ["samplers=[ddpm,ddim]", "schedules=[cosine]", "steps=[2]", "images=40", "training.steps=4"]
ONE = "schedule=cosine,sampler=ddim"
ALL = {
    "plan": ["small.yaml", *FEW, *AT],
    "data": ["digits"],
    "new": ["begun", *AT],
    "report": ["small.yaml", *FEW, *AT[:2]],
    "status": ["--verify", *AT[:2]],
    "clean": ["--dry-run", *AT[:2]],
    "compare": ["sampler=ddim", "sampler=ddpm", *AT[:2]],
    "sample": [ONE, "--out", "x.jpg", "-n", "2", *AT],
    "export": [ONE, "--out", "exported", *AT[:2]],
    "parts": [],
    "doctor": AT,
    "verify": ["--precision", "float32"],
    "bench": AT,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_grid, database):
    """A folder with a grid, of which a run is finished, and what that run printed."""
    folder = tmp_path_factory.mktemp("outputs")
    (folder / "small.yaml").write_text(small_grid)
    (folder / "store").mkdir()
    shutil.copy(database, folder / "store" / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        told = CliRunner().invoke(main, ["run", "small.yaml", *FEW, *AT, "--json", "--quiet"])
    (folder / "told.json").write_text(told.stdout)
    assert told.exit_code == 0, told.output
    assert told.stderr == ""
    return folder


def test_every_command_for_programs_documents_what_it_prints():
    assert OUTPUTS.keys() - {"error"} == WITH_JSON == ALL.keys() | {"run"}
    for command in OUTPUTS:
        told = CliRunner().invoke(main, ["schema", "--of", command]).stdout
        assert json.loads(told) == schema_of(command)
        assert schema_of(command)["description"]


def test_a_run_prints_the_object_that_is_documented(folder):
    told = adapter_of("run").validate_json((folder / "told.json").read_bytes(), strict=True)
    assert (told["finished"], told["failed"], told["status"]) == (2, [], 0)
    assert (folder / told["report"]).exists()


@pytest.mark.parametrize("command", ALL)
def test_commands_print_the_object_that_is_documented(folder, monkeypatch, command):
    few = {kind: CONTRACTS[kind] for kind in ("loss", "extractor")}
    monkeypatch.setattr("harness.contracts.verify.CONTRACTS", few)
    monkeypatch.setattr("harness.bench.bench_here", lambda *_: MEASURED)
    monkeypatch.setattr("harness.doctor.CHECKS", [])
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(main, [command, *ALL[command], "--json"])
    assert result.exit_code == 0, result.output
    adapter_of(command).validate_json(result.stdout, strict=True)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["run", "none.yaml"], 1),
        (["plan", "none.yaml", "--josn"], 2),
        (["compare", "a"], 2),
        (["status", "--store", "none"], 1),
        (["parts", "ddimm"], 1),
        (["sample", "abc", "--out", "x.png"], 1),
    ],
    ids=str,
)
def test_an_error_is_one_object_too_and_a_line_for_people(tmp_path, monkeypatch, arguments, status):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, [*arguments, "--json"])
    told = adapter_of("error").validate_json(result.stdout, strict=True)
    assert told["status"] == result.exit_code == status
    assert told["error"] in " ".join(result.stderr.split())
    assert not [*Path().iterdir()]
