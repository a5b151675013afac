"""Figures: each is drawn where it has something to show, and is the same every time."""

from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.figure import Figure

from harness.report import plots, style


@pytest.mark.parametrize("name", plots.BUILT_IN)
def test_a_figure_is_drawn_and_saved_the_same_twice(results, name):
    for kind in ("svg", "png"):
        first, second = (style.saved(plots.drawn(name, results), kind) for _ in range(2))
        assert first == second
        assert len(first) < 400_000


@pytest.mark.parametrize("name", plots.BUILT_IN)
def test_a_figure_with_nothing_to_show_is_none(results, name):
    empty = replace(
        results, cells=pd.DataFrame(), trainings=pd.DataFrame(), losses={}, time_losses={},
        schedules={}, sheets={},
    )  # fmt: skip
    assert plots.drawn(name, empty) is None


@pytest.mark.parametrize("name", plots.BUILT_IN)
def test_a_figure_can_be_drawn_from_one_cell(build, name):
    one = build(schedules=("cosine",), samplers=("ddim",), steps=(10,), seeds=(0,))
    figure = plots.drawn(name, one)
    assert isinstance(figure, Figure) or name == "comparisons"
    if figure:
        assert style.saved(figure, "svg")


@pytest.mark.parametrize("name", plots.BUILT_IN)
def test_a_caption_is_one_line_and_tells_how_to_read_the_figure(name):
    caption, _, reading = plots.PLOTS[name].__doc__.partition("\n")
    assert caption.endswith(".")
    assert reading.strip().endswith(".")


def test_a_schedule_has_one_colour_in_all_figures(results):
    assert len(set(style.colours(results).values())) == 2
    for name in ("quality_by_steps", "schedule_curves", "losses", "loss_by_time"):
        [legend] = plots.drawn(name, results).legends
        shown = {line.get_label(): line.get_color() for line in legend.get_lines()}
        for schedule, colour in style.colours(results).items():
            assert shown[schedule] == colour


def test_values_at_and_below_zero_stay_on_the_page(results):
    cells = results.cells.assign(kid=results.cells["kid"] - 0.05)
    axes = plots.drawn("quality_by_steps", replace(results, cells=cells)).axes[0]
    low, high = axes.get_ylim()
    for line in axes.lines:
        assert all(low <= value <= high for value in line.get_ydata())


def test_a_dollar_sign_in_a_name_is_a_dollar_sign(build):
    results = build(schedules=("a$b", "c$d"), samplers=("ddim",), steps=(5, 10), seeds=(0,))
    assert style.saved(plots.drawn("quality_by_steps", results), "svg")


def test_many_lines_are_drawn_in_a_panel_for_each_sampler(build):
    results = build(
        schedules=("linear", "cosine", "sigmoid"), samplers=("ddim", "ddpm", "heun"),
        steps=(5, 50), seeds=(0,),
    )  # fmt: skip
    for name in ("quality_by_steps", "quality_by_seconds"):
        panels = plots.drawn(name, results).axes
        assert [axes.get_title() for axes in panels] == ["ddim", "ddpm", "heun"]
        assert len({axes.get_ylim() for axes in panels}) == 1


def test_the_sheet_has_a_row_for_each_way_and_a_column_for_each_number_of_steps(results):
    figure = plots.drawn("samples", results)
    [axes] = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "10", "20", "50"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "cosine, ddim", "cosine, ddpm", "linear, ddim", "linear, ddpm",
    ]  # fmt: skip
    assert style.is_raster(figure)
