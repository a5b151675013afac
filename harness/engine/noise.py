"""Random numbers that depend on what is drawn, never on how the work was batched or resumed.

Each draw is named by a stream: its purpose, a seed and positions. So resuming needs no random
state, image i starts from the same noise in every cell of a grid, and two cells differ by their
schedule and sampler, and not by their noise.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import numpy as np
import torch
from numpy.random import Generator, Philox, SeedSequence

NOISE_BLOCK = 64  # images whose fresh noise is drawn together


class Purpose(IntEnum):
    """What a stream is for: equal seeds for two purposes share nothing."""

    WEIGHTS = 1
    ORDER = 2
    TRAINING = 3
    START = 4
    FRESH = 5
    DENOISING = 6
    FITTING = 7
    FORWARD = 8


def generator(purpose: Purpose, *position: int) -> Generator:
    """An independent generator per stream.

    The stream is hashed to a key of 128 bits; seeds of 32 bits, all that torch takes on a CPU,
    would make two of 10,000 images share their noise once in a hundred grids.
    """
    return Generator(Philox(SeedSequence([purpose, *position])))


def normal(
    shape: tuple[int, ...], device: torch.device, purpose: Purpose, *position: int
) -> torch.Tensor:
    """Standard normal float32 noise of this stream, in any shape, made on the device where that is
    faster."""
    drawn_by = generator(purpose, *position)
    if device.type == "cuda":
        seeded = torch.Generator(device).manual_seed(int(drawn_by.integers(2**63)))
        return torch.randn(shape, device=device, generator=seeded)
    return torch.from_numpy(drawn_by.standard_normal(shape, dtype=np.float32)).to(device)


def starting_noise(seed: int, images: range, shape: tuple[int, ...]) -> torch.Tensor:
    """x_T of these images, [len(images), *shape] on the CPU: the same on every machine."""
    drawn = [
        generator(Purpose.START, seed, i).standard_normal(shape, dtype=np.float32) for i in images
    ]
    return torch.from_numpy(np.stack(drawn))


class FreshNoise:
    """draw_noise() for one batch: its n-th call gives the n-th noise of these images.

    Noise is drawn in blocks of 64 images and a batch takes its rows of them, so what an image gets
    does not depend on the batch it is in.
    """

    def __init__(self, seed: int, images: range, shape: tuple[int, ...], device: torch.device):
        self._seed, self._images, self._shape, self._device = seed, images, shape, device
        self._draws = 0

    def __call__(self) -> torch.Tensor:
        first, last = self._images[0] // NOISE_BLOCK, self._images[-1] // NOISE_BLOCK
        blocks = [
            normal(
                (NOISE_BLOCK, *self._shape),
                self._device,
                Purpose.FRESH,
                self._seed,
                block,
                self._draws,
            )
            for block in range(first, last + 1)
        ]
        self._draws += 1
        begin = self._images[0] - first * NOISE_BLOCK
        return torch.cat(blocks)[begin : begin + len(self._images)]


def batch_at(step: int, seed: int, images: int, batch_size: int) -> torch.Tensor:
    """Indices [batch_size] of the training images of a step, counted from 0: endless passes over
    the set, each in a new order."""
    places = [divmod(i, images) for i in range(step * batch_size, (step + 1) * batch_size)]
    return torch.from_numpy(np.array([_permutation(seed, images, which)[i] for which, i in places]))


@lru_cache(maxsize=2)  # a step ends in the pass that the next one begins in
def _permutation(seed: int, images: int, which: int) -> np.ndarray:
    return generator(Purpose.ORDER, seed, which).permutation(images)
