"""A network that is told the step of a table, called as ours are: with the log SNR."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WHOLE = 0.01  # steps: as near to a whole one it is that one, whose log SNR float32 has rounded


class AtTimesteps(nn.Module):
    """network(x [N, C, H, W], log_snr [N]) -> shaped like x, of a network of diffusers that is
    called with the step of its table, counted from 0.

    Between two steps of the table their number is interpolated by log SNR, so that any sampler's
    times can be asked for; beyond its ends it is that end. `log_snr` is that of each step, [T],
    falling.
    """

    rising: Tensor

    def __init__(self, network: nn.Module, log_snr: Tensor):
        super().__init__()
        self.network = network
        self.register_buffer("rising", log_snr.float().flip(0), persistent=False)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        output: Tensor = self.network(x, self.timesteps(log_snr)).sample
        return output[:, : x.shape[1]]  # the rest, where there is any, is a variance

    def timesteps(self, log_snr: Tensor) -> Tensor:
        """log SNR [N] -> step of the table from 0 to T - 1, [N] float32."""
        last = len(self.rising) - 1
        above = torch.searchsorted(self.rising, log_snr.float()).clamp(1, last)
        low, high = self.rising[above - 1], self.rising[above]
        place = above - 1 + ((log_snr.float() - low) / (high - low)).clamp(0, 1)
        whole = place.round()
        return last - torch.where((place - whole).abs() < WHOLE, whole, place)
