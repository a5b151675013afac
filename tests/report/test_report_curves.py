"""Curves: what a spacing does with its steps, and what a loss is called."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.report import curves, plots


def spaced(results, *spacings):
    """The same results with every cell sampled by each of these spacings."""
    frames = [
        results.cells.assign(spacing=spacing, key=results.cells["key"] + spacing)
        for spacing in spacings
    ]
    paths = {
        key + spacing: path.assign(log_snr=path["log_snr"] + i)
        for i, spacing in enumerate(spacings)
        for key, path in results.paths.items()
    }
    return replace(results, cells=pd.concat(frames, ignore_index=True), paths=paths)


def entries(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_there_is_a_line_for_each_schedule_and_spacing_with_a_mark_at_each_step(results):
    figure = plots.drawn("snr_by_step", spaced(results, "uniform", "karras"))
    [axes] = figure.axes
    assert len(axes.lines) == 4
    for line in axes.lines:
        assert list(line.get_xdata()) == list(range(21))
        assert line.get_marker() not in ("None", None)
    assert entries(figure) == ["cosine", "linear", "karras", "uniform"]
    assert axes.get_xlabel() == "step (of 20)"


def test_the_lines_of_a_schedule_share_a_colour_and_those_of_a_spacing_a_marker(results):
    [axes] = plots.drawn("snr_by_step", spaced(results, "uniform", "karras")).axes
    assert len({line.get_color() for line in axes.lines}) == 2
    assert len({line.get_marker() for line in axes.lines}) == 2
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == 4


def test_an_infinite_ratio_is_cut_and_not_left_out(results):
    paths = {
        key: path.assign(log_snr=[-np.inf, *[0.0] * (len(path) - 2), np.inf])
        for key, path in results.paths.items()
    }
    [axes] = plots.drawn("snr_by_step", replace(results, paths=paths)).axes
    for line in axes.lines:
        assert (line.get_ydata()[0], line.get_ydata()[-1]) == (-curves.CUT, curves.CUT)


def test_the_curve_of_a_schedule_is_cut_where_it_is_infinite(results):
    right = plots.drawn("schedule_curves", results).axes[1]
    assert max(max(line.get_ydata()) for line in right.lines) == curves.CUT


@pytest.mark.parametrize(
    ("steps", "shown"), [((5, 10), 10), ((5, 50), 5), ((15, 25), 15), ((1000,), 1000)]
)
def test_the_number_of_steps_nearest_to_twenty_is_shown(build, steps, shown):
    [axes] = plots.drawn("snr_by_step", build(steps=steps)).axes
    assert axes.get_xlabel() == f"step (of {shown:,})"


def test_a_number_of_steps_that_most_have_goes_before_a_nearer_one(results):
    cells = results.cells
    paths = {key: path for key, path in results.paths.items() if "-20-" not in key or "lin" in key}
    [axes] = plots.drawn("snr_by_step", replace(results, cells=cells, paths=paths)).axes
    assert axes.get_xlabel() == "step (of 10)"


def test_networks_sampled_under_another_schedule_go_along_its_path(everything):
    figure = plots.drawn("snr_by_step", everything)
    assert entries(figure) == ["cosine", "linear", "leading"]


def test_many_paths_have_a_panel_for_each_schedule(build):
    many = spaced(build(schedules=tuple("abc")), "uniform", "karras", "trailing")
    figure = plots.drawn("snr_by_step", many)
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c"]
    assert entries(figure) == ["karras", "trailing", "uniform"]
    assert {len(axes.lines) for axes in figure.axes} == {3}


@pytest.mark.parametrize(
    ("changed", "label"),
    [
        ({}, "mean squared error of the noise"),
        ({"loss_function": "mae", "target": "velocity"}, "mean absolute error of the velocity"),
        ({"weighting": "min_snr"}, "training loss"),
    ],
)
def test_the_loss_is_called_what_it_is(results, changed, label):
    trainings = results.trainings.assign(**({"loss_function": "mse"} | changed))
    axes = plots.drawn("losses", replace(results, trainings=trainings)).axes[0]
    assert axes.get_ylabel() == label
