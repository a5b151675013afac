"""What each command prints with `--json`: `harness schema --of COMMAND`.

One TypedDict for one JSON object, whose docstrings are the descriptions of its schema. What builds
such an object is annotated with its type, and `tests/test_outputs.py` holds what every command
prints against it. To give a command `--json`, write its type here and name it in OUTPUTS.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict  # typing's own cannot be read before Python 3.12

from harness.errors import UnknownName, suggestion

CLOSED = ConfigDict(use_attribute_docstrings=True, extra="forbid")
OPEN = ConfigDict(use_attribute_docstrings=True, extra="allow")


@with_config(CLOSED)
class Output(TypedDict):
    """An object of these fields and no others."""


@with_config(OPEN)
class OpenOutput(TypedDict):
    """An object of these fields and perhaps more."""


class ErrorOutput(Output):
    """Of any command that cannot do what was asked, in the place of its own object."""

    error: str
    """What is wrong, and what to use."""
    status: int
    """The exit status: 1; 2 where the command was mistyped; 128 + N after signal N."""


class FailedWork(Output):
    """A training or a cell that failed."""

    key: str
    what: str
    """Its title."""
    reason: str


class RunOutput(Output):
    """How a run ended."""

    cells: int
    """How many the grid stands for."""
    finished: int
    failed: list[FailedWork]
    retries: int
    """How often work was tried again after its process was killed."""
    status: int
    """The exit status: 0; 1 with failures; 75 out of time; 128 + N after signal N."""
    report: str | None
    """The page, where one was written."""
    answers: list[str]
    """The lines of its first screen."""


class PlannedWork(OpenOutput):
    """A training or a cell, with its fields in the words of the grid file, as MLflow has them."""

    key: str
    state: Literal["to do", "in the store", "finished"]
    forecast_seconds: float | None


class PlannedCell(PlannedWork):
    """A cell, with its fields in the words of the grid file, as MLflow has them."""

    nfe: int
    """Network evaluations for one image."""


class ForecastOutput(OpenOutput):
    """What pending work will take on this machine."""

    total_seconds: float
    """From the command to the report."""
    fixed_seconds: float
    """Of starting up, worker processes, pictures, records and the report."""
    real_image_seconds: float
    """Of the features of real images that are still to be taken."""
    training_seconds: float
    sampling_seconds: float
    metric_seconds: float
    compile_seconds: float
    fitting_seconds: float
    """Of fitting steps to networks."""
    fitting_evaluations: int
    network_evaluations: int
    """Of single images, for samples."""
    memory_bytes: float
    disk_bytes: float
    source: str | None
    """What the speeds come from."""


class FilesOutput(Output):
    """Some of the files of a data set."""

    count: int
    example: str
    """The name of one of them."""
    reason: str
    """Why that one could not be read."""


class MeasuresOutput(Output):
    """How large an image is, before anything was cut."""

    width: int
    height: int
    example: str
    """The name of its file."""


class ImagesOutput(Output):
    """How many images a data set has, and what became of their files."""

    used: int
    """Images, of both parts."""
    side: int
    """Pixels along a side, after preparation."""
    found: int
    """Files, hidden ones not counted; 0 where the images are not a person's own."""
    skipped: dict[str, FilesOutput]
    """By suffix."""
    stray: FilesOutput
    """Names that lead to no file."""
    unreadable: FilesOutput
    altered: dict[str, FilesOutput]
    """By what was done with them."""
    duplicates: FilesOutput
    """Images that equal another once prepared."""
    grey: int
    """Images whose files have no colour."""
    is_grey: bool
    """Whether all are read as grey."""
    background: str
    """What transparent pixels became."""
    smallest: MeasuresOutput | None
    largest: MeasuresOutput | None
    classes: dict[str, int]
    """How many images of each."""


class RemarkOutput(Output):
    """What a person should know of some of the files."""

    what: str
    why: str
    use: str
    """What would change it; empty where nothing has to."""
    example: str
    limits: bool
    """Whether it bears on what the results mean."""


class EnoughOutput(Output):
    """Whether there are enough images for a purpose."""

    purpose: str
    is_enough: bool
    told: str


