"""How the training of a network is computed fastest here: several ways timed, in turns.

What is timed is a training step of that network, on as many images of a batch as take a tenth of a
second: forward, backward and optimiser. With one thread on a processor it is the thread's own time,
which other programs do not touch; elsewhere it is the clock's, and of several threads that counts
only while nobody else is at work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import nn

from harness.engine.hyperparameters import GRADIENT_NORM
from harness.engine.memory import tried
from harness.engine.network import Predictor, layout_of
from harness.engine.optimizers import OPTIMIZERS
from harness.execute import machine
from harness.execute.others import Others, Watch
from harness.work.cells import ADAMW
from harness.work.execution import Execution, Format

PROBE_SECONDS = 1.0  # for which formats are compared, and then numbers of threads
STEP_SECONDS = 0.1  # that a step may take
MARGIN = 1.05  # times as fast as the rule that something must be to be taken ...
UNCOMPILED_MARGIN = 1.25  # ... on GPUs, where a run compiles the network and this does not
HOPELESS = 1.5  # times as slow as the fastest, after which it is not timed again
OTHERS = 0.2  # cores that other programs may use while several threads are timed
FEW = 2  # images
LEARNING_RATE = 1e-3  # of weights that nobody uses
TOO_LONG = 2.0  # seconds of the first step on them: to compare several would take a minute

Kind = TypeVar("Kind")
Step = Callable[[], None]


class Shape(Protocol):
    """What builds a network, as a part of the kind `model` does."""

    def build(self, channels: int, size: int) -> nn.Module:
        """The untrained network for images of these channels and this side."""
        ...


@dataclass(frozen=True)
class Subject:
    """The network that is timed, the shape [N, C, H, W] of its batches, on which device, and what
    moves its weights."""

    shape: Shape
    batch: tuple[int, int, int, int]
    device: torch.device
    optimizer: str = ADAMW


def fastest(
    of: Subject,
    rule: Execution,
    formats: Sequence[Format],
    threads: Sequence[int],
    is_worth: Callable[[float], bool] = lambda seconds: True,
) -> Execution | None:
    """The fastest of these formats, and then of these numbers of threads, with what it gains; the
    rule's own where none is faster by a margin, so that noise decides nothing. None where it cannot
    be told, since memory ran out, other programs are at work or the network is too large for a
    probe, or where it is not worth it by the seconds that a step takes for an image."""
    before = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]):
            return tried(_fastest, of, rule, formats, threads, is_worth)
    finally:
        torch.set_num_threads(before)


def _fastest(
    of: Subject,
    rule: Execution,
    formats: Sequence[Format],
    threads: Sequence[int],
    is_worth: Callable[[float], bool],
) -> Execution | None:
    usual, margin = rule.threads or 1, MARGIN if of.device.type == "cpu" else UNCOMPILED_MARGIN
    images, each = sized(of, rule.format, usual) or (0, 0.0)
    if not images or not is_worth(each):
        return None
    steps = {one: step_on(of, one, images) for one in formats}
    with watched() as others:
        taken = in_turns(
            {one: partial(step_seconds, step, of.device, usual) for one, step in steps.items()}
        )
    if usual > 1 and others():
        return None
    format, gain = chosen(taken, rule.format, margin)
    found = replace(rule, format=format, gain=gain)
    if len(threads) > 1:
        step = steps[format]
        with watched() as others:
            taken_by = in_turns(
                {one: partial(step_seconds, step, of.device, one, own=False) for one in threads}
            )
        if not others():
            count, more = chosen(taken_by, usual, margin)
            found = replace(found, threads=count, gain=gain * more)
    return found


def step_on(of: Subject, format: Format, images: int) -> Step:
    """The function that makes a step on so many images, with a network and moments of its own."""
    _, channels, size, _ = of.batch
    x = torch.randn(images, *of.batch[1:], device=of.device)
    x, log_snr = x.contiguous(memory_format=layout_of(format)), torch.zeros_like(x[:, 0, 0, 0])
    network = of.shape.build(channels, size).to(of.device).to(memory_format=layout_of(format))
    optimizer = OPTIMIZERS[of.optimizer](network, channels, LEARNING_RATE)
    predict = Predictor(network, format.precision, format.channels_last)

    def step() -> None:
        torch.autograd.backward((predict(x, log_snr) - x).square().mean())
        nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()

    return step


def sized(of: Subject, format: Format, threads: int) -> tuple[int, float] | None:
    """On how many images of a batch a step takes about long enough to be timed, and the seconds for
    each of them; None where a few already take too long."""
    images = min(FEW, of.batch[0])
    while True:
        step = step_on(of, format, images)
        if step_seconds(step, of.device, threads) > TOO_LONG:  # the first one is slower
            return None
        taken = max(step_seconds(step, of.device, threads), 1e-6)
        if images == of.batch[0] or taken > STEP_SECONDS / 2:
            return images, taken / images
        # What a step takes for no image at all counts less with each that is added.
        more = max(2 * images, int(STEP_SECONDS / taken * images))
        images = min(of.batch[0], more)


def step_seconds(step: Step, device: torch.device, threads: int, *, own: bool = True) -> float:
    """What a step takes; of one thread alone, where it is to be, its own time."""
    clock = time.perf_counter
    if device.type == "cpu":
        torch.set_num_threads(threads)
        if own and threads == 1 and time.get_clock_info("thread_time").resolution < 1e-3:
            clock = time.thread_time  # which is too coarse on Windows
    return seconds(step, device, clock)


def seconds(
    work: Callable[[], object],
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The seconds that this work takes, until the device has done it."""
    machine.wait_for(device)
    began = clock()
    work()
    machine.wait_for(device)
    return clock() - began


def chosen(taken: Mapping[Kind, float], rule: Kind, margin: float) -> tuple[Kind, float]:
    """What took the fewest seconds, unless the rule's took as few within the margin; and how many
    times as fast as that it is."""
    best = min(taken, key=taken.__getitem__)
    gain = taken[rule] / taken[best]
    return (best, gain) if gain > margin else (rule, 1.0)


def in_turns(work: Mapping[Kind, Callable[[], float]]) -> dict[Kind, float]:
    """The least seconds that each of several pieces of work says it took, done in turns so that
    what slows this machine slows all of them."""
    for one in work.values():
        one()  # the first time is slower
    began = time.monotonic()
    best = {name: one() for name, one in work.items()}
    while time.monotonic() - began < PROBE_SECONDS:
        least = min(best.values())
        for name, one in work.items():
            if best[name] <= HOPELESS * least:
                best[name] = min(best[name], one())
    return best


@contextmanager
def watched() -> Iterator[Callable[[], bool]]:
    """Gives a function that says, afterwards, whether other programs were at work meanwhile on the
    cores that this one may use."""
    watch, found = Watch(), Others(None, None, None)
    yield lambda: (found.used or 0.0) * machine.cores() > OTHERS
    found = watch.others()
