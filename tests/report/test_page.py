"""The pages: the same bytes, nothing from outside, nothing unescaped, whatever is missing."""

import base64
import csv
import hashlib
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

import made
import numpy as np
import pandas as pd
import pytest
from experiments import part, with_metric
from hostile import TEXTS, unprintable
from studies import exactly

from harness.analysis.questions import questions
from harness.analysis.study import studies
from harness.errors import HarnessError
from harness.report import contents, page
from harness.work.cells import Part
from harness.work.results import Artifacts, FailedWork, LossPoint, Run

GOLDEN = Path(__file__).parent / "golden" / "report.md"
ATTRIBUTES = {
    "alt", "aria-label", "charset", "class", "colspan", "content", "data-run", "data-runs",
    "data-title", "data-value", "href", "http-equiv", "id", "lang", "name", "open", "rel", "role",
    "scope", "src", "tabindex", "title",
}  # fmt: skip
OF_DRAWINGS = {
    "class", "cx", "cy", "d", "fill", "height", "opacity", "r", "role", "stroke", "stroke-width",
    "viewbox", "width",
}  # fmt: skip
DRAWN = {"svg", "path", "circle", "title"}
MOVING = "a", "figures/film.webp"  # the one file beside the page that it leads to
INVISIBLE = "\N{ZERO WIDTH SPACE}"  # that the page itself puts between words
STANDING = {"decisions", "findings"}  # the sections that are open when the page is


class Tags(HTMLParser):
    """All tags of a page with their attributes, and whether they close."""

    VOID = frozenset({"meta", "img", "br", "hr", "link", "input", "wbr"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.broken, self.scripts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.broken.append(tag)


@pytest.fixture
def without_figures(monkeypatch):
    """For tests of words alone: figures are most of the time."""
    monkeypatch.setattr(contents, "_pictures", lambda study: ([], []))


def bytes_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def without_fingerprint(text):
    return re.sub(r"<!-- made from \w+ -->", "<!-- made from ... -->", text)


def test_the_page_reads_as_it_should(written):
    """The words of the whole page. `HARNESS_GOLDEN=write pytest tests/report/test_page.py` writes
    them anew, to be read in the difference that git shows."""
    text = without_fingerprint((written / "report.md").read_text())
    if os.environ.get("HARNESS_GOLDEN") == "write":
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_equal_experiments_give_the_same_bytes_in_whatever_order_they_come(
    results, written, tmp_path
):
    shuffled = replace(
        results,
        cells=results.cells[::-1],
        trainings=results.trainings[::-1],
        runs=dict(reversed(results.runs.items())),
    )
    page.write(shuffled, tmp_path)
    assert bytes_of(tmp_path) == bytes_of(written)


def test_what_is_written_is_what_is_returned_and_the_page_comes_last(
    results, tmp_path, without_figures
):
    files = page.write(results, tmp_path / "new" / "folder")
    assert files[-1].name == "report.md"
    assert {path.relative_to(tmp_path / "new/folder").as_posix() for path in files} == set(
        bytes_of(tmp_path / "new/folder")
    )


def test_a_report_is_current_until_its_results_change_or_a_file_is_gone(results, written, tmp_path):
    assert not page.is_current(results, tmp_path)
    assert page.is_current(results, written)
    assert not page.is_current(replace(results, commit="def5678"), written)
    for name in ("figures/losses.png", "results.csv", "results.parquet", "report.html"):
        data = (written / name).read_bytes()
        (written / name).unlink()
        assert not page.is_current(results, written)
        (written / name).write_bytes(data)
    assert page.is_current(results, written)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: replace(r, name="other"),
        lambda r: replace(r, grid_text=r.grid_text + " "),
        lambda r: replace(r, expected_cells=r.expected_cells + 1),
        lambda r: replace(r, versions={**r.versions, "torch": "2.14.0"}),
        lambda r: replace(r, ui_url="http://127.0.0.1:5000"),
        lambda r: replace(r, runs={}),
        lambda r: replace(r, failures=(FailedWork("cell", "k", "cosine", "why"),)),
        lambda r: replace(
            r, cells=(with_metric(r.cells[0], "kid", value=0.1 + 1e-12), *r.cells[1:])
        ),
        lambda r: replace(
            r, cells=(replace(r.cells[0], artifacts=Artifacts.of({"samples.png": b"another"})),
                      *r.cells[1:])),
        lambda r: replace(
            r, trainings=(replace(r.trainings[0], loss_curve=(LossPoint(1, 0.5),)),
                          *r.trainings[1:])),
    ],
)  # fmt: skip
def test_the_fingerprint_changes_with_every_input(results, change):
    assert page.fingerprint(change(results)) != page.fingerprint(results)


