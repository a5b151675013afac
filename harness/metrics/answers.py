"""What a metric answers, looked at where it enters: one of another package may answer anything."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from harness.errors import Fault
from harness.metrics.arrays import Vector
from harness.registry.signature import shown


def a_number(found: Any) -> float:
    """Raises Fault for what is none; NaN and infinity are numbers here."""
    if isinstance(found, bool) or not isinstance(found, Real):
        raise Fault(f"gives no number, but {shown(found)}")
    return float(found)


def vector(found: Any, length: int) -> Vector:
    """Raises Fault for what is not so many finite numbers."""
    if not isinstance(found, np.ndarray):
        raise Fault(f"gives no array of {length} numbers, but {shown(found)}")
    if found.shape != (length,) or found.dtype.kind not in "fiu":
        raise Fault(
            f"gives no array of {length} numbers, but {found.dtype} of shape {list(found.shape)}"
        )
    if not np.isfinite(found).all():
        raise Fault("gives values that are not finite")
    return found
