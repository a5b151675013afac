"""The table a report is made from: what the tracker gives, and what may be compared in it.

`Results` is everything at once. `comparable` splits it where numbers must not be put side by side;
`tidy` turns one such group into the frame that findings and figures read: one row per cell, one
measure, labels that name all that differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness import __version__
from harness.data.damage import DAMAGES
from harness.plan.work import EXACT


@dataclass(frozen=True)
class Measure:
    """What the report must know of a metric: its column, its name in print, its direction."""

    column: str
    title: str
    lower_is_better: bool = True
    biased: bool = False  # its mean moves with the number of images, so n belongs to its name

    def named(self, images: int, extractor: str, centred: bool = False) -> str:
        """`FID (n = 2,000) on digits features`: nothing less identifies the quantity; `centred`
        where the bias that few images bring is taken off."""
        at = f" (n = {images:,}{', less its bias' if centred else ''})" if self.biased else ""
        return f"{self.title}{at} on {extractor} features" if extractor else f"{self.title}{at}"


KID = Measure("kid", "KID")
FID = Measure("fid", "FID", biased=True)


Influence = NDArray[np.float32]


@dataclass(frozen=True)
class Results:
    """Everything the report is made from, as read from the tracker.

    Columns of `cells`: key, run_id, machine, data, schedule, sample_schedule, sampler, spacing
    (each with its `_options`, if any has some), eta, steps, seed, sampling_seed, images, target,
    precision, clip, extractor, reference, training_key, training_steps, reused, and the metrics.
    Any of the metrics may be missing or NaN. A machine is named by its processor, never its host.
    """

    name: str
    cells: pd.DataFrame  # one row per finished cell
    trainings: pd.DataFrame  # one row per finished training
    failures: pd.DataFrame  # columns kind (training|cell), key, what (label), reason
    losses: Mapping[str, pd.DataFrame]  # by training key: step, loss, images_per_second
    time_losses: Mapping[str, pd.DataFrame]  # by training key: t_low, t_high, loss
    schedules: Mapping[str, pd.DataFrame]  # by label: t, alpha, sigma, log_snr
    sheets: Mapping[str, bytes]  # by cell key: samples.png, 64 tiles in 8 columns, no padding
    grid_text: str  # the YAML file as written, or the canonical one with overrides
    expected_cells: int  # how many cells the grid has
    versions: Mapping[str, str]  # harness, python, torch, ...
    commit: str  # "abc1234", "abc1234 (modified)" or ""
    measures: tuple[Measure, ...] = field(default=(KID, FID))  # the first one present decides
    # By cell key, arrays of one number an image: how far each moves a metric, by its column.
    influences: Mapping[str, Mapping[str, Influence]] = field(default_factory=dict)
    # By cell key, the network evaluations that each was allowed; empty where grids count steps.
    budgets: Mapping[str, int] = field(default_factory=dict)
    # By cell key, film.png: two images as they come about, each a row of what the sampler holds
    # and a row of what the network takes the image to be; its text `evaluations` numbers the
    # columns but the last, which is the result.
    films: Mapping[str, bytes] = field(default_factory=dict)
    # By cell key, nearest.png: in 8 columns those of its images that are nearest to a training
    # image, and below each that training image.
    nearest: Mapping[str, bytes] = field(default_factory=dict)
    # By cell key: t and log_snr of the times it was sampled along, from noise to image.
    paths: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)  # recorded cells, by the reason why
    experiment: str = ""  # its id in the tracker, for links
    ui_url: str = ""  # where a reader's MLflow UI is; empty for no links

    def ordered(self) -> Results:
        """The same results in an order that does not depend on who finished first."""
        return replace(
            self,
            cells=_ordered(self.cells, CELL_ORDER),
            trainings=_ordered(self.trainings, TRAINING_ORDER),
            failures=_ordered(self.failures, ["kind", "what", "key"]),
        )

    def fingerprint(self) -> str:
        """One number for all that the report depends on: these results and the code that words
        them. Equal fingerprints mean equal pages, byte for byte."""
        digest = hashlib.sha256(f"{__version__} {_digest_of_the_code()}".encode())
        ordered = self.ordered()
        for item in fields(ordered):
            digest.update(f"\n{item.name}:".encode())
            for piece in _pieces(getattr(ordered, item.name)):
                digest.update(piece)
        return digest.hexdigest()

    def present(self) -> list[Measure]:
        """The measures that have values here: the known ones first, then any other number that
        came with a standard error or a floor (taken to be a distance: lower is better)."""
        known = {measure.column for measure in self.measures}
        others = sorted(
            column
            for column in self.cells.columns
            if column not in known and {f"{column}_se", f"{column}_floor"} & {*self.cells.columns}
        )
        measures = [*self.measures, *(Measure(column, column) for column in others)]
        return [
            measure for measure in measures if numbers(self.cells, measure.column).notna().any()
        ]


CELL_ORDER = [
    "data", "extractor", "reference", "images", "precision", "schedule", "schedule_options",
    "sample_schedule", "sample_schedule_options", "target", "training_steps", "sampler",
    "sampler_options", "spacing", "spacing_options", "clip", "steps", "seed", "sampling_seed",
    "machine", "key",
]  # fmt: skip
TRAINING_ORDER = ["data", "model", "schedule", "schedule_options", "target", "seed", "key"]

# Numbers that differ in one of these are different quantities and never meet in a comparison.
QUANTITY = ["data", "extractor", "reference", "images", "precision"]

# What else may differ between two trainings or two ways of sampling: it joins the label of the
# schedule or of the sampler wherever it does differ, so that nothing is averaged over unseen.
OF_THE_TRAINING = [
    "model", "target", "weighting", "loss_function", "training_steps", "batch_size",
    "learning_rate", "ema",
]  # fmt: skip
OF_THE_SAMPLING = ["spacing", "clip"]


def comparable(results: Results) -> list[Results]:
    """The results split into groups whose numbers may be compared, the largest first."""
    cells = results.cells
    if cells.empty:
        return []
    quantity = [column for column in QUANTITY if column in cells]
    if not quantity:
        return [results]
    networks = learned(cells)
    groups = [group for _, group in networks.groupby(quantity, sort=True, dropna=False)]
    groups.sort(key=len, reverse=True)
    beside = cells.drop(networks.index)
    return [
        _with_cells(results, pd.concat([group, _alike(beside, group)]).reset_index(drop=True))
        for group in groups
    ]


def learned(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of trained networks; where there are none, all."""
    networks = cells[column_of(cells, "model") != EXACT]
    return networks if len(networks) else cells


