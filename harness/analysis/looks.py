"""Looking more than once: which cells the next look adds, and to which questions alone.

A look at l = 1, 2, 3, 4 has 3, 5, 8 and 12 training seeds, and 1, 2, 4 and 8 times the sampling
seeds of the grid, of what is still open. Each may spend a fixed part of the error rate
(`decisions.SPENT`), so that however many are taken, the family-wise rate is kept (Bonferroni over
looks). Nothing more is spent on an effect whose interval lies within a practical tie, or which is
out of reach of the last look.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis.decisions import DISAGREE, SAMPLING, Effect
from harness.analysis.questions import MainEffect, Question, questions
from harness.analysis.study import Study
from harness.work.cells import Cell
from harness.work.looks import Look

SEEDS = (3, 5, 8, 12)  # training seeds at each look
TIMES = (1, 2, 4, 8)  # as many sampling seeds as the grid has
TIE = 0.05  # relative: an interval within it needs no verdict
BEYOND = 4  # times what the last look has: as forecasts go, out of reach


@dataclass(frozen=True)
class Schedule:
    """The looks that a grid may take, fixed before the first."""

    looks: tuple[Look, ...]

    @classmethod
    def of(
        cls, cells: Iterable[Cell], most_seeds: int | None = None, most_images: int | None = None
    ) -> Schedule:
        """Of the cells of a grid: its own seeds come first, then those that it does not name. No
        look has more training seeds, or more images of a cell, than this."""
        cells = list(cells)
        trained = [cell.training.seed for cell in cells if cell.training.is_trained]
        seeds, noises = [*dict.fromkeys(trained)], [*dict.fromkeys(c.sampling_seed for c in cells)]
        images = max(cell.images for cell in cells)
        is_asked_of_seeds = len({replace(c.training, seed=0) for c in cells}) > 1 and bool(seeds)
        looks = []
        for number, times in zip(SEEDS, TIMES, strict=True):
            n = min(number, most_seeds or number) if is_asked_of_seeds else len(seeds)
            k = len(noises) * times
            k = max(len(noises), min(k, most_images // images if most_images else k))
            look = Look(first(seeds, n), first(noises, k))
            if look not in looks:
                looks.append(look)
        return cls(tuple(looks))


def first(seeds: Sequence[int], n: int) -> tuple[int, ...]:
    """The first n of these seeds, and after them the smallest others."""
    found = list(seeds[:n])
    other = (seed for seed in range(n + len(seeds)) if seed not in seeds)
    while len(found) < n:
        found.append(next(other))
    return tuple(found)


def cells_at_first(cells: Iterable[Cell], look: Look) -> list[Cell]:
    """What a grid has at its first look."""
    found: dict[Cell, None] = {}
    for cell in cells:
        seeds = look.seeds if cell.training.is_trained else (cell.training.seed,)
        for seed in seeds:
            found[replace(cell, training=replace(cell.training, seed=seed))] = None
    return list(found)


def open_effects(question: Question) -> list[MainEffect]:
    """The pairs of levels that more compute is spent on."""
    return [one for one in question.open if not (is_tie(one.effect) or is_out_of_reach(one.effect))]


def is_tie(effect: Effect) -> bool:
    """Whether the levels differ so little that no verdict is needed."""
    return effect.change.low > -TIE and effect.change.high < TIE


def is_out_of_reach(effect: Effect) -> bool:
    """Whether an effect is so small beside its error that the last look could hardly decide it, or
    networks contradict each other, which no images mend: stopping there makes no verdict false."""
    if effect.reason == DISAGREE:
        return True
    if effect.covers == SAMPLING:
        times = effect.images_needed()
        return times is not None and times > BEYOND * TIMES[-1]
    needed = effect.seeds_needed()
    return np.isfinite(effect.p) and (needed is None or needed > BEYOND * SEEDS[-1])


def added_by(study: Study, look: Look) -> list[Cell]:
    """The cells that a further look adds to a study: training seeds to the pairs of levels that are
    open and retrain, sampling seeds to the configurations that are open and do not."""
    found: dict[Cell, None] = {}
    known = {one.cell for one in study.results}
    for question in questions(study):
        for effect in open_effects(question):
            for comparison in effect.comparisons:
                if not question.factor.retrains and comparison.winner is not None:
                    continue
                for one in (*comparison.first.cells, *comparison.second.cells):
                    for cell in _more(one.cell, question.factor.retrains, look):
                        if cell not in known:
                            found[cell] = None
    return list(found)


def _more(cell: Cell, retrains: bool, look: Look) -> Iterable[Cell]:
    if retrains and cell.training.is_trained:
        if cell.sampling_seed != look.sampling_seeds[0]:
            return
        for seed in look.seeds:
            yield replace(cell, training=replace(cell.training, seed=seed))
    else:
        for noise in look.sampling_seeds:
            yield replace(cell, sampling_seed=noise)
