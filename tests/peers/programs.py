"""Other people's programs doing the same work, for `compare.py` to time beside ours.

Each function gives a callable that does one piece of a peer's work with our images, our batch and
a copy of our network. Peers run as they come: float32 without autocast, not channels-last, nothing
compiled, training images read from PNGs through their own transforms. But they draw no progress,
and load images without worker processes, which would go on while the other side is timed.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from harness.errors import HarnessError
from harness.metrics.features import Extractor, Images

T = 1000  # timesteps of both peers, under the betas of our `linear`
Shape = tuple[int, ...]  # of one image: channels, height, width
Predict = Callable[[Tensor, Tensor], Tensor]  # of images [N, C, H, W] and log SNR [N]


@contextmanager
def installed() -> Iterator[None]:
    """Around the import of a peer. Raises HarnessError where it is not there."""
    try:
        yield
    except ImportError as error:
        raise HarnessError(
            f"other programs to compare with are not all here ({error}). "
            "Use pip install -e '.[peers]'."
        ) from error


class AsPeersCallIt(nn.Module):
    """A copy of our network, which takes log SNR, as peers call one: with timesteps from 0, each an
    entry of their table of betas. The rest is what they ask a network for."""

    table: Tensor
    self_condition = random_or_learned_sinusoidal_cond = False

    def __init__(
        self, network: nn.Module, shape: Shape, betas: Tensor, predict: Predict | None = None
    ):
        super().__init__()
        self.predict = predict  # in the place of the copy, which then only says what it is
        self.network = copy.deepcopy(network).to(memory_format=torch.contiguous_format).float()
        self.device, self.dtype = next(network.parameters()).device, torch.float32
        self.channels = self.out_dim = shape[0]
        self.config = SimpleNamespace(in_channels=shape[0], sample_size=shape[-1])
        log_abar = torch.log1p(-betas.double()).cumsum(0)
        log_snr = log_abar - torch.log(-torch.expm1(log_abar))
        self.register_buffer("table", log_snr.to(self.device, self.dtype), persistent=False)

    def forward(self, x: Tensor, timesteps: Tensor, self_condition: None = None) -> Any:
        log_snr = self.table[timesteps].expand(len(x))
        return self.network(x, log_snr) if self.predict is None else self.predict(x, log_snr)


@dataclass(frozen=True)
class TrainingStep:
    """Makes the next step of a peer's training at each call."""

    network: nn.Module  # the copy of ours that is trained
    folder: tempfile.TemporaryDirectory[str]  # of its images; gone with the last step
    make: Callable[[], None]

    def __call__(self) -> None:
        self.make()


