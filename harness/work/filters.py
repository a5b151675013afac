"""Which cells are meant: `schedule=cosine,steps=[10,50]`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.errors import MOST_NAMES, BadOption, at_most, suggestion
from harness.work.cells import Cell, Param

FILTER_FIELDS = [
    "data", "model", "schedule", "schedule_options", "seed", "target", "precision", "weighting",
    "times", "loss_function", "training_steps", "batch_size", "optimizer", "learning_rate", "ema",
    "scale", "sample_schedule", "sample_schedule_options", "sampler", "sampler_options", "eta",
    "spacing", "spacing_options", "steps", "images", "sampling_seed", "clip", "extractor",
    "reference", "weights", "data_fingerprint", "extractor_fingerprint", "data_source",
    "model_source", "schedule_source", "weighting_source", "times_source", "sample_schedule_source",
    "sampler_source", "spacing_source", "clip_source", "extractor_source", "named_sources",
]  # fmt: skip

# What a grid calls by another name.
OTHER_NAMES = {
    **{f"training.{name}": name
       for name in ("target", "precision", "weighting", "times", "batch_size", "optimizer",
                    "learning_rate", "ema")},
    "loss": "loss_function",
    "training.loss": "loss_function",
    "training.steps": "training_steps",
}  # fmt: skip
# Two ways to write one value; the second is that of the cells.
SAME = {("clip", "static"): "true", ("scale", "1"): "range", ("scale", "1.0"): "range"}


@dataclass(frozen=True)
class Filter:
    """Conditions on fields of cells, all of which must hold; by the names of cells, whichever the
    text has. Raises BadOption for text that is no filter, or that names a field that cells do not
    have."""

    text: str

    @cached_property
    def conditions(self) -> dict[str, list[str]]:
        conditions: dict[str, list[str]] = {}
        for item in _split(self.text):
            name, equals, values = (part.strip() for part in item.partition("="))
            is_list = values.startswith("[")
            if not (equals and name and values) or is_list != values.endswith("]"):
                raise BadOption(
                    f"the filter '{self.text}' is not of the form field=value. "
                    "Use field=value,field=[value,value]."
                )
            name = field_named(name)
            if name in conditions:
                raise BadOption(
                    f"the filter '{self.text}' names {name} twice. Use {name}=[value,value]."
                )
            conditions[name] = _split(values[1:-1]) if is_list else [values]
        if not conditions:
            raise BadOption("the filter is empty. Use a condition such as schedule=cosine.")
        return conditions

    @property
    def names_model(self) -> bool:
        """Whether it says itself which denoisers it means."""
        return not self.conditions.keys().isdisjoint({"model", "model_source"})

    def matches(self, cell: Cell) -> bool:
        check_fields(self.conditions)
        return meets(cell, self.conditions)

    def choose(self, cells: Iterable[Cell], of: str = "grid") -> list[Cell]:
        """The cells that match, in order. Raises BadOption where none does: a filter that names
        nothing is a slip of the pen."""
        cells = list(cells)
        chosen = [cell for cell in cells if self.matches(cell)]
        if not chosen:
            fields = [cell.chosen_by() for cell in cells]
            values = {
                name: list(dict.fromkeys(str(found[name]) for found in fields if name in found))
                for name in self.conditions
            }
            present = "; ".join(
                f"{name} has {', '.join(at_most(there, MOST_NAMES)) or 'no value'}"
                for name, there in values.items()
            )
            raise BadOption(f"no cell of the {of} matches '{self.text}'. Here {present}.")
        return chosen


def check_fields(names: Iterable[str]) -> None:
    """Raises BadOption for a field that cells do not have."""
    for name in names:
        if field_named(name) not in FILTER_FIELDS:
            raise BadOption(f"cells have no field '{name}'.{suggestion(name, FILTER_FIELDS)}")


def field_named(name: str) -> str:
    """The name that cells have for a field that a grid may call by another."""
    return OTHER_NAMES.get(name, name)


def meets(cell: Cell, conditions: Mapping[str, Iterable[str]]) -> bool:
    """Whether each named field of the cell has one of the values, written as text."""
    fields = cell.chosen_by()
    return all(
        any(equals(name, value, fields.get(name)) for value in wanted)
        for name, wanted in conditions.items()
    )


def _split(text: str) -> list[str]:
    """Split at the commas that stand outside brackets."""
    items, depth = [""], 0
    for letter in text:
        depth += (letter in "[(") - (letter in ")]")
        if letter == "," and depth == 0:
            items.append("")
        else:
            items[-1] += letter
    return [item.strip() for item in items if item.strip()]


def equals(name: str, wanted: str, value: Param | None) -> bool:
    """Whether a value of the field of this name is the one that was written as text."""
    wanted = SAME.get((name, wanted), wanted)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return wanted.lower() == str(value).lower()
    try:
        return float(wanted) == value
    except ValueError:
        return False
