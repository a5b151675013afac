"""How fast a machine works: measured by earlier work or by a probe, for a forecast."""

from __future__ import annotations

from dataclasses import dataclass


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
