"""Work and results made by hand, for tests to change by `dataclasses.replace`."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np

from harness.work.cells import EXACT, Cell, Part, Training
from harness.work.execution import Execution, Format
from harness.work.results import (
    Artifacts,
    CellResult,
    Cost,
    LossBin,
    LossPoint,
    Measurement,
    Provenance,
    SamplingPath,
    TrainingResult,
)

TRAINING = Training(
    data=Part("digits"),
    model=Part.of("tiny", {"widths": (8,), "attention": ()}),
    schedule=Part("cosine"),
    target="noise",
    weighting=Part("simple"),
    seed=0,
    training_steps=100,
    batch_size=10,
    learning_rate=1e-3,
    ema=0.9,
    precision="float32",
)
CELL = Cell(
    training=TRAINING,
    sample_schedule=Part("cosine"),
    sampler=Part("ddim"),
    spacing=Part("trailing"),
    steps=10,
    images=50,
    sampling_seed=0,
    clip=False,
    extractor=Part("digits"),
    reference="train",
)
MACHINE = "Intel(R) Xeon(R) Processor, 2 cores"
PROVENANCE = Provenance(
    machine=MACHINE,
    precision="float32",
    data="d",
    versions={"harness": "0.1.0", "python": "3.11.9", "torch": "2.13.0"},
    extractor="digits",
    extractor_fingerprint="e",
)
EXECUTION = Execution(
    machine=MACHINE,
    data="digits",
    network="tiny at 8x8",
    asked="auto",
    format=Format("float32", True),
    threads=1,
    rule_format=Format("bfloat16", False),
    rule_threads=1,
    gain=1.2,
)
COST = Cost(
    nfe=10,
    seconds_per_image=(0.01, 0.011, 0.012),
    feature_seconds_per_image=1e-4,
    peak_memory_bytes=410_000_000,
)


def part(text: str) -> Part:
    """`ddim(eta=0.5)` as a part; its options are numbers."""
    name, _, options = text.rstrip(")").partition("(")
    given = (item.split("=") for item in options.split(",") if item)
    return Part.of(name, {key.strip(): float(value) for key, value in given})


def cell(
    schedule: str = "cosine", sampler: str = "ddim", steps: int = 10, seed: int = 0, **changes
) -> Cell:
    """A cell by its parts. `model`, `training_steps` and other fields of a training may be among
    the changes; `sample_schedule` is that of the training unless it is given."""
    of_training = {
        name: changes.pop(name) for name in [*changes] if name in Training.__dataclass_fields__
    }
    training = replace(TRAINING, schedule=part(schedule), seed=seed, **of_training)
    if training.model.name == EXACT:
        training = replace(training, training_steps=0)
    return replace(
        CELL,
        training=training,
        sampler=part(sampler),
        steps=steps,
        **{"sample_schedule": training.schedule} | changes,
    )


def measured(value: float, error: float | None = 0.001, **more) -> Measurement:
    """A measurement without bias, unless `corrected` is given."""
    return Measurement(**{"value": value, "corrected": value, "standard_error": error} | more)


def result(of: Cell = CELL, files: dict[str, bytes] | None = None, **changes) -> CellResult:
    """What came of a cell: `kid=0.1` or `kid=measured(...)` gives a measurement of any metric, and
    `influences={"kid": array}` how far each image moves it; other changes are fields."""
    fields = CellResult.__dataclass_fields__
    influences = changes.pop("influences", {})
    kept = {name: changes.pop(name) for name in [*changes] if name in fields}
    measurements = {
        name: each if isinstance(each, Measurement) else measured(each)
        for name, each in changes.items()
    }
    files = dict(files or {})
    if influences:
        files["influence.npz"] = npz(influences)
    made = CellResult(
        cell=of,
        measurements=measurements,
        cost=replace(COST, nfe=of.steps),
        provenance=replace(PROVENANCE, extractor=str(of.extractor)),
        path=SamplingPath(4.1e-5, 1.0, 0),
        feature_width=64,
        artifacts=Artifacts.of(files),
    )
    return replace(made, **kept)


def trained(of: Training = TRAINING, files: dict[str, bytes] | None = None, **changes):
    """What came of a training."""
    made = TrainingResult(
        training=of,
        loss=0.055,
        loss_curve=tuple(LossPoint(step, 0.055 + 1 / step) for step in range(10, 101, 10)),
        loss_by_time=tuple(LossBin(i / 20, (i + 1) / 20, 0.4 / (i + 1)) for i in range(20)),
        seconds=41.0,
        parameters=252_113,
        provenance=replace(PROVENANCE, extractor="", extractor_fingerprint="", threads=1),
        artifacts=Artifacts.of(files or {}),
    )
    return replace(made, **changes)


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()
