"""Oxford Flowers 102 (Nilsback and Zisserman 2008)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from harness.data.files import image_files, read_images
from harness.data.images import MIRRORED, ImageSet, data_set, split_by_content
from harness.downloads import download
from harness.errors import DataError
from harness.registry import Between

PHOTOGRAPHS = 8189


def files_of_flowers(data_dir: Path, *, image_size: int = 64) -> list[Path]:
    return image_files(prepared(data_dir, image_size) or photographs_in(data_dir))


@data_set(sources=files_of_flowers)
def flowers102(data_dir: Path, *, image_size: Annotated[int, Between(1, 500)] = 64) -> ImageSet:
    """8,189 photographs of 102 kinds of flowers, a fifth of them held out.

    The official splits are joined: they share images. Read from `flowers102-64.zip` in the data
    folder (centre squares of 64 pixels a side; likewise for other sides, of which the smallest
    that is not smaller than `image_size` is taken), else downloaded to there, 330 MB. Raises
    DataError where neither is possible.
    """
    source = prepared(data_dir, image_size) or downloaded(data_dir, image_size)
    images = read_images(source, image_size)
    flip = "flowers102" in MIRRORED
    return split_by_content("flowers102", images, round(0.2 * len(images)), flip=flip)


def prepared(data_dir: Path, image_size: int) -> Path | None:
    """The smallest prepared archive that need not be enlarged."""
    sides = {
        int(match[1]): path
        for path in data_dir.glob("flowers102-*.zip")
        if (match := re.fullmatch(r"flowers102-(\d+)\.zip", path.name))
    }
    enough = [side for side in sides if side >= image_size]
    return sides[min(enough)] if enough else None


def photographs_in(data_dir: Path) -> Path:
    """The folder of the original photographs, where torchvision puts them."""
    return data_dir / "flowers-102" / "jpg"


def downloaded(data_dir: Path, image_size: int) -> Path:
    """The original photographs; nothing is fetched that is there already. Raises DataError where
    some are missing, as after an interruption."""
    photographs = photographs_in(data_dir)
    if photographs.is_dir():
        if (found := len(image_files(photographs))) != PHOTOGRAPHS:
            raise DataError(
                f"{photographs} holds {found:,} of the {PHOTOGRAPHS:,} photographs. Delete it: the "
                "same command then unpacks them once more."
            )
        return photographs
    remedy = (
        f"Without a network, put flowers102-{image_size}.zip (the photographs, cut to squares of "
        f"at least {image_size} pixels a side) or the authors' files (102flowers.tgz unpacked, "
        f"imagelabels.mat, setid.mat, in a folder flowers-102) into {data_dir}."
    )
    with download("The Oxford Flowers", data_dir, remedy):
        from torchvision.datasets import Flowers102

        Flowers102(data_dir, download=True)  # whichever split is asked for, all images come
    return photographs
