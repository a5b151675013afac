"""The grid: what a person writes in YAML, checked at the door and expanded into work.

Lists multiply. All problems are reported at once, each with its field, the value given and what
would do. Nothing else in the program sees YAML.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from harness.data.datasets import ANALYTIC, DATASETS
from harness.data.images import REFERENCES
from harness.diffusion.objective import LOSSES, TARGETS, WEIGHTINGS, check_target
from harness.diffusion.samplers import SAMPLERS, steps_within
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.errors import BadOption, GridError
from harness.metrics.distances import METRICS
from harness.metrics.features import EXTRACTORS
from harness.models.presets import MODELS
from harness.plan.work import EXACT, Cell, Part, Training, check_fields, meets
from harness.registry import Registry, suggestion
from harness.runtime.machine import PRECISIONS

LARGEST_FILE = 1_000_000  # bytes
MOST_CELLS = 100_000
MOST_PROBLEMS = 30  # told at once

T = TypeVar("T")


def part_of(
    registry: Registry[Any], made: bool = False, word: str = ""
) -> tuple[BeforeValidator, WithJsonSchema]:
    """A field that names a registered part: its name, or a mapping with `name` and its options.

    A part that is `made` from its options alone checks what they are together; `word` may stand
    in the part's place.
    """

    def read(value: Any) -> Part | str:
        if word and value == word:
            return word
        if isinstance(value, Part):
            return value
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise ValueError(
                f"must be the name of a {registry.kind} or {{name: ..., option: ...}}, "
                f"not {value!r}.{suggestion('', registry.names())}"
            )
        options = {key: item for key, item in value.items() if key != "name"}
        registry[value["name"]]  # an unknown name is refused before its options are looked at
        checked = registry.check_options(value["name"], options)
        if made:
            registry.make(value["name"], checked)
        return Part.of(value["name"], checked)

    names = {"enum": [*([word] if word else []), *registry.names()]}
    schema = {
        "description": f"A {registry.kind}: its name, or {{name: ..., option: ...}}",
        "anyOf": [
            {"type": "string", **names},
            {"type": "object", "properties": {"name": names}, "required": ["name"]},
        ],
    }
    return BeforeValidator(read), WithJsonSchema(schema)


def name_of(registry: Registry[Any]) -> tuple[BeforeValidator, WithJsonSchema]:
    """A field that is the plain name of a registered part."""

    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(
                f"must be the name of a {registry.kind}, not {value!r}."
                f"{suggestion('', registry.names())}"
            )
        registry[value]
        return value

    return BeforeValidator(read), WithJsonSchema({"type": "string", "enum": registry.names()})


ModelPart = Annotated[Part, *part_of(MODELS, made=True)]
SchedulePart = Annotated[Part, *part_of(SCHEDULES, made=True)]
SampleSchedule = Annotated[Any, *part_of(SCHEDULES, made=True, word="same")]
SamplerPart = Annotated[Part, *part_of(SAMPLERS)]
SpacingPart = Annotated[Part, *part_of(SPACINGS)]
MetricName = Annotated[str, *name_of(METRICS)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Steps = Annotated[int, Field(ge=1, le=100_000)]
Some = Annotated[list[T], Field(min_length=1)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TrainingFields(Strict):
    """How each network is trained."""

    steps: int = Field(20_000, ge=1, le=10**9, description="Steps of the optimiser")
    batch_size: int = Field(128, ge=1, le=10**6, description="Images in a step")
    learning_rate: float = Field(2e-4, gt=0, lt=10, description="Of AdamW, at its highest")
    ema: float = Field(0.999, ge=0, lt=1, description="Decay of the average of the weights")
    target: Annotated[str, *name_of(TARGETS)] = Field(
        "noise", description="What the network predicts"
    )
    weighting: Annotated[Part, *part_of(WEIGHTINGS)] = Field(
        Part("simple"), description="How much each time counts in the loss"
    )
    loss: Literal[tuple(LOSSES)] = Field(  # type: ignore[valid-type]
        "mse", description="Mean squared or mean absolute error"
    )
    precision: Literal[PRECISIONS] = Field(  # type: ignore[valid-type]
        "auto", description="auto is bfloat16 where the hardware computes in it"
    )


class Axes(Strict):
    """Lists that multiply, and the network. Here each may be left out, to take the grid's own."""

    model: ModelPart | None = None
    schedules: Some[SchedulePart] | None = None
    sample_schedules: Some[SampleSchedule] | None = None
    samplers: Some[SamplerPart] | None = None
    spacing: Some[SpacingPart] | None = None
    steps: Some[Steps] | None = None
    seeds: Some[Seed] | None = None
    sampling_seeds: Some[Seed] | None = None


