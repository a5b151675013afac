"""The work of a benchmark as plain frozen values: what to train, what to sample and score.

Everything passes these around: the grid makes them, the engine does them, the tracker records
them. They can be compared, hashed and sent to another machine, and each has a content key, so
equal work is done once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

from harness.errors import BadOption
from harness.registry import suggestion

EXACT = "exact"  # the model that is no network and needs no training
RECIPE = 1  # raise it when a change to the code changes the results of the same work


@dataclass(frozen=True)
class Part:
    """A registered part with the options that differ from its defaults, in name order."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, name: str, options: Mapping[str, Any] | None = None) -> Self:
        return cls(name, tuple(sorted((options or {}).items())))

    @property
    def keywords(self) -> dict[str, Any]:
        return dict(self.options)

    @property
    def settings(self) -> str:
        """The options as text: `eta=0.5, clip=True`; empty where all are the defaults."""
        return ", ".join(f"{key}={value}" for key, value in self.options)

    def __str__(self) -> str:
        return f"{self.name}({self.settings})" if self.options else self.name


@dataclass(frozen=True)
class Work:
    """A piece of work that is named by its content."""

    @cached_property
    def key(self) -> str:
        """A short name for exactly this work, equal on every machine."""
        text = json.dumps({"recipe": RECIPE, **self.canonical()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def canonical(self) -> dict[str, Any]:
        """This value as JSON types; `from_canonical` reads it back."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


@dataclass(frozen=True)
class Training(Work):
    """One model to train; many cells share it."""

    data: Part
    model: Part
    schedule: Part
    target: str
    weighting: Part
    seed: int
    training_steps: int
    batch_size: int
    learning_rate: float
    ema: float  # decay of the average of the weights, per step
    precision: str
    loss: str = "mse"

    @property
    def is_exact(self) -> bool:
        """Whether there is nothing to train: the exact denoiser takes a network's place."""
        return self.model.name == EXACT

    @property
    def title(self) -> str:
        """What a person calls it."""
        return f"{self.schedule} {'exact' if self.is_exact else f'seed {self.seed}'}"

    @classmethod
    def from_canonical(cls, value: Mapping[str, Any]) -> Self:
        return cls(**_restored(value))

    def params(self) -> dict[str, Any]:
        """What a person filters by and the tracker shows, in the words of the grid file."""
        return {
            "data": str(self.data),
            "model": str(self.model),
            **_named("schedule", self.schedule),
            "target": self.target,
            "weighting": str(self.weighting),
            "loss_function": self.loss,  # `loss` is what it came to
            "seed": self.seed,
            "training_steps": self.training_steps,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "ema": self.ema,
            "precision": self.precision,
        }


@dataclass(frozen=True)
class Cell(Work):
    """One point of the benchmark: a trained model, sampled one way and scored."""

    training: Training
    sample_schedule: Part
    sampler: Part
    spacing: Part
    steps: int
    images: int
    sampling_seed: int
    clip: bool
    extractor: Part
    reference: str

    @property
    def title(self) -> str:
        """What a person calls it: what differs between the cells of most grids."""
        other = (
            "" if self.sample_schedule == self.training.schedule else f"as {self.sample_schedule} "
        )
        plural = "" if self.steps == 1 else "s"
        noise = f" noise {self.sampling_seed}" if self.sampling_seed else ""
        return (
            f"{self.training.title} {other}{self.sampler} {self.steps} step{plural} "
            f"{self.spacing}{noise}"
        )

    @classmethod
    def from_canonical(cls, value: Mapping[str, Any]) -> Self:
        rest = {key: item for key, item in value.items() if key != "training"}
        return cls(training=Training.from_canonical(value["training"]), **_restored(rest))

    def params(self) -> dict[str, Any]:
        """What a person filters by and the tracker shows, in the words of the grid file."""
        training = self.training.params()
        shared = ("data", "model", "schedule", "schedule_options", "seed", "target", "precision")
        eta = {"eta": self.sampler.keywords.get("eta", 0.0)} if self.sampler.name == "ddim" else {}
        return {
            **{name: training[name] for name in shared if name in training},
            **_named("sample_schedule", self.sample_schedule),
            **_named("sampler", self.sampler),
            **eta,
            **_named("spacing", self.spacing),
            "steps": self.steps,
            "images": self.images,
            "sampling_seed": self.sampling_seed,
            "clip": self.clip,
            "extractor": str(self.extractor),
            "reference": self.reference,
        }


@dataclass(frozen=True)
class Filter:
    """Which cells are meant: `schedule=cosine,steps=[10,50]`. All conditions must hold."""

    text: str

    @cached_property
    def conditions(self) -> dict[str, list[str]]:
        conditions: dict[str, list[str]] = {}
        for item in _split(self.text):
            name, equals, values = item.partition("=")
            name, values = name.strip(), values.strip()
            if (
                not equals
                or not name
                or not values
                or values.startswith("[") != values.endswith("]")
            ):
                raise BadOption(
                    f"the filter '{self.text}' is not of the form field=value,field=[value,value]"
                )
            if name in conditions:
                raise BadOption(
                    f"the filter '{self.text}' names {name} twice; several values are written "
                    f"{name}=[value,value]"
                )
            listed = values.startswith("[")
            conditions[name] = _split(values[1:-1]) if listed else [values]
        if not conditions:
            raise BadOption("the filter is empty; schedule=cosine,steps=[10,50] would do")
        return conditions

    def matches(self, cell: Cell) -> bool:
        check_fields(self.conditions)
        return meets(cell, self.conditions)

    def choose(self, cells: Iterable[Cell], of: str = "grid") -> list[Cell]:
        """The cells that match, in order. Raises BadOption where none does: a filter that names
        nothing is a slip of the pen."""
        cells = list(cells)
        chosen = [cell for cell in cells if self.matches(cell)]
        if not chosen:
            params = [cell.params() for cell in cells]
            present = "; ".join(
                f"{name} has {', '.join(dict.fromkeys(str(found.get(name)) for found in params))}"
                for name in self.conditions
            )
            raise BadOption(f"no cell of the {of} matches '{self.text}'. Here {present}.")
        return chosen


def check_fields(conditions: Iterable[str]) -> None:
    """Raises BadOption for a field that cells do not have."""
    for name in conditions:
        if name not in FILTER_FIELDS:
            raise BadOption(f"cells have no field '{name}'.{suggestion(name, FILTER_FIELDS)}")


def meets(cell: Cell, conditions: Mapping[str, Iterable[str]]) -> bool:
    """Whether each named field of the cell has one of the values, written as text."""
    params = cell.params()
    return all(
        any(_same(value, params.get(name)) for value in wanted)
        for name, wanted in conditions.items()
    )


FILTER_FIELDS = [
    "data", "model", "schedule", "schedule_options", "seed", "target", "precision",
    "sample_schedule", "sample_schedule_options", "sampler", "sampler_options", "eta", "spacing",
    "spacing_options", "steps", "images", "sampling_seed", "clip", "extractor", "reference",
]  # fmt: skip


def distinct_trainings(cells: Iterable[Cell]) -> list[Training]:
    """Each training once, in the order of the cells that need it; an exact denoiser needs none."""
    return list(dict.fromkeys(cell.training for cell in cells if not cell.training.is_exact))


def _named(role: str, part: Part) -> dict[str, str]:
    named = {role: part.name}
    return named | {f"{role}_options": part.settings} if part.options else named


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.keys() == {"name", "options"}:
            return {"name": value["name"], "options": _plain(dict(value["options"]))}
        return {key: _plain(item) for key, item in value.items()}
    return list(map(_plain, value)) if isinstance(value, list | tuple) else value


def _restored(value: Mapping[str, Any]) -> dict[str, Any]:
    def hashable(item: Any) -> Any:
        return tuple(map(hashable, item)) if isinstance(item, list) else item

    return {
        name: Part.of(item["name"], {key: hashable(o) for key, o in item["options"].items()})
        if isinstance(item, Mapping)
        else hashable(item)
        for name, item in value.items()
    }


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


def _same(wanted: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return wanted.lower() == str(value).lower()
    try:
        return float(wanted) == value
    except ValueError:
        return False
