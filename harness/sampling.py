"""Images of a trained model on their own, outside any grid: what `harness sample` does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.runtime import machine
from harness.runtime.store import Store, write_bytes
from harness.stored import finished_cells, the_one


def sample_to(
    folder: Path, data_dir: Path, device: str, wanted: str, out: Path, images: int, seed: int | None
) -> Path:
    """Sample the model of one finished cell the way that cell does; one sheet where `out` ends in
    .png, else one PNG an image in the folder `out`. Returns what was written."""
    store = Store(folder)
    cell = the_one(finished_cells(store), wanted, store)
    if seed is not None:
        cell = replace(cell, sampling_seed=seed)

    from harness.engine.pictures import png, sheet
    from harness.engine.sample import sample
    from harness.engine.score import load_network

    trained = load_network(store, cell.training, data_dir, str(machine.find_device(device)))
    drawn = sample(cell, trained, lambda progress: None, images).images
    if out.suffix.lower() == ".png":
        write_bytes(out, png(sheet(drawn)))
    else:
        for number, image in enumerate(drawn):
            write_bytes(out / f"{number:05d}.png", png(sheet(image[None], columns=1)))
    return out
