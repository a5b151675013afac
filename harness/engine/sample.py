"""Sample a trained network: the images of a cell, and how long one takes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from harness.diffusion.objective import CLIPS, Clip, outside
from harness.diffusion.samplers import SAMPLERS, ddim, evaluations
from harness.diffusion.schedules import SCHEDULES, Schedule
from harness.diffusion.times import SPACINGS, table_of, trailing
from harness.engine.exact import ExactDenoiser
from harness.engine.memory import in_halves, tried
from harness.engine.network import Trained, log_snr_range, make_schedule
from harness.engine.noise import NOISE_BLOCK, FreshNoise, starting_noise
from harness.engine.pictures import COLUMNS, Film, encoded, legible_sheet, png, sheet
from harness.errors import BadOption, Fault, HarnessError
from harness.execute import energy, machine
from harness.execute.progress import Progress, Report
from harness.registry.signature import shown
from harness.store import write_bytes
from harness.work.cells import Cell, Part
from harness.work.results import SamplingPath
from harness.work.timing import repeats

SHEET_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class NotFinite(HarnessError):
    """What should be numbers is infinite, or no number at all."""


@dataclass(frozen=True)
class Samples:
    """Images uint8 [N, C, H, W] and what they cost."""

    images: np.ndarray
    nfe: int
    seconds_per_image: tuple[float, ...]  # one per timed batch
    peak_memory_bytes: int
    film: Film
    joules_per_image: float | None = None  # None where the machine has no counter


def sample(
    cell: Cell,
    trained: Trained | ExactDenoiser,
    report: Report,
    images: int | None = None,
    timings: int = 1,
    asked: Cell | None = None,
) -> Samples:
    """The cell's images (or the first `images` of them), each from its own starting noise. Where
    fitted times are written out in it, `asked` is the cell that a grid knows it by. The first batch
    is sampled again until there are so many `timings`, unless it takes long (`work.timing`).

    Seconds are measured around the sampler alone, with the device synchronised and after a
    warm-up at the batch's size. A batch that does not fit into memory is done in halves: drawn
    noise is a function of the image, so the images are the same within rounding. Raises
    MachineError where not even one image fits, and NotFinite where the sampler overflows.
    """
    device = trained.device
    if device.type == "cpu":
        torch.set_num_threads(machine.threads_for(math.prod(trained.shape)))
    wanted = images or cell.images
    batches = list(batches_of(wanted, device))
    run = Batches(cell, trained, report, len(batches), asked or cell)
    machine.forget_peak(device)
    with torch.inference_mode():
        for size in {len(batch) for batch in batches}:
            tried(run.warm_up, size)  # batches that do not fit will be halved
        before = energy.joules(device)
        drawn, seconds, nfe = zip(*in_halves(batches, run, device), strict=True)
        joules = energy.joules(device) - before
        first = range(len(drawn[0]))
        again = repeats(len(drawn), seconds[0] * len(first), timings)
        seconds += tuple(run(first)[1] for _ in range(again))
    return Samples(
        np.concatenate(drawn),
        max(nfe),
        seconds,
        run.peak,
        run.film,
        joules / wanted if joules >= 0 else None,  # a counter may begin again at 0
    )


class Batches:
    """The sampling of a cell batch by batch: how far it is, its peak memory, and the film of the
    first batch."""

    def __init__(
        self, cell: Cell, trained: Trained | ExactDenoiser, report: Report, count: int, asked: Cell
    ):
        self.cell, self.trained, self.report, self.asked = cell, trained, report, asked
        self.schedule, self.times = path_of(cell)
        self.denoise = trained.denoiser(self.schedule, clip_of(cell))
        self.each = evaluations(cell.sampler.name, cell.steps, **cell.sampler.keywords)
        self.expected = count * self.each
        self.film, self.peak = Film(self.each, trained.scale), 0
        self.warm: set[int] = set()  # sizes of batches that were tried before the clock ran

    def warm_up(self, size: int) -> None:
        """Evaluate the network once on a batch of this size, before the clock runs."""
        if size not in self.warm:
            x = torch.zeros(size, *self.trained.shape, device=self.trained.device)
            self.denoise.estimate(x, self.times[0])
            self.warm.add(size)

    def __call__(self, batch: range) -> tuple[np.ndarray, float, int]:
        """The images of a batch, seconds per image, and evaluations made for each."""
        cell, shape, device = self.cell, self.trained.shape, self.trained.device
        if batch[0] == 0:
            self.film = Film(self.each, self.trained.scale)
        self.warm_up(len(batch))
        made = self.denoise.evaluations
        x = starting_noise(cell.sampling_seed, batch, shape).to(device)
        draw = FreshNoise(cell.sampling_seed, batch, shape, device)
        sampler, options = SAMPLERS[cell.sampler.name], cell.sampler.keywords
        machine.wait_for(device)
        began = time.perf_counter()
        x_0 = sampler(self._watched, self.schedule, x, self.times, draw, **options)
        machine.wait_for(device)
        seconds = time.perf_counter() - began
        with SAMPLERS.blamed(cell.sampler.name):
            if not isinstance(x_0, torch.Tensor) or not x_0.is_floating_point():
                raise Fault(f"gives no images, but {shown(x_0)}")
            if x_0.shape != x.shape:
                raise Fault(f"gives {list(x_0.shape)} for {list(x.shape)}")
            if (found := self.denoise.evaluations - made) != self.each:
                raise Fault(f"evaluates the network {found} times, and declares {self.each}")
        if not x_0.isfinite().all():
            left = sampling_path(cell).first_abar
            if self.trained.precision == "float16":
                raise NotFinite(
                    f"the images of cell {self.asked.key} ({self.asked.title}) are not finite: a "
                    "value in the network or of its sampler is too large for float16, which ends "
                    "at 65,504. Use training.precision: float32."
                )
            raise NotFinite(
                f"the images of cell {self.asked.key} ({self.asked.title}) are not finite: its "
                f"sampler overflows, starting where {left:.3g} of the signal's variance is left. "
                "Use a spacing that begins later, target velocity or image, or clip: true."
            )
        images = self.trained.scale.to_bytes(x_0)
        return images, seconds / len(batch), self.denoise.evaluations - made

    def _watched(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.peak = max(self.peak, machine.memory_in_use(self.trained.device))
        self.report(Progress(min(self.denoise.evaluations, self.expected), self.expected))
        if not 0 <= t <= 1:
            with SAMPLERS.blamed(self.cell.sampler.name):
                raise Fault(f"asks for an estimate at t = {float(t):.6g}, outside 0 to 1")
        estimate = self.denoise(x, t)
        self.film.look(x, estimate)
        return estimate


def clip_of(cell: Cell) -> Clip | None:
    """What keeps a cell's estimates in the range of the data."""
    if (part := cell.clipping) is None:
        return None
    return partial(CLIPS[part.name], **part.keywords)


