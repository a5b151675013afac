"""Costs: the price of an evaluation, time budgets, Pareto fronts, forecasts."""

import math
from dataclasses import replace

import made
import numpy as np
import pytest
from studies import by_steps, forecast

from harness.analysis.costs import (
    budget_of_time,
    forecast_and_actual,
    joules_of,
    on_one_machine,
    pareto_front,
    placed_by,
    price,
    seconds_of,
    training_seconds,
)
from harness.analysis.study import Study
from harness.work.results import Run

THREE = {5: [0.2], 10: [0.1], 50: [0.05]}


def seconds(one):
    return one.cost.seconds


def test_the_price_is_the_line_that_the_seconds_lie_on():
    line = price(by_steps(THREE, seconds=lambda cell: 0.001 + 0.002 * cell.steps))
    assert (line.fixed, line.each) == (pytest.approx(0.001), pytest.approx(0.002))
    assert line.departure == pytest.approx(0, abs=1e-9)
    assert line.holds
    assert price(by_steps({5: [0.2, 0.1]}, seconds=lambda cell: 1.0)) is None
    assert price(by_steps(THREE)) is None  # nothing is timed


def test_seconds_that_trainings_share_count_once():
    first = made.trained(made.TRAINING, seconds=10.0)
    sibling = replace(made.TRAINING, ema=0.99)
    shared = replace(first, training=sibling, shared_with=made.TRAINING.key)
    alone = made.trained(replace(made.TRAINING, seed=1), seconds=5.0)
    assert training_seconds(Study.of([first, shared, alone])) == 15
    assert training_seconds(Study.of([shared, alone])) == 15


def test_a_forecast_that_trainings_share_counts_once():
    of = forecast(1.5)
    [first] = of.trainings
    sibling = replace(first.training, ema=0.99)
    shared = replace(first, training=sibling, shared_with=first.training.key)
    runs = of.runs | {sibling.key: Run(forecast=100.0)}
    both = forecast_and_actual(Study(of.results, (shared, first), runs))
    assert both["training"] == pytest.approx(np.array([[100, 150]]))


def test_a_line_through_two_cells_has_no_bounds_and_does_not_predict():
    line = price(by_steps({5: [0.2], 10: [0.1]}, seconds=lambda cell: cell.steps))
    assert math.isnan(line.reach)
    assert not line.holds


def test_the_bounds_of_the_price_cover_it_as_often_as_they_say():
    draw, covered, rounds = np.random.default_rng(0), 0, 300
    for _ in range(rounds):
        line = price(by_steps({n: [0.1] for n in (5, 10, 20, 50)}, seconds=lambda cell: (
            0.001 + 0.002 * cell.steps) * (1 + 0.02 * draw.normal())))  # fmt: skip
        covered += abs(line.each - 0.002) <= line.reach
    assert covered / rounds == pytest.approx(0.95, abs=0.03)


def test_costs_are_those_of_the_machine_that_timed_most_cells():
    fast = by_steps(THREE, seconds=lambda cell: 1.0).results
    [slow] = by_steps({5: [0.2]}, machine="two", seconds=lambda cell: 9.0).results
    slow = replace(slow, cell=replace(slow.cell, sampling_seed=1))
    machine, cells = on_one_machine([*fast, slow], seconds)
    assert (machine, len(cells)) == ("one", 3)
    of = Study.of([*fast, slow])
    assert {*seconds_of(of).of.values()} == {1.0}
    assert price(of).left_out == 1
    assert on_one_machine([], seconds) == ("", [])
    placed = placed_by(of, seconds, "two")
    assert [(cost, one.steps) for cost, one in placed] == [(9.0, 5)]


def test_joules_are_told_where_the_machine_tells():
    def more(one):
        joules = 2.0 if one.cell.steps == 5 else None
        return replace(one, cost=replace(one.cost, joules_per_image=joules))

    assert [*joules_of(by_steps(THREE, more=more)).of.values()] == [2.0]
    assert joules_of(by_steps(THREE)).of == {}


def test_the_time_budget_is_a_round_time_that_half_of_the_configurations_fit_into():
    of = by_steps({n: [0.1] for n in (5, 10, 20, 50)}, seconds=lambda cell: cell.steps / 1000)
    budget = budget_of_time(of)
    assert budget.seconds == pytest.approx(0.01)  # the median is 15 ms
    assert [one.steps for one in budget.configurations] == [5, 10]
    assert budget_of_time(by_steps(THREE)) is None
    alike = by_steps(THREE, seconds=lambda cell: 0.01)
    assert budget_of_time(alike) is None


def test_a_pareto_front_holds_what_nothing_beats_at_the_same_cost_or_less():
    five, ten, twenty, fifty = by_steps(
        {5: [0.3], 10: [0.3], 20: [0.1], 50: [0.2]}
    ).configurations()
    placed = [(50, fifty), (10, ten), (5, five), (20, twenty), (math.nan, fifty), (0, twenty)]
    assert pareto_front(placed) == [(5, five), (20, twenty)]
    assert pareto_front([(5, ten), (5, twenty)]) == [(5, twenty)]
    assert pareto_front([]) == []


def test_forecasts_count_for_work_that_was_done_here_after_one():
    of = forecast(1.5)
    both = forecast_and_actual(of)
    assert both["training"] == pytest.approx(np.array([[100, 150]]))
    assert both["cell"] == pytest.approx(np.array([[5, 7.5], [10, 15], [50, 75]]))
    reused = {key: replace(run, is_reused=True) for key, run in of.runs.items()}
    assert forecast_and_actual(Study(of.results, of.trainings, reused)) == {}
    unknown = dict.fromkeys(of.runs, Run())
    assert forecast_and_actual(Study(of.results, of.trainings, unknown)) == {}
