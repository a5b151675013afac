"""A network at work: its first weights, its precision, and reading back what was trained, here or
elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.data.images import ImageSet
from harness.diffusion.objective import LOG_SNR_LIMIT, TARGETS, Clip, Denoiser, Estimate, Network
from harness.diffusion.schedules import SCHEDULES, Schedule
from harness.engine.noise import Purpose, generator
from harness.engine.pretrained import network_of
from harness.engine.scale import Scale
from harness.engine.side_by_side import SideBySide
from harness.errors import Fault, PartFailed, StoreError, is_out_of_memory
from harness.execute import machine
from harness.models.presets import MODELS
from harness.models.pretrained import DEFAULT_STEPS
from harness.models.pretrained import WEIGHTS as PRETRAINED_WEIGHTS
from harness.models.timesteps import AtTimesteps
from harness.registry.signature import shown
from harness.store import WEIGHTS, Store, set_aside
from harness.work.cells import Part, Training
from harness.work.execution import Format
from harness.work.options import Workplace
from harness.work.results import Provenance


def build(
    training: Training,
    channels: int,
    size: int,
    device: torch.device,
    format: Format | None = None,
) -> nn.Module:
    """The untrained network, in this format or else in that of the rule; its weights are a function
    of the training seed."""
    seed = int(generator(Purpose.WEIGHTS, training.seed).integers(2**31))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = MODELS.make(training.model.name, training.model.keywords)
        with MODELS.blamed(training.model.name, "cannot be built"):
            network: nn.Module = shape.build(channels, size)
            if not isinstance(network, nn.Module):
                raise Fault(f"builds no torch module, but {shown(network)}")
    format = format or machine.format_for(training.precision, size, device)
    return network.to(device).to(memory_format=layout_of(format))


def memory_format(size: int, precision: str, device: torch.device) -> torch.memory_format:
    """How images of this side lie in memory by the rule."""
    return layout_of(Format(precision, machine.likes_channels_last(size, precision, device)))


def layout_of(format: Format) -> torch.memory_format:
    """How images lie in memory in this format, as torch names it."""
    return torch.channels_last if format.channels_last else torch.contiguous_format


@dataclass(frozen=True)
class Predictor:
    """The network as the mathematics calls it: float32 in and out, computed in `precision`."""

    network: Network
    precision: str
    channels_last: bool | None = None  # None: by rule

    def __call__(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Raises PartFailed for an answer of another shape, which would be stretched to fit."""
        answer: object = self._answer(x, log_snr)
        if not isinstance(answer, Tensor) or answer.shape != x.shape or answer.is_complex():
            found = f"{list(answer.shape)}" if isinstance(answer, Tensor) else shown(answer)
            raise PartFailed(
                f"the network answers {found} for images {list(x.shape)}. Use a model whose "
                "answers have the shape of its images."
            )
        answer = answer.float()
        if self.precision == "float16":
            # What float16 cannot hold is no number, which no clipping makes look like an image.
            answer = answer.masked_fill(answer.isinf(), math.nan)
        return answer

    def _answer(self, x: Tensor, log_snr: Tensor) -> object:
        x = x.contiguous(memory_format=self._layout(x))
        if self.precision == "float32":
            return self.network(x, log_snr)
        with torch.autocast(x.device.type, dtype=getattr(torch, self.precision)):
            return self.network(x, log_snr)

    def _layout(self, x: Tensor) -> torch.memory_format:
        if self.channels_last is None:
            return memory_format(x.shape[-1], self.precision, x.device)
        return layout_of(Format(self.precision, self.channels_last))


@dataclass(frozen=True)
class Trained:
    """A network whose weights are settled, as it is sampled."""

    training: Training
    network: nn.Module
    precision: str
    shape: tuple[int, int, int]  # of one image: channels, height, width
    device: torch.device
    scale: Scale
    compiled: Network | None = None  # in the network's place
    compile_seconds: float = 0.0  # that it took, once for all cells of the training
    compile_trouble: str = ""  # why it is not compiled, where it was to be
    channels_last: bool | None = None  # how its weights lie in memory; None: by rule

    def predictor(self) -> Network:
        """The network at work: on a processor, on all of its cores."""
        if self.compiled is not None:  # whose kernels let no other thread of Python work
            return Predictor(self.compiled, self.precision, self.channels_last)
        predictor = Predictor(self.network, self.precision, self.channels_last)
        return SideBySide(predictor) if self.device.type == "cpu" else predictor

    def denoiser(self, schedule: Schedule, clip: Clip | None = None) -> Denoiser:
        """`denoise(x, t)` under a schedule, which need not be the one it was trained under."""
        estimate = Estimate(
            self.predictor(),
            schedule,
            TARGETS[self.training.target],
            trained=log_snr_range(make_schedule(self.training.schedule)),
        )
        return Denoiser(estimate, clip, self.scale.bounds(self.device))


