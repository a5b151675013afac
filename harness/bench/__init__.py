"""How fast the work is, next to the bare network on the same machine: `harness bench`.

Everything is measured in one process and one run, the compared pieces in turns, so that a busy
machine slows both sides; what is reported are ratios of medians. A figure in seconds is only worth
something with the machine's name beside it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch

from harness.bench.scaling import COMMON, driver, grid_of
from harness.bench.timing import BenchReport, Ratio, Timed, flops_of, in_turns, peak, threads
from harness.diffusion.objective import Denoiser, Network
from harness.diffusion.samplers import SAMPLERS, evaluations
from harness.diffusion.schedules import Schedule
from harness.diffusion.times import trailing
from harness.engine.compiled import pays
from harness.engine.denoisers import compiled_once
from harness.engine.inputs import extractor_of
from harness.engine.memory import said_in_one_line
from harness.engine.network import Predictor, Trained, make_schedule, memory_format, with_weights
from harness.engine.noise import FreshNoise, starting_noise
from harness.engine.reference import in_chunks
from harness.engine.sample import batches_of
from harness.engine.state import State
from harness.engine.steps import Setting, ready, step_of
from harness.errors import BadOption
from harness.execute import machine
from harness.metrics.distances import METRICS
from harness.metrics.evaluation import evaluate
from harness.metrics.features import Features, Images
from harness.models.presets import MODELS
from harness.plan.grid import expand, load_grid
from harness.work.cells import Cell
from harness.work.options import Paths, Workplace

STEPS = 20  # of a sampling
PLAIN_SIDE, PLAIN_BATCH = 64, 8  # of the images on which precision and layout are compared
DIGITS_GRID = COMMON + (
    "data: digits\nmodel: tiny\ntraining: {batch_size: 64}\nsteps: [20]\nimages: 500\n"
    "extractor: digits\n"
)


def bench_here(grid_file: Path | None, paths: Paths, say: Callable[[str], None]) -> BenchReport:
    """What this machine does with the network, images and batch of a grid's first trained cell; of
    digits where no grid is given. Raises BadOption where the grid trains nothing."""
    subject = subject_of(grid_file, paths.workplace)
    report = BenchReport(subject.names())
    for part in (training, sampling, scoring, arithmetic, plain_float32):
        what = part.__name__.replace("_", " ")
        say(f"measuring: {what}")
        with said_in_one_line(f"the speed of {what} was measured", paths.device):
            part(subject, report)
    say("measuring: driver")
    driver(report)
    return report


def subject_of(grid_file: Path | None, at: Workplace) -> Subject:
    """The first cell of a grid that trains. Raises BadOption where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        grid = load_grid(grid_file) if grid_file else grid_of(DIGITS_GRID, Path(folder))
    cell = next((cell for cell in expand(grid) if cell.training.is_trained), None)
    if cell is None:
        raise BadOption(
            "the grid has no network to measure: model 'exact' needs none. Use a grid that trains, "
            "such as runs/digits.yaml."
        )
    setting = Setting.of(cell.training, at)
    number = machine.threads_for(setting.images.train[0].size)
    if setting.device.type == "cpu":
        torch.set_num_threads(number)
    return Subject(cell, setting, at, number)


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
        weights = setting.first_state(self.threads).averages[setting.training.ema]
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
            "name": machine.name(self.setting.device), "torch": torch.__version__,
            "data": str(training.data), "model": str(training.model),
            "batch": training.batch_size, "precision": self.setting.precision,
            "threads": self.threads,
        }  # fmt: skip


def training(subject: Subject, report: BenchReport) -> None:
    """Our training loop against the bare step: forward, backward and optimiser, nothing else."""
    precision, device = subject.setting.precision, subject.setting.device
    state, network = subject.state_and_network()
    step = step_of(subject.setting, network)

    def ours() -> None:
        t, losses = step(state)
        state.keep_losses(t, losses)
        state.step = (state.step + 1) % len(state.losses)

    layout = memory_format(subject.shape[-1], precision, device)
    x = torch.randn(subject.batch, *subject.shape, device=device).contiguous(memory_format=layout)
    bare = bare_step(Predictor(network, precision), state.optimizer, x)
    seconds = in_turns({"ours": ours, "bare": bare}, device)
    report.ratios["training_loop"] = Ratio(
        "training: bare step / our step", seconds["bare"] / seconds["ours"], "at least 0.92"
    )
    report.absolute["training_images_per_second"] = subject.batch / seconds["ours"]
    report.absolute["bare_training_step_seconds"] = seconds["bare"]
    # Counted on the network that is not compiled: torch before mid-2026 does not compile again
    # what has run under its counter (pytorch#190286).
    plain = bare_step(Predictor(state.network, precision), state.optimizer, x)
    share = flops_of(plain) / seconds["bare"] / peak(precision, device, subject.threads)
    title = "training: bare step's share of the measured matrix peak"
    report.ratios["training_share_of_peak"] = Ratio(title, share)


def bare_step(predict: Network, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> Timed:
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
    images, schedule = subject.sampled_batch, make_schedule(subject.cell.training.schedule)
    # Before the clock runs, as in a cell: it is drawn on a processor.
    noise = starting_noise(0, images, subject.shape).to(device)
    log_snr = torch.randn(len(images), device=device)
    trained = subject.as_run(subject.trained())

    def bare(predict: Network) -> None:
        for _ in range(STEPS):
            predict(noise, log_snr)

    task = (trained.denoiser(schedule), schedule, images, noise)
    pieces: dict[str, Timed] = {"bare": partial(bare, trained.predictor())}
    pieces |= {name: partial(sampled_from, name, *task) for name in ("ddim", "ddpm")}
    with torch.inference_mode():
        seconds = in_turns(pieces, device)
        # In this thread alone, where operations can be counted.
        flops = flops_of(partial(bare, Predictor(trained.network, precision)))
    report.absolute["bare_forward_seconds"] = seconds["bare"] / STEPS
    for name in ("ddim", "ddpm"):
        cost = seconds[name] / (seconds["bare"] / STEPS * evaluations(name, STEPS))
        title = f"sampling: {name} / its network evaluations"
        report.ratios[f"sampling_{name}"] = Ratio(title, cost, "at most 1.05")
        report.absolute[f"{name}_{STEPS}_images_per_second"] = len(images) / seconds[name]
    report.ratios["sampling_share_of_peak"] = Ratio(
        "sampling: bare forward's share of the measured matrix peak",
        flops / seconds["bare"] / peak(precision, device, machine.cores()),
    )


def sampled_from(
    name: str, denoise: Denoiser, schedule: Schedule, images: range, noise: torch.Tensor
) -> torch.Tensor:
    """One batch from its starting noise to its images, as a cell does it; [N, C, H, W]."""
    fresh = FreshNoise(0, images, tuple(noise.shape[1:]), noise.device)
    x_0: torch.Tensor = SAMPLERS[name](denoise, schedule, noise, trailing(schedule, STEPS), fresh)
    return x_0


def scoring(subject: Subject, report: BenchReport) -> None:
    """Features and the grid's first metrics with their intervals, against the features alone."""
    some = subject.setting.images.train[: subject.cell.images]
    features = subject.features(some)
    pieces: dict[str, Timed] = {
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

    def step(layout: torch.memory_format, prepared: Callable[[Network], Network]) -> Timed:
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
        # So few images keep a GPU waiting for its kernels, whatever their precision.
        "" if device.type == "cuda" else "at least 3",
    )
