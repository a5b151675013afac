"""The data sets by name. To add one, write a function in this folder and name it here.

A data set is a function of the folder that holds large files, and of its own options by keyword.
It loads everything at once, or raises DataError that says which file belongs where.
"""

from collections.abc import Callable

from harness.data.analytic import finite, gaussian, mixture
from harness.data.classics import cifar10, fashion_mnist, mnist
from harness.data.digits import digits
from harness.data.flowers import flowers102
from harness.data.folder import folder
from harness.data.images import ImageSet
from harness.registry import Registry

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
    given=frozenset({"data_dir"}),
)

# Sets that are there for their exact denoiser: a grid that names one trains nothing unless told.
ANALYTIC = frozenset({"gaussian", "mixture", "finite"})
