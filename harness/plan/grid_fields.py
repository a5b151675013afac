"""The fields of a grid file: their types, bounds and defaults, each with what it means.

`harness schema` prints them. What they say together is checked in `grid.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from harness.data.datasets import ANALYTIC, DATASETS
from harness.data.images import REFERENCES
from harness.diffusion.objective import CLIPS, LOSSES, TARGETS, WEIGHTINGS
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.diffusion.training_times import TIME_DENSITIES
from harness.errors import suggestion
from harness.execute.machine import PRECISIONS
from harness.metrics.distances import METRICS
from harness.metrics.features import EXTRACTORS
from harness.models.presets import MODELS
from harness.registry import Registry
from harness.registry.signature import Schema, shown
from harness.work.cells import ADAMW, EXACT, STATIC, UNIFORM, Part, Scaling

LONGEST_LIST = 10_000

T = TypeVar("T")


@dataclass(frozen=True)
class OfRegistry:
    """Marks a field that refers to a registered part; `read` checks what a grid has there."""

    registry: Registry[Any]

    def read(self, value: object) -> Part | str:
        raise NotImplementedError

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)


@dataclass(frozen=True)
class PartOf(OfRegistry):
    """Marks a field that names a registered part: its name, or a mapping with `name` and its
    options. A part that is `made` from its options alone checks what they are together; `word` may
    stand in the part's place."""

    made: bool = False
    word: str = ""

    def read(self, value: object) -> Part | str:
        if isinstance(value, Part) or (self.word and value == self.word):
            return value
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping) or not isinstance(name := value.get("name"), str):
            kind = self.registry.noun
            raise ValueError(
                f"must be the name of a {kind} or {{name: ..., option: ...}}, not {shown(value)}."
                f"{suggestion('', self.registry.names())}"
            )
        options = {str(key): item for key, item in value.items() if key != "name"}
        checked = self.registry.check_options(name, options)
        if self.made:
            self.registry.make(name, checked)
        return Part.of(name, checked, self.registry.source(name))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> Schema:
        """A name, or exactly one of the parts with its own options."""
        usable = [name for name in self.registry if not self.registry.problem(name)]
        needy = {
            name
            for name in usable
            if any(option.required for option in self.registry.options(name))
        }
        names = [*([self.word] if self.word else []), *(n for n in usable if n not in needy)]
        return {
            "description": f"A {self.registry.noun}: its name, or {{name: ..., option: ...}}",
            "anyOf": [
                {"type": "string", "enum": names},
                {"oneOf": [part_schema(self.registry, name) for name in usable]},
            ],
        }


@dataclass(frozen=True)
class ClipOf(PartOf):
    """Marks a field that says whether estimates are clipped, or names how: `true` is `static`."""

    def read(self, value: object) -> Part | bool:  # type: ignore[override]
        if isinstance(value, bool):
            return value
        if not isinstance(value, Part | Mapping) and value not in self.registry.names():
            known = ", ".join(self.registry.names())
            raise ValueError(
                f"{shown(value)} is neither true nor false nor one of {known}. Use one of these."
            )
        found = super().read(value)
        return found == STATIC or found  # type: ignore[return-value]

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> Schema:
        named = super().__get_pydantic_json_schema__(core, handler)
        return named | {"anyOf": [{"type": "boolean"}, *named["anyOf"]]}


@dataclass(frozen=True)
class NameOf(OfRegistry):
    """Marks a field that is the plain name of a registered part."""

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(
                f"must be the name of a {self.registry.noun}, not {shown(value)}."
                f"{suggestion('', self.registry.names())}"
            )
        self.registry[value]
        return value

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> Schema:
        return {"type": "string", "enum": self.registry.names()}


