"""The pictures of a cell: its first images, how two of them came about, and their neighbours.

Pictures are made of equal tiles without borders, so that a report can take them apart again.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from harness.data.images import Images, ImageSet
from harness.engine.scale import Scale
from harness.metrics.copies import nearest
from harness.metrics.features import Features

SHEET_IMAGES = 64
COLUMNS = 8
FILM_IMAGES = 2
FILM_LOOKS = COLUMNS - 1  # evaluations shown; the last column is the result


class Film:
    """The first images of a cell as they come about, kept on the device while it samples."""

    def __init__(self, evaluations: int, scale: Scale):
        looks = np.linspace(1, evaluations, min(FILM_LOOKS, evaluations))
        self.chosen = sorted({round(float(look)) for look in looks})
        self._scale, self._seen = scale, 0
        self._columns: list[torch.Tensor] = []  # each [images, 2, C, H, W]: held, estimated

    def look(self, x: torch.Tensor, estimate: torch.Tensor) -> None:
        """One evaluation: what the sampler holds, and what the network takes the image to be."""
        self._seen += 1
        if self._seen in self.chosen:
            both = [x[:FILM_IMAGES], estimate[:FILM_IMAGES]]
            self._columns.append(torch.stack(both, dim=1))

    def png(self, images: Images) -> bytes:
        """The film, whose text `evaluations` numbers its columns; it ends with the images."""
        ends = np.repeat(images[:FILM_IMAGES, None], 2, axis=1)
        columns = [self._scale.to_bytes(column) for column in self._columns]
        tiles = np.stack([*columns, ends], axis=2)  # [images, 2, columns, C, H, W]
        picture = sheet(tiles.reshape(-1, *ends.shape[2:]), columns=tiles.shape[2])
        return png(picture, evaluations=" ".join(map(str, self.chosen[: len(columns)])))


def nearest_pairs(images: Images, features: Features, real: ImageSet, others: Features) -> bytes:
    """Those of the images that lie nearest to a training image, the nearest first, and below each
    that training image; `features` [N, d] are of the images, `others` [M, d] begin with those of
    the training images. Nearness is that of the features."""
    found, distances = nearest(features, others[: len(real.train)])
    order = np.argsort(distances, kind="stable")[:COLUMNS]
    return png(sheet(np.concatenate([images[order], real.train[found[order]]]), len(order)))


def sheet(images: Images, columns: int = COLUMNS) -> Image.Image:
    """Images uint8 [N, C, H, W] side by side, row by row, without borders."""
    rows = math.ceil(len(images) / columns)
    count, channels, height, width = images.shape
    canvas = np.zeros((rows * columns, channels, height, width), np.uint8)
    canvas[:count] = images
    pasted = (
        canvas.reshape(rows, columns, channels, height, width)
        .transpose(0, 3, 1, 4, 2)
        .reshape(rows * height, columns * width, channels)
    )
    return Image.fromarray(pasted[:, :, 0] if channels == 1 else pasted)


def png(picture: Image.Image, **texts: str) -> bytes:
    buffer, info = io.BytesIO(), PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    picture.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()
