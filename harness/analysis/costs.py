"""What images cost, and what is worth it: price lines, time budgets, Pareto fronts, forecasts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from harness.analysis.configurations import Configuration
from harness.analysis.study import Study
from harness.work.results import CellResult, Run

BUDGETS = (10, 25, 50, np.inf)  # network evaluations per image

CostOf = Callable[[CellResult], float | None]
Placed = tuple[float, Configuration]


@dataclass(frozen=True)
class Price:
    """seconds per image = fixed + each * evaluations, on one machine."""

    machine: str
    fixed: float
    each: float
    reach: float  # half the 95 % interval of `each`; NaN for a line through two cells
    departure: float  # the largest relative distance of a cell from the line
    keys: list[str]
    left_out: int  # cells timed on other machines

    @property
    def holds(self) -> bool:
        """Whether the line is good enough to predict other step counts by."""
        return bool(np.isfinite(self.reach) and self.each > self.reach and self.departure < 0.25)


@dataclass(frozen=True)
class Costs:
    """What an image costs on one machine, by the keys of a configuration: the median over its
    cells."""

    machine: str
    of: Mapping[tuple[str, ...], float]


@dataclass(frozen=True)
class TimeBudget:
    """A round number of seconds per image, and what can be had for it on one machine."""

    seconds: float
    machine: str
    configurations: list[Configuration]


def seconds_of(study: Study) -> Costs:
    """The seconds of an image by each configuration."""
    return _costs(study, _seconds)


def joules_of(study: Study) -> Costs:
    """The joules of an image by each configuration, where the machine tells."""
    return _costs(study, lambda one: one.cost.joules_per_image)


def on_one_machine(cells: Iterable[CellResult], cost: CostOf) -> tuple[str, list[CellResult]]:
    """The machine on which most cells have this cost, and its cells: costs of two machines are
    never put side by side."""
    paid = [one for one in cells if (cost(one) or 0.0) > 0]
    machines = [one.provenance.machine for one in paid]
    if not paid:
        return "", []
    machine = max(sorted({*machines}), key=machines.count)
    return machine, [one for one in paid if one.provenance.machine == machine]


@lru_cache(maxsize=32)
def _costs(study: Study, cost: CostOf) -> Costs:
    measured = [one for each in study.configurations() for one in each.cells]
    machine, here = on_one_machine(measured, cost)
    cost_of = {one.cell.key: value for one in here if (value := cost(one)) is not None}
    return Costs(
        machine,
        {
            each.keys: float(np.median(paid))
            for each in study.configurations()
            if (paid := [cost_of[key] for key in each.keys if key in cost_of])
        },
    )


def _seconds(one: CellResult) -> float:
    return one.cost.seconds


def training_seconds(study: Study) -> float:
    """What all trainings of a study took, once for those that the same steps made."""
    took = {one.shared_with or one.training.key: one.seconds for one in study.trainings}
    return sum(took.values())


def cell_seconds(study: Study) -> float:
    """What all cells of a study took."""
    return sum(one.seconds for one in study.cells)


def budget_of_time(study: Study) -> TimeBudget | None:
    """The largest round time that no more than half of the configurations fit into; None where
    none are timed or all take about the same."""
    costs = seconds_of(study)
    seconds = costs.of
    if len(seconds) < 3:
        return None
    middle, longest = float(np.median([*seconds.values()])), max(seconds.values())
    decade = 10.0 ** np.floor(np.log10(middle))
    budget = max(step * decade for step in (1, 2, 5) if step * decade <= middle)
    fitting = [one for one in study.configurations() if seconds.get(one.keys, np.inf) <= budget]
    if len(fitting) < 2 or longest <= budget:
        return None
    return TimeBudget(float(budget), costs.machine, fitting)


def price(study: Study) -> Price | None:
    """The line through the timed cells of the machine that timed most of them; None where they
    do not have two different numbers of evaluations."""
    timed = [one for each in study.configurations() for one in each.cells if _seconds(one) > 0]
    machine, here = on_one_machine(timed, _seconds)
    nfe = np.array([one.cost.nfe for one in here], np.float64)
    if len({*nfe}) < 2:
        return None
    fixed, each, reach, departure = _line(nfe, np.array([_seconds(one) for one in here]))
    keys = sorted(one.cell.key for one in here)
    return Price(machine, fixed, each, reach, departure, keys, len(timed) - len(here))


def _line(
    nfe: NDArray[np.float64], seconds: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Relative least squares, so that a cell of 1,000 steps does not drown the others."""
    design = np.column_stack([np.ones_like(nfe), nfe]) / seconds[:, None]
    solution, *_ = np.linalg.lstsq(design, np.ones_like(nfe), rcond=None)
    departures = design @ solution - 1
    reach, free = np.nan, len(nfe) - 2
    if free > 0:
        covariance = np.linalg.inv(design.T @ design) * (departures @ departures) / free
        reach = float(special.stdtrit(free, 0.975) * np.sqrt(covariance[1, 1]))
    return float(solution[0]), float(solution[1]), reach, float(np.abs(departures).max())


def pareto_front(placed: Sequence[Placed]) -> list[Placed]:
    """The configurations that nothing beats at the same cost or less, by rising cost: each is
    strictly better than all cheaper ones, and of equal cost only the best is there. A cost that is
    not a number above zero is none."""
    known = [(cost, one) for cost, one in placed if np.isfinite(cost) and cost > 0]
    kept: list[Placed] = []
    for cost, one in sorted(
        known, key=lambda item: (item[0], item[1].rank, item[1].steps, item[1].label)
    ):
        if not kept or one.rank < kept[-1][1].rank:
            kept.append((cost, one))
    return kept


def placed_by(study: Study, cost: CostOf, machine: str = "") -> list[Placed]:
    """The configurations whose cells have this cost, on this machine where one is named, each at
    the median over its cells."""
    placed = []
    for one in study.configurations():
        here = [cell for cell in one.cells if machine in ("", cell.provenance.machine)]
        paid = [value for cell in here if (value := cost(cell) or 0.0) > 0]
        if paid:
            placed.append((float(np.median(paid)), one))
    return placed


def forecast_and_actual(study: Study) -> dict[str, NDArray[np.float64]]:
    """Predicted and actual seconds [pieces, 2] of trainings and of cells, for work that was done
    here after a forecast: sampling and features, not the arithmetic of the metrics; once for
    trainings that the same steps made."""
    own_last = sorted(study.trainings, key=lambda one: not one.shared_with)
    once = {one.shared_with or one.training.key: one for one in own_last}
    trainings = [(one.training.key, one.seconds) for one in once.values()]
    cells = [(one.cell.key, one.seconds) for one in study.cells]
    found = {}
    for kind, pieces in (("training", trainings), ("cell", cells)):
        runs = [(study.runs.get(key, Run()), took) for key, took in pieces]
        known = [(run.forecast, took) for run, took in runs
                 if run.forecast and not run.is_reused and took > 0]  # fmt: skip
        if known:
            found[kind] = np.array(known)
    return found