@dataclass(frozen=True)
class OrOne:
    """Marks a list that may be written as its one value, and in which no value stands twice."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        distinct = core_schema.no_info_after_validator_function(self.distinct, handler(source))
        return core_schema.no_info_before_validator_function(self.in_a_list, distinct)

    @staticmethod
    def in_a_list(value: object) -> object:
        return value if isinstance(value, list) else [value]

    @staticmethod
    def distinct(values: list[Any]) -> list[Any]:
        twice = next((each for each, times in Counter(values).items() if times > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} is there twice, under one name or two. Use each value once.")
        return values

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> Schema:
        """A value, or a list of such values."""
        several = handler(core)
        return {"anyOf": [several["items"], {**several, "uniqueItems": True}]}


@dataclass(frozen=True)
class OfScale:
    """Marks a field that says in which units networks see the images."""

    words: ClassVar[tuple[Scaling, ...]] = ("unit", "range")
    least: ClassVar[float] = 0.001
    most: ClassVar[float] = 1000.0

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def read(self, value: object) -> Scaling:
        for word in self.words:
            if value == word:
                return word
        is_truth = isinstance(value, bool)
        if not is_truth and isinstance(value, int | float) and self.least <= value <= self.most:
            return "range" if value == 1 else float(value)  # once 1 is the range itself
        raise ValueError(
            f"cannot be {shown(value)}. Use unit, range or a number between {self.least:g} and "
            f"{self.most:g}."
        )

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> Schema:
        number = {"type": "number", "minimum": self.least, "maximum": self.most}
        return {"anyOf": [{"type": "string", "enum": [*self.words]}, number]}


def part_schema(registry: Registry[Any], name: str) -> Schema:
    """The JSON schema of a part with its options."""
    options = registry.options(name)
    return {
        "type": "object",
        "description": registry.describe(name),
        "properties": {
            "name": {"const": name},
            **{option.name: option.schema for option in options},
        },
        "required": ["name", *(option.name for option in options if option.required)],
        "additionalProperties": False,
    }


ModelPart = Annotated[Part, PartOf(MODELS, made=True)]
SchedulePart = Annotated[Part, PartOf(SCHEDULES, made=True)]
SampleSchedule = Annotated[Part | Literal["same"], PartOf(SCHEDULES, made=True, word="same")]
SamplerPart = Annotated[Part, PartOf(SAMPLERS)]
SpacingPart = Annotated[Part, PartOf(SPACINGS)]
Scale = Annotated[Scaling, OfScale()]
Clip = Annotated[bool | Part, ClipOf(CLIPS)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Steps = Annotated[int, Field(ge=1, le=100_000)]
Some = Annotated[list[T], Field(min_length=1, max_length=LONGEST_LIST)]
OneOrMore = Annotated[Some[T], OrOne()]

TrainingSteps = Annotated[int, Field(ge=1, le=10**9)]
BatchSize = Annotated[int, Field(ge=1, le=10**6)]
LearningRate = Annotated[float, Field(gt=0, lt=10)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Target = Annotated[str, NameOf(TARGETS)]
WeightingPart = Annotated[Part, PartOf(WEIGHTINGS)]
TimesPart = Annotated[Part, PartOf(TIME_DENSITIES)]
Loss = Annotated[str, NameOf(LOSSES)]
OptimizerName = Literal["adamw", "muon"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RecipeAxes(Strict):
    """What of a recipe multiplies where it is a list. Here each may be left out, to take the
    grid's own."""

    steps: OneOrMore[TrainingSteps] | None = None
    batch_size: OneOrMore[BatchSize] | None = None
    optimizer: OneOrMore[OptimizerName] | None = None
    learning_rate: OneOrMore[LearningRate] | None = None
    target: OneOrMore[Target] | None = None
    weighting: OneOrMore[WeightingPart] | None = None
    times: OneOrMore[TimesPart] | None = None
    loss: OneOrMore[Loss] | None = None
    ema: OneOrMore[Decay] | None = None  # last: trainings that differ in it alone are neighbours


class TrainingFields(Strict):
    """How each network is trained. What is a list multiplies: a network for each of its values."""

    steps: OneOrMore[TrainingSteps] = Field(
        20_000, validate_default=True, description="Steps of the optimiser"
    )
    batch_size: OneOrMore[BatchSize] = Field(
        128, validate_default=True, description="Images in a step"
    )
    optimizer: OneOrMore[OptimizerName] = Field(
        ADAMW,
        validate_default=True,
        description="adamw; or muon, which orthogonalises the updates of weights between hidden "
        "channels and needs fewer steps of more time each",
    )
    learning_rate: OneOrMore[LearningRate] = Field(
        2e-4, validate_default=True, description="Of the optimiser, at its highest"
    )
    ema: OneOrMore[Decay] = Field(
        0.999,
        validate_default=True,
        description="Decay of the average of the weights; several are kept of one training",
    )
    target: OneOrMore[Target] = Field(
        "noise", validate_default=True, description="What the network predicts"
    )
    weighting: OneOrMore[WeightingPart] = Field(
        "simple", validate_default=True, description="How much each time counts in the loss"
    )
    times: OneOrMore[TimesPart] = Field(
        UNIFORM, validate_default=True, description="How the times to train at are distributed"
    )
    loss: OneOrMore[Loss] = Field(
        "mse", validate_default=True, description="Mean squared or mean absolute error"
    )
    precision: Literal[PRECISIONS] = Field(  # type: ignore[valid-type]
        "auto",
        description="auto is bfloat16 where the hardware computes in it, on processors unless "
        "float32 is measured to be faster, float16 with loss scaling on GPUs that compute in that "
        "alone (T4, V100), float32 elsewhere",
    )
    devices: int = Field(
        1,
        ge=1,
        le=1024,
        description="Devices, or processes on a CPU, that train one network together: how it is "
        "trained and not what, so the results are the same work",
    )


