"""Quality in lines and in a matrix, and the comparisons."""

from dataclasses import replace
from itertools import combinations

import made
import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection

from harness.analysis.comparisons import asked
from harness.report.figures import style
from harness.report.wording import number


@pytest.fixture
def with_kid(change):
    """An experiment whose values of KID are changed by a function."""

    def with_kid(experiment, function):
        def changed(one, _):
            kid = one.measurements["kid"]
            value = function(kid.value)
            return replace(one, measurements={"kid": replace(kid, value=value, corrected=value)})

        return change(experiment, changed)

    return with_kid


def test_a_line_goes_through_the_means_of_its_configurations(drawn, results, study_of):
    axes = drawn("quality_by_steps", results).axes[0]
    lines = [line for line in axes.lines if line.get_marker() in style.MARKERS]
    assert len(lines) == 4
    means = {(one.steps, one.mean) for one in study_of(results).configurations()}
    assert {tuple(pair) for line in lines for pair in line.get_xydata()} == means
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "10", "20", "50"]


def test_there_is_a_band_for_each_line(drawn, results):
    axes = drawn("quality_by_steps", results).axes[0]
    bands = [part for part in axes.collections if isinstance(part, FillBetweenPolyCollection)]
    assert len(bands) == 4


def test_values_at_and_below_zero_stay_on_the_page(drawn, results, with_kid, study_of):
    lower = with_kid(results, lambda value: value - 0.05)
    for name in ("quality_by_steps", "quality_by_seconds", "pareto_front"):
        for axes in drawn(name, lower).axes:
            low, high = axes.get_ylim()
            for one in study_of(lower).configurations():
                assert low < one.mean < high


@pytest.mark.parametrize("name", ["quality_by_steps", "quality_by_seconds", "pareto_front",
                                  "comparisons", "losses", "forecast"])  # fmt: skip
@pytest.mark.parametrize("function", [
    lambda value: value, lambda value: 1e-4 * value, lambda value: 30 * value,
    lambda value: value**3 - 1e-5, lambda value: 0.2 + 0.01 * value,
])  # fmt: skip
def test_numbers_of_an_axis_do_not_touch(drawn, results, with_kid, name, function):
    figure = drawn(name, with_kid(results, function))
    figure.draw_without_rendering()
    for axes in figure.axes:
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            labels = [
                label.get_window_extent()
                for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
                if min(limits) <= place <= max(limits)
            ]
            assert labels
            assert not any(one.overlaps(other) for one, other in combinations(labels, 2))


def test_many_lines_are_drawn_on_a_panel_for_each_sampler(drawn, build):
    wide = build(
        schedules=("linear", "cosine", "sigmoid"), samplers=("ddim", "ddpm", "heun"),
        steps=(5, 50), seeds=(0,),
    )  # fmt: skip
    for name, across in (("quality_by_steps", "steps"), ("quality_by_seconds", "milliseconds")):
        panels = drawn(name, wide).axes
        assert [axes.get_title() for axes in panels] == ["ddim", "ddpm", "heun"]
        assert len({axes.get_ylim() for axes in panels}) == 1
        assert [axes.get_xlabel().split(" ")[0] for axes in panels] == ["", across, across]


def test_the_exact_denoiser_is_a_cross_beside_each_marker(drawn, legend, everything, study_of):
    figure = drawn("quality_by_steps", everything)
    heights = [
        y for axes in figure.axes for line in axes.lines if line.get_marker() == "x"
        for y in line.get_ydata() if np.isfinite(y)
    ]  # fmt: skip
    study = study_of(everything)
    exact = {study.exact_twin(one).measurements["kid"].value for one in study.cells
             if study.exact_twin(one)}  # fmt: skip
    assert heights
    assert all(np.isclose(height, [*exact]).any() for height in heights)
    assert "exact denoiser" in legend(figure)


