"""The tables: what they show, what a script sorts them by, which runs they lead to."""

import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from harness.errors import BadOption
from harness.report import contents, page
from harness.report.cell_tables import every_cell, trainings
from harness.report.quality_tables import OTHER, quality
from harness.report.table import FID, KID, Measure, comparable

SHARES = ("coverage", "density", "precision_score", "recall")


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch):
    monkeypatch.setattr(contents, "_pictures", lambda results: [])


class Rows(HTMLParser):
    """The rows of each table with their attributes, their cells with theirs, and the links."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.is_cell = [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append({"row": dict(attributes), "cells": []})
        elif tag in ("td", "th"):
            self.is_cell = True
            self.tables[-1][-1]["cells"].append({**dict(attributes), "text": "", "links": []})
        elif tag == "a" and self.is_cell:
            self.tables[-1][-1]["cells"][-1]["links"].append(dict(attributes))

    def handle_endtag(self, tag):
        self.is_cell = self.is_cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self.is_cell:
            self.tables[-1][-1]["cells"][-1]["text"] += data


def written(results, folder):
    page.write(results, folder)
    return Rows((folder / "report.html").read_text()).tables


def with_shares(results):
    """The same with measures that are no distances."""
    columns = {name: 0.5 + 0.001 * np.arange(len(results.cells)) for name in SHARES}
    errors = {f"{name}_se": 0.01 for name in SHARES}
    measures = (KID, FID, *(Measure(name, name.title(), lower_is_better=False) for name in SHARES))
    return replace(results, cells=results.cells.assign(**columns, **errors), measures=measures)


def titles(table):
    return [column.title for column in table.columns]


def test_measures_that_are_no_distances_have_a_table_of_their_own_with_the_same_rows(results):
    first, second = quality(comparable(with_shares(results))[0])
    assert titles(first) == [
        "schedule", "sampler", "steps", "NFE", "KID", "FID at n = 2,000", "ms per image",
    ]  # fmt: skip
    assert titles(second)[:3] == titles(first)[:3]
    assert titles(second)[3:] == [name.title() for name in SHARES]
    assert second.title == OTHER
    assert [row.runs for row in first.rows] == [row.runs for row in second.rows]
    assert [row.is_best for row in first.rows] == [row.is_best for row in second.rows]


def test_only_the_first_measure_may_be_no_distance_in_the_first_table(results):
    shares = with_shares(results)
    first, second = quality(replace(shares, measures=shares.measures[::-1]))
    assert titles(first)[4:5] == ["Recall"]
    assert len(titles(first)) == 6 + len(["KID", "FID"]) - 2
    assert {"KID", "FID at n = 2,000"} <= {*titles(second)}


def test_a_row_is_of_the_runs_of_its_cells(results, tmp_path):
    head, *rows = written(results, tmp_path)[0]
    assert head["cells"][-1]["text"] == "seeds"
    row = rows[0]
    runs = row["row"]["data-runs"].split()
    assert runs == [f"run-c-cosine-ddim-5-{seed}" for seed in (0, 1, 2)]
    assert row["cells"][-1]["text"] == "0 1 2"
    assert not row["cells"][-1]["links"]


@pytest.mark.parametrize("address", ["http://127.0.0.1:5000", "https://lab.example/mlflow/"])
def test_with_an_address_each_run_is_a_link(results, tmp_path, address):
    tables = written(replace(results, ui_url=address, experiment="7"), tmp_path)
    start = f"{address.rstrip('/')}/#/experiments/7/runs/"
    seeds = tables[0][1]["cells"][-1]["links"]
    assert [link["href"] for link in seeds] == [
        f"{start}run-c-cosine-ddim-5-{seed}" for seed in (0, 1, 2)
    ]
    every = [row["cells"][-1] for row in tables[1][1:]]
    assert len(every) == len(results.cells)
    assert {cell["links"][0]["href"] for cell in every} == {
        start + run_id for run_id in results.cells["run_id"]
    }
    assert all(link["rel"] == "noopener" for link in seeds)


@pytest.mark.parametrize(
    "address",
    ["ftp://x", "javascript:alert(1)", "127.0.0.1:5000", "http://", "file:///x", "http://[x",
     'http://x/"onclick="', "http://x/\ny", "//x"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_before_anything_is_written(results, tmp_path, address):
    with pytest.raises(BadOption, match="--ui-url"):
        page.write(replace(results, ui_url=address), tmp_path)
    assert not [*tmp_path.iterdir()]


def test_every_cell_has_a_row_with_all_that_tells_it_from_the_others(everything):
    group = comparable(everything)[0]
    table = every_cell(group)
    assert titles(table) == [
        "schedule", "sampled under", "sampler", "model", "steps", "seed", "KID",
        "FID at n = 2,000", "ms per image",
    ]  # fmt: skip
    rows = [tuple(value.text for value in row.values[:6]) for row in table.rows]
    assert len({*rows}) == len(rows) == len(group.cells)
    assert [row.runs[0].id for row in table.rows] == [*group.cells["run_id"]]
    assert {row[5] for row in rows if row[3] == "exact"} == {"–"}


def test_spacing_has_a_column_where_it_varies(results):
    cells = results.cells.copy()
    assert "spacing" not in titles(every_cell(results))
    cells.loc[::2, "spacing"] = "trailing"
    assert "spacing" in titles(every_cell(replace(results, cells=cells)))


def test_a_cell_is_given_with_its_standard_error(results):
    cells = results.cells.assign(kid=0.16234, kid_se=0.00412)
    table = every_cell(replace(results, cells=cells))
    value = table.columns[titles(table).index("KID")].values[0]
    assert value.whole == "0.1623 ± 0.0041"
    assert value.number == 0.16234


def test_the_error_of_a_cell_includes_that_of_the_reference_where_it_is_known(results):
    cells = results.cells.assign(kid=0.5, kid_se=0.03, kid_reference_se=0.04)
    table = every_cell(replace(results, cells=cells))
    assert table.columns[titles(table).index("KID")].values[0].whole == "0.500 ± 0.050"


def test_numbers_are_sorted_by_their_value_and_what_is_unknown_by_none(results, tmp_path):
    cells = results.cells.copy()
    cells.loc[cells["steps"] == 5, "seconds_per_image"] = np.nan
    table = written(replace(results, cells=cells), tmp_path)[0]
    place = [cell["text"] for cell in table[0]["cells"]].index("ms per image")
    values = {row["cells"][place]["data-value"] for row in table[1:-1]}
    assert "" in values
    assert all(float(value) > 0 for value in values - {""})
    assert "data-value" not in table[1]["cells"][0]


def test_a_group_of_its_own_has_tables_of_its_own(results, tmp_path):
    cells = results.cells.copy()
    cells.loc[:11, "images"] = 500
    page.write(replace(with_shares(results), cells=with_shares(results).cells.assign(
        images=cells["images"])), tmp_path)  # fmt: skip
    html = (tmp_path / "report.html").read_text()
    names = re.findall(r' id="([^"]+)"', html)
    assert len(names) == len({*names})
    assert {"every-cell", "every-cell-2", "fidelity-diversity-and-memory-2"} <= {*names}
    assert "<summary>Every cell (36)</summary>" in html


def test_findings_have_names_that_stay_and_differ(results, tmp_path):
    assert page._anchors(["Which is best?", "Which is best?", "Which is best? 2", "?"]) == [
        "finding-which-is-best", "finding-which-is-best-2", "finding-which-is-best-2-2", "finding",
    ]  # fmt: skip
    page.write(results, tmp_path)
    html = (tmp_path / "report.html").read_text()
    name = "finding-which-combination-is-best-whatever-it-costs"
    assert f'<h3 id="{name}"><a href="#{name}">Which combination is best' in html


def test_what_was_left_out_is_told_with_its_reason(results, tmp_path):
    left_out = {"they were made by an earlier recipe of the program": 3, "it is older": 1}
    page.write(replace(results, left_out=left_out), tmp_path)
    limits = (tmp_path / "report.md").read_text().split("## Limits")[1]
    assert (
        "- 3 recorded cells are left out: they were made by an earlier recipe of the program.\n"
        in limits
    )
    assert "- 1 recorded cell is left out: it is older.\n" in limits


def test_the_sections_come_in_the_order_of_a_paper(results, tmp_path):
    page.write(results, tmp_path)
    sections = [
        "What was compared, and how", "Quality by schedule, sampler and steps", "Figures",
        "Findings", "Trainings", "Limits", "How to rebuild",
    ]  # fmt: skip
    text = (tmp_path / "report.md").read_text()
    assert re.findall(r"^## (.*)$", text, flags=re.M) == sections
    html = (tmp_path / "report.html").read_text()
    assert re.findall(r"<h2[^>]*><a[^>]*>([^<]*)", html) == sections


def test_a_thousand_cells_are_set_in_tables_in_seconds(build, tmp_path, monkeypatch):
    for name in ("found", "answers"):
        monkeypatch.setattr(contents, name, lambda frame: [])
    results = build(
        schedules=("linear", "cosine", "sigmoid", "laplace", "scaled_linear"),
        samplers=("ddim", "ddpm", "heun", "ab2", "unipc"),
        steps=(5, 8, 10, 15, 20, 30, 50, 100), seeds=(0, 1, 2, 3, 4),
    )  # fmt: skip
    start = time.process_time()
    page.write(with_shares(results), tmp_path)
    assert time.process_time() - start < 3
    assert (tmp_path / "report.html").stat().st_size < 2e6


def test_seconds_of_compiling_are_told_apart_where_there_are_any(results):
    assert "compiling" not in [column.title for column in trainings(results).columns]

    compiled = replace(
        results,
        trainings=results.trainings.assign(compile_seconds=20.0),
        cells=results.cells.assign(compile_seconds=40.0),  # once for all cells of a training
    )
    column = next(each for each in trainings(compiled).columns if each.title == "compiling")
    assert {value.number for value in column.values} == {60.0}
