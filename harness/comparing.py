"""Two cells, or two groups of cells, against each other: what `harness compare` does.

Cells are paired by everything in which the two groups are not said to differ, seeds included, so
that what they share falls out. What must not be put side by side is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import NotComparable
from harness.metrics.distances import METRICS
from harness.metrics.statistics import (
    SAMPLING,
    Comparison,
    paired_difference,
    paired_error,
    sampling_difference,
)
from harness.plan.work import Cell, Filter
from harness.runtime.store import Store
from harness.stored import finished_cells, named, the_one

# Values that differ in one of these are different quantities.
QUANTITY = ("data", "data_fingerprint", "extractor", "extractor_fingerprint", "reference", "images",
            "precision")  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """A finished cell: what it was, what came of it, and how far each image moves its value."""

    cell: Cell
    outcome: Mapping[str, Any]
    influence: NDArray[np.float32] | None

    def value(self, metric: str) -> float:
        """What a difference is taken of: the value less its bias, where it has one."""
        metrics = self.outcome["metrics"]
        return float(metrics.get(f"{metric}_centre", metrics[metric]))

    def error(self, metric: str) -> float:
        return float(self.outcome["metrics"].get(f"{metric}_se", np.nan))

    @property
    def quantity(self) -> dict[str, str]:
        """What identifies what was measured."""
        known = self.cell.params() | dict(self.outcome)
        return {name: str(known[name]) for name in QUANTITY if name in known}


PairedError = Callable[[Scored, Scored], float | None]


@dataclass(frozen=True)
class Told:
    """What may be said of one group against another."""

    metric: str
    first: str  # how the group was named
    second: str
    pairs: list[tuple[str, str]]  # keys
    values: tuple[float, float]  # the mean of each group, less its bias
    comparison: Comparison
    is_paired: bool  # image by image
    is_corrected: bool  # by what pairs of images do together
    is_exact: bool = False  # nothing was trained
    left_out: int = 0  # cells without a partner

    def as_text(self) -> str:
        comparison, name = self.comparison, METRICS[self.metric].name
        what = {
            "better": f"{self.first} is better than {self.second}",
            "worse": f"{self.first} is worse than {self.second}",
            "inconclusive": f"inconclusive: {comparison.reason}",
        }[comparison.verdict]
        span = f"{comparison.difference:+.4g}"
        if np.isfinite(comparison.low):
            span += f"  95 % interval [{comparison.low:+.4g}, {comparison.high:+.4g}]"
        lines = [
            what,
            f"{name}: {self.values[0]:.4g} against {self.values[1]:.4g}, difference {span}",
            self._basis(),
        ]
        if self.left_out:
            cells = "1 cell has" if self.left_out == 1 else f"{self.left_out} cells have"
            lines.append(f"{cells} no partner and no part in this.")
        return "\n".join(lines)

    def _basis(self) -> str:
        """What the interval rests on, and what it does not cover."""
        pairs, n = len(self.pairs), self.comparison.n
        cells = "1 pair of cells" if pairs == 1 else f"{pairs} pairs of cells"
        if self.comparison.covers == SAMPLING:
            how = "paired image by image" if self.is_paired else "with errors taken as independent"
            if self.is_paired and not self.is_corrected and self.metric == "kid":
                how += " (slightly too wide: from influences alone)"
            models = "1 trained model" if n == 1 else f"{n} trained models"
            of = "the exact denoiser" if self.is_exact else models
            covers = f"sampling only, on {of}, {how}"
        else:
            covers = f"training and sampling, over {n} training seed{'' if n == 1 else 's'}"
        return f"From {cells}. Covers {covers}; the reference images are held fixed."

    def as_json(self) -> dict[str, Any]:
        def plain(value: Any) -> Any:
            return None if isinstance(value, float) and not np.isfinite(value) else value

        told = {key: plain(value) for key, value in asdict(self.comparison).items()}
        return {
            "metric": self.metric,
            "first": self.first,
            "second": self.second,
            "pairs": [list(pair) for pair in self.pairs],
            "values": list(self.values),
            **told,
            "paired": self.is_paired,
            "corrected": self.is_corrected,
            "left_out": self.left_out,
        }


def compare(folder: Path, first: str, second: str, metric: str, only: str | None = None) -> Told:
    """Compare what two keys or filters name among the finished cells of a store (those that `only`
    names, where it is given). Raises BadOption, StoreError or NotComparable, saying why not."""
    METRICS[metric]
    store = Store(folder)
    finished = finished_cells(store)
    if only:
        finished = Filter(only).choose(finished, "store")
    ours, theirs = (
        [scored(store, cell, metric) for cell in meant(finished, text, store)]
        for text in (first, second)
    )
    refuse_other_quantities(ours, theirs)
    pairs, left_out = paired(ours, theirs, said(first) | said(second))
    return told(first, second, metric, pairs, left_out, corrected_error(store, metric))


def meant(cells: list[Cell], text: str, store: Store) -> list[Cell]:
    """The cells of a filter, or the one of a key."""
    return named(cells, text, store) if "=" in text else [the_one(cells, text, store)]


def said(text: str) -> set[str]:
    """The fields that a filter names; of a key, everything may differ."""
    return set(Filter(text).conditions) if "=" in text else {"*"}


def scored(store: Store, cell: Cell, metric: str) -> Scored:
    outcome = store.outcome(cell.key)
    value = (outcome or {}).get("metrics", {}).get(metric)
    if outcome is None or value is None or not np.isfinite(value):
        raise NotComparable(
            f"cell {cell.key} ({cell.title}) has no {metric}. Name it in the grid's metrics and "
            "run that again: it is computed from kept features."
        )
    path = store.cell(cell.key, "influence.npz")
    influence = None
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            influence = file[metric] if metric in file.files else None
    return Scored(cell, outcome, influence)


def refuse_other_quantities(first: list[Scored], second: list[Scored]) -> None:
    """Raises NotComparable where values of these cells are not the same quantity."""
    for name in QUANTITY:
        values = sorted({one.quantity.get(name, "") for one in [*first, *second]})
        if len(values) > 1:
            shown = " and ".join(value[:20] for value in values)
            raise NotComparable(
                f"these cells differ in {name.replace('_', ' ')} ({shown}): their values are "
                "different quantities. Add a condition on it to both filters."
            )


def paired(
    first: list[Scored], second: list[Scored], free: set[str]
) -> tuple[list[tuple[Scored, Scored]], int]:
    """The pairs of cells that agree in all that is not free, and how many cells have no partner.
    Raises NotComparable where there is none, or several would do."""
    if len(first) == len(second) == 1:
        return [(first[0], second[0])], 0

    def rest(one: Scored) -> tuple[tuple[str, Any], ...]:
        related = free | {f"{name}_options" for name in free}
        related |= {"eta"} if free & {"sampler", "sampler_options"} else set()
        # A network is sampled under its own schedule unless something else is said.
        same = one.cell.sample_schedule == one.cell.training.schedule
        if "schedule" in free and same:
            related |= {"sample_schedule", "sample_schedule_options"}
        params = one.cell.params()
        return tuple(sorted((k, v) for k, v in params.items() if k not in related))

    sides: list[dict[Any, Scored]] = []
    for group in (first, second):
        by_rest: dict[Any, Scored] = {}
        for one in group:
            if (twin := by_rest.setdefault(rest(one), one)) is not one:
                raise NotComparable(
                    f"{twin.cell.title} and {one.cell.title} are in one group and would have the "
                    "same partner. Name more of what they differ in, in both filters."
                )
        sides.append(by_rest)
    both = [key for key in sides[0] if key in sides[1]]
    if not both:
        raise NotComparable(
            "no two cells of these groups agree in all else: each differs from the other side in "
            "something that neither filter names"
        )
    pairs = [(sides[0][key], sides[1][key]) for key in both]
    return pairs, len(first) + len(second) - 2 * len(pairs)


def told(
    first: str,
    second: str,
    metric: str,
    pairs: list[tuple[Scored, Scored]],
    left_out: int,
    corrected: PairedError,
) -> Told:
    """The verdict on these pairs. Where both cells of each pair are of one network, what luck
    there is lies in the sampling; else it takes several training seeds."""
    lower = METRICS[metric].lower_is_better
    is_one_network = all(a.cell.training == b.cell.training for a, b in pairs)
    by_model: dict[Any, list[tuple[Scored, Scored]]] = {}
    for a, b in pairs:
        name = a.cell.training.key if is_one_network else a.cell.training.seed
        by_model.setdefault(name, []).append((a, b))
    means = [
        [float(np.mean([pair[side].value(metric) for pair in group])) for side in (0, 1)]
        for group in by_model.values()
    ]
    a_means, b_means = zip(*means, strict=True)
    is_paired = is_corrected = False
    if is_one_network or exact(pairs):
        errors = [error_of(group, metric, corrected) for group in by_model.values()]
        is_paired = all(error.is_paired for error in errors)
        is_corrected = all(error.is_corrected for error in errors)
        unknown = [np.nan] * len(errors)
        comparison = sampling_difference(
            a_means, b_means, unknown, unknown,
            errors=[error.value for error in errors], lower_is_better=lower,
        )  # fmt: skip
    else:
        comparison = paired_difference(a_means, b_means, lower_is_better=lower)
    return Told(
        metric, first, second,
        [(a.cell.key, b.cell.key) for a, b in pairs],
        (float(np.mean(a_means)), float(np.mean(b_means))),
        comparison, is_paired, is_corrected, exact(pairs), left_out,
    )  # fmt: skip


def exact(pairs: list[tuple[Scored, Scored]]) -> bool:
    """Whether nothing was trained."""
    return all(one.cell.training.is_exact for pair in pairs for one in pair)


@dataclass(frozen=True)
class PairError:
    """The standard error of a mean difference, and how it was had."""

    value: float
    is_paired: bool
    is_corrected: bool


def error_of(group: list[tuple[Scored, Scored]], metric: str, corrected: PairedError) -> PairError:
    """Of the mean difference of pairs of cells of one network. Those of one sampling seed start
    from the same noise, so their influences are added up image by image; those of different
    sampling seeds are independent."""
    if len(group) == 1:
        [(a, b)] = group
        exactly = corrected(a, b)
        if exactly is not None:
            return PairError(exactly, True, True)
    by_noise: dict[int, list[tuple[Scored, Scored]]] = {}
    for a, b in group:
        by_noise.setdefault(a.cell.sampling_seed, []).append((a, b))
    variances = []
    for same_noise in by_noise.values():
        sides = [[pair[side].influence for pair in same_noise] for side in (0, 1)]
        starts_alike = all(a.cell.sampling_seed == b.cell.sampling_seed for a, b in same_noise)
        known = all(one is not None for side in sides for one in side)
        if not (known and starts_alike):
            apart = [a.error(metric) ** 2 + b.error(metric) ** 2 for a, b in group]
            return PairError(float(np.sqrt(sum(apart)) / len(group)), False, False)
        one, other = (np.sum(np.asarray(side, dtype=np.float64), axis=0) for side in sides)
        variances.append(paired_error(one, other) ** 2)
    return PairError(float(np.sqrt(sum(variances)) / len(group)), True, False)


def corrected_error(store: Store, metric: str) -> PairedError:
    """The paired error of two cells from their kept features, where they are all at hand."""

    difference_error = METRICS[metric].difference_error

    def error(first: Scored, second: Scored) -> float | None:
        kept = first.cell.key, second.cell.key, first.outcome.get("reference_features", "")
        paths = [store.features(key) for key in kept]
        is_paired = first.cell.sampling_seed == second.cell.sampling_seed
        if difference_error is None or not is_paired or not all(map(Path.exists, paths)):
            return None
        one, other, real = (np.load(path, allow_pickle=False) for path in paths)
        if len(one) != len(other):
            return None
        return float(difference_error(one, other, real))

    return error
