"""Figures made of images: samples, how they come about, and the images they are nearest to."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from harness.analysis.configurations import Configuration, best_of_each
from harness.analysis.study import Study
from harness.report.figures import style
from harness.report.figures.curves import kept_by_schedule
from harness.report.figures.moving import Reel, animated
from harness.report.wording import MINUS, at_steps, number, wrapped
from harness.work.results import (
    EVERY_STEP,
    FILM,
    FORWARD,
    LOOKS,
    NEAREST,
    SAMPLES,
    SCHEDULE_CURVE,
    Artifacts,
)

MOST_ROWS = 24  # beyond this a figure is wallpaper
MOST_FILMS = 10  # each of two lines
MOST_STEPS = 50  # of a film: with more, neighbouring evaluations look the same
MOST_SCHEDULES = 3
SHEET_COLUMNS = 8  # of tiles in a row: fewer are not made larger
FORWARD_TIMES = 11  # columns of a picture of images in noise
DRAWN = 4  # lines of a picture of samples drawn while training
MOST_LINES = 9  # of images in noise, or drawn while training
GAP = 1 / 12  # between tiles, of their size


class ImageFigure(style.ShownFigure):
    """A figure of images; `moving` is what it is a still of, to lie beside the page."""

    moving: bytes = b""
    drawn: Mapping[str, object] = {}  # what else the caption has to say


Raster = NDArray[np.uint8]
Pictures = Mapping[Configuration, bytes]


@dataclass(frozen=True)
class ImageRow:
    """Images side by side, with what stands beside and above them."""

    pixels: Raster
    names: Sequence[str] = ()  # beside, evenly from top to bottom
    title: str = ""
    heads: Sequence[str] = ()  # above, evenly from left to right over its columns
    what: str = ""  # the heads are


def samples(study: Study) -> Figure | None:
    """Samples: a row for each schedule and sampler, a column for each number of steps.

    The first images of each cell, from the first training seed and not chosen. Down a column every
    row starts from the same noise. Small images are enlarged without smoothing.
    [cut] Of {rows} rows {kept} are shown, with each schedule the samplers that have the best
    configurations.
    """
    found = _first_pictures(study, SAMPLES)
    if not found:
        return None
    columns = sorted({one.steps for one in found})
    tiles = max(1, min(4, 16 // len(columns)))
    strips = {
        (one.schedule, one.sampler, one.steps): _spaced(_tiles(picture, SHEET_COLUMNS)[:1, :tiles])
        for one, picture in found.items()
    }
    blank = np.full_like(next(iter(strips.values())), 255)
    gap = blank[:, : max(2, len(blank) // 8)]
    rows = []
    for pair in _best_pairs(found, MOST_ROWS):
        parts = [part for n in columns for part in (strips.get((*pair, n), blank), gap)][:-1]
        rows.append(ImageRow(np.hstack(parts), [wrapped(", ".join(pair), 32)]))
    heads = [f"{n:,}" for n in columns]
    figure = _stacked([replace(rows[0], heads=heads, what=f"{study.unit}s"), *rows[1:]])
    if figure is not None:
        figure.drawn = _cut({(one.schedule, one.sampler) for one in found}, rows)
    return figure


def best_samples(study: Study) -> Figure | None:
    """Samples of the best configuration of each schedule.

    All images that are kept of that cell, from the first training seed and not chosen; of more than
    three schedules those with the best configurations. Images in the same place start from the same
    noise. Small images are enlarged without smoothing.
    """
    rows = []
    for title, picture in _best_of_each_schedule(study, SAMPLES):
        tiles = _in_columns(_tiles(picture, SHEET_COLUMNS), 2 * SHEET_COLUMNS)
        rows.append(ImageRow(_spaced(tiles), title=title))
    return _stacked(rows)


def film(study: Study) -> Figure | None:
    """How an image comes about: a row for each schedule and sampler.

    The upper line is the noisy image x_t at the network evaluation whose number stands above, the
    lower the image x̂₀ that the network predicts from it. The numbers apply to the rows below
    them. All rows have the same number of steps and start from the same noise.
    [cut] Of {rows} rows {kept} are shown, with each schedule the samplers that have the best
    configurations.
    [still] The animation could not be made: {still}.
    """
    found = _first_pictures(study, FILM)
    if not found:
        return None
    steps = _steps_of_films([one.steps for one in found])
    found = {one: picture for one, picture in found.items() if one.steps == steps}
    films = {
        pair: _film(picture, wrapped(", ".join(pair), 22))
        for one, picture in found.items()
        if (pair := (one.schedule, one.sampler))
    }
    order = [film.heads for film in films.values()]
    # Those with the same numbers stand together, so that the numbers need not be repeated.
    shown = [films[pair] for pair in _best_pairs(found, MOST_FILMS)]
    shown.sort(key=lambda film: order.index(film.heads))
    figure = _stacked(_headed_once(shown, "evaluation"))
    if figure is not None:
        figure.drawn = _cut(films, shown)
        try:
            figure.moving = animated(reels) if (reels := _reels(study, found)) else b""
        except Exception as error:  # the still says as much, and needs nothing of it
            figure.drawn = {**figure.drawn, "still": error}
    return figure


def forward_process(study: Study) -> Figure | None:
    """What a schedule does to an image: a row for each schedule, from the image to noise.

    The times t are evenly spaced. Above each row stands the log signal-to-noise ratio of its
    schedule at each time: where that falls early, the image is gone early.
    [one] All rows have the same training image and the same noise.
    [several] All rows have the same training images and the same noise.
    """
    found = {}
    for name, artifacts in kept_by_schedule(study, FORWARD, by_scale=True).items():
        if (picture := artifacts.read(FORWARD)) is not None:
            found[name] = _tiles(picture, FORWARD_TIMES), _log_snrs(artifacts)
    lines = max(1, MOST_LINES // max(1, len(found)))
    rows = [
        ImageRow(_spaced(tiles[:lines]), [wrapped(name, 22)], heads=heads)
        for name, (tiles, heads) in list(found.items())[:MOST_ROWS]
    ]
    if rows:
        times = [f"t = {place / (FORWARD_TIMES - 1):.1f}" for place in range(FORWARD_TIMES)]
        heads = [f"{t}\n{said}" for t, said in zip(times, rows[0].heads, strict=True)]
        rows[0] = replace(rows[0], heads=heads, what="time, and log SNR then")
    figure = _stacked(rows)
    if figure is not None:
        most = max(len(tiles[:lines]) for tiles, _ in found.values())
        figure.drawn = {"one" if most == 1 else "several": True}
    return figure


def training_looks(study: Study) -> Figure | None:
    """How samples become recognisable: a row for each training of the first seed.

    The first images drawn by the averaged weights as they were after the number of training steps
    that stands above, by DDIM in 20 steps, all from the same noise.
    """
    first: dict[str, bytes] = {}
    for one in sorted(study.trainings, key=lambda one: one.training.seed):
        if (picture := one.artifacts.read(LOOKS)) is not None:
            first.setdefault(study.training_label(one.training), picture)
    lines = max(1, MOST_LINES // max(1, len(first)))
    rows = []
    for label, picture in sorted(first.items())[:MOST_ROWS]:
        tiles, heads = _tiles(picture, lines=DRAWN)[:lines], _numbers(picture, "steps")
        rows.append(_headed(tiles, heads, wrapped(label, 22)))
    return _stacked(_headed_once(rows, "training steps"))


def nearest_images(study: Study) -> Figure | None:
    """Generated images beside the training images they are nearest to.

    For each schedule (three at most) in its best configuration, those 8 images that are nearest to
    a training image by their features, the nearest first, and below each that training image. Where
    the two are the same picture, the network has memorised it.
    """
    rows = []
    for title, picture in _best_of_each_schedule(study, NEAREST):
        pixels = _spaced(_tiles(picture, lines=2), SHEET_COLUMNS)
        rows.append(ImageRow(pixels, ["generated", "training"], title))
    return _stacked(rows)


def _stacked(rows: Sequence[ImageRow]) -> ImageFigure | None:
    """A figure with these rows below each other, all at one scale."""
    if not rows:
        return None
    wide = max(row.pixels.shape[1] for row in rows)
    shares = [len(row.pixels) for row in rows]
    # Higher than needed: the layout moves the rows together, and saving cuts off what is over.
    high = style.PAGE_WIDTH * sum(shares) / wide + len(rows)
    figure = ImageFigure(figsize=(style.PAGE_WIDTH, high))
    pad = min(0.1, max(0.03, style.PAGE_WIDTH * max(shares) / wide / 16))
    figure.set_layout_engine("compressed", h_pad=pad)
    grid = figure.subplots(len(rows), squeeze=False, height_ratios=shares)[:, 0]
    for axes, row in zip(grid, rows, strict=True):
        beside = ((0, 0), (0, wide - row.pixels.shape[1]), (0, 0))
        pixels = np.pad(row.pixels, beside, constant_values=255)
        axes.imshow(pixels, interpolation="nearest")
        axes.set_title(row.title, loc="left", fontsize=9)
        axes.set_yticks(_middles(len(pixels), len(row.names)), row.names, fontsize=9)
        axes.set_xticks(_middles(row.pixels.shape[1], len(row.heads)), row.heads, fontsize=9)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xlabel(row.what)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def _middles(length: int, parts: int) -> list[float]:
    return [length * (i + 0.5) / parts - 0.5 for i in range(parts)]


def _first_pictures(study: Study, name: str) -> Pictures:
    """The picture of each configuration that has one at hand: that of its first such cell."""
    found = {}
    for one in study.configurations():
        if picture := next(filter(None, (cell.artifacts.read(name) for cell in one.cells)), None):
            found[one] = picture
    return found


def _best_of_each_schedule(study: Study, name: str) -> Iterator[tuple[str, bytes]]:
    """A title and the picture."""
    found = _first_pictures(study, name)
    for one in best_of_each(found, lambda one: one.trained)[:MOST_SCHEDULES]:
        title = f"{one.schedule}, {one.sampler} {at_steps([one.steps], one.unit)}"
        yield wrapped(title, 70), found[one]


def _cut(every: Sized, kept: Sized) -> dict[str, object]:
    """What a caption says of rows that are not all shown."""
    if len(kept) == len(every):
        return {}
    return {"cut": True, "rows": len(every), "kept": len(kept)}


def _best_pairs(found: Pictures, most: int) -> list[tuple[str, str]]:
    """So many schedules with samplers at most, in the order of their names: with each schedule the
    sampler that has its best configuration, then with each the next."""
    turns, before = [], Counter[str]()
    for one in best_of_each(found, lambda one: one.label):
        turns.append((before[one.schedule], one))
        before[one.schedule] += 1
    chosen = sorted(turns, key=lambda turn: turn[0])[:most]  # and by rank within each turn
    return sorted((one.schedule, one.sampler) for _, one in chosen)


def _steps_of_films(counts: Sequence[int]) -> int:
    """The number of steps that most films have; of several the largest that is not too many."""
    most = max(map(counts.count, counts))
    shared = sorted({steps for steps in counts if counts.count(steps) == most})
    return max((steps for steps in shared if steps <= MOST_STEPS), default=shared[0])


def _film(picture: bytes, name: str) -> ImageRow:
    """The first image of a film, which has two, each of two lines."""
    tiles = _tiles(picture, lines=4)[:2]
    heads = [*_numbers(picture, "evaluations")[: tiles.shape[1] - 1]]
    heads += [""] * (tiles.shape[1] - 1 - len(heads))
    return _headed(tiles, [*heads, "result"], name)


def _headed(tiles: Raster, heads: Sequence[str], name: str) -> ImageRow:
    """Tiles with what stands above each of their columns, and beside them."""
    blank = [""] * (SHEET_COLUMNS - len(heads))
    return ImageRow(_spaced(tiles, SHEET_COLUMNS), [name], heads=[*heads, *blank])


def _headed_once(rows: Iterable[ImageRow], what: str) -> list[ImageRow]:
    """Rows whose heads are left out where they are those of the row above."""
    kept: list[ImageRow] = []
    above: Sequence[str] = ()
    for row in rows:
        is_new = row.heads != above
        above = row.heads
        kept.append(replace(row, what=what) if is_new else replace(row, heads=()))
    return kept


def _numbers(picture: bytes, text: str) -> list[str]:
    """The numbers that a picture has in a text of this name, as they are shown."""
    with Image.open(io.BytesIO(picture)) as image:
        told = getattr(image, "text", {}).get(text, "")
    return [f"{int(number):,}" for number in told.split()]


def _log_snrs(artifacts: Artifacts) -> list[str]:
    """The log SNR of a schedule at the times of its picture."""
    table = artifacts.table(SCHEDULE_CURVE)
    if table is None:
        return [""] * FORWARD_TIMES
    shown = np.linspace(0, len(table) - 1, FORWARD_TIMES).round().astype(int)
    values = table["log_snr"].iloc[shown]
    return [f"{MINUS * (v < 0)}∞" if np.isinf(v) else number(v, decimals=1) for v in values]


def _reels(study: Study, found: Iterable[Configuration]) -> dict[str, Reel]:
    """Every evaluation of the best of these configurations of each schedule, by its title."""
    every = _first_pictures(study, EVERY_STEP)
    reels = {}
    for one in best_of_each((one for one in found if one in every), lambda one: one.trained):
        with Image.open(io.BytesIO(every[one])) as image:
            numbers = [int(number) for number in image.info.get("xmp", b"").split()]
        tiles = _tiles(every[one], columns=len(numbers) + 1)
        reels[f"{one.schedule}, {one.sampler}"] = Reel(tiles, numbers)
        if len(reels) == MOST_SCHEDULES:
            break
    return reels


def _tiles(picture: bytes, columns: int = 0, lines: int = 0) -> Raster:
    """The square tiles of a picture [lines, columns, side, side, 3], of which one is given."""
    with Image.open(io.BytesIO(picture)) as image:
        pixels = np.asarray(image.convert("RGB"))
    high, wide, _ = pixels.shape
    side = wide // columns if columns else high // lines
    return pixels.reshape(high // side, side, wide // side, side, 3).swapaxes(1, 2)


def _in_columns(tiles: Raster, columns: int) -> Raster:
    """The same tiles in other columns, white where there are none left."""
    flat = tiles.reshape(-1, *tiles.shape[2:])
    over = -len(flat) % columns
    padded = np.pad(flat, ((0, over), (0, 0), (0, 0), (0, 0)), constant_values=255)
    return padded.reshape(-1, columns, *tiles.shape[2:])


def _spaced(tiles: Raster, least: int = 0) -> Raster:
    """Tiles with white between them, and beside them up to the least number of columns."""
    lines, columns, side = tiles.shape[:3]
    gap, all_columns = max(1, round(side * GAP)), max(columns, least)
    around = ((0, 0), (0, all_columns - columns), (0, gap), (0, gap), (0, 0))
    apart = np.pad(tiles, around, constant_values=255).swapaxes(1, 2)
    return apart.reshape(lines * (side + gap), all_columns * (side + gap), 3)[:-gap, :-gap]