def test_steps_are_numbered_where_nothing_is_better_in_the_same_time(drawn, results):
    [axes] = drawn("quality_by_seconds", results).axes
    numbered = [text.get_text() for text in axes.texts]
    assert set(numbered) <= {"5", "10", "20", "50"}
    assert len(numbered) >= 3
    assert "Intel" in axes.get_xlabel()


def test_no_more_schedules_are_drawn_than_there_are_colours(drawn, build, legend):
    wide = build(schedules=("linear", "cosine", *"abc"), steps=(5, 50), seeds=(0,), crossed=True)
    assert [*legend(drawn("quality_by_steps", wide))] == [
        "a", "b", "c", "cosine", "linear", "real images",
    ]  # fmt: skip
    many = build(schedules=("linear", "cosine", *"abcdefghij"), steps=(5, 50), seeds=(0,))
    lines = legend(drawn("quality_by_steps", many)).values()
    assert len(lines) == len(style.COLOURS) + 1
    assert len({line.get_color() for line in lines}) == len(lines)


def test_a_metric_whose_higher_values_are_better_says_so(drawn, results, change):
    changed = change(
        results, lambda one, _: replace(one, measurements={"recall": made.measured(0.5)})
    )
    assert "higher is better" in drawn("quality_by_steps", changed).get_supylabel()


def test_the_matrix_has_a_row_for_each_training_and_outlines_matched_schedules(
    drawn, everything, results, study_of
):
    assert drawn("train_by_sample", results) is None
    panels = drawn("train_by_sample", everything).axes
    assert len(panels) == 4  # one for each number of steps
    for axes in panels:
        assert [label.get_text() for label in axes.get_yticklabels()] == ["cosine", "linear"]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["cosine", "linear"]
        assert {patch.get_xy() for patch in axes.patches} == {(0, 0), (1, 1)}
    sampler = panels[0].get_title().split(",")[0]
    [mismatched] = [
        one for one in study_of(everything).configurations()
        if (one.trained, one.sampled) == ("linear", "cosine")
        and (one.steps, one.sampler) == (5, sampler)
    ]  # fmt: skip
    shown = {text.get_text(): text for text in panels[0].texts}
    assert [*shown][2] == number(mismatched.as_measured)


def test_the_better_a_value_of_the_matrix_the_darker_it_is(drawn, everything):
    for axes in drawn("train_by_sample", everything).axes:
        [mesh] = axes.collections
        values = [float(text.get_text()) for text in axes.texts]
        light = mesh.get_facecolors()[:, :3].sum(axis=1)
        assert np.argsort(light).tolist() == np.argsort(values).tolist()


def test_a_comparison_is_a_row_with_its_interval_and_a_filled_marker_for_a_verdict(
    drawn, results, study_of
):
    [axes] = drawn("comparisons", results).axes
    made = [*asked(study_of(results), "schedule"), *asked(study_of(results), "sampler")]
    marks = [line for line in axes.lines if line.get_marker() in ("s", "o")]
    assert sorted(line.get_xdata()[0] for line in marks) == sorted(
        one.difference.value for one in made
    )
    filled = [line for line in marks if line.get_markerfacecolor() != "white"]
    assert len(filled) == len([one for one in made if one.winner])
    assert next(label.get_text() for label in axes.get_yticklabels()) == (
        "cosine − linear (ddim, 5\N{NO-BREAK SPACE}steps)"
    )


def test_where_names_are_long_a_row_keeps_its_number_of_steps_together(drawn, build):
    long = build(schedules=("sigmoid(start=-3, end=3, tau=1)", "linear"), steps=(5, 1000))
    [axes] = drawn("comparisons", long).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert any("\n" in name for name in names)
    assert not any("\nsteps" in name for name in names)


def test_one_schedule_with_one_sampler_has_no_comparisons(drawn, build):
    assert drawn("comparisons", build(schedules=("linear",), samplers=("ddim",))) is None
