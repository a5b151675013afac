"""From the fields of a grid to its cells: lists multiply, `include` adds, `exclude` takes away."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.diffusion.objective import LOSSES, TARGETS
from harness.diffusion.samplers import steps_within
from harness.plan.grid_fields import LONGEST_LIST, Axes, GridFields, TrainingFields
from harness.work.cells import EXACT, Cell, Param, Part, Training
from harness.work.filters import equals

MOST_CELLS = 100_000
AXES = tuple(Axes.model_fields)

affordable = cache(steps_within)


@dataclass(frozen=True)
class Block:
    """Lists that multiply to cells: those of the grid itself or of one of its additions."""

    model: Part
    schedules: Sequence[Part]
    sample_schedules: Sequence[Part | Literal["same"]]
    samplers: Sequence[Part]
    spacing: Sequence[Part]
    steps: Sequence[int]
    seeds: Sequence[int]
    sampling_seeds: Sequence[int]


def check_size(fields: Mapping[str, Any]) -> None:
    """Raises ValueError where the lists of a grid as it was written make too many cells, before
    anything is looked up or multiplied."""
    include = fields.get("include")
    additions = include if isinstance(include, list) else []
    own = {name: fields.get(name) for name in AXES}
    size = 0
    for more in [fields, *(entry for entry in additions if isinstance(entry, dict))]:
        for name, value in more.items():
            if isinstance(value, list) and len(value) > LONGEST_LIST:
                raise ValueError(
                    f"{name}: the list has {len(value):,} items. Use at most {LONGEST_LIST:,}."
                )
        axes = own | {name: more[name] for name in AXES if more.get(name) is not None}
        size += prod(len(axis) for axis in axes.values() if isinstance(axis, list))
    if size > MOST_CELLS:
        raise ValueError(
            f"the lists multiply to {size:,} cells. Use lists that make at most {MOST_CELLS:,}."
        )


def blocks(grid: GridFields) -> list[Block]:
    """The lists of the grid itself and of each of its additions."""
    own = Block(**{name: getattr(grid, name) for name in AXES} | {"model": grid.network})
    return [own] + [
        replace(own, **{name: axis for name in AXES if (axis := getattr(more, name)) is not None})
        for more in grid.include
    ]


def multiplied(grid: GridFields) -> list[Cell]:
    """The cells of all lists, each once, before any is excluded."""
    allowed = sorted({steps for block in blocks(grid) for steps in block.steps})
    counts_evaluations = grid.budget == "nfe"

    @cache
    def budget_of(sampler: str, steps: int) -> int | None:
        """The fewest of the allowed evaluations that afford so many steps."""
        if not counts_evaluations:
            return None
        return allowed[bisect_left(allowed, steps, key=lambda b: affordable(sampler, b))]

    def cells() -> Iterator[Cell]:
        for block in blocks(grid):
            train = trainer(grid, block.model)
            for schedule, seed, under, sampler, spacing, steps, sampling_seed in product(
                block.schedules, block.seeds, block.sample_schedules, block.samplers,
                block.spacing, block.steps, block.sampling_seeds,
            ):  # fmt: skip
                sample_schedule = schedule if under == "same" else under
                bought = affordable(sampler.name, steps) if counts_evaluations else steps
                yield Cell(
                    train(schedule, sample_schedule, seed),
                    sample_schedule=sample_schedule,
                    sampler=sampler,
                    spacing=spacing,
                    steps=bought,
                    images=grid.images,
                    sampling_seed=sampling_seed,
                    clip=grid.clip,
                    extractor=grid.extractor,
                    reference=grid.reference,
                    budget=budget_of(sampler.name, bought),
                )

    return list(dict.fromkeys(cells()))


def trainer(grid: GridFields, model: Part) -> Callable[[Part, Part, int], Training]:
    """Gives the training of a schedule, the schedule sampled under, and a seed. An exact denoiser
    is the same whatever the grid says of training, seeds and schedules to train under included, so
    that it is sampled once."""
    is_exact = model.name == EXACT
    if is_exact:
        fields, steps = TrainingFields.model_validate({"precision": "float32"}), 0
    else:
        fields, steps = grid.training, grid.training.steps
    sources = TARGETS.source(fields.target), LOSSES.source(fields.loss)

    @cache
    def training(schedule: Part, seed: int) -> Training:
        return Training(
            data=grid.data,
            model=model,
            schedule=schedule,
            target=fields.target,
            weighting=fields.weighting,
            seed=seed,
            training_steps=steps,
            batch_size=fields.batch_size,
            learning_rate=fields.learning_rate,
            ema=fields.ema,
            precision=fields.precision,
            loss=fields.loss,
            named_sources="; ".join(filter(None, sources)),
        )

    return lambda schedule, sampled_under, seed: (
        training(sampled_under, 0) if is_exact else training(schedule, seed)
    )


def kept(cells: Sequence[Cell], exclude: Sequence[Mapping[str, object]]) -> list[Cell]:
    """The cells that no entry of `exclude` matches. Raises ValueError for an entry that matches
    none, and where no cell is left."""
    gone = np.zeros(len(cells), dtype=bool)
    for entry, matches in zip(exclude, matching(cells, exclude), strict=True):
        if not matches.any():
            raise ValueError(
                f"exclude: no cell matches {dict(entry)}. Use values that the lists have."
            )
        gone |= matches
    if gone.all():
        raise ValueError("exclude: no cell is left. Use entries that match fewer.")
    return [cell for cell, is_gone in zip(cells, gone.tolist(), strict=True) if not is_gone]


def matching(
    cells: Sequence[Cell], entries: Sequence[Mapping[str, object]]
) -> Iterator[NDArray[np.bool_]]:
    """For each entry, whether all that it says holds of each cell. Column by column, since there
    may be a hundred million pairs."""
    fields = [cell.fields() for cell in cells] if entries else []

    @cache
    def column(name: str) -> tuple[list[Param | None], NDArray[np.intp]]:
        """The values of a field, and the number of its value for each cell."""
        values: dict[Param | None, int] = {}
        numbers = [values.setdefault(each.get(name), len(values)) for each in fields]
        return list(values), np.array(numbers, dtype=np.intp)

    for entry in entries:
        holds = np.ones(len(cells), dtype=bool)
        for name, wanted in entry.items():
            texts = [str(item) for item in (wanted if isinstance(wanted, list) else [wanted])]
            values, numbers = column(name)
            meets = [any(equals(text, value) for text in texts) for value in values]
            holds &= np.array(meets)[numbers]
        yield holds


def by_training(cells: Iterable[Cell]) -> list[Cell]:
    """The cells in their order, but those of one training side by side, and all trainings of one
    seed before those of the next: what differs between trainings can be compared after each seed.
    """
    seeds: dict[int, dict[Training, list[Cell]]] = {}
    for cell in cells:
        trainings = seeds.setdefault(cell.training.seed, {})
        trainings.setdefault(cell.training, []).append(cell)
    return [cell for trainings in seeds.values() for group in trainings.values() for cell in group]
