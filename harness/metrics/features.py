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
import io
import os
import warnings
from collections.abc import Callable, Collection
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from harness.data.download import download
from harness.errors import BadOption, DataError
from harness.lazy import torch
from harness.registry import Registry

Images = NDArray[np.uint8]
Features = NDArray[np.float64]
Logits = NDArray[np.float64]


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

    Made by `harness.metrics.make_digits_extractor` from the training part of the digits. Each
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

    def logits(self, images: Images, batch_size: int = 1024) -> Logits:
        return self.logits_from(self(images, batch_size))

    def logits_from(self, features: Features) -> Logits:
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


class _Pretrained:
    """What networks of other people's weights have in common; grey is taken as colour."""

    label: str
    at_a_time = 8  # images that a core does best with: more leave its caches
    _network: Any  # a module of torch-fidelity, from uint8 [N, 3, H, W] to a tuple of one [N, d]

    def __init__(self, file: Path, device: str):
        self._file = file
        self._device = device

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


class InceptionFeatures(_Pretrained):
    """The Inception network of 2015 that published FID and KID use; grey is taken as colour.

    `layer` is 64, 192, 768 or 2048 (the usual one, and the only one with logits: of 1008 classes).
    `weights` may name a file, from the working directory or in the data folder: torch-fidelity's
    .pth, or a .safetensors of the same layout, which may end after the layer asked for. Without it,
    UP_TO_768 and TORCH_FIDELITY are looked for in the data folder, the latter also in the cache of
    torch, and downloaded if there is none.
    """

    def __init__(self, data_dir: Path, device: str, *, layer: int = 2048, weights: str = ""):
        """Raises BadOption for a layer there is not; DataError without weights for it."""
        if layer not in LAST_BLOCK:
            known = ", ".join(map(str, LAST_BLOCK))
            raise BadOption(f"extractor 'inception': layer must be one of {known}, not {layer}")
        super().__init__(
            _given(weights, data_dir) if weights else _default(layer, data_dir), device
        )
        self.label = f"inception-{layer}"
        self._layer = layer
        if self._file.suffix == ".safetensors":
            self._refuse_missing(_names_in(self._file))

    @cached_property
    def classes(self) -> int:
        stands = self._layer == 2048 and (
            self._file.suffix != ".safetensors" or "fc.weight" in _names_in(self._file)
        )
        return 1008 if stands else 0

    def logits(self, images: Images, batch_size: int = 64) -> Logits:
        """The 'logits_unbiased' of torch-fidelity, as published inception scores have them."""
        return self.logits_from(self(images, batch_size))

    def logits_from(self, features: Features) -> Logits:
        """As `logits`. Raises BadOption where there are none."""
        if not self.classes:
            raise BadOption(
                f"extractor 'inception': {self._file} gives no logits of layer {self._layer}. "
                f"Set 'layer' to 2048, with the weights {TORCH_FIDELITY}."
            )
        logits: Logits = features @ self._network.fc.weight.double().cpu().numpy().T
        return logits

    @cached_property
    def _network(self) -> Any:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        weights = _weights_in(self._file)
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
            raise DataError(
                f"{self._file} does not hold weights of this Inception network ({_short(error)}). "
                f"Get {TORCH_FIDELITY} from the releases of torch-fidelity."
            ) from error
        return network.to(self._device)

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


