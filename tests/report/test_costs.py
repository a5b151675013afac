"""What quality costs: the fronts of the price, and the forecast beside what it took."""

from dataclasses import replace

import numpy as np
import pytest

from harness.report import plots, style
from harness.report.points import points
from harness.report.table import tidy
from harness.report.yardsticks import front


@pytest.fixture
def ways(results):
    """Four points with the ranks 1, 2, 3 and 4."""
    chosen = points(tidy(results, results.present()[0]))[:4]
    return [replace(point, centres={0: float(rank)}) for rank, point in enumerate(chosen, start=1)]


def ranks(placed):
    return [(cost, point.rank) for cost, point in placed]


def test_on_the_front_is_what_is_better_than_all_that_is_cheaper(ways):
    first, second, third, fourth = ways
    placed = [(3.0, second), (1.0, fourth), (2.0, third), (9.0, first), (4.0, third)]
    assert ranks(front(placed)) == [(1.0, 4), (2.0, 3), (3.0, 2), (9.0, 1)]


def test_of_equal_cost_only_the_best_is_on_the_front(ways):
    first, second, third, _ = ways
    assert ranks(front([(1.0, second), (1.0, first), (1.0, third)])) == [(1.0, 1)]


def test_what_is_dearer_and_no_better_is_not_on_the_front(ways):
    first, second, *_ = ways
    assert ranks(front([(1.0, first), (2.0, first), (3.0, second)])) == [(1.0, 1)]


@pytest.mark.parametrize("cost", [float("nan"), 0.0, -1.0, float("inf")])
def test_what_has_no_cost_is_not_on_the_front(ways, cost):
    first, second, *_ = ways
    assert ranks(front([(cost, first), (2.0, second)])) == [(2.0, 2)]
    assert front([(cost, first)]) == []


def test_a_front_goes_up_where_higher_is_better(ways):
    higher = [replace(point, lower_is_better=False) for point in ways]
    placed = [(1.0, higher[1]), (2.0, higher[0]), (3.0, higher[3])]
    assert [point.mean for _, point in front(placed)] == [2.0, 4.0]


def with_joules(results):
    return replace(
        results, cells=results.cells.assign(joules_per_image=9 * results.cells["seconds_per_image"])
    )


def test_there_is_a_panel_for_each_price_that_was_measured(results):
    named = [axes.get_xlabel() for axes in plots.drawn("pareto_front", results).axes]
    assert len(named) == 2
    assert named[0].startswith("network evaluations")
    assert named[1].startswith("milliseconds per image on Intel")
    joules = plots.drawn("pareto_front", with_joules(results)).axes[-1]
    assert joules.get_xlabel().startswith("joules per image on Intel")


def test_the_line_of_a_panel_goes_through_its_front_and_the_numbers_are_steps(results):
    axes = plots.drawn("pareto_front", results).axes[0]
    placed = [(point.nfe, point) for point in points(tidy(results, results.present()[0]))]
    best = front(placed)
    [line] = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert list(line.get_xdata()[:-1]) == [cost for cost, _ in best]
    assert list(line.get_ydata()) == [point.mean for _, point in [*best, best[-1]]]
    assert {text.get_text() for text in axes.texts} == {str(point.steps) for _, point in best}


def test_all_other_ways_are_there_and_faint(results):
    axes = plots.drawn("pareto_front", results).axes[0]
    marks = [line for line in axes.lines if line.get_marker() not in ("None", None, "")]
    faint = [line for line in marks if line.get_alpha()]
    assert len(faint) == len(points(tidy(results, results.present()[0])))
    assert 0 < len(marks) - len(faint) < len(faint)


def test_the_prices_of_one_machine_are_not_put_beside_those_of_another(results):
    machines = np.where(results.cells["seed"] == 0, "other", results.cells["machine"])
    mixed = replace(results, cells=with_joules(results).cells.assign(machine=machines))
    for axes in plots.drawn("pareto_front", mixed).axes[1:]:
        assert "other" not in axes.get_xlabel()


def test_a_legend_of_many_names_only_what_is_on_a_front(build):
    many = build(
        schedules=("linear", "cosine", *"abcd"), samplers=("ddpm", "ddim", *"efghi"),
        steps=(5, 50), seeds=(0,),
    )  # fmt: skip
    [legend] = plots.drawn("pareto_front", many).legends
    names = {text.get_text() for text in legend.get_texts()}
    assert {"cosine", "best for the price"} <= names
    assert "linear" not in names


def dots(axes):
    """What is marked in the figure of the forecast: pairs of forecast and actual seconds."""
    return [
        pair
        for line in axes.lines
        if line.get_marker() not in ("None", None, "")
        for pair in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def test_the_forecast_stands_against_what_it_took(results):
    axes = plots.drawn("forecast", results).axes[0]
    assert len(dots(axes)) == len(results.cells) + len(results.trainings)
    row = results.cells.iloc[0]
    actual = row["images"] * (row["seconds_per_image"] + row["feature_seconds_per_image"])
    assert (float(row["forecast_seconds"]), pytest.approx(actual)) in dots(axes)
    training = results.trainings.iloc[0]
    assert (38.0, pytest.approx(training["seconds"])) in dots(axes)
    assert {axes.get_xscale(), axes.get_yscale()} == {"log"}
    diagonal = next(line for line in axes.lines if line.get_marker() == "None")
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())


@pytest.mark.parametrize("reused", [True, "True"])
def test_what_was_computed_for_another_report_is_no_test_of_the_forecast(results, reused):
    cells = results.cells.assign(reused=False).astype({"reused": object})
    cells.loc[cells.index[:5], "reused"] = reused
    axes = plots.drawn("forecast", replace(results, cells=cells)).axes[0]
    assert len(dots(axes)) == len(cells) - 5 + len(results.trainings)


def test_without_forecasts_there_is_no_figure_of_them(results):
    bare = replace(
        results, cells=results.cells.drop(columns="forecast_seconds"),
        trainings=results.trainings.assign(forecast_seconds=""),
    )  # fmt: skip
    assert plots.drawn("forecast", bare) is None
    cells_only = replace(results, trainings=bare.trainings)
    figure = plots.drawn("forecast", cells_only)
    assert "training" not in [text.get_text() for text in figure.legends[0].get_texts()]
    assert style.saved(figure, "svg")
