"""Two cells, or two groups of cells, against each other: what `harness compare` does.

Cells are paired by everything in which the two groups are not said to differ, seeds included, so
that what they share falls out. Pairs are judged as the report judges them, by themselves: a report
also corrects for the number of its comparisons. What must not be put side by side is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness.analysis.configurations import MetricInfo
from harness.analysis.old_pairs import Pair, PairedDifference, difference_of
from harness.analysis.statistics import SAMPLING
from harness.analysis.study import Quantity, differences
from harness.errors import NotComparable, StoreError
from harness.metrics.distances import METRICS
from harness.work.cells import FINGERPRINT, Cell, titles
from harness.work.filters import Filter
from harness.work.results import CellResult

SHOWN = 8  # cells listed where several are meant and one is wanted


@dataclass(frozen=True)
class GroupComparison:
    """What may be said of one group against another."""

    metric: MetricInfo
    first: str  # how the group was named
    second: str
    pairs: tuple[Pair, ...]
    found: PairedDifference
    left_out: int = 0  # cells without a partner

    def as_text(self) -> str:
        difference = self.found.difference
        what = {
            "better": f"{self.first} is better than {self.second}",
            "worse": f"{self.first} is worse than {self.second}",
            "inconclusive": f"inconclusive: {difference.reason}",
        }[difference.verdict]
        span = f"{difference.value:+.4g}"
        if np.isfinite(difference.low):
            span += f"  95 % interval [{difference.low:+.4g}, {difference.high:+.4g}]"
        one, other = self.found.means
        lines = [
            what,
            f"{self.metric.title}: {one:.4g} against {other:.4g}, difference {span}",
            self._basis(),
        ]
        if self.left_out:
            cells = "1 cell has" if self.left_out == 1 else f"{self.left_out} cells have"
            lines.append(f"{cells} no partner and no part in this.")
        return "\n".join(lines)

    def _basis(self) -> str:
        """What the interval rests on, and what it does not cover."""
        pairs, n = len(self.pairs), self.found.difference.n
        cells = "1 pair of cells" if pairs == 1 else f"{pairs} pairs of cells"
        if self.found.difference.covers == SAMPLING:
            how = "paired image by image" if self.found.is_paired else "errors as independent"
            models = "1 trained model" if n == 1 else f"{n} trained models"
            of = "the exact denoiser" if self.found.is_exact else models
            covers = f"sampling only, on {of}, {how}"
        else:
            covers = f"training and sampling, over {n} training seed{'' if n == 1 else 's'}"
        alone = "Judged by itself: a report corrects for the number of its comparisons."
        return f"From {cells}. Covers {covers}; the reference images are held fixed. {alone}"

    def as_json(self) -> Mapping[str, Any]:
        def plain(value: Any) -> Any:
            return None if isinstance(value, float) and not np.isfinite(value) else value

        difference = asdict(self.found.difference)
        return {
            "metric": self.metric.key,
            "first": self.first,
            "second": self.second,
            "pairs": [[a.cell.key, b.cell.key] for a, b in self.pairs],
            "values": list(self.found.means),
            "difference": plain(difference.pop("value")),
            **{key: plain(value) for key, value in difference.items()},
            "paired": self.found.is_paired,
            "left_out": self.left_out,
        }


def compare(
    results: Sequence[CellResult], first: str, second: str, metric: str, only: str | None = None
) -> GroupComparison:
    """Compare what two keys or filters name among these results (those that `only` names, where it
    is given). Raises BadOption, StoreError or NotComparable, saying why not."""
    info = MetricInfo.of(metric)
    if metric not in METRICS and not any(metric in one.measurements for one in results):
        METRICS[metric]  # refuses the name
    by_key = {one.cell.key: one for one in results if one.cell.weights == "final"}
    cells = [one.cell for one in by_key.values()]
    if only:
        cells = Filter(only).choose(cells, "store")
    ours, theirs = (
        [with_metric(by_key[cell.key], metric) for cell in meant(cells, text)]
        for text in (first, second)
    )
    refuse_other_quantities(ours, theirs)
    pairs, left_out = paired(ours, theirs, said(first) | said(second))
    found = difference_of(pairs, info)
    return GroupComparison(info, first, second, tuple(pairs), found, left_out)


def named(cells: Sequence[Cell], wanted: str) -> list[Cell]:
    """The cells that a key, its beginning or a filter names; at least one. Raises StoreError or
    BadOption."""
    if "=" in wanted:
        return Filter(wanted).choose(cells, "store")
    found = [cell for cell in cells if cell.key.startswith(wanted)]
    if not found:
        raise StoreError(
            f"no finished cell of the {len(cells)} in the store has a key that begins with "
            f"'{wanted}'. Use a filter such as schedule=cosine,steps=50."
        )
    return found


def the_one(cells: Sequence[Cell], wanted: str) -> Cell:
    """The one cell that a key or filter names. Raises StoreError where it names several."""
    found = named(cells, wanted)
    if len(found) > 1:
        title_of = titles(found)
        some = "\n".join(f"  {cell.key}  {title_of[cell.key]}" for cell in found[:SHOWN])
        raise StoreError(f"'{wanted}' names {len(found)} cells. Use one of their keys:\n{some}")
    return found[0]


def meant(cells: Sequence[Cell], text: str) -> list[Cell]:
    """The cells of a filter, or the one of a key."""
    return named(cells, text) if "=" in text else [the_one(cells, text)]


def said(text: str) -> set[str]:
    """The fields that a filter names; of a key, everything may differ."""
    return set(Filter(text).conditions) if "=" in text else {"*"}


def with_metric(result: CellResult, metric: str) -> CellResult:
    """The result, which must have a value of this metric. Raises NotComparable."""
    if metric not in result.measurements:
        why = result.undefined.get(metric, "it was not measured")
        raise NotComparable(
            f"cell {result.cell.key} ({result.cell.title}) has no {metric}: {why}. Use it in the "
            "grid's metrics and run that again: it is computed from kept features."
        )
    return result


def refuse_other_quantities(first: Sequence[CellResult], second: Sequence[CellResult]) -> None:
    """Raises NotComparable where values of these cells are not the same quantity."""
    everything = [*first, *second]
    for one in everything[1:]:
        if found := differences(everything[0], one):
            names = " and ".join(name.replace("_", " ") for name in found)
            sides = [
                f"{each.cell.key}: {', '.join(_as_condition(each, name) for name in found)}"
                for each in (everything[0], one)
            ]
            raise NotComparable(
                f"these cells differ in {names} ({'; '.join(sides)}): their values are different "
                "quantities. Use a condition on it in both filters, or in --only."
            )


def _as_condition(one: CellResult, name: str) -> str:
    """A field of a quantity as a filter takes it."""
    return f"{name}={str(getattr(Quantity.of(one), name))[:FINGERPRINT]}"


def paired(
    first: Sequence[CellResult], second: Sequence[CellResult], free: set[str]
) -> tuple[list[Pair], int]:
    """The pairs of cells that agree in all that is not free, and how many cells have no partner.
    Raises NotComparable where there is none, or several would do."""
    if len(first) == len(second) == 1:
        trainings = [group[0].cell.training for group in (first, second)]
        if trainings[0].is_exact != trainings[1].is_exact:  # one of which was never trained
            of_training = {name for training in trainings for name in training.params()}
            free = free | {n for n in of_training if not n.startswith(("data", "schedule"))}
        if "*" in free:
            return [(first[0], second[0])], 0
    identity = identity_beside(free)
    sides: list[dict[Any, CellResult]] = []
    for group in (first, second):
        by_rest: dict[Any, CellResult] = {}
        for one in group:
            if (twin := by_rest.setdefault(identity(one.cell), one)) is not one:
                title_of = titles([twin.cell, one.cell])
                raise NotComparable(
                    f"{title_of[twin.cell.key]} and {title_of[one.cell.key]} are in one group and "
                    "would have the same partner. Use more conditions in both filters."
                )
        sides.append(by_rest)
    both = [key for key in sides[0] if key in sides[1]]
    if not both:
        raise NotComparable(
            "no two cells of these groups agree in all else: each differs from the other side in "
            "something that neither filter names. Use filters that name it."
        )
    pairs = [(sides[0][key], sides[1][key]) for key in both]
    return pairs, len(first) + len(second) - 2 * len(pairs)


def identity_beside(free: set[str]) -> Callable[[Cell], tuple[Any, ...]]:
    """What two cells must have in common to be a pair, where these fields may differ."""

    def identity(cell: Cell) -> tuple[Any, ...]:
        related = free | {f"{name}_{of}" for name in free for of in ("options", "source")}
        related |= {"eta"} if free & {"sampler", "sampler_options"} else set()
        # A network is sampled under its own schedule unless something else is said.
        if "schedule" in free and cell.is_matched:
            related |= {f"sample_schedule{of}" for of in ("", "_options", "_source")}
        return tuple(sorted((k, v) for k, v in cell.fields().items() if k not in related))

    return identity
