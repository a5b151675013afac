"""The grid: what a person writes in YAML, checked at the door and expanded into work.

All problems are reported at once, each with its field, the value given and what to use. Nothing
else in the program sees YAML.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, PrivateAttr, ValidationError, field_validator, model_validator

from harness.errors import GridError, at_most
from harness.plan.contradictions import contradictions
from harness.plan.expand import MOST_CELLS, by_training, check_size, kept, multiplied
from harness.plan.grid_fields import Axes, GridFields, RecipeAxes, TrainingFields
from harness.plan.grid_file import MOST_PROBLEMS, changed, fields_of, read_text, words_of
from harness.work.cells import Cell
from harness.work.filters import check_fields

__all__ = ["MOST_CELLS", "Grid", "expand", "load_grid"]


class Grid(GridFields):
    """Every combination of the lists is one cell of the benchmark."""

    _text: str = PrivateAttr("")
    _cells: tuple[Cell, ...] = PrivateAttr(())

    @property
    def text(self) -> str:
        """The grid as it was written, with what the command line changed."""
        return self._text

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


def load_grid(path: Path | str, overrides: Sequence[str] = ()) -> Grid:
    """Read and check a grid file; `overrides` are `field=value` with YAML values, such as
    `training.steps=200`. Raises GridError listing every problem."""
    path = Path(path)
    text = read_text(path)
    fields = fields_of(text, path, overrides)
    try:
        grid = Grid.model_validate(fields)
    except ValidationError as error:
        within: dict[tuple[str, ...], type[BaseModel]] = {
            ("training",): TrainingFields,
            ("include",): Axes,
            ("include", "training"): RecipeAxes,
        }
        raise GridError(words_of(error, path, Grid, within)) from None
    grid._text = changed(overrides) + text
    return grid


def expand(grid: Grid) -> list[Cell]:
    """All cells, each once, in the order of the work: by seed, and by training."""
    return list(grid._cells)
