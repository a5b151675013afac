"""Which cells are also sampled with their network as it was a tenth before its training's end.

One of each training, the same way of sampling in all where there is one: it tells whether the
training was long enough, at the price of one cheap cell.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.diffusion.samplers import evaluations
from harness.plan.work import Cell

ENOUGH = 20  # evaluations: with fewer, the sampler's error hides the network's


def cells_at_checkpoints(cells: Iterable[Cell]) -> frozenset[str]:
    """Keys of one cell of each training that trains a network: sampled under its own schedule, with
    the fewest evaluations that are enough, or the most there are."""
    chosen: dict[str, Cell] = {}
    for cell in cells:
        if cell.training.is_exact or cell.sample_schedule != cell.training.schedule:
            continue
        key = cell.training.key
        chosen[key] = min(chosen.get(key, cell), cell, key=_preference)
    return frozenset(cell.key for cell in chosen.values())


def _preference(cell: Cell) -> tuple[object, ...]:
    made = evaluations(cell.sampler.name, cell.steps)
    is_few = made < ENOUGH
    return (
        is_few, -made if is_few else made, str(cell.sampler), str(cell.spacing), cell.clip,
        cell.sampling_seed, cell.key,
    )  # fmt: skip
