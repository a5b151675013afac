"""Pictures that move: an animated WebP, to lie beside a page that shows a still of it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from harness.report.figures.style import FAINT, INK

TILE = 64  # pixels at least, of one image
GAP, LINE = 6, 20  # pixels between images, and of a line of text
LETTERS = 12  # pixels
WHOLE, SLOWEST, FASTEST = 6000, 600, 80  # milliseconds of all frames, and of one
LAST = 2500  # milliseconds of the result
SHARP = 16  # pixels: smaller images lose nothing to compression
QUALITY = 70  # of the others
HEADS = "xₜ", "x̂₀"  # above each pair of images: noisy, and predicted


@dataclass(frozen=True)
class Reel:
    """How a few images come about: [lines, evaluations + 1, side, side, 3], the result last. Of the
    lines, each first is a sampler's noisy x_t and each second the predicted image x0."""

    tiles: NDArray[np.uint8]
    numbers: Sequence[int]  # of the evaluations

    def at(self, frame: int, frames: int) -> int:
        """Its own place in a film of so many frames."""
        return round(frame * len(self.numbers) / max(1, frames - 1))

    def says(self, place: int, evaluations: int) -> str:
        """What is shown at a place."""
        if place == len(self.numbers):
            return "result"
        return f"evaluation {self.numbers[place]:,} of {evaluations:,}"


def animated(reels: Mapping[str, Reel]) -> bytes:
    """An animated WebP of these below each other by their titles, all of the same length: the same
    bytes every time."""
    frames = max(reel.tiles.shape[1] for reel in reels.values())
    said = [_said(reels, frame, frames) for frame in range(frames)]
    # All frames have one size, so the longest text of all sets the width.
    longest = max(int(_font().getlength(text)) for each in said for text in each)
    pictures = [_frame(reels, frame, texts, longest) for frame, texts in enumerate(said)]
    each = int(min(SLOWEST, max(FASTEST, WHOLE / frames)))
    side = max(reel.tiles.shape[2] for reel in reels.values())
    file = io.BytesIO()
    pictures[0].save(
        file, "WEBP", save_all=True, append_images=pictures[1:], loop=0, quality=QUALITY,
        lossless=side <= SHARP, duration=[each] * (frames - 1) + [LAST],
    )  # fmt: skip
    return file.getvalue()


def _said(reels: Mapping[str, Reel], frame: int, frames: int) -> list[str]:
    """What stands above each reel in a frame."""
    return [
        f"{title}: {reel.says(reel.at(frame, frames), max(reel.numbers, default=0))}"
        for title, reel in reels.items()
    ]


def _frame(
    reels: Mapping[str, Reel], frame: int, texts: Sequence[str], longest: int
) -> Image.Image:
    """One frame, with room for a text of so many pixels."""
    frames = max(reel.tiles.shape[1] for reel in reels.values())
    rows = [_enlarged(reel.tiles[:, reel.at(frame, frames)]) for reel in reels.values()]
    font = _font()
    wide = 2 * GAP + max(longest, *(pixels.shape[1] for pixels in rows))
    high = GAP + LINE + sum(LINE + pixels.shape[0] + GAP for pixels in rows)
    picture = Image.new("RGB", (wide, high), "white")
    pen, top = ImageDraw.Draw(picture), GAP // 2
    widest = max(rows, key=lambda pixels: pixels.shape[1])
    for place, left in enumerate(range(GAP, widest.shape[1], widest.shape[0] + GAP)):
        pen.text((left, top), HEADS[place % 2], FAINT, font)
    top += LINE
    for text, pixels in zip(texts, rows, strict=True):
        pen.text((GAP, top), text, INK, font)
        picture.paste(Image.fromarray(pixels), (GAP, top + LINE))
        top += LINE + pixels.shape[0] + GAP
    return picture


def _enlarged(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tiles [N, side, side, 3] side by side with white between them, not smoothed."""
    times = max(1, TILE // tiles.shape[1])
    large = np.pad(
        tiles.repeat(times, axis=1).repeat(times, axis=2),
        ((0, 0), (0, 0), (0, GAP), (0, 0)),
        constant_values=255,
    )
    return np.concatenate(list(large), axis=1)[:, :-GAP]


def _font() -> ImageFont.FreeTypeFont:
    """The letters of all figures."""
    file = Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
    return ImageFont.truetype(str(file), LETTERS)  # Pillow 10.1 takes no Path
