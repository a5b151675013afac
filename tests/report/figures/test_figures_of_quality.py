"""Quality in lines and in a matrix, and the comparisons."""

from dataclasses import replace
from itertools import combinations

import made
import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection
from studies import study

from harness.analysis.questions import comparisons, questions
from harness.analysis.statistics import Interval
from harness.report.figures import catalogue, effects, quality, style
from harness.report.figures import comparisons as comparison_figure
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
        for axes in drawn(name, lower).axes[: 2 if name == "pareto_front" else 1]:
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
        panels = drawn(name, wide).axes[:3]
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
    numbered = [text.get_text() for text in axes.texts if text.xycoords == "data"]
    assert set(numbered) <= {"5", "10", "20", "50"}
    assert len(numbered) >= 3
    assert "Intel" in axes.get_xlabel()


def test_mismatched_schedules_have_a_figure_of_their_own(drawn, labels, everything):
    names = {*labels(drawn("quality_by_steps", everything))}
    assert {"cosine, ddim", "linear, ddpm"} <= names
    assert not any("sampled as" in name for name in names)


def test_many_schedules_have_a_panel_each_with_the_others_in_grey(drawn, build):
    many = build(schedules=("linear", "cosine", *"abcde"), samplers=("ddim",), steps=(5, 50),
                 seeds=(0,))  # fmt: skip
    panels = drawn("quality_by_steps", many).axes[:7]
    assert [axes.get_title() for axes in panels] == sorted(["linear", "cosine", *"abcde"])
    for axes in panels:
        grey = [line for line in axes.lines if line.get_color() == quality.BEHIND]
        assert len(grey) == 7


def test_of_many_samplers_the_usual_ones_are_always_drawn(drawn, build, study_of):
    letters = [chr(ord("a") + n) for n in range(20)]
    many = build(samplers=("ddim", "ddpm", *letters), steps=(5,), seeds=(0,))
    figure = drawn("quality_by_steps", many)
    titles = [axes.get_title() for axes in figure.axes[:12]]
    assert {"ddim", "ddpm"} <= {*titles}
    assert "12 of 22" in catalogue.caption("quality_by_steps", figure)[1]


def test_below_stands_the_difference_in_each_configuration_with_its_verdict(
    drawn, results, study_of
):
    lower = drawn("quality_by_steps", results).axes[1]
    assert lower.get_title("left") == "KID of cosine relative to linear"
    marks = [line for line in lower.lines if line.get_marker() in style.MARKERS]
    made = comparisons(study_of(results), "schedule")
    assert sorted(line.get_ydata()[0] for line in marks) == pytest.approx(
        sorted(one.effect.value for one in made)
    )
    filled = [line for line in marks if line.get_markerfacecolor() != "white"]
    assert len(filled) == sum(one.verdict != "inconclusive" for one in made)
    assert any("overall" in text.get_text() for text in lower.texts)


@pytest.mark.parametrize(("seeds", "has_band"), [((0,), False), ((0, 1, 2), True)])
def test_the_band_of_the_overall_effect_is_spoken_of_where_it_is_drawn(
    drawn, build, seeds, has_band
):
    reading = catalogue.caption("quality_by_steps", drawn("quality_by_steps", build(seeds=seeds)))
    assert ("shaded band" in reading[1]) == has_band
    assert "dashed line" in reading[1]


def test_without_a_question_no_difference_is_drawn(drawn, build):
    one = build(schedules=("linear",), samplers=("ddim",))
    assert len(drawn("quality_by_steps", one).axes) == 1


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


def rows_of(axes):
    """The names of the rows, and what is said beside them."""
    names = [label.get_text() for label in axes.get_yticklabels()]
    return dict(zip(names, [text.get_text() for text in axes.texts], strict=True))


def test_every_main_effect_is_a_row_with_its_verdict_in_words(drawn, results, study_of):
    [axes] = drawn("comparisons", results).axes
    rows = rows_of(axes)
    schedule, sampler, *_ = questions(study_of(results))
    assert rows["schedule\ncosine against linear"].startswith("better\n−")
    assert sampler.main[0].is_opposed
    assert rows["sampler\nddim against ddpm"].startswith("differs by configuration")
    assert "steps\n10 steps against 5" in rows
    assert rows["ddim, 5\N{NO-BREAK SPACE}steps"] == "better"
    marks = [line for line in axes.lines if line.get_marker() in ("D", "o")]
    assert marks[0].get_xdata()[0] == pytest.approx(schedule.main[0].effect.value)
    open_ = {name for name, line in zip(rows, marks, strict=True)
             if line.get_markerfacecolor() == "white"}  # fmt: skip
    assert open_ == {name for name, says in rows.items()
                     if not says.startswith(("better", "worse"))}  # fmt: skip


def test_beside_a_row_there_is_no_room_for_why_it_is_not_significant():
    linear = {5: [0.30, 0.36, 0.26], 10: [0.13, 0.10, 0.12], 50: [0.05, 0.06, 0.045]}
    cosine = {5: [0.20, 0.22, 0.19], 10: [0.12, 0.11, 0.12], 50: [0.05, 0.055, 0.05]}
    of = study({(name, "ddim", steps): values
                for name, each in (("linear", linear), ("cosine", cosine))
                for steps, values in each.items()})  # fmt: skip
    [schedule, _] = questions(of)
    assert schedule.comparisons[0].effect.why == "not significant after correction"
    [axes] = comparison_figure.main_comparisons(of).axes
    assert rows_of(axes)["5\N{NO-BREAK SPACE}steps"] == "not significant"


def test_of_many_levels_the_leading_one_is_compared_with_each(drawn, build, study_of):
    many = build(schedules=("linear", "cosine", *"abc"))
    figure = drawn("comparisons", many)
    rows = rows_of(figure.axes[0])
    mains = [name for name in rows if name.startswith("schedule\n")]
    assert len(mains) == 4
    assert all("cosine against" in name for name in mains)
    shown = len(figure.axes[0].texts)
    assert shown <= comparison_figure.MOST_ROWS
    total = sum(len(one.main) + len(one.comparisons) for one in questions(study_of(many)))
    reading = catalogue.caption("comparisons", figure)[1]
    assert f"The table has {total - shown} more." in reading


def test_one_training_seed_gives_open_marks_and_says_why(drawn, build):
    rows = rows_of(drawn("comparisons", build(seeds=(0,))).axes[0])
    assert rows["schedule\ncosine against linear"].startswith("one seed\n−")


def test_long_names_are_wrapped(drawn, build):
    long = build(schedules=("sigmoid(start=-3, end=3, tau=1)", "linear"), steps=(5, 1000))
    [axes] = drawn("comparisons", long).axes
    lines = [line for name in rows_of(axes) for line in name.split("\n")]
    assert max(map(len, lines)) <= comparison_figure.LONGEST_LINE + 4


def test_one_configuration_has_no_comparisons(drawn, build):
    one = build(schedules=("linear",), samplers=("ddim",), steps=(5,))
    assert drawn("comparisons", one) is None


@pytest.mark.parametrize("span", [(-0.02, 0.01), (-0.3, 0.2), (-2.0, 0.1), (-1.0, 9.0), (0.0, 0.0)])
@pytest.mark.parametrize("which", ["x", "y"])
def test_an_axis_of_ratios_has_readable_ticks_and_a_zero(span, which):
    figure, axes = style.figure_of(3)
    effects.ratio_axis(axes, which, [Interval(sum(span) / 2, *span, 3)], 2)
    axis = axes.xaxis if which == "x" else axes.yaxis
    assert 0 in axis.get_ticklocs()
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