class DataOutput(Output):
    """What a folder of images, or a data set, is to a network."""

    data: dict[str, Any]
    """The data set in a grid, with its options."""
    grid: str
    """The same as a line of a grid file."""
    train: int
    held_out: int
    channels: int
    fingerprint: str
    images: ImagesOutput
    remarks: list[RemarkOutput]
    enough: list[EnoughOutput]
    networks: list[str]
    """Those that take images of this size."""
    sheet: str | None
    """The picture, where one was written."""


class CheaperOutput(Output):
    """A change of a grid that would cost clearly less."""

    change: str
    """As it is typed."""
    seconds: float
    """That the pending work would then take."""
    note: str


class PlanOutput(Output):
    """What a run would do and cost."""

    name: str
    trainings: list[PlannedWork]
    cells: list[PlannedCell]
    forecast: ForecastOutput | None
    """None where it is not known."""
    computed: list[str]
    """How networks are computed here, a sentence for each model that is to be trained, where that
    was measured."""
    images: ImagesOutput | None
    """What was read; None where no pending work needs it."""
    cheaper: list[CheaperOutput]
    """Where the forecast is half a day or more."""
    warnings: list[str]


class ReportOutput(Output):
    """The report that was written."""

    report: str
    """The page, or the handout."""


class NewOutput(Output):
    """A grid that was written."""

    grid: str
    """Its file."""
    preset: Literal["laptop", "gpu", "cluster"]
    run: str
    """The command that runs it."""
    trainings: int
    cells: int
    seconds: float | None
    """That it would take here; None where that is not known."""
    notes: list[str]


class GridInStore(Output):
    """How it stands with the cells of a grid."""

    cells: int
    finished: int
    failed: int
    """When they were last tried."""
    pending: int
    stale: int
    """Finished, of images that have changed since."""


class RemovedOutput(Output):
    """Things of one kind that no grid needs."""

    paths: list[str]
    bytes: int
    """That their removal frees."""


class UnneededOutput(Output):
    """What no grid of a store needs."""

    store: str
    grids: list[str]
    """Those that are kept."""
    unneeded: dict[str, RemovedOutput]
    """By kind."""
    bytes: int
    unrecorded: int
    """Results among it that MLflow does not have yet."""


class CleanOutput(UnneededOutput):
    """What no grid of a store needs, and whether it was removed."""

    is_removed: bool


class StatusOutput(OpenOutput):
    """What a store holds."""

    store: str
    trainings: int
    cells: int
    grids: dict[str, GridInStore]
    """By name."""
    runs: int
    """In MLflow, whose files are in the store."""
    unfinished: int
    """Trainings that were stopped and will go on."""
    outdated: int
    """Results of another result version, which this one does not read."""
    spare: UnneededOutput | None
    """What no grid needs; None where that cannot be told."""
    sizes: dict[str, int]
    """Bytes, by part of the store."""
    aside: list[str]
    """What was set aside as damaged, by this command or before."""
    verified: int | None
    """Files that were read, with --verify."""
    damaged: list[str]
    """Those of them that were not what was written."""


class SampleOutput(Output):
    """Images that were sampled."""

    cell: str
    """The key of the cell whose network and sampler made them."""
    images: int
    seed: int
    """The sampling seed."""
    written: str
    """The sheet, or the folder of images."""
    passed_over: list[str]
    """Keys of cells that were not trained, where the filter names no model."""


class ExportOutput(Output):
    """A network that was written for diffusers."""

    written: str
    """The folder."""


class CompareOutput(Output):
    """Two cells, or groups of cells in pairs, against each other in one metric."""

    metric: str
    first: str
    second: str
    pairs: list[list[str]]
    """Keys: of the first, and of the second."""
    values: list[float]
    """The mean of the first, and of the second."""
    change: float | None
    """Of the first, relative to the second."""
    low: float | None
    """The lower end of its 95 % interval."""
    high: float | None
    verdict: Literal["better", "worse", "inconclusive"]
    reason: str
    """Why it is inconclusive."""
    p: float | None
    adjusted_p: float | None
    """The same, corrected for all comparisons of the question."""
    n: int
    """Training seeds, or trained models."""
    covers: str
    """Which sources of variation the interval covers."""
    paired: bool
    """Whether image by image."""
    question: str
    """Of which grid and question the verdict is; empty where no grid asks this."""
    left_out: int
    """Cells without a partner."""
    passed_over: list[str]
    """Keys of cells that were not trained, where no filter names a model."""