def path_of(cell: Cell) -> tuple[Schedule, torch.Tensor]:
    """The schedule a cell is sampled under, and its times [steps + 1], which fall to 0."""
    return _scheduled_times(cell.sample_schedule, cell.spacing, cell.steps)


@cache
def _scheduled_times(under: Part, spacing: Part, steps: int) -> tuple[Schedule, torch.Tensor]:
    schedule = make_schedule(under)
    with SPACINGS.blamed(spacing.name):
        times = SPACINGS[spacing.name](schedule, steps, **spacing.keywords)
        if not isinstance(times, torch.Tensor) or times.shape != (steps + 1,):
            raise Fault(f"gives no {steps + 1} times for {steps} steps, but {shown(times)}")
        if not (times.diff() < 0).all() or times[0] > 1 or times[-1] != 0:
            raise Fault(f"gives times that do not fall from at most 1 to 0: {shown(times)}")
    with SCHEDULES.blamed(under.name):
        log_snr = schedule.log_snr(times)
        if log_snr.shape != times.shape or not (log_snr.diff() > 0).all():
            raise Fault(f"gives log SNRs that do not fall with time: {shown(log_snr)}")
        if not ((schedule.alpha(times) ** 2 + schedule.sigma(times) ** 2 - 1).abs() < 1e-6).all():
            raise Fault("gives rates of which alpha^2 + sigma^2 is not 1")
    return schedule, times


def sampling_path(cell: Cell) -> SamplingPath:
    """What is known of a cell's times before it is sampled; an exact denoiser clamps none."""
    schedule, times = path_of(cell)
    first, last = (float(schedule.alpha(t)) ** 2 for t in (times[0], times[-1]))
    if cell.training.is_exact:
        return SamplingPath(first, last, 0)
    trained = log_snr_range(make_schedule(cell.training.schedule))
    return SamplingPath(first, last, outside(schedule.log_snr(times[:-1]), trained))


def preview(trained: Trained, images: int = 2 * COLUMNS, steps: int = 20) -> np.ndarray:
    """A few images by DDIM, uint8 [images, C, H, W]: how a training is coming along."""
    schedule = make_schedule(trained.training.schedule)
    times = trailing(schedule, min(steps, table_of(schedule)))
    x = starting_noise(0, range(images), trained.shape)
    with torch.inference_mode():
        denoise = trained.denoiser(schedule)
        x_0 = ddim(denoise, schedule, x.to(trained.device), times, lambda: torch.empty(0))
    return trained.scale.to_bytes(x_0)


def draw(
    cell: Cell,
    trained: Trained | ExactDenoiser,
    out: Path,
    images: int,
    report: Report,
    asked: Cell | None = None,
) -> None:
    """Sample as a cell does, `asked` for under another key where its times are written out in it:
    one sheet where `out` has a suffix of a picture, small images enlarged, else one PNG an image in
    the folder `out`."""
    drawn = sample(cell, trained, report, images, asked=asked).images
    if is_sheet(out):
        write_bytes(out, encoded(legible_sheet(drawn), out.suffix))
        return
    for number, image in enumerate(drawn):
        write_bytes(out / f"{number:05d}.png", png(sheet(image[None], columns=1)))


def is_sheet(out: Path) -> bool:
    """Whether a path names one sheet of images, and not a folder for them. Raises BadOption for a
    suffix that names neither."""
    if out.suffix.lower() in SHEET_SUFFIXES:
        return True
    if out.suffix and not out.is_dir():
        raise BadOption(
            f"no sheet of images can be written as '{out}'. Use a name that ends in "
            f"{', '.join(SHEET_SUFFIXES)} for one sheet, or without a dot for a folder of PNGs."
        )
    return False


def largest_batch(device: torch.device) -> int:
    """Images sampled at once: on a GPU as many as there are, within reason, since what does not fit
    is halved; on a processor as many as its caches do well with."""
    blocks = {"cpu": 2, "mps": 4}  # Apple's GPU shares its memory with all other programs
    return NOISE_BLOCK * blocks.get(device.type, 16)


def batches_of(images: int, device: torch.device) -> Iterator[range]:
    """Whole blocks of images, as many at once as `largest_batch` says."""
    size = largest_batch(device)
    for first in range(0, images, size):
        yield range(first, min(first + size, images))
