"""Two cells, or two groups of cells, against each other: what `harness compare` does.

Cells are paired by everything in which the two groups are not said to differ, seeds included, so
that what they share falls out. What the report of a grid compares, too, has the verdict that it has
there; anything else is judged by itself. What must not be put side by side is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.analysis.configurations import MetricInfo
from harness.analysis.decisions import SAMPLING, UNMEASURED, Effect, is_vague, seed_effects
from harness.analysis.pairs import Pair, mean_size, sampling_effect
from harness.analysis.questions import judged_pair
from harness.analysis.statistics import Interval
from harness.analysis.study import Quantity, Study, differences
from harness.errors import NotComparable, StoreError, at_most
from harness.metrics.distances import METRICS
from harness.work.cells import FINGERPRINT, Cell, Param, denoiser_name, titles
from harness.work.filters import Filter
from harness.work.results import CellResult

if TYPE_CHECKING:
    from harness.work.outputs import CompareOutput

SHOWN = 8  # cells listed where several are meant and one is wanted
# Of a relative change: a mean of ratios this far from the ratio of the means puzzles beside them.
APART = 0.005


@dataclass(frozen=True, repr=False)
class GroupComparison:
    """What may be said of one group against another."""

    metric: MetricInfo
    first: str  # how the group was named
    second: str
    pairs: tuple[Pair, ...]
    means: tuple[float, float]  # of each side, less the bias
    effect: Effect
    question: str = ""  # of the grid that asks it, which judged it; empty for an exploratory one
    left_out: int = 0  # cells without a partner
    passed_over: tuple[Cell, ...] = ()  # that were not trained, and that no filter asks for

    def __repr__(self) -> str:
        return self.as_text()

    def _repr_html_(self) -> str:
        verdict, *rest = map(escape, self.as_text().splitlines())
        return f"<p><b>{verdict}</b><br>{'<br>'.join(rest)}</p>"

    @property
    def verdict(self) -> str:
        """Of the first group against the second: `better`, `worse` or `inconclusive`."""
        return self.effect.verdict

    def as_text(self) -> str:
        effect = self.effect
        what = {
            "better": f"{self.first} is better than {self.second}",
            "worse": f"{self.first} is worse than {self.second}",
            "inconclusive": f"inconclusive: {effect.why}",
        }[effect.verdict]
        lines = [what, self._difference(), self._basis()]
        if self.left_out:
            cells = "1 cell has" if self.left_out == 1 else f"{self.left_out} cells have"
            lines.append(f"{cells} no partner and no part in this.")
        if self.passed_over:
            lines.append(told_passed_over(self.passed_over))
        return "\n".join(lines)

    @property
    def is_share(self) -> bool:
        """Whether the difference can be told in per cent: of values near zero or below it, a share
        means nothing."""
        name = self.metric.key
        least = min(one.measurements[name].corrected for pair in self.pairs for one in pair)
        return self.effect.is_ratio and least > 0 and not is_vague(self.effect.change)

    def _difference(self) -> str:
        """The means of both groups, and by how much the first is above the second."""
        (one, other), change = self.means, self.effect.change
        told = f"{self.metric.title}: {one:.4g} against {other:.4g}"
        if not self.is_share:
            told += f", a difference of {one - other:+.3g}"
            is_known = np.isfinite(change.estimate)
            return told + " (no per cent of so small a value)" * bool(is_known)
        told += f", {100 * change.estimate:+.3g} %"
        is_apart = abs(change.estimate - (one / other - 1)) > APART
        told += " as an average of ratios" * is_apart
        if np.isfinite(change.low):
            told += f"  95 % interval [{100 * change.low:+.3g}, {100 * change.high:+.3g}]"
        return told

    def _basis(self) -> str:
        """What the interval rests on, and what it does not cover."""
        pairs, n = len(self.pairs), self.effect.n
        cells = "1 pair of cells" if pairs == 1 else f"{pairs} pairs of cells"
        if self.effect.covers == SAMPLING:
            how = "paired image by image" if self.effect.is_paired else "errors as independent"
            trainings = [one.cell.training for pair in self.pairs for one in pair]
            models = "1 trained model" if n == 1 else f"{n} trained models"
            if not any(one.is_trained for one in trainings):
                models = " and ".join(sorted({denoiser_name(one) for one in trainings}))
            covers = f"sampling only, on {models}, {how}"
        else:
            covers = f"training and sampling, over {n} training seed{'' if n == 1 else 's'}"
        judged = (
            f"Judged within {self.question}, as in its report."
            if self.question
            else "No grid asks this: judged by itself, so exploratory."
        )
        return f"From {cells}. Covers {covers}; the reference images are held fixed. {judged}"

    def as_json(self) -> CompareOutput:
        def plain(value: float) -> float | None:
            return value if np.isfinite(value) else None

        effect, change = self.effect, self.effect.change
        if not self.is_share:
            change = Interval(np.nan, np.nan, np.nan, change.n)
        return {
            "metric": self.metric.key,
            "first": self.first,
            "second": self.second,
            "pairs": [[a.cell.key, b.cell.key] for a, b in self.pairs],
            "values": list(self.means),
            "change": plain(change.estimate),
            "low": plain(change.low),
            "high": plain(change.high),
            "verdict": effect.verdict,
            "reason": effect.why,
            "p": plain(effect.p),
            "adjusted_p": plain(effect.adjusted),
            "n": effect.n,
            "covers": effect.covers,
            "paired": effect.is_paired,
            "question": self.question,
            "left_out": self.left_out,
            "passed_over": [cell.key for cell in self.passed_over],
        }


def compare(
    results: Sequence[CellResult],
    first: str,
    second: str,
    metric: str,
    only: str | None = None,
    grids: Mapping[str, Sequence[Study]] = {},
) -> GroupComparison:
    """Compare what two keys or filters name among these results (those that `only` names, where it
    is given). The verdict is that of the first of `grids`, by name, whose report makes the same
    comparison. A filter that names no model means trained networks where there are any, as does a
    report. Raises BadOption, StoreError or NotComparable, saying why not."""
    info = MetricInfo.of(metric)
    if metric not in METRICS and not any(metric in one.measurements for one in results):
        METRICS[metric]  # refuses the name
    by_key = {one.cell.key: one for one in results if one.cell.weights == "final"}
    cells = [one.cell for one in by_key.values()]
    if only:
        cells = Filter(only).choose(cells, "store")
    sides, passed_over = both_meant(cells, first, second, only)
    ours, theirs = ([with_metric(by_key[cell.key], metric) for cell in side] for side in sides)
    refuse_other_quantities(ours, theirs)
    pairs, left_out = paired(ours, theirs, said(first) | said(second))
    keys = frozenset((one.cell.key, other.cell.key) for one, other in pairs)
    means = tuple(
        float(np.mean([pair[side].measurements[metric].corrected for pair in pairs]))
        for side in (0, 1)
    )
    for name, studies in sorted(grids.items()):
        for study in studies:
            if found := judged_pair(study, keys, metric):
                question = f"the question of the {found[0]} of the grid '{name}'"
                return GroupComparison(
                    info, first, second, tuple(pairs), (means[0], means[1]), found[1], question,
                    left_out, passed_over,
                )  # fmt: skip
    effect = effect_of(pairs, info)
    return GroupComparison(
        info, first, second, tuple(pairs), (means[0], means[1]), effect.judged(effect.p),
        left_out=left_out, passed_over=passed_over,
    )  # fmt: skip


def effect_of(pairs: Sequence[Pair], metric: MetricInfo) -> Effect:
    """The mean relative difference over these pairs, by itself: image by image where both cells of
    each pair are of one network, or nothing is trained; else over training seeds."""
    groups: dict[object, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(_beside_seeds(pair), []).append(pair)
    is_untrained = not any(one.cell.training.is_trained for pair in pairs for one in pair)
    if is_untrained or all(a.cell.training == b.cell.training for a, b in pairs):
        sizes = [
            mean_size([_mean(group, side, metric.key) for side in (0, 1)])
            for group in groups.values()
        ]
        effect = sampling_effect(list(groups.values()), metric, sizes)
        if is_untrained or effect.reason != UNMEASURED:
            return effect
    seeds = sorted({a.cell.training.seed for a, _ in pairs})
    values = np.full((2, len(seeds), len(groups)), np.nan)
    for place, group in enumerate(groups.values()):
        for row, seed in enumerate(seeds):
            if of_it := [pair for pair in group if pair[0].cell.training.seed == seed]:
                values[:, row, place] = [_mean(of_it, side, metric.key) for side in (0, 1)]
    main, _ = seed_effects(values, [(0, 1)], metric.lower_is_better)
    return main[0, 1]


def _mean(group: Sequence[Pair], side: int, metric: str) -> float:
    return float(np.mean([pair[side].measurements[metric].corrected for pair in group]))


def _beside_seeds(pair: Pair) -> tuple[Cell, Cell]:
    """What two cells are, whatever their seeds."""
    first, second = (
        replace(one.cell, training=replace(one.cell.training, seed=0), sampling_seed=0)
        for one in pair
    )
    return first, second


def named(cells: Sequence[Cell], wanted: str) -> list[Cell]:
    """The cells that a key, its beginning or a filter names, at least one; but of a filter that
    does not name the model, those of trained networks where there are any, as in a report. Raises
    StoreError or BadOption."""
    passed_over = {*untrained_beside(cells, wanted)}
    return [cell for cell in matching(cells, wanted) if cell not in passed_over]


def untrained_beside(cells: Sequence[Cell], wanted: str) -> list[Cell]:
    """Those of the cells of a filter that were not trained, where others were and the filter does
    not say which are meant."""
    found = [] if says_model(wanted) else matching(cells, wanted)
    return untrained(found) if any(cell.training.is_trained for cell in found) else []


def says_model(text: str) -> bool:
    """Whether a key or filter says itself which denoisers it means."""
    return "=" not in text or Filter(text).names_model


def untrained(cells: Iterable[Cell]) -> list[Cell]:
    """Those of the cells whose denoiser was not trained here."""
    return [cell for cell in cells if not cell.training.is_trained]


def told_passed_over(cells: Sequence[Cell]) -> str:
    """One line on cells that a filter could mean and does not, for want of a word."""
    models = " or ".join(sorted({f"model={cell.training.model}" for cell in cells}))
    count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
    return f"Trained networks alone: {count} of {models} left out. Name the model for others."


def matching(cells: Sequence[Cell], wanted: str, of: str = "store") -> list[Cell]:
    """All cells that a key, its beginning or a filter names; at least one. Raises StoreError or
    BadOption."""
    if "=" in wanted:
        return Filter(wanted).choose(cells, of)
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
        some = at_most(found, SHOWN, lambda cell: f"{cell.key}  {title_of[cell.key]}")
        told = "\n  ".join([f"'{wanted}' names {len(found)} cells. Use one of their keys:", *some])
        raise StoreError(f"{told}{differing(found) if len(found) > SHOWN else ''}")
    return found[0]


def differing(cells: Sequence[Cell]) -> str:
    """The fields in which cells differ, and the values that a filter may name."""
    fields = [cell.chosen_by() for cell in cells]
    values = {name: {each[name] for each in fields if name in each}
              for name in dict.fromkeys(name for each in fields for name in each)}  # fmt: skip
    told = [f"{name}={' or '.join(at_most(sorted(found, key=_by_size), SHOWN))}"
            for name, found in values.items() if len(found) > 1]  # fmt: skip
    return f"\nOr add to the filter what tells them apart: {', '.join(told)}." if told else ""


def _by_size(value: Param) -> tuple[float, str]:
    return (value, "") if isinstance(value, int | float) else (0.0, value)


def both_meant(
    cells: Sequence[Cell], first: str, second: str, only: str | None
) -> tuple[list[list[Cell]], tuple[Cell, ...]]:
    """The cells of both filters, or the one of a key; and those that were not trained and are left
    out, where every filter that names no model finds trained ones."""
    texts, of = (first, second), "selection" if only else "store"
    sides = [matching(cells, text, of) if "=" in text else [the_one(cells, text)] for text in texts]
    is_said = [says_model(text) or bool(only and says_model(only)) for text in texts]
    open_sides = [side for side, said in zip(sides, is_said, strict=True) if not said]
    if any(len(untrained(side)) == len(side) for side in open_sides):
        return sides, ()
    passed_over = dict.fromkeys(cell for side in open_sides for cell in untrained(side))
    kept = [side if said else [cell for cell in side if cell.training.is_trained]
            for side, said in zip(sides, is_said, strict=True)]  # fmt: skip
    return kept, tuple(passed_over)


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
        # One of which was not trained here.
        if trainings[0].is_trained != trainings[1].is_trained:
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
