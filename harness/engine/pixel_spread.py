"""The pixel standard deviation of a cell's images relative to that of real images, and what is
predicted of it in closed form.

It is the root of the variance of a pixel over images, averaged over pixels. Samplers lose some of
it: how much is known exactly for Gaussian data.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from harness.data.images import Images, ImageSet, in_parts
from harness.diffusion.analytic import gains
from harness.diffusion.samplers import SAMPLERS
from harness.engine.sample import path_of
from harness.engine.scale import Scale, beside
from harness.work.cells import Cell
from harness.work.results import PixelSpread

SPECTRUM_IMAGES = 1000  # enough for a spectrum, and few enough for one matrix of them
SMALLEST = 1e-6  # of the total variance: smaller directions do not show
KNOTS = 24  # variances at which the closed form is worked out; between them it is smooth


def pixel_spread(cell: Cell, images: Images, real: ImageSet) -> PixelSpread | None:
    """Of a cell's images, relative to the training images; None where those are all the same."""
    spread = real_variance(real)
    if spread == 0:
        return None
    mean = sum(part.sum(0) for part in in_parts(images)) / len(images)
    each = np.concatenate([((part - mean) ** 2).mean((1, 2, 3)) for part in in_parts(images)])
    found = math.sqrt(float(each.mean()) / spread)
    error = None
    if len(images) > 1 and found > 0:
        # Of a root: the error of what stands under it, over twice the root.
        error = float(each.std(ddof=1)) / spread / len(images) ** 0.5 / (2 * found)
    return PixelSpread(found, error, predicted_spread(cell, real))


def predicted_spread(cell: Cell, real: ImageSet) -> float | None:
    """The same in closed form: for Gaussian data with the covariance of the training images in the
    units that the network sees, an exact denoiser and the cell's own sampler, schedule and times;
    without clipping.

    None for a sampler of another package, which need not be linear in what it is given, and where
    all training images are the same.
    """
    if SAMPLERS.origin(cell.sampler.name) != "built in":
        return None
    variances, shares = spectrum(real, Scale.of(cell.training.scale, real))
    if not len(variances):
        return None
    schedule, times = path_of(cell)
    places = np.geomspace(variances[-1], variances[0], KNOTS)
    factors = gains(
        SAMPLERS[cell.sampler.name], schedule, times.double(), torch.from_numpy(places),
        **cell.sampler.keywords,
    )  # fmt: skip
    kept = factors.square().sum(1).numpy() / places
    each = np.interp(np.log(variances), np.log(places), kept)
    found = math.sqrt(float(shares @ each) / float(shares.sum()))
    return found if math.isfinite(found) else None


@lru_cache(maxsize=4)
def spectrum(real: ImageSet, scale: Scale) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The variances [directions] of the training images along their principal directions, in these
    units per pixel, the largest first; and what each adds to the variance of pixels in -1..1, where
    it is measured. Both are empty where all images are the same."""
    images = real.train[:SPECTRUM_IMAGES]
    if real.flip:
        images = np.concatenate([images, images[..., ::-1]])
    if (images == images[0]).all():
        return np.empty(0), np.empty(0)  # rounding would leave a little of their mean
    pixels = torch.from_numpy(images / 127.5 - 1.0)
    factor = torch.ones(pixels.shape[1:]).double() * beside(scale.factor, pixels)
    signal = ((pixels - pixels.mean(0)) * factor).flatten(1)
    # Of images or of pixels, whichever are fewer: both products have the same eigenvalues.
    few = signal if signal.shape[0] < signal.shape[1] else signal.T
    values, vectors = torch.linalg.eigh(few @ few.T / len(images))
    shown = values > SMALLEST * values.sum()
    variances, directions = values[shown].flip(0), vectors[:, shown].flip(1)
    if few is signal:
        directions = signal.T @ directions / (len(images) * variances).sqrt()
    of_pixels = (directions / factor.flatten()[:, None]).square().sum(0)
    return variances.numpy(), (variances * of_pixels).numpy()


@lru_cache(maxsize=4)
def real_variance(real: ImageSet) -> float:
    """Of the training images and, where those are as good, their mirror images."""
    return variance(real.train, real.flip)


def variance(images: Images, flip: bool = False) -> float:
    """The variance of a pixel over images, averaged over pixels."""
    total, squares = np.zeros(images.shape[1:]), 0.0
    for part in in_parts(images):
        total += part.sum(0)
        squares += float((part**2).sum())
    mean = total / len(images)
    if flip:
        mean = (mean + mean[..., ::-1]) / 2
    return squares / images.size - float((mean**2).mean())
