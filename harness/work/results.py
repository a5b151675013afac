"""What was found: one typed value for each piece of work, written once and read back equal.

The engine makes it, the store keeps it as `result.json`, the tracker keeps a copy with the run,
and everybody reads the same value. Files beside it (pictures, curves, the influence of each image)
are named with their checksums in `artifacts`.
"""

from __future__ import annotations

import hashlib
import io
import re
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from harness.errors import StoreError, say_once
from harness.work.cells import Cell, Training
from harness.work.looks import Look
from harness.work.reading import Files, Measures, Reading

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

RESULT = "result.json"
INFLUENCES = "influence.npz"  # by metric, how far each image moves its value
SAMPLES, FILM, NEAREST = "samples.png", "film.png", "nearest.png"
EVERY_STEP = "film.webp"  # the same film with all evaluations
FORWARD, LOOKS = "forward.png", "looks.png"  # of a training: its images in noise; samples by step
PATH_CURVE, SCHEDULE_CURVE = "path.csv", "schedule.csv"
DENOISING_CURVE = "denoising.csv"  # for people: the numbers are in the result
# What a report is made from, beside the result itself; the other files stay in the store.
# Made where images are sampled, or a network is trained.
DRAWN_FILES = (
    SAMPLES, FILM, EVERY_STEP, NEAREST, FORWARD, LOOKS, PATH_CURVE, SCHEDULE_CURVE,
)  # fmt: skip
SHOWN_FILES = (INFLUENCES, *DRAWN_FILES)
PURE_NOISE = "pure_noise"  # the far end of a distance's scale, among the degraded copies

KEPT = 20_000  # results that are parsed once, ten kilobytes each
SIGNED = re.compile(rb'\{\n "sha256": "([0-9a-f]{64})",')  # how the text of a result begins

Read = Callable[[str], "bytes | None"]


@dataclass(frozen=True)
class Artifacts:
    """The files of a piece of work, by name, with the sha256 of each; and how to read them here.

    Where they are is no part of the value: the same result lies in the store and with its run.
    """

    checksums: Mapping[str, str] = field(default_factory=dict)
    read_from: Annotated[Any, Field(exclude=True)] = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, contents: Mapping[str, bytes]) -> Artifacts:
        """Artifacts that are still in memory."""
        checksums = {name: checksum(content) for name, content in sorted(contents.items())}
        return cls(checksums, contents.get)

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is no such file, or it is not at hand. Raises
        StoreError where it is not what was written."""
        if name not in self.checksums or self.read_from is None:
            return None
        content: bytes | None = self.read_from(name)
        if content is not None and checksum(content) != self.checksums[name]:
            raise StoreError(
                f"the file {name} of a result is damaged: its checksum is not that of the file "
                "that was written. Use harness run with its grid, which makes it again."
            )
        return content

    def table(self, name: str) -> pd.DataFrame | None:
        """A CSV file."""
        import pandas as pd

        content = self.read(name)
        if content is None:
            return None
        # As it was written: before 3, pandas rounds the last digit otherwise.
        return pd.read_csv(io.BytesIO(content), float_precision="round_trip")

    def arrays(self, name: str = INFLUENCES) -> Mapping[str, NDArray[np.float32]]:
        """The arrays of an npz file by name; none where it is not at hand."""
        import numpy as np

        if (content := self.read(name)) is None:
            return {}
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {array: file[array] for array in file.files}


@dataclass(frozen=True)
class Measurement:
    """One metric of one cell."""

    value: float
    corrected: float  # less its finite-sample bias; equals value where there is none
    standard_error: float | None = None  # sampling error, the reference held fixed
    reference_error: float | None = None  # what the choice of the reference adds
    baseline: float | None = None  # what real held-out images score, as many where there are
    baseline_corrected: float | None = None
    # Corrected, of degraded copies of real images and of pure noise, by the names of DEGRADATIONS.
    degraded: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_corrected(self) -> bool:
        return self.corrected != self.value


@dataclass(frozen=True)
class PixelSpread:
    """The standard deviation of pixels over images, relative to that of real images."""

    value: float
    standard_error: float | None
    predicted: float | None  # in closed form for Gaussian data and an exact denoiser


@dataclass(frozen=True)
class SamplingPath:
    """What is known of a cell's times."""

    first_abar: float  # what is left of the signal where sampling starts
    last_abar: float  # below 1, images never have all of their signal
    clamped: int  # times whose log SNR lies outside the range that was trained on
    # Before 0, where they were fitted to the network; else none, since the cell says which.
    times: tuple[float, ...] = ()


