"""The command line: its help, its refusals, and that refusing leaves nothing behind."""

import errno
import io
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import made
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from harness.cli import main
from harness.cli.group import home_of_a_stranger
from harness.execute.progress import Progress
from harness.execute.screen import Screen, Unbroken
from harness.parts import REGISTRIES, every_part, registries
from harness.plan.grid import Grid, expand, load_grid
from harness.plan.preflight import identified
from harness.registry import plural
from harness.store import LAYOUT, write_json
from harness.work.options import Workplace

COMMANDS = main.commands.values()


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
    assert len(result.output) < 1000, "an error is a few lines"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
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


@pytest.mark.parametrize("arguments", [["none.yaml"], ["small.yaml", "samplers=[dimm]"]], ids=str)
def test_a_wrong_grid_waits_for_nothing(harness, arguments):
    script = (
        "import sys; from harness.cli import main\n"
        "try: main()\n"
        "finally: print({'torch', 'scipy', 'mlflow', 'pandas', 'sklearn'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", script, "plan", *arguments]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (1, "set()\n")
    assert told.stderr.startswith("Error: ")


@pytest.mark.parametrize("option", ["-h", "--help", "--version"])
def test_help_and_version_answer(harness, option):
    result = harness(option)
    assert result.exit_code == 0
    assert "harness" in result.output


@pytest.mark.parametrize("command", ["run", "plan", "report"])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("samplers=[dimm]", "there is no sampler 'dimm'. Did you mean 'ddim'?"),
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
    refused(harness("report", "small.yaml"), "Use `harness run`")
    refused(harness("ui"), "Use `harness run`")
    refused(harness("sample", "abc", "--out", "x.png"), "Use `harness run`")
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_a_plan_says_what_is_to_do_and_writes_nothing(harness, tmp_path):
    result = harness("plan", "small.yaml")
    assert result.exit_code == 0, result.output
    assert result.output.startswith(
        "small: 2 trainings, 8 cells; 2 to train, 8 to sample and score, and 2 once more"
    )
    assert "probe of this machine" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_a_plan_for_programs_is_json(harness):
    planned = json.loads(harness("plan", "small.yaml", "--json", "--only", "steps=2").output)
    assert len(planned["cells"]) == 4
    assert {cell["state"] for cell in planned["cells"]} == {"to do"}
    assert planned["forecast"]["network_evaluations"] == 4 * 80 * (3 * 2 + 1)


def test_a_plan_warns_of_sampling_that_does_not_start_from_noise(harness):
    result = harness("plan", "small.yaml", "schedules=[cosine_discrete]", "spacing=[quadratic]")
    assert "not from pure noise" in result.output
    assert "not from pure noise" not in harness("plan", "small.yaml").output


def test_the_schema_knows_every_field(harness):
    schema = json.loads(harness("schema").output)
    assert {"name", "data", "schedules", "samplers", "training"} <= schema["properties"].keys()
    assert schema["additionalProperties"] is False
    assert "ddim" in json.dumps(schema["properties"]["samplers"])


def test_every_description_is_a_whole_sentence_of_one_line():
    for part in every_part():
        if part.kind not in ("target", "metric", "loss"):  # records describe themselves in words
            assert part.description.endswith((".", "?")), part
        assert 0 < len(part.description) < 100


def test_every_part_is_listed_with_its_description(harness):
    text = harness("parts").output
    parts = json.loads(harness("parts", "--json").output)["parts"]
    for registry in registries():
        assert plural(registry.kind) in text
        for name in registry:
            [part] = [p for p in parts if (p["kind"], p["name"]) == (registry.kind, name)]
            assert part["description"], name
            assert part["origin"] == "built in"


# Help.


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_both_ways_of_asking_for_help_show_how_to_use_a_command(harness, command):
    short, long = harness(command.name, "-h"), harness(command.name, "--help")
    assert short.exit_code == long.exit_code == 0
    assert short.output == long.output
    assert f"harness {command.name}" in short.output


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_defaults_are_shown(command):
    for parameter in command.params:
        if isinstance(parameter.default, str | int | Path) and not parameter.is_flag:
            assert parameter.show_default, f"--{parameter.name}"


