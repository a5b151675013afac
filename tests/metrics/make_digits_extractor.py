"""Make `digits.safetensors`, the weights of the extractor `digits`, and `digits-head.safetensors`,
those of the layer that names the digit from its features:

    python tests/metrics/make_digits_extractor.py

A small network learns to name the digits of the training part, half a minute on one core. The file
that is shipped is the reference, for another processor rounds otherwise: made anew it gives other
distances, under another fingerprint. (The head that is shipped comes from such another processor:
its features were within 1e-4 of those of the reference, and upon these it is as accurate.)
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

import harness.metrics
from harness.data.datasets import DATASETS
from harness.data.images import Images
from harness.metrics.features import digits_network

FILE = Path(harness.metrics.__file__).with_name("digits.safetensors")
HEAD = FILE.with_name("digits-head.safetensors")
SHAPES = {"first": (32, 1, 3, 3), "second": (64, 32, 3, 3), "last": (64, 64 * 4 * 4)}
CLASSES, STEPS, BATCH, DROPPED = 10, 2000, 128, 0.3
NEAR_CONSTANT = 0.05  # standard deviation of a feature that could be anything from -1 to 1


def main() -> None:
    torch.set_num_threads(1)  # the same sums in the same order
    digits = DATASETS["digits"](Path())
    weights = train(torch.from_numpy(digits.train), labels(digits.train))
    held_out = accuracy(weights, torch.from_numpy(digits.held_out), labels(digits.held_out))
    kept = standardised(weights, torch.from_numpy(digits.train))
    # Two files: the fingerprint of the first speaks of the features alone.
    head = {name: kept.pop(name) for name in ("head.weight", "head.bias")}
    FILE.write_bytes(save(kept))
    HEAD.write_bytes(save(head))
    print(f"{held_out:.1%} of the held-out digits named, {len(kept['mean'])} features, {FILE.name}")


def train(images: Tensor, names: Tensor) -> dict[str, Tensor]:
    """Weights of `digits_network`, and of the layer `head` that names the digit."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for layer, shape in {**SHAPES, "head": (CLASSES, SHAPES["last"][0])}.items():
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        weights[f"{layer}.weight"] = bound * (2 * torch.rand(shape, generator=generator) - 1)
        weights[f"{layer}.bias"] = torch.zeros(shape[0])
    for tensor in weights.values():
        tensor.requires_grad_()
    optimizer = torch.optim.AdamW(weights.values(), lr=2e-3, weight_decay=1e-2)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        batch = torch.randint(len(images), (BATCH,), generator=generator)
        features = digits_network(weights, images[batch])
        # Dropout spreads what is known over all features, so that none stays idle.
        features = features * (torch.rand(features.shape, generator=generator) > DROPPED)
        loss = functional.cross_entropy(
            named(weights, features / (1 - DROPPED)), names[batch], label_smoothing=0.1
        )
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        falling.step()
    return {name: tensor.detach() for name, tensor in weights.items()}


def named(weights: dict[str, Tensor], features: Tensor) -> Tensor:
    return functional.linear(features, weights["head.weight"], weights["head.bias"])


def accuracy(weights: dict[str, Tensor], images: Tensor, names: Tensor) -> float:
    guesses = named(weights, digits_network(weights, images)).argmax(dim=1)
    return (guesses == names).double().mean().item()


def standardised(weights: dict[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    """What the extractor needs: no feature that hardly varies, mean and spread of the others."""
    features = digits_network(weights, images).double()
    varies = features.std(dim=0) > NEAR_CONSTANT
    kept = {name: weights[name][varies] for name in ("last.weight", "last.bias")}
    kept = weights | kept | {"head.weight": weights["head.weight"][:, varies]}
    kept |= {"mean": features.mean(dim=0)[varies], "spread": features.std(dim=0)[varies]}
    return {name: tensor.float().contiguous() for name, tensor in kept.items()}


def labels(images: Images) -> Tensor:
    """The digit that each image shows. The data set knows no labels: an image finds its own by
    its pixels, for no two digits are the same in all of them."""
    from sklearn.datasets import load_digits

    by_pixels = {}
    source = load_digits()
    for ink, label in zip(source.images, source.target, strict=True):
        by_pixels[ink.tobytes()] = int(label)
    return torch.tensor([by_pixels[(image[0] * (16 / 255)).round().tobytes()] for image in images])


if __name__ == "__main__":
    main()
