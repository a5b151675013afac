"""How fast the work is, next to the bare network on the same machine: `harness bench`.

Everything is measured in one process and one run, the compared pieces in turns, so that a busy
machine slows both sides; what is reported are ratios of medians. A figure in seconds is only worth
something with the machine's name beside it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np
import psutil
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from harness.diffusion.objective import Denoiser, Network
from harness.diffusion.samplers import SAMPLERS, evaluations
from harness.diffusion.schedules import Schedule
from harness.diffusion.times import trailing
from harness.engine.compiled import pays
from harness.engine.denoisers import compiled_once
from harness.engine.inputs import extractor_of
from harness.engine.network import Predictor, Trained, make_schedule, memory_format, with_weights
from harness.engine.noise import FreshNoise, starting_noise
from harness.engine.reference import in_chunks
from harness.engine.sample import batches_of
from harness.engine.state import State
from harness.engine.steps import Setting, ready, step_of
from harness.errors import BadOption
from harness.execute import machine
from harness.execute.screen import Screen
from harness.metrics.distances import METRICS
from harness.metrics.evaluation import evaluate
from harness.metrics.features import Features, Images
from harness.models.presets import MODELS
from harness.plan.grid import Grid, expand, load_grid
from harness.run import run_grid
from harness.work.cells import Cell
from harness.work.options import Options, Paths, Workplace

SECONDS = 12.0  # for one set of pieces that are compared ...
TURNS = (3, 40)  # ... of which each has at least and at most so many turns
STEPS = 20  # of a sampling
PEAK_SIDE = 2048  # of the matrices whose product is the device's peak
PLAIN_SIDE, PLAIN_BATCH = 64, 8  # of the images on which precision and layout are compared
SCALES = (10, 100, 1000)  # cells
COMMON = "name: bench\nschedules: [linear]\nsamplers: [ddim]\n"
ANALYTIC = COMMON + "data: gaussian\nmodel: exact\nsteps: [2]\nimages: 64\nextractor: pixels\n"
DIGITS = COMMON + (
    "data: digits\nmodel: tiny\ntraining: {batch_size: 64}\nsteps: [20]\nimages: 500\n"
    "extractor: digits\n"
)

Piece = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """One figure that can be held against a bound; `wanted` is the bound in words."""

    title: str
    value: float
    wanted: str = ""


@dataclass
class BenchReport:
    """What was measured, for a person and for a program."""

    machine: dict[str, str | int]
    ratios: dict[str, Ratio] = field(default_factory=dict)
    absolute: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        ratios = {name: ratio.value for name, ratio in self.ratios.items()}
        return {"machine": self.machine, "ratios": ratios, "absolute": self.absolute}

    def as_text(self) -> str:
        where = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        ratios = [
            f"{ratio.title:66} {ratio.value:8.3g}   {ratio.wanted}"
            for ratio in self.ratios.values()
        ]
        width = max(map(len, self.absolute), default=0)
        absolute = [f"{name:{width}} {value:12.5g}" for name, value in self.absolute.items()]
        return "\n".join([where, "", *ratios, "", *absolute])


def bench_here(grid_file: Path | None, paths: Paths, say: Callable[[str], None]) -> BenchReport:
    """What this machine does with the network, images and batch of a grid's first trained cell; of
    digits where no grid is given. Raises BadOption where the grid trains nothing."""
    subject = subject_of(grid_file, paths.workplace)
    report = BenchReport(subject.names())
    for part in (training, sampling, scoring, arithmetic, plain_float32, driver):
        say(f"measuring: {part.__name__.replace('_', ' ')}")
        part(subject, report)
    return report


def scaling_here(say: Callable[[str], None], counts: tuple[int, ...] = SCALES) -> BenchReport:
    """How the driver's cost grows with the number of cells, on data that costs next to nothing:
    seconds per cell, the report included, and the memory of this process."""
    report = BenchReport({"name": machine.name(torch.device("cpu"))})
    with tempfile.TemporaryDirectory() as folder:
        run_cells(Path(folder) / "warm", 3)
        for count in counts:
            say(f"measuring: {count} cells")
            seconds = run_cells(Path(folder) / str(count), count, report=True)
            report.absolute[f"seconds_per_cell_{count}"] = seconds / count
            report.absolute[f"memory_bytes_{count}"] = float(psutil.Process().memory_info().rss)
    first, last = counts[0], counts[-1]
    for name, title in (("seconds_per_cell", "seconds per cell"), ("memory_bytes", "memory")):
        report.ratios[f"{name}_growth"] = Ratio(
            f"{title}, {last:,} cells against {first:,}",
            report.absolute[f"{name}_{last}"] / report.absolute[f"{name}_{first}"],
            "does not grow",
        )
    return report


def subject_of(grid_file: Path | None, at: Workplace) -> Subject:
    """The first cell of a grid that trains. Raises BadOption where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        grid = load_grid(grid_file) if grid_file else grid_of(DIGITS, Path(folder))
    cell = next((cell for cell in expand(grid) if not cell.training.is_exact), None)
    if cell is None:
        raise BadOption(
            "the grid has no network to measure: model 'exact' needs none. Use a grid that trains, "
            "such as runs/digits.yaml."
        )
    setting = Setting.of(cell.training, at)
    threads = machine.threads_for(setting.images.train[0].size)
    if setting.device.type == "cpu":
        torch.set_num_threads(threads)
    return Subject(cell, setting, at, threads)


