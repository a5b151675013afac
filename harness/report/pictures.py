"""Figures made of pictures: samples, how they came about, and the images they are nearest to."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from harness.report.board import Board, Pixels, Strip, spaced
from harness.report.phrases import unit_of
from harness.report.points import Point, best_of_each, points
from harness.report.quality import frame_of
from harness.report.table import Results
from harness.report.words import at_steps, wrapped

MOST_ROWS = 24  # beyond this a figure is wallpaper
MOST_FILMS = 10  # each of two lines
MOST_STEPS = 50  # of a film: with more, neighbouring evaluations look the same
MOST_SCHEDULES = 3
LONGEST_NAME = 32  # letters beside a row
LONGEST_FILM_NAME = 22  # beside two lines, where there is room for several of text

LONGEST_TITLE = 70  # above one

Way = tuple[str, str]  # schedule and sampler


@dataclass(frozen=True)
class Film:
    """How one image came about, in two lines."""

    pixels: Pixels
    side: int  # of one tile
    heads: tuple[str, ...]  # what stands above the columns


def samples(results: Results) -> Figure | None:
    """Samples: a row for each schedule and sampler, a column for each number of steps.

    The first images of each cell, from the first training seed and not chosen. Down a column every
    row starts from the same noise. Small images are enlarged without smoothing. Of many rows 24
    are shown, with each schedule the samplers that have the best cells.
    """
    first = _first_cells(results, results.sheets)
    if first is None:
        return None
    rows = _best_ways(first, MOST_ROWS)
    columns = sorted(set(first["steps"]))
    tiles = max(1, min(4, 16 // len(columns)))
    chosen: Iterable[Any] = first.itertuples()
    strips = [
        Strip(
            rows.index((row.schedule, row.sampler)),
            columns.index(row.steps),
            _first_tiles(results.sheets[row.key], tiles),
        )
        for row in chosen
        if (row.schedule, row.sampler) in rows
    ]
    board = Board(strips, [[wrapped(", ".join(way), LONGEST_NAME)] for way in rows])
    board.name_columns([f"{n:,}" for n in columns], f"{unit_of(first)}s")
    return board.figure


def best_samples(results: Results) -> Figure | None:
    """Samples of the best way under each schedule.

    All images that are kept of that cell, from the first training seed and not chosen; of more than
    three schedules those with the best cells. Images in the same place start from the same noise.
    Small images are enlarged without smoothing.
    """
    return _best_of_each_schedule(results, results.sheets, _doubled, [""])


def film(results: Results) -> Figure | None:
    """How an image comes about: a row for each schedule and sampler.

    The upper line is what the sampler holds at the network evaluation whose number stands above,
    the lower what the network then takes the image to be. The numbers hold down to where there are
    others. All rows have the same number of steps and start from the same noise. Of many rows 10
    are shown, with each schedule the samplers that have the best cells.
    """
    first = _first_cells(results, results.films)
    if first is None:
        return None
    first = first[first["steps"] == _steps_of_films(first)]
    cells: Iterable[Any] = first.itertuples()
    films = {(cell.schedule, cell.sampler): _film(results.films[cell.key]) for cell in cells}
    heads = list(dict.fromkeys(films[way].heads for way in sorted(films)))
    # Those with the same numbers stand together, so that the numbers need not be repeated.
    rows = sorted(
        _best_ways(first, MOST_FILMS), key=lambda way: (heads.index(films[way].heads), way)
    )
    shown = [films[way] for way in rows]
    headed = [i for i, one in enumerate(shown) if i == 0 or one.heads != shown[i - 1].heads]
    board = Board(
        [Strip(i, 0, one.pixels) for i, one in enumerate(shown)],
        [[wrapped(", ".join(way), LONGEST_FILM_NAME)] for way in rows],
        headed,
    )
    for i in headed:
        board.number_tiles(i, "evaluation", shown[i].heads, shown[i].side)
    return board.figure


def nearest_images(results: Results) -> Figure | None:
    """Generated images beside the training images they are nearest to.

    Under each schedule (three at most), sampled in the way that is best for it, those 8 images that
    are nearest to a training image by their features, the nearest first, and below each that
    training image. Where the two are the same picture, the network has learned it by heart.
    """
    return _best_of_each_schedule(results, results.nearest, _neighbours, ["generated", "training"])


def _best_of_each_schedule(
    results: Results,
    pictures: Mapping[str, bytes],
    cut: Callable[[bytes], Pixels],
    names: list[str],
) -> Figure | None:
    """The pictures of the best way under each schedule, below each other under their titles."""
    frame, first = frame_of(results), _first_cells(results, pictures)
    if frame is None or first is None:
        return None
    cells: Iterable[Any] = first.itertuples()
    key_of = {(cell.schedule, cell.sampler, cell.steps): cell.key for cell in cells}
    ranked = [way for way in points(frame) if _settings(way) in key_of]
    ways = best_of_each(ranked, lambda way: way.trained)[:MOST_SCHEDULES]
    strips = [Strip(i, 0, cut(pictures[key_of[_settings(way)]])) for i, way in enumerate(ways)]
    board = Board(strips, [names] * len(ways), headed=range(len(ways)))
    for i, way in enumerate(ways):
        board.head(i, _titled(way))
    return board.figure


def _first_cells(results: Results, pictures: Mapping[str, bytes]) -> pd.DataFrame | None:
    """The cells that have such a picture, of the first seed of each way and number of steps."""
    frame = frame_of(results)
    if frame is None:
        return None
    frame = frame[frame["key"].isin(list(pictures))]
    if frame.empty:
        return None
    return frame.sort_values(["seed", "sampling_seed", "key"]).drop_duplicates(
        ["schedule", "sampler", "steps"]
    )


def _best_ways(cells: pd.DataFrame, most: int) -> list[Way]:
    """So many ways at most, in the order of their names: with each schedule the sampler that has
    its best cell, then with each the next."""
    rank = cells["value"].where(cells["lower_is_better"], -cells["value"])
    best = rank.groupby([cells["schedule"], cells["sampler"]]).min().sort_values(kind="stable")
    turn = best.groupby(level=0).cumcount().sort_values(kind="stable")
    return sorted(turn.index[:most])


def _steps_of_films(cells: pd.DataFrame) -> int:
    """The number of steps that most ways have; of several the largest that is not too many."""
    ways = cells["steps"].value_counts()
    shared = sorted(ways.index[ways == ways.max()])
    return int(max((steps for steps in shared if steps <= MOST_STEPS), default=shared[0]))


def _settings(point: Point) -> tuple[str, str, int]:
    return point.schedule, point.sampler, point.steps


def _titled(point: Point) -> str:
    name = f"{point.schedule}, {point.sampler} {at_steps([point.steps], point.unit)}"
    return wrapped(name, LONGEST_TITLE)


def _first_tiles(sheet: bytes, tiles: int) -> Pixels:
    """The first tiles of a sheet side by side; the sheet has eight to a row."""
    pixels, _ = _read(sheet)
    side = pixels.shape[1] // 8
    return pixels[:side, : tiles * side]


def _doubled(sheet: bytes) -> Pixels:
    """A sheet with sixteen tiles to a row in place of eight, and white between them."""
    pixels, _ = _read(sheet)
    side = pixels.shape[1] // 8
    rows = np.split(pixels, len(pixels) // side)
    if len(rows) % 2:
        rows.append(np.full_like(rows[0], 255))
    pairs = [np.hstack(pair) for pair in zip(rows[::2], rows[1::2], strict=True)]
    return spaced(np.vstack(pairs), side)


def _film(picture: bytes) -> Film:
    """The first image of a film; the film has two, each of two lines."""
    pixels, texts = _read(picture)
    side = pixels.shape[0] // 4
    columns = pixels.shape[1] // side
    evaluations = [f"{int(text):,}" for text in texts.get("evaluations", "").split()]
    heads = [*evaluations, *[""] * columns][: columns - 1]
    return Film(spaced(pixels[: 2 * side], side), side, (*heads, "result"))


def _neighbours(picture: bytes) -> Pixels:
    pixels, _ = _read(picture)
    return spaced(pixels, pixels.shape[0] // 2)


def _read(picture: bytes) -> tuple[NDArray[np.uint8], Mapping[str, str]]:
    with Image.open(io.BytesIO(picture)) as image:
        return np.asarray(image.convert("RGB")), dict(getattr(image, "text", {}))
