"""Text that is code to a terminal, a browser, a spreadsheet or Markdown, through every command."""

import csv
import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner
from hostile import TEXTS, mutated_grids, unprintable
from hypothesis import HealthCheck, given, settings
from situations import harness, images, last_report
from test_other_code import HELP, SCHEDULE

from harness.cli import main
from harness.errors import HarnessError
from harness.execute.interrupt import parse_duration

TYPED = [text for text in TEXTS if "\0" not in text] + ["x" * 5000, "\udc80", ""]  # as a shell can


def answer(*arguments):
    """What a command prints, whatever its status: never a traceback, never what a terminal obeys,
    and no message that fills more than a screen."""
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert not unprintable(result.output), arguments
    assert result.exit_code == 0 or len(result.output) < 5_000, arguments
    return result


def test_whatever_is_typed_has_an_answer(place):
    harness("run", "exact.yaml", "--store", place / "runs/store")
    here = ("--store", place / "runs/store")
    plan, sample = ("plan", "exact.yaml", *here), ("sample", *here, "--out", "s.png")
    for n, text in enumerate(TYPED):
        commands = [
            (*plan, text), (*plan, f"steps={text}"), (*plan, f"{text}=1"), (*plan, "--only", text),
            (*plan, "--redo", f"steps={text}"), (*plan, "--device", text), (*sample, "--", text),
            ("compare", *here, f"sampler={text}", f"{text}=1"), ("parts", "--", text),
            ("compare", *here, "steps=2", "steps=2", "--metric", text), ("report", "--", text),
            ("run", "exact.yaml", *here, "--time-limit", text or "x"), ("plan", "--", text),
            (*plan, f"data={{name: folder, path: {text!r}}}"),
        ]  # fmt: skip
        for command in commands[n % 3 :: 3]:
            answer(*command)


@pytest.mark.parametrize("text", [*TYPED, "9" * 400, "1h1h", "٣s", "-1s", "nan", "inf"])
def test_a_length_of_time_is_one_or_is_refused(text):
    if not re.search(r"^\d", text):
        with pytest.raises(HarnessError, match="Use 90s"):
            parse_duration(text)
    else:
        assert parse_duration(text) >= 0


def test_a_long_list_of_what_a_filter_may_mean_is_cut_and_says_what_differs(place):
    steps = [*range(2, 42)]
    harness("run", "exact.yaml", f"steps={steps}")
    told = harness("sample", "sampler=ddim", "--out", "s.png", status=1)
    assert "40 cells" in told
    assert "and 32 more" in told
    assert re.search(r"steps=2 or 3 or 4 .* and 32 more", told)
    assert "and 16 more" in harness("plan", "exact.yaml", f"steps={steps}", "--only", "steps=1",
                                    status=1)  # fmt: skip


@given(content=mutated_grids())
@settings(max_examples=30, deadline=None, derandomize=True, database=None,
          suppress_health_check=[*HealthCheck])  # fmt: skip
def test_the_plan_of_a_mutated_grid_is_an_answer(place, content):
    (place / "grid.yaml").write_bytes(content)
    result = answer("plan", "grid.yaml", "--store", place / "runs/store")
    assert result.exit_code in (0, 1)
    assert result.exit_code == 0 or result.stderr.startswith("Error: ")


def test_the_program_itself_ends_in_one_message(place):
    (place / "grid.yaml").write_text('name: t\n"\\e[2J\\u202e": 1\nsteps: [.nan]\n')
    done = subprocess.run(
        [sys.executable, "-m", "harness", "plan", "grid.yaml"], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, b"")
    told = done.stderr.decode()
    assert told.startswith("Error: grid.yaml is not a valid grid:")
    assert r"\x1b[2J\u202e: there is no such field" in told
    assert not unprintable(told)


@pytest.mark.parametrize(
    "name", ["<img src=x onerror=alert(1)>", "![x](x)", "a\u202eb\x1b[2J", "a%20b #?&{{x}}", "-rf"]
)
def test_a_folder_of_any_name_is_no_code_in_the_report(place, name):
    images(place / name)
    data = json.dumps({"name": "folder", "path": name, "image_size": 8, "grey": True})
    run = ("run", "network.yaml", f"data={data}", "--store", place / "runs/store")
    assert answer(*run).exit_code == 0
    html = (last_report(place, "case") / "report.html").read_text()
    assert "<img src=x" not in html
    assert html.count("<script") == 1
    text = (last_report(place, "case") / "report.md").read_text()
    assert not unprintable(text)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    assert "folder(" in prose
    assert "](x" not in prose.replace("\\](x", "")


def test_parts_of_any_name_are_no_code_in_the_report(place, package):
    names = ["<script>alert(1)<", "@SUM(1)", "![x](javascript:alert(1))", "a|b`c"]
    points = {("schedules", name): "caseplug:Straight" for name in names}
    package(points, caseplug=SCHEDULE, casehelp=HELP.format("10.0"))
    quoted = ", ".join(f"'{name}'" for name in names)
    harness("run", "exact.yaml", f"schedules=[{quoted}]")
    html = (last_report(place) / "report.html").read_text()
    assert html.count("<script") == 1
    assert "&lt;script" in html
    assert 'href="javascript' not in html
    rows = [*csv.DictReader((last_report(place) / "results.csv").open(newline=""))]
    assert {row["schedule"] for row in rows} == {*names, "'@SUM(1)"} - {"@SUM(1)"}
