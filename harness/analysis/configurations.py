"""A configuration: one way of making images, with one metric of it under each training seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

import numpy as np

from harness.analysis.statistics import Interval, mean_interval, sampling_interval
from harness.metrics.distances import METRICS
from harness.work.looks import Look
from harness.work.results import CellResult, Measurement


@dataclass(frozen=True, eq=False)
class Labels:
    """What a cell is called among those that it is shown with: all that differs is in a label."""

    schedule: str  # trained under, with what else differs between trainings; and sampled under
    trained: str  # the same without the schedule that it is sampled under
    sampled: str
    sampler: str
    kind: str  # the sampler without what else differs in sampling
    setting: str  # what else differs


@dataclass(frozen=True)
class MetricInfo:
    """What a report must know of a metric, registered here or not."""

    key: str
    title: str
    lower_is_better: bool = True
    is_biased: bool = False  # its mean moves with the number of images, so n belongs to its name
    is_distance: bool = True
    explanation: str = ""

    @classmethod
    def of(cls, key: str) -> MetricInfo:
        """Of a registered metric; one of a package that is not installed here, or cannot be
        loaded, is taken to be a distance."""
        if key not in METRICS or METRICS.problem(key):
            return cls(key, key)
        metric = METRICS[key]
        return cls(
            key, metric.name, metric.lower_is_better, metric.biased,
            metric.group == "distance", metric.explanation,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Configuration(Labels):
    """Cells that differ in nothing but their seeds, and one metric of them.

    Means, intervals and differences are of values less their finite-sample bias.
    """

    steps: int  # or the evaluations it was allowed: see `unit`
    unit: str  # step or evaluation
    metric: MetricInfo
    cells: tuple[CellResult, ...]  # by training seed and then by sampling seed

    @property
    def label(self) -> str:
        """`linear with ddim`: all that differs, but for the number of steps."""
        return f"{self.schedule} with {self.sampler}"

    @property
    def lower_is_better(self) -> bool:
        """Whether smaller values of its metric are better."""
        return self.metric.lower_is_better

    @property
    def is_trained(self) -> bool:
        """Whether a network is trained: else there is no between-seed variance."""
        return self.cells[0].cell.training.is_trained

    @property
    def is_exact(self) -> bool:
        """Whether there is no network at all."""
        return self.cells[0].cell.training.is_exact

    @property
    def is_matched(self) -> bool:
        """Whether it is sampled under the schedule that its network was trained under."""
        return self.cells[0].cell.is_matched

    @property
    def spacing(self) -> str:
        """The spacing of its steps, with its options."""
        return str(self.cells[0].cell.spacing)

    @property
    def eta(self) -> float | None:
        """Of DDIM; None of other samplers."""
        sampler = self.cells[0].cell.sampler
        return float(sampler.keywords.get("eta", 0.0)) if sampler.name == "ddim" else None

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys of its cells, sorted."""
        return tuple(sorted(cell.cell.key for cell in self.cells))

    @cached_property
    def nfe(self) -> float:
        """Network evaluations for an image, the mean over its cells."""
        return fmean(cell.cost.nfe for cell in self.cells)

    @cached_property
    def by_seed(self) -> Mapping[int, list[CellResult]]:
        """The cells of each training seed."""
        found: dict[int, list[CellResult]] = {}
        for cell in self.cells:
            found.setdefault(cell.cell.training.seed, []).append(cell)
        return found

    def measurement(self, cell: CellResult) -> Measurement:
        """Its metric of one of its cells."""
        return cell.measurements[self.metric.key]

    @cached_property
    def values(self) -> Mapping[int, float]:
        """By training seed, the mean over sampling seeds, as measured."""
        return self._means(lambda measured: measured.value)

    @cached_property
    def corrected(self) -> Mapping[int, float]:
        """By training seed, the mean over sampling seeds, less the bias."""
        return self._means(lambda measured: measured.corrected)

    @cached_property
    def errors(self) -> Mapping[int, float]:
        """By training seed, the sampling error of its mean; NaN where it was not measured."""
        return {
            seed: sum(total_error(self.measurement(cell)) ** 2 for cell in cells) ** 0.5
            / len(cells)
            for seed, cells in self.by_seed.items()
        }  # fmt: skip

    @property
    def seeds(self) -> int:
        """How many training seeds it has."""
        return len(self.by_seed)

    @cached_property
    def mean(self) -> float:
        """The mean over training seeds, less the bias."""
        return float(np.mean(list(self.corrected.values())))

    @cached_property
    def as_measured(self) -> float:
        """The mean with the bias of few images: a figure such as "FID at n"."""
        return float(np.mean(list(self.values.values())))

    @property
    def rank(self) -> float:
        """The mean with the sign that makes smaller better."""
        return self.mean if self.lower_is_better else -self.mean

    @cached_property
    def interval(self) -> Interval:
        """Over training seeds; with a single one, over its sampling alone."""
        corrected = list(self.corrected.values())
        if self.seeds > 1:
            return mean_interval(corrected)
        return sampling_interval(corrected, list(self.errors.values()))

    @cached_property
    def error(self) -> float:
        """The sampling error of the mean, on the models at hand."""
        return float(np.sqrt(np.sum(np.square(list(self.errors.values())))) / self.seeds)

    def seen(self, look: Look) -> Configuration | None:
        """What a look saw of it; None where that is nothing."""
        cells = tuple(
            one
            for one in self.cells
            if one.cell.sampling_seed in look.sampling_seeds
            and (not self.is_trained or one.cell.training.seed in look.seeds)
        )
        return replace(self, cells=cells) if cells else None

    def _means(self, of: Callable[[Measurement], float]) -> dict[int, float]:
        return {
            seed: sum(of(self.measurement(cell)) for cell in cells) / len(cells)
            for seed, cells in self.by_seed.items()
        }


def total_error(measured: Measurement) -> float:
    """The standard error with what the choice of the reference adds, where that was asked for; NaN
    where it was not measured."""
    error = np.nan if measured.standard_error is None else measured.standard_error
    return float(np.hypot(error, measured.reference_error or 0.0))


def best(candidates: Iterable[Configuration]) -> Configuration:
    """The best by its mean; the cheaper one of two equals."""
    return min(candidates, key=lambda one: (one.rank, one.steps, one.label))


def best_of_each(
    candidates: Iterable[Configuration], name: Callable[[Configuration], str]
) -> list[Configuration]:
    """The best configuration of each name, the best of all first."""
    by_name: dict[str, list[Configuration]] = {}
    for one in candidates:
        by_name.setdefault(name(one), []).append(one)
    return sorted(map(best, by_name.values()), key=lambda one: (one.rank, one.label))


def within(everything: Iterable[Configuration], budget: float) -> list[Configuration]:
    """Those that need no more network evaluations than this; infinity means any."""
    return [one for one in everything if budget == np.inf or one.nfe <= budget]
