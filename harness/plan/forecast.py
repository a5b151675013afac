"""What a run would do and what it would cost, before it does it.

Speeds come from earlier work of the same kind in this store on this machine; where there is none,
from a probe of a few seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness.diffusion.samplers import evaluations
from harness.plan.work import Cell, Part, Training
from harness.runtime.store import Store

NUMBER = 4  # bytes
KEPT_WEIGHTS = 3  # times: in the store, at the checkpoint, in the tracker
KEPT_INFLUENCES = 6  # numbers an image, in the store and in the tracker
LISTED = 60  # lines of cells on the screen; --json has all
NOISE_FLOOR = 0.01  # of abar at the first time: above it sampling starts from what never was noise


@dataclass(frozen=True)
class Speeds:
    """How long the pieces of work with one model take on one machine."""

    train: float  # seconds per image and training step, of one training at work among `side`
    evaluate: float  # seconds per image and network evaluation
    features: float  # seconds per image
    source: str
    memory: float = 0.0  # bytes that one process holds
    parameters: float = 0.0  # of the network
    width: float = 0.0  # features of an image


@dataclass(frozen=True)
class Plan:
    """The work of a grid, what of it is done, and what the rest will cost."""

    name: str
    trainings: list[Training]
    cells: list[Cell]
    to_train: frozenset[str]
    to_score: frozenset[str]
    known: frozenset[str]
    speeds: Mapping[Part, Speeds]  # by model; none where nothing is left to do, or it is not known
    side_by_side: int  # trainings at a time
    warnings: tuple[str, ...] = ()
    twice: frozenset[str] = frozenset()  # cells to sample at their training's checkpoint, too
    processes: int = 1  # that share each training

    def seconds(self, work: Training | Cell) -> float:
        """What one piece of work will take; 0 where that is not known."""
        if (speeds := self._speeds(work)) is None:
            return 0.0
        if isinstance(work, Training):
            return speeds.train * work.training_steps * work.batch_size / self.processes
        return work.images * (evaluations_of(work) * speeds.evaluate + speeds.features)

    @property
    def memory(self) -> float:
        """Bytes, with as many processes as work side by side; 0 where that is not known."""
        most = max((speeds.memory for speeds in self.speeds.values()), default=0.0)
        return most * (self.side_by_side * self.processes if self.to_train else 1)

    @property
    def disk(self) -> float:
        """Bytes that the rest will add to the store and the tracker, pictures not counted."""

        def added(work: Training | Cell) -> float:
            if (speeds := self._speeds(work)) is None:
                return 0.0
            if isinstance(work, Training):
                return NUMBER * KEPT_WEIGHTS * speeds.parameters
            return NUMBER * work.images * (speeds.width + KEPT_INFLUENCES)

        todo: list[Training | Cell] = [one for one in self.trainings if one.key in self.to_train]
        todo += [cell for cell in self.cells if cell.key in self.to_score]
        return sum(map(added, todo))

    @property
    def training_seconds(self) -> float:
        """On the clock, with several trainings side by side."""
        each = [self.seconds(one) for one in self.trainings if one.key in self.to_train]
        rounds = [each[i : i + self.side_by_side] for i in range(0, len(each), self.side_by_side)]
        return sum(max(some) for some in rounds)

    @property
    def sampling_seconds(self) -> float:
        return sum(self.seconds(cell) for cell in self._samplings())

    @property
    def evaluations(self) -> int:
        """Network evaluations of single images still to be made for samples."""
        return sum(cell.images * evaluations_of(cell) for cell in self._samplings())

    def _speeds(self, work: Training | Cell) -> Speeds | None:
        return self.speeds.get((work if isinstance(work, Training) else work.training).model)

    def _samplings(self) -> list[Cell]:
        """Each cell as often as it is still to be sampled."""
        todo = [cell for cell in self.cells if cell.key in self.to_score]
        return [*todo, *(cell for cell in todo if cell.key in self.twice)]

    @property
    def source(self) -> str:
        """Where the speeds come from."""
        return " and ".join(sorted({speeds.source for speeds in self.speeds.values()}))

    def state(self, work: Training | Cell) -> str:
        if work.key in self.to_train or work.key in self.to_score:
            return "to do"
        return "in the store" if work.key in self.known else "finished"

    def text(self) -> str:
        """For a person."""
        lines = [
            f"{self.name}: {count(len(self.trainings), 'training')}, "
            f"{count(len(self.cells), 'cell')}; "
            f"{len(self.to_train)} to train, {len(self.to_score)} to sample and score."
        ]
        if self.speeds:
            lines.append(self.cost())
        elif not self.to_train and not self.to_score:
            lines.append("Nothing to do.")
        lines += [f"Note: {warning}" for warning in self.warnings]
        everything: list[Training | Cell] = [*self.trainings, *self.cells]
        rows = [(work.key, self.state(work), work.title) for work in everything]
        lines += ["", *(f"  {key}  {state:12}  {what}" for key, state, what in rows[:LISTED])]
        if len(rows) > LISTED:
            lines.append(f"  ... and {len(rows) - LISTED} more (--json lists all)")
        return "\n".join(lines)

    def cost(self) -> str:
        """What the rest will take, in a sentence."""
        total = self.training_seconds + self.sampling_seconds
        return (
            f"About {duration(total)} here: training {duration(self.training_seconds)}"
            + (f" ({self.side_by_side} at a time)" if self.side_by_side > 1 else "")
            + (f" (by {self.processes} processes together)" if self.processes > 1 else "")
            + f", sampling and scoring {duration(self.sampling_seconds)} "
            f"({self.evaluations:,} network evaluations)"
            + (
                f"; {size(self.memory)} of memory and {size(self.disk)} of disk"
                if self.memory
                else ""
            )
            + f". From {self.source}."
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "trainings": [self._row(training) for training in self.trainings],
            "cells": [self._row(cell) for cell in self.cells],
            "forecast": {
                "training_seconds": self.training_seconds,
                "sampling_seconds": self.sampling_seconds,
                "network_evaluations": self.evaluations,
                "memory_bytes": self.memory,
                "disk_bytes": self.disk,
                "source": self.source or None,
            },
            "warnings": list(self.warnings),
        }

    def _row(self, work: Training | Cell) -> dict[str, Any]:
        row = {"key": work.key, "state": self.state(work), **work.params()}
        if isinstance(work, Cell):
            row["nfe"] = evaluations_of(work)
        return row | {"forecast_seconds": self.seconds(work)}


def measured_speeds(
    store: Store, like: Training, machine: str, threads: int | None = None
) -> Speeds | None:
    """The speeds of this store's own work with the same network, images and precision on this
    machine; None where it has not done both kinds.

    Where `threads` is given, a training that had more or fewer is no measure: several go side by
    side with one core each, one alone has them all.
    """

    def alike(training: dict[str, Any]) -> bool:
        mine = like.canonical()
        return all(
            training[name] == mine[name] for name in ("data", "model", "precision", "batch_size")
        )

    trained = [store.trained(key) for key in store.keys("models")]
    trains = [
        one.get("processes", 1) / one["metrics"]["images_per_second"]
        for one in trained
        if one and one["machine"] == machine and alike(one["training"])
        if threads is None or one["threads"] == threads
    ]
    scored = [store.outcome(key) for key in store.keys("cells")]
    same = [
        one["metrics"]
        for one in scored
        if one and one["machine"] == machine and alike(one["cell"]["training"])
    ]
    if not same or not (trains or like.is_exact):
        return None
    of_trainings = [one["metrics"] for one in trained if one and alike(one["training"])]
    return Speeds(
        median(trains) if trains else 0.0,
        median(each["seconds_per_image"] / each["nfe"] for each in same),
        median(each.get("feature_seconds_per_image", 0.0) for each in same),
        "earlier runs on this machine",
        memory=max(each.get("peak_memory_bytes", 0.0) for each in same),
        parameters=max((each.get("parameters", 0.0) for each in of_trainings), default=0.0),
        width=max(each.get("features", 0.0) for each in same),
    )


def warnings_of(cell: Cell, first_abar: float, clamped: int) -> list[str]:
    """What a researcher would want to know of a cell before spending hours on it."""
    warnings = []
    if first_abar > NOISE_FLOOR:
        warnings.append(
            f"{cell.sample_schedule} with spacing {cell.spacing} at {count(cell.steps, 'step')} "
            f"starts where abar is {first_abar:.3f}, not from pure noise"
        )
    if clamped:
        warnings.append(
            f"trained under {cell.training.schedule}, sampled under {cell.sample_schedule} with "
            f"spacing {cell.spacing}: {clamped} of {count(cell.steps, 'step')} ask the network "
            "about a log SNR that it was not trained on, and get its answer for the nearest"
        )
    return warnings


def evaluations_of(cell: Cell) -> int:
    """Network evaluations for one image."""
    return evaluations(cell.sampler.name, cell.steps)


def count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def size(amount: float) -> str:
    """`40 MB`, `1.2 GB`."""
    return f"{amount / 1e9:.1f} GB" if amount >= 1e9 else f"{max(1, amount / 1e6):.0f} MB"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`, `9 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
