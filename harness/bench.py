"""How fast the work is, next to the bare network on the same machine: `harness bench`.

Everything is measured in one process and one run, the compared pieces in turns, so that a busy
machine slows both sides; what is told are ratios of medians. A figure in seconds is only worth
something with the machine's name beside it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from harness import peers
from harness.diffusion.objective import Denoiser, Network
from harness.diffusion.samplers import SAMPLERS, evaluations
from harness.diffusion.schedules import Schedule
from harness.diffusion.times import trailing
from harness.engine.compiled import pays
from harness.engine.network import (
    Predictor,
    Trained,
    make_schedule,
    memory_format,
    to_bytes,
    with_weights,
)
from harness.engine.noise import FreshNoise, starting_noise
from harness.engine.sample import batches_of
from harness.engine.score import compiled_once, extractor, in_chunks
from harness.engine.state import State
from harness.engine.train import Setting, ready, step_of
from harness.errors import BadOption
from harness.metrics.distances import METRICS
from harness.metrics.features import Extractor, Features, Images
from harness.metrics.judgement import judge
from harness.models.presets import MODELS
from harness.plan.grid import Grid, expand, load_grid
from harness.plan.work import Cell
from harness.run import Place, Wishes, run_grid
from harness.runtime import machine
from harness.runtime.progress import Screen

SECONDS = 12.0  # for one set of pieces that are compared ...
TURNS = (3, 40)  # ... of which each has at least and at most so many turns
STEPS = 20  # of a sampling
PEAK_SIDE = 2048  # of the matrices whose product tells the device's peak
PLAIN_SIDE, PLAIN_BATCH = 64, 8  # of the images on which precision and layout are judged
SCALES = (10, 100, 1000)  # cells
ANALYTIC = """
name: bench
data: gaussian
model: exact
schedules: [linear]
samplers: [ddim]
steps: [2]
images: 64
extractor: pixels
"""

DIGITS = """
name: bench
data: digits
model: tiny
training: {batch_size: 64}
schedules: [linear]
samplers: [ddim]
steps: [20]
images: 500
extractor: digits
"""

Piece = Callable[[], object]
THREADS = torch.get_num_threads()  # that torch uses where nobody says how many


@dataclass(frozen=True)
class Ratio:
    """One figure that can be held against a bound; `wanted` is the bound in words."""

    title: str
    value: float
    wanted: str = ""


@dataclass
class Told:
    """What was measured, for a person and for a program."""

    machine: dict[str, Any]
    ratios: dict[str, Ratio] = field(default_factory=dict)
    absolute: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "ratios": {name: ratio.value for name, ratio in self.ratios.items()},
            "absolute": self.absolute,
        }

    def as_text(self) -> str:
        where = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        lines = [where, ""]
        lines += [
            f"{ratio.title:66} {ratio.value:8.3g}   {ratio.wanted}"
            for ratio in self.ratios.values()
        ]
        width = max(map(len, self.absolute), default=0)
        lines += ["", *(f"{name:{width}} {value:12.5g}" for name, value in self.absolute.items())]
        return "\n".join(lines)


def bench_here(grid_file: Path | None, place: Place, say: Callable[[str], None]) -> Told:
    """Measure this machine with the network, images and batch of a grid's first trained cell; of
    digits where no grid is given. Raises BadOption where the grid trains nothing."""
    if grid_file:
        grid = load_grid(grid_file)
    else:
        with tempfile.TemporaryDirectory() as folder:
            grid = grid_of(DIGITS, Path(folder))
    cell = next((cell for cell in expand(grid) if not cell.training.is_exact), None)
    if cell is None:
        raise BadOption(
            "the grid has no network to measure: model 'exact' needs none. A grid that trains "
            "would do, such as runs/digits.yaml."
        )
    subject = Subject.of(cell, place)
    told = Told(subject.named())
    parts = [training, sampling, scoring, arithmetic, plain_float32, driver]
    if peers.are_installed():
        parts.insert(3, other_programs)
    for part in parts:
        say(f"measuring: {part.__name__.replace('_', ' ')}")
        part(subject, told)
    return told


def scaling_here(say: Callable[[str], None], counts: tuple[int, ...] = SCALES) -> Told:
    """How the driver's cost grows with the number of cells, on data that costs next to nothing:
    seconds per cell, the report included, and the memory of this process."""
    told = Told({"name": machine.name(torch.device("cpu"))})
    with tempfile.TemporaryDirectory() as folder:
        run_cells(Path(folder) / "warm", 3)
        for count in counts:
            say(f"measuring: {count} cells")
            seconds = run_cells(Path(folder) / str(count), count, report=True)
            told.absolute[f"seconds_per_cell_{count}"] = seconds / count
            told.absolute[f"memory_bytes_{count}"] = float(psutil.Process().memory_info().rss)
    first, last = counts[0], counts[-1]
    for name, title in (
        ("seconds_per_cell", f"seconds per cell, {last:,} cells against {first:,}"),
        ("memory_bytes", f"memory, {last:,} cells against {first:,}"),
    ):
        grown = told.absolute[f"{name}_{last}"] / told.absolute[f"{name}_{first}"]
        told.ratios[f"{name}_growth"] = Ratio(title, grown, "does not grow")
    return told


@dataclass(frozen=True)
class Subject:
    """What is measured: one training, and a cell of it."""

    cell: Cell
    setting: Setting
    place: Place
    threads: int

    @classmethod
    def of(cls, cell: Cell, place: Place) -> Subject:
        device = machine.find_device(place.device)
        setting = Setting.of(cell.training, place.data_dir, device)
        threads = machine.threads_for(setting.images.train[0].size)
        if device.type == "cpu":
            torch.set_num_threads(threads)
        return cls(cell, setting, place, threads)

    @property
    def batch(self) -> int:
        return self.cell.training.batch_size

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.setting.images.train.shape[1:])

    def ready(self, state: State) -> Network:
        """The network of a training as a short run uses it: compiled on a GPU alone."""
        return ready(replace(state, is_compiled=self.compiles), self.setting).network

    def as_run(self, trained: Trained, batch: int) -> Trained:
        """The same of a network that is sampled."""
        return compiled_once(trained, (batch,)) if self.compiles else trained

    @property
    def compiles(self) -> bool:
        return pays(0.0, self.setting.device)

    @property
    def extractor(self) -> Extractor:
        device = str(self.setting.device)
        return extractor(self.place.data_dir, device, self.cell.extractor)

    def features(self, images: Images) -> Features:
        """Features as a cell takes them: on a processor a large extractor goes over all cores."""
        return in_chunks(self.extractor, images, str(self.setting.device), lambda _: None)

    def as_it_comes(self, piece: Piece) -> Piece:
        """Another program's piece of work, with as many threads as torch gives it."""

        def run() -> None:
            with threads(THREADS):
                piece()

        return run

    def named(self) -> dict[str, Any]:
        training = self.cell.training
        return {
            "name": machine.name(self.setting.device),
            "torch": torch.__version__,
            "data": str(training.data),
            "model": str(training.model),
            "batch": training.batch_size,
            "precision": self.setting.precision,
            "threads": self.threads,
        }


