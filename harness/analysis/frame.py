"""A study as one tidy table, for pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.analysis.study import Study
from harness.work.results import CellResult

if TYPE_CHECKING:
    import pandas as pd

# First what is compared, then how it was trained and sampled; what a part adds comes after it.
FACTORS = (
    "schedule", "schedule_options", "sample_schedule", "sample_schedule_options", "sampler",
    "sampler_options", "eta", "spacing", "spacing_options", "clip", "steps", "seed",
    "sampling_seed", "data", "scale", "model", "target", "weighting", "times", "loss_function",
    "training_steps", "batch_size", "optimizer", "learning_rate", "ema", "precision", "images",
    "extractor", "reference",
)  # fmt: skip
ALWAYS = ("schedule", "sampler", "steps", "seed")
SAMPLED = "sample_schedule"  # missing where it is the schedule trained under


def frame_of(study: Study, whole: bool = False) -> pd.DataFrame:
    """One row for each cell of a study, those of the exact denoiser included.

    First come the factors, by the names that filters take and each in its own type: `schedule`,
    `sampler`, `steps`, `seed`, and what else differs between cells (everything, where the `whole`
    is wanted). Then come for each metric its value (`kid`), its
    sampling error (`kid_se`), where it is biased its value less its bias (`fid_corrected`), and
    what real held-out images score (`kid_baseline`); then `nfe`, network evaluations per image,
    `seconds_per_image`, `machine` and `key`. What was not measured is missing (NaN).
    """
    import pandas as pd

    final = [one for one in study.results if one.cell.weights == "final"]
    table = pd.DataFrame([_row(one, study) for one in final])
    known = [name for name in FACTORS if name in table]
    table = table[[*known, *(name for name in table if name not in known)]]
    table = table.dropna(axis="columns", how="all")
    if not whole:
        same = [name for name in known if name in table and name not in ALWAYS
                and table[name].nunique(dropna=False) == 1]  # fmt: skip
        table = table.drop(columns=same)
    # Whole numbers stay whole where the exact denoiser has none: it was never trained.
    counts = [name for name in ("training_steps", "batch_size") if name in table]
    return table.astype(dict.fromkeys(counts, "Int64"))


def _row(one: CellResult, study: Study) -> dict[str, Any]:
    row: dict[str, Any] = dict(one.cell.params())
    if one.cell.is_matched:
        row = {name: value for name, value in row.items() if not name.startswith(SAMPLED)}
    row["clip"] = str(row["clip"]).lower()  # false, true, or the name of a way to clip
    for metric in study.metrics:
        name, measured = metric.key, one.measurements.get(metric.key)
        row[name] = measured and measured.value
        row[f"{name}_se"] = measured and measured.standard_error
        if metric.is_biased:
            row[f"{name}_corrected"] = measured and measured.corrected
        row[f"{name}_baseline"] = measured and measured.baseline
    return row | {
        "nfe": one.cost.nfe,
        "seconds_per_image": one.cost.seconds,
        "machine": one.provenance.machine,
        "key": one.cell.key,
    }
