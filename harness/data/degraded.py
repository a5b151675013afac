"""Degraded copies of real images: what a distance means, in terms that a person can picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from harness.data.images import Images

NOISE = 10.0  # standard deviation, of 255


def half_resolution(images: Images) -> Images:
    """The images at half their side, enlarged again: [N, C, H, W] uint8, as given."""
    side = images.shape[-1]
    half = max(1, side // 2)

    def blurred(channel: np.ndarray) -> np.ndarray:
        small = Image.fromarray(channel).resize((half, half), Image.Resampling.BOX)
        return np.asarray(small.resize((side, side), Image.Resampling.BILINEAR))

    channels = [blurred(channel) for image in images for channel in image]
    return np.stack(channels).reshape(images.shape)


def noisy(images: Images) -> Images:
    """The images with a little Gaussian noise, the same each time."""
    noise = np.random.default_rng(0).normal(0, NOISE, images.shape)
    degraded: Images = (images + noise).round().clip(0, 255).astype(np.uint8)
    return degraded


@dataclass(frozen=True)
class Degradation:
    """What is done to real images, and the words that end a sentence about what they score."""

    words: str
    do: Callable[[Images], Images]


# By the name that ends the column of their score: `kid_noisy`.
DEGRADATIONS = {
    "half_resolution": Degradation("at half their resolution", half_resolution),
    "noisy": Degradation(f"with Gaussian noise of {NOISE:g} of 255", noisy),
}
