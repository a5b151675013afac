"""A network that harness trained, called as diffusers calls a UNet2DModel."""

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor

from harness.models.unet import UNet


class HarnessUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """model(sample [N, C, H, W], timestep).sample, shaped like the sample.

    `log_snr` is that of each timestep, falling; a timestep between two is interpolated. `predicts`
    is what the U-Net was trained for: noise and image are answered as they are, velocity too;
    flow and edm as the velocity v = alpha eps - sigma x_0 that they mean (Salimans & Ho 2022).
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        sample_size: int,
        in_channels: int,
        out_channels: int,
        widths: list[int],
        blocks: int,
        attention: list[int],
        log_snr: list[float],
        predicts: str = "noise",
        shift: list[float] | None = None,
        factor: list[float] | None = None,
    ):
        super().__init__()  # type: ignore[no-untyped-call]
        self.unet = UNet(in_channels, sample_size, widths, blocks, attention)
        self.levels = torch.tensor(log_snr)  # no buffer: half precision would round it

    def forward(
        self, sample: Tensor, timestep: Any, class_labels: None = None, return_dict: bool = True
    ) -> UNet2DOutput | tuple[Tensor]:
        self.levels = self.levels.to(sample.device)
        steps = torch.as_tensor(timestep, device=sample.device).float().expand(len(sample))
        last = len(self.levels) - 1
        below = steps.floor().long().clamp(0, last)
        above = (below + 1).clamp(max=last)
        log_snr = torch.lerp(self.levels[below], self.levels[above], steps - below)
        output = self.unet(sample, log_snr.to(sample.dtype))
        if self.config["predicts"] == "edm":
            output = -output
        if self.config["predicts"] == "flow":
            alpha, sigma = (
                torch.sigmoid(each).sqrt().to(sample.dtype)[:, None, None, None]
                for each in (log_snr, -log_snr)
            )
            output = ((alpha - sigma) * sample + output) / (alpha + sigma)
        return UNet2DOutput(sample=output) if return_dict else (output,)

    def to_images(self, sample: Tensor) -> Tensor:
        """What was sampled -> pixels from 0 to 1, [N, C, H, W]: undoes the scale of the data that
        the network was trained in."""
        shift, factor = (
            sample.new_tensor(values)[:, None, None]
            for values in (self.config["shift"] or [0.0], self.config["factor"] or [1.0])
        )
        return ((sample / factor + shift) / 2 + 0.5).clamp(0, 1)