def _alike(exact: pd.DataFrame, group: pd.DataFrame) -> pd.DataFrame:
    """The exact cells of the same quantity as a group. They know no precision but one."""
    keys = [column for column in QUANTITY if column in group and column != "precision"]
    shared = group[keys].drop_duplicates()
    return exact[exact[keys].apply(tuple, axis=1).isin(shared.apply(tuple, axis=1))]


def _with_cells(results: Results, cells: pd.DataFrame) -> Results:
    """These cells and the trainings they come from."""
    trainings = results.trainings
    if "key" in trainings and "training_key" in cells:
        trainings = trainings[trainings["key"].isin(cells["training_key"])].reset_index(drop=True)
    return replace(results, cells=cells, trainings=trainings)


def quantity_of(results: Results) -> dict[str, str]:
    """What the cells of one comparable group share, as text."""
    first = results.cells.iloc[0]
    shared = {column: text_of(first[column]) for column in QUANTITY if column in results.cells}
    if "images" in shared:
        shared["images"] = f"{int(float(shared['images'] or 0)):,} images"
    return shared


def tidy(results: Results, measure: Measure) -> pd.DataFrame:
    """One comparable group as the frame that findings and figures read.

    One row per cell: key, schedule and sampler (labels), trained and sampled (the schedule and
    training of the network, and the schedule it is sampled under), kind (the sampler's label
    without what else differs), setting (what else differs), steps, seed, sampling_seed, nfe,
    machine, seconds, value, centre (what intervals are centred on: the value less its bias), error,
    influence and reference_influence (how far each image and each reference image moves the value,
    or None), floor, floor_error, floor_images, images; and, the same in all rows, metric, quantity
    (the metric with all that identifies it), lower_is_better and unit (what `steps` counts: steps,
    or the evaluations a cell was allowed). Cells without a value are left out. Beside those of
    networks stands what the exact denoiser reaches in the same way, in exact_value, exact_error and
    exact_key; only where there are no networks it has rows itself. What else was measured of a cell
    stands in the columns of `_beside`, NaN where it was not.
    """
    cells = results.cells
    schedule, sampled = labels(cells, "schedule"), labels(cells, "sample_schedule")
    sampled = sampled.where(sampled != "", schedule)
    training = _of_the_training(results)
    trained = schedule + training
    schedule = schedule.where(sampled == schedule, schedule + " sampled as " + sampled)
    kind = labels(cells, "sampler")
    setting = _varying(cells, OF_THE_SAMPLING)
    frame = pd.DataFrame(
        {
            "key": column_of(cells, "key"),
            "schedule": schedule + training,
            "trained": trained,
            "sampled": sampled,
            "is_home": schedule == sampled,
            "is_exact": column_of(cells, "model") == EXACT,
            "sampler": kind + setting,
            "kind": kind,
            "setting": setting,
            "steps": _steps(results),
            "seed": numbers(cells, "seed").fillna(0).astype(int),
            "sampling_seed": numbers(cells, "sampling_seed").fillna(0).astype(int),
            "nfe": numbers(cells, "nfe"),
            "machine": column_of(cells, "machine"),
            "seconds": numbers(cells, "seconds_per_image"),
            "value": numbers(cells, measure.column),
            "centre": numbers(cells, f"{measure.column}_centre"),
            "error": np.hypot(
                numbers(cells, f"{measure.column}_se"), _reference_error(cells, measure)
            ),
            "influence": _influence(results, measure.column),
            "reference_influence": _influence(results, f"{measure.column}_reference"),
            "floor": _floor(cells, measure),
            "floor_error": numbers(cells, f"{measure.column}_floor_se"),
            "floor_images": numbers(cells, "floor_images"),
            "images": numbers(cells, "images"),
        }
    )
    frame = frame.join(_beside(results, measure))
    frame["centre"] = frame["centre"].fillna(frame["value"])
    frame["metric"] = measure.title
    centred = bool(numbers(cells, f"{measure.column}_centre").notna().all())
    frame["quantity"] = [
        measure.named(int(images), extractor, centred)
        for images, extractor in zip(
            frame["images"].fillna(0), column_of(cells, "extractor"), strict=True
        )
    ]
    frame["lower_is_better"] = measure.lower_is_better
    frame["unit"] = "evaluation" if results.budgets else "step"
    if measure.biased:  # a floor at another n is another quantity
        frame["floor"] = frame["floor"].where(frame["floor_images"] == frame["images"])
    return _beside_exact(frame[frame["value"].notna()].reset_index(drop=True))


