"""The sizes of network that a grid file names. To add one, write a function and name it in MODELS.

A U-Net is given by the widths of its levels (each half the side of the one before), residual blocks
per level, the sides at which it attends, and whether it has a skip from its input to its output,
which leaves to its layers what is not noise already: it learns more from as many images, where it
predicts noise. Nothing here imports torch: a grid file is checked without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.errors import BadOption
from harness.registry import Registry, about

if TYPE_CHECKING:
    from harness.models.unet import UNet

Sizes = tuple[int, ...]
LARGEST = 16_384  # channels of a level, or the side at which it attends
# What all U-Nets share.
WAVES = 32  # of the log SNR, each as a sine and a cosine
WAVELENGTHS = 80.0, 0.4  # the longest is twice the range of the log SNR, so that nothing wraps
CONDITION_WIDTH = 4  # of the embedded log SNR, in widths of the first level
HEAD_CHANNELS = 32  # of attention
GROUP_CHANNELS, MOST_GROUPS = 4, 32  # of group normalisation: channels at least, groups at most


@dataclass(frozen=True)
class UNetShape:
    """How large a U-Net is."""

    widths: Sizes
    blocks: int
    attention: Sizes
    skip: bool = False

    def __post_init__(self) -> None:
        for name, values in (("widths", self.widths), ("attention", self.attention)):
            if any(type(value) is not int or not 0 < value <= LARGEST for value in values):
                raise BadOption(
                    f"model: {name} must be whole numbers from 1 to {LARGEST}, not {list(values)}. "
                    "Use such as [32, 64]."
                )
        if not self.widths or any(width % 8 for width in self.widths):
            raise BadOption(
                f"model: widths must be multiples of 8, not {list(self.widths)}. "
                "Use such as [32, 64]."
            )
        if self.blocks < 1:
            raise BadOption(f"model: blocks must be at least 1, not {self.blocks}. Use 1 or more.")

    def check(self, size: int) -> None:
        """Raises BadOption where images of this side cannot be halved once per level."""
        halvings = len(self.widths) - 1
        if size % 2**halvings:
            raise BadOption(
                f"model: {len(self.widths)} levels halve the image {halvings} times, which a side "
                f"of {size} pixels does not allow. Use fewer widths, or an image_size that is "
                f"a multiple of {2**halvings}."
            )

    def check_target(self, target: str) -> None:
        """Raises BadOption where the network does not predict this target."""
        if self.skip and target != "noise":
            raise BadOption(
                f"model: skip makes the network predict noise, not {target}. Use target noise, or "
                "leave skip out."
            )

    def build(self, channels: int, size: int) -> UNet:
        """The untrained network for images of these channels and this side. Raises BadOption where
        the side cannot be halved so often."""
        from harness.models.unet import UNet

        self.check(size)
        return UNet(channels, size, self.widths, self.blocks, self.attention, self.skip)


def tiny(
    *, widths: Sizes = (32, 96), blocks: int = 1, attention: Sizes = (4,), skip: bool = False
) -> UNetShape:
    """A quarter of a million parameters, for 8x8 digits on a CPU."""
    return UNetShape(widths, blocks, attention, skip)


def small(
    *,
    widths: Sizes = (32, 64, 96, 128),
    blocks: int = 2,
    attention: Sizes = (8,),
    skip: bool = False,
) -> UNetShape:
    """The size of the Keras DDIM example, for 32 to 64 pixels in colour."""
    return UNetShape(widths, blocks, attention, skip)


def base(
    *,
    widths: Sizes = (128, 256, 256, 256),
    blocks: int = 2,
    attention: Sizes = (16, 8),
    skip: bool = False,
) -> UNetShape:
    """Tens of millions of parameters, for 64 pixels in colour on a GPU."""
    return UNetShape(widths, blocks, attention, skip)


@dataclass(frozen=True)
class NoNetwork:
    """No network: the best denoiser that the data allow, worked out."""

    def check(self, size: int) -> None:
        """Any side will do."""

    def build(self, channels: int, size: int) -> UNet:
        """Raises BadOption: there is nothing to build."""
        raise BadOption("this model has no network to train. Use tiny, small or base.")


@about(
    formula="no network: x̂₀ = E[x₀ | x_t], worked out from the distribution of the data where "
    "that is known and from the training images as a finite set elsewhere. What it lacks is the "
    "sampler's error"
)
def exact() -> NoNetwork:
    """No network: the exact denoiser of the data's distribution, or of its images as a finite set.

    It needs no training, and what its samples lack is the sampler's own error.
    """
    return NoNetwork()


@dataclass(frozen=True)
class Elsewhere(NoNetwork):
    """A network that was trained elsewhere: what it takes is known once its folder is looked at."""


@about(
    formula="no training here: a UNet2DModel of diffusers with the weights, the schedule and the "
    "target that its folder says, asked at the step of its table whose log SNR is that of the "
    "sampler's time, between two steps by interpolation"
)
def diffusers(
    *,
    path: str,
    schedule: Literal["linear", "scaled_linear", "cosine_discrete"] | None = None,
    target: Literal["noise", "velocity", "image"] | None = None,
) -> Elsewhere:
    """A network of diffusers, trained elsewhere: a folder with a UNet2DModel in safetensors.

    A relative `path` is looked for from the working directory, then in the data folder. `schedule`
    and `target` say how it was trained where the folder has no scheduler_config.json.
    """
    return Elsewhere()


MODELS = Registry(
    "model",
    {"tiny": tiny, "small": small, "base": base, "exact": exact, "diffusers": diffusers},
    contract="""A function, called with its options by keyword, whose result has two methods:

    check(size) raises BadOption where it cannot take square images of this side
    build(channels, size) -> a torch module, network(x [N, C, H, W], log_snr [N]) -> [N, C, H, W]

The network's first answer to everything should be near 0. Checking options must not need torch.""",
)
