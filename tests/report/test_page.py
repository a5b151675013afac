"""The pages: the same bytes, nothing from outside, nothing unescaped, whatever is missing."""

import base64
import hashlib
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from harness.errors import HarnessError
from harness.report import contents, page

ATTRIBUTES = {
    "alt", "aria-label", "charset", "class", "colspan", "content", "data-run", "data-runs",
    "data-value", "href", "http-equiv", "id", "lang", "name", "rel", "role", "scope", "src",
    "tabindex", "title",
}  # fmt: skip


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


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    page.write(results, folder)
    return folder


@pytest.fixture
def without_figures(monkeypatch):
    """For tests of words alone: figures are most of the time."""
    monkeypatch.setattr(contents, "_pictures", lambda results: [])


def bytes_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_report_is_the_same_bytes_when_built_again_from_shuffled_results(
    results, written, tmp_path
):
    shuffled = replace(
        results,
        cells=results.cells.sample(frac=1, random_state=3),
        trainings=results.trainings[::-1],
        sheets=dict(reversed(results.sheets.items())),
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


def test_a_report_is_current_until_its_results_change_or_a_file_is_gone(results, tmp_path):
    assert not page.is_current(results, tmp_path)
    page.write(results, tmp_path)
    assert page.is_current(results, tmp_path)
    assert not page.is_current(replace(results, commit="def5678"), tmp_path)
    for name in ("figures/losses.png", "results.csv", "results.parquet", "report.html"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        assert not page.is_current(results, tmp_path)
        (tmp_path / name).write_bytes(data)
    assert page.is_current(results, tmp_path)


def test_the_tables_beside_the_page_hold_every_cell(results, written):
    parquet = pd.read_parquet(written / "results.parquet")
    assert len(parquet) == len(results.cells)
    assert parquet["steps"].dtype == results.cells["steps"].dtype
    csv = pd.read_csv(written / "results.csv")
    assert [*parquet.columns] == [*csv.columns]
    assert [*parquet["key"]] == [*csv["key"]]
    np.testing.assert_allclose(parquet["kid"], csv["kid"], rtol=1e-12)


def test_a_column_of_mixed_types_becomes_text(results, tmp_path, without_figures):
    cells = results.cells.assign(
        mixed=[1, "two", 3.5, None, *[True] * 44], listed=[[1, 2]] * 48, empty=None
    )
    page.write(replace(results, cells=cells), tmp_path)
    parquet = pd.read_parquet(tmp_path / "results.parquet")
    assert set(parquet["mixed"].dropna()) == {"1", "two", "3.5", "True"}
    assert set(parquet["listed"]) == {"[1, 2]"}
    assert parquet["mixed"].isna().sum() == 1


def test_the_page_loads_nothing_from_outside(written):
    html = (written / "report.html").read_text()
    for tag, attributes in Tags(html).tags:
        assert tag not in {"iframe", "object", "embed", "base", "form"}
        if tag == "script":
            assert not attributes
        for name in ("src", "href", "srcset", "data", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:image/", "data:,"))
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
    figures = {path.stem for path in (written / "figures").iterdir()}
    assert {"quality_by_steps", "samples"} <= figures
    assert len(images) == len(figures)
    assert all(len(image["alt"]) > 20 for image in images)
    names = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
    assert len(names) == len(set(names))
    links = {attributes["href"] for tag, attributes in tags.tags if tag == "a"}
    assert links <= {f"#{name}" for name in names}
    assert sum(tag == "table" for tag, _ in tags.tags) == sum(
        tag == "thead" for tag, _ in tags.tags
    )


def test_the_markdown_links_to_its_figures_and_its_tables_are_even(written):
    text = (written / "report.md").read_text()
    figures = re.findall(r"!\[[^\]]+\]\((figures/[^)]+)\)", text)
    assert sorted(figures) == sorted(
        path.relative_to(written).as_posix() for path in written.glob("figures/*")
    )
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.M)
    assert len(tables) == 3
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1


def test_the_first_screen_has_the_question_the_answer_and_the_figure_that_shows_it(written):
    lines = (written / "report.md").read_text().splitlines()
    assert lines[0] == "# Which schedule, which sampler, how many steps?"
    assert "cosine schedule is best" in lines[2]
    assert "quality_by_steps.png" in lines[4]


def test_names_from_users_are_escaped(build, tmp_path):
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    results = build(
        name=evil, schedules=(evil, "a|b](http://x)"), samplers=("ddim", "ddpm"), steps=(5, 10)
    )
    failure = {"kind": "cell", "key": "k", "what": evil, "reason": f"a|b\n```\n{evil}"}
    results = replace(
        results,
        cells=results.cells.assign(run_id=evil, machine=evil),
        failures=pd.DataFrame([failure]),
        trainings=results.trainings.assign(machine=evil, run_id=evil),
        grid_text=f"```\n{evil}",
        commit=evil,
        versions={evil: evil},
        left_out={evil: 2},
        experiment=evil,
        ui_url="http://127.0.0.1:5000",
    )
    page.write(results, tmp_path)
    html, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    tags = Tags(html)
    assert (tags.open, tags.broken) == ([], [])
    assert [attributes for tag, attributes in tags.tags if tag == "script"] == [{}]
    assert "alert" not in "".join(tags.scripts)
    assert {name for _, attributes in tags.tags for name in attributes} <= ATTRIBUTES
    assert "&lt;script&gt;" in html
    assert any(attributes.get("data-run") == evil for _, attributes in tags.tags)
    assert len([tag for tag, _ in tags.tags if tag == "img"]) == len(
        list(tmp_path.glob("figures/*"))
    )
    prose = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", text.replace("\\`", ""), flags=re.M | re.S)
    prose = re.sub(r"`[^`]*`", "", prose)
    assert "<script" not in prose
    assert "<img" not in prose
    assert "](http" not in prose.replace("\\](http", "")
    assert "\n````yaml\n```\n" in text


def test_only_fid_is_enough_for_a_report(results, tmp_path, without_figures):
    kept = [column for column in results.cells.columns if not column.startswith("kid")]
    page.write(replace(results, cells=results.cells[kept]), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "FID (n = 2,000) on digits features" in text
    assert "KID" not in text


def test_a_third_metric_has_its_column(results, tmp_path, without_figures):
    cells = results.cells.assign(fid_infinity=0.5, fid_infinity_se=0.1)
    page.write(replace(results, cells=cells), tmp_path)
    assert "| KID | FID at n = 2,000 | fid_infinity |" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    "missing",
    [
        ["kid_se", "kid_floor", "floor_images", "fid_se", "fid_floor"],
        ["nfe"],
        ["seconds_per_image", "machine"],
        ["eta", "spacing", "clip", "target", "precision", "reference", "extractor", "images"],
    ],
)
def test_a_report_comes_out_whatever_column_is_missing(results, tmp_path, missing):
    page.write(replace(results, cells=results.cells.drop(columns=missing)), tmp_path)
    assert "schedule is best" in (tmp_path / "report.md").read_text()


def test_a_report_comes_out_when_all_metrics_of_some_cells_are_missing(results, tmp_path):
    cells = results.cells.copy()
    cells.loc[::3, ["kid", "fid", "seconds_per_image", "nfe"]] = np.nan
    page.write(replace(results, cells=cells), tmp_path)
    assert "nan" not in re.sub(r"```.*?```", "", (tmp_path / "report.md").read_text(), flags=re.S)


def test_cells_without_any_number_make_a_report_without_an_answer(results, tmp_path):
    cells = results.cells.assign(kid=np.nan, fid=np.nan)
    page.write(replace(results, cells=cells), tmp_path)
    assert "There is no cell with a number" in (tmp_path / "report.md").read_text()


def test_one_cell_makes_a_report_that_claims_nothing_between_cells(build, tmp_path):
    page.write(build(schedules=("cosine",), samplers=("ddim",), steps=(10,), seeds=(0,)), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "better" not in text.split("## Findings")[1]
    assert "One training seed gives no verdict about schedules" in text


@pytest.mark.parametrize("trainings", [True, False])
def test_a_report_of_failures_alone_says_so(results, tmp_path, trainings):
    reason = "the GPU fell off the bus"
    failed = pd.DataFrame([{"kind": "cell", "key": "k", "what": "cosine, 5", "reason": reason}])
    empty = replace(
        results, cells=pd.DataFrame(), failures=failed, sheets={},
        trainings=results.trainings if trainings else pd.DataFrame(),
        losses=results.losses if trainings else {}, time_losses={},
    )  # fmt: skip
    page.write(empty, tmp_path)
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text()
        assert "No cell has a result yet" in text
        assert reason in text
    assert "48 cells of 48 are missing" in (tmp_path / "report.md").read_text()
    assert page.is_current(empty, tmp_path)


def test_limits_name_what_is_missing_reused_mixed_and_not_comparable(
    results, tmp_path, without_figures
):
    cells = results.cells.copy()
    cells["reused"] = [True, *[False] * 47]
    cells["machine"] = ["another machine", *cells["machine"][1:]]
    cells["images"] = [*[500] * 3, *[2000] * 45]
    page.write(replace(results, cells=cells, expected_cells=50), tmp_path)
    limits = (tmp_path / "report.md").read_text().split("## Limits")[1]
    assert "2 cells of 50 are missing" in limits
    assert "1 cell was measured by an earlier run and reused" in limits
    assert "measured on 2 machines" in limits
    assert "2 groups" in limits


def test_a_folder_that_cannot_be_written_is_an_error_with_its_reason(results, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HarnessError, match=r"cannot be written to '.*file'"):
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
    with pytest.raises(HarnessError, match="No space left on device"):
        page.write(replace(results, name="other"), tmp_path)
    assert set(bytes_of(tmp_path)) == set(before)
    assert (tmp_path / "report.html").read_bytes() == before["report.html"]


def test_checking_a_report_needs_neither_torch_nor_figures():
    script = (
        "import sys, harness.report.page, harness.report.table;"
        "heavy = {'torch', 'mlflow', 'yaml', 'matplotlib', 'seaborn', 'scipy'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_writing_a_report_needs_neither_torch_nor_mlflow():
    script = (
        "import sys, harness.report.page, harness.report.plots, harness.report.findings;"
        "sys.exit(', '.join({'torch', 'mlflow', 'yaml'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_wide_grid_is_reported_in_seconds(build, tmp_path):
    results = build(
        schedules=("linear", "cosine", "sigmoid"), samplers=("ddim", "ddpm", "heun"),
        steps=(5, 10, 20, 50, 100), seeds=(0, 1, 2),
    )  # fmt: skip
    start = time.process_time()
    page.write(results, tmp_path)
    assert time.process_time() - start < 15
