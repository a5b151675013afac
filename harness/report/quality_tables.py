"""The tables of quality of a study: means over training seeds with their intervals.

A metric that is no distance to real images stands in a second table, with the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.analysis.configurations import Configuration, MetricInfo, best
from harness.analysis.costs import seconds_of
from harness.analysis.study import Study
from harness.report.tables import (
    NOTHING,
    Column,
    Source,
    Table,
    Value,
    heading,
    numbers,
    sources,
    title_of,
    whole,
    words,
)
from harness.report.wording import estimate, number

MOST_DISTANCES = 3  # more columns than these leave no room for the rest
OTHER = "Fidelity, diversity and memorisation"

Name = tuple[str, str, int]  # schedule, sampler, steps


def quality(study: Study) -> list[Table]:
    """Quality by schedule, sampler and steps: the metric that decides with the distances beside it,
    and the rest."""
    group = _Group(study)
    first = [
        metric
        for n, metric in enumerate(study.metrics)
        if n == 0 or (n < MOST_DISTANCES and metric.is_distance)
    ]
    others = [metric for metric in study.metrics if metric not in first]
    tables = [group.table(first, with_costs=True)]
    return tables + ([group.table(others, title=OTHER)] if others else [])


@dataclass(frozen=True, eq=False)
class _Group:
    """A study with what its tables share, worked out once."""

    study: Study

    @cached_property
    def known(self) -> Mapping[str, Mapping[Name, Configuration]]:
        """The configurations that have each metric."""
        return {
            metric.key: {
                (one.schedule, one.sampler, one.steps): one
                for one in self.study.configurations(metric.key)
            }
            for metric in self.study.metrics
        }

    @cached_property
    def names(self) -> list[Name]:
        return sorted({name for known in self.known.values() for name in known})

    @cached_property
    def deciding(self) -> Mapping[Name, Configuration]:
        return self.known[self.study.metric.key]

    @cached_property
    def sources(self) -> Mapping[str, Source]:
        return sources(self.study)

    def table(
        self, metrics: Sequence[MetricInfo], *, with_costs: bool = False, title: str = ""
    ) -> Table:
        leader = best(self.deciding.values())
        steps = "evaluations allowed" if self.study.unit == "evaluation" else "steps"
        columns = [
            words("schedule", [schedule for schedule, _, _ in self.names]),
            words("sampler", [sampler for _, sampler, _ in self.names]),
            numbers(steps, [count for _, _, count in self.names], whole),
            *([numbers("NFE", map(self._nfe, self.names), whole)] if with_costs else []),
            *(column for metric in metrics for column in self._columns(metric)),
            *(self._costs() if with_costs else []),
        ]
        return Table(
            heading=heading(self.study),
            columns=columns,
            runs=[self._runs(name) for name in self.names],
            best=self.names.index((leader.schedule, leader.sampler, leader.steps)),
            baseline=self._real_images() if {c.baseline for c in columns} - {"", NOTHING} else "",
            title=title,
        )

    def _nfe(self, name: Name) -> float:
        return next(known[name].nfe for known in self.known.values() if name in known)

    def _columns(self, metric: MetricInfo) -> list[Column]:
        """A metric with its interval; where that is of the bias-corrected value, the value as
        measured stands before it."""
        known, study = self.known[metric.key], self.study
        shown = [_estimate(known.get(name)) for name in self.names]
        baseline = _rounded(study.baseline(metric.key))
        if not any(one.measurement(cell).is_corrected for one in known.values()
                   for cell in one.cells):  # fmt: skip
            return [Column(title_of(metric, study), shown, baseline)]
        raw = [known[name].as_measured if name in known else None for name in self.names]
        of_raw = _rounded(study.baseline(metric.key, corrected=False))
        return [
            numbers(title_of(metric, study), raw, baseline=of_raw),
            Column(f"{metric.title}, bias-corrected", shown, baseline),
        ]

    def _costs(self) -> list[Column]:
        """What the exact denoiser reaches, where it was sampled too; the time of an image."""
        exact = {name: self._exact(one) for name, one in self.deciding.items()}
        seconds = seconds_of(self.study).of
        milliseconds = [
            1e3 * seconds.get(self.deciding[name].keys, np.nan) if name in self.deciding else None
            for name in self.names
        ]
        title = f"{self.study.metric.title} of the exact denoiser"
        is_known = any(value is not None for value in exact.values())
        return [
            *([numbers(title, map(exact.get, self.names))] if is_known else []),
            numbers("ms per image", milliseconds),
        ]

    def _exact(self, configuration: Configuration) -> float | None:
        """What the exact denoiser reaches in the same way, mean over sampling seeds."""
        twins = [self.study.exact_twin(cell) for cell in configuration.cells]
        key = configuration.metric.key
        reached = [
            twin.measurements[key].corrected for twin in twins if twin and key in twin.measurements
        ]
        return float(np.mean(reached)) if reached else None

    def _runs(self, name: Name) -> list[Source]:
        """The cells of a configuration, by training seed and then by sampling seed."""
        cells = {
            one.cell.key: one
            for known in self.known.values()
            if name in known
            for one in known[name].cells
        }
        ordered = sorted(
            cells.values(),
            key=lambda one: (one.cell.training.seed, one.cell.sampling_seed, one.cell.key),
        )
        return [self.sources[one.cell.key] for one in ordered]

    def _real_images(self) -> str:
        images = self.study.baseline_images
        return f"real held-out images (n = {images:,})" if images else "real held-out images"


def _estimate(configuration: Configuration | None) -> Value:
    """The mean with its interval; without one where the metric states no error."""
    if configuration is None:
        return Value(NOTHING)
    span, mean = configuration.interval, configuration.mean
    text, _, bounds = estimate(mean, span.low, span.high).partition(" ")
    return Value(text, bounds, mean)


def _rounded(value: float) -> str:
    return number(value, 2)
