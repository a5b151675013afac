"""One image file as a network sees it: upright, opaque, of 8 bits, its centre square resized."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps

from harness.data.images import Images
from harness.work.reading import Alteration, Background

GREY = frozenset({"1", "L", "LA", "La"})  # Pillow's modes without colour, 16 bits aside


class Unusable(Exception):
    """Why a file gives no image, and what to do."""

    def __init__(self, why: str, use: str):
        super().__init__(why)
        self.why, self.use = why, use


@dataclass(frozen=True)
class Preparation:
    """What becomes of each image file."""

    size: int  # pixels along a side
    grey: bool = False  # one channel, else three
    background: Background = "white"  # of what is transparent


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image as a network sees it, and what had to be done for that."""

    pixels: Images  # [C, size, size]
    width: int  # upright, before anything was cut
    height: int
    altered: frozenset[Alteration]
    is_grey: bool


def prepared(content: bytes, how: Preparation) -> Prepared:
    """The centre square of an image file, resized with antialiasing. Raises Unusable."""
    altered: set[Alteration] = set()
    try:
        with noticing_faults(altered), Image.open(io.BytesIO(content)) as opened:
            upright = eight_bits(opened, altered)
            is_grey = upright.mode in GREY
            opaque = on_background(upright, how.background, altered)
            image = opaque.convert("L" if how.grey else "RGB")
            square = image.crop(centre_square(image.width, image.height))
    except Unusable:
        raise
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise Unusable(
            f"it has more than {most:,} pixels", "Use a smaller copy of it, or take it out."
        ) from error
    except Exception as error:  # Pillow answers a damaged file with almost any exception
        told = " ".join(str(error).split())
        why = "it is no image, or damaged" if "BytesIO" in told else told
        raise Unusable(why, "Replace it by an 8-bit image, or take it out.") from error
    if image.width != image.height:
        altered.add("cropped")
    if square.width < how.size:
        altered.add("enlarged")
    pixels = np.asarray(square.resize((how.size, how.size), Image.Resampling.LANCZOS))
    pixels = pixels[None] if how.grey else pixels.transpose(2, 0, 1)
    return Prepared(pixels, image.width, image.height, frozenset(altered), is_grey)


def centre_square(width: int, height: int) -> tuple[int, int, int, int]:
    """Its left, top, right and bottom."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def eight_bits(opened: Image.Image, altered: set[Alteration]) -> Image.Image:
    """An image upright and of at most 8 bits a channel, in its own mode; counts what it had to
    alter. Raises Unusable where nothing says what its largest value stands for."""
    is_deep = has_16_bits(opened)
    if opened.mode.startswith(("I", "F")) and not is_deep:  # Pillow would clip these to white
        raise Unusable(
            f"its pixels have more than 16 bits, mode {opened.mode}",
            "Replace it by an 8-bit image, or take it out.",
        )
    found: dict[Alteration, bool] = {
        "deep": is_deep,
        "first_frame": getattr(opened, "is_animated", False),
        "cmyk": opened.mode == "CMYK",
        "palette": opened.mode in ("P", "PA"),
        "rotated": opened.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9),
    }
    altered |= {kind for kind, is_so in found.items() if is_so}
    upright = ImageOps.exif_transpose(opened)
    if not upright.mode.startswith("I"):
        return upright
    high = np.asarray(upright).clip(0, 65535).astype(np.uint16) >> 8  # as Pillow does in colour
    return Image.fromarray(high.astype(np.uint8))


def has_16_bits(opened: Image.Image) -> bool:
    """Whether a channel of a file has 16 bits. Of colours Pillow has dropped the lower 8 when the
    image is loaded, so this is asked before."""
    if opened.mode.startswith("I;16"):
        return True
    raw = " ".join(str(tile[3]) for tile in getattr(opened, "tile", []))
    if opened.format in ("PNG", "TIFF"):
        return ";16" in raw
    return opened.format == "PPM" and opened.mode == "I"


@contextmanager
def noticing_faults(altered: set[Alteration]) -> Iterator[None]:
    """Count an image whose reader warns that it passed over something, and say nothing of it."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, and yet allowed
        yield
    if warned:
        altered.add("faulty")


def on_background(
    image: Image.Image, background: Background, altered: set[Alteration]
) -> Image.Image:
    """An image with its transparent parts composed on a colour, instead of the colours that its
    file hides there."""
    if not image.has_transparency_data:
        return image
    colours = image.convert("RGBA")
    if colours.getchannel("A").getextrema() == (255, 255):
        return image
    altered.add("transparent")
    return Image.alpha_composite(Image.new("RGBA", image.size, background), colours)
