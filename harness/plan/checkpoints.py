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
    """Keys of one cell of each training that trains a network: sampled under its own schedule, in
    the way that most trainings have, with the fewest evaluations that are enough or else the most
    there are."""
    own = [
        cell
        for cell in cells
        if not cell.training.is_exact and cell.sample_schedule == cell.training.schedule
    ]
    having: dict[tuple[object, ...], set[str]] = {}
    for cell in own:
        having.setdefault(_way(cell), set()).add(cell.training.key)

    def preference(cell: Cell) -> tuple[object, ...]:
        made = evaluations(cell.sampler.name, cell.steps)
        is_few = made < ENOUGH
        of_time = -made if is_few else made
        return (is_few, -len(having[_way(cell)]), of_time, *_way(cell), cell.key)

    chosen: dict[str, Cell] = {}
    for cell in own:
        key = cell.training.key
        chosen[key] = min(chosen.get(key, cell), cell, key=preference)
    return frozenset(cell.key for cell in chosen.values())


def _way(cell: Cell) -> tuple[object, ...]:
    return str(cell.sampler), str(cell.spacing), cell.steps, cell.clip, cell.sampling_seed
