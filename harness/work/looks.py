"""Looks at the data: which seeds had been done when verdicts were first asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """What one look saw: cells of these training seeds and sampling seeds alone."""

    seeds: tuple[int, ...]
    sampling_seeds: tuple[int, ...]
