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
from harness.plan.grid_fields import LONGEST_LIST, Axes, GridFields, RecipeAxes, TrainingFields
from harness.work.cells import EXACT, UNTRAINED, Cell, Param, Part, Scaling, Training
from harness.work.filters import equals, field_named

MOST_CELLS = 100_000
AXES = tuple(name for name in Axes.model_fields if name != "training")
RECIPE = tuple(RecipeAxes.model_fields)  # of a training, what may be lists

AXES_AS_WRITTEN = (*AXES, *(f"training.{name}" for name in RECIPE))

Trainer = Callable[[Part, Part, int], Training]


@cache
def affordable(sampler: Part, budget: int) -> int:
    """The most steps that so many network evaluations afford."""
    return steps_within(sampler.name, budget, **sampler.keywords)


@dataclass(frozen=True)
class Block:
    """Lists that multiply to cells: those of the grid itself or of one of its additions."""

    training: TrainingFields
    scale: Sequence[Scaling]
    model: Sequence[Part]
    schedules: Sequence[Part]
    sample_schedules: Sequence[Part | Literal["same"]]
    samplers: Sequence[Part]
    spacing: Sequence[Part]
    clip: Sequence[bool | Part]
    steps: Sequence[int]
    seeds: Sequence[int]
    sampling_seeds: Sequence[int]


def check_size(fields: Mapping[str, Any]) -> None:
    """Raises ValueError where the lists of a grid as it was written make too many cells, before
    anything is looked up or multiplied."""
    include = fields.get("include")
    additions = include if isinstance(include, list) else []
    own = lists_of(fields)
    size = 0
    for more in [fields, *(entry for entry in additions if isinstance(entry, dict))]:
        lists = lists_of(more)
        for name, items in lists.items():
            if len(items) > LONGEST_LIST:
                raise ValueError(
                    f"{name}: the list has {len(items):,} items. Use at most {LONGEST_LIST:,}."
                )
        axes = own | lists
        size += prod(len(axes[name]) for name in AXES_AS_WRITTEN if name in axes)
    if size > MOST_CELLS:
        raise ValueError(
            f"the lists multiply to {size:,} cells. Use lists that make at most {MOST_CELLS:,}."
        )


def lists_of(fields: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What is written, each as a list, by its name in the file: `steps`, `training.ema`."""
    training = fields.get("training")
    recipe = training if isinstance(training, dict) else {}
    everything = {**fields, **{f"training.{name}": value for name, value in recipe.items()}}
    return {
        name: value if isinstance(value, list) else [value]
        for name, value in everything.items()
        if value is not None
    }


def blocks(grid: GridFields) -> list[Block]:
    """The lists of the grid itself and of each of its additions."""
    lists = {name: getattr(grid, name) for name in AXES} | {"model": grid.networks}
    own = Block(grid.training, **lists)
    return [own] + [
        replace(own, training=own.training.model_copy(update=given(more.training, RECIPE)),
                **given(more, AXES))
        for more in grid.include
    ]  # fmt: skip


def given(more: Axes | RecipeAxes, names: Iterable[str]) -> dict[str, Any]:
    """Those of these lists of an addition that it has itself."""
    return {name: axis for name in names if (axis := getattr(more, name)) is not None}


def multiplied(grid: GridFields) -> list[Cell]:
    """The cells of all lists, each once, before any is excluded."""
    allowed = sorted({steps for block in blocks(grid) for steps in block.steps})
    counts_evaluations = grid.budget == "nfe"

    @cache
    def budget_of(sampler: Part, steps: int) -> int | None:
        """The fewest of the allowed evaluations that afford so many steps."""
        if not counts_evaluations:
            return None
        return allowed[bisect_left(allowed, steps, key=lambda b: affordable(sampler, b))]

    def cells() -> Iterator[Cell]:
        for block in blocks(grid):
            combinations = product(
                block.schedules, trainers(grid, block), block.seeds, block.sample_schedules,
                block.samplers, block.spacing, block.clip, block.steps, block.sampling_seeds,
            )  # fmt: skip
            for schedule, train, seed, under, sampler, spacing, clip, steps, noise in combinations:
                sample_schedule = schedule if under == "same" else under
                bought = affordable(sampler, steps) if counts_evaluations else steps
                yield Cell(
                    train(schedule, sample_schedule, seed),
                    sample_schedule=sample_schedule,
                    sampler=sampler,
                    spacing=spacing,
                    steps=bought,
                    images=grid.images,
                    sampling_seed=noise,
                    clip=clip,
                    extractor=grid.extractor,
                    reference=grid.reference,
                    budget=budget_of(sampler, bought),
                )

    return list(dict.fromkeys(cells()))


def trainers(grid: GridFields, block: Block) -> Iterator[Trainer]:
    """For each scale of the data, network and recipe of a block, what makes a training of them. No
    recipe multiplies what is not trained here."""
    for scale, model in product(block.scale, block.model):
        if model.name in UNTRAINED:
            precision = "float32" if model.name == EXACT else block.training.precision
            [untrained] = recipes(TrainingFields.model_validate({"precision": precision}))
            yield trainer(grid, model, untrained | {"training_steps": 0, "scale": scale})
        else:
            for recipe in recipes(block.training):
                yield trainer(grid, model, recipe | {"scale": scale})


def recipes(fields: TrainingFields) -> Iterator[dict[str, Any]]:
    """Every combination of the lists of a training, by the names that a Training has for them."""
    names = ["training_steps" if name == "steps" else name for name in RECIPE]
    for values in product(*(getattr(fields, name) for name in RECIPE)):
        yield {**dict(zip(names, values, strict=True)), "precision": fields.precision}


def trainer(grid: GridFields, model: Part, recipe: Mapping[str, Any]) -> Trainer:
    """Gives the training of a schedule, the schedule sampled under, and a seed. What is not trained
    here is the same whatever the grid says of seeds, and an exact denoiser whatever it says of
    schedules to train under, so that it is sampled once."""
    sources = TARGETS.source(recipe["target"]), LOSSES.source(recipe["loss"])

    @cache
    def training(schedule: Part, seed: int) -> Training:
        return Training(
            data=grid.data,
            model=model,
            schedule=schedule,
            seed=seed,
            named_sources="; ".join(filter(None, sources)),
            **recipe,
        )

    if model.name == EXACT:
        return lambda schedule, sampled_under, seed: training(sampled_under, 0)
    if model.name in UNTRAINED:
        return lambda schedule, sampled_under, seed: training(schedule, 0)
    return lambda schedule, sampled_under, seed: training(schedule, seed)


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
    fields = [cell.chosen_by() for cell in cells] if entries else []

    @cache
    def column(name: str) -> tuple[list[Param | None], NDArray[np.intp]]:
        """The values of a field, and the number of its value for each cell."""
        values: dict[Param | None, int] = {}
        numbers = [values.setdefault(each.get(name), len(values)) for each in fields]
        return list(values), np.array(numbers, dtype=np.intp)

    for entry in entries:
        holds = np.ones(len(cells), dtype=bool)
        for written, wanted in entry.items():
            name = field_named(written)
            texts = [str(item) for item in (wanted if isinstance(wanted, list) else [wanted])]
            values, numbers = column(name)
            meets = [any(equals(name, text, value) for text in texts) for value in values]
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