@dataclass(frozen=True)
class Subject:
    """What is measured: one training, and a cell of it."""

    cell: Cell
    setting: Setting
    at: Workplace
    threads: int

    @property
    def batch(self) -> int:
        return self.cell.training.batch_size

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.setting.images.train.shape[1:])

    @cached_property
    def compiles(self) -> bool:
        """Whether a short run compiles: on a GPU alone."""
        return pays(0.0, self.setting.device)

    @property
    def sampled_batch(self) -> range:
        return next(batches_of(self.cell.images, self.setting.device))

    def state_and_network(self) -> tuple[State, Network]:
        """The beginning of the training, and its network as a short run uses it."""
        state = self.setting.first_state(self.threads, self.compiles)
        return state, ready(state, self.setting).network

    def trained(self) -> Trained:
        """The network to be sampled, not compiled."""
        setting = self.setting
        weights = setting.first_state(self.threads).average
        return with_weights(self.cell.training, weights, setting.images, setting.device)

    def as_run(self, trained: Trained) -> Trained:
        """The same as a short run samples it."""
        return compiled_once(trained, (len(self.sampled_batch),)) if self.compiles else trained

    def features(self, images: Images) -> Features:
        """Features as a cell takes them: on a processor a large extractor goes over all cores."""
        extract = extractor_of(self.cell, self.at)
        return in_chunks(extract, images, str(self.setting.device), lambda _: None)

    def names(self) -> dict[str, str | int]:
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


def training(subject: Subject, report: BenchReport) -> None:
    """Our training loop against the bare step: forward, backward and optimiser, nothing else."""
    setting = subject.setting
    state, network = subject.state_and_network()
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
    report.ratios["training_loop"] = Ratio(
        "training: bare step / our step", seconds["bare"] / seconds["ours"], "at least 0.92"
    )
    report.absolute["training_images_per_second"] = subject.batch / seconds["ours"]
    report.absolute["bare_training_step_seconds"] = seconds["bare"]
    most = peak(setting.precision, setting.device, subject.threads)
    report.ratios["training_share_of_peak"] = Ratio(
        "training: bare step's share of the measured matrix peak",
        flops_of(bare) / seconds["bare"] / most,
    )