AXES = tuple(Axes.model_fields)


class Grid(Strict):
    """Every combination of the lists is one cell of the benchmark."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Names the MLflow experiment and the report's folder",
    )
    data: Annotated[Part, *part_of(DATASETS)] = Field(description="The images to learn")
    model: ModelPart | None = Field(
        None, description="The network; tiny, or exact where the data's best denoiser is known"
    )
    training: TrainingFields = Field(default_factory=lambda: TrainingFields.model_validate({}))
    schedules: Some[SchedulePart] = Field(description="Noise schedules to train under")
    sample_schedules: Some[SampleSchedule] = Field(
        ["same"], description="Schedules to sample under; `same` is the one trained under"
    )
    samplers: Some[SamplerPart] = Field(description="Samplers")
    spacing: Some[SpacingPart] = Field(
        [Part("trailing")], description="At which times a sampler evaluates the network"
    )
    steps: Some[Steps] = Field(description="Numbers of sampling steps")
    budget: Literal["steps", "nfe"] = Field(
        "steps",
        description="What `steps` counts: nfe makes it network evaluations, so that each sampler "
        "takes as many steps as it can afford",
    )
    seeds: Some[Seed] = Field([0], description="Training seeds: one network each")
    sampling_seeds: Some[Seed] = Field([0], description="Seeds of the sampling noise")
    images: int = Field(1_000, ge=2, le=1_000_000, description="Images sampled in each cell")
    clip: bool = Field(False, description="Keep every estimate of x_0 within the data's range")
    extractor: Annotated[Part, *part_of(EXTRACTORS)] = Field(
        description="The network whose features are compared"
    )
    reference: Literal[tuple(REFERENCES)] = Field(  # type: ignore[valid-type]
        "train", description="Which real images are compared with"
    )
    metrics: Some[MetricName] = Field(["kid", "fid"], description="What is computed from features")
    reference_variance: bool = Field(
        False, description="Whether intervals cover the luck of the choice of the reference too"
    )
    include: list[Axes] = Field([], description="More cells: lists that take the place of these")
    exclude: list[dict[str, Any]] = Field(
        [], description="Fewer cells: those of which all that an entry says holds"
    )
    _text: str = PrivateAttr("")

    @property
    def text(self) -> str:
        """The grid as it was written, with what the command line changed."""
        return self._text

    @property
    def network(self) -> Part:
        """The model, whether given or not."""
        return self.model or Part(EXACT if self.data.name in ANALYTIC else "tiny")

    @field_validator("name")
    @classmethod
    def _is_no_name_of_mlflow(cls, name: str) -> str:
        if name == "Default":
            raise ValueError("'Default' is MLflow's own experiment; another name would do")
        return name

    @field_validator("exclude")
    @classmethod
    def _exclusions_can_be_read(cls, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for entry in entries:
            check_fields(entry)
        return entries

    @model_validator(mode="after")
    def _is_a_benchmark(self) -> Grid:
        size = sum(
            prod(len(axis) for axis in axes.values() if isinstance(axis, list))
            for axes in blocks(self)
        )
        if size > MOST_CELLS:
            raise ValueError(
                f"the lists multiply to {size:,} cells; at most {MOST_CELLS:,} make one grid"
            )
        cells = multiplied(self)
        for entry in self.exclude:
            if len(without(cells, [entry])) == len(cells):
                raise ValueError(f"exclude: no cell matches {entry}")
        if not (left := without(cells, self.exclude)):
            raise ValueError("exclude: no cell is left")
        wrong = dict.fromkeys(contradictions(left, {*self.steps}))
        for name in self.metrics:
            if "held_out" in METRICS[name].needs and self.reference != "train":
                told = f"metric '{name}' compares with the training images: reference must be train"
                wrong[told] = None
        if wrong:
            raise ValueError("\n  ".join(wrong))
        return self


def contradictions(cells: Iterable[Cell], own_steps: set[int]) -> Iterator[str]:
    """What in these cells does not go together, and what would do."""
    cells = list(cells)
    for spacing, steps in dict.fromkeys((cell.spacing, cell.steps) for cell in cells):
        if told := refusal(SPACINGS[spacing.name], "check_steps", steps, **spacing.keywords):
            yield told if steps in own_steps else f"{told} (in include)"
    under = {
        (cell.training.target, schedule)
        for cell in cells
        if not cell.training.is_exact
        for schedule in (cell.training.schedule, cell.sample_schedule)
    }
    for target, schedule in sorted(under, key=str):
        if told := refused(check_target, target, made_schedule(schedule)):
            yield told
    paths = dict.fromkeys(
        (cell.sample_schedule, cell.spacing, cell.steps, cell.sampler)
        for cell in cells
        if made_schedule(cell.sample_schedule).ends_in_pure_noise
    )
    for sampled_under, spacing, steps, sampler in paths:
        schedule = made_schedule(sampled_under)
        if told := refusal(SPACINGS[spacing.name], "check_schedule", schedule):
            yield told
        elif not refusal(SPACINGS[spacing.name], "check_steps", steps, **spacing.keywords):
            first = SPACINGS[spacing.name](schedule, steps, **spacing.keywords)[:1]
            at = float(schedule.log_snr(first))
            if told := refusal(SAMPLERS[sampler.name], "check_start", at):
                yield told


def refusal(part: Any, check: str, *given: Any, **options: Any) -> str:
    """What a part says against something, where it can be asked; empty where it agrees."""
    return refused(getattr(part, check, lambda *given, **options: None), *given, **options)


def refused(check: Callable[..., Any], *given: Any, **options: Any) -> str:
    try:
        check(*given, **options)
    except BadOption as error:
        return str(error)
    return ""


@cache
def made_schedule(part: Part) -> Any:
    return SCHEDULES.make(part.name, part.keywords)


def load_grid(path: Path | str, overrides: Sequence[str] = ()) -> Grid:
    """Read and check a grid file; `overrides` are `field=value` with YAML values, such as
    `training.steps=200`. Raises GridError listing every problem."""
    path = Path(path)
    text = read_text(path)
    fields = parse(text, str(path))
    if not isinstance(fields, dict):
        raise GridError(f"{path} is not a valid grid: it must be `field: value` lines")
    for override in overrides:
        apply(fields, override)
    try:
        grid = Grid.model_validate(fields)
    except ValidationError as error:
        problems = [problem(each) for each in error.errors(include_url=False)]
        if len(problems) > MOST_PROBLEMS:
            problems[MOST_PROBLEMS:] = [f"... and {len(problems) - MOST_PROBLEMS:,} more"]
        raise GridError("\n  ".join([f"{path} is not a valid grid:", *problems])) from None
    changed = "".join(
        f"# changed on the command line: {line}\n"
        for override in overrides
        for line in override.splitlines()
    )
    grid._text = changed + text
    return grid


def expand(grid: Grid) -> list[Cell]:
    """All cells, each once, those of one training side by side."""
    by_training: dict[Training, list[Cell]] = {}
    for cell in dict.fromkeys(without(multiplied(grid), grid.exclude)):
        by_training.setdefault(cell.training, []).append(cell)
    return [cell for cells in by_training.values() for cell in cells]


def blocks(grid: Grid) -> list[dict[str, Any]]:
    """The axes (and the model) of the grid itself and of each of its additions."""
    own = {name: getattr(grid, name) for name in AXES} | {"model": grid.network}
    return [own] + [
        own | {name: axis for name in AXES if (axis := getattr(more, name)) is not None}
        for more in grid.include
    ]


def multiplied(grid: Grid) -> list[Cell]:
    return [
        cell_of(
            grid,
            axes["model"],
            schedule,
            schedule if sampled_under == "same" else sampled_under,
            seed,
            sampler=sampler,
            spacing=spacing,
            steps=affordable(sampler.name, steps) if grid.budget == "nfe" else steps,
            sampling_seed=sampling_seed,
        )
        for axes in blocks(grid)
        for schedule, seed in product(axes["schedules"], axes["seeds"])
        for sampled_under, sampler, spacing, steps, sampling_seed in product(
            axes["sample_schedules"],
            axes["samplers"],
            axes["spacing"],
            axes["steps"],
            axes["sampling_seeds"],
        )
    ]


def cell_of(
    grid: Grid, model: Part, schedule: Part, sampled_under: Part, seed: int, **way: Any
) -> Cell:
    """One cell. An exact denoiser is the same whatever the grid says of training, seeds and
    schedules to train under included, so it is sampled once."""
    if model.name == EXACT:
        recipe = TrainingFields.model_validate({"precision": "float32"})
        training_steps, seed, schedule = 0, 0, sampled_under
    else:
        recipe, training_steps = grid.training, grid.training.steps
    return Cell(
        Training(
            data=grid.data,
            model=model,
            schedule=schedule,
            target=recipe.target,
            weighting=recipe.weighting,
            seed=seed,
            training_steps=training_steps,
            batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            ema=recipe.ema,
            precision=recipe.precision,
            loss=recipe.loss,
        ),
        sample_schedule=sampled_under,
        images=grid.images,
        clip=grid.clip,
        extractor=grid.extractor,
        reference=grid.reference,
        **way,
    )


affordable = cache(steps_within)


def budgets(grid: Grid, cells: Iterable[Cell]) -> dict[str, int]:
    """The network evaluations that each of the grid's cells was allowed, by its key; empty where
    steps count."""
    if grid.budget == "steps":
        return {}
    given = sorted({steps for axes in blocks(grid) for steps in axes["steps"]})
    return {
        cell.key: next(
            budget for budget in given if affordable(cell.sampler.name, budget) == cell.steps
        )
        for cell in cells
    }


def without(cells: list[Cell], exclude: list[dict[str, Any]]) -> list[Cell]:
    """The cells that no entry of `exclude` matches."""
    exclusions = [conditions_of(entry) for entry in exclude]
    return [cell for cell in cells if not any(meets(cell, each) for each in exclusions)]


def conditions_of(entry: Mapping[str, Any]) -> dict[str, list[str]]:
    """`{schedule: linear, steps: [5, 10]}` with every value a list of texts."""
    return {
        name: [str(item) for item in value] if isinstance(value, list) else [str(value)]
        for name, value in entry.items()
    }


class GridLoader(yaml.SafeLoader):
    """YAML without aliases (a small file could stand for a huge one) and without keys given
    twice, and with `1e-4` as the number it is everywhere else."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not read here: write the value out",
                problem_mark=self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="a field's name must be a word", problem_mark=key.start_mark
                )
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the field '{key.value}' is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


GridLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)  # /dev/zero has no end
        if len(content) > LARGEST_FILE:
            raise GridError(f"{path} is larger than {LARGEST_FILE:,} bytes: it is no grid file")
        return content.decode("utf-8")
    except OSError as error:
        raise GridError(f"the grid {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise GridError(f"the grid {path} is not text in UTF-8") from None


def parse(text: str, where: str) -> Any:
    """YAML to plain values. Raises GridError with the line."""
    try:
        return yaml.load(text, GridLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise GridError(f"{where}{line}: {error.problem}") from None
    except RecursionError:
        raise GridError(f"{where} is not a grid: it is nested too deeply") from None
    except Exception as error:  # the parser's own constructors raise what they happen to
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise GridError(f"{where} is not YAML: {told}") from None


def apply(fields: dict[str, Any], override: str) -> None:
    """Set one `field.field=value`."""
    name, equals, value = override.partition("=")
    if not equals or not name:
        raise GridError(f"'{override}' is not of the form field=value, such as training.steps=200")
    *above, last = name.split(".")
    for step in above:
        fields = fields.setdefault(step, {})
        if not isinstance(fields, dict):
            raise GridError(f"'{override}': '{step}' has no fields within it")
    fields[last] = parse(value, f"'{override}'")


PLAINLY = {
    "list_type": "must be a list, such as [a, b]",
    "too_short": "must have at least 1 item",
    "model_type": "must be fields, such as {steps: 200}",
    "string_pattern_mismatch": "must be 1 to 100 letters, digits, '.', '_' or '-', and begin with "
    "a letter or digit",
}


def problem(error: ErrorDetails) -> str:
    """One problem as a person reads it: where, what was given, what would do."""
    place = ".".join(str(step) for step in error["loc"] if not is_machinery(step))
    message = error["msg"].removeprefix("Value error, ")
    given = error.get("input")
    if error["type"] == "extra_forbidden":
        within: dict[str, type[BaseModel]] = {"training": TrainingFields, "include": Axes}
        model = within.get(str(error["loc"][0]), Grid) if len(error["loc"]) > 1 else Grid
        fields = list(model.model_fields)
        return f"{place}: there is no such field.{suggestion(str(error['loc'][-1]), fields)}"
    if error["type"] == "missing":
        return f"{place}: this field must be given"
    if error["type"] == "value_error":
        return f"{place}: {message}" if place else message
    if error["type"] in PLAINLY:
        return f"{place}: {PLAINLY[error['type']]}, not {shortened(given)}"
    message = message[0].lower() + message[1:]
    return f"{place}: {message}, not {shortened(given)}"


def is_machinery(step: int | str) -> bool:
    """Whether a step of pydantic's path names a branch of a type and not a field."""
    return isinstance(step, str) and bool(re.search(r"[\[\](]|^literal|^function", step))


def shortened(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python does not write out numbers of many thousand digits
        return "a number too long to write out"
    return text if len(text) <= 60 else text[:57] + "..."