def training(subject: Subject, told: Told) -> None:
    """Our training loop against the bare step: forward, backward and optimiser, nothing else."""
    setting = subject.setting
    state = setting.first_state(subject.threads)
    network = subject.ready(state)
    step = step_of(setting, network)

    def ours() -> None:
        t, losses = step(state)
        state.keep_losses(t, losses)
        state.step = (state.step + 1) % len(state.losses)

    layout = memory_format(subject.shape[-1], setting.precision, setting.device)
    x = torch.randn(subject.batch, *subject.shape, device=setting.device)
    x = x.contiguous(memory_format=layout)
    bare = bare_step(Predictor(network, setting.precision), state.optimizer, x)
    seconds = in_turns({"ours": ours, "bare": bare}, setting.device)
    told.ratios["training_loop"] = Ratio(
        "training: bare step / our step", seconds["bare"] / seconds["ours"], "at least 0.92"
    )
    told.absolute |= {
        "training_images_per_second": subject.batch / seconds["ours"],
        "bare_training_step_seconds": seconds["bare"],
    }
    most = peak(setting.precision, setting.device, subject.threads)
    share = flops_of(bare) / seconds["bare"] / most
    told.ratios["training_share_of_peak"] = Ratio(
        "training: bare step's share of the measured matrix peak", share
    )


