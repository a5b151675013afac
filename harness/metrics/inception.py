"""The Inception network of 2015, whose features published FID and KID are of."""

from __future__ import annotations

import io
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import BadOption, DataError, is_out_of_memory
from harness.lazy import torch
from harness.metrics.pretrained import (
    Features,
    Images,
    Logits,
    Pretrained,
    names_in,
    short,
    torch_cache,
    weights_file,
    weights_in,
)

# The last block of the network that each layer of features needs.
LAST_BLOCK = {64: "Conv2d_2b_3x3", 192: "Conv2d_4a_3x3", 768: "Mixed_6e", 2048: "Mixed_7c"}

TORCH_FIDELITY = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{TORCH_FIDELITY}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
UP_TO_768 = [
    "inception-2015-12-05-to768.safetensors",
    "inception-2015-12-05-to768-fp16.safetensors",
]


class InceptionFeatures(Pretrained):
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
            raise BadOption(
                f"extractor 'inception': layer must be one of {known}, not {layer}. "
                "Use one of these."
            )
        self.label = f"inception-{layer}"
        self._layer = layer
        smaller = [data_dir / name for name in UP_TO_768] if layer <= 768 else []
        if not weights:
            weights = str(next((place for place in smaller if place.is_file()), ""))
        places = [data_dir / TORCH_FIDELITY, *smaller, torch_cache() / TORCH_FIDELITY]
        super().__init__(weights_file("inception", weights, data_dir, places, URL, SHA256), device)
        if self._file.suffix == ".safetensors":
            self._refuse_missing(names_in(self._file))

    @cached_property
    def classes(self) -> int:
        """1,008 where the classifier stands upon these features, else 0."""
        stands = self._layer == 2048 and (
            self._file.suffix != ".safetensors" or "fc.weight" in names_in(self._file)
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
        logits: Logits = features @ self._network.fc.weight.cpu().double().numpy().T
        return logits

    @cached_property
    def _network(self) -> Any:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        weights = weights_in(self._file)
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
            if is_out_of_memory(error):
                raise
            raise DataError(
                f"{self._file} does not hold weights of this Inception network ({short(error)}). "
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
