"""From images to feature vectors, in whose space images are compared.

    images      uint8 [N, C, H, W], 0 to 255
    features    float64 [N, d]

An extractor is a class built from the folder of large files and a device. Building it finds the
weights, or says which file is missing, and does not load them yet. To add one, write the class and
name it in EXTRACTORS. Values from two extractors are two different quantities: `label` names which.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Collection
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from harness.data.download import download
from harness.errors import BadOption, DataError
from harness.lazy import torch
from harness.registry import Registry

Images = NDArray[np.uint8]
Features = NDArray[np.float64]


class Extractor(Protocol):
    label: str  # names the quantity, in tables and plots

    @property
    def fingerprint(self) -> str:
        """sha256 of the file of the weights; hexadecimal."""

    def check(self, channels: int, size: int) -> None:
        """Raises DataError where images of this kind do not suit."""

    def __call__(self, images: Images, batch_size: int = ...) -> Features:
        """[N, d]. The batch size changes nothing but rounding. Raises ValueError for anything but
        uint8 [N, C, H, W] with N > 0: floats in 0..1 would give plausible, wrong distances."""


class DigitsFeatures:
    """64 features of a small classifier of 8x8 grey digits, which comes with the program.

    Made by `harness.metrics.make_digits_extractor` from the training part of the digits. Each
    feature has mean 0 and variance 1 over that part.
    """

    label = "digits"

    def __init__(self, data_dir: Path, device: str):
        self._content = (
            resources.files("harness.metrics").joinpath("digits.safetensors").read_bytes()
        )
        self._device = device

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._content).hexdigest()

    def check(self, channels: int, size: int) -> None:
        if (channels, size) != (1, 8):
            raise DataError(
                f"the extractor 'digits' knows 8x8 grey images only, not {size}x{size} with "
                f"{channels} channel(s). Use the extractor 'inception' for this data set."
            )

    def __call__(self, images: Images, batch_size: int = 1024) -> Features:
        self.check(*_channels_and_size(images))
        return _in_batches(self._extract, images, batch_size, self._device)

    def _extract(self, images: torch.Tensor) -> torch.Tensor:
        weights = self._weights
        return (digits_network(weights, images) - weights["mean"]) / weights["spread"]

    @cached_property
    def _weights(self) -> dict[str, torch.Tensor]:
        from safetensors.torch import load

        return {name: tensor.to(self._device) for name, tensor in load(self._content).items()}


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


class InceptionFeatures:
    """The Inception network of 2015 that published FID and KID use; grey is taken as colour.

    `layer` is 64, 192, 768 or 2048 (the usual one). `weights` may name a file, from the working
    directory or in the data folder: torch-fidelity's .pth, or a .safetensors of the same layout,
    which may end after the layer asked for. Without it, UP_TO_768 and TORCH_FIDELITY are looked
    for in the data folder, the latter also in the cache of torch, and downloaded if there is none.
    """

    def __init__(self, data_dir: Path, device: str, *, layer: int = 2048, weights: str = ""):
        """Raises BadOption for a layer there is not; DataError without weights for it."""
        if layer not in LAST_BLOCK:
            known = ", ".join(map(str, LAST_BLOCK))
            raise BadOption(f"extractor 'inception': layer must be one of {known}, not {layer}")
        self.label = f"inception-{layer}"
        self._layer = layer
        self._device = device
        self._file = _given(weights, data_dir) if weights else _default(layer, data_dir)
        if self._file.suffix == ".safetensors":
            self._refuse_missing(_names_in(self._file))

    @cached_property
    def fingerprint(self) -> str:
        with self._file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def check(self, channels: int, size: int) -> None:
        if channels not in (1, 3):
            raise DataError(
                f"the extractor '{self.label}' takes grey or RGB images, not {channels} channels. "
                "Use a data set of 1 or 3 channels."
            )

    def __call__(self, images: Images, batch_size: int = 64) -> Features:
        self.check(*_channels_and_size(images))
        return _in_batches(self._extract, images, batch_size, self._device)

    def _extract(self, images: torch.Tensor) -> torch.Tensor:
        [features] = self._network(images.expand(-1, 3, -1, -1))
        return cast("torch.Tensor", features)

    @cached_property
    def _network(self) -> Any:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        weights = self._read_weights()
        self._refuse_missing(weights)

        class Inception(FeatureExtractorInceptionV3):  # type: ignore[misc]
            def load_state_dict(self, given: dict[str, torch.Tensor]) -> None:
                # Layers that are not given become NaN: any use of them shows at once.
                blank = {
                    name: torch.full_like(tensor, torch.nan if tensor.is_floating_point() else 0)
                    for name, tensor in self.state_dict().items()
                }
                super().load_state_dict(blank | given)

        # torch-fidelity reads nothing but a pickle: so it gets one, made here and in memory.
        pickled = io.BytesIO()
        torch.save(weights, pickled)
        pickled.seek(0)
        try:
            network = Inception(self.label, [str(self._layer)], pickled)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]  # torch lists every layer that differs
            raise DataError(
                f"{self._file} does not hold weights of this Inception network ({reason}). Get "
                f"{TORCH_FIDELITY} from the releases of torch-fidelity."
            ) from error
        return network.to(self._device)

    def _read_weights(self) -> dict[str, torch.Tensor]:
        from safetensors.torch import load_file

        try:
            if self._file.suffix == ".safetensors":
                weights: dict[str, torch.Tensor] = load_file(self._file)
            else:
                weights = torch.load(self._file, map_location="cpu", weights_only=True)
            return {name: tensor.float() for name, tensor in weights.items()}
        except Exception as error:  # safetensors, zip and pickle each fail in their own way
            raise DataError(
                f"{self._file} cannot be read as weights ({error}). Get it once more."
            ) from error

    def _refuse_missing(self, names: Collection[str]) -> None:
        block = LAST_BLOCK[self._layer]
        if not any(name.startswith(f"{block}.") for name in names):
            raise DataError(
                f"{self._file} has no layer {block}, which the features {self._layer} need. Set "
                f"'layer' to a smaller one, or take {TORCH_FIDELITY}, which has all."
            )


# The last block of the network that each layer of features needs.
LAST_BLOCK = {64: "Conv2d_2b_3x3", 192: "Conv2d_4a_3x3", 768: "Mixed_6e", 2048: "Mixed_7c"}

TORCH_FIDELITY = "weights-inception-2015-12-05-6726825d.pth"
UP_TO_768 = [
    "inception-2015-12-05-to768.safetensors",
    "inception-2015-12-05-to768-fp16.safetensors",
]


def _given(weights: str, data_dir: Path) -> Path:
    given = Path(weights).expanduser()
    for place in (given, data_dir / given):
        if place.is_file():
            return place
    raise DataError(
        f"there are no weights '{weights}': neither {given} nor {data_dir / given}. Name a .pth or "
        ".safetensors file as 'weights'."
    )


def _default(layer: int, data_dir: Path) -> Path:
    partial = [data_dir / name for name in UP_TO_768] if layer <= 768 else []
    whole = data_dir / TORCH_FIDELITY
    for place in [*partial, whole, _torch_cache() / TORCH_FIDELITY]:
        if place.is_file():
            return place
    enough = " or ".join([TORCH_FIDELITY, *(UP_TO_768 if layer <= 768 else [])])
    remedy = f"Without a network, put {enough} into {data_dir}."
    with download("The weights of the extractor 'inception'", data_dir, remedy):
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

        data_dir.mkdir(parents=True, exist_ok=True)
        checksum = whole.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(whole), checksum, progress=False)
    return whole


def _torch_cache() -> Path:
    """torch.hub.get_dir() and its checkpoints, without waiting for torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def _names_in(file: Path) -> Collection[str]:
    """The names of the tensors in a safetensors file, from its header alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            return set(opened.keys())
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file} cannot be read as weights ({error}). Get it once more.") from error


def _channels_and_size(images: Images) -> tuple[int, int]:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        raise ValueError(f"images must be uint8, not {getattr(images, 'dtype', type(images))}")
    if images.ndim != 4 or images.size == 0 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images must be [images, channels, side, side], not {images.shape}")
    return images.shape[1], images.shape[2]


def _in_batches(
    extract: Callable[[torch.Tensor], torch.Tensor], images: Images, batch_size: int, device: str
) -> Features:
    # TensorFloat-32, the default for convolutions on a GPU, keeps 3 digits: distances would then
    # differ between machines by more than they differ between samplers.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        batches = [
            extract(torch.tensor(images[start : start + batch_size], device=device)).cpu().double()
            for start in range(0, len(images), batch_size)
        ]
    features: Features = torch.cat(batches).numpy()
    return features


class Pixels:
    """The values of the pixels themselves, -1 to 1: for data whose law is known in them."""

    label = "pixels"
    fingerprint = hashlib.sha256(b"uint8 / 127.5 - 1, channel by channel").hexdigest()

    def __init__(self, data_dir: Path, device: str):
        pass

    def check(self, channels: int, size: int) -> None:
        """Any images will do."""

    def __call__(self, images: Images, batch_size: int = 0) -> Features:
        _channels_and_size(images)
        features: Features = images.reshape(len(images), -1) / 127.5 - 1
        return features


EXTRACTORS: Registry[Callable[..., Extractor]] = Registry(
    "extractor",
    {"digits": DigitsFeatures, "inception": InceptionFeatures, "pixels": Pixels},
    given=frozenset({"data_dir", "device"}),
)
