"""The pictures of a cell: its first images, how two of them came about, and their neighbours; and
of a training: its images drowning in noise, and samples drawn on the way.

Pictures are made of equal tiles without borders, so that a report can take them apart again.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from harness.data.images import Images, ImageSet
from harness.data.sheet import enlargement
from harness.diffusion.levels import levels
from harness.diffusion.schedules import Schedule
from harness.engine.noise import Purpose, normal
from harness.engine.scale import Scale
from harness.metrics.copies import nearest
from harness.metrics.features import Features

SHEET_IMAGES = 64
COLUMNS = 8
FILM_IMAGES = 2
FILM_LOOKS = 10  # evaluations shown; one more column is the result
MOST_LOOKS = 100  # of a film that moves, which shows every evaluation of most cells
WIDEST = 16383  # pixels of a WebP
SHARP = 16  # pixels: images of this side and smaller lose nothing to compression
FORWARD_TIMES = 11  # at which a schedule is shown at work, from 0 to 1
FORWARD_IMAGES = 3  # at most
FORWARD_WIDTH = 64  # pixels: so many of these images side by side as fit
DRAWN = 4  # samples of a training kept of each look


class Film:
    """The first images of a cell as they come about, kept on the device while it samples."""

    def __init__(self, evaluations: int, scale: Scale):
        self.chosen = evenly(evaluations, FILM_LOOKS)
        self._kept = {*self.chosen, *evenly(evaluations, MOST_LOOKS)}
        self._scale, self._seen = scale, 0
        self._columns: dict[int, torch.Tensor] = {}  # each [images, 2, C, H, W]: held, estimated

    def look(self, x: torch.Tensor, estimate: torch.Tensor) -> None:
        """One evaluation: what the sampler holds [N, C, H, W], and what the network takes the
        image to be."""
        self._seen += 1
        if self._seen in self._kept:
            both = [x[:FILM_IMAGES], estimate[:FILM_IMAGES]]
            self._columns[self._seen] = torch.stack(both, dim=1)

    def png(self, images: Images) -> bytes:
        """A few evaluations, whose numbers are its text `evaluations`; it ends with the images."""
        picture, seen = self._picture(images[:FILM_IMAGES], self.chosen)
        return png(picture, evaluations=seen)

    def webp(self, images: Images) -> bytes:
        """Every evaluation in the same manner, of many as many as a film has room for; its XMP
        numbers them. Of large images the first alone."""
        side = images.shape[-1]
        most = min(MOST_LOOKS, WIDEST // side - 1)
        shown = 1 if side > FORWARD_WIDTH // 2 else FILM_IMAGES
        kept = sorted(self._kept)
        every = [kept[place - 1] for place in evenly(len(kept), most)]
        picture, seen = self._picture(images[:shown], every)
        return webp(picture, seen, is_lossless=side <= SHARP)

    def _picture(self, images: Images, chosen: Sequence[int]) -> tuple[Image.Image, str]:
        """These evaluations side by side, each image in two lines; and their numbers."""
        ends = np.repeat(images[:, None], 2, axis=1)
        seen = [number for number in chosen if number in self._columns]
        columns = [self._scale.to_bytes(self._columns[number][: len(images)]) for number in seen]
        tiles = np.stack([*columns, ends], axis=2)  # [images, 2, columns, C, H, W]
        picture = sheet(tiles.reshape(-1, *ends.shape[2:]), columns=tiles.shape[2])
        return picture, " ".join(map(str, seen))


def evenly(count: int, most: int) -> list[int]:
    """Numbers from 1 to `count`, both included: all of them, or `most` that are evenly apart."""
    return sorted({round(float(n)) for n in np.linspace(1, count, min(most, count))})


def forward(real: ImageSet, schedule: Schedule, scale: Scale) -> bytes:
    """A few training images, a line each, at even times from 0 to 1 under a schedule, in the units
    of a scale, with the same noise whatever the schedule."""
    count = max(1, min(FORWARD_IMAGES, FORWARD_WIDTH // real.size, len(real.train)))
    chosen = np.linspace(0, len(real.train) - 1, count).round().astype(int)
    x_0 = scale.to_signal(torch.from_numpy(real.train[chosen]))
    eps = normal(tuple(x_0.shape), x_0.device, Purpose.FORWARD, 0)
    path = levels(schedule, torch.linspace(0, 1, FORWARD_TIMES, dtype=torch.float64))
    columns = [scale.to_bytes(t.alpha * x_0 + t.sigma * eps) for t in path]
    tiles = np.stack(columns, axis=1)  # [images, times, C, H, W]
    return png(sheet(tiles.reshape(-1, *tiles.shape[2:]), columns=FORWARD_TIMES))


def with_look(before: bytes, step: int, drawn: Images) -> bytes:
    """The first of the images drawn at a step of a training as one more column, beside those of
    earlier steps where there are any; its text `steps` numbers the columns."""
    column = drawn[:DRAWN].transpose(0, 2, 3, 1)
    column = column.reshape(-1, *column.shape[2:])  # [DRAWN H, W, C]
    columns, steps = [column], str(step)
    if before:
        with Image.open(io.BytesIO(before)) as picture:
            steps = f"{getattr(picture, 'text', {})['steps']} {step}"
            columns = [np.asarray(picture).reshape(len(column), -1, column.shape[2]), column]
    whole = np.concatenate(columns, axis=1)
    return png(Image.fromarray(whole[:, :, 0] if whole.shape[2] == 1 else whole), steps=steps)


def nearest_pairs(images: Images, features: Features, real: ImageSet, others: Features) -> bytes:
    """Those of the images that lie nearest to a training image, the nearest first, and below each
    that training image; `features` [N, d] are of the images, `others` [M, d] begin with those of
    the training images. Nearness is that of the features."""
    found, distances = nearest(features, others[: len(real.train)])
    order = np.argsort(distances, kind="stable")[:COLUMNS]
    return png(sheet(np.concatenate([images[order], real.train[found[order]]]), len(order)))


def legible_sheet(images: Images) -> Image.Image:
    """A sheet of images uint8 [N, C, H, W] in which small ones are enlarged by a whole factor, each
    pixel a square: as much as a picture has room for."""
    most = WIDEST // (math.ceil(len(images) / COLUMNS) * images.shape[-2])
    whole, times = sheet(images), max(1, min(enlargement(images.shape[-1]), most))
    return whole.resize((whole.width * times, whole.height * times), Image.Resampling.NEAREST)


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
    """A picture as the bytes of a PNG, with texts by name in its metadata."""
    buffer, info = io.BytesIO(), PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    picture.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def encoded(picture: Image.Image, suffix: str) -> bytes:
    """A picture in the format that a file of this suffix has."""
    buffer = io.BytesIO()
    picture.save(buffer, Image.registered_extensions()[suffix.lower()], quality=95)
    return buffer.getvalue()


def webp(picture: Image.Image, text: str, is_lossless: bool) -> bytes:
    """A picture that takes less room than as PNG, with a text in place of XMP."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=is_lossless, quality=80, xmp=text.encode())
    return buffer.getvalue()
