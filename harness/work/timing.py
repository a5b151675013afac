"""How often a cell's network is evaluated: for its images, and for their seconds."""

from __future__ import annotations

import math

from harness.work.cells import Cell

TIMINGS = 3  # batches timed at least, so that a median means something ...
PATIENCE_SECONDS = 1.0  # ... unless one takes longer: it is a mean over many evaluations itself


def timings_of(cell: Cell) -> int:
    """How many batches are to be timed. Of a checkpoint no second one: it is there for its
    quality."""
    return TIMINGS if cell.weights == "final" else 1


def repeats(batches: int, seconds: float, timings: int) -> int:
    """How often the first of so many batches, which takes so many seconds, is sampled once more for
    its timing alone."""
    return max(0, timings - batches) if seconds < PATIENCE_SECONDS else 0


def evaluations_made(cell: Cell, nfe: int, batch: int, seconds: float) -> int:
    """Network evaluations of single images, each of which takes so many seconds, to sample a cell
    by `nfe` an image in batches: those of its images, one before the clock runs for each size of a
    batch, and those of the timings."""
    first, rest = min(cell.images, batch), cell.images % batch
    again = repeats(math.ceil(cell.images / batch), first * nfe * seconds, timings_of(cell))
    return nfe * (cell.images + again * first) + sum({first, rest})
