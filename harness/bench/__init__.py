"""How fast the work is, next to the bare network on the same machine: `harness bench`.

Everything is measured in one process and one run, the compared pieces in turns, so that a busy
machine slows both sides; what is reported are ratios of medians. A figure in seconds is only worth
something with the machine's name beside it, and where that did nothing else meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch

from harness.bench.scaling import driver
from harness.bench.timing import (
    BenchReport,
    Part,
    Ratio,
    Timed,
    flops_of,
    matrix_product,
    threads,
)
from harness.diffusion.objective import Denoiser, Network
from harness.diffusion.samplers import SAMPLERS, evaluations
from harness.diffusion.schedules import Schedule
from harness.diffusion.times import trailing
from harness.engine.compiled import Compiled, pays
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
from harness.execute.others import Watch
from harness.execute.screen import Screen
from harness.metrics.distances import METRICS
from harness.metrics.evaluation import evaluate
from harness.metrics.features import Features, Images
from harness.models.presets import MODELS
from harness.plan.grid import Grid, expand
from harness.work.cells import Cell
from harness.work.options import Workplace

STEPS = 20  # of a sampling
PLAIN_SIDE, PLAIN_BATCH = 64, 8  # of the images on which precision and layout are compared
Compile = Literal["auto", "on", "off"]


def bench_here(grid: Grid, at: Workplace, screen: Screen, compile: Compile = "auto") -> BenchReport:
    """What this machine does with the network, images and batch of a grid's first trained cell;
    the screen tells each part once it is measured. Raises BadOption where the grid trains
    nothing."""
    screen.doing("reading images")
    subject, watch = subject_of(grid, at, compile), Watch()
    report = BenchReport(subject.names())
    screen.say(report.heading())
    for measure in (training, sampling, scoring, arithmetic, plain_float32):
        part = Part(measure.__name__.replace("_", " "))
        screen.doing(f"measuring {part.name}")
        with said_in_one_line(f"the speed of {part.name} was measured", at.device):
            measure(subject, part)
        report.add(part, screen)
    screen.doing("measuring the driver")
    part = Part("driver")
    driver(part)
    report.add(part, screen)
    report.others = watch.others()
    return report


def subject_of(grid: Grid, at: Workplace, compile: Compile = "auto") -> Subject:
    """The first cell of a grid that trains. Raises BadOption where there is none."""
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
    # As a short run does: on a GPU alone.
    compiles = pays(0.0, setting.device) if compile == "auto" else compile == "on"
    return Subject(cell, setting, at, number, compiles)


@dataclass(frozen=True)
class Subject:
    """What is measured: one training, and a cell of it."""

    cell: Cell
    setting: Setting
    at: Workplace
    threads: int
    compiles: bool

    @property
    def batch(self) -> int:
        return self.cell.training.batch_size

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.setting.images.train.shape[1:])

    @property
    def sampled_batch(self) -> range:
        return next(batches_of(self.cell.images, self.setting.device))

    def state_and_network(self) -> tuple[State, Compiled]:
        """The beginning of the training, and its network as its steps use it."""
        state = self.setting.first_state(self.threads, self.compiles)
        return state, ready(state, self.setting)

    def trained(self) -> Trained:
        """The network to be sampled, not compiled."""
        setting = self.setting
        weights = setting.first_state(self.threads).averages[setting.training.ema]
        return with_weights(self.cell.training, weights, setting.images, setting.device)

    def as_run(self, trained: Trained) -> Trained:
        """The same as a run samples it."""
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
            "threads": self.threads, "compile": "on" if self.compiles else "off",
        }  # fmt: skip


def training(subject: Subject, part: Part) -> None:
    """Our training loop against the bare step: forward, backward and optimiser, nothing else."""
    precision, device = subject.setting.precision, subject.setting.device
    state, made = subject.state_and_network()
    step = step_of(subject.setting, made.network)
    if subject.compiles:
        part.compiling = {"seconds": made.seconds, "trouble": made.trouble}

    def ours() -> None:
        t, losses = step(state)
        state.keep_losses(t, losses)
        state.step = (state.step + 1) % len(state.losses)

    layout = memory_format(subject.shape[-1], precision, device)
    x = torch.randn(subject.batch, *subject.shape, device=device).contiguous(memory_format=layout)
    bare = bare_step(Predictor(made.network, precision), state.optimizer, x)
    product, operations = matrix_product(precision, device, subject.threads)
    seconds = part.in_turns({"our step": ours, "bare step": bare, "product": product}, device)
    loop = seconds["bare step"] / seconds["our step"]
    part.ratios["training_loop"] = Ratio("bare step / our step", loop, "at least 0.92")
    part.absolute["training_images_per_second"] = subject.batch / seconds["our step"]
    part.absolute["bare_training_step_seconds"] = seconds["bare step"]
    # Counted on the network that is not compiled: torch before mid-2026 does not compile again
    # what has run under its counter (pytorch#190286).
    plain = bare_step(Predictor(state.network, precision), state.optimizer, x)
    share = flops_of(plain) / seconds["bare step"] / (operations / seconds["product"])
    part.ratios["training_share_of_peak"] = Ratio("bare step's share of the matrix peak", share)


def bare_step(predict: Network, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> Timed:
    """Forward, backward and optimiser on images [N, C, H, W], as they lie in memory."""
    log_snr = torch.randn(len(x), device=x.device)

    def step() -> None:
        torch.autograd.backward((predict(x, log_snr) - x).square().mean())
        optimizer.step()
        optimizer.zero_grad()

    return step


def sampling(subject: Subject, part: Part) -> None:
    """Our sampling against as many bare forward passes, for a deterministic and a noisy sampler."""
    device, precision = subject.setting.device, subject.setting.precision
    images, schedule = subject.sampled_batch, make_schedule(subject.cell.training.schedule)
    # Before the clock runs, as in a cell: it is drawn on a processor.
    noise = starting_noise(0, images, subject.shape).to(device)
    log_snr = torch.randn(len(images), device=device)
    trained = subject.as_run(subject.trained())
    if subject.compiles:
        part.compiling = {"seconds": trained.compile_seconds, "trouble": trained.compile_trouble}
    product, operations = matrix_product(precision, device, machine.cores())

    def bare(predict: Network) -> None:
        for _ in range(STEPS):
            predict(noise, log_snr)

    task = (trained.denoiser(schedule), schedule, images, noise)
    pieces: dict[str, Timed] = {
        name: partial(sampled_from, name, *task) for name in ("ddim", "ddpm")
    }
    pieces |= {"evaluations": partial(bare, trained.predictor()), "product": product}
    with torch.inference_mode():
        seconds = part.in_turns(pieces, device)
        # In this thread alone, where operations can be counted.
        flops = flops_of(partial(bare, Predictor(trained.network, precision)))
    forward = seconds["evaluations"] / STEPS
    part.absolute["bare_forward_seconds"] = forward
    for name in ("ddim", "ddpm"):
        cost = seconds[name] / (forward * evaluations(name, STEPS))
        title = f"{name} / its network evaluations"
        part.ratios[f"sampling_{name}"] = Ratio(title, cost, "at most 1.05")
        part.absolute[f"{name}_{STEPS}_images_per_second"] = len(images) / seconds[name]
    share = flops / seconds["evaluations"] / (operations / seconds["product"])
    part.ratios["sampling_share_of_peak"] = Ratio("evaluations' share of the matrix peak", share)


def sampled_from(
    name: str, denoise: Denoiser, schedule: Schedule, images: range, noise: torch.Tensor
) -> torch.Tensor:
    """One batch from its starting noise to its images, as a cell does it; [N, C, H, W]."""
    fresh = FreshNoise(0, images, tuple(noise.shape[1:]), noise.device)
    x_0: torch.Tensor = SAMPLERS[name](denoise, schedule, noise, trailing(schedule, STEPS), fresh)
    return x_0


def scoring(subject: Subject, part: Part) -> None:
    """Features and the grid's first metrics with their intervals, against the features alone."""
    some = subject.setting.images.train[: subject.cell.images]
    features = subject.features(some)
    pieces: dict[str, Timed] = {
        "features": lambda: subject.features(some),
        "metrics": lambda: evaluated(["kid", "fid"], features, features),
    }
    seconds = part.in_turns(pieces, subject.setting.device)
    part.ratios["scoring"] = Ratio(
        "features, KID and FID with intervals / features alone",
        (seconds["features"] + seconds["metrics"]) / seconds["features"],
    )
    part.absolute["features_images_per_second"] = len(some) / seconds["features"]


def evaluated(metrics: list[str], features: Features, reference: Features) -> None:
    """Evaluate metrics with their intervals."""
    # Other numbers each time, or nothing would be worked out a second time.
    features = features * (1 + 1e-9 * time.perf_counter())
    for name in metrics:
        evaluate(name, METRICS[name], features, reference)


def arithmetic(subject: Subject, part: Part) -> None:
    """KID and FID with their intervals on features as wide as Inception's."""
    random = np.random.default_rng(0)
    features, reference = (random.standard_normal((1000, 768)) for _ in range(2))
    for name in ("kid", "fid"):
        began = time.perf_counter()
        evaluated([name], features, reference)
        part.absolute[f"{name}_of_1000_by_768_seconds"] = time.perf_counter() - began


def plain_float32(subject: Subject, part: Part) -> None:
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
        seconds = part.in_turns(pieces, device)
    part.ratios["plain_float32"] = Ratio(
        f"training step at 64 pixels: plain float32 / default ({precision})",
        seconds["plain"] / seconds["default"],
        # So few images keep a GPU waiting for its kernels, whatever their precision.
        "" if device.type == "cuda" else "at least 1",
    )
