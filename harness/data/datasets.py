"""The data sets by name. To add one, write a function in this folder and name it here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.data.analytic import finite, gaussian, mixture
from harness.data.classics import cifar10, fashion_mnist, mnist
from harness.data.digits import digits
from harness.data.flowers import flowers102
from harness.data.folder import folder
from harness.data.images import ImageSet
from harness.errors import Fault
from harness.registry import Registry
from harness.registry.signature import shown

DATASETS: Registry[Callable[..., ImageSet]] = Registry(
    "dataset",
    {
        "cifar10": cifar10,
        "digits": digits,
        "fashion_mnist": fashion_mnist,
        "finite": finite,
        "flowers102": flowers102,
        "folder": folder,
        "gaussian": gaussian,
        "mixture": mixture,
        "mnist": mnist,
    },
    given=("data_dir",),
    contract="""A function:

    dataset(data_dir, *, option=default) -> harness.data.images.ImageSet

data_dir is the folder (a Path) that holds large files. The set is loaded at once: train and
held_out, both uint8 [N, C, side, side]. It raises DataError that says which file belongs where.
Read from files, it is marked by @harness.data.images.data_set(sources=...), else loaded each time
to see whether it is the same.""",
)


def load(name: str, data_dir: Path, options: Mapping[str, Any]) -> ImageSet:
    """The data set of this name. Raises DataError where its images cannot be had, and PartFailed
    where the package that offers it gives something else."""
    found: object = DATASETS.make(name, options, data_dir)
    if not isinstance(found, ImageSet):
        with DATASETS.blamed(name):
            raise Fault(f"gives no ImageSet, but {shown(found)}")
    return found


# Sets that are there for their exact denoiser: a grid of one trains only where it names a model.
ANALYTIC = frozenset({"gaussian", "mixture", "finite"})
