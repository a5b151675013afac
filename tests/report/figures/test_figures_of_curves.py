"""Curves: what the schedules do, what a spacing does with its steps, and what a loss is called."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.report.figures import curves
from harness.work.cells import Part


def path_of(log_snr):
    table = pd.DataFrame({"t": np.linspace(1, 0, len(log_snr)), "log_snr": log_snr})
    return table.to_csv(index=False).encode()


@pytest.fixture
def spaced(with_files):
    """The same experiment with every cell sampled by each of these spacings."""

    def spaced(experiment, *spacings):
        def by(one, place, spacing):
            table = pd.read_csv(io.BytesIO(one.artifacts.read("path.csv")))
            return path_of(table["log_snr"] + place)

        parts = [
            with_files(
                replace(experiment, cells=tuple(
                    replace(one, cell=replace(one.cell, spacing=Part(spacing)))
                    for one in experiment.cells)),
                lambda one, place=place, spacing=spacing: {"path.csv": by(one, place, spacing)},
            )
            for place, spacing in enumerate(spacings)
        ]  # fmt: skip
        return replace(experiment, cells=tuple(one for part in parts for one in part.cells))

    return spaced


def test_there_is_a_line_for_each_schedule_and_spacing_with_a_mark_at_each_step(
    drawn, labels, results, spaced
):
    figure = drawn("snr_by_step", spaced(results, "uniform", "karras"))
    [axes] = figure.axes
    assert len(axes.lines) == 4
    for line in axes.lines:
        assert list(line.get_xdata()) == list(range(21))
        assert line.get_marker() not in ("None", None)
    assert len({line.get_color() for line in axes.lines}) == 2
    assert len({str(line.get_marker()) for line in axes.lines}) == 2
    assert {*labels(figure)} == {
        "cosine, karras", "cosine, uniform", "linear, karras", "linear, uniform",
    }  # fmt: skip
    assert axes.get_xlabel() == "step (of 20)"
    assert figure.get_supylabel() == "log SNR"


def test_an_infinite_ratio_is_cut_and_not_left_out(drawn, results, with_files):
    def infinite(one):
        return {"path.csv": path_of([-np.inf, *[0.0] * (one.cell.steps - 1), np.inf])}

    [axes] = drawn("snr_by_step", with_files(results, infinite)).axes
    for line in axes.lines:
        assert (line.get_ydata()[0], line.get_ydata()[-1]) == (-curves.CUT, curves.CUT)


def test_the_curve_of_a_schedule_is_cut_where_it_is_infinite(drawn, results):
    right = drawn("schedule_curves", results).axes[1]
    assert max(max(line.get_ydata()) for line in right.lines) == curves.CUT


def test_a_schedule_that_was_only_sampled_under_has_its_curves_too(
    drawn, legend, build, with_files
):
    crossed = build(crossed=True, seeds=(0,))
    curve = crossed.trainings[0].artifacts.read("schedule.csv")
    trainings = [one for one in crossed.trainings if str(one.training.schedule) == "linear"]
    cells = [one for one in crossed.cells if str(one.cell.training.schedule) == "linear"]
    one_sided = replace(crossed, trainings=tuple(trainings), cells=tuple(cells))
    assert "cosine" not in legend(drawn("schedule_curves", one_sided))
    kept = with_files(
        one_sided, lambda one: {"schedule.csv": None if one.cell.is_matched else curve}
    )
    assert [*legend(drawn("schedule_curves", kept))][:2] == ["cosine", "linear"]


@pytest.mark.parametrize(
    ("steps", "shown"), [((5, 10), 10), ((5, 50), 5), ((15, 25), 15), ((1000,), 1000)]
)
def test_the_number_of_steps_nearest_to_twenty_is_shown(drawn, build, steps, shown):
    [axes] = drawn("snr_by_step", build(steps=steps)).axes
    assert axes.get_xlabel() == f"step (of {shown:,})"


def test_a_number_of_steps_that_most_have_goes_before_a_nearer_one(drawn, results, with_files):
    def without_some(one):
        is_lost = one.cell.steps == 20 and one.cell.sample_schedule.name == "cosine"
        return {"path.csv": None} if is_lost else {}

    [axes] = drawn("snr_by_step", with_files(results, without_some)).axes
    assert axes.get_xlabel() == "step (of 10)"


def test_networks_sampled_under_another_schedule_go_along_its_path(drawn, labels, everything):
    assert {*labels(drawn("snr_by_step", everything))} == {"cosine", "linear"}


def test_many_paths_have_a_panel_for_each_schedule(drawn, legend, build, spaced):
    many = spaced(build(schedules=tuple("abc"), seeds=(0,)), "uniform", "karras", "trailing")
    figure = drawn("snr_by_step", many)
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c"]
    assert [*legend(figure)] == ["karras", "trailing", "uniform"]
    assert {len(axes.lines) for axes in figure.axes} == {3}


@pytest.mark.parametrize("name", ["losses", "loss_by_time"])
def test_each_training_is_a_thin_line_and_the_mean_of_its_seeds_a_thick_one(drawn, results, name):
    lines = drawn(name, results).axes[0].lines
    assert sorted(line.get_linewidth() for line in lines) == [0.8] * 6 + [2] * 2
    for mean in lines[6:]:
        same = [line for line in lines[:6] if line.get_color()[:3] == mean.get_color()[:3]]
        assert len(same) == 3
        expected = np.mean([line.get_ydata() for line in same], axis=0)
        assert mean.get_ydata() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["losses", "loss_by_time"])
def test_trainings_that_differ_in_the_decay_of_their_average_have_one_loss(
    drawn, labels, results, name
):
    def slower(training):
        return replace(training, ema=0.5)

    cells = [replace(one, cell=replace(one.cell, training=slower(one.cell.training)))
             for one in results.cells]  # fmt: skip
    shared = [replace(one, training=slower(one.training), shared_with=one.training.key)
              for one in results.trainings]  # fmt: skip
    figure = drawn(name, [*results.cells, *cells, *results.trainings, *shared])
    assert len(figure.axes[0].lines) == 6 + 2
    assert {*labels(figure)} == {"cosine", "linear"}


@pytest.mark.parametrize(
    ("changed", "label"),
    [
        ({}, "mean squared error of the noise"),
        ({"loss": "mae", "target": "velocity"}, "mean absolute error of the velocity"),
        ({"weighting": Part("min_snr")}, "training loss"),
    ],
)
def test_the_loss_is_called_what_it_is(drawn, results, changed, label):
    cells = [
        replace(one, cell=replace(one.cell, training=replace(one.cell.training, **changed)))
        for one in results.cells
    ]
    trainings = [
        replace(one, training=replace(one.training, **changed)) for one in results.trainings
    ]
    [axes] = drawn("losses", [*cells, *trainings]).axes
    assert axes.get_ylabel() == label