def with_weights(
    training: Training,
    weights: dict[str, Tensor],
    images: ImageSet,
    device: torch.device,
    format: Format | None = None,
) -> Trained:
    """The training's network with these weights, by name and each shaped like the network's own,
    ready to be sampled in this format or else in that of the rule."""
    format = format or machine.format_for(training.precision, images.size, device)
    network = build(training, images.channels, images.size, device, format)
    network.load_state_dict(weights)
    return _ready(network, training, images, device, format)


def _ready(
    network: nn.Module, training: Training, images: ImageSet, device: torch.device, format: Format
) -> Trained:
    """A network whose weights are settled, ready to be sampled in this format."""
    return Trained(
        training,
        rounded_once(network.eval().requires_grad_(False), format.precision),
        format.precision,
        (images.channels, images.size, images.size),
        device,
        Scale.of(training.scale, images),
        channels_last=format.channels_last,
    )


def format_as_trained(
    training: Training, made: Provenance, size: int, device: torch.device
) -> Format:
    """In what a finished training is sampled: as it was trained, as far as that is fast here too;
    a half precision of another machine may not be. Its layout is that machine's own."""
    is_here = made.machine == machine.name(device)
    usual = machine.find_precision(training.precision, device)
    precision = made.precision if is_here or made.precision == "float32" else usual
    if is_here and made.channels_last is not None:
        return Format(precision, made.channels_last)
    return Format(precision, machine.likes_channels_last(size, precision, device))


def rounded_once(network: nn.Module, precision: str) -> nn.Module:
    """The network with those weights in `precision` that autocast would round to it again at each
    evaluation: the same numbers come out, bit for bit."""
    for layer in network.modules():
        if type(layer) in (nn.Conv2d, nn.Linear):  # a class of its own may compute on its weights
            layer.to(getattr(torch, precision))
    return network


def load_trained(
    training: Training, store: Store, images: ImageSet, device: torch.device, file: str = WEIGHTS
) -> Trained:
    """A finished training's network with its averaged weights. Raises StoreError."""
    result = store.training_result(training.key)
    path = store.model(training.key, file)
    if result is None or not path.exists():
        raise StoreError(
            f"the store {store.root} has no finished training {training.key} with {file}. "
            "Run its grid first."
        )
    try:
        if store.lacking(result, [file]):
            if file != WEIGHTS:  # a training that has lost its weights is made again by its plan
                set_aside(path)
            raise RuntimeError("its checksum is not that of the file that was written")
        format = format_as_trained(training, result.provenance, images.size, device)
        return with_weights(training, load_file(path), images, device, format)
    except (SafetensorError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise StoreError(
            f"{path} does not hold the weights of training {training.key} "
            f"({str(error).splitlines()[0]}). Use harness run with its grid, which makes it again."
        ) from error


def load_pretrained(
    training: Training, at: Workplace, images: ImageSet, device: torch.device
) -> Trained:
    """A network that was trained elsewhere, ready to be sampled in the precision of those that are
    trained here on the same images, to which it is compared. Raises StoreError where it is not the
    one that the training names."""
    found = network_of(training, at)
    if found.fingerprint != training.model_fingerprint:
        raise StoreError(
            f"{found.folder / PRETRAINED_WEIGHTS} does not hold the network '{training.origin}' "
            "that was looked at. Use harness run with its grid, which copies it again."
        )
    found.check(images.channels, images.size)
    network = AtTimesteps(found.build(), table_log_snr(make_schedule(training.schedule)))
    measured = Store(at.store).measured_precisions(training, machine.name(device))
    format = machine.format_for(next(iter(measured), training.precision), images.size, device)
    network = network.to(device).to(memory_format=layout_of(format))
    return _ready(network, training, images, device, format)


def table_log_snr(schedule: Schedule) -> torch.Tensor:
    """The log SNR at each step of a schedule's table, or of as many as diffusers has where it is
    none, [T] float64, falling; within the limits of what a network is asked."""
    steps = schedule.table_steps or DEFAULT_STEPS
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    return schedule.log_snr(t).clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)


def make_schedule(part: Part) -> Schedule:
    """The schedule that a part names. Raises PartFailed where it cannot be made."""
    schedule: Schedule = SCHEDULES.make(part.name, part.keywords)
    return schedule


def log_snr_range(schedule: Schedule) -> tuple[float, float]:
    """The log SNRs that a network trained under this schedule has been asked about."""
    first = 0.0 if schedule.table_steps is None else 1 / schedule.table_steps
    ends = schedule.log_snr(torch.tensor([1.0, first], dtype=torch.float64))
    low, high = ends.clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT).tolist()
    return low, high