@dataclass(frozen=True)
class Cost:
    """What the images of a cell cost on the machine of its provenance."""

    nfe: int  # network evaluations per image
    seconds_per_image: tuple[float, ...]  # of each timed batch, the sampler alone
    feature_seconds_per_image: float
    peak_memory_bytes: int
    joules_per_image: float | None = None
    compile_seconds: float = 0.0
    fit_seconds: float = 0.0  # to fit the steps, once for all cells of a network and a schedule

    @property
    def seconds(self) -> float:
        """The median seconds per image."""
        return statistics.median(self.seconds_per_image)

    @property
    def seconds_spread(self) -> float | None:
        """Half the interquartile range; None of fewer than three batches."""
        if len(self.seconds_per_image) < 3:
            return None
        low, _, high = statistics.quantiles(self.seconds_per_image, n=4)
        return (high - low) / 2


@dataclass(frozen=True)
class Provenance:
    """Where and by what a result was made."""

    machine: str
    precision: str  # in which the network computed
    data: str  # sha256 of the images
    versions: Mapping[str, str]
    extractor: str = ""  # its label
    extractor_fingerprint: str = ""
    threads: int | None = None
    processes: int = 1
    micro_batches: int = 1  # in which each process worked on its share of a batch, for its memory
    is_shared: bool = False  # whether other jobs may have run on its machine at the same time
    is_compiled: bool = False
    compile_trouble: str = ""  # why it was not, where it should have been
    # How the weights of a network that was trained here lay in memory.
    channels_last: bool | None = None


@dataclass(frozen=True)
class CellResult:
    """What came of a cell."""

    cell: Cell
    measurements: Mapping[str, Measurement]
    cost: Cost
    provenance: Provenance
    path: SamplingPath
    feature_width: int
    undefined: Mapping[str, str] = field(default_factory=dict)  # metric -> why it has no value
    # Of metrics of other packages, the distribution, version and code that evaluated them.
    metric_sources: Mapping[str, str] = field(default_factory=dict)
    pixel_spread: PixelSpread | None = None
    baseline_images: int | None = None
    reference_features: str = ""  # the key of the kept features of the reference
    artifacts: Artifacts = field(default_factory=Artifacts)

    @property
    def work(self) -> Cell:
        return self.cell

    @property
    def seconds(self) -> float:
        """What it took: sampling and features, not the arithmetic of the metrics."""
        return self.cell.images * (self.cost.seconds + self.cost.feature_seconds_per_image)

    @cached_property
    def influences(self) -> Mapping[str, NDArray[np.float32]]:
        """By metric, how far each image moves its value [N]; by `metric_reference`, how far each
        reference image does [M]. Empty where the file is not at hand, or damaged, which is said."""
        try:
            return self.artifacts.arrays()
        except StoreError as error:
            say_once(f"cell {self.cell.key}: {error}")
            return {}

    def influence(self, metric: str) -> NDArray[np.float32] | None:
        return self.influences.get(metric)

    def reference_influence(self, metric: str) -> NDArray[np.float32] | None:
        return self.influences.get(f"{metric}_reference")


@dataclass(frozen=True)
class LossPoint:
    """The mean loss over a stretch of steps that ends here."""

    step: int
    loss: float


@dataclass(frozen=True)
class LossBin:
    """The mean loss over a stretch of times, at the end of a training."""

    t_low: float
    t_high: float
    loss: float


@dataclass(frozen=True)
class Mean:
    """A mean over images, with its standard error; None of one image."""

    value: float
    standard_error: float | None


@dataclass(frozen=True)
class DenoisingError:
    """The mean squared error of eps per pixel at one log SNR: of the network, and of denoisers that
    are known."""

    log_snr: float
    is_outside: bool  # of what it was trained on: it was asked about the nearest that it was
    held_out: Mean
    train: Mean
    # By how much the last tenth of the training raised that of held-out images, image by image.
    last_tenth: Mean | None
    linear: float  # of the best linear denoiser, on held-out images
    # Of the exact denoiser: on held-out images where the distribution of the data is known, else of
    # the training images as a finite set, on some of them.
    exact: float | None


@dataclass(frozen=True)
class Denoising:
    """How well the averaged network tells noise from image, at levels that do not depend on its
    schedule, with images and noise that are the same for all networks of a data set."""

    levels: tuple[DenoisingError, ...]  # by rising log SNR
    images: int  # of either part
    noises: int  # of each image, at each level
    variance: float  # of a pixel over images, averaged over pixels, in the network's units
    # A bound on the negative log likelihood in bits per pixel and channel, from the levels that the
    # network was trained on.
    bits: Mean | None = None  # of held-out images
    train_bits: Mean | None = None
    # By how much log SNR is higher for pixels in -1..1, in which levels are the same for all.
    offset: float = 0.0


