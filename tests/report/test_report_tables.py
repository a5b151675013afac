"""The tables: what they show, what a script sorts them by, which runs they lead to."""

import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import made
import numpy as np
import pytest
from experiments import with_metric

from harness.analysis.questions import comparisons, questions
from harness.analysis.study import studies
from harness.errors import BadOption
from harness.report import contents, page
from harness.report.decision_table import decisions, details, verdicts
from harness.report.render import anchors
from harness.report.study_tables import OTHER, every_cell, quality, trainings
from harness.work.cells import Part
from harness.work.looks import Look
from harness.work.results import Run

SHARES = ("coverage", "density", "precision", "recall")


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch):
    monkeypatch.setattr(contents, "_pictures", lambda study: ([], []))


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
    """The tables whose rows lead to runs: by configuration, and of every cell."""
    page.write(results, folder)
    tables = Rows((folder / "report.html").read_text()).tables
    last = [[cell["text"] for cell in table[0]["cells"]][-1] for table in tables]
    return [table for table, name in zip(tables, last, strict=True) if name in ("seeds", "run")]


@pytest.fixture
def with_shares(change):
    """The same with metrics that are no distances."""

    def with_shares(results):
        def shares(one, n):
            for name in SHARES:
                one = with_metric(one, name, value=0.5 + 0.001 * n, standard_error=0.01)
            return one

        return change(results, shares)

    return with_shares


def main_of(results):
    return studies(results)[0]


def titles(table):
    return [column.title for column in table.columns]


def column(table, title):
    return next(each for each in table.columns if each.title == title)


def test_metrics_that_are_no_distances_have_a_table_of_their_own_with_the_same_rows(
    results, with_shares
):
    first, second = quality(main_of(with_shares(results)))
    assert titles(first) == [
        "schedule", "sampler", "steps", "NFE", "KID", "FID at n = 2,000", "ms per image",
    ]  # fmt: skip
    assert titles(second)[:3] == titles(first)[:3]
    assert titles(second)[3:] == [name.title() for name in SHARES]
    assert second.title == OTHER
    assert [row.runs for row in first.rows] == [row.runs for row in second.rows]
    assert [row.is_best for row in first.rows] == [row.is_best for row in second.rows]


def test_what_decides_stands_in_the_first_table_though_it_is_no_distance(results, change):
    alone = made.measured(0.7)
    only = change(results, lambda one, n: replace(one, measurements={"recall": alone}))
    [table] = quality(main_of(only))
    assert "Recall" in titles(table)


def test_a_bias_corrected_value_stands_beside_the_value_as_measured(results, change):
    def biased(one, n):
        return with_metric(one, "fid", value=2.0, corrected=1.5, baseline_corrected=0.1)

    table = quality(main_of(change(results, biased)))[0]
    raw, corrected = column(table, "FID at n = 2,000"), column(table, "FID, bias-corrected")
    assert {value.number for value in raw.values} == {2.0}
    assert {value.number for value in corrected.values} == {1.5}
    assert (raw.baseline, corrected.baseline) == ("0.22", "0.10")


