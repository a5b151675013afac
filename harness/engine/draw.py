"""Images of a trained model on their own, outside any grid: what `harness sample` does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.engine.denoisers import denoiser_of
from harness.engine.pictures import png, sheet
from harness.engine.sample import sample
from harness.store import write_bytes
from harness.work.cells import Cell
from harness.work.options import Workplace


def draw(cell: Cell, at: Workplace, out: Path, images: int, seed: int | None = None) -> Path:
    """Sample the model of a finished cell the way that cell does: one sheet where `out` ends in
    .png, else one PNG an image in the folder `out`. Returns what was written."""
    denoiser = denoiser_of(cell, at)  # of the cell itself, whose key another seed would change
    wanted = cell if seed is None else replace(cell, sampling_seed=seed)
    drawn = sample(wanted, denoiser, lambda progress: None, images).images
    if out.suffix.lower() == ".png":
        write_bytes(out, png(sheet(drawn)))
    else:
        for number, image in enumerate(drawn):
            write_bytes(out / f"{number:05d}.png", png(sheet(image[None], columns=1)))
    return out