class DinoV2Features(_Pretrained):
    """A vision transformer that learned from 142 million images without labels; grey is colour.

    What FD-DINOv2 and other newer figures use (Oquab et al. 2023; Stein et al. 2023): it agrees
    with people better than Inception does. `model` is vit-s-14, vit-b-14 or vit-l-14 (the one of
    published figures, 1.2 GB). `weights` may name a file, .pth or .safetensors. Without it,
    DINOV2's file is looked for in the data folder and the cache of torch, else downloaded.

    The preparation of the images is torch-fidelity's. Its network is not: torch-fidelity runs code
    that it fetches from GitHub.
    """

    def __init__(self, data_dir: Path, device: str, *, model: str = "vit-l-14", weights: str = ""):
        """Raises BadOption for a model there is not; DataError without weights for it."""
        _refuse_unknown("dinov2", model, DINOV2)
        self.label = f"dinov2-{model}"
        name, self._width, self._depth = DINOV2[model]

        def url() -> str:
            return f"{DINOV2_URL}/{name.removesuffix('_pretrain.pth')}/{name}"

        there = [data_dir / name, _torch_cache() / name]
        file = _given(weights, data_dir) if weights else _found("dinov2", there, url)
        super().__init__(file, device)

    @cached_property
    def _network(self) -> Any:
        from torch_fidelity.feature_extractor_base import FeatureExtractorBase
        from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

        weights = {
            name: tensor.to(self._device) for name, tensor in _weights_in(self._file).items()
        }
        self._refuse_others(weights)

        class DinoV2(FeatureExtractorDinoV2):  # type: ignore[misc]
            def __init__(self, label: str):
                FeatureExtractorBase.__init__(self, label, ["dinov2"])
                self.feature_extractor_internal_dtype = torch.float32

            def model(self, images: torch.Tensor) -> torch.Tensor:
                return dinov2_network(weights, images)

        return DinoV2(self.label)

    def _refuse_others(self, weights: dict[str, torch.Tensor]) -> None:
        blocks = {f"blocks.{i}.{part}" for i in range(self._depth) for part in DINOV2_BLOCK}
        wanted, found = blocks | DINOV2_ENDS, {*weights} - {"mask_token"}
        differing = sorted(wanted ^ found)
        positions = weights["pos_embed"].shape if "pos_embed" in found else ()
        if differing or positions != (1, 37 * 37 + 1, self._width):
            what = f"layer {differing[0]}" if differing else f"positions of shape {[*positions]}"
            raise DataError(
                f"{self._file} does not hold weights of {self.label}: the first difference is "
                f"{what}. Set 'model' to that of the file, or get the file once more."
            )


# The files of the weights, the width and the number of blocks.
DINOV2 = {
    "vit-s-14": ("dinov2_vits14_pretrain.pth", 384, 12),
    "vit-b-14": ("dinov2_vitb14_pretrain.pth", 768, 12),
    "vit-l-14": ("dinov2_vitl14_pretrain.pth", 1024, 24),
}
DINOV2_URL = "https://dl.fbaipublicfiles.com/dinov2"
DINOV2_ENDS = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias",
               "norm.weight", "norm.bias"}  # fmt: skip
DINOV2_BLOCK = [
    "norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight",
    "attn.proj.bias", "ls1.gamma", "norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias",
    "mlp.fc2.weight", "mlp.fc2.bias", "ls2.gamma",
]  # fmt: skip


