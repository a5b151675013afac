"""From images to feature vectors, in whose space images are compared.

    images      uint8 [N, C, H, W], 0 to 255
    features    float64 [N, d]
    logits      float64 [N, classes], of a classifier upon the features, where there is one

An extractor is a class built from the folder of large files and a device. Building it finds the
weights, or says which file is missing, and does not load them yet. To add one, write the class and
name it in EXTRACTORS. Values from two extractors are two different quantities: `label` names which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Protocol, TypeGuard

from harness.errors import DataError
from harness.lazy import torch
from harness.metrics.inception import InceptionFeatures
from harness.metrics.pretrained import Features, Images, Logits, channels_and_size, in_batches
from harness.metrics.vision_transformers import ClipFeatures, DinoV2Features
from harness.registry import Registry

__all__ = ["EXTRACTORS", "Classifier", "Extractor", "Features", "Images", "Logits", "has_logits"]


class Extractor(Protocol):
    """What gives the features of images, in whose space they are compared."""

    label: str  # names the quantity, in tables and plots

    @property
    def fingerprint(self) -> str:
        """sha256 of the file of the weights; hexadecimal."""

    def check(self, channels: int, size: int) -> None:
        """Raises DataError where images of this kind do not suit."""

    def __call__(self, images: Images, batch_size: int = ...) -> Features:
        """[N, d]. The batch size changes nothing but rounding. Raises ValueError for anything but
        uint8 [N, C, H, W] with N > 0: floats in 0..1 would give plausible, wrong distances."""


class Classifier(Extractor, Protocol):
    """An extractor upon whose features a classifier stands: only some are. `has_logits` tells."""

    @property
    def classes(self) -> int:
        """How many classes there are; 0 where the weights or options at hand have no classifier."""

    def logits(self, images: Images, batch_size: int = ...) -> Logits:
        """[N, classes]. Raises what taking the features raises."""

    def logits_from(self, features: Features) -> Logits:
        """The same [N, classes] from features [N, d] that this extractor gave before, which takes
        no look at the images and next to no time."""


def has_logits(extractor: Extractor) -> TypeGuard[Classifier]:
    """Whether this extractor, with these options and weights, gives logits."""
    return bool(getattr(extractor, "classes", 0))


class DigitsFeatures:
    """64 features of a small classifier of 8x8 grey digits, which comes with the program.

    Made by `tests/metrics/make_digits_extractor.py` from the training part of the digits. Each
    feature has mean 0 and variance 1 over that part. The classifier's last layer, which gives the
    logits, has a file of its own: the fingerprint speaks of the features alone.
    """

    label = "digits"
    classes = 10

    def __init__(self, data_dir: Path, device: str):
        self._content = _shipped("digits.safetensors")
        self._device = device

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the file of the weights; hexadecimal."""
        return hashlib.sha256(self._content).hexdigest()

    def check(self, channels: int, size: int) -> None:
        """Raises DataError for anything but 8x8 grey images."""
        if (channels, size) != (1, 8):
            raise DataError(
                f"the extractor 'digits' knows 8x8 grey images only, not {size}x{size} with "
                f"{channels} channel(s). Use the extractor 'inception' for this data set."
            )

    def __call__(self, images: Images, batch_size: int = 1024) -> Features:
        self.check(*channels_and_size(images))
        return in_batches(self._extract, images, batch_size, self._device)

    def logits(self, images: Images, batch_size: int = 1024) -> Logits:
        """[N, 10] of images uint8 [N, 1, 8, 8]."""
        return self.logits_from(self(images, batch_size))

    def logits_from(self, features: Features) -> Logits:
        """The same from the features [N, 64] of these images."""
        from safetensors.numpy import load

        weights = load(self._content) | load(_shipped("digits-head.safetensors"))
        unscaled = features * weights["spread"] + weights["mean"]
        logits: Logits = unscaled @ weights["head.weight"].T + weights["head.bias"]
        return logits

    def _extract(self, images: torch.Tensor) -> torch.Tensor:
        weights = self._weights
        return (digits_network(weights, images) - weights["mean"]) / weights["spread"]

    @cached_property
    def _weights(self) -> dict[str, torch.Tensor]:
        from safetensors.torch import load

        return {name: tensor.to(self._device) for name, tensor in load(self._content).items()}


def _shipped(name: str) -> bytes:
    return resources.files("harness.metrics").joinpath(name).read_bytes()


def digits_network(weights: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """The features before they are standardised, [N, 64] in (-1, 1); images uint8 [N, 1, 8, 8].

    They end in tanh: a ReLU unit that is nearly dead on digits has almost no variance there, and
    once standardised made FID rise while samples became better.
    """
    functional = torch.nn.functional
    x = images.to(weights["first.weight"].dtype) / 127.5 - 1
    x = functional.silu(
        functional.conv2d(x, weights["first.weight"], weights["first.bias"], padding=1)
    )
    x = functional.silu(
        functional.conv2d(x, weights["second.weight"], weights["second.bias"], padding=1)
    )
    x = functional.avg_pool2d(x, 2).flatten(1)
    return functional.linear(x, weights["last.weight"], weights["last.bias"]).tanh()


class Pixels:
    """The values of the pixels, -1 to 1: for data whose distribution in them is known."""

    label = "pixels"
    fingerprint = hashlib.sha256(b"uint8 / 127.5 - 1, channel by channel").hexdigest()

    def __init__(self, data_dir: Path, device: str):
        pass

    def check(self, channels: int, size: int) -> None:
        """Any images will do."""

    def __call__(self, images: Images, batch_size: int = 0) -> Features:
        channels_and_size(images)
        features: Features = images.reshape(len(images), -1) / 127.5 - 1
        return features


EXTRACTORS: Registry[Callable[..., Extractor]] = Registry(
    "extractor",
    {
        "clip": ClipFeatures,
        "digits": DigitsFeatures,
        "dinov2": DinoV2Features,
        "inception": InceptionFeatures,
        "pixels": Pixels,
    },
    given=("data_dir", "device"),
    contract="""A class, made as extractor(data_dir, device, *, option=default), that is a
harness.metrics.features.Extractor: `label`, `fingerprint`, check(channels, size), and

    extractor(images, batch_size=...) -> features, float64 [N, d]

images are uint8 [N, C, H, W]. Making one finds its weights, or raises DataError that says which
file is missing, and does not load them yet. A class method sources(data_dir, *, option=default)
may give the files whose sizes and times tell whether the weights may have changed.""",
)
