"""How fast a machine works: measured by earlier work or by a probe, for a forecast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class Speeds:
    """How long the pieces of work with one model take on one machine."""

    train: float  # seconds per image and training step, of one training among those side by side
    evaluate: float  # seconds per image and network evaluation
    features: float  # seconds per image
    source: str
    memory: float = 0.0  # bytes that one process holds
    parameters: float = 0.0  # of the network
    width: float = 0.0  # features of an image
    compile: float = 0.0  # seconds: networks of one shape are compiled once, and share it

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self | None:
        """None where that is not what `vars` of one has."""
        known = {one.name: kept.get(one.name) for one in fields(cls)}
        numbers = [value for name, value in known.items() if name != "source"]
        if all(isinstance(value, int | float) and value >= 0 for value in numbers):
            return cls(**known | {"source": str(known["source"])})  # type: ignore[arg-type]
        return None


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`, `9 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