def bare_step(
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    x: torch.Tensor,
) -> Callable[[], None]:
    """Forward, backward and optimiser on images [N, C, H, W], as they lie in memory."""
    log_snr = torch.randn(len(x), device=x.device)

    def step() -> None:
        torch.autograd.backward((predict(x, log_snr) - x).square().mean())
        optimizer.step()
        optimizer.zero_grad()

    return step


def sampling(subject: Subject, told: Told) -> None:
    """Our sampling against as many bare forward passes, for a deterministic and a noisy sampler."""
    setting, cell = subject.setting, subject.cell
    device, shape = setting.device, subject.shape
    trained = with_weights(
        cell.training, setting.first_state(subject.threads).average, setting.images, device
    )
    images = next(batches_of(cell.images, device))
    x = torch.randn(len(images), *shape, device=device)
    log_snr = torch.randn(len(images), device=device)
    trained = subject.as_run(trained, len(images))
    predict = trained.predictor()

    def bare() -> None:
        for _ in range(STEPS):
            predict(x, log_snr)

    def in_this_thread() -> None:  # where operations can be counted
        for _ in range(STEPS):
            Predictor(trained.network, setting.precision)(x, log_snr)

    pieces: dict[str, Piece] = {"bare": bare}
    schedule = make_schedule(cell.training.schedule)
    denoise = trained.denoiser(schedule)
    for name in ("ddim", "ddpm"):
        pieces[name] = partial(sampled, name, denoise, schedule, images, shape, device)
    with torch.inference_mode():
        seconds = in_turns(pieces, device)
        told.absolute["bare_forward_seconds"] = seconds["bare"] / STEPS
        for name in ("ddim", "ddpm"):
            bare_seconds = seconds["bare"] / STEPS * evaluations(name, STEPS)
            told.ratios[f"sampling_{name}"] = Ratio(
                f"sampling: {name} / its network evaluations",
                seconds[name] / bare_seconds,
                "at most 1.05",
            )
            told.absolute[f"{name}_{STEPS}_images_per_second"] = len(images) / seconds[name]
        most = peak(setting.precision, device, machine.cores())
        share = flops_of(in_this_thread) / seconds["bare"] / most
    told.ratios["sampling_share_of_peak"] = Ratio(
        "sampling: bare forward's share of the measured matrix peak", share
    )


def sampled(
    name: str,
    denoise: Denoiser,
    schedule: Schedule,
    images: range,
    shape: tuple[int, ...],
    device: torch.device,
) -> torch.Tensor:
    """One batch from its starting noise to its images, as a cell does it."""
    noise = starting_noise(0, images, shape).to(device)
    fresh = FreshNoise(0, images, shape, device)
    times = trailing(schedule, STEPS)
    x_0: torch.Tensor = SAMPLERS[name](denoise, schedule, noise, times, fresh)
    return x_0


def scoring(subject: Subject, told: Told) -> None:
    """Features and the grid's first metrics with their intervals, against the features alone."""
    images = subject.setting.images
    some = images.train[: subject.cell.images]
    kept = np.asarray(subject.features(some), np.float64)

    def features() -> None:
        subject.features(some)

    def metrics() -> None:
        for name in ("kid", "fid"):
            # Other numbers each time, or nothing would be worked out a second time.
            judge(name, METRICS[name], kept * (1 + 1e-9 * time.perf_counter()), kept)

    seconds = in_turns({"features": features, "metrics": metrics}, subject.setting.device)
    told.ratios["scoring"] = Ratio(
        "scoring: features, KID and FID with intervals / features alone",
        (seconds["features"] + seconds["metrics"]) / seconds["features"],
    )
    told.absolute["features_images_per_second"] = len(some) / seconds["features"]


def other_programs(subject: Subject, told: Told) -> None:
    """Other programs at the same work, as they come: the same network, images and batch."""
    others_training(subject, told)
    others_sampling(subject, told)
    others_scoring(subject, told)