def test_help_answers_at_once():
    command = [sys.executable, "-c", "from harness.cli import main; main()", "--help"]
    fastest = float("inf")
    for _ in range(10):  # a busy machine may be slow a few times
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        fastest = min(fastest, time.monotonic() - began)
        if fastest < 0.4:
            return
    raise AssertionError(f"--help took {fastest:.2f} s at best")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runn"], "No such command 'runn'"),
        (["plan"], "Missing argument 'GRID'"),
        (["run", "small.yaml", "--devise", "cpu"], "No such option '--devise'"),
        (["sample", "abc"], "Missing option '--out'"),
        (["sample", "abc", "--out", "x.png", "-n", "0"], "not in the range"),
        (["sample", "abc", "--out", "x.png", "--seed", "-1"], "not in the range"),
        (["ui", "--port", "0"], "not in the range"),
        (["ui", "--port", "http"], "not a valid integer"),
    ],
    ids=str,
)
def test_a_slip_of_the_pen_is_pointed_out(harness, arguments, message):
    result = harness(*arguments)
    refused(result, message)
    assert result.exit_code == 2


# Refusals.

BAD_FILES = {
    "empty": (b"", "field: value"),
    "binary": (bytes(range(256)), "not text"),
    "list": (b"- a\n", "field: value"),
    "open bracket": (b"name: [t\n", "line 2"),
    "tab": (b"name: t\n\tdata: digits\n", "line 2"),
    "alias": (b"name: &a t\ndata: *a\n", "aliases"),
    "twice": (b"name: t\nname: u\n", "'name' is given twice"),
    "deep": (b"name: " + b"[" * 3000, "bad.yaml"),
    "tag": (b"name: !!timestamp soon\n", "bad.yaml"),
    "large": (b"#" * 1_100_000, "larger than"),
}


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_is_no_grid_is_refused_and_nothing_is_written(harness, tmp_path, command, case):
    content, message = BAD_FILES[case]
    (tmp_path / "bad.yaml").write_bytes(content)
    result = harness(command, "bad.yaml")
    refused(result, message)
    assert result.output.startswith("Error: ")
    assert {path.name for path in tmp_path.iterdir()} == {"small.yaml", "bad.yaml"}


@pytest.mark.parametrize("option", ["--only", "--redo"])
@pytest.mark.parametrize("text", ["", ",", "=", "steps", "steps=", "=5", "steps=2,steps=3"])
def test_a_filter_that_says_nothing_is_refused(harness, option, text):
    refused(harness("plan", "small.yaml", option, text), "filter")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at-most", "1h"], "--at-most limits --until"),
        (["--max-seeds", "5"], "--max-seeds limits --until"),
        (["--max-images", "500"], "--max-images limits --until"),
        (["--until", "decided", "--only", "steps=2"], "--only and --until cannot both"),
        (["--until", "decided", "--redo", "steps=2"], "--redo and --until cannot both"),
        (["--until", "decided", "--retime"], "--retime and --until cannot both"),
        (["--until", "decided", "--at-most", "soon"], "no length of time"),
        (["--until", "decided", "--max-seeds", "1"], "not in the range"),
        (["--until", "tired"], "is not 'decided'"),
    ],
)
def test_looks_and_their_limits_go_together_and_with_whole_grids_alone(
    harness, tmp_path, arguments, message
):
    refused(harness("run", "small.yaml", *arguments), message)
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


@pytest.mark.parametrize("limit", ["", "soon", "-5", "5x", "1h30", "1e3", "nan", "inf", "9 m"])
def test_a_time_limit_that_is_no_time_is_refused(harness, limit):
    refused(
        harness("run", "small.yaml", "--time-limit", limit, "--device", "none"), "no length of time"
    )


@pytest.mark.filterwarnings("ignore:.*mkldnn")
@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("device", ["", "cpu:", "meta", "mps:7", "hpu", "vulkan", "mkldnn"])
def test_a_device_that_is_not_there_is_refused_briefly(harness, tmp_path, command, device):
    refused(harness(command, "small.yaml", "--device", device), f"device '{device}' cannot be used")
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 and then nothing", b"no zip at all", None], ids=str
)
def test_an_archive_that_cannot_be_read_leaves_nothing_behind(harness, tmp_path, command, content):
    if content is not None:
        (tmp_path / "broken.zip").write_bytes(content)
    before = {*tmp_path.rglob("*")}
    result = harness(command, "small.yaml", "data={name: folder, path: broken.zip}")
    refused(result, "broken.zip")
    assert {*tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("data=flowers102", "flowers102-64.zip"),
        ("data=mnist", "mnist.zip"),
        ("extractor=inception", "weights-inception-2015-12-05-6726825d.pth"),
    ],
)
def test_without_a_network_the_file_and_its_place_are_named(
    harness, tmp_path, monkeypatch, field, message
):
    def no_network(*_arguments, **_options):
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    result = harness("run", "small.yaml", field, "--data-dir", "data")
    refused(result, message)
    assert "into data" in result.output
    assert {path.name for path in tmp_path.rglob("*")} == {"small.yaml", "data"}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that refuses even root")
