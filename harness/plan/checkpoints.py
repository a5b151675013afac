"""Which cells are also sampled with the weights that their network had at 90 % of its training.

One of each training, with the same sampler configuration in all where there is one: it tells
whether the training was long enough, at the price of one cheap cell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from harness.plan.forecast import nfe_of
from harness.work.cells import Cell

ENOUGH = 20  # evaluations: with fewer, the sampler's error hides the network's


def checkpoint_cells(cells: Iterable[Cell]) -> list[Cell]:
    """Select one cell per training to score again with its weights at 90 % of the training: matched
    schedule, the sampler configuration that most trainings share, the smallest NFE of at least 20,
    else the largest."""
    matched = [cell for cell in cells if cell.training.is_trained and cell.is_matched]
    sharing: dict[tuple[object, ...], set[str]] = {}
    for cell in matched:
        sharing.setdefault(_configuration(cell), set()).add(cell.training.key)

    def preference(cell: Cell) -> tuple[object, ...]:
        made = nfe_of(cell)
        is_few = made < ENOUGH
        shared = len(sharing[_configuration(cell)])
        return (is_few, -shared, -made if is_few else made, *_configuration(cell), cell.key)

    chosen: dict[str, Cell] = {}
    for cell in matched:
        key = cell.training.key
        chosen[key] = min(chosen.get(key, cell), cell, key=preference)
    return [replace(cell, weights="0.9") for cell in chosen.values()]


def _configuration(cell: Cell) -> tuple[object, ...]:
    return str(cell.sampler), str(cell.spacing), cell.steps, str(cell.clip), cell.sampling_seed