def test_the_exact_denoiser_has_a_column_beside_the_networks(everything):
    table = quality(main_of(everything))[0]
    values = column(table, "KID of the exact denoiser").values
    twins = {
        (str(one.cell.training.schedule), str(one.cell.sampler), one.cell.steps):
            one.measurements["kid"].value
        for one in everything.cells if one.cell.training.is_exact
    }  # fmt: skip
    rows = zip(*(each.values for each in table.columns[:3]), values, strict=True)
    shown = {(a.text, b.text, c.number): d.number for a, b, c, d in rows}
    assert {name: shown[name] for name in twins} == pytest.approx(twins)


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
    tables = written(replace(results, ui_url=address, id="7"), tmp_path)
    start = f"{address.rstrip('/')}/#/experiments/7/runs/"
    mode = "?workflowType=machine_learning"
    seeds = tables[0][1]["cells"][-1]["links"]
    assert [link["href"] for link in seeds] == [
        f"{start}run-c-cosine-ddim-5-{seed}{mode}" for seed in (0, 1, 2)
    ]
    every = [row["cells"][-1] for row in tables[1][1:]]
    assert len(every) == len(results.cells)
    assert {cell["links"][0]["href"] for cell in every} == {
        start + results.runs[one.cell.key].id + mode for one in results.cells
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
    study = main_of(everything)
    table = every_cell(study)
    assert titles(table) == [
        "schedule", "sampled under", "sampler", "model", "steps", "seed", "KID",
        "FID at n = 2,000", "ms per image",
    ]  # fmt: skip
    rows = [tuple(value.text for value in row.values[:6]) for row in table.rows]
    assert len({*rows}) == len(rows) == len(everything.cells)
    assert [row.runs[0].id for row in table.rows] == [
        everything.runs[one.cell.key].id for one in study.results
    ]
    assert {row[5] for row in rows if row[3] == "exact"} == {"–"}


def test_settings_have_a_column_where_they_vary(results, change):
    def varied(one, n):
        if n % 2:
            return one
        training = replace(one.cell.training, learning_rate=2e-4)
        other = {"spacing": Part("trailing"), "clip": True, "sampling_seed": 1}
        return replace(one, cell=replace(one.cell, training=training, **other))

    names = {"spacing", "clip", "sampling seed", "learning rate"}
    assert not names & {*titles(every_cell(main_of(results)))}
    table = every_cell(main_of(change(results, varied)))
    assert names <= {*titles(table)}
    assert {value.text for value in column(table, "clip").values} == {"yes", "no"}
    assert {value.text for value in column(table, "sampling seed").values} == {"0", "1"}


def test_cells_scored_again_before_the_end_of_their_training_are_no_rows(results):
    again = [replace(one, cell=replace(one.cell, weights="0.9")) for one in results.cells]
    both = replace(results, cells=(*results.cells, *again))
    [one], [other] = studies(results), studies(both)
    assert every_cell(one) == every_cell(other)


def test_a_cell_is_given_with_its_standard_error(results, change):
    known = change(results, lambda one, n: with_metric(
        one, "kid", value=0.16234, standard_error=0.00412))  # fmt: skip
    value = column(every_cell(main_of(known)), "KID").values[0]
    assert value.whole == "0.1623 ± 0.0041"
    assert value.number == 0.16234


def test_the_error_of_a_cell_includes_that_of_the_reference_where_it_is_known(results, change):
    known = change(results, lambda one, n: with_metric(
        one, "kid", value=0.5, standard_error=0.03, reference_error=0.04))  # fmt: skip
    assert column(every_cell(main_of(known)), "KID").values[0].whole == "0.500 ± 0.050"


def test_numbers_are_sorted_by_their_value_and_what_is_unknown_by_none(results, change, tmp_path):
    unknown = change(results, lambda one, n: one if one.cell.steps > 5 else replace(
        one, measurements={"kid": one.measurements["kid"]}))  # fmt: skip
    table = written(unknown, tmp_path)[0]
    place = [cell["text"] for cell in table[0]["cells"]].index("FID at n = 2,000")
    values = {row["cells"][place]["data-value"] for row in table[1:-1]}
    assert "" in values
    assert all(float(value) > 0 for value in values - {""})
    assert "data-value" not in table[1]["cells"][0]


def test_a_group_of_its_own_has_tables_of_its_own(results, change, with_shares, tmp_path):
    grouped = change(with_shares(results), lambda one, n: one if n > 11 else replace(
        one, cell=replace(one.cell, images=500)))  # fmt: skip
    page.write(grouped, tmp_path)
    html = (tmp_path / "report.html").read_text()
    names = re.findall(r' id="([^"]+)"', html)
    assert len(names) == len({*names})
    assert {"every-cell", "every-cell-2", "fidelity-diversity-and-memorisation-2"} <= {*names}
    assert "<summary>Every cell (36)</summary>" in html


def test_findings_have_names_that_stay_and_differ(results, tmp_path):
    assert anchors(["Which is best?", "Which is best?", "Which is best? 2", "?"]) == [
        "which-is-best", "which-is-best-2", "which-is-best-2-2", "",
    ]  # fmt: skip
    page.write(results, tmp_path)
    html = (tmp_path / "report.html").read_text()
    name = "finding-which-configuration-is-best-whatever-it-costs"
    assert f'<h3 id="{name}"><a href="#{name}">Which configuration is best' in html


def test_what_was_decided_comes_first_and_how_last(results, tmp_path):
    page.write(results, tmp_path)
    sections = ["Decisions", "Findings", "Evidence", "Images", "Costs", "Method", "Limitations",
                "Rebuild"]  # fmt: skip
    text = (tmp_path / "report.md").read_text()
    assert re.findall(r"^## (.*)$", text, flags=re.M) == sections
    html = (tmp_path / "report.html").read_text()
    assert re.findall(r"<summary><h2[^>]*>([^<]*)", html) == sections


def test_a_thousand_cells_are_set_in_tables_in_seconds(build, with_shares, tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "all_findings", lambda study: [])
    results = with_shares(build(
        schedules=("linear", "cosine", "sigmoid", "laplace", "scaled_linear"),
        samplers=("ddim", "ddpm", "heun", "ab2", "unipc"),
        steps=(5, 8, 10, 15, 20, 30, 50, 100), seeds=(0, 1, 2, 3, 4),
    ))  # fmt: skip
    start = time.process_time()
    page.write(results, tmp_path)
    assert time.process_time() - start < 3
    assert (tmp_path / "report.html").stat().st_size < 2e6


def test_seconds_of_compiling_are_told_apart_where_there_are_any(results, change):
    assert "compiling" not in titles(trainings(results))
    compiled = change(results, lambda one, n: replace(
        one, cost=replace(one.cost, compile_seconds=40.0)))  # fmt: skip
    compiled = replace(compiled, trainings=tuple(
        replace(one, compile_seconds=20.0) for one in results.trainings))  # fmt: skip
    values = column(trainings(compiled), "compiling").values
    assert {value.number for value in values} == {60.0}  # the 40 once for all cells of a training


def test_seeds_are_named_with_the_sampling_seed_where_there_are_several(build, change):
    results = build(schedules=("cosine",), samplers=("ddim",), steps=(5,), seeds=(0, 1))
    again = [replace(one, cell=replace(one.cell, sampling_seed=1)) for one in results.cells]
    runs = {**results.runs, **{one.cell.key: Run("again") for one in again}}
    both = replace(results, cells=(*results.cells, *again), runs=runs)
    [row] = quality(main_of(both))[0].rows
    assert [run.name for run in row.runs] == ["0/0", "0/1", "1/0", "1/1"]
    assert row.seeds == "2"
    assert np.isfinite(row.values[4].number)


# What was decided.


def texts(table, title):
    return [value.text for value in column(table, title).values]


def test_every_pair_of_levels_is_a_row_with_the_level_that_is_ahead_first(everything):
    study = main_of(everything)
    made = [one for question in questions(study) for one in question.main]
    table = decisions(study)
    assert len(table.rows) == len(made) > 4
    for one, question, pair, change, verdict in zip(
        made, *(texts(table, name) for name in ("question", "compared", "change", "verdict")),
        strict=True,
    ):  # fmt: skip
        behind = one.second if one.ahead == one.first else one.first
        assert (question, pair) == (one.question, f"{one.ahead} against {behind}")
        assert "lower" in change  # of a distance
        assert verdict == f"{one.ahead} is better" or one.winner is None


def test_every_comparison_is_a_row_with_the_configuration_that_is_ahead_first(results):
    table = details(main_of(results))
    ahead, behind = ([value.number for value in each.values]
                     for each in table.columns if each.is_number)  # fmt: skip
    assert all(one <= other for one, other in zip(ahead, behind, strict=True))
    assert len(ahead) == len([*comparisons(main_of(results))])


def test_the_lines_of_the_tracker_agree_with_the_table(everything):
    study = main_of(everything)
    lines = [*verdicts(study)]
    table = decisions(study)
    named = zip(*(texts(table, name) for name in ("question", "compared", "change", "verdict")),
                strict=True)  # fmt: skip
    for question, pair, change, verdict in named:
        [line] = [one for one in lines if one.startswith(f"{question}: {pair}: ")]
        assert change in line
        assert ("better" in line.split(": ")[2]) == verdict.endswith(" is better")


def test_where_levels_cross_neither_is_better_overall(results):
    table = decisions(main_of(results))
    by_question = dict(zip(texts(table, "question"), texts(table, "verdict"), strict=True))
    assert by_question["schedule"] == "cosine is better"
    assert "better" not in by_question["sampler"]


def test_the_look_that_decided_is_told_where_there_were_several(results):
    assert "look" not in titles(decisions(main_of(results)))
    looks = (Look((0, 1, 2), (0,)),)
    assert {*texts(decisions(main_of(replace(results, looks=looks))), "look")} >= {"1"}
