"""The network: a U-Net (Ronneberger et al. 2015; Ho et al. 2020) that is given the log SNR.

Its plan is the plain one of the Keras DDIM example: blocks, then half the side, down to the
narrowest level and back, each block on the way up taking the output of its twin on the way down.
Residual blocks with group normalisation, whose second normalisation is scaled and shifted by the
embedded log SNR (Nichol & Dhariwal 2021); attention where the image is small; every residual
branch and the output start at zero, so that an untrained network is the identity and predicts 0;
with a skip from the input to the output it predicts the noise that its input would be, were it
nothing else.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.presets import (
    CONDITION_WIDTH,
    GROUP_CHANNELS,
    HEAD_CHANNELS,
    MOST_GROUPS,
    WAVELENGTHS,
    WAVES,
)


class UNet(nn.Module):
    """network(x [N, channels, size, size], log_snr [N]) -> shaped like x."""

    def __init__(
        self,
        channels: int,
        size: int,
        widths: Sequence[int],
        blocks: int,
        attention: Sequence[int],
        skip: bool = False,
    ):
        super().__init__()
        self.skip = skip
        conditions = CONDITION_WIDTH * widths[0]
        sides = [size >> level for level in range(len(widths))]

        def stage(wide_in: int, level: int, across: int = 0) -> nn.ModuleList:
            """The blocks of one level; on the way up each also takes `across` channels."""
            width, attends = widths[level], sides[level] in attention
            return nn.ModuleList(
                ResidualBlock((width if done else wide_in) + across, width, conditions, attends)
                for done in range(blocks)
            )

        above = range(len(widths) - 1)
        self.embed = LogSNREmbedding(conditions)
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(stage(widths[max(0, i - 1)], i) for i in above)
        self.bottom = stage(widths[max(0, len(widths) - 2)], len(widths) - 1)
        self.up = nn.ModuleList(stage(widths[i + 1], i, across=widths[i]) for i in reversed(above))
        self.last_norm = norm(widths[0])
        self.last = zeroed(nn.Conv2d(widths[0], channels, 3, padding=1))

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        condition, noisy = self.embed(log_snr), x
        x = self.first(x)
        kept = []
        for stage in self.down:
            for block in cast(nn.ModuleList, stage):
                x = block(x, condition)
                kept.append(x)
            x = functional.avg_pool2d(x, 2)
        for block in self.bottom:
            x = block(x, condition)
        for stage in self.up:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            for block in cast(nn.ModuleList, stage):
                x = block(torch.cat([x, kept.pop()], dim=1), condition)
        output: Tensor = self.last(functional.silu(self.last_norm(x)))
        return noise_from(output, noisy, log_snr) if self.skip else output


def noise_from(velocity: Tensor, x: Tensor, log_snr: Tensor) -> Tensor:
    """The noise in x [N, C, H, W] at log SNR [N] that a velocity alpha noise - sigma image stands
    for (Salimans & Ho 2022, section 4): alpha velocity + sigma x."""
    alpha, sigma = log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()
    return alpha[:, None, None, None] * velocity + sigma[:, None, None, None] * x


class LogSNREmbedding(nn.Module):
    """Sines and cosines of log SNR [N], then a small network: [N, width]."""

    frequencies: Tensor

    def __init__(self, width: int, waves: int = WAVES):
        super().__init__()
        longest, shortest = WAVELENGTHS
        wavelengths = torch.logspace(math.log10(longest), math.log10(shortest), waves)
        self.register_buffer("frequencies", 2 * math.pi / wavelengths, persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(2 * waves, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def forward(self, log_snr: Tensor) -> Tensor:
        angles = log_snr[:, None] * self.frequencies
        output: Tensor = self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))
        return output


class ResidualBlock(nn.Module):
    """A residual block from [N, wide_in, H, W] to [N, wide_out, H, W], scaled and shifted by
    conditions [N, conditions]; followed by attention where asked for."""

    def __init__(self, wide_in: int, wide_out: int, conditions: int, attends: bool):
        super().__init__()
        self.norm_in = norm(wide_in)
        self.conv_in = nn.Conv2d(wide_in, wide_out, 3, padding=1)
        self.condition = nn.Linear(conditions, 2 * wide_out)
        self.norm_out = norm(wide_out)
        self.conv_out = zeroed(nn.Conv2d(wide_out, wide_out, 3, padding=1))
        self.skip = nn.Conv2d(wide_in, wide_out, 1) if wide_in != wide_out else nn.Identity()
        self.attention = Attention(wide_out) if attends else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        branch = self.conv_in(functional.silu(self.norm_in(x)))
        scale, shift = self.condition(condition)[:, :, None, None].chunk(2, dim=1)
        branch = self.norm_out(branch) * (1 + scale) + shift
        output: Tensor = self.attention(self.skip(x) + self.conv_out(functional.silu(branch)))
        return output


class Attention(nn.Module):
    """Self-attention over the pixels of [N, width, H, W], with heads of HEAD_CHANNELS or of all
    there are."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = max(1, width // HEAD_CHANNELS)
        while width % self.heads:
            self.heads -= 1
        self.norm = norm(width)
        self.into = nn.Conv2d(width, 3 * width, 1)
        self.out = zeroed(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, width, height, across = x.shape
        parts = self.into(self.norm(x)).flatten(2)  # [N, 3 * width, pixels]
        query, key, value = (
            part.unflatten(1, (self.heads, -1)).transpose(2, 3) for part in parts.chunk(3, dim=1)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        mixed = mixed.transpose(2, 3).reshape(batch, width, height, across)
        output: Tensor = x + self.out(mixed)
        return output


def norm(width: int) -> nn.GroupNorm:
    """Group normalisation with groups of at least GROUP_CHANNELS."""
    return nn.GroupNorm(math.gcd(width, min(MOST_GROUPS, max(1, width // GROUP_CHANNELS))), width)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with all its weights at zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
