"""What pending work will take: seconds, memory and disk, by speeds that were measured here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from harness.diffusion.samplers import evaluations
from harness.diffusion.times import fitting_of
from harness.execute import machine
from harness.execute.machine import size
from harness.store import Store
from harness.work.cells import Cell, Part, Training, trained_together, training_of
from harness.work.overheads import Overheads
from harness.work.results import SamplingPath
from harness.work.speeds import Speeds, duration
from harness.work.timing import evaluations_made

if TYPE_CHECKING:
    from harness.work.outputs import ForecastOutput

NUMBER = 4  # bytes
KEPT_WEIGHTS = 2  # times: in the store, and at the checkpoint
KEPT_INFLUENCES = 6  # numbers an image, in the store and in the tracker
NOTHING = Overheads()
SHORTEST = 1.0  # seconds of a part of the work that are worth a word ...
LEAST = 0.01  # ... and of all
WORTH_A_PROCESS = 20.0  # seconds of metrics: it takes some to load what they need
ENOUGH_CORES = 4  # that a sampler on a GPU waits for none of those that compute metrics
NOISE_FLOOR = 0.01  # of abar at the first time: above it sampling starts from what never was noise


@dataclass(frozen=True)
class Forecast:
    """The speeds of the work with each model, and how much of it goes side by side."""

    speeds: Mapping[Part, Speeds]  # by model
    side_by_side: int = 1  # trainings at a time
    devices: int = 1  # that share each training
    measuring: int = 0  # network evaluations that the error of each average takes at its end
    real_images: int = 0  # whose features are still to be taken
    reported: int = 0  # cells in the report
    measured: int = 0  # cells to score from kept features
    beside: Overheads = NOTHING
    is_processor: bool = False  # that does the work, and no GPU
    metrics: float = 0.0  # seconds of a cell
    batch: int | None = None  # images sampled at once; None where only those asked for count

    def seconds(self, work: Training | Cell) -> float | None:
        """What one piece of work will take; None where that is not known."""
        if (speeds := self.speeds.get(training_of(work).model)) is None:
            return None
        if isinstance(work, Training):
            return speeds.train * work.training_steps * work.batch_size / self.devices
        return self.evaluations([work]) * speeds.evaluate + work.images * speeds.features

    def training_seconds(self, trainings: Sequence[Training]) -> float:
        """On the clock, with several trainings side by side, and once for those that the same
        steps make, each of which is measured."""
        each = [
            (self.seconds(group[0]) or 0.0) + len(group) * self.measuring_seconds(group[0])
            for group in trained_together(trainings)
        ]
        rounds = [each[i : i + self.side_by_side] for i in range(0, len(each), self.side_by_side)]
        return sum(max(some) for some in rounds)

    def measuring_seconds(self, training: Training) -> float:
        """Of measuring the error of one average of weights."""
        speeds = self.speeds.get(training.model)
        return self.measuring * speeds.evaluate if speeds else 0.0

    def sampling_seconds(self, cells: Iterable[Cell]) -> float:
        return sum(self.seconds(cell) or 0.0 for cell in cells)

    def evaluations(self, cells: Iterable[Cell]) -> int:
        """Network evaluations of single images to sample these cells, those for their timing
        included."""
        if self.batch is None:
            return sampled_evaluations(cells)
        each = {model: speeds.evaluate for model, speeds in self.speeds.items()}
        return sum(
            evaluations_made(cell, nfe_of(cell), self.batch, each.get(cell.training.model, 0.0))
            for cell in cells
        )

    def fitting_seconds(self, fits: Iterable[Cell]) -> float:
        """Of fitting steps to networks, one cell for each fit."""
        known = [(fitted_evaluations(one), self.speeds.get(one.training.model)) for one in fits]
        return sum(made * speeds.evaluate for made, speeds in known if speeds)

    def compile_seconds(self, trainings: Iterable[Training], cells: Iterable[Cell]) -> float:
        models = {one.model for one in trainings} | {cell.training.model for cell in cells}
        return sum(self.speeds[model].compile for model in models if model in self.speeds)

    def memory(self, trainings: Sequence[Training]) -> float:
        """Bytes, with as many processes as work side by side; 0 where that is not known."""
        most = max((speeds.memory for speeds in self.speeds.values()), default=0.0)
        return most * (self.side_by_side * self.devices if trainings else 1)

    def disk(self, trainings: Iterable[Training], cells: Iterable[Cell]) -> float:
        """Bytes that the work will add to the store and the tracker, pictures not counted."""
        models = [self.speeds.get(one.model) for one in trainings]
        weights = sum(NUMBER * KEPT_WEIGHTS * one.parameters for one in models if one)
        widths = [(cell.images, self.speeds.get(cell.training.model)) for cell in cells]
        return weights + sum(
            NUMBER * images * (one.width + KEPT_INFLUENCES) for images, one in widths if one
        )

    def real_seconds(self) -> float:
        """Of taking the features of real images."""
        return self.real_images * max((one.features for one in self.speeds.values()), default=0.0)

    def metric_seconds(self, cells: Sequence[Cell]) -> float:
        """Of the metrics of these cells, of those that are scored from kept features, and of the
        real images that all are held against; while the next cell is sampled, of what is longer."""
        if not (count := len(cells) + self.measured):
            return 0.0
        hidden = 0.0
        if self.overlaps(count):
            hidden = sum(min(self.metrics, self.seconds(cell) or 0.0) for cell in cells[1:])
        return self.metrics * (count + 1) - hidden

    def overlaps(self, cells: int) -> bool:
        """Whether the metrics of a cell are computed while the next is sampled: on a GPU, which
        does not wait for the processor that they take, where they are worth a process."""
        is_worth_it = self.metrics * cells > WORTH_A_PROCESS
        return is_worth_it and not self.is_processor and machine.cores() >= ENOUGH_CORES

    def fixed_seconds(self, trainings: Sequence[Training], cells: Sequence[Cell]) -> float:
        """Of starting up, worker processes, pictures, records and the report."""
        rounds = math.ceil(len(trained_together(trainings)) / self.side_by_side)
        return self.beside.seconds(rounds, len(cells) + self.measured, self.reported)

    @property
    def source(self) -> str:
        """Where the speeds come from."""
        return " and ".join(sorted({speeds.source for speeds in self.speeds.values()}))

    def total(
        self, trainings: Sequence[Training], cells: Sequence[Cell], fits: Sequence[Cell] = ()
    ) -> float:
        """All seconds of a run that does this work, from the command to its report."""
        return self.work_seconds(trainings, cells, fits) + self.fixed_seconds(trainings, cells)

    def work_seconds(
        self, trainings: Sequence[Training], cells: Sequence[Cell], fits: Sequence[Cell] = ()
    ) -> float:
        return (
            self.compile_seconds(trainings, cells)
            + self.training_seconds(trainings)
            + self.sampling_seconds(cells)
            + self.metric_seconds(cells)
            + self.fitting_seconds(fits)
            + self.real_seconds()
        )

    def sentence(
        self, trainings: Sequence[Training], cells: Sequence[Cell], fits: Sequence[Cell] = ()
    ) -> str:
        """What this work will take, in a sentence."""
        total, fixed = self.total(trainings, cells, fits), self.fixed_seconds(trainings, cells)
        several = f" ({self.side_by_side} at a time)" if self.side_by_side > 1 else ""
        shared = f" ({self.devices} devices for each)" if self.devices > 1 else ""
        parts = [
            (self.compile_seconds(trainings, cells), "compiling"),
            (self.training_seconds(trainings), f"training{several}{shared}"),
            (self.sampling_seconds(cells), "sampling"),
            (self.metric_seconds(cells), "metrics"),
            (self.fitting_seconds(fits), "fitting steps to networks"),
            (self.real_seconds(), f"the features of {self.real_images:,} real images"),
        ]
        least = max(SHORTEST, LEAST * total)
        told = [f"{duration(seconds)} of {what}" for seconds, what in parts if seconds >= least]
        beside = "starting up, records and the report"
        if fixed > total / 2:
            told.append(f"the rest {beside}")
        elif fixed >= least:
            told.append(f"{duration(fixed)} of {beside}")
        of_fits = sum(map(fitted_evaluations, fits))
        facts = [f"{self.evaluations(cells):,} network evaluations"]
        facts += [f"{of_fits:,} more to fit steps"] * bool(of_fits)
        if memory := self.memory(trainings):
            facts += [f"{size(memory)} of memory", f"{size(self.disk(trainings, cells))} of disk"]
        what = f": {', '.join(told)}" if told else ""
        return f"About {duration(total)} here{what}. {', '.join(facts)}. From {self.source}."

    def as_json(
        self, trainings: Sequence[Training], cells: Sequence[Cell], fits: Sequence[Cell] = ()
    ) -> ForecastOutput:
        return {
            "total_seconds": self.total(trainings, cells, fits),
            "fixed_seconds": self.fixed_seconds(trainings, cells),
            "real_image_seconds": self.real_seconds(),
            "training_seconds": self.training_seconds(trainings),
            "sampling_seconds": self.sampling_seconds(cells),
            "metric_seconds": self.metric_seconds(cells),
            "compile_seconds": self.compile_seconds(trainings, cells),
            "fitting_seconds": self.fitting_seconds(fits),
            "fitting_evaluations": sum(map(fitted_evaluations, fits)),
            "network_evaluations": self.evaluations(cells),
            "memory_bytes": self.memory(trainings),
            "disk_bytes": self.disk(trainings, cells),
            "source": self.source or None,
        }


def nfe_of(cell: Cell) -> int:
    """Network evaluations for one image."""
    return evaluations(cell.sampler.name, cell.steps, **cell.sampler.keywords)


def sampled_evaluations(cells: Iterable[Cell]) -> int:
    """Network evaluations of single images that these cells ask for."""
    return sum(cell.images * nfe_of(cell) for cell in cells)


def fitted_evaluations(cell: Cell) -> int:
    """Network evaluations of single images to fit the steps of a cell to its network, and of all
    that share the fit; 0 where none are fitted."""
    fitting = fitting_of(cell.spacing.name, **cell.spacing.keywords)
    return fitting.evaluations if fitting else 0


def measured_speeds(
    store: Store, like: Training, machine: str, threads: int | None = None
) -> Speeds | None:
    """The speeds of this store's own work with the same network, images and precision on this
    machine; None where it has not done both kinds.

    Where `threads` is given, a training that had more or fewer is no measure: several go side by
    side with one core each, one alone has them all.
    """

    def is_alike(training: Training) -> bool:
        fields = ("data", "model", "precision", "batch_size", "optimizer")
        return all(getattr(training, name) == getattr(like, name) for name in fields)

    trained = [one for one in store.training_results() if is_alike(one.training)]
    here = [one for one in trained if one.provenance.machine == machine]
    trains = [
        one.provenance.processes / one.images_per_second
        for one in here
        if threads is None or one.provenance.threads == threads
    ]
    same = [
        one
        for one in store.cell_results()
        if one.provenance.machine == machine and is_alike(one.cell.training)
    ]
    if not same or not (trains or not like.is_trained):
        return None
    return Speeds(
        median(trains) if trains else 0.0,
        median(one.cost.seconds / one.cost.nfe for one in same),
        median(one.cost.feature_seconds_per_image for one in same),
        "earlier runs on this machine",
        memory=max(one.cost.peak_memory_bytes for one in same),
        parameters=max((one.parameters for one in trained), default=0),
        width=max(one.feature_width for one in same),
        compile=max((one.compile_seconds for one in here), default=0.0)
        + max(one.cost.compile_seconds for one in same),
    )


def warnings_of(cell: Cell, path: SamplingPath) -> list[str]:
    """What a researcher would want to know of a cell before spending hours on it."""
    warnings = []
    steps = f"{cell.steps:,} step{'' if cell.steps == 1 else 's'}"
    if path.first_abar > NOISE_FLOOR:
        warnings.append(
            f"{cell.sample_schedule} with spacing {cell.spacing} at {steps} starts where abar is "
            f"{path.first_abar:.3f}, not from pure noise"
        )
    if path.clamped:
        warnings.append(
            f"trained under {cell.training.schedule}, sampled under {cell.sample_schedule} with "
            f"spacing {cell.spacing}: {path.clamped} of {steps} evaluate the network outside the "
            "log SNR that it was trained on, and get its answer for the nearest"
        )
    return warnings