class PartOption(OpenOutput):
    """The JSON schema of an option's values."""

    required: bool


class PartOutput(Output):
    """What is known of one part."""

    kind: str
    name: str
    description: str
    origin: str
    """The package that offers it, or `built in`."""
    source: str
    """Distribution, version and digest, of a part of another package."""
    formula: str
    facts: list[str]
    """What the program goes by, such as its order of convergence."""
    options: dict[str, PartOption]
    """By name."""
    problem: str
    """Why it cannot be used."""
    shadows: str
    """The packages that offer another part of this name, which is not used."""


class PartsOutput(Output):
    """Everything that a grid file can name, and what reports are made of."""

    parts: list[PartOutput]


class CheckOutput(Output):
    """One claim about a part."""

    kind: str
    part: str
    claim: str
    expected: float
    found: float | None
    tolerance: float
    precision: str
    reason: str
    """Why nothing was found."""
    holds: bool


class NotCheckedOutput(Output):
    """A part that was not checked."""

    kind: str
    part: str
    reason: str


class VerifyOutput(Output):
    """The mathematics, checked on this machine."""

    machine: str
    seconds: float
    seconds_by_kind: dict[str, float]
    holds: bool
    """Whether all claims do."""
    checks: list[CheckOutput]
    not_checked: list[NotCheckedOutput]


class DoctorLine(OpenOutput):
    """How it stands with one thing that runs need."""

    state: Literal["ok", "missing", "broken"]
    what: str
    told: str
    """What was found; where it is not well, what to do."""
    is_extra: bool
    """Whether it is a data set, weights or a package that runs/digits.yaml does without."""


class DoctorOutput(Output):
    """What runs need on this machine."""

    is_well: bool
    """Whether nothing is broken."""
    checks: list[DoctorLine]


class CompilingOutput(Output):
    """How a network was compiled."""

    seconds: float
    trouble: str
    """Why it is not compiled, where that failed."""


class OthersOutput(Output):
    """What else the machine did: shares of the time of the processor cores that may be used."""

    is_quiet: bool
    """Whether seconds can be used, and not ratios alone."""
    used: float | None
    """By other programs; None where the system does not say."""
    stolen: float | None
    """By other machines on the same host."""
    load: float | None
    """Programs at work or waiting for a core, this one included, on average over a minute."""


class BenchOutput(Output):
    """How fast the work is on this machine."""

    machine: dict[str, str | int]
    """What was measured, and where."""
    ratios: dict[str, float]
    absolute: dict[str, float]
    """Seconds, or images per second, as their names say."""
    compiling: dict[str, CompilingOutput]
    """By part of the work; of those whose networks were to be compiled."""
    spread: dict[str, float]
    """Of the seconds of a piece of work: between the quartiles of its turns, relative to the
    median."""
    others: OthersOutput


OUTPUTS: dict[str, Any] = {
    "run": RunOutput, "plan": PlanOutput, "data": DataOutput, "new": NewOutput,
    "report": ReportOutput, "status": StatusOutput, "clean": CleanOutput,
    "sample": SampleOutput, "export": ExportOutput, "compare": CompareOutput,
    "parts": PartsOutput, "verify": VerifyOutput, "doctor": DoctorOutput,
    "bench": BenchOutput, "error": ErrorOutput,
}  # fmt: skip


def adapter_of(command: str) -> TypeAdapter[Any]:
    """What reads and checks the output of a command, or of `error`. Raises UnknownName."""
    if command not in OUTPUTS:
        raise UnknownName(
            f"there is no output of '{command}' for programs.{suggestion(command, [*OUTPUTS])}"
        )
    return TypeAdapter(OUTPUTS[command])


def schema_of(command: str) -> dict[str, Any]:
    """The JSON schema of what a command prints with `--json`. Raises UnknownName."""
    return adapter_of(command).json_schema()