def bare_step(predict: Network, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> Piece:
    """Forward, backward and optimiser on images [N, C, H, W], as they lie in memory."""
    log_snr = torch.randn(len(x), device=x.device)

    def step() -> None:
        torch.autograd.backward((predict(x, log_snr) - x).square().mean())
        optimizer.step()
        optimizer.zero_grad()

    return step


def sampling(subject: Subject, report: BenchReport) -> None:
    """Our sampling against as many bare forward passes, for a deterministic and a noisy sampler."""
    device, precision = subject.setting.device, subject.setting.precision
    images = subject.sampled_batch
    x = torch.randn(len(images), *subject.shape, device=device)
    log_snr = torch.randn(len(images), device=device)
    trained = subject.as_run(subject.trained())

    def bare(predict: Network) -> None:
        for _ in range(STEPS):
            predict(x, log_snr)

    schedule = make_schedule(subject.cell.training.schedule)
    task = (trained.denoiser(schedule), schedule, images, subject.shape, device)
    pieces: dict[str, Piece] = {"bare": partial(bare, trained.predictor())}
    pieces |= {name: partial(sampled, name, *task) for name in ("ddim", "ddpm")}
    with torch.inference_mode():
        seconds = in_turns(pieces, device)
        # In this thread alone, where operations can be counted.
        flops = flops_of(partial(bare, Predictor(trained.network, precision)))
    report.absolute["bare_forward_seconds"] = seconds["bare"] / STEPS
    for name in ("ddim", "ddpm"):
        report.ratios[f"sampling_{name}"] = Ratio(
            f"sampling: {name} / its network evaluations",
            seconds[name] / (seconds["bare"] / STEPS * evaluations(name, STEPS)),
            "at most 1.05",
        )
        report.absolute[f"{name}_{STEPS}_images_per_second"] = len(images) / seconds[name]
    report.ratios["sampling_share_of_peak"] = Ratio(
        "sampling: bare forward's share of the measured matrix peak",
        flops / seconds["bare"] / peak(precision, device, machine.cores()),
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
    x_0: torch.Tensor = SAMPLERS[name](denoise, schedule, noise, trailing(schedule, STEPS), fresh)
    return x_0


def scoring(subject: Subject, report: BenchReport) -> None:
    """Features and the grid's first metrics with their intervals, against the features alone."""
    some = subject.setting.images.train[: subject.cell.images]
    features = subject.features(some)
    pieces: dict[str, Piece] = {
        "features": lambda: subject.features(some),
        "metrics": lambda: evaluated(["kid", "fid"], features, features),
    }
    seconds = in_turns(pieces, subject.setting.device)
    report.ratios["scoring"] = Ratio(
        "scoring: features, KID and FID with intervals / features alone",
        (seconds["features"] + seconds["metrics"]) / seconds["features"],
    )
    report.absolute["features_images_per_second"] = len(some) / seconds["features"]


def evaluated(metrics: list[str], features: Features, reference: Features) -> None:
    """Evaluate metrics with their intervals."""
    # Other numbers each time, or nothing would be worked out a second time.
    features = features * (1 + 1e-9 * time.perf_counter())
    for name in metrics:
        evaluate(name, METRICS[name], features, reference)


def arithmetic(subject: Subject, report: BenchReport) -> None:
    """KID and FID with their intervals on features as wide as Inception's."""
    random = np.random.default_rng(0)
    features, reference = (random.standard_normal((1000, 768)) for _ in range(2))
    for name in ("kid", "fid"):
        began = time.perf_counter()
        evaluated([name], features, reference)
        report.absolute[f"{name}_of_1000_by_768_seconds"] = time.perf_counter() - began


def plain_float32(subject: Subject, report: BenchReport) -> None:
    """The default precision and memory layout against plain float32, on a 64-pixel network."""
    device = subject.setting.device
    x = torch.randn(PLAIN_BATCH, 3, PLAIN_SIDE, PLAIN_SIDE, device=device)
    precision = machine.find_precision("auto", device)
    layout = memory_format(PLAIN_SIDE, precision, device)

    def step(layout: torch.memory_format, prepared: Callable[[Network], Network]) -> Piece:
        network: torch.nn.Module = MODELS.make("small", {}).build(3, PLAIN_SIDE)
        network = network.to(device).to(memory_format=layout)
        optimizer = torch.optim.AdamW(network.parameters(), fused=True)
        return bare_step(prepared(network), optimizer, x.contiguous(memory_format=layout))

    pieces = {
        # Not a Predictor, which would lay out the images as it likes them.
        "plain": step(torch.contiguous_format, lambda network: network),
        "default": step(layout, lambda network: Predictor(network, precision)),
    }
    with threads(machine.threads_for(x[0].numel())):
        seconds = in_turns(pieces, device)
    report.ratios["plain_float32"] = Ratio(
        f"training step at 64 pixels: plain float32 / default ({precision})",
        seconds["plain"] / seconds["default"],
        "at least 3",
    )


def driver(subject: Subject, report: BenchReport) -> None:
    """What a cell costs beyond its own work: cells of an exact denoiser on a few pixels, from the
    plan to the record. What a run costs once falls out of the difference of two."""
    few, many = 10, 60
    with tempfile.TemporaryDirectory() as folder:
        run_cells(Path(folder) / "warm", 3)
        seconds = {count: run_cells(Path(folder) / str(count), count) for count in (few, many)}
    report.ratios["driver_seconds_per_cell"] = Ratio(
        "driver: seconds per cell", (seconds[many] - seconds[few]) / (many - few), "at most 0.1"
    )


def run_cells(folder: Path, count: int, report: bool = False) -> float:
    """The seconds of a whole run of so many cells, with or without its report."""
    folder.mkdir()
    grid = grid_of(ANALYTIC, folder, f"sampling_seeds={list(range(count))}")
    paths = Paths(folder, f"sqlite:///{folder / 'mlflow.db'}", folder / "report", folder, "cpu")
    with Screen(Console(quiet=True)) as screen:
        began = time.perf_counter()
        run_grid(grid, paths, Options(report=report), screen)
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
