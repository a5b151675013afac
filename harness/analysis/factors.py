"""The factors of a grid: the configurations by the levels of one and by all else, and the effects
between its levels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.configurations import Configuration
from harness.analysis.decisions import (
    NO_PAIR,
    SAMPLING,
    UNMEASURED,
    Effect,
    Pair,
    seed_effects,
)
from harness.analysis.pairs import Group, mean_size, sampling_effect
from harness.analysis.study import OF_THE_TRAINING
from harness.work.results import CellResult

Level = str | int | float
Rest = tuple[Level, ...]  # the levels of all other factors
Table = Mapping[Level, Mapping[Rest, Configuration]]
Effects = tuple[dict[Pair, Effect], dict[Pair, tuple[Effect, ...]]]


@dataclass(frozen=True)
class Factor:
    """Something that a grid may vary."""

    name: str
    of: Callable[[Configuration], Level]
    retrains: bool = False
    is_ordered: bool = False  # each level is compared with the next alone


def _of_training(name: str) -> Factor:
    def value(one: Configuration) -> Level:
        found = getattr(one.cells[0].cell.training, name)
        return found if isinstance(found, int | float) else str(found)

    return Factor(name, value, retrains=True)


MATCHED, MISMATCHED = "its own schedule", "another schedule"
SAMPLED_UNDER = Factor(
    "schedule sampled under", lambda one: MATCHED if one.is_matched else MISMATCHED
)
FACTORS = (
    _of_training("schedule"),
    *map(_of_training, OF_THE_TRAINING),
    Factor("sampler", lambda one: one.kind),
    Factor("steps", lambda one: one.steps, is_ordered=True),
    Factor("spacing", lambda one: one.spacing),
    Factor("clip", lambda one: str(one.cells[0].cell.clip)),
    SAMPLED_UNDER,
)

_NOTHING = Effect(np.nan, np.nan, np.nan, 0, SAMPLING, reason=NO_PAIR)


def by_axes(everything: Sequence[Configuration], factor: Factor) -> Table:
    """The configurations by the level of this factor and by all else."""
    found: dict[Level, dict[Rest, Configuration]] = {}
    for one in everything:
        rest = tuple(other.of(one) for other in FACTORS if other is not factor)
        found.setdefault(factor.of(one), {})[*rest, "" if one.is_matched else one.sampled] = one
    return found


def sampled_under(everything: Sequence[Configuration]) -> Table:
    """Each network under each other schedule, and the same under its own."""
    others = [other for other in FACTORS if other is not SAMPLED_UNDER]
    own = {tuple(f.of(one) for f in others): one for one in everything if one.is_matched}
    found: dict[Level, dict[Rest, Configuration]] = {MATCHED: {}, MISMATCHED: {}}
    for one in everything:
        place = tuple(f.of(one) for f in others)
        if not one.is_matched and place in own:
            found[MATCHED][*place, one.sampled] = own[place]
            found[MISMATCHED][*place, one.sampled] = one
    return found if found[MISMATCHED] else {}


def effects_of(
    rows: Sequence[Mapping[Rest, Configuration]],
    rests: Sequence[Rest],
    pairs: Sequence[Pair],
    retrains: bool,
) -> Effects:
    """The main effect of each pair of levels and its effect in each configuration, not judged: over
    training seeds for what retrains, else image by image on the networks at hand."""
    everything = [one for row in rows for one in row.values()]
    lower = all(one.lower_is_better for one in everything)
    is_untrained = not any(one.is_trained for one in everything)
    if everything and (is_untrained or not retrains):
        main, details = _sampling_effects(rows, rests, pairs, is_untrained)
        found = [one for effects in details.values() for one in effects if one.n]
        if is_untrained or any(one.reason != UNMEASURED for one in found):
            return main, details
    seeds = sorted({seed for one in everything for seed in one.corrected})
    values = np.full((len(rows), len(seeds), len(rests)), np.nan)
    for level, row in enumerate(rows):
        for place, rest in enumerate(rests):
            if rest in row:
                known = row[rest].corrected
                values[level, :, place] = [known.get(seed, np.nan) for seed in seeds]
    return seed_effects(values, pairs, lower)


def _sampling_effects(
    rows: Sequence[Mapping[Rest, Configuration]],
    rests: Sequence[Rest],
    pairs: Sequence[Pair],
    is_untrained: bool,
) -> Effects:
    sizes = [mean_size([row[rest].mean for row in rows if rest in row]) for rest in rests]
    main, details = {}, {}
    metric = next(one.metric for row in rows for one in row.values())
    for pair in pairs:
        one, other = rows[pair[0]], rows[pair[1]]
        groups = [
            cell_pairs(one[rest].cells, other[rest].cells, is_untrained)
            if rest in one and rest in other
            else []
            for rest in rests
        ]
        details[pair] = tuple(
            sampling_effect([group], metric, [size]) if group else _NOTHING
            for group, size in zip(groups, sizes, strict=True)
        )
        there = [(group, size) for group, size in zip(groups, sizes, strict=True) if group]
        main[pair] = (
            sampling_effect([group for group, _ in there], metric, [size for _, size in there])
            if there
            else _NOTHING
        )
    return main, details


def cell_pairs(
    first: Iterable[CellResult], second: Iterable[CellResult], is_untrained: bool = False
) -> Group:
    """The cells of one training, or of none, that start from the same noise."""

    def place(one: CellResult) -> tuple[object, int]:
        return None if is_untrained else one.cell.training, one.cell.sampling_seed

    partner = {place(one): one for one in second}
    return [(one, partner[place(one)]) for one in first if place(one) in partner]
