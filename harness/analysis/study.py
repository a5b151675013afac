"""A study: results whose numbers may be put side by side, and what they are called there.

It is made from results alone, so that a finding can be tested with a few that are made by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from harness.analysis.configurations import Configuration, Labels, MetricInfo
from harness.metrics.distances import METRICS
from harness.work.cells import Cell, Training
from harness.work.looks import Look
from harness.work.results import CellResult, Experiment, Measurement, Run, TrainingResult

FIRST = ("kid", "fid", "fid_infinity")  # KID decides where it is there: it is unbiased
# What else may differ between trainings, or ways of sampling: it joins the label wherever it does,
# so that nothing is averaged over unseen. Some values speak for themselves.
OF_THE_TRAINING = {
    "model": "", "scale": "scale ", "target": "target ", "weighting": "weighting ",
    "times": "times ", "loss": "", "training_steps": "training steps ", "batch_size": "batch size ",
    "optimizer": "", "learning_rate": "learning rate ", "ema": "ema ",
}  # fmt: skip
OF_THE_GIVEN = ("model", "scale", "target")  # of those, what a network has that comes trained
OF_THE_SAMPLING = {"spacing": "", "clip": "clip "}


@dataclass(frozen=True)
class Quantity:
    """What identifies a measured quantity: values that differ in one of these are never compared.

    The fingerprints tell a data set or weights from others of the same name.
    """

    data: str
    data_fingerprint: str
    extractor: str
    extractor_fingerprint: str
    reference: str
    images: int
    precision: str

    @classmethod
    def of(cls, result: CellResult) -> Quantity:
        """The quantity that the metrics of a cell measure."""
        cell, made = result.cell, result.provenance
        return cls(
            str(cell.training.data), made.data, made.extractor or str(cell.extractor),
            made.extractor_fingerprint, cell.reference, cell.images, made.precision,
        )  # fmt: skip

    def differences(self, other: Quantity) -> list[str]:
        """The names of the fields in which two quantities differ."""
        return [
            each.name
            for each in fields(self)
            if getattr(self, each.name) != getattr(other, each.name)
        ]


def differences(one: CellResult, other: CellResult) -> list[str]:
    """In what the quantities of two cells differ. The exact denoiser knows one precision only,
    which is no difference."""
    found = Quantity.of(one).differences(Quantity.of(other))
    is_exact = one.cell.training.is_exact != other.cell.training.is_exact
    return [name for name in found if not (is_exact and name == "precision")]


@dataclass(frozen=True, eq=False)
class Study:
    """Comparable results: of networks and, beside them, of the exact denoiser.

    Where there are both, the cells of networks are what it is about; `exact_twin` gives what the
    exact denoiser reaches in the same way, and `checkpoint` the same cell at 90 % of its training.
    """

    results: tuple[CellResult, ...]
    trainings: tuple[TrainingResult, ...] = ()
    runs: Mapping[str, Run] = field(default_factory=dict)
    looks: tuple[Look, ...] = ()  # at which verdicts were asked for, where there were several

    @classmethod
    def of(cls, results: Iterable[CellResult | TrainingResult]) -> Study:
        """A study of these results, taken to be comparable."""
        results = list(results)
        return cls(
            tuple(one for one in results if isinstance(one, CellResult)),
            tuple(one for one in results if isinstance(one, TrainingResult)),
        )

    @cached_property
    def cells(self) -> tuple[CellResult, ...]:
        """What the study is about, with final weights: of networks; of the exact denoiser where
        there are none."""
        final = [one for one in self.results if one.cell.weights == "final"]
        networks = [one for one in final if not one.cell.training.is_exact]
        return tuple(sorted(networks or final, key=_order))

    @cached_property
    def quantity(self) -> Quantity:
        """The quantity that all of its cells measure."""
        return Quantity.of(self.cells[0])

    @cached_property
    def metrics(self) -> tuple[MetricInfo, ...]:
        """The metrics that have values here; the first one decides."""
        names = {name for one in self.cells for name in one.measurements}
        rank = {name: place for place, name in enumerate(FIRST)}
        known = sorted(names & {*METRICS.names()}, key=lambda name: (rank.get(name, 9), name))
        return tuple(MetricInfo.of(name) for name in [*known, *sorted(names - {*known})])

    @cached_property
    def metric(self) -> MetricInfo:
        """The metric that decides. Raises IndexError where nothing was measured."""
        return self.metrics[0]

    @property
    def unit(self) -> str:
        """What a configuration's `steps` count: steps, or the evaluations that a cell was
        allowed."""
        return "evaluation" if any(one.cell.budget for one in self.cells) else "step"

    def labels(self, cell: Cell) -> Labels:
        """What a cell is called among the cells of this study."""
        training = self._suffix(cell.training)
        schedule, sampled = str(cell.training.schedule), str(cell.sample_schedule)
        setting = _varying(cell, OF_THE_SAMPLING, self._differing_in_sampling)
        shown = schedule if cell.is_matched else f"{schedule} sampled as {sampled}"
        kind = str(cell.sampler)
        return Labels(shown + training, schedule + training, sampled, kind + setting, kind, setting)

    def training_label(self, training: Training) -> str:
        """The schedule of a training, with all else in which the trainings differ."""
        return f"{training.schedule}{self._suffix(training)}"

    def loss_label(self, training: Training) -> str:
        """The same without the decay of the average of the weights, of which a training loss knows
        nothing."""
        return f"{training.schedule}{self._suffix(training, but='ema')}"

    def configurations(self, metric: str = "") -> tuple[Configuration, ...]:
        """All configurations that have this metric (the one that decides, where none is named), in
        the order of their names and steps."""
        metric = metric or (self.metrics[0].key if self.metrics else "")
        if metric not in self._configurations:
            self._configurations[metric] = self._grouped(metric)
        return self._configurations[metric]

    @cached_property
    def _configurations(self) -> dict[str, tuple[Configuration, ...]]:
        return {}

    def _grouped(self, metric: str) -> tuple[Configuration, ...]:
        groups: dict[tuple[str, str, int], list[CellResult]] = {}
        for one in self.cells:
            if metric in one.measurements:
                labels = self.labels(one.cell)
                steps = one.cell.budget or one.cell.steps
                groups.setdefault((labels.schedule, labels.sampler, steps), []).append(one)
        info = MetricInfo.of(metric)
        return tuple(
            Configuration(
                **vars(self.labels(cells[0].cell)),
                steps=way[2],
                unit=self.unit,
                metric=info,
                cells=tuple(cells),
            )
            for way, cells in sorted(groups.items())
        )

    def named(self, metric: MetricInfo) -> str:
        """`FID (n = 2,000, bias-corrected)`: what identifies the metric beside its extractor, which
        a page names once."""
        if not metric.is_biased:
            return metric.title
        measured = [one.measurements[metric.key] for one in self.cells
                    if metric.key in one.measurements]  # fmt: skip
        is_corrected = bool(measured) and all(one.is_corrected for one in measured)
        corrected = ", bias-corrected" if is_corrected else ""
        return f"{metric.title} (n = {self.quantity.images:,}{corrected})"

    def baseline(self, metric: str = "", corrected: bool = True) -> float:
        """What real held-out images score, mean over cells; NaN where that was not measured. Of a
        biased metric only at the cells' own number of images."""
        info = MetricInfo.of(metric or self.metric.key)
        found = [
            value
            for one in self.cells
            if (measured := one.measurements.get(info.key))
            and (not corrected or not info.is_biased or one.baseline_images == one.cell.images)
            and (value := _baseline(measured, corrected)) is not None
        ]
        return float(np.mean(found)) if found else np.nan

    @property
    def baseline_images(self) -> int | None:
        """How many real held-out images the baseline has; None where it was not measured."""
        return next((one.baseline_images for one in self.cells if one.baseline_images), None)

    def exact_twin(self, result: CellResult) -> CellResult | None:
        """What the exact denoiser reaches in the same way as this cell of a network."""
        if result.cell.training.is_exact:
            return None
        return self._exact.get(self._way(result.cell))

    @cached_property
    def _exact(self) -> dict[tuple[Any, ...], CellResult]:
        exact = [one for one in self.results if one.cell.training.is_exact]
        return {self._way(one.cell): one for one in sorted(exact, key=_order, reverse=True)}

    def _way(self, cell: Cell) -> tuple[Any, ...]:
        labels = self.labels(cell)
        steps = cell.budget or cell.steps
        return cell.training.scale, labels.sampled, labels.sampler, steps, cell.sampling_seed

    def checkpoint(self, result: CellResult) -> CellResult | None:
        """The same cell, sampled with its network as it was at 90 % of its training."""
        return self._checkpoints.get(result.cell)

    @cached_property
    def _checkpoints(self) -> dict[Cell, CellResult]:
        return {
            replace(one.cell, weights="final"): one
            for one in self.results
            if one.cell.weights != "final"
        }

    @cached_property
    def _differing_in_training(self) -> list[str]:
        # Of its cells, too: the record of a training may be lost.
        known = {*(one.training for one in self.trainings), *(c.cell.training for c in self.cells)}
        networks = [training for training in known if not training.is_exact] or [*known]
        return [name for name in OF_THE_TRAINING if len(levels_of(networks, name)) > 1]

    @cached_property
    def _differing_in_sampling(self) -> list[str]:
        final = [one.cell for one in self.results if one.cell.weights == "final"]
        return _differing(final, OF_THE_SAMPLING)

    def _suffix(self, training: Training, but: str = "") -> str:
        names = [name for name in self._differing_in_training if name != but]
        if not training.is_trained:  # of which nothing else is a choice
            own = ("scale",) if training.is_exact else OF_THE_GIVEN
            names = [name for name in names if name in own]
        return _varying(training, OF_THE_TRAINING, names)