def test_a_store_that_turns_out_not_to_be_writable_is_refused(harness):
    refused(harness("run", "small.yaml", "--store", "/proc/harness/store"), "/proc/harness/store")


def test_a_store_whose_name_is_not_text_is_refused(harness):
    refused(harness("report", "small.yaml", "--store", "\udcff"), "Error: ")


@pytest.mark.parametrize("content", ["", "{}", "[]", "5", '{"cell": {}}'])
@pytest.mark.parametrize("command", ["plan", "sample", "compare"])
def test_a_result_that_something_else_wrote_is_told_by_name(harness, tmp_path, command, content):
    at = Workplace(tmp_path / "runs" / "store", tmp_path / "data")
    key = identified(expand(load_grid("small.yaml")), at)[0].key
    file = at.store / "cells" / key / "result.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    write_json(at.store / "store.json", {"layout": LAYOUT})
    arguments = {"plan": ["small.yaml"], "sample": [key, "--out", "x.png"], "compare": [key, key]}
    told = harness(command, *arguments[command])
    if command == "plan":  # a run sets it aside
        assert told.exit_code == 0
        assert f"{key}/result.json is damaged" in told.output
    else:
        refused(told, f"{key}/result.json")


@pytest.mark.parametrize("place", ["small.yaml", "small.yaml/below"])
def test_a_report_that_could_not_be_written_is_refused_before_the_work(harness, place):
    refused(harness("plan", "small.yaml", "--report-dir", place), place)


@pytest.fixture
def sampled(harness, monkeypatch):
    """Runs `harness sample` on a finished cell, whose images are black."""
    cell = expand(load_grid("small.yaml"))[0]
    drawn = SimpleNamespace(images=np.zeros((2, 1, 8, 8), np.uint8))
    monkeypatch.setattr("harness.stored.finished", lambda store: [made.result(cell)])
    monkeypatch.setattr("harness.engine.denoisers.denoiser_of", lambda *_: None)
    monkeypatch.setattr("harness.engine.sample.sample", lambda *_, **__: drawn)
    return lambda *arguments: harness("sample", cell.key, "--device", "cpu", *arguments)


@pytest.mark.parametrize("out", ["small.yaml/sheet.png", "small.yaml/folder", "small.yaml"])
def test_images_that_cannot_be_written_are_refused(sampled, out):
    refused(sampled("--out", out), "small.yaml")


def test_a_sheet_has_the_format_of_its_suffix_and_a_name_without_one_is_a_folder(sampled, tmp_path):
    for name in ("x.png", "x.JPEG", "x.webp"):
        assert sampled("--out", name).exit_code == 0
        assert Image.open(tmp_path / name).format == Path(name).suffix[1:].upper()
    assert sampled("--out", "images").exit_code == 0
    assert len([*(tmp_path / "images").iterdir()]) == 2
    refused(sampled("--out", "x.tiff"), "ends in .png")


# Tracking stores.