def dinov2_network(weights: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """The class token after the last layer, [N, width]; images float [N, 3, 224, 224], prepared.

    A vision transformer (Dosovitskiy et al. 2021) with pre-normalised blocks, heads of width 64,
    and each branch scaled by gamma (Touvron et al. 2021), as DINOv2 published it.
    """
    functional = torch.nn.functional

    def linear(x: torch.Tensor, layer: str) -> torch.Tensor:
        return functional.linear(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"])

    def normalised(x: torch.Tensor, layer: str) -> torch.Tensor:
        shape, weight, bias = x.shape[-1:], weights[f"{layer}.weight"], weights[f"{layer}.bias"]
        return functional.layer_norm(x, shape, weight, bias, eps=1e-6)

    patch, bias = weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"]
    patches = functional.conv2d(images, patch, bias, stride=patch.shape[-1])
    first = weights["cls_token"].expand(len(images), -1, -1)
    x = torch.cat([first, patches.flatten(2).transpose(1, 2)], dim=1)
    x = x + dinov2_positions(weights["pos_embed"], patches.shape[-1])
    n, tokens, width = x.shape
    for block in range(sum(name.endswith(".ls1.gamma") for name in weights)):
        here = f"blocks.{block}"
        triples = linear(normalised(x, f"{here}.norm1"), f"{here}.attn.qkv")
        triples = triples.view(n, tokens, 3, width // 64, 64).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*triples)
        mixed = linear(mixed.transpose(1, 2).reshape(n, tokens, width), f"{here}.attn.proj")
        x = x + weights[f"{here}.ls1.gamma"] * mixed
        hidden = functional.gelu(linear(normalised(x, f"{here}.norm2"), f"{here}.mlp.fc1"))
        x = x + weights[f"{here}.ls2.gamma"] * linear(hidden, f"{here}.mlp.fc2")
    return normalised(x, "norm")[:, 0]


def dinov2_positions(positions: torch.Tensor, side: int) -> torch.Tensor:
    """What is added to each token, [1, 1 + side^2, width], from the learned ones in their own grid.

    The published network enlarges the grid by a tenth of a patch, against rounding: its features
    are those of that slightly shifted grid.
    """
    first, rest = positions[:, :1], positions[:, 1:]
    learned = round(rest.shape[1] ** 0.5)
    grid = rest.view(1, learned, learned, -1).permute(0, 3, 1, 2)
    scale = (side + 0.1) / learned
    grid = torch.nn.functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([first, grid.flatten(2).transpose(1, 2)], dim=1)


class ClipFeatures(_Pretrained):
    """The image half of CLIP, which learned from pictures and their captions; grey is colour.

    Radford et al. 2021. `model` is vit-b-32 (350 MB), vit-b-16, vit-l-14 or vit-l-14-336px.
    `weights` may name OpenAI's .pt of it. Without it, CLIP's file is looked for in the data folder
    and what torch-fidelity downloaded in the cache of torch, else downloaded.
    """

    def __init__(self, data_dir: Path, device: str, *, model: str = "vit-b-32", weights: str = ""):
        """Raises BadOption for a model there is not; DataError without weights for it."""
        _refuse_unknown("clip", model, CLIP)
        self.label = f"clip-{model}"

        def url() -> str:
            from torch_fidelity.feature_extractor_clip import MODEL_URLS

            return cast("str", MODEL_URLS[self.label])

        # torch-fidelity's own name for the file ends in its sha256.
        cached = sorted(_torch_cache().glob(f"{self.label}-{'[0-9a-f]' * 64}.pt"))
        there = [data_dir / CLIP[model], *cached]
        super().__init__(
            _given(weights, data_dir) if weights else _found("clip", there, url), device
        )

    @cached_property
    def _network(self) -> Any:
        from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP

        try:
            with warnings.catch_warnings():  # it reads TorchScript, which torch calls deprecated
                warnings.simplefilter("ignore", FutureWarning)
                network = FeatureExtractorCLIP(self.label, ["clip"], str(self._file))
        except (RuntimeError, KeyError, ValueError) as error:
            raise DataError(
                f"{self._file} does not hold weights of {self.label} ({_short(error)}). Get it "
                "once more, as OpenAI's archive of TorchScript."
            ) from error
        return network.to(self._device)


CLIP = {
    "vit-b-32": "ViT-B-32.pt",
    "vit-b-16": "ViT-B-16.pt",
    "vit-l-14": "ViT-L-14.pt",
    "vit-l-14-336px": "ViT-L-14-336px.pt",
}


def _refuse_unknown(extractor: str, model: str, known: Collection[str]) -> None:
    if model not in known:
        raise BadOption(
            f"extractor '{extractor}': model must be one of {', '.join(known)}, not '{model}'"
        )


# The files of the weights.


def _given(weights: str, data_dir: Path) -> Path:
    given = Path(weights).expanduser()
    for place in (given, data_dir / given):
        if place.is_file():
            return place
    raise DataError(
        f"there are no weights '{weights}': neither {given} nor {data_dir / given}. Name a file "
        "of them as 'weights'."
    )


def _default(layer: int, data_dir: Path) -> Path:
    def url() -> str:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

        return cast("str", URL_INCEPTION_V3)

    partial = [data_dir / name for name in UP_TO_768] if layer <= 768 else []
    there = [data_dir / TORCH_FIDELITY, *partial, _torch_cache() / TORCH_FIDELITY]
    preferred = next((place for place in partial if place.is_file()), None)
    checksum = Path(TORCH_FIDELITY).stem.rpartition("-")[2]
    return preferred or _found("inception", there, url, checksum)


def _found(extractor: str, there: list[Path], url: Callable[[], str], checksum: str = "") -> Path:
    """The first of these files that exists, else the first of them, downloaded.

    `url` is asked only then: torch-fidelity, which knows, takes seconds to load.
    """
    for place in there:
        if place.is_file():
            return place
    wanted = there[0]
    enough = " or ".join(place.name for place in there if place.parent == wanted.parent)
    remedy = f"Without a network, put {enough} into {wanted.parent}."
    with download(f"The weights of the extractor '{extractor}'", wanted.parent, remedy):
        source = url()
        wanted.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(source, str(wanted), checksum or None, progress=False)
    return wanted


def _weights_in(file: Path) -> dict[str, torch.Tensor]:
    """All tensors of a .safetensors or .pth file, in float32."""
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            weights: dict[str, torch.Tensor] = load_file(file)
        else:
            weights = torch.load(file, map_location="cpu", weights_only=True)
        return {name: tensor.float() for name, tensor in weights.items()}
    except Exception as error:  # safetensors, zip and pickle each fail in their own way
        raise DataError(
            f"{file} cannot be read as weights ({_short(error)}). Get it once more."
        ) from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]  # torch lists every layer that differs


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
    {
        "clip": ClipFeatures,
        "digits": DigitsFeatures,
        "dinov2": DinoV2Features,
        "inception": InceptionFeatures,
        "pixels": Pixels,
    },
    given=frozenset({"data_dir", "device"}),
)