def others_training(subject: Subject, told: Told) -> None:
    """On as many threads as one of our trainings has, of which there is one a core on small
    images."""
    setting, images = subject.setting, subject.setting.images
    state = setting.first_state(subject.threads)
    step = step_of(setting, subject.ready(state))
    theirs = (state.network, images.train, subject.batch, images.flip)
    others = {
        "diffusers": peers.diffusers_training_step(*theirs),
        "lucidrains": peers.lucidrains_training_step(*theirs),
    }
    pieces: dict[str, Piece] = {"ours": lambda: step(state)}
    seconds = in_turns(pieces | others, setting.device)
    for name in others:
        told.ratios[f"training_against_{name}"] = Ratio(
            f"training step: {name} / ours", seconds[name] / seconds["ours"], "at least 1.5"
        )


def others_sampling(subject: Subject, told: Told) -> None:
    """As they come, and diffusers' loop also around the network that ours uses, compiled."""
    setting, cell = subject.setting, subject.cell
    batch = len(next(batches_of(cell.images, setting.device)))
    weights = setting.first_state(subject.threads).average
    trained = with_weights(cell.training, weights, setting.images, setting.device)
    compiled = compiled_once(trained, (batch,))
    schedule = make_schedule(cell.training.schedule)

    def ours(trained: Trained) -> Piece:
        denoise = trained.denoiser(schedule)
        task = ("ddim", denoise, schedule, range(batch), subject.shape, setting.device)
        return lambda: to_bytes(sampled(*task))

    sizes = (trained.network, subject.shape, batch, STEPS)
    pieces: dict[str, Piece] = {
        "ours": ours(subject.as_run(trained, batch)),
        "diffusers": subject.as_it_comes(peers.diffusers_sampling(*sizes)),
        "lucidrains": subject.as_it_comes(peers.lucidrains_sampling(*sizes)),
        "ours, compiled": ours(compiled),
        "diffusers, compiled": peers.diffusers_sampling(*sizes, predict=compiled.predictor()),
    }
    with torch.inference_mode():
        seconds = in_turns(pieces, setting.device)
    for name in ("diffusers", "lucidrains"):
        told.ratios[f"sampling_against_{name}"] = Ratio(
            f"sampling, ddim: {name} / ours", seconds[name] / seconds["ours"], "at least 1.5"
        )
    if compiled.compiled is not None:
        told.ratios["sampling_same_network"] = Ratio(
            "sampling, ddim, both by the same compiled network: diffusers / ours",
            seconds["diffusers, compiled"] / seconds["ours, compiled"],
            "at least 1",
        )
        told.ratios["compiled_sampling"] = Ratio(
            "sampling, ddim: as it is run / compiled", seconds["ours"] / seconds["ours, compiled"]
        )


