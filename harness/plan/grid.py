"""The grid: what a person writes in YAML, checked at the door and expanded into work.

All problems are reported at once, each with its field, the value given and what to use. Nothing
else in the program sees YAML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import BaseModel, PrivateAttr, ValidationError, field_validator, model_validator

from harness.errors import GridError, at_most
from harness.plan.contradictions import contradictions
from harness.plan.expand import MOST_CELLS, by_training, check_size, kept, multiplied
from harness.plan.grid_fields import Axes, GridFields, RecipeAxes, TrainingFields
from harness.plan.grid_file import (
    MOST_PROBLEMS,
    as_override,
    as_yaml,
    changed,
    fields_of,
    read_text,
    words_of,
)
from harness.plan.shipped import grid_path
from harness.work.cells import Cell
from harness.work.filters import check_fields

__all__ = ["MOST_CELLS", "Grid", "expand", "load_grid"]


class Grid(GridFields):
    """Every combination of the lists is one cell of the benchmark."""

    _text: str = PrivateAttr("")
    _file: str = PrivateAttr("")  # as it was named; empty where there was none
    _overrides: tuple[str, ...] = PrivateAttr(())
    _cells: tuple[Cell, ...] = PrivateAttr(())

    @property
    def text(self) -> str:
        """The grid as it was written, with what was changed when it was read."""
        return changed(self._overrides) + self._text

    @property
    def file(self) -> str:
        """The file that it was read from, as it was named, or one that it could be saved as."""
        return self._file or f"{self.name}.yaml"

    @property
    def overrides(self) -> tuple[str, ...]:
        """What was changed when it was read, as on the command line."""
        return self._overrides

    @model_validator(mode="before")
    @classmethod
    def _can_be_expanded(cls, fields: Any) -> Any:
        if isinstance(fields, dict):
            check_size(fields)
        return fields

    @field_validator("name")
    @classmethod
    def _is_no_name_of_mlflow(cls, name: str) -> str:
        if name == "Default":
            raise ValueError("'Default' is MLflow's own experiment. Use another name.")
        return name

    @field_validator("exclude")
    @classmethod
    def _exclusions_can_be_read(cls, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for entry in entries:
            check_fields(entry)
        return entries

    @model_validator(mode="after")
    def _is_a_benchmark(self) -> Grid:
        cells = kept(multiplied(self), self.exclude)
        wrong = dict.fromkeys(contradictions(cells, {*self.steps}, self.metrics))
        if wrong:
            raise ValueError("\n  ".join(at_most(list(wrong), MOST_PROBLEMS)))
        self._cells = tuple(by_training(cells))
        return self


def load_grid(
    source: Grid | str | PathLike[str] | Mapping[str, Any],
    overrides: Sequence[str] = (),
    **fields: Any,
) -> Grid:
    """Read and check a grid: a file, its text (of several lines), its fields, or another grid.

    A name alone stands for the grid of that name that comes with the program. `overrides` change
    fields as on the command line, `training.steps=200`, with YAML values; `fields` do so in Python,
    `steps=[5, 10]` or `training={"steps": 200}`. Raises GridError listing every problem.
    """
    text, where, before, file = _read(source)
    changes = [*before, *overrides, *(o for one in fields.items() for o in as_override(*one))]
    try:
        grid = Grid.model_validate(fields_of(text, where, changes))
    except ValidationError as error:
        within: dict[tuple[str, ...], type[BaseModel]] = {
            ("training",): TrainingFields,
            ("include",): Axes,
            ("include", "training"): RecipeAxes,
        }
        raise GridError(words_of(error, where, Grid, within)) from None
    grid._text, grid._overrides, grid._file = text, tuple(changes), file
    return grid


def _read(source: object) -> tuple[str, str, Sequence[str], str]:
    """The text of a grid, how a message calls it, what is changed in it already, and its file."""
    if isinstance(source, Grid):
        return source._text, f"the grid '{source.name}'", source._overrides, source._file
    if isinstance(source, Mapping):
        return as_yaml(source), "what was given", (), ""
    if isinstance(source, str) and "\n" in source:
        return source, "the text", (), ""
    if isinstance(source, str | PathLike):
        path = grid_path(Path(source))
        return read_text(path), str(path), (), str(source)
    raise GridError(
        f"a value of type {type(source).__name__} is no grid. Use the path of a grid file, its "
        "text or its fields as a dict."
    )


def expand(grid: Grid) -> list[Cell]:
    """All cells, each once, in the order of the work: by seed, and by training."""
    return list(grid._cells)
