"""Oxford Flowers 102 (Nilsback and Zisserman 2008)."""

from __future__ import annotations

import csv
import re
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Annotated

from harness.data.contents import files, image_files
from harness.data.files import read_folder
from harness.data.images import MIRRORED, ImageSet, data_set, split_by_content
from harness.data.prepare import Preparation
from harness.downloads import download
from harness.errors import DataError
from harness.registry import Between

PHOTOGRAPHS = 8189


def files_of_flowers(data_dir: Path, *, image_size: int = 64) -> list[Path]:
    """The files that the images come from."""
    return image_files(archive_of(data_dir, image_size) or photographs_in(data_dir))


@data_set(sources=files_of_flowers)
def flowers102(data_dir: Path, *, image_size: Annotated[int, Between(1, 500)] = 64) -> ImageSet:
    """8,189 photographs of 102 kinds of flowers, a fifth of them held out.

    The official splits are joined: they share images. Read from `flowers102-64.zip` in the data
    folder (centre squares of 64 pixels a side; likewise for other sides, of which the smallest
    that is not smaller than `image_size` is taken), else downloaded to there, 330 MB. Raises
    DataError where neither is possible.
    """
    source = archive_of(data_dir, image_size) or downloaded(data_dir, image_size)
    found = read_folder(source, Preparation(image_size))
    labels = labels_beside(source)
    is_labelled = all(name.name in labels for name in found.names)
    return split_by_content(
        "flowers102", found.images, round(0.2 * len(found.images)), flip="flowers102" in MIRRORED,
        classes=[labels[name.name] for name in found.names] if is_labelled else None,
        digests=found.digests,
    )  # fmt: skip


def labels_beside(source: Path) -> dict[str, str]:
    """The number of its kind, 1 to 102, by the name of each photograph: of `labels.csv` in an
    archive, else of the authors' own file. None where there is no such file, or it is damaged."""
    with suppress(Exception):  # images are used without their classes
        if source.is_dir():
            from scipy.io import loadmat

            numbers = loadmat(source.parent / "imagelabels.mat")["labels"][0]
            return {f"image_{n:05d}.jpg": str(number) for n, number in enumerate(numbers, 1)}
        with files(source) as readers:
            text = readers[PurePosixPath("labels.csv")]().decode()
        return {row["file"]: row["label"] for row in csv.DictReader(text.splitlines())}
    return {}


def archive_of(data_dir: Path, image_size: int) -> Path | None:
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