def _beside(results: Results, measure: Measure) -> pd.DataFrame:
    """What else was measured of each cell: eta and spacing; joules an image; contrast, its error
    and what theory foresees of it, and the signal rate at the last time; the measure at the
    checkpoint of its training, and how far each image moves that; the measure of real images that
    are damaged, by the name of the damage; precision, recall and memorisation with their errors;
    the seconds foretold and taken, by the cell and its training, for work done here and not
    reused."""
    cells = results.cells
    images, each = numbers(cells, "images"), numbers(cells, "seconds_per_image")
    took = images * (each + numbers(cells, "feature_seconds_per_image"))
    reused = column_of(cells, "reused") == "True"
    columns = {
        "eta": numbers(cells, "eta"),
        "spacing": labels(cells, "spacing"),
        "joules": numbers(cells, "joules_per_image"),
        "contrast": numbers(cells, "contrast"),
        "contrast_error": numbers(cells, "contrast_error"),
        "contrast_theory": numbers(cells, "contrast_theory"),
        "last_signal": numbers(cells, "last_abar") ** 0.5,
        "checkpoint": numbers(cells, f"{measure.column}_checkpoint"),
        **{name: numbers(cells, f"{measure.column}_{name}") for name in DAMAGES},
        "checkpoint_influence": _influence(results, f"{measure.column}_checkpoint"),
        "forecast": numbers(cells, "forecast_seconds").mask(reused),
        "took": took.mask(reused),
        "training_key": column_of(cells, "training_key"),
    }
    for name, column in (
        ("precision", "precision_score"), ("recall", "recall"), ("memorisation", "memorisation"),
    ):  # fmt: skip
        columns[name] = numbers(cells, column)
        columns[f"{name}_error"] = numbers(cells, f"{column}_se")
    frame = pd.DataFrame(columns)
    trainings = results.trainings
    if "key" in trainings:
        here = column_of(trainings, "reused") != "True"
        costs = {"training_forecast": "forecast_seconds", "training_took": "seconds"}
        for name, column in costs.items():
            of_training = numbers(trainings, column).where(here).set_axis(trainings["key"])
            once = of_training[~of_training.index.duplicated()]
            frame[name] = frame["training_key"].map(once).astype(np.float64)
    return frame.reindex(columns=[*frame.columns.union(["training_forecast", "training_took"])])


def _floor(cells: pd.DataFrame, measure: Measure) -> pd.Series[float]:
    """What real images reach, less its bias where that of the cells is taken off too."""
    floor = numbers(cells, f"{measure.column}_floor")
    if numbers(cells, f"{measure.column}_centre").isna().all():
        return floor
    return numbers(cells, f"{measure.column}_floor_centre").fillna(floor)


