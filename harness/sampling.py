"""Images of a trained model on their own, outside any grid: what `harness sample` does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.errors import StoreError
from harness.plan.work import Cell, Filter
from harness.runtime import machine
from harness.runtime.store import Store, write_bytes

SHOWN = 8  # cells listed where a filter matches several


def sample_to(
    folder: Path, data_dir: Path, device: str, wanted: str, out: Path, images: int, seed: int | None
) -> Path:
    """Sample the model of one finished cell the way that cell does; one sheet where `out` ends in
    .png, else one PNG an image in the folder `out`. Returns what was written."""
    store = Store(folder)
    cell = find_cell(store, wanted)
    if seed is not None:
        cell = replace(cell, sampling_seed=seed)

    from harness.engine.sample import png, sample, sheet
    from harness.engine.score import load_network

    trained = load_network(store, cell.training, data_dir, str(machine.find_device(device)))
    drawn = sample(cell, trained, lambda progress: None, images).images
    if out.suffix.lower() == ".png":
        write_bytes(out, png(sheet(drawn)))
    else:
        for number, image in enumerate(drawn):
            write_bytes(out / f"{number:05d}.png", png(sheet(image[None], columns=1)))
    return out


def find_cell(store: Store, wanted: str) -> Cell:
    """The one finished cell that a key, its beginning or a filter names. Raises StoreError."""
    outcomes = [store.outcome(key) for key in store.keys("cells")]
    cells = [Cell.from_canonical(outcome["cell"]) for outcome in outcomes if outcome]
    if not cells:
        raise StoreError(f"the store {store.root} has no finished cells; run a grid first")
    if "=" in wanted:
        found = Filter(wanted).choose(cells, "store")
    else:
        found = [cell for cell in cells if cell.key.startswith(wanted)]
    if not found:
        raise StoreError(
            f"no finished cell of the store {store.root} has a key that begins with '{wanted}'. "
            f"A filter such as schedule=cosine,steps=50 would do; it has {len(cells)} cells."
        )
    if len(found) > 1:
        some = "\n".join(f"  {cell.key}  {cell.title}" for cell in found[:SHOWN])
        raise StoreError(f"'{wanted}' names {len(found)} cells; name one of them:\n{some}")
    return found[0]
