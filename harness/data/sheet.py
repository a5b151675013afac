"""A picture of what a network will see: images of each class, and originals beside what became of
them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from harness.data.contents import files, printable
from harness.data.images import Images, ImageSet
from harness.data.prepare import Preparation, centre_square, eight_bits, prepared
from harness.work.reading import Alteration, Reading, counted

WIDTH, MARGIN, GAP = 960, 16, 2  # pixels
LEAST_TILE, MOST_TILE = 48, 192  # pixels a side: smaller images are enlarged by whole numbers
ROWS = 8  # of images without classes
MOST_CLASSES = 24  # rows
NAMES = 140  # pixels that the names of classes take
BOX = 150  # pixels of an original
LINE = 17  # pixels
PAPER, INK, FAINT, MARK = "white", "#222222", "#767676", "#d62728"

Box = tuple[int, int, int, int]

TITLES: dict[Alteration, str] = {
    "faulty": "passed over a fault", "first_frame": "first frame", "transparent": "opaque",
    "deep": "16 bits to 8", "cmyk": "CMYK to RGB", "palette": "palette to RGB",
    "rotated": "turned upright", "cropped": "cropped", "enlarged": "enlarged",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pair:
    """An original and what becomes of it."""

    title: str
    name: str
    original: Image.Image  # RGBA
    square: Box | None  # what of it is kept, where that is not all
    prepared: Images  # [C, size, size]


def pairs_of(path: Path, reading: Reading, how: Preparation) -> list[Pair]:
    """For each alteration the image that shows it best, read once more."""
    found = []
    with files(path) as readers:
        by_name = {printable(name): reader for name, reader in readers.items()}
        for kind, some in reading.altered.items():
            with suppress(Exception):  # a file that is gone by now is not shown
                content = by_name[some.example]()
                title = f"{TITLES[kind]}: {counted(some.count, 'image')}"
                found.append(Pair(title, some.example, *_original(content, kind, how)))
    return found


def _original(
    content: bytes, kind: Alteration, how: Preparation
) -> tuple[Image.Image, Box | None, Images]:
    with Image.open(io.BytesIO(content)) as opened:
        is_turned = kind == "rotated"  # which is shown as the file has it
        shown = (opened if is_turned else eight_bits(opened, set())).convert("RGBA")
    is_square = shown.width == shown.height or is_turned
    square = None if is_square else centre_square(shown.width, shown.height)
    return shown, square, prepared(content, how).pixels


def sheet(images: ImageSet, pairs: Sequence[Pair] = ()) -> Image.Image:
    """Rows of prepared images, by class where there are classes, and below them the pairs."""
    parts = [_rows(images), *([_pairs(pairs)] if pairs else [])]
    height = sum(part.height for part in parts) + MARGIN
    whole = Image.new("RGB", (WIDTH, height), PAPER)
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


def _rows(images: ImageSet) -> Image.Image:
    tile = _tile_side(images.size)
    rows = [*_of_classes(images, tile)] if images.labels else [*_of_no_class(images, tile)]
    more = len(images.labels.names) - len(rows) if images.labels else 0
    height = MARGIN + 2 * LINE + len(rows) * (tile + GAP) + (LINE + GAP if more > 0 else 0)
    canvas = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    size = f"{images.size}x{images.size} pixels"
    shown = "" if tile == images.size else f", shown at {tile}x{tile}"
    _write(draw, (MARGIN, MARGIN), f"What a network will see: {size}{shown}", INK, 15)
    top = MARGIN + 2 * LINE
    for name, count, some in rows:
        left = MARGIN
        if images.labels:
            _write(draw, (left, top + tile // 2 - LINE), _fitting(name, NAMES - 8), INK)
            _write(draw, (left, top + tile // 2), counted(count, "image"), FAINT)
            left += NAMES
        for image in some:
            canvas.paste(_picture(image, tile), (left, top))
            left += tile + GAP
        top += tile + GAP
    if more > 0:
        _write(draw, (MARGIN, top + GAP), f"... and {more:,} more classes", FAINT)
    return canvas


def _of_classes(images: ImageSet, tile: int) -> Iterator[tuple[str, int, Images]]:
    """The name, number of images and first images of each class, those of training before others:
    their order is that of their checksums, so they are no selection."""
    labels = images.labels
    assert labels is not None
    columns = _columns(WIDTH - 2 * MARGIN - NAMES, tile)
    for place, name in enumerate(labels.names[:MOST_CLASSES]):
        train = images.train[np.flatnonzero(labels.train == place)[:columns]]
        others = images.held_out[np.flatnonzero(labels.held_out == place)[:columns]]
        yield name, labels.counts[name], np.concatenate([train, others])[:columns]


def _of_no_class(images: ImageSet, tile: int) -> Iterator[tuple[str, int, Images]]:
    columns = _columns(WIDTH - 2 * MARGIN, tile)
    some = np.concatenate([images.train[: ROWS * columns], images.held_out[:columns]])
    for start in range(0, min(ROWS * columns, len(some)), columns):
        yield "", 0, some[start : start + columns]


def _pairs(pairs: Sequence[Pair]) -> Image.Image:
    columns = 3
    width = (WIDTH - 2 * MARGIN) // columns
    height = BOX + 3 * LINE
    rows = -(-len(pairs) // columns)
    canvas = Image.new("RGB", (WIDTH, 2 * MARGIN + 2 * LINE + rows * height), PAPER)
    draw = ImageDraw.Draw(canvas)
    _write(draw, (MARGIN, 2 * MARGIN), "What was altered: a file, and what it becomes", INK, 15)
    for number, pair in enumerate(pairs):
        left = MARGIN + number % columns * width
        top = 2 * MARGIN + 2 * LINE + number // columns * height
        _pair(canvas, pair, left, top, width)
    return canvas


def _pair(canvas: Image.Image, pair: Pair, left: int, top: int, width: int) -> None:
    draw = ImageDraw.Draw(canvas)
    small, factor = _thumbnail(pair.original)
    x, y = left, top + (BOX - small.height) // 2
    canvas.paste(small, (x, y))
    if pair.square:
        kept = [round(edge * factor) for edge in pair.square]
        draw.rectangle((x + kept[0], y + kept[1], x + kept[2] - 1, y + kept[3] - 1), None, MARK, 2)
    side = width - BOX - 3 * MARGIN
    canvas.paste(_picture(pair.prepared, side), (left + BOX + MARGIN, top + (BOX - side) // 2))
    _write(draw, (left, top + BOX + 2), _fitting(pair.title, width - MARGIN), INK)
    _write(draw, (left, top + BOX + 2 + LINE), _fitting(pair.name, width - MARGIN), FAINT)


def _thumbnail(original: Image.Image) -> tuple[Image.Image, float]:
    """An original that fits its box, on a chequered ground where it is transparent; and the factor
    by which it is smaller."""
    factor = BOX / max(original.size)
    size = tuple(max(1, round(edge * factor)) for edge in original.size)
    rule = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS
    small = original.resize((size[0], size[1]), rule)
    rows, columns = np.indices((small.height, small.width)) // 8
    ground = Image.fromarray(np.where((rows + columns) % 2, 255, 205).astype(np.uint8))
    return Image.alpha_composite(ground.convert("RGBA"), small).convert("RGB"), factor


def _tile_side(size: int) -> int:
    """Pixels along a side at which images of this side are shown."""
    return min(MOST_TILE, size * enlargement(size))


def enlargement(size: int) -> int:
    """How many times as large images of this side are shown, so that they can be looked at."""
    return max(1, -(-LEAST_TILE // size))


def _columns(width: int, tile: int) -> int:
    return max(1, (width + GAP) // (tile + GAP))


def _picture(image: Images, side: int) -> Image.Image:
    """An image [C, H, W] at this side; of other than one or three channels the first."""
    is_colour = len(image) == 3
    picture = Image.fromarray(
        np.ascontiguousarray(image.transpose(1, 2, 0)) if is_colour else image[0]
    )
    rule = Image.Resampling.NEAREST if side >= picture.width else Image.Resampling.LANCZOS
    return picture.convert("RGB").resize((side, side), rule)


def _fitting(text: str, width: int) -> str:
    """A text of at most this many pixels, its middle left out."""
    shown, half = text, len(text) // 2
    while half > 1 and _font().getlength(shown) > width:
        half -= 1
        shown = f"{text[:half]}...{text[-half:]}"
    return shown


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, colour: str, size: int = 13
) -> None:
    draw.text(at, text, fill=colour, font=_font(size))


def _font(size: int = 13) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