@dataclass(frozen=True)
class TrainingResult:
    """What came of a training."""

    training: Training
    loss: float  # the mean over its last tenth
    loss_curve: tuple[LossPoint, ...]
    loss_by_time: tuple[LossBin, ...]
    seconds: float
    parameters: int
    provenance: Provenance
    compile_seconds: float = 0.0
    # The key of the training whose steps made this average too: their seconds are the same ones.
    shared_with: str = ""
    denoising: Denoising | None = None  # of earlier versions there is none
    reading: Reading | None = None  # of its images, without names of files; likewise
    artifacts: Artifacts = field(default_factory=Artifacts)

    @property
    def work(self) -> Training:
        return self.training

    @property
    def images_per_second(self) -> float:
        return self.training.training_steps * self.training.batch_size / self.seconds


Result = CellResult | TrainingResult
R = TypeVar("R", CellResult, TrainingResult)


@dataclass(frozen=True)
class Failure:
    """Why a piece of work has no result: one line for the screen, the whole for the record."""

    reason: str
    details: str = ""


def to_json(result: Result) -> str:
    """The result as text, which begins with its own checksum; `from_json` reads it back equal."""
    kind: Any = type(result)
    text: bytes = _adapter(kind).dump_json(result, indent=1)
    return f'{{\n "sha256": "{checksum(text)}",{text[1:].decode()}'


def from_json(kind: type[R], text: str | bytes, read_from: Read | None, where: str) -> R:
    """A result from its text, its files read by `read_from`. Raises StoreError naming `where`
    for anything but what `to_json` wrote; of an earlier version, without a checksum, as far as
    fields and types can tell."""
    text = text.encode() if isinstance(text, str) else text
    if signed := SIGNED.match(text):
        text = b"{" + text[signed.end() :]
        if checksum(text) != signed[1].decode():
            raise StoreError(
                f"{where} is not what was written there: its checksum is another. Use harness run "
                "with its grid, which makes it again."
            )
    named: Any = kind
    try:
        result: R = _parsed(named, text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "its text"
        raise StoreError(
            f"{where} is not what was written there ({place}: {first['msg']}): something else "
            "changed it. Use harness run with its grid, which makes it again."
        ) from None
    return replace(result, artifacts=replace(result.artifacts, read_from=read_from))


@lru_cache(maxsize=KEPT)
def _parsed(kind: Any, text: bytes) -> Any:
    """The result of a text. The store and the run of a cell have the same one: it is read twice,
    parsed once, and its key worked out once."""
    return _adapter(kind).validate_json(text)


def checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


# A number that is not finite stays what it is, and a field that nobody knows is no result.
_VALUES: tuple[Any, ...] = (
    Artifacts, Measurement, PixelSpread, SamplingPath, Cost, Provenance, CellResult, LossPoint,
    LossBin, Mean, DenoisingError, Denoising, Files, Measures, Reading, TrainingResult,
)  # fmt: skip
for _value in _VALUES:
    _value.__pydantic_config__ = ConfigDict(ser_json_inf_nan="constants", extra="forbid")


@dataclass(frozen=True)
class Run:
    """Where and how a result was recorded."""

    id: str = ""
    is_reused: bool = False  # the work was done for another grid, or another experiment
    forecast: float | None = None  # seconds that it was predicted to take


@dataclass(frozen=True)
class FailedWork:
    """A piece of work that failed and has not succeeded since."""

    kind: str  # training or cell
    key: str
    title: str
    reason: str


@dataclass(frozen=True)
class Experiment:
    """Everything recorded of a grid: what a report is made from. It needs no store, no grid file
    and no torch."""

    name: str
    cells: tuple[CellResult, ...]
    trainings: tuple[TrainingResult, ...] = ()
    runs: Mapping[str, Run] = field(default_factory=dict)  # by key
    failures: tuple[FailedWork, ...] = ()
    expected_cells: int = 0  # how many the grid has
    expected_trainings: int = 0
    looks: tuple[Look, ...] = ()  # at the data, where there were several
    looked: tuple[
        int, ...
    ] = ()  # training seeds of earlier reports, before more were added by hand
    command: str = ""  # that ran the grid
    left_out: Mapping[str, int] = field(default_factory=dict)  # recorded cells, by the reason why
    grid_text: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""
    id: str = ""  # in the tracker, for links
    has_view: bool = False  # whether the tracker's page has the view of the cells
    ui_url: str = ""  # where a reader's MLflow UI is; empty for no links
