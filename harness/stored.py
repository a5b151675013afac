"""Finished cells of a store: what `harness compare` and `harness sample` do."""

from __future__ import annotations

from pathlib import Path

from harness.analysis.groups import GroupComparison, compare, the_one
from harness.errors import StoreError
from harness.store import Store
from harness.work.options import Workplace
from harness.work.results import CellResult


def compare_cells(
    store: Path, first: str, second: str, metric: str, only: str | None = None
) -> GroupComparison:
    """What may be said of two cells or groups of cells of a store against each other."""
    return compare(finished(store), first, second, metric, only)


def sample_cell(wanted: str, at: Workplace, out: Path, images: int, seed: int | None) -> Path:
    """Sample images as a finished cell does: one sheet where `out` ends in .png, else one PNG an
    image in a folder. Returns what was written."""
    cells = [one.cell for one in finished(at.store) if one.cell.weights == "final"]
    cell = the_one(cells, wanted)
    from harness.engine.draw import draw

    return draw(cell, at, out, images, seed)


def finished(folder: Path) -> list[CellResult]:
    """What came of the finished cells of a store. Raises StoreError where there are none."""
    store = Store(folder)
    store.check_version()
    results = store.cell_results()
    if not results:
        raise StoreError(
            f"the store {folder} has no finished cells. Use `harness run` with a grid first."
        )
    return results
