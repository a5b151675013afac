"""torch, loaded at first use.

Loading torch takes seconds. The mathematics needs it only when tensors arrive, so the modules
that merely define it say `from harness.lazy import torch`: checking a grid file, planning it,
or finding that there is nothing to do then never waits for torch.
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
else:
    torch = LazyModule("torch")

__all__ = ["torch"]