@pytest.mark.parametrize("command", ["run", "plan", "report"])
@pytest.mark.parametrize(
    "uri",
    [
        "nonsense",
        "ftp://nowhere",
        "sqlite:nothing",
        "sqlite://two/slashes.db",
        "http://[half",
        "sqlite:///broken.db",
        "sqlite:///folder",
    ],
)
def test_a_tracking_store_that_cannot_be_used_is_refused(
    harness, tmp_path, monkeypatch, command, uri
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.db").write_text("no database, but as long as one might be. " * 100)
    before = {*tmp_path.rglob("*")}
    if uri == "sqlite:///folder":  # MLflow would try for minutes

        def refuse(*_arguments):
            raise AssertionError("MLflow was asked")

        monkeypatch.setattr("harness.tracking.client.MlflowClient", refuse)
    result = harness(command, "small.yaml", "--tracking-uri", uri)
    refused(result, uri)
    assert "MLflow was asked" not in result.output
    assert {*tmp_path.rglob("*")} == before


def test_a_server_that_does_not_answer_is_named_soon(harness, monkeypatch):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    with socket.socket() as probe:  # a port that nobody listens at once this is closed
        probe.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{probe.getsockname()[1]}"
    told = harness("plan", "small.yaml", "--tracking-uri", server)
    assert told.exit_code == 0
    assert f"{server} does not answer" in told.output
    refused(harness("report", "small.yaml", "--tracking-uri", server), server)
    assert sum(waited) < 20


def test_a_password_is_not_shown(harness, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between tries to reach it
    result = harness("report", "small.yaml", "--tracking-uri", "postgresql://me:secret@nowhere/db")
    refused(result, "postgresql://me:***@nowhere/db")


@pytest.mark.parametrize("content", [b"", None], ids=["an empty file", "someone else's database"])
def test_a_plan_does_not_change_a_database(harness, tmp_path, content):
    file = tmp_path / "other.db"
    if content is None:
        connection = sqlite3.connect(file)
        connection.execute("create table cows (name text)")
        connection.commit()
        connection.close()
    else:
        file.write_bytes(content)
    before = file.read_bytes()
    harness("plan", "small.yaml", "--tracking-uri", f"sqlite:///{file}")
    assert file.read_bytes() == before


def test_the_ui_says_when_its_port_is_taken(harness, store_folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused(harness("ui", "--store", str(store_folder), "--port", port), "Use another --port")


def test_the_ui_is_announced_only_where_it_will_come_up(harness):
    assert "http://" not in harness("ui").output


# For programs.


def test_every_reference_of_the_schema_leads_somewhere(harness):
    schema = json.loads(harness("schema").output)

    def references(value):
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"]
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from references(item)

    assert schema["properties"].keys() == Grid.model_fields.keys()
    assert {"name", "data", "schedules", "samplers", "steps", "extractor"} == {*schema["required"]}
    for reference in references(schema):
        place = schema
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place["type"] == "object"


def test_every_field_of_the_schema_is_described(harness):
    for name, field in json.loads(harness("schema").output)["properties"].items():
        assert field.get("description") or "$ref" in field, name


def test_the_schema_names_every_part_that_can_be_written(harness):
    text = json.loads(harness("schema").output)
    for registry in REGISTRIES:
        for name in registry:
            assert f'"{name}"' in json.dumps(text), f"{registry.kind} {name}"


def test_a_plan_downloads_nothing_and_says_what_a_run_would(harness, tmp_path):
    arguments = ["data=flowers102", "extractor={name: inception, layer: 768}"]
    result = harness("plan", "small.yaml", *arguments, "--data-dir", "data")
    assert result.exit_code == 0, result.output
    assert "would be downloaded into data first" in result.output
    assert not (tmp_path / "data").exists()


class Refusing(io.StringIO):
    """A terminal that is gone, or a file on a full disk."""

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_work_goes_on_where_its_progress_cannot_be_shown():
    stream = Unbroken(Refusing())
    with Screen(Console(file=stream, force_terminal=True)) as screen:
        screen.stage("cell", {"cell": 2})
        screen.update("linear", Progress(1, 2, {"loss": 1.0}))
        screen.finish("linear", "kid 0.1", "cell")
        screen.say("done")


def test_what_cannot_be_printed_is_one_line(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("harness.parts.as_text", refuse)
    result = CliRunner().invoke(main, ["parts"])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "No space left" in result.output


def test_any_name_is_shown_where_only_ascii_is(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LANG": "C"}
    script = (
        "from harness.cli import arguments, group; group.settle();"
        "arguments.screen(False).say('Report: \\u00e4'); print('caf\\u00e9')"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.splitlines() == [r"Report: \xe4", r"caf\xe9"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("harness sta", "status"),
        ("harness parts ddi", "ddim"),
        ("harness run x.yaml samp", "samplers="),
    ],
)
def test_a_shell_completes_commands_parts_and_fields(words, found):
    environment = {"_HARNESS_COMPLETE": "bash_complete", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split()) - 1)
    told = CliRunner().invoke(main, [], env=environment, prog_name="harness")
    assert f"plain,{found}" in told.output.split()


def test_the_home_of_a_user_without_one_is_nobody_elses(tmp_path):
    wanted = tmp_path / "harness-0"
    assert home_of_a_stranger(wanted) == wanted
    assert wanted.stat().st_mode & 0o777 == 0o700
    wanted.chmod(0o777)  # as if another had made it
    other = home_of_a_stranger(wanted)
    assert other != wanted
    assert other.stat().st_mode & 0o777 == 0o700
