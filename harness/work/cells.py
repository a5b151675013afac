"""What is asked for, as plain frozen values: what to train, what to sample and score.

Everything passes these around: the grid makes them, the engine does them, the tracker records
them. They can be compared, hashed and sent to another machine, and each has a content key, so
equal work is done once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Self

from harness.work.looks import Look

EXACT = "exact"  # the model that is no network
GIVEN = "diffusers"  # the model whose network was trained elsewhere and comes as a folder
UNTRAINED = frozenset({EXACT, GIVEN})  # models that need no training here
RESULT_VERSION = 2  # raise it when a change to the code changes the results of the same work

FINGERPRINT = 12  # letters of a fingerprint
ADAMW = "adamw"  # the optimiser, before another could be asked for
UNIFORM = "uniform"  # the density of training times, before others could be asked for

Scalar = bool | int | float | str
OptionValue = Scalar | tuple[Scalar, ...]
Weights = Literal["final", "0.9"]
Scaling = Literal["unit", "range"] | float
Param = str | int | float | bool


@dataclass(frozen=True)
class Part:
    """A registered part with the options that differ from its defaults, in name order.

    `source` names the distribution, version and code of a part of another package, so that results
    of another formula are other work; it is empty for built-in parts.
    """

    name: str
    options: tuple[tuple[str, OptionValue], ...] = ()
    source: str = ""

    @classmethod
    def of(
        cls, name: str, options: Mapping[str, OptionValue] | None = None, source: str = ""
    ) -> Self:
        return cls(name, tuple(sorted((options or {}).items())), source)

    @property
    def keywords(self) -> dict[str, Any]:
        return dict(self.options)

    @cached_property
    def settings(self) -> str:
        """The options as text: `eta=0.5, clip=True`; empty where all are the defaults."""
        return ", ".join(f"{key}={_shown(value)}" for key, value in self.options)

    def __str__(self) -> str:
        return f"{self.name}({self.settings})" if self.options else self.name

    # All cells of a grid share its parts, whose lists may be long: hashed once for each.
    @cached_property
    def _hash(self) -> int:
        return hash((self.name, self.options, self.source))

    def __hash__(self) -> int:
        return self._hash

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: another process has other hashes."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


# Fields that came later, with what was done before: with that value they are not in the key, so
# that earlier results stay those of the same work.
ADDED: Mapping[str, object] = {
    "scale": "range", "times": Part(UNIFORM), "model_fingerprint": "", "optimizer": ADAMW,
}  # fmt: skip

STATIC = Part("static")  # the clip that `true` stands for


@dataclass(frozen=True)
class Work:
    """A piece of work that is named by its content."""

    @cached_property
    def key(self) -> str:
        """A short name for exactly this work, equal on every machine: of its fields, of the
        fingerprints among them, and of RESULT_VERSION."""
        content = {"result_version": RESULT_VERSION, **_content(self)}
        content.pop("budget", None)  # how a number of steps was chosen changes no image
        text = json.dumps(content, sort_keys=True, default=_content)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _content(value: Work | Part) -> dict[str, object]:
    """The fields of a value that its key depends on, parts and trainings as they are."""
    fields = {name: getattr(value, name) for name in value.__dataclass_fields__}
    for name in [name for name, before in ADDED.items() if fields.get(name) == before]:
        del fields[name]
    return fields


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
    times: Part = Part(UNIFORM)  # the density of the times that it is trained at
    named_sources: str = ""  # as Part.source, of a target and a loss of other packages
    data_fingerprint: str = ""  # sha256 of the images, once they have been looked at
    scale: Scaling = "range"  # in which units the network sees the images
    # sha256 of a network that was trained elsewhere, once it has been looked at
    model_fingerprint: str = ""
    optimizer: str = ADAMW

    @property
    def is_trained(self) -> bool:
        """Whether a network is trained here: else there is no recipe and no training seed."""
        return self.model.name not in UNTRAINED

    @property
    def is_exact(self) -> bool:
        """Whether the exact denoiser takes a network's place."""
        return self.model.name == EXACT

    @property
    def is_given(self) -> bool:
        """Whether its network was trained elsewhere."""
        return self.model.name == GIVEN

    @property
    def origin(self) -> str:
        """Which of the denoisers under one schedule it is: `seed 0`, `exact`, or the name of the
        folder that a network came in."""
        return f"seed {self.seed}" if self.is_trained else folder_of(self.model) or self.model.name

    @property
    def title(self) -> str:
        """Names the training for a person: `linear, seed 0`."""
        return f"{self.schedule}, {self.origin}"

    def as_written(self) -> Self:
        """The training as a grid names it, before its images and network have been looked at: a
        network that was trained elsewhere says itself what it predicts."""
        plain = replace(self, data_fingerprint="", model_fingerprint="")
        return replace(plain, model=by_name(self.model), target="") if self.is_given else plain

    def identity(self) -> dict[str, Param]:
        """What tells it from other work of the same names: the fingerprint of its images, and the
        sources of parts of other packages."""
        parts = {"data": self.data, "model": self.model, "schedule": self.schedule,
                 "weighting": self.weighting, "times": self.times}  # fmt: skip
        found = _sources(parts) | {
            "data_fingerprint": self.data_fingerprint[:FINGERPRINT],
            "model_fingerprint": self.model_fingerprint[:FINGERPRINT],
            "named_sources": self.named_sources,
        }
        return {name: value for name, value in found.items() if value}

    def params(self) -> dict[str, Param]:
        """The fields in the words of the grid file, for filters and for the tracker."""
        return {
            "data": str(self.data),
            "scale": self.scale,
            "model": str(self.model),
            **_named("schedule", self.schedule),
            "target": self.target,
            "weighting": str(self.weighting),
            "times": str(self.times),
            "loss_function": self.loss,  # `loss` is the metric
            "seed": self.seed,
            "training_steps": self.training_steps,
            "batch_size": self.batch_size,
            "optimizer": self.optimizer,
            "learning_rate": self.learning_rate,
            "ema": self.ema,
            "precision": self.precision,
        }

    def fields(self) -> dict[str, Param]:
        """All that tells it from others, in those words."""
        return self.params() | self.identity()


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
    clip: bool | Part  # True is the part `static`: the key is that of when there was no other
    extractor: Part
    reference: str
    weights: Weights = "final"  # of the training, or its average after nine tenths of it
    extractor_fingerprint: str = ""  # sha256 of its weights, once they have been looked at
    # The network evaluations that a grid allows, where it counts those.
    budget: int | None = field(default=None, compare=False)

    @property
    def is_matched(self) -> bool:
        """Whether it is sampled under the schedule that its network was trained under."""
        return self.sample_schedule == self.training.schedule

    @property
    def clipping(self) -> Part | None:
        """What keeps its estimates in the range of the data, if anything."""
        return STATIC if self.clip is True else self.clip or None

    @property
    def title(self) -> str:
        """Names the cell for a person: `linear, ddim, 5 steps, seed 0`."""
        training = self.training
        parts = [
            str(training.schedule)
            + ("" if self.is_matched else f" sampled as {self.sample_schedule}"),
            str(self.sampler),
            f"{self.steps:,} step{'' if self.steps == 1 else 's'}",
            training.origin,
        ]
        parts += [f"sampling seed {self.sampling_seed}"] * bool(self.sampling_seed)
        parts += ["weights at 0.9 of the training"] * (self.weights != "final")
        return ", ".join(parts)

    @property
    def fit_name(self) -> str:
        """A name for all, beside the training, that steps fitted to its network depend on."""
        clip = self.clip if isinstance(self.clip, bool) else asdict(self.clip)
        parts = [asdict(self.sample_schedule), asdict(self.spacing), self.weights, clip]
        text = json.dumps([RESULT_VERSION, *parts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def identity(self) -> dict[str, Param]:
        """What tells it from other work of the same names, as of a training."""
        parts = {"sample_schedule": self.sample_schedule, "sampler": self.sampler,
                 "spacing": self.spacing, "extractor": self.extractor}  # fmt: skip
        if self.clipping:
            parts["clip"] = self.clipping
        found = self.training.identity() | _sources(parts)
        if self.extractor_fingerprint:
            found["extractor_fingerprint"] = self.extractor_fingerprint[:FINGERPRINT]
        return found

    def params(self) -> dict[str, Param]:
        """The fields in the words of the grid file, as the tracker shows them."""
        training = self.training.params()
        shared = ["data", "scale", "model", "schedule", "schedule_options", "seed", "target",
                  "precision"]  # fmt: skip
        if self.training.is_trained:
            shared += ["weighting", "times", "loss_function", "training_steps", "batch_size",
                       "optimizer", "learning_rate", "ema"]  # fmt: skip
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
            "clip": self.clip if isinstance(self.clip, bool) else str(self.clip),
            "extractor": str(self.extractor),
            "reference": self.reference,
            **({"weights": self.weights} if self.weights != "final" else {}),
        }

    def fields(self) -> dict[str, Param]:
        """The params of the cell and of its training, and what else tells it from others."""
        return self.training.params() | self.params() | self.identity()

    def chosen_by(self) -> dict[str, Param]:
        """What a filter goes by: no recipe and no training seed of what is not trained, and no
        target of an exact denoiser."""
        if self.training.is_trained:
            return self.fields()
        own = self.params() | self.identity()
        del own["seed"]
        if self.training.is_exact:
            del own["target"]
        return own


def folder_of(model: Part) -> str:
    """The name of the folder that a model comes in, without where it is; empty where it comes in
    none."""
    path = model.keywords.get("path")
    return os.path.basename(os.path.abspath(path)) if path else ""


def by_name(model: Part) -> Part:
    """The model with the name of its folder in the place of the path: where that lies is no part of
    the work."""
    if not (name := folder_of(model)):
        return model
    return Part.of(model.name, model.keywords | {"path": name}, model.source)


def denoiser_name(training: Training) -> str:
    """What estimates images where nothing is trained: `the exact denoiser`, `the network NAME`."""
    return "the exact denoiser" if training.is_exact else f"the network {training.origin}"


def training_of(work: Training | Cell) -> Training:
    return work if isinstance(work, Training) else work.training


def distinct_trainings(cells: Iterable[Cell]) -> list[Training]:
    """Each training once, in the order of the cells that need it; what is not trained here needs
    none."""
    return list(dict.fromkeys(cell.training for cell in cells if cell.training.is_trained))


def trained_together(trainings: Iterable[Training]) -> list[tuple[Training, ...]]:
    """The trainings in groups of those that differ in the decay of their averages alone, the lowest
    first: the same steps make all averages of a group."""
    groups: dict[Training, list[Training]] = {}
    for one in trainings:
        groups.setdefault(replace(one, ema=0.0), []).append(one)
    return [tuple(sorted(group, key=lambda one: one.ema)) for group in groups.values()]


def titles(works: Iterable[Training | Cell]) -> dict[str, str]:
    """A title for each cell, or for each training, by its key that tells it from the others: what
    differs beyond the usual is added, such as the learning rate: of what is not trained here, no
    recipe."""
    works = list(works)
    fields = {work.key: work.fields() for work in works}
    names = dict.fromkeys(name for each in fields.values() for name in each)
    told = {"schedule", "schedule_options", "sample_schedule", "sample_schedule_options", "sampler",
            "sampler_options", "eta", "steps", "seed", "sampling_seed", "weights"}  # fmt: skip
    networks = [fields[work.key] for work in works if training_of(work).is_trained]
    told |= {name for name in names if _tells_nothing(name, fields.values())}
    more = [
        name for name in names
        if name not in told and len({each.get(name) for each in networks or fields.values()}) > 1
    ]  # fmt: skip

    def title(work: Training | Cell) -> str:
        training = training_of(work)
        recipe = () if training.is_trained or not networks else training.fields().keys()
        added = [name for name in more if name not in recipe]
        values = fields[work.key]
        return ", ".join(
            [work.title, *(f"{n.replace('_', ' ')} {values.get(n, '-')}" for n in added)]
        )

    return {work.key: title(work) for work in works}


def _tells_nothing(name: str, fields: Iterable[Mapping[str, Param]]) -> bool:
    """Whether this is the source of a part, and the name of the part says as much: no two parts of
    one name are of different sources."""
    if not name.endswith(("_source", "_sources")):
        return False
    of = ("target", "loss_function") if name == "named_sources" else (name.removesuffix("_source"),)
    found = {(tuple(map(each.get, of)), each.get(name)) for each in fields}
    return len(found) == len({parts for parts, _ in found})


@dataclass(frozen=True)
class Asked:
    """What a grid stands for, by keys: its cells with their budgets, and its trainings."""

    cells: Mapping[str, int | None]
    trainings: tuple[str, ...] = ()
    looks: tuple[Look, ...] = ()  # at which verdicts were asked for, where there were several
    seeds: int = 0  # training seeds
    # How many it had when a report was written, before more were added.
    looked: tuple[int, ...] = ()

    @classmethod
    def of(cls, cells: Iterable[Cell], looks: Iterable[Look] = ()) -> Self:
        cells = list(cells)
        return cls(
            {cell.key: cell.budget for cell in cells},
            tuple(sorted(training.key for training in distinct_trainings(cells))),
            tuple(looks),
            len({cell.training.seed for cell in cells if cell.training.is_trained}),
        )

    def after(self, before: Asked) -> Self:
        """The same, knowing what the grid stood for when it was last run: at which looks its cells
        were judged, and whether training seeds were added by hand to what had been looked at. One
        seed gives no verdict, and is no look."""
        if before.looks and not self.looks and self.cells.keys() <= before.cells.keys():
            return replace(self, looks=before.looks, looked=before.looked)
        looked: tuple[int, ...] = ()
        if not self.looks and before.cells.keys() <= self.cells.keys():
            looked = before.looked
            if 1 < before.seeds < self.seeds:
                looked = (*looked, before.seeds)
        return replace(self, looked=looked)

    def as_json(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Raises ValueError, TypeError or KeyError where it is none."""
        value = dict(json.loads(text))
        looks = (Look(tuple(one["seeds"]), tuple(one["sampling_seeds"]))
                 for one in value.get("looks", ()))  # fmt: skip
        return cls(
            dict(value["cells"]), tuple(value["trainings"]), tuple(looks),
            int(value.get("seeds", 0)), tuple(value.get("looked", ())),
        )  # fmt: skip


def _named(role: str, part: Part) -> dict[str, Param]:
    named: dict[str, Param] = {role: part.name}
    return named | {f"{role}_options": part.settings} if part.options else named


def _sources(parts: Mapping[str, Part]) -> dict[str, Param]:
    """The sources of those of these parts that are of other packages, by what they are here."""
    return {f"{role}_source": part.source for role, part in parts.items() if part.source}


def _shown(value: OptionValue) -> str:
    """A value as text. A long list is cut, with a digest that tells it from others."""
    text = str(value)
    if len(text) <= 80:
        return text
    return f"{text[:60]}... #{hashlib.sha256(text.encode()).hexdigest()[:6]}"
