"""Data whose best denoiser is known: on it a sampler's error is distinct from a network's.

Each set holds draws from its distribution, as any other data set holds images, so that a network
can be trained on it too; the model `exact` needs none and asks the distribution itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from harness.data.images import Distribution, Images, ImageSet, data_set, no_files
from harness.errors import BadOption
from harness.registry import Between, about

SEED = 20_260_101  # of the draws that make up a set: the same on every machine

Size = Annotated[int, Between(1, 256)]
Channels = Annotated[int, Between(1, 4)]
Spread = Annotated[float, Between(0.01, 1)]
Count = Annotated[int, Between(4, 100_000)]


@data_set(sources=no_files)
def gaussian(
    data_dir: Path,
    *,
    size: Size = 8,
    channels: Channels = 1,
    mean: Annotated[float, Between(-1, 1)] = 0.0,
    std: Spread = 0.25,
    images: Count = 4000,
) -> ImageSet:
    """Every pixel drawn from N(mean, std^2) by itself; the exact denoiser is known.

    `images` to train on and as many held out.
    """
    means = np.full((1, channels, size, size), mean)
    return drawn("gaussian", Distribution(means, np.array([std**2]), np.ones(1)), images)


@data_set(sources=no_files)
def mixture(
    data_dir: Path,
    *,
    size: Size = 8,
    channels: Channels = 1,
    components: Annotated[int, Between(2, 64)] = 3,
    std: Spread = 0.15,
    images: Count = 4000,
) -> ImageSet:
    """Waves of several lengths and directions in noise; the exact denoiser is known.

    A mixture of `components` Gaussians, the k-th as often as 1 / k, so that wrong proportions show.
    Raises BadOption where so small images hold fewer waves than components.
    """
    if components > size**2 - 1:
        raise BadOption(
            f"dataset 'mixture': {size}x{size} images hold at most {size**2 - 1} different waves, "
            f"not {components} components. Use fewer, or larger images."
        )
    weights = 1 / np.arange(1, components + 1)
    means = np.stack([wave(size, channels, k) for k in range(1, components + 1)])
    variances = np.full(components, std**2)
    return drawn("mixture", Distribution(means, variances, weights / weights.sum()), images)


def _other_set(of: str) -> Callable[..., ImageSet]:
    """The set whose images `finite` takes. Raises BadOption where it cannot be loaded by name."""
    from harness.data.datasets import DATASETS  # which name `finite` too

    if of == "finite":
        raise BadOption("dataset 'finite': 'of' must name another data set. Use digits.")
    try:
        DATASETS.check_options(of, {})
    except BadOption as error:
        raise BadOption(
            f"dataset 'finite': '{of}' needs options, which 'of' cannot give. Use digits, or "
            "another data set that needs none."
        ) from error
    return DATASETS[of]


def _check_finite(*, of: str = "digits", **options: object) -> None:
    _other_set(of)


def sources_of_finite(
    data_dir: Path, *, of: str = "digits", **options: object
) -> Sequence[Path] | None:
    """The files of the data set that its images are of; None where that has none."""
    sources: Callable[[Path], Sequence[Path] | None] = getattr(
        _other_set(of), "sources", lambda data_dir: None
    )
    return sources(data_dir)


@about(check=_check_finite)
@data_set(sources=sources_of_finite)
def finite(
    data_dir: Path, *, of: str = "digits", images: Annotated[int, Between(0, 10**6)] = 0
) -> ImageSet:
    """The training images of another data set and nothing else; the exact denoiser is known.

    All of them, or the first `images`, each as likely: every exact sample ends on one of them.
    """
    from harness.data.datasets import load  # which name `finite` too

    _check_finite(of=of)
    whole = load(of, data_dir, {})
    train, labels = whole.train[: images or None], whole.labels
    if labels is not None:
        labels = replace(labels, train=labels.train[: images or None])
    return ImageSet("finite", train, whole.held_out, notes=whole.notes, labels=labels)


def drawn(name: str, distribution: Distribution, images: int) -> ImageSet:
    """So many images to train on and as many held out, rounded and cut off as a file would."""
    random = np.random.default_rng(SEED)
    which = random.choice(len(distribution.weights), 2 * images, p=distribution.weights)
    noise = random.standard_normal((2 * images, *distribution.means.shape[1:]))
    spread = np.sqrt(distribution.variances[which])[:, None, None, None]
    signal = distribution.means[which] + spread * noise
    pixels: Images = np.rint((signal + 1) * 127.5).clip(0, 255).astype(np.uint8)
    return ImageSet(name, pixels[:images], pixels[images:], distribution=distribution)


def wave(size: int, channels: int, number: int) -> NDArray[np.float64]:
    """The number-th cosine pattern of the side, longest waves first; [channels, size, size]."""
    pairs = [(a, b) for a in range(size) for b in range(size)]
    along, down = sorted(pairs, key=lambda pair: (sum(pair), pair))[number]
    places = np.pi * (np.arange(size) + 0.5) / size
    pattern = np.outer(np.cos(down * places), np.cos(along * places))
    return 0.5 * np.repeat(pattern[None], channels, axis=0)
