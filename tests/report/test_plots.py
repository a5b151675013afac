"""Figures: each is drawn where it has something to show, and is the same every time."""

from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.figure import Figure

from harness.report import plots, style
from harness.report.table import tidy
from harness.report.words import number


@pytest.mark.parametrize("name", plots.BUILT_IN)
def test_a_figure_is_drawn_and_saved_the_same_twice(everything, name):
    for kind in ("svg", "png"):
        first, second = (style.saved(plots.drawn(name, everything), kind) for _ in range(2))
        assert first == second
        assert len(first) < 400_000


@pytest.mark.parametrize("name", plots.BUILT_IN)
def test_a_figure_with_nothing_to_show_is_none(results, name):
    empty = replace(
        results, cells=pd.DataFrame(), trainings=pd.DataFrame(), losses={}, time_losses={},
        schedules={}, sheets={}, films={}, nearest={}, paths={},
    )  # fmt: skip
    assert plots.drawn(name, empty) is None


@pytest.mark.parametrize("name", plots.BUILT_IN)
def test_a_figure_can_be_drawn_from_one_cell(build, name):
    one = build(schedules=("cosine",), samplers=("ddim",), steps=(10,), seeds=(0,))
    figure = plots.drawn(name, one)
    assert isinstance(figure, Figure) or name in ("comparisons", "train_by_sample")
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


def test_the_matrix_has_a_row_for_each_training_and_outlines_its_own_schedule(everything, results):
    assert plots.drawn("train_by_sample", results) is None
    panels = plots.drawn("train_by_sample", everything).axes
    assert len(panels) == 4  # one for each number of steps
    for axes in panels:
        assert [label.get_text() for label in axes.get_yticklabels()] == ["cosine", "linear"]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["cosine", "linear"]
        outlined = {patch.get_xy() for patch in axes.patches}
        assert outlined == {(0, 0), (1, 1)}
    frame = tidy(everything, everything.present()[0])
    here = frame[(frame["trained"] == "linear") & (frame["sampled"] == "cosine")]
    best_sampler = panels[0].get_title().split(",")[0]
    mean = here[(here["steps"] == 5) & (here["sampler"] == best_sampler)]["value"].mean()
    shown = [text.get_text() for text in panels[0].texts]
    assert shown[2] == number(mean)


def test_the_exact_denoiser_is_a_cross_beside_each_marker(everything):
    axes = plots.drawn("quality_by_steps", everything).axes[0]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    exact = tidy(everything, everything.present()[0])["exact_value"].dropna().unique()
    heights = {round(float(line.get_ydata()[0]), 9) for line in crosses}
    assert heights <= {round(float(value), 9) for value in exact}
    assert crosses


def test_the_figures_are_in_the_order_of_the_page():
    assert list(plots.BUILT_IN) == [
        "quality_by_steps", "samples", "best_samples", "film", "train_by_sample",
        "quality_by_seconds", "pareto_front", "comparisons", "schedule_curves", "snr_by_step",
        "losses", "loss_by_time", "nearest_images", "forecast",
    ]  # fmt: skip


def test_where_many_ways_are_compared_a_row_keeps_its_number_of_steps_together(build):
    long = build(schedules=("sigmoid(start=-3, end=3, tau=1)", "linear"), steps=(5, 1000))
    names = [
        label.get_text() for label in plots.drawn("comparisons", long).axes[0].get_yticklabels()
    ]
    assert any("\n" in name for name in names)
    assert all("steps" in name.replace("\N{NO-BREAK SPACE}", "_") for name in names)
    assert not any("\nsteps" in name for name in names)


def test_steps_are_numbered_where_nothing_beats_them_in_the_same_time(results):
    axes = plots.drawn("quality_by_seconds", results).axes[0]
    numbered = [text.get_text() for text in axes.texts]
    assert set(numbered) <= {"5", "10", "20", "50"}
    assert len(numbered) >= 3


def test_no_more_schedules_are_drawn_than_there_are_colours(build):
    wide = build(schedules=("linear", "cosine", *"abc"), steps=(5, 50), seeds=(0,), crossed=True)
    [legend] = plots.drawn("quality_by_steps", wide).legends
    assert {text.get_text() for text in legend.get_texts()} == {
        "linear", "cosine", "a", "b", "c", "real images",
    }  # fmt: skip
    many = build(schedules=("linear", "cosine", *"abcdefghij"), steps=(5, 50), seeds=(0,))
    [legend] = plots.drawn("quality_by_steps", many).legends
    assert len(legend.get_lines()) == len(style.COLOURS) + 1
    assert len({line.get_color() for line in legend.get_lines()}) == len(style.COLOURS) + 1
