"""Finished cells of a store: what `harness compare` and `harness sample` do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.analysis.groups import GroupComparison, compare, the_one
from harness.analysis.sources import of_one_source
from harness.analysis.study import studies
from harness.data.datasets import DATASETS
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.errors import StoreError
from harness.models.presets import MODELS
from harness.registry import BUILT_IN, Registry
from harness.store import Store
from harness.work.cells import Cell, Part
from harness.work.options import Workplace
from harness.work.results import RESULT, CellResult, Experiment


def compare_cells(
    store: Path, first: str, second: str, metric: str, only: str | None = None
) -> GroupComparison:
    """What may be said of two cells or groups of cells of a store against each other."""
    results = finished(store)
    by_key = {one.cell.key: one for one in results}
    grids = {}
    for name, asked in Store(store).grids().items():
        cells = tuple(
            replace(one, cell=replace(one.cell, budget=budget))
            for key, budget in asked.cells.items()
            if (one := by_key.get(key))
        )
        grids[name] = studies(Experiment(name, cells, looks=asked.looks))
    return compare(results, first, second, metric, only, grids)


def sample_cell(wanted: str, at: Workplace, out: Path, images: int, seed: int | None) -> Path:
    """Sample images as a finished cell does: one sheet where `out` ends in .png, else one PNG an
    image in a folder. Returns what was written."""
    found = {one.cell: one.path for one in finished(at.store) if one.cell.weights == "final"}
    cell = the_one(list(found), wanted)
    refuse_other_code(cell)
    from harness.engine.denoisers import denoiser_of
    from harness.engine.fitted import written_out
    from harness.engine.sample import draw

    sampled = written_out(cell, found[cell].times)
    return draw(sampled, denoiser_of(cell, at), out, images, seed)


def refuse_other_code(cell: Cell) -> None:
    """Raises StoreError where a part of the cell that another package offers is not, here and now,
    the one that the cell was made with."""
    used = ((MODELS, cell.training.model), (SCHEDULES, cell.training.schedule),
            (SCHEDULES, cell.sample_schedule), (SAMPLERS, cell.sampler), (SPACINGS, cell.spacing),
            (DATASETS, cell.training.data))  # fmt: skip
    parts: list[tuple[Registry[Any], Part]] = list(used)
    for registry, part in parts:
        if (found := registry.source(part.name)) != part.source:
            raise StoreError(
                f"cell {cell.key} was made with the {registry.kind} '{part.name}' of "
                f"{part.source or BUILT_IN}, and here is that of {found or BUILT_IN}. Use the one "
                "it was made with, or run its grid again."
            )


def finished(folder: Path) -> list[CellResult]:
    """What came of the finished cells of a store. Raises StoreError where there are none."""
    store = Store(folder)
    store.check_version()
    if results := store.cell_results():
        return of_one_source(results)
    for path in sorted(folder.glob(f"cells/*/{RESULT}")):
        store.cell_result(path.parent.name)  # raises where it cannot be read, and says why
    raise StoreError(
        f"the store {folder} has no finished cells. Use `harness run` with a grid first."
    )
