"""What extractors that are networks have in common: images in batches, and files of weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from harness.downloads import fetch
from harness.errors import BadOption, DataError, is_out_of_memory
from harness.lazy import torch

Images = NDArray[np.uint8]
Features = NDArray[np.float64]
Logits = NDArray[np.float64]


class Pretrained:
    """A network of other people's weights, from uint8 [N, 3, H, W] to a tuple of one [N, d]; grey
    is taken as colour."""

    label: str
    at_a_time = 8  # images that a core does best with: more leave its caches
    _network: Any

    def __init__(self, file: Path, device: str):
        self._file = file
        self._device = device

    @classmethod
    def sources(cls, data_dir: Path, **options: Any) -> list[Path]:
        """The files whose sizes and times tell whether the weights may have changed."""
        make: Callable[..., Pretrained] = cls
        return [make(data_dir, "cpu", **options)._file]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the file of the weights; hexadecimal."""
        with self._file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def check(self, channels: int, size: int) -> None:
        """Raises DataError for images that are neither grey nor RGB."""
        if channels not in (1, 3):
            raise DataError(
                f"the extractor '{self.label}' takes grey or RGB images, not {channels} channels. "
                "Use a data set of 1 or 3 channels."
            )

    def __call__(self, images: Images, batch_size: int = 64) -> Features:
        self.check(*channels_and_size(images))
        return in_batches(self._extract, images, batch_size, self._device)

    def _extract(self, images: torch.Tensor) -> torch.Tensor:
        [features] = self._network(images.expand(-1, 3, -1, -1))
        return cast("torch.Tensor", features)


def in_batches(
    extract: Callable[[torch.Tensor], torch.Tensor], images: Images, batch_size: int, device: str
) -> Features:
    """The features [N, d] of all images uint8 [N, C, H, W], in float64."""
    # TensorFloat-32, the default for convolutions on a GPU, keeps 3 digits: distances would then
    # differ between machines by more than they differ between samplers.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        batches = [
            extract(torch.tensor(images[start : start + batch_size], device=device)).cpu().double()
            for start in range(0, len(images), batch_size)
        ]
    features: Features = torch.cat(batches).numpy()
    return features


def channels_and_size(images: Images) -> tuple[int, int]:
    """Of uint8 [N, C, H, W] with N > 0 and H = W. Raises ValueError for anything else."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        raise ValueError(f"images must be uint8, not {getattr(images, 'dtype', type(images))}")
    if images.ndim != 4 or images.size == 0 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images must be [images, channels, side, side], not {images.shape}")
    return images.shape[1], images.shape[2]


def refuse_unknown(extractor: str, model: str, known: Collection[str]) -> None:
    """Raises BadOption for a model that is none of those known."""
    if model not in known:
        raise BadOption(
            f"extractor '{extractor}': model must be one of {', '.join(known)}, not '{model}'. "
            "Use one of these."
        )


def weights_file(
    extractor: str, given: str, data_dir: Path, places: list[Path], url: str, sha256: str = ""
) -> Path:
    """The file that a person gave, else the first of these places where there is one, else the
    first of them, downloaded. Raises DataError saying what belongs where."""
    if given:
        return given_file(given, data_dir)
    if found := next((place for place in places if place.is_file()), None):
        return found
    wanted = places[0]
    enough = " or ".join(place.name for place in places if place.parent == wanted.parent)
    what = f"The weights of the extractor '{extractor}'"
    remedy = f"Without a network, put {enough} into {wanted.parent}."
    return fetch(what, url, wanted, remedy, sha256)


def given_file(weights: str, data_dir: Path) -> Path:
    """The file of weights that a person named. Raises DataError, naming the places, if nowhere."""
    given = Path(weights).expanduser()
    for place in (given, data_dir / given):
        if place.is_file():
            return place
    raise DataError(
        f"there are no weights '{weights}': neither {given} nor {data_dir / given}. Name a file "
        "of them as 'weights'."
    )


def weights_in(file: Path) -> dict[str, torch.Tensor]:
    """All tensors of a .safetensors or .pth file, of any shape, in float32. Raises DataError where
    it holds no weights."""
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            weights: dict[str, torch.Tensor] = load_file(file)
        else:
            weights = torch.load(file, map_location="cpu", weights_only=True)
        return {name: tensor.float() for name, tensor in weights.items()}
    except Exception as error:  # safetensors, zip and pickle each fail in their own way
        if is_out_of_memory(error):
            raise
        raise DataError(
            f"{file} cannot be read as weights ({short(error)}). Get it once more."
        ) from error


def names_in(file: Path) -> Collection[str]:
    """The names of the tensors in a safetensors file, from its header alone. Raises DataError where
    it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            return set(opened.keys())
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file} cannot be read as weights ({error}). Get it once more.") from error


def short(error: Exception) -> str:
    """The text of an error in one line of at most 300 letters."""
    return " ".join(str(error).split())[:300]  # torch lists every layer that differs


def torch_cache() -> Path:
    """torch.hub.get_dir() and its checkpoints, without waiting for torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"
