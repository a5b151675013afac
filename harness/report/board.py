"""A board of pictures: strips in rows and columns, with names beside and above them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.report.style import INK, LETTER, WIDTH, figure_of

COLUMNS = 8  # of tiles in a strip: fewer are not made larger
HEAD = 0.26  # inches for a line of text above a row

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Strip:
    """Some pictures in one place of a board."""

    row: int
    column: int
    pixels: Pixels


class Board:
    """A figure with these strips. `names` has for each row what stands beside it, evenly from top
    to bottom; rows that are `headed` have room for a line of text above."""

    def __init__(
        self, strips: Sequence[Strip], names: Sequence[Sequence[str]], headed: Collection[int] = ()
    ):
        self.headed = sorted(headed)
        self._high = max(len(strip.pixels) for strip in strips)
        self._wide: int = max(strip.pixels.shape[1] for strip in strips)
        self._gap = max(2, self._high // 8)
        across: int = self._left(1 + max(strip.column for strip in strips)) - self._gap
        lines = [line for row in names for name in row for line in name.split("\n")]
        inches = WIDTH - 0.2 - LETTER[0] * max(map(len, lines))
        self._inch = across / inches  # in pixels
        self._tops = self._rows(names)
        canvas = np.full((self._tops[-1] + self._high, across, 3), 255, np.uint8)
        for strip in strips:
            top, left = self._tops[strip.row], self._left(strip.column)
            high, wide = strip.pixels.shape[:2]
            canvas[top : top + high, left : left + wide] = strip.pixels
        self.figure, self.axes = figure_of(len(canvas) / self._inch + 0.55)
        self.axes.imshow(canvas, interpolation="nearest", aspect="equal")
        self._name_rows(names)

    def name_columns(self, names: Sequence[str], title: str) -> None:
        """Names above the columns of strips, and what they are above those."""
        places = [self._left(j) + self._wide / 2 - 0.5 for j in range(len(names))]
        self.axes.set_xticks(places, names)
        self.axes.xaxis.tick_top()
        self.axes.xaxis.set_label_position("top")
        self.axes.set_xlabel(title)

    def head(self, row: int, text: str) -> None:
        """A text above a row."""
        self._write(row, -0.5, text, "left")

    def number_tiles(self, row: int, what: str, texts: Sequence[str], side: int) -> None:
        """A text above each of the spaced tiles of a row, which have this side, and before them
        what these are."""
        self._write(row, -0.05 * self._inch, what, "right")
        for i, text in enumerate(texts):
            self._write(row, i * (side + _gap_of(side)) + side / 2 - 0.5, text, "center")

    def _write(self, row: int, x: float, text: str, ha: Literal["left", "center", "right"]) -> None:
        above = self._tops[row] - 0.05 * self._inch
        self.axes.text(x, above, text, fontsize=9, color=INK, ha=ha, va="bottom")

    def _left(self, column: int) -> int:
        return column * (self._wide + self._gap)

    def _rows(self, names: Sequence[Sequence[str]]) -> list[int]:
        """The upper end of each row: names that are higher than their row push the next down."""
        tops, end = [], 0
        for row, name in enumerate(names):
            text = sum(part.count("\n") + 1 for part in name) * LETTER[1] * self._inch
            more = max(0, int(np.ceil(text - self._high)))
            end += int(np.ceil(HEAD * self._inch)) * (row in self.headed) + more // 2
            tops.append(end)
            end += self._high + max(self._gap, more - more // 2)
        return tops

    def _name_rows(self, names: Sequence[Sequence[str]]) -> None:
        places = [
            top + self._high * (i + 0.5) / len(row) - 0.5
            for top, row in zip(self._tops, names, strict=True)
            for i in range(len(row))
        ]
        self.axes.set_yticks(places, [name for row in names for name in row], fontsize=9)
        self.axes.set_xticks([])
        self.axes.grid(visible=False)
        self.axes.tick_params(length=0)
        self.axes.spines[:].set_visible(False)


def spaced(pixels: Pixels, side: int) -> Pixels:
    """Square tiles of this side with white between them, and up to eight columns beside them."""
    gap = _gap_of(side)
    rows, columns = (length // side for length in pixels.shape[:2])
    apart = side + gap
    shape = (rows * apart - gap, max(columns, COLUMNS) * apart - gap, 3)
    canvas = np.full(shape, 255, np.uint8)
    for i, j in np.ndindex(rows, columns):
        canvas[i * apart : i * apart + side, j * apart : j * apart + side] = pixels[
            i * side : (i + 1) * side, j * side : (j + 1) * side
        ]
    return canvas


def _gap_of(side: int) -> int:
    return max(1, side // 12)