class Axes(Strict):
    """Lists that multiply. Here each may be left out, to take the grid's own."""

    scale: OneOrMore[Scale] | None = None
    model: OneOrMore[ModelPart] | None = None
    training: RecipeAxes = Field(default_factory=RecipeAxes)
    schedules: Some[SchedulePart] | None = None
    sample_schedules: Some[SampleSchedule] | None = None
    samplers: Some[SamplerPart] | None = None
    spacing: Some[SpacingPart] | None = None
    clip: OneOrMore[Clip] | None = None
    steps: Some[Steps] | None = None
    seeds: Some[Seed] | None = None
    sampling_seeds: Some[Seed] | None = None


class GridFields(Strict):
    """Every combination of the lists is one cell of the benchmark."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Names the MLflow experiment and the report's folder",
        examples=["digits-at-few-steps"],
    )
    data: Annotated[Part, PartOf(DATASETS)] = Field(
        description="The images to learn", examples=["digits"]
    )
    scale: OneOrMore[Scale] = Field(
        "range",
        validate_default=True,
        description="In which units network and schedule see the images: range is -1 to 1, a "
        "number multiplies that, unit gives each channel of the training images mean 0 and "
        "variance 1",
    )
    model: OneOrMore[ModelPart] | None = Field(
        None,
        description="The network, or several; tiny, or exact where the data's best denoiser is "
        "known, which no recipe multiplies",
    )
    training: TrainingFields = Field(default_factory=lambda: TrainingFields.model_validate({}))
    schedules: Some[SchedulePart] = Field(
        description="Noise schedules to train under; cosine is that of the Keras DDIM example, "
        "cosine_discrete the paper's",
        examples=[["linear", "cosine"]],
    )
    sample_schedules: Some[SampleSchedule] = Field(
        ["same"], description="Schedules to sample under; `same` is the one trained under"
    )
    samplers: Some[SamplerPart] = Field(
        description="How images are made of noise", examples=[["ddim", "ddpm"]]
    )
    spacing: Some[SpacingPart] = Field(
        ["trailing"],
        validate_default=True,
        description="At which times a sampler evaluates the network",
    )
    steps: Some[Steps] = Field(description="Numbers of sampling steps", examples=[[5, 10, 50]])
    budget: Literal["steps", "nfe"] = Field(
        "steps",
        description="What `steps` counts: nfe makes it network evaluations, so that each sampler "
        "takes as many steps as it can afford",
    )
    seeds: Some[Seed] = Field(
        [0],
        description="Training seeds: one network each; one gives no verdict on what is trained, "
        "three see a clear difference",
    )
    sampling_seeds: Some[Seed] = Field([0], description="Seeds of the sampling noise")
    images: int = Field(1_000, ge=2, le=1_000_000, description="Images sampled in each cell")
    clip: OneOrMore[Clip] = Field(
        False,
        validate_default=True,
        description="Keep every estimate of x_0 within the data's range: true clamps it, dynamic "
        "scales it back; several multiply",
    )
    extractor: Annotated[Part, PartOf(EXTRACTORS)] = Field(
        description="The network whose features are compared; pixels are the images themselves",
        examples=["inception", "pixels"],
    )
    reference: Literal[tuple(REFERENCES)] = Field(  # type: ignore[valid-type]
        "train", description="Which real images are compared with"
    )
    metrics: Some[Annotated[str, NameOf(METRICS)]] = Field(
        ["kid", "fid"], description="What is computed from features"
    )
    reference_variance: bool = Field(
        False, description="Whether intervals cover the choice of the reference images too"
    )
    include: list[Axes] = Field(
        [], max_length=1000, description="More cells: lists that take the place of these"
    )
    exclude: list[dict[str, Any]] = Field(
        [], max_length=1000, description="Fewer cells: those of which all that an entry says holds"
    )

    @property
    def networks(self) -> list[Part]:
        """The models, whether given or not."""
        return self.model or [Part(EXACT if self.data.name in ANALYTIC else "tiny")]
