"""What quality costs, and the forecast beside what it took."""

from dataclasses import replace

import pytest
from matplotlib.collections import PathCollection

from harness.analysis.costs import pareto_front
from harness.report.figures import style
from harness.work.results import Run


@pytest.fixture
def with_joules(results, change):
    return change(
        results,
        lambda one, _: replace(one, cost=replace(one.cost, joules_per_image=9 * one.cost.seconds)),
    )


def test_there_is_a_panel_for_each_cost_that_was_measured(drawn, results, with_joules):
    named = [axes.get_xlabel() for axes in drawn("pareto_front", results).axes]
    assert len(named) == 2
    assert named[0].startswith("network evaluations")
    assert named[1].startswith("milliseconds per image on Intel")
    joules = drawn("pareto_front", with_joules).axes[-1]
    assert joules.get_xlabel().startswith("joules per image on Intel")


def test_the_line_goes_through_the_optimal_configurations_with_their_steps(
    drawn, results, study_of
):
    axes = drawn("pareto_front", results).axes[0]
    best = pareto_front([(one.nfe, one) for one in study_of(results).configurations()])
    [line] = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert list(line.get_xdata()[:-1]) == [cost for cost, _ in best]
    assert list(line.get_ydata()) == [one.mean for _, one in [*best, best[-1]]]
    assert {text.get_text() for text in axes.texts} == {str(one.steps) for _, one in best}


def test_all_other_configurations_are_there_and_faint(drawn, results, study_of):
    axes = drawn("pareto_front", results).axes[0]
    faint, full = [part for part in axes.collections if isinstance(part, PathCollection)]
    everything = study_of(results).configurations()
    assert len(faint.get_offsets()) == len(everything)
    assert 0 < len(full.get_offsets()) < len(everything)
    assert max(faint.get_facecolors()[:, 3]) < min(full.get_facecolors()[:, 3])


def test_costs_of_one_machine_are_not_put_beside_those_of_another(drawn, with_joules, change):
    mixed = change(
        with_joules,
        lambda one, _: (
            one
            if one.cell.training.seed
            else replace(one, provenance=replace(one.provenance, machine="other"))
        ),
    )
    for axes in drawn("pareto_front", mixed).axes[1:]:
        assert "other" not in axes.get_xlabel()


def test_a_legend_of_many_names_only_what_is_optimal(drawn, build, legend):
    many = build(
        schedules=("linear", "cosine", *"abcd"), samplers=("ddpm", "ddim", *"efghi"),
        steps=(5, 50), seeds=(0,),
    )  # fmt: skip
    names = {*legend(drawn("pareto_front", many))}
    assert {"cosine", "best at this cost", "real images"} <= names
    assert "linear" not in names


def dots(axes):
    """What is marked in the figure of the forecast: pairs of forecast and actual seconds."""
    return [
        tuple(pair)
        for line in axes.lines
        if line.get_marker() not in ("None", None, "")
        for pair in line.get_xydata()
    ]


def test_the_forecast_stands_against_what_it_took(drawn, results):
    [axes] = drawn("forecast", results).axes
    assert len(dots(axes)) == len(results.cells) + len(results.trainings)
    one = results.cells[0]
    actual = one.cell.images * (one.cost.seconds + one.cost.feature_seconds_per_image)
    assert (results.runs[one.cell.key].forecast, pytest.approx(actual)) in dots(axes)
    training = results.trainings[0]
    foreseen = results.runs[training.training.key].forecast
    assert (foreseen, pytest.approx(training.seconds)) in dots(axes)
    assert {axes.get_xscale(), axes.get_yscale()} == {"log"}
    diagonal = next(line for line in axes.lines if line.get_marker() == "None")
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())


def test_what_was_computed_for_another_report_is_no_test_of_the_forecast(drawn, results):
    reused = {one.cell.key: Run(forecast=1.0, is_reused=True) for one in results.cells[:5]}
    figure = drawn("forecast", replace(results, runs={**results.runs, **reused}))
    assert len(dots(figure.axes[0])) == len(results.cells) - 5 + len(results.trainings)


def test_without_forecasts_there_is_no_figure_of_them(drawn, results, legend):
    assert drawn("forecast", replace(results, runs={})) is None
    cells = {one.cell.key: results.runs[one.cell.key] for one in results.cells}
    figure = drawn("forecast", replace(results, runs=cells))
    assert "training" not in legend(figure)
    assert "cell" in legend(figure)
    assert style.saved(figure, "svg")