def test_the_fingerprint_needs_no_file_of_the_results(results):
    elsewhere = replace(results, cells=tuple(
        replace(one, artifacts=replace(one.artifacts, read_from=None)) for one in results.cells
    ))  # fmt: skip
    assert page.fingerprint(elsewhere) == page.fingerprint(results)


def test_the_tables_beside_the_page_hold_every_cell(results, written):
    parquet = pd.read_parquet(written / "results.parquet")
    assert len(parquet) == len(results.cells)
    assert pd.api.types.is_integer_dtype(parquet["steps"])
    csv = pd.read_csv(written / "results.csv")
    assert [*parquet.columns] == [*csv.columns]
    assert [*parquet["key"]] == [*csv["key"]]
    np.testing.assert_allclose(parquet["kid"], csv["kid"], rtol=1e-12)
    measured = {one.cell.key: one.measurements["kid"].value for one in results.cells}
    assert dict(zip(parquet["key"], parquet["kid"], strict=True)) == measured


def test_the_page_loads_nothing_from_outside(written):
    html = (written / "report.html").read_text()
    for tag, attributes in Tags(html).tags:
        assert tag not in {"iframe", "object", "embed", "base", "form"}
        if tag == "script":
            assert not attributes
        for name in ("src", "href", "srcset", "data", "poster"):
            own = ("#", "data:image/", "data:,")
            assert attributes.get(name, "#").startswith(own) or (tag, attributes[name]) == MOVING
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(", html)


def test_the_page_forbids_a_browser_to_load_anything_or_to_run_what_is_not_its_own(written):
    tags = Tags((written / "report.html").read_text())
    policies = [a["content"] for tag, a in tags.tags if "http-equiv" in a]
    assert len(policies) == len(tags.scripts) == 1
    rules = dict(rule.split(maxsplit=1) for rule in policies[0].split(";"))
    digest = base64.b64encode(hashlib.sha256(tags.scripts[0].encode()).digest()).decode()
    assert rules == {
        "default-src": "'none'", "img-src": "data:", "style-src": "'unsafe-inline'",
        "script-src": f"'sha256-{digest}'", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip


def test_the_page_is_whole_and_can_be_used_without_eyes(written):
    tags = Tags((written / "report.html").read_text())
    assert (tags.open, tags.broken) == ([], [])
    images = [attributes for tag, attributes in tags.tags if tag == "img"]
    figures = {path.stem for path in (written / "figures").glob("*.png")}
    assert {"quality_by_steps", "samples"} <= figures
    assert len([image for image in images if image["class"] != "samples"]) == len(figures)
    assert all(len(image["alt"]) > 20 for image in images)
    names = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
    assert len(names) == len(set(names))
    links = {attributes["href"] for tag, attributes in tags.tags if tag == "a"}
    assert links - {MOVING[1]} <= {f"#{name}" for name in names}
    assert sum(tag == "table" for tag, _ in tags.tags) == sum(
        tag == "thead" for tag, _ in tags.tags
    )


def test_both_pages_say_the_same(written):
    """Each paragraph of the Markdown stands in the HTML too, but for what leads to other files."""

    def letters(text):
        return re.sub(r"[\W_]", "", unescape(text))

    html = letters(re.sub(r"<[^>]+>", "", (written / "report.html").read_text()))
    prose = re.sub(r"^```.*?^```$", "", (written / "report.md").read_text(), flags=re.M | re.S)
    prose = re.sub(r"^More findings:$|^What to run next:$|<!--.*-->", "", prose, flags=re.M)
    paragraphs = re.split(r"\n\n|^- ", re.sub(r"!\[.*\)", "", prose), flags=re.M)
    own = [p for p in paragraphs if "](" not in p and not p.startswith("|")]
    assert len(own) > 40
    assert [p for p in own if letters(p) not in html] == []


def test_the_markdown_links_to_its_figures_and_its_tables_are_even(written):
    text = (written / "report.md").read_text()
    figures = re.findall(r"!\[[^\]]+\]\((figures/[^)]+)\)", text)
    assert sorted(figures) == sorted(
        path.relative_to(written).as_posix() for path in written.glob("figures/*.png")
    )
    moving = re.findall(r"(?<!!)\[[^\]]+\]\((figures/[^)]+)\)", text)
    assert moving == [MOVING[1]]
    assert (written / MOVING[1]).exists()
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.M)
    assert len(tables) > 5
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1


def test_names_from_users_are_escaped(build, tmp_path):
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>\n\n![x](http://x)<!--0-->'
    results = build(
        name=evil, schedules=(evil, "a|b](http://x)"), samplers=("ddim", "ddpm"), steps=(5, 10)
    )

    def elsewhere(one):
        return replace(one, provenance=replace(one.provenance, machine=evil))

    results = replace(
        results,
        cells=tuple(map(elsewhere, results.cells)),
        trainings=tuple(map(elsewhere, results.trainings)),
        runs=dict.fromkeys(results.runs, Run(evil)),
        failures=(FailedWork("cell", "k", evil, f"a|b\n```\n\n{evil}"),),
        grid_text=f"```\n{evil}",
        commit=evil,
        versions={evil: evil},
        left_out={evil: 2},
        id=evil,
        ui_url="http://127.0.0.1:5000",
    )
    page.write(results, tmp_path)
    html, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    tags = Tags(html)
    assert (tags.open, tags.broken) == ([], [])
    assert [attributes for tag, attributes in tags.tags if tag == "script"] == [{}]
    assert "alert" not in "".join(tags.scripts)
    for tag, attributes in tags.tags:
        assert {*attributes} <= (OF_DRAWINGS if tag in DRAWN else ATTRIBUTES)
    assert "&lt;script&gt;" in html
    assert any(attributes.get("data-run") == evil for _, attributes in tags.tags)
    images = [attributes for tag, attributes in tags.tags if tag == "img"]
    assert all(image["src"].startswith("data:image/") for image in images)
    prose = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", text.replace("\\`", ""), flags=re.M | re.S)
    prose = re.sub(r"`[^`]*`", "", prose)
    assert "<script" not in prose
    assert "<img" not in prose
    assert "](http" not in prose.replace("\\](http", "")
    assert "\n````yaml\n```\n" in text


@pytest.mark.parametrize("evil", [text for text in TEXTS if text.isprintable() is False])
def test_no_text_hides_or_turns_round_what_stands_beside_it(build, tmp_path, without_figures, evil):
    results = build(
        name=evil, schedules=(evil, "cosine"), samplers=("ddim",), steps=(5,), seeds=(0,)
    )
    page.write(replace(results, grid_text=evil, commit=evil, left_out={evil: 1}), tmp_path)
    for name in ("report.md", "report.html", "answers.txt", "results.tex"):
        text = (tmp_path / name).read_text()
        assert {*unprintable(text.replace("\t", "").replace("\r", ""))} <= set(INVISIBLE), name


def test_a_spreadsheet_finds_no_formula_in_the_table(build, change, tmp_path, without_figures):
    formulas = [text for text in TEXTS if text.strip()[:1] in "=+-@"]
    results = build(schedules=("cosine",), samplers=("ddim",), steps=(5, 10))

    def named(one, n):
        schedule = Part(formulas[n % len(formulas)], source=formulas[-1])
        provenance = replace(one.provenance, machine="@SUM(1)")
        return replace(one, cell=replace(one.cell, sample_schedule=schedule), provenance=provenance,
                       metric_sources={"=1+1": "=1+1"}, undefined={"=1+1": "-1"})  # fmt: skip

    page.write(change(results, named), tmp_path)
    lines = [*csv.reader((tmp_path / "results.csv").open(newline=""))]
    assert {"'=1+1", "undefined_=1+1"} <= {*lines[0]}
    numbers = re.compile(r"[+-]?[\d.]+(e[+-]?\d+)?")
    for value in chain.from_iterable(lines):
        assert value[:1] not in "=+-@\t\r" or not value or numbers.fullmatch(value), value
    parquet = pd.read_parquet(tmp_path / "results.parquet")
    assert {*parquet["machine"]} == {"@SUM(1)"}  # it has types, and nothing to quote


def without_kid(one, n):
    return replace(one, measurements={"fid": one.measurements["fid"]})


def test_only_fid_is_enough_for_a_report(results, change, tmp_path, without_figures):
    page.write(change(results, without_kid), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "FID at n = 2,000 on digits features, lower is better" in text
    assert "KID" not in text


def test_a_metric_of_a_package_that_is_not_here_has_its_values_in_the_tables(
    results, change, tmp_path, without_figures
):
    bare = made.measured(0.5, error=None)  # a correct minimal metric: a value and nothing else
    shown = change(results, lambda one, n: replace(
        one, measurements={**one.measurements, "mine": bare}))  # fmt: skip
    page.write(shown, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "| KID | FID at n = 2,000 | mine |" in text
    assert len(re.findall(r"\| \**0\.5\d* \[0\.5\d*, 0\.5\d*\]\** \|", text)) == 16
    assert "mine is a metric of a package that is not installed here" in text


def test_a_value_without_an_error_is_shown_without_an_interval(build, change, tmp_path):
    results = build(schedules=("cosine",), seeds=(0,), steps=(5, 10))
    bare = change(results, lambda one, n: with_metric(one, "kid", standard_error=None))
    page.write(bare, tmp_path)
    rows = re.findall(r"^\| \W*cosine.*", (tmp_path / "report.md").read_text(), flags=re.M)
    means = {f"{one.measurements['kid'].value:.3f}" for one in results.cells}
    assert {row.split("|")[5].strip(" *")[:5] for row in rows[:4]} == means


@pytest.mark.parametrize(
    "lacking",
    [
        lambda one: with_metric(one, "kid", standard_error=None, baseline=None),
        lambda one: replace(one, baseline_images=None, pixel_spread=None),
        lambda one: replace(one, provenance=replace(one.provenance, machine="")),
        lambda one: replace(one, artifacts=Artifacts()),
    ],
)
def test_a_report_comes_out_whatever_a_result_lacks(results, change, tmp_path, lacking):
    page.write(change(results, lambda one, n: lacking(one)), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert re.search(r"^\| Schedule \| \*\*(open, )?cosine", text, flags=re.M)
    assert "could not be drawn" not in text


def test_a_report_comes_out_when_some_cells_have_no_metric(results, change, tmp_path):
    some = change(results, lambda one, n: one if n % 3 else replace(one, measurements={}))
    page.write(some, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "nan" not in re.sub(r"```.*?```", "", text, flags=re.S)


def test_cells_without_any_number_make_a_report_without_an_answer(results, change, tmp_path):
    page.write(change(results, lambda one, n: replace(one, measurements={})), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "**none yet** | no cell has a value of a metric" in text
    assert "There is no cell with a number" in text
    assert "## Decisions" not in text


def test_the_answer_of_a_single_cell_is_its_value(build, tmp_path):
    page.write(build(schedules=("cosine",), samplers=("ddim",), steps=(10,), seeds=(0,)), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert re.search(r"^\| Result \| \*\*0\.0\d+ \[", text, flags=re.M)
    assert "## Decisions" not in text
    assert "better" not in text.split("## Findings")[1].split("## Evidence")[0]
    assert "One training seed gives no verdict about schedules" in text


def test_samplers_of_equal_images_have_no_verdict_and_no_traceback(build, change, tmp_path):
    moves = {"kid": np.linspace(-1, 1, 50, dtype=np.float32)}
    results = build(schedules=("cosine",), steps=(1,), seeds=(0,))
    equal = change(results, lambda one, n: replace(
        with_metric(one, "kid", value=0.25),
        artifacts=Artifacts.of({"influence.npz": made.npz(moves)})))  # fmt: skip
    page.write(equal, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "nan" not in text
    assert "could not be drawn" not in text
    assert "error can be measured" not in text  # it can: it is the images that are equal
    assert any("inconclusive" in line for line in page.verdicts(equal))


@pytest.mark.parametrize("trainings", [True, False])
def test_a_report_of_failures_alone_says_so(results, tmp_path, trainings):
    reason = "the GPU fell off the bus"
    failed = FailedWork("cell", "k", "cosine, 5", reason)
    empty = replace(results, cells=(), failures=(failed,),
                    trainings=results.trainings if trainings else ())  # fmt: skip
    page.write(empty, tmp_path)
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text()
        assert "no cell has a result yet" in text
        assert reason in text
        assert "could not be drawn" not in text
    assert "48 cells of 48 are missing" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "figures/losses.png").exists() == trainings
    assert page.is_current(empty, tmp_path)


def test_every_comparison_stands_in_a_line_for_the_tracker(results):
    lines = page.verdicts(results)
    asked = questions(studies(results)[0])
    assert len(lines) == sum(len(one.main) + len(one.comparisons) for one in asked)
    assert len(lines) == len({*lines})
    assert lines[0].startswith("schedule: cosine against linear: better, 5")


def test_a_report_of_a_part_says_so_on_its_first_screen(results, tmp_path, without_figures):
    part_of_it = replace(results, cells=results.cells[:30])
    page.write(part_of_it, tmp_path)
    for name in ("report.md", "report.html", "answers.txt"):
        beginning = (tmp_path / name).read_text().split("Decisions</a></h2>")[0]
        assert "30 of 48 cells so far" in beginning
    assert "so far" not in page_of(results, tmp_path / "whole", "answers.txt")


def test_a_report_from_before_the_first_training_judges_nothing(results, tmp_path, without_figures):
    exact = {one.cell: one for one in (exactly(cell, 0.1) for cell in results.cells)}
    early = replace(
        results, cells=tuple(exact.values()), trainings=(), expected_trainings=6, expected_cells=64
    )
    for name in ("report.md", "report.html", "answers.txt"):
        assert "no network is trained yet" in page_of(early, tmp_path, name)
    text = (tmp_path / "report.md").read_text()
    assert "## Decisions" not in text
    assert "the network" not in text.partition("## Method")[0]


def page_of(experiment, folder, name):
    page.write(experiment, folder)
    return (folder / name).read_text()


def test_sections_fold_but_for_what_was_decided_and_found(written):
    html = (written / "report.html").read_text()
    folds = re.findall(r'<details class="section"( open)?><summary><h2 id="([^"]+)"', html)
    assert {name for state, name in folds if state} == STANDING
    assert len(folds) > len(STANDING)


def test_findings_stand_in_a_line_each(written, results):
    text = (written / "report.md").read_text()
    [found] = re.findall(r"^## Findings\n(.*?)^## ", text, flags=re.M | re.S)
    content = contents.contents(results)
    everything = [*content.findings, *content.folded]
    assert len(content.findings) <= 10
    assert [line.split("**")[1] for line in found.splitlines() if line.startswith("- ")] == [
        one.question for one in everything
    ]


def test_a_command_of_the_first_screen_can_be_pasted(results, tmp_path, without_figures):
    typed = replace(results, command="harness run runs/digits.yaml steps=[5,10,20,50]")
    for name in ("report.md", "report.html", "answers.txt"):
        text = page_of(typed, tmp_path, name)
        assert "harness run runs/digits.yaml 'steps=[5,10,20,50,100]'" in unescape(text)


def test_rebuild_gives_the_command_that_was_run_and_its_grid_file(
    results, tmp_path, without_figures
):
    command = "harness run runs/digits.yaml 'seeds=[0, 1]' --store s"
    typed = replace(results, command=f"{command} --data-dir 'my data'")
    rebuild = page_of(typed, tmp_path, "report.md").partition("## Rebuild")[2]
    assert "Save the grid below as `runs/digits.yaml`" in rebuild
    assert f"{command} --data-dir 'my data'  " in rebuild
    assert f"{command.replace('run', 'report', 1)}  " in rebuild


def test_where_the_command_is_not_known_rebuild_has_what_was_changed(
    results, tmp_path, without_figures
):
    text = f"# changed on the command line: steps=[5]\n{results.grid_text}"
    rebuild = page_of(replace(results, grid_text=text), tmp_path, "report.md")
    assert "harness run digits.yaml 'steps=[5]'" in rebuild


def test_a_folder_that_cannot_be_written_is_an_error_with_its_reason(
    results, tmp_path, without_figures
):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HarnessError, match=r"file.* cannot be written"):
        page.write(results, tmp_path / "file")


def test_a_failed_write_leaves_the_old_report_and_no_litter(
    results, tmp_path, monkeypatch, without_figures
):
    page.write(results, tmp_path)
    before = bytes_of(tmp_path)
    real = os.replace

    def full(source, target):
        if str(target).endswith("report.html"):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(HarnessError, match="is full"):
        page.write(replace(results, name="other"), tmp_path)
    assert set(bytes_of(tmp_path)) == set(before)
    assert (tmp_path / "report.html").read_bytes() == before["report.html"]


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("harness.report.page", {"torch", "mlflow", "yaml", "matplotlib", "seaborn", "scipy"}),
        ("harness.report.contents, harness.report.render", {"torch", "mlflow", "yaml"}),
    ],
)
def test_a_report_loads_no_more_than_it_needs(modules, heavy):
    """Checking one needs no figures; writing one needs neither torch nor MLflow."""
    script = f"""import sys, {modules}
from harness.work.results import Experiment
from pathlib import Path
harness.report.page.is_current(Experiment("x", ()), Path("none")) if {"scipy" in heavy} else 0
harness.report.page.fingerprint(Experiment("x", ())) if {"scipy" in heavy} else 0
sys.exit(", ".join({heavy} & set(sys.modules)) or 0)"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_wide_grid_is_reported_in_seconds(build, tmp_path):
    results = build(
        schedules=("linear", "cosine", "sigmoid"), samplers=("ddim", "ddpm", "heun"),
        steps=(5, 10, 20, 50, 100), seeds=(0, 1, 2),
    )  # fmt: skip
    start = time.process_time()
    page.write(results, tmp_path)
    assert time.process_time() - start < 15


def test_parts_that_have_a_formula_stand_with_it(build, tmp_path, without_figures):
    results = build(schedules=("cosine",), steps=(5,), seeds=(0,))
    other = replace(results, cells=tuple(
        replace(one, cell=replace(one.cell, sampler=Part("ddpm" if n else "nobodys")))
        for n, one in enumerate(results.cells)
    ))  # fmt: skip
    page.write(other, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "- sampler **ddpm**: draws x_s from the posterior" in text
    assert "**nobodys**" not in text
    assert str(part("ddim(eta=0.5)")) == "ddim(eta=0.5)"
