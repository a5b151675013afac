"""A few seconds of the real work, to predict what all of it will cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import Tensor

from harness.engine.compiled import pays
from harness.engine.denoisers import compiled_once, final_denoiser
from harness.engine.fastest import in_turns, seconds
from harness.engine.inputs import extractor_of, images_of
from harness.engine.memory import in_halves, said_in_one_line, tried
from harness.engine.network import Predictor, make_schedule, memory_format, with_weights
from harness.engine.reference import CHUNK, features_of
from harness.engine.sample import batches_of
from harness.engine.steps import Setting, ready, step_of
from harness.execute import machine
from harness.metrics.distances import METRICS, Metric
from harness.metrics.evaluation import evaluate
from harness.metrics.features import Features
from harness.metrics.uncertainty import fid_groups
from harness.models.presets import base
from harness.work.cells import Cell
from harness.work.execution import Format
from harness.work.options import Workplace
from harness.work.speeds import Speeds

FEW = 8  # images: enough to see whether a full batch would take too long
FEW_SECONDS = 0.5  # for these, after which the full batch is not tried
REPEATS = 5
BUSY_SECONDS, MOST_IMAGES = 0.2, 256  # of a step by which precisions are compared, at most
MOST_WIDTH, MOST_ROWS = 512, 1024  # of features of noise
SLOW = 2.0  # seconds of the metrics of half of them, which are not evaluated again
CPU = torch.device("cpu")
CLASSES = 10  # of a classifier whose logits a metric takes
BUSY = 1.5  # times as long as on half as many images: the device has enough to do

SizedWork = Callable[[int], Callable[[], object]]  # of so many images: what is timed


def probe(
    cell: Cell, at: Workplace, threads: int | None = None, format: Format | None = None
) -> Speeds:
    """Do a little of each kind of work that a cell needs, on this machine: training with so many
    threads of a processor and in this format, or as the rule has it. Networks are compiled where
    those of a short run are."""
    with said_in_one_line("the speed of this machine was measured", at.device):
        training, images = cell.training, images_of(cell.training, at)
        device = machine.find_device(at.device)
        if not training.is_trained:
            schedule = make_schedule(cell.sample_schedule)
            denoise = final_denoiser(training, at).denoiser(schedule)
            return _probed(cell, at, lambda x: denoise(x, torch.tensor(1.0)))
        if device.type == "cpu":
            torch.set_num_threads(threads or machine.threads_for(images.train[0].size))
        setting, is_compiled = Setting.of(training, at, format=format), pays(0.0, device)
        state = setting.first_state(1, is_compiled)
        network = ready(state, setting)

        def a_step(batch: int) -> Callable[[], object]:
            sized = replace(setting, training=replace(training, batch_size=batch))
            step = step_of(sized, network.network)
            return lambda: step(state)

        train = seconds_per_image(a_step, training.batch_size, device, is_compiled)
        trained = with_weights(training, state.averages[training.ema], images, device, format)
        if is_compiled:
            trained = compiled_once(trained, (len(next(batches_of(cell.images, device))),))
            compiled_once.cache_clear()  # it would hold memory of the device while the run goes on
        predict = trained.predictor()
        return replace(
            _probed(cell, at, lambda x: predict(x, x[:, 0, 0, 0]), is_compiled),
            train=train,
            parameters=sum(parameter.numel() for parameter in state.network.parameters()),
            compile=network.seconds + trained.compile_seconds,
        )


@dataclass(frozen=True)
class PrecisionSpeeds:
    """How many images of size x size pixels a network learns in a second, by precision; and the
    precisions in which the device waits for Python, so that more images at once would cost next to
    nothing: theirs are no measure of it."""

    network: str
    size: int
    speeds: dict[str, float]
    waiting: frozenset[str]


def speeds_by_precision(gpu: torch.device) -> PrecisionSpeeds:
    """How fast a network of the size that is trained on GPUs learns in each precision that this one
    computes in: the best of a few steps, in turn, so that other programs slow all alike, on as many
    images as keep it busy. Takes seconds. Raises MachineError where not even two images fit into
    memory."""
    size = 64
    network = base().build(3, size).to(gpu)

    def step_seconds(precision: str, images: int) -> float:
        x = torch.zeros(images, 3, size, size, device=gpu)
        network.to(memory_format=memory_format(size, precision, gpu)).zero_grad()

        def a_step() -> None:
            answer = Predictor(network, precision)(x, x[:, 0, 0, 0])
            torch.autograd.backward(answer.square().mean())

        return seconds(a_step, gpu)

    with said_in_one_line("precisions were compared", gpu):
        batch = busy_batch(partial(step_seconds, "float32"))
        work: dict[tuple[str, int], Callable[[], float]] = {}
        for precision in machine.PRECISIONS:
            if precision != "auto":
                with suppress(Exception):  # what this device cannot compute in
                    for images in (batch, batch // 2):
                        step_seconds(precision, images)
                        work[precision, images] = partial(step_seconds, precision, images)
        best = in_turns(work)
    return PrecisionSpeeds(
        "base",
        size,
        {precision: batch / step for (precision, images), step in best.items() if images == batch},
        frozenset(
            precision
            for (precision, images), step in best.items()
            if images < batch and best.get((precision, batch), 0.0) < BUSY * step
        ),
    )


def busy_batch(step_seconds: Callable[[int], float]) -> int:
    """How many images, of those that fit into memory, a step takes long enough on to be measured.
    Where two do not, torch's
    own error goes through."""
    images = 2
    step_seconds(images)  # the first one is slower
    while images < MOST_IMAGES and step_seconds(images) < BUSY_SECONDS:
        if tried(step_seconds, 2 * images) is None:
            break
        images *= 2
    return images


def metric_seconds(metrics: Sequence[str], images: int, reference: int, width: int) -> float:
    """The seconds that these metrics of a cell take where what they know of the reference is known,
    from so many features of noise; of many, by how the seconds grow from half to all of what is
    quick. A metric that fails takes none."""
    part = min(1.0, MOST_WIDTH / width, MOST_ROWS / images)

    def at(part: float) -> float:
        rows, columns = (max(FEW, int(part * size)) for size in (images, width))
        others = noise(min(int(part * reference) + FEW, MOST_ROWS), columns, seed=0)
        first, second = (noise(rows, columns, seed) for seed in (1, 2))
        score = partial(evaluate_all, metrics, reference=others, width=width)
        first_time = seconds(partial(score, first), CPU)  # what is loaded by it included
        return first_time if first_time > SLOW else seconds(partial(score, second), CPU)

    if (half := at(part / 2)) > SLOW:
        return float(2 / part * half)
    found = at(part)
    power = min(max(math.log2(found / half), 1.0), 3.0)  # d^3 and n^2 d at most
    return float(found * (1 / part) ** power)


def noise(rows: int, columns: int, seed: int) -> Features:
    """Features that are alike in nothing, read-only as kept ones are."""
    drawn = np.random.default_rng(seed).standard_normal((rows, columns))
    drawn.flags.writeable = False
    return drawn


def evaluate_all(
    metrics: Sequence[str], features: Features, reference: Features, width: int
) -> None:
    """Evaluate these metrics, with as many groups left out as where features are so wide."""
    rows, columns = features.shape
    needs = {"held_out": noise(rows, columns, 3), "logits": noise(rows, CLASSES, 4)}
    for name in metrics:
        metric = with_groups_of(METRICS[name], width)
        given = {need: needs[need] for need in metric.needs if need in needs}
        # One of another package may try to end the program.
        with suppress(Exception, SystemExit), machine.numpy_threads_for(features.size):
            evaluate(name, metric, features, reference, reference_variance=False, **given)


def with_groups_of(metric: Metric, width: int) -> Metric:
    """The metric, which leaves out no more groups than where features are so wide."""
    if not (metric.biased and (each := metric.left_out)):
        return metric

    def left_out(features: Features, reference: Features, *, groups: int) -> Features:
        return np.resize(each(features, reference, groups=min(groups, fid_groups(width))), groups)

    return replace(metric, left_out=left_out)


def _probed(
    cell: Cell, at: Workplace, evaluate: Callable[[Tensor], Tensor], is_compiled: bool = False
) -> Speeds:
    """The speeds of evaluations and features: what is not trained here has, too."""
    device, images = machine.find_device(at.device), images_of(cell.training, at)

    def an_evaluation(batch: int) -> Callable[[], object]:
        x = torch.zeros(batch, *images.train.shape[1:], device=device)
        return torch.inference_mode()(lambda: evaluate(x))

    together = len(next(batches_of(cell.images, device)))
    extract, some = extractor_of(cell, at), images.train[:CHUNK]
    width = extract(some[:1]).shape[1]  # loads the weights, too
    return Speeds(
        train=0.0,
        evaluate=seconds_per_image(an_evaluation, together, device, is_compiled),
        features=seconds_per_image(
            lambda count: lambda: features_of(extract, some[:count], device.type), len(some), device
        ),
        source="a short probe of this machine",
        memory=machine.memory_in_use(device),
        width=width,
    )


def seconds_per_image(
    work_on: SizedWork, batch: int, device: torch.device, is_compiled: bool = False
) -> float:
    """The median over a few repeats at the full batch, or at the part of it that fits into memory;
    where that would take long, one repeat on a few images, which is near enough."""

    def timed(images: range, repeats: int = REPEATS) -> float:
        work = work_on(len(images))
        seconds(work, device)
        return median(seconds(work, device) for _ in range(repeats)) / len(images)

    if not is_compiled:  # a compiled network would be compiled again for few images
        few = range(min(FEW, batch))
        each = next(in_halves([few], partial(timed, repeats=1), device))
        if each * len(few) > FEW_SECONDS:
            return each
    return next(in_halves([range(batch)], timed, device))