def diffusers_training_step(
    network: nn.Module, images: Images, batch: int, flip: bool = False
) -> TrainingStep:
    """The loop of diffusers' `train_unconditional.py` with its defaults and --use_ema."""
    with installed():
        from accelerate import Accelerator, PartialState
        from diffusers import optimization, training_utils
        from torchvision import transforms

    pipeline = diffusers_pipeline(network, images.shape[1:], "ddpm")
    scheduler, model = pipeline.scheduler, pipeline.unet.train().requires_grad_(True)
    size, folder = images.shape[-1], folder_of(images, batch)
    chain_of = [transforms.Resize(size), transforms.RandomCrop(size)]
    chain_of += [transforms.RandomHorizontalFlip()] if flip else []
    chain_of += [transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
    transform, mode = transforms.Compose(chain_of), {1: "L", 3: "RGB"}[model.channels]

    def together(paths: list[Path]) -> Tensor:
        return torch.stack([transform(Image.open(path).convert(mode)) for path in paths])

    paths: Any = sorted(Path(folder.name).glob("*.png"))
    loader: Any = DataLoader(paths, batch, shuffle=True, collate_fn=together)
    optimizer: Any = torch.optim.AdamW(model.parameters(), 1e-4, (0.95, 0.999), weight_decay=1e-6)
    rate: Any = optimization.get_cosine_schedule_with_warmup(optimizer, 500, 100 * len(loader))
    average: Any = training_utils.EMAModel(model.parameters(), use_ema_warmup=True, power=0.75)
    PartialState(cpu=model.device.type == "cpu")  # accelerate takes a GPU if it may
    accelerator = Accelerator(mixed_precision="no")
    model, optimizer, loader, rate = accelerator.prepare(model, optimizer, loader, rate)
    batches = chain.from_iterable(repeat(loader))  # pass after pass

    def step() -> None:
        clean = next(batches)
        noise = torch.randn(clean.shape, device=clean.device)
        timesteps = torch.randint(0, T, (len(clean),), device=clean.device).long()
        noisy = scheduler.add_noise(clean, noise, timesteps)
        with accelerator.accumulate(model):
            loss = nn.functional.mse_loss(model(noisy, timesteps).sample.float(), noise.float())
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
        average.step(model.parameters())
        loss.detach().item()  # which it shows after every step

    return TrainingStep(model.network, folder, step)


def diffusers_sampling(
    network: nn.Module,
    shape: Shape,
    batch: int,
    steps: int,
    sampler: str = "ddim",
    predict: Predict | None = None,
) -> Callable[[], Tensor]:
    """DDIMPipeline or DDPMPipeline: uint8 [batch, *shape]. Spaced as `leading`, and x_0 clipped.
    With `predict` it asks that, and not its own copy of the network."""
    pipeline = diffusers_pipeline(network, shape, sampler, predict)

    def sample() -> Tensor:
        found = pipeline(batch_size=batch, num_inference_steps=steps, output_type="np").images
        return torch.from_numpy((found * 255).round().astype("uint8")).permute(0, 3, 1, 2)

    return sample


def diffusers_pipeline(
    network: nn.Module, shape: Shape, sampler: str, predict: Predict | None = None, **options: Any
) -> Any:
    """`options` are its scheduler's."""
    with installed():
        import diffusers

    scheduler = getattr(diffusers, f"{sampler.upper()}Scheduler")(num_train_timesteps=T, **options)
    ours = AsPeersCallIt(network, shape, scheduler.betas, predict).eval()
    ours.register_forward_hook(lambda _, __, noise: SimpleNamespace(sample=noise))
    pipeline = getattr(diffusers, f"{sampler.upper()}Pipeline")(ours, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def lucidrains_training_step(
    network: nn.Module, images: Images, batch: int, flip: bool = False
) -> TrainingStep:
    """One step of the Trainer itself, with its loader made anew without workers, and its sampling,
    saving and FID put off for ever. It averages the weights at every tenth step."""
    with installed():
        from accelerate import PartialState
        from denoising_diffusion_pytorch import Trainer

    if batch < 16:
        raise HarnessError(f"lucidrains' Trainer takes batches of 16 images or more, not {batch}")
    diffusion = lucidrains_diffusion(network, images.shape[1:], T).train().requires_grad_(True)
    folder, device = folder_of(images, batch), diffusion.device
    PartialState(cpu=device.type == "cpu")  # accelerate takes a GPU if it may
    options: Any = {"train_batch_size": batch, "augment_horizontal_flip": flip}
    options |= {"calculate_fid": False, "save_and_sample_every": 2**62}
    trainer: Any = Trainer(diffusion, folder.name, results_folder=folder.name, **options)
    loader: Any = DataLoader(trainer.ds, batch, shuffle=True, pin_memory=device.type == "cuda")
    trainer.dl = chain.from_iterable(repeat(trainer.accelerator.prepare(loader)))

    def step() -> None:
        trainer.train_num_steps = trainer.step + 1
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            trainer.train()

    return TrainingStep(diffusion.model.network, folder, step)


def lucidrains_sampling(
    network: nn.Module, shape: Shape, batch: int, steps: int, sampler: str = "ddim"
) -> Callable[[], Tensor]:
    """GaussianDiffusion.sample: uint8 [batch, *shape]. Its DDPM in < T steps is DDIM with eta 1."""
    eta = {"ddim": 0.0, "ddpm": 1.0}[sampler]
    diffusion = lucidrains_diffusion(network, shape, steps, ddim_sampling_eta=eta).eval()

    def sample() -> Tensor:
        with redirect_stderr(StringIO()):  # its progress
            found: Tensor = diffusion.sample(batch_size=batch)
        return found.mul(255).add_(0.5).clamp_(0, 255).to("cpu", torch.uint8)  # as save_image

    return sample


def lucidrains_diffusion(network: nn.Module, shape: Shape, steps: int, **options: Any) -> Any:
    with installed():
        from denoising_diffusion_pytorch import GaussianDiffusion
        from denoising_diffusion_pytorch.denoising_diffusion_pytorch import linear_beta_schedule

    ours = AsPeersCallIt(network, shape, linear_beta_schedule(T))
    options |= {"timesteps": T, "objective": "pred_noise", "beta_schedule": "linear"}
    options |= {"image_size": shape[-1], "sampling_timesteps": steps}
    return GaussianDiffusion(ours, **options).to(ours.device)


def fidelity_metrics(
    images: Images, reference: Images, extractor: Extractor
) -> Callable[[], dict[str, float]]:
    """FID, KID, precision and recall by torch_fidelity on the CPU, features of both sets included.
    The extractor is ours, so it need not load weights at each call, as its own do."""
    with installed():
        import torch_fidelity
        from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class Ours(FeatureExtractorBase):
        get_provided_features_list = staticmethod(lambda: ("features",))
        get_default_feature_layer_for_metric = staticmethod(lambda metric: "features")

        def __init__(self, name: str, features: list[str], **_options: Any):
            super().__init__(name, features)

        def forward(self, batch: Tensor) -> tuple[Tensor]:
            return (torch.from_numpy(extractor(batch.numpy(), len(batch))).float(),)

    name = f"harness-{id(Ours)}"  # it takes a name once only
    torch_fidelity.register_feature_extractor(name, Ours)
    options: dict[str, Any] = {
        "kid_subset_size": min(1000, len(images), len(reference)),
        **dict.fromkeys(("fid", "kid", "prc", "save_cpu_ram"), True),
        **dict.fromkeys(("cuda", "cache", "verbose"), False),
    }
    for which, each in (("input1", images), ("input2", reference)):
        items: Any = torch.from_numpy(each)
        options[which] = Subset(items, range(len(each)))
    return lambda: torch_fidelity.calculate_metrics(feature_extractor=name, **options)


def folder_of(images: Images, batch: int) -> tempfile.TemporaryDirectory[str]:
    """PNGs of images, over and over up to whole batches. Raises HarnessError if not grey or RGB."""
    if images.shape[1] not in (1, 3):
        raise HarnessError(f"peers read grey or RGB images, not {images.shape[1]} channels")
    folder = tempfile.TemporaryDirectory(prefix="harness-peers-")
    for i in range(batch * math.ceil(500 / batch)):  # so many that a pass is many steps
        pixels = images[i % len(images)].transpose(1, 2, 0)
        picture = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
        picture.save(Path(folder.name, f"{i:06d}.png"))
    return folder