def is_exact(study: Study) -> bool:
    """Whether all that a study is about was made by the exact denoiser."""
    return all(one.cell.training.is_exact for one in study.cells)


def levels_of(trainings: Iterable[Training], name: str) -> set[Any]:
    """The values of a field of trainings; what is not trained here has no recipe."""
    return {getattr(one, name) for one in trainings if one.is_trained or name in OF_THE_GIVEN}


def studies(experiment: Experiment) -> list[Study]:
    """The results of an experiment in groups whose numbers may be compared, the largest first.
    Beside the cells of networks stand those of the exact denoiser for the same quantity."""
    final = [one for one in experiment.cells if one.cell.weights == "final"]
    networks = [one for one in final if not one.cell.training.is_exact] or final
    groups: dict[Quantity, list[CellResult]] = {}
    for one in networks:
        groups.setdefault(Quantity.of(one), []).append(one)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), str(item[0])))
    found = []
    for _, members in ordered:
        chosen = {one.cell.key for one in members}
        beside = [
            one
            for one in experiment.cells
            if one.cell.key not in chosen
            and (one.cell.training.is_exact or one.cell.weights != "final")
            and not differences(members[0], one)
        ]
        results = sorted([*members, *beside], key=_order)
        needed = {one.cell.training.key for one in results}
        trainings = sorted(
            (one for one in experiment.trainings if one.training.key in needed),
            key=lambda one: (one.training.title, one.training.key),
        )
        found.append(Study(tuple(results), tuple(trainings), experiment.runs, experiment.looks))
    return found


def _order(one: CellResult) -> tuple[Any, ...]:
    """An order that does not depend on who finished first."""
    cell = one.cell
    return (
        str(cell.training.schedule), str(cell.sample_schedule), cell.training.target,
        cell.training.training_steps, str(cell.sampler), str(cell.spacing), str(cell.clip),
        cell.steps, cell.training.seed, cell.sampling_seed, cell.key,
    )  # fmt: skip


def _baseline(measured: Measurement, corrected: bool) -> float | None:
    if corrected and measured.is_corrected and measured.baseline_corrected is not None:
        return measured.baseline_corrected
    return measured.baseline


def _differing(values: Iterable[object], names: Iterable[str]) -> list[str]:
    values = list(values)
    return [name for name in names if len({str(getattr(one, name)) for one in values}) > 1]


def _varying(value: object, named: Mapping[str, str], differing: Iterable[str]) -> str:
    """What these fields add to a label: nothing where all agree."""
    return "".join(f", {named[name]}{getattr(value, name)}" for name in differing)