def others_scoring(subject: Subject, told: Told) -> None:
    setting, images = subject.setting, subject.setting.images
    some = images.train[: min(subject.cell.images, len(images.train) // 2)]
    reference = images.held_out[: len(some)]
    kept = np.asarray(subject.features(reference), np.float64)

    def ours() -> None:
        features = np.asarray(subject.features(some), np.float64) * (1 + 1e-9 * time.perf_counter())
        for name in ("kid", "fid", "precision", "recall"):
            judge(name, METRICS[name], features, kept)

    theirs = subject.as_it_comes(peers.fidelity_metrics(some, reference, subject.extractor))
    seconds = in_turns({"ours": ours, "theirs": theirs}, setting.device)
    told.ratios["scoring_against_torch_fidelity"] = Ratio(
        "scoring, FID + KID + PRC: torch-fidelity / ours with intervals",
        seconds["theirs"] / seconds["ours"],
        "at least 1",
    )


def arithmetic(subject: Subject, told: Told) -> None:
    """KID and FID with their intervals on features as wide as Inception's."""
    random = np.random.default_rng(0)
    features, reference = (random.standard_normal((1000, 768)) for _ in range(2))
    for name in ("kid", "fid"):
        began = time.perf_counter()
        judge(name, METRICS[name], features, reference)
        told.absolute[f"{name}_of_1000_by_768_seconds"] = time.perf_counter() - began


def plain_float32(subject: Subject, told: Told) -> None:
    """The default precision and memory layout against plain float32, on a 64-pixel network."""
    device = subject.setting.device
    x = torch.randn(PLAIN_BATCH, 3, PLAIN_SIDE, PLAIN_SIDE, device=device)
    if device.type == "cpu":
        torch.set_num_threads(machine.threads_for(x[0].numel()))

    def network(layout: torch.memory_format) -> torch.nn.Module:
        made: torch.nn.Module = MODELS.make("small", {}).build(3, PLAIN_SIDE)
        return made.to(device).to(memory_format=layout)

    precision = machine.find_precision("auto", device)
    layout = memory_format(PLAIN_SIDE, precision, device)
    # Not by a Predictor, which would lay out the images as it likes them.
    plain, ours = network(torch.contiguous_format), network(layout)
    optimizers = [torch.optim.AdamW(one.parameters(), fused=True) for one in (plain, ours)]
    seconds = in_turns(
        {
            "plain": bare_step(plain, optimizers[0], x),
            "default": bare_step(
                Predictor(ours, precision), optimizers[1], x.contiguous(memory_format=layout)
            ),
        },
        device,
    )
    told.ratios["plain_float32"] = Ratio(
        f"training step at 64 pixels: plain float32 / default ({precision})",
        seconds["plain"] / seconds["default"],
        "at least 3",
    )
    if device.type == "cpu":
        torch.set_num_threads(subject.threads)


def driver(subject: Subject, told: Told) -> None:
    """What a cell costs beyond its own work: cells of an exact denoiser on a few pixels, from the
    plan to the record. What a run costs once falls out of the difference of two."""
    few, many = 10, 60
    with tempfile.TemporaryDirectory() as folder:
        run_cells(Path(folder) / "warm", 3)
        seconds = {count: run_cells(Path(folder) / str(count), count) for count in (few, many)}
    told.ratios["driver_seconds_per_cell"] = Ratio(
        "driver: seconds per cell", (seconds[many] - seconds[few]) / (many - few), "at most 0.1"
    )


def run_cells(folder: Path, count: int, report: bool = False) -> float:
    """The seconds of a whole run of so many cells, with or without its report."""
    folder.mkdir()
    grid = grid_of(ANALYTIC, folder, f"sampling_seeds={list(range(count))}")
    place = Place(folder, f"sqlite:///{folder / 'mlflow.db'}", folder / "report", folder, "cpu")
    with Screen(Console(quiet=True)) as screen:
        began = time.perf_counter()
        run_grid(grid, place, Wishes(report=report), screen)
        return time.perf_counter() - began


def grid_of(text: str, folder: Path, *overrides: str) -> Grid:
    path = folder / "grid.yaml"
    path.write_text(text, encoding="utf-8")
    return load_grid(path, overrides)


def in_turns(pieces: Mapping[str, Piece], device: torch.device) -> dict[str, float]:
    """The median seconds of each piece, the pieces in turns so that what else the machine does
    falls on all of them."""
    for piece in pieces.values():
        piece()
    taken: dict[str, list[float]] = {name: [] for name in pieces}
    for _ in turns():
        for name, piece in pieces.items():
            machine.wait_for(device)
            began = time.perf_counter()
            piece()
            machine.wait_for(device)
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def turns() -> Iterator[int]:
    """As many as there is time for, and at least a few."""
    began = time.perf_counter()
    for turn in range(TURNS[1]):
        if turn >= TURNS[0] and time.perf_counter() - began > SECONDS:
            return
        yield turn


def flops_of(piece: Piece) -> float:
    """The floating-point operations that a piece of work asks for."""
    with FlopCounterMode(display=False) as counter:
        piece()
    return float(counter.get_total_flops())


@cache
def peak(precision: str, device: torch.device, number: int) -> float:
    """Operations per second of a large matrix product in this precision: what can be had, on a
    processor by so many threads."""
    side = PEAK_SIDE
    a, b = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in "ab")
    with threads(number):
        return 2.0 * side**3 / in_turns({"product": lambda: a @ b}, device)["product"]


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch use so many threads on a processor, for as long as the block lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
