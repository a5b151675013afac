"""The classics with an official test part, which is the part held out here.

Each is read from a zip in the data folder if there is one (`cifar10.zip`, `mnist.zip`,
`fashion_mnist.zip`: images in a folder `train` and a folder `test`, at any depth and in any
sub-folders), else from torchvision's files there, which are downloaded if they are missing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from harness.data.files import read_folder
from harness.data.images import MIRRORED, Images, ImageSet, data_set
from harness.data.labels import Labels
from harness.data.prepare import Preparation
from harness.downloads import download

Both = tuple[Images, Images, Labels | None]  # the training and the test images, and their classes


def classic_files(name: str, folder: str) -> Callable[..., list[Path]]:
    """The sources of a classic: its zip, else torchvision's files in this folder."""

    def sources(data_dir: Path) -> list[Path]:
        archive = data_dir / f"{name}.zip"
        if archive.exists():
            return [archive]
        return sorted(file for file in (data_dir / folder).rglob("*") if file.is_file())

    return sources


@data_set(sources=classic_files("cifar10", "cifar-10-batches-py"))
def cifar10(data_dir: Path) -> ImageSet:
    """CIFAR-10 (Krizhevsky 2009): 60,000 photographs, 32x32 colour, 10,000 held out."""
    train, test, labels = both_parts(data_dir, "cifar10", "CIFAR10", side=32, grey=False)
    return ImageSet("cifar10", train, test, flip="cifar10" in MIRRORED, labels=labels)


@data_set(sources=classic_files("mnist", "MNIST/raw"))
def mnist(data_dir: Path) -> ImageSet:
    """MNIST (LeCun et al. 1998): 70,000 handwritten digits, 32x32 grey, 10,000 held out."""
    train, test, labels = both_parts(data_dir, "mnist", "MNIST", side=28, grey=True)
    return ImageSet("mnist", padded(train), padded(test), labels=labels)


@data_set(sources=classic_files("fashion_mnist", "FashionMNIST/raw"))
def fashion_mnist(data_dir: Path) -> ImageSet:
    """Fashion-MNIST (Xiao et al. 2017): 70,000 pieces of clothing, 32x32 grey, 10,000 held out."""
    train, test, labels = both_parts(data_dir, "fashion_mnist", "FashionMNIST", side=28, grey=True)
    return ImageSet("fashion_mnist", padded(train), padded(test), labels=labels)


def both_parts(data_dir: Path, name: str, torchvision_name: str, side: int, grey: bool) -> Both:
    """The training and the test images, [N, C, side, side]. Raises DataError."""
    archive = data_dir / f"{name}.zip"
    if archive.exists():
        how = Preparation(side, grey)
        train, test = (read_folder(archive, how, part=part) for part in ("train", "test"))
        is_labelled = train.classes is not None and test.classes is not None
        labels = Labels.of(train.classes or [], test.classes or []) if is_labelled else None
        return train.images, test.images, labels
    remedy = (
        f"Without a network, put {archive.name} into {data_dir}: a zip of the {side}x{side} images "
        "in two folders, train and test."
    )
    if (kept := data_dir / torchvision_name).is_dir():
        remedy = (
            f"What is in {kept} is damaged or not all of it: delete it, and the same command "
            f"fetches it once more. {remedy}"
        )
    with suppress(Exception):  # not there yet, or broken: then it is fetched
        return by_torchvision(data_dir, torchvision_name, fetch=False)
    with download(f"The data set {name}", data_dir, remedy):
        return by_torchvision(data_dir, torchvision_name, fetch=True)


def by_torchvision(data_dir: Path, name: str, fetch: bool) -> Both:
    """The two parts as torchvision reads them."""
    import torchvision

    read = getattr(torchvision.datasets, name)
    parts = [read(data_dir, train=is_train, download=fetch) for is_train in (True, False)]
    train, test = (channels_first(np.asarray(part.data)) for part in parts)
    classes = ([part.classes[int(target)] for target in part.targets] for part in parts)
    return train, test, Labels.of(*classes)


def channels_first(images: Images) -> Images:
    """From torchvision's [N, H, W] or [N, H, W, C]."""
    return (
        images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    )


def padded(images: Images) -> Images:
    """28 pixels a side to 32, which a U-Net can halve three times more; black, as the margin is."""
    return np.pad(images, [(0, 0), (0, 0), (2, 2), (2, 2)])
