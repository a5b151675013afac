"""torch and scipy.linalg, loaded at first use.

Loading torch takes seconds, and scipy half of one. The mathematics needs them only when arrays
arrive, so the modules that merely define it say `from harness.lazy import torch`: checking a grid
file, planning it, or finding that there is nothing to do then never waits for them.
"""

import importlib
from typing import TYPE_CHECKING, Any


class LazyModule:
    """Stands for a module and imports it when the first attribute is asked for."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


if TYPE_CHECKING:
    import torch
    from scipy import linalg
else:
    torch, linalg = LazyModule("torch"), LazyModule("scipy.linalg")

__all__ = ["linalg", "torch"]
