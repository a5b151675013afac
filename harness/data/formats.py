"""Which image files can be read here, by their suffix."""

from __future__ import annotations

from functools import cache
from pathlib import PurePosixPath

from PIL import features

from harness.work.reading import AVIF, HEIF

SUFFIXES = frozenset({".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm",
                      ".tif", ".tiff", ".webp"})  # fmt: skip


@cache
def readable_suffixes() -> frozenset[str]:
    """The suffixes of files that Pillow reads here; it is told of pillow-heif where that is
    installed."""
    heif, avif = _with_pillow_heif()
    found = SUFFIXES | (HEIF if heif else frozenset())
    by_pillow = "avif" in features.modules and features.check_module("avif")
    return found | (AVIF if avif or by_pillow else frozenset())


def is_image(name: PurePosixPath) -> bool:
    """Whether the name of a file is that of an image."""
    return name.suffix.lower() in readable_suffixes() and not is_hidden(name)


def is_hidden(name: PurePosixPath) -> bool:
    """Whether a file, or a folder that it is in, is one of the system and no image of anybody."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.parts)


def _with_pillow_heif() -> tuple[bool, bool]:
    """Whether pillow-heif reads HEIC here, and whether it reads AVIF too, as it did before Pillow
    did."""
    try:
        import pillow_heif
    except ImportError:
        return False, False
    pillow_heif.register_heif_opener()
    reads_avif = getattr(pillow_heif, "register_avif_opener", None)
    if reads_avif is not None:
        reads_avif()
    return True, reads_avif is not None
