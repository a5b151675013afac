"""Figures that others published of one network sampled in several ways, for their order alone.

Their data, networks and extractors are not ours, so no value may stand beside one of ours: only
which of two samplers is ahead at about as many network evaluations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

AS_MANY = 1.6  # evaluations of ours for one of theirs, or the other way round, at most
TIE = 0.05  # of the larger: some figures are read off a plot
PAIRS = (("ddim", "ab2"), ("ddim", "ddpm"), ("ddpm", "ddpm_large"))  # that are held together


@dataclass(frozen=True)
class Published:
    """A distance (lower is better) by sampler and number of network evaluations."""

    source: str
    schedule: str  # that its network was trained under
    figures: Mapping[str, Mapping[int, float]]

    def ahead(self, first: str, second: str, evaluations: int) -> tuple[str, str] | None:
        """The better and the worse of two samplers at about so many evaluations; None where that
        is not told, or a tie."""
        theirs = self._evaluations(first, second)
        near = [n for n in theirs if max(n / evaluations, evaluations / n) <= AS_MANY]
        if not near:
            return None
        nearest = min(near, key=lambda n: max(n / evaluations, evaluations / n))
        one, other = (self.figures[sampler][nearest] for sampler in (first, second))
        if abs(one - other) < TIE * max(one, other):
            return None
        return (first, second) if one < other else (second, first)

    def _evaluations(self, *samplers: str) -> list[int]:
        """Those at which all of these samplers have a figure."""
        each: Iterable[set[int]] = ({*self.figures.get(sampler, {})} for sampler in samplers)
        return sorted(set.intersection(*each))


# KID at 75 pixels, read off the plot of the repository; ddpm has the small variance.
FLOWERS = Published(
    "flowers (clear-diffusion-keras)",
    "cosine",
    {
        "ddim": {2: 0.59, 4: 0.30, 8: 0.25, 16: 0.24, 32: 0.245, 64: 0.24},
        "ab2": {2: 0.88, 4: 0.265, 8: 0.235, 16: 0.24, 32: 0.245, 64: 0.25},
        "ddpm": {2: 0.73, 4: 0.39, 8: 0.35, 16: 0.39, 32: 0.40, 64: 0.40},
        "ddpm_large": {2: 0.95, 4: 0.90, 8: 0.60, 16: 0.32, 32: 0.245, 64: 0.27},
    },
)
# FID of one network with uniform spacing, from the repository's table.
CIFAR_10 = Published(
    "CIFAR-10 (xyfJASON/Diffusion-Models-Implementations)",
    "linear",
    {
        "ddim": {10: 19.0, 20: 11.7, 50: 7.70, 100: 6.05, 1000: 4.19},
        "ddpm": {10: 41.1, 20: 24.5, 50: 15.1, 100: 11.2, 1000: 5.37},
        "ddpm_large": {10: 267, 20: 183, 50: 85.2, 100: 46.6, 1000: 3.05},
    },
)
PUBLISHED = (FLOWERS, CIFAR_10)

# On which data each schedule has the lower FID, with the simple loss and 4,000 evaluations
# (Nichol & Dhariwal 2021, tables 1 and 2); on CIFAR-10 by little. Theirs is `cosine_discrete`.
WHERE_AHEAD = {"cosine": "64x64 ImageNet", "linear": "CIFAR-10"}
