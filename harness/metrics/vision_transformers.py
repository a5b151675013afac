"""Vision transformers as extractors: DINOv2, and the image half of CLIP."""

from __future__ import annotations

import warnings
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.errors import DataError, MissingPackage, installing, is_out_of_memory
from harness.lazy import torch
from harness.metrics.pretrained import (
    Pretrained,
    refuse_unknown,
    short,
    torch_cache,
    weights_file,
    weights_in,
)

# The names of the network in timm, and the files of its weights.
DINOV2 = {
    "vit-s-14": ("vit_small_patch14_dinov2", "dinov2_vits14_pretrain.pth"),
    "vit-b-14": ("vit_base_patch14_dinov2", "dinov2_vitb14_pretrain.pth"),
    "vit-l-14": ("vit_large_patch14_dinov2", "dinov2_vitl14_pretrain.pth"),
}
DINOV2_URL = "https://dl.fbaipublicfiles.com/dinov2"

# The files of the weights, each with its sha256.
CLIP = {
    "vit-b-32": (
        "ViT-B-32.pt", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
    ),
    "vit-b-16": (
        "ViT-B-16.pt", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"
    ),
    "vit-l-14": (
        "ViT-L-14.pt", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"
    ),
    "vit-l-14-336px": (
        "ViT-L-14-336px.pt", "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"
    ),
}  # fmt: skip
CLIP_URL = "https://openaipublic.azureedge.net/clip/models"


class DinoV2Features(Pretrained):
    """A vision transformer that learned from 142 million images without labels; grey is colour.

    What FD-DINOv2 and other newer figures use (Oquab et al. 2023; Stein et al. 2023): it agrees
    with people better than Inception does. `model` is vit-s-14, vit-b-14 or vit-l-14 (the one of
    published figures, 1.2 GB). `weights` may name a file, .pth or .safetensors. Without it,
    DINOV2's file is looked for in the data folder and the cache of torch, else downloaded.

    The preparation of the images is torch-fidelity's. The network is timm's, of the extra
    `extractors`: torch-fidelity runs code that it fetches from GitHub.
    """

    def __init__(self, data_dir: Path, device: str, *, model: str = "vit-l-14", weights: str = ""):
        """Raises BadOption for a model there is not, DataError without weights for it, and
        MissingPackage without timm."""
        refuse_unknown("dinov2", model, DINOV2)
        if find_spec("timm") is None:
            raise MissingPackage(
                "the extractor 'dinov2' needs timm, which is not installed. "
                f"Use {installing('timm')}."
            )
        self.label = f"dinov2-{model}"
        self._name, name = DINOV2[model]
        url = f"{DINOV2_URL}/{name.removesuffix('_pretrain.pth')}/{name}"
        places = [data_dir / name, torch_cache() / name]
        super().__init__(weights_file("dinov2", weights, data_dir, places, url), device)

    @cached_property
    def _network(self) -> Any:
        import timm
        from torch_fidelity.feature_extractor_base import FeatureExtractorBase
        from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

        class DinoV2(FeatureExtractorDinoV2):  # type: ignore[misc]
            def __init__(self, label: str, model: torch.nn.Module):
                FeatureExtractorBase.__init__(self, label, ["dinov2"])
                self.feature_extractor_internal_dtype = torch.float32
                self.model = model

        network: Any = timm.create_model(self._name, img_size=224, num_classes=0)
        weights = weights_in(self._file)
        weights.pop("mask_token", None)
        try:
            positions = dinov2_positions(weights["pos_embed"], network.patch_embed.grid_size[0])
            network.load_state_dict(weights | {"pos_embed": positions})
        except (RuntimeError, KeyError) as error:
            if is_out_of_memory(error):
                raise
            raise DataError(
                f"{self._file} does not hold weights of {self.label} ({short(error)}). Set "
                "'model' to that of the file, or get the file once more."
            ) from error
        return DinoV2(self.label, network.eval().requires_grad_(False)).to(self._device)


def dinov2_positions(positions: torch.Tensor, side: int) -> torch.Tensor:
    """What is added to each token, [1, 1 + side^2, width], from the learned ones in their own grid.

    The published network enlarges the grid by a tenth of a patch, against rounding: its features
    are those of that slightly shifted grid, which timm would not give.
    """
    first, rest = positions[:, :1], positions[:, 1:]
    learned = round(rest.shape[1] ** 0.5)
    grid = rest.view(1, learned, learned, -1).permute(0, 3, 1, 2)
    scale = (side + 0.1) / learned
    grid = torch.nn.functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([first, grid.flatten(2).transpose(1, 2)], dim=1)


class ClipFeatures(Pretrained):
    """The image half of CLIP, which learned from pictures and their captions; grey is colour.

    Radford et al. 2021. `model` is vit-b-32 (350 MB), vit-b-16, vit-l-14 or vit-l-14-336px.
    `weights` may name OpenAI's .pt of it. Without it, CLIP's file is looked for in the data folder
    and what torch-fidelity downloaded in the cache of torch, else downloaded.
    """

    def __init__(self, data_dir: Path, device: str, *, model: str = "vit-b-32", weights: str = ""):
        """Raises BadOption for a model there is not; DataError without weights for it."""
        refuse_unknown("clip", model, CLIP)
        self.label = f"clip-{model}"
        name, sha256 = CLIP[model]
        places = [data_dir / name, torch_cache() / f"{self.label}-{sha256}.pt"]
        url = f"{CLIP_URL}/{sha256}/{name}"
        super().__init__(weights_file("clip", weights, data_dir, places, url, sha256), device)

    @cached_property
    def _network(self) -> Any:
        from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP

        try:
            with warnings.catch_warnings():  # it reads TorchScript, which torch calls deprecated
                warnings.simplefilter("ignore", FutureWarning)
                network = FeatureExtractorCLIP(self.label, ["clip"], str(self._file))
        except (RuntimeError, KeyError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            raise DataError(
                f"{self._file} does not hold weights of {self.label} ({short(error)}). Get it "
                "once more, as OpenAI's archive of TorchScript."
            ) from error
        return network.to(self._device)
