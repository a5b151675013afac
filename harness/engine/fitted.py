"""The times of cells whose spacing is fitted to their network: fitted once, kept in the store, and
then written out, so that all that samples a cell sees a list of times."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Self

import torch

from harness.diffusion.fitting import Departures, candidate_times, least_costly
from harness.diffusion.times import fitting_of
from harness.engine.exact import ExactDenoiser
from harness.engine.memory import in_halves
from harness.engine.network import Trained, make_schedule
from harness.engine.noise import Purpose, normal
from harness.engine.sample import batches_of, clip_of
from harness.execute import machine
from harness.execute.progress import Progress, Report
from harness.store import Store, read_json, write_json
from harness.work.cells import Cell, Part


@dataclass(frozen=True)
class Fit:
    """What was worked out of a network under a schedule: from it the steps of any number."""

    times: tuple[float, ...]  # of the candidates, falling from 1 to 0
    costs: tuple[tuple[float, ...], ...]  # from each candidate but the last to each later one
    seconds: float  # that it took

    def path(self, steps: int) -> tuple[float, ...]:
        """The times before 0 of so many steps."""
        costs = torch.full((len(self.times), len(self.times)), math.inf, dtype=torch.float64)
        for i, row in enumerate(self.costs):
            costs[i, i + 1 :] = torch.tensor(row, dtype=torch.float64)
        return tuple(self.times[i] for i in least_costly(costs, steps)[:-1])

    def as_json(self) -> dict[str, Any]:
        return {"times": self.times, "costs": self.costs, "seconds": self.seconds}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Self:
        return cls(tuple(kept["times"]), tuple(map(tuple, kept["costs"])), kept["seconds"])


def is_fitted(cell: Cell) -> bool:
    """Whether its times are known only once its network is."""
    return fitting_of(cell.spacing.name, **cell.spacing.keywords) is not None


def written_out(cell: Cell, times: Sequence[float]) -> Cell:
    """The cell that is sampled at these times before 0; the same cell where there are none."""
    if not times:
        return cell
    return replace(cell, spacing=Part.of("explicit", {"times": tuple(times)}))


def kept_fit(cell: Cell, denoiser: Trained | ExactDenoiser, store: Store, report: Report) -> Fit:
    """The fit of a cell, from the store; made and kept there where it has none that is whole."""
    path = store.fit(cell)
    made = None if store.has_whole(path) else fit(cell, denoiser, report)
    if made is None or store.has_whole(path):  # another worker's may have come first
        return Fit.from_json(read_json(path))
    write_json(path, made.as_json())
    store.keep_checksum(path)
    return made


def fit(cell: Cell, denoiser: Trained | ExactDenoiser, report: Report) -> Fit:
    """Follow the network along its own paths under the schedule that the cell is sampled under,
    from noise that no cell starts from. Raises MachineError where not even one image fits into
    memory."""
    if isinstance(denoiser, Trained):
        denoiser = replace(denoiser, compiled=None)  # that is for batches of other sizes
    fitting = fitting_of(cell.spacing.name, **cell.spacing.keywords)
    assert fitting
    device, shape = denoiser.device, denoiser.shape
    if device.type == "cpu":
        torch.set_num_threads(machine.threads_for(math.prod(shape)))
    schedule = make_schedule(cell.sample_schedule)
    times = candidate_times(schedule, fitting.candidates)
    noise = normal((fitting.images, *shape), torch.device("cpu"), Purpose.FITTING, 0)
    denoise = denoiser.denoiser(schedule, clip_of(cell))

    def watched(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        done = min(denoise.evaluations, fitting.candidates)
        report(Progress(done, fitting.candidates, phase="fitting steps"))
        return denoise(x, t)

    def of_batch(batch: range) -> Departures:
        start = noise[batch[0] : batch[-1] + 1].to(device)
        return Departures.of(watched, schedule, start, times)

    machine.wait_for(device)
    began = time.perf_counter()
    with torch.inference_mode():
        batches = list(batches_of(fitting.images, device))
        costs = reduce(operator.add, in_halves(batches, of_batch, device)).costs
    seconds = time.perf_counter() - began
    rows = (row[i + 1 :].tolist() for i, row in enumerate(costs[:-1]))
    rounded = tuple(tuple(float(f"{cost:.6g}") for cost in row) for row in rows)
    return Fit(tuple(times.tolist()), rounded, seconds)
