"""The tables of a study: quality, as means over training seeds with their intervals, every cell,
and the trainings.

A metric that is no distance to real images stands in a second table of quality, with the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from harness.analysis.configurations import (
    Configuration,
    MetricInfo,
    best,
    best_of_each,
    total_error,
)
from harness.analysis.costs import seconds_of
from harness.analysis.reference import exact_value
from harness.analysis.study import Study
from harness.report import tables
from harness.report.tables import NOTHING, Column, Source, Table, Value, numbers, title_of, words
from harness.report.wording import count, decimals_for, estimate, number, time_of
from harness.work.cells import Param
from harness.work.results import Experiment, Measurement, Run, TrainingResult

MOST_DISTANCES = 3  # more columns than these leave no room for the rest
OTHER = "Fidelity, diversity and memorisation"
# The settings that have a column where the cells differ in them.
TRAINING_SETTINGS = ("scale", "target", "weighting", "times", "loss_function", "training_steps",
                     "batch_size", "optimizer", "learning_rate", "ema")  # fmt: skip
SETTINGS = ("spacing", "clip", "model", *TRAINING_SETTINGS, "sampling_seed")

Name = tuple[str, str, int]  # schedule, sampler, steps


def quality(study: Study) -> list[Table]:
    """Quality by schedule, sampler and steps: the metric that decides with the distances beside it,
    and the rest."""
    rows, metrics = _QualityRows(study), study.metrics
    distances = [metric for metric in metrics[1:MOST_DISTANCES] if metric.is_distance]
    others = [metric for metric in metrics[1:] if metric not in distances]
    shown = [rows.table([metrics[0], *distances], with_costs=True)]
    return shown + ([rows.table(others, title=OTHER)] if others else [])


def by_steps(study: Study, most_rows: int | None = None, most_steps: int | None = None) -> Table:
    """The metric that decides: a row for each schedule and sampler, a column for each number of
    steps. Where there is room for fewer, the best rows, and steps from the fewest to the most."""
    everything = study.configurations()
    leader = best(everything)
    known = {(one.schedule, one.sampler, one.steps): one for one in everything}
    kept = best_of_each(everything, lambda one: one.label)[:most_rows]
    rows = sorted((one.schedule, one.sampler) for one in kept)
    counts = sorted({one.steps for one in everything})
    if most_steps and len(counts) > most_steps:
        places = np.linspace(0, len(counts) - 1, most_steps - 1).round().astype(int)
        counts = sorted({*(counts[place] for place in places), leader.steps})

    def value(schedule: str, sampler: str, steps: int) -> Value:
        one = known.get((schedule, sampler, steps))
        return replace(_estimate(one), is_best=one is leader)

    columns = [
        words("schedule", [schedule for schedule, _ in rows]),
        words("sampler", [sampler for _, sampler in rows]),
        *(Column(count(n, study.unit), [value(*row, n) for row in rows]) for n in counts),
    ]
    return Table(tables.heading(study), columns, [[] for _ in rows])


def every_cell(study: Study) -> Table:
    """One row for each cell with final weights, with all in which the cells differ."""
    final = tuple(one for one in study.results if one.cell.weights == "final")
    study = replace(study, results=final)
    cells = [one.cell for one in final]
    seeds = [cell.training.seed if cell.training.is_trained else None for cell in cells]
    columns = [words("schedule", [cell.training.schedule for cell in cells])]
    if not all(cell.is_matched for cell in cells):
        columns.append(words("sampled under", [cell.sample_schedule for cell in cells]))
    columns += [
        words("sampler", [cell.sampler for cell in cells]),
        *_settings(study),
        numbers("steps", [cell.steps for cell in cells], tables.whole),
        numbers("seed", seeds, tables.whole),
        *(_metric_column(study, metric, n == 0) for n, metric in enumerate(study.metrics)),
        numbers("ms per image", [1e3 * one.cost.seconds for one in final]),
    ]
    runs = tables.sources(study)
    return Table(tables.heading(study), columns, [[runs[cell.key]] for cell in cells])


def trainings(experiment: Experiment) -> Table | None:
    """One row for each model that was trained."""
    found = sorted(experiment.trainings, key=_training_order)
    if not found:
        return None
    compiling = [one.compile_seconds + _compiling(experiment, one.training.key) for one in found]
    differing = [
        name for name in ("model", *TRAINING_SETTINGS)
        if len({one.training.params()[name] for one in found}) > 1
    ]  # fmt: skip
    columns = [
        words("schedule", [one.training.schedule for one in found]),
        *(
            words(_titled(name), [one.training.params()[name] for one in found])
            for name in differing
        ),
        numbers("seed", [one.training.seed for one in found], tables.whole),
        numbers("parameters", [one.parameters for one in found], tables.whole),
        numbers("final loss", [one.loss for one in found]),
        Column("time", [_time_of(one, found) for one in found]),
        numbers("images/s", [one.images_per_second for one in found]),
        *([numbers("compiling", compiling, time_of)] if any(compiling) else []),
        words("machine", [one.provenance.machine for one in found]),
    ]
    ids = [experiment.runs.get(one.training.key, Run()).id for one in found]
    return Table("Trainings", columns, [[Source(run_id)] for run_id in ids])


@dataclass(frozen=True, eq=False)
class _QualityRows:
    """What the tables of quality share, worked out once: a row for each configuration."""

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

    def table(
        self, metrics: Sequence[MetricInfo], *, with_costs: bool = False, title: str = ""
    ) -> Table:
        study, names = self.study, self.names
        leader = best(self.known[study.metric.key].values())
        columns = [
            words("schedule", [schedule for schedule, _, _ in names]),
            words("sampler", [sampler for _, sampler, _ in names]),
            numbers("evaluations allowed" if study.unit == "evaluation" else "steps",
                    [count for _, _, count in names], tables.whole),
            *([numbers("NFE", map(self._nfe, names), tables.whole)] if with_costs else []),
            *(column for metric in metrics for column in self._columns(metric)),
            *(self._costs() if with_costs else []),
        ]  # fmt: skip
        images = f" (n = {study.baseline_images:,})" if study.baseline_images else ""
        has_baseline = any(column.baseline not in ("", NOTHING) for column in columns)
        runs, place = self._runs(), (leader.schedule, leader.sampler, leader.steps)
        return Table(
            tables.heading(study), columns, runs, names.index(place),
            f"real held-out images{images}" if has_baseline else "", title,
        )  # fmt: skip

    def _nfe(self, name: Name) -> float:
        return next(known[name].nfe for known in self.known.values() if name in known)

    def _columns(self, metric: MetricInfo) -> list[Column]:
        """A metric with its interval; where that is of the bias-corrected value, the value as
        measured stands before it."""
        known, study = self.known[metric.key], self.study
        shown = [_estimate(known.get(name)) for name in self.names]
        title, baseline = title_of(metric, study), number(study.baseline(metric.key), 2)
        measured = (one.measurement(cell) for one in known.values() for cell in one.cells)
        if not any(one.is_corrected for one in measured):
            return [Column(title, shown, baseline)]
        raw = [known[name].as_measured if name in known else None for name in self.names]
        of_raw = number(study.baseline(metric.key, corrected=False), 2)
        corrected = Column(f"{metric.title}, bias-corrected", shown, baseline)
        return [numbers(title, raw, baseline=of_raw), corrected]

    def _costs(self) -> list[Column]:
        """What the exact denoiser reaches, where it was sampled too; the time of an image."""
        seconds, study = seconds_of(self.study).of, self.study
        known = [self.known[study.metric.key].get(name) for name in self.names]
        milliseconds = [1e3 * seconds.get(one.keys, np.nan) if one else None for one in known]
        exact = [exact_value(study, one) if one else np.nan for one in known]
        columns = [numbers("ms per image", milliseconds)]
        if np.isfinite(exact).any():
            columns.insert(0, numbers(f"{study.metric.title} of the exact denoiser", exact))
        return columns

    def _runs(self) -> list[list[Source]]:
        """The cells of each configuration, by training seed and then by sampling seed."""
        runs, rows = tables.sources(self.study), []
        for name in self.names:
            rests_on = [known[name].cells for known in self.known.values() if name in known]
            cells = {one.cell.key: one.cell for group in rests_on for one in group}.values()
            ordered = sorted(cells, key=lambda one: (one.training.seed, one.sampling_seed, one.key))
            rows.append([runs[cell.key] for cell in ordered])
        return rows


def _compiling(experiment: Experiment, training_key: str) -> float:
    """How long compiling a network took for its cells: seconds that are in none of the others."""
    cells = (one for one in experiment.cells if one.cell.training.key == training_key)
    return max((one.cost.compile_seconds for one in cells), default=0.0)


def _settings(study: Study) -> list[Column]:
    """A column for each setting in which the cells or their trainings differ. An exact denoiser
    has no training, which is no difference."""
    fields = {one.cell.key: one.cell.fields() for one in study.results}
    columns = []
    for name in SETTINGS:
        compared = study.cells if name in TRAINING_SETTINGS else study.results
        if len({fields[one.cell.key][name] for one in compared}) > 1:
            values = [_setting(fields[one.cell.key][name]) for one in study.results]
            columns.append(words(_titled(name), values))
    return columns


def _titled(setting: str) -> str:
    return {"loss_function": "loss"}.get(setting, setting.replace("_", " "))


def _training_order(one: TrainingResult) -> tuple[object, ...]:
    training = one.training
    settings = (str(training.model), *(training.params()[name] for name in TRAINING_SETTINGS))
    return str(training.schedule), *settings, training.seed, training.key


def _time_of(one: TrainingResult, found: Iterable[TrainingResult]) -> Value:
    """What a training took, and with which other decay the same steps made it."""
    decays = [other.training.ema for other in found if other.training.key == one.shared_with]
    shared = f"shared with ema {decays[0]:g}" if decays else ""
    return Value(time_of(one.seconds), shared, one.seconds)


def _setting(value: Param) -> Param:
    return tables.yes_or_no(value) if isinstance(value, bool) else value


def _metric_column(study: Study, metric: MetricInfo, with_error: bool) -> Column:
    measured = [one.measurements.get(metric.key) for one in study.results]
    return Column(title_of(metric, study), [_measured_value(one, with_error) for one in measured])


def _measured_value(measured: Measurement | None, with_error: bool) -> Value:
    """`0.1623 ± 0.0041`, both to the decimals that the error leaves meaningful."""
    if measured is None:
        return Value(NOTHING)
    value, error = measured.value, total_error(measured)
    if not (with_error and np.isfinite([value, error]).all()):
        return Value(number(value), number=value)
    decimals = max(decimals_for(error, 2), decimals_for(value, 2))
    error_text = f"± {number(error, decimals=decimals)}"
    return Value(number(value, decimals=decimals), error_text, value)


def _estimate(configuration: Configuration | None) -> Value:
    """The mean with its interval; without one where the metric states no error."""
    if configuration is None:
        return Value(NOTHING)
    span, mean = configuration.interval, configuration.mean
    text, _, bounds = estimate(mean, span.low, span.high).partition(" ")
    return Value(text, bounds, mean)
