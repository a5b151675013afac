"""The finished cells of a store, found by their keys or by filters."""

from __future__ import annotations

from harness.errors import StoreError
from harness.plan.work import Cell, Filter
from harness.runtime.store import Store

SHOWN = 8  # cells listed where several are meant and one is wanted


def finished_cells(store: Store) -> list[Cell]:
    """The cells of a store that came to an end. Raises StoreError where there are none."""
    outcomes = [store.outcome(key) for key in store.keys("cells")]
    cells = [Cell.from_canonical(outcome["cell"]) for outcome in outcomes if outcome]
    if not cells:
        raise StoreError(f"the store {store.root} has no finished cells; run a grid first")
    return cells


def named(cells: list[Cell], wanted: str, store: Store) -> list[Cell]:
    """The cells that a key, its beginning or a filter names; at least one. Raises StoreError or
    BadOption."""
    if "=" in wanted:
        return Filter(wanted).choose(cells, "store")
    found = [cell for cell in cells if cell.key.startswith(wanted)]
    if not found:
        raise StoreError(
            f"no finished cell of the store {store.root} has a key that begins with '{wanted}'. "
            f"A filter such as schedule=cosine,steps=50 would do; it has {len(cells)} cells."
        )
    return found


def the_one(cells: list[Cell], wanted: str, store: Store) -> Cell:
    """The one cell that a key or filter names. Raises StoreError where it names several."""
    found = named(cells, wanted, store)
    if len(found) > 1:
        some = "\n".join(f"  {cell.key}  {cell.title}" for cell in found[:SHOWN])
        raise StoreError(f"'{wanted}' names {len(found)} cells; name one of them:\n{some}")
    return found[0]