def _reference_error(cells: pd.DataFrame, measure: Measure) -> pd.Series[float]:
    """What the luck of the reference adds to a standard error, where that was asked for."""
    return numbers(cells, f"{measure.column}_reference_se").fillna(0.0)


def _influence(results: Results, column: str) -> pd.Series[Any]:
    """How far each image of each cell moves this measure, where that is known."""
    found = [results.influences.get(key, {}).get(column) for key in column_of(results.cells, "key")]
    return pd.Series(found, index=results.cells.index, dtype=object)


def _steps(results: Results) -> pd.Series[int]:
    """The steps of each cell, or the evaluations it was allowed where grids count those."""
    steps = numbers(results.cells, "steps").fillna(0).astype(int)
    if not results.budgets:
        return steps
    return column_of(results.cells, "key").map(results.budgets).fillna(steps).astype(int)


def _beside_exact(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of networks, each with what the exact denoiser reaches in the same way."""
    exact, networks = frame[frame["is_exact"]], frame[~frame["is_exact"]]
    if exact.empty or networks.empty:
        return frame.assign(exact_value=np.nan, exact_error=np.nan, exact_key="")
    same_way = ["sampled", "sampler", "steps", "sampling_seed"]
    beside = exact.drop_duplicates(same_way).set_index(same_way)
    beside = beside[["centre", "error", "key"]].rename(columns={"centre": "value"})
    joined = networks.join(beside.add_prefix("exact_"), on=same_way)
    return joined.fillna({"exact_key": ""}).reset_index(drop=True)


def training_labels(trainings: pd.DataFrame) -> pd.Series[str]:
    """The schedule of each training, with all else in which the trainings differ."""
    return labels(trainings, "schedule") + _varying(trainings, OF_THE_TRAINING)


def numbers(frame: pd.DataFrame, column: str) -> pd.Series[float]:
    """A column as numbers; NaN where it is missing, not a number or infinite."""
    if column not in frame:
        return pd.Series(np.nan, index=frame.index, dtype=np.float64)
    values = pd.to_numeric(frame[column], errors="coerce").astype(np.float64)
    return values.where(np.isfinite(values))


def column_of(frame: pd.DataFrame, column: str) -> pd.Series[str]:
    """A column as text; empty where it is missing."""
    if column not in frame:
        return pd.Series("", index=frame.index, dtype=object)
    return frame[column].map(text_of).astype(object)


def labels(frame: pd.DataFrame, role: str) -> pd.Series[str]:
    """The part in a role with its options: `cosine`, `ddim(eta=0.5)`."""
    name, options = column_of(frame, role), column_of(frame, f"{role}_options")
    return name.where(options == "", name + "(" + options + ")")


def text_of(value: object) -> str:
    """A value of the table as a person would write it."""
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _of_the_training(results: Results) -> pd.Series[str]:
    """What else differs between the trainings of these cells, cell by cell."""
    cells, trainings = results.cells, results.trainings
    if not {"key"} <= {*trainings.columns} or "training_key" not in cells:
        return _varying(cells, OF_THE_TRAINING)
    varying = _varying(trainings, OF_THE_TRAINING).set_axis(trainings["key"])
    return cells["training_key"].map(varying[~varying.index.duplicated()]).astype(object).fillna("")


def _varying(frame: pd.DataFrame, columns: Iterable[str]) -> pd.Series[str]:
    """What these columns add to a label: nothing where all rows agree."""
    label = pd.Series("", index=frame.index, dtype=object)
    for column in columns:
        values = labels(frame, column)
        if values.nunique() > 1:
            shown = (
                values
                if column in {"model", "target", "weighting", "loss_function", "spacing"}
                else (column.replace("_", " ") + " " + values)
            )
            label = label + ", " + shown
    return label


def _ordered(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    by = [column for column in by if column in frame]
    columns = [*by, *sorted(set(frame.columns) - set(by))]
    frame = frame[columns]
    return frame.sort_values(by, kind="stable", ignore_index=True) if by else frame


def _pieces(value: object) -> Iterable[bytes]:
    """A value of Results as bytes that are equal only for equal values."""
    if isinstance(value, pd.DataFrame):
        yield value.to_csv(index=False, lineterminator="\n").encode()
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield f"\n{key}=".encode()
            yield from _pieces(value[key])
    elif isinstance(value, np.ndarray):
        yield value.tobytes()
    else:
        yield value if isinstance(value, bytes) else repr(value).encode()


@cache
def _digest_of_the_code() -> str:
    """Changes with the wording: a report is stale when the code that writes it has changed."""
    home = Path(__file__).parent
    sources = [
        *home.rglob("*.py"),
        *home.glob("templates/*"),
        home.parent / "metrics/statistics.py",
    ]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(sources))).hexdigest()
