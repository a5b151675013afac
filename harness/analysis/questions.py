"""The questions of a grid: each factor that it varies is one, declared before any result is seen.

A question compares the levels of its factor, overall and in each configuration that they share, and
is judged as one family (`decisions`). One place for the report, for `harness compare` and for the
verdicts that MLflow keeps. Comparisons chosen after looking, such as the best against the next, are
exploratory: a family of their own, and called so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import combinations, pairwise
from typing import TypeVar

import numpy as np

from harness.analysis.configurations import Configuration
from harness.analysis.decisions import SPENT, TRAINING, Effect, Verdict, judge, opposed
from harness.analysis.factors import (
    FACTORS,
    SAMPLED_UNDER,
    Factor,
    Level,
    Rest,
    Table,
    by_axes,
    cell_pairs,
    effects_of,
    sampled_under,
)
from harness.analysis.learning import learned
from harness.analysis.statistics import holm
from harness.analysis.study import Study
from harness.work.looks import Look
from harness.work.results import CellResult

EXPLORATORY = "exploratory"
Made = TypeVar("Made", "Comparison", "MainEffect")


@dataclass(frozen=True, eq=False)
class Comparison:
    """`first` against `second`, two configurations that differ in one factor; exploratory ones may
    differ in several."""

    question: str  # the name of its factor
    first: Configuration
    second: Configuration
    effect: Effect

    @property
    def turned(self) -> Comparison:
        """The second against the first."""
        return Comparison(self.question, self.second, self.first, self.effect.reversed)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the cells of both sides."""
        return self.first.keys + self.second.keys

    @property
    def steps(self) -> int:
        """The number of steps, or of evaluations allowed, of its first side."""
        return self.first.steps

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """The keys of its cells that are alike in seeds."""
        partner = {_seeds(one): one.cell.key for one in self.second.cells}
        found = ((one.cell.key, partner.get(_seeds(one))) for one in self.first.cells)
        return frozenset((key, other) for key, other in found if other)

    @property
    def verdict(self) -> Verdict:
        """Whether its first side is better, worse, or neither is shown."""
        return self.effect.verdict

    @property
    def winner(self) -> Configuration | None:
        """The better of the two, where there is a verdict."""
        return {"better": self.first, "worse": self.second}.get(self.verdict)

    @property
    def ahead(self) -> Configuration:
        """The better of the two by the mean, verdict or not."""
        return self.first if self.effect.is_first_ahead else self.second


@dataclass(frozen=True, eq=False)
class MainEffect:
    """One level against another, over all configurations that both have."""

    question: str
    first: Level
    second: Level
    effect: Effect
    comparisons: tuple[Comparison, ...]

    @property
    def turned(self) -> MainEffect:
        """The second against the first."""
        comparisons = tuple(one.turned for one in self.comparisons)
        return MainEffect(self.question, self.second, self.first, self.effect.reversed, comparisons)

    @property
    def is_opposed(self) -> bool:
        """Whether a configuration is decided the other way, or two of them differently, so that
        neither is better overall."""
        verdicts = {one.verdict for one in self.comparisons}
        is_split = {"better", "worse"} <= verdicts
        return is_split or opposed(self.effect, [one.effect for one in self.comparisons])

    @property
    def verdict(self) -> Verdict:
        """Of the first level against the second; inconclusive where networks contradict it."""
        return "inconclusive" if self.is_opposed else self.effect.verdict

    @property
    def winner(self) -> Level | None:
        """The level that is better by a verdict; None without one."""
        return {"better": self.first, "worse": self.second}.get(self.verdict)

    @property
    def ahead(self) -> Level:
        """The level that is ahead by the mean, significant or not."""
        return self.first if self.effect.is_first_ahead else self.second

    @property
    def means(self) -> tuple[float, float]:
        """Of either level over the configurations that both have."""
        return (
            float(np.mean([one.first.mean for one in self.comparisons])),
            float(np.mean([one.second.mean for one in self.comparisons])),
        )

    @cached_property
    def agreement(self) -> tuple[int, int]:
        """In how many pairs of cells, alike in all else, the level that is ahead by the mean is
        better; and how many pairs there are."""
        same = sum((gap < 0) == (self.effect.value < 0) for gap in self._gaps if gap)
        return same, len(self._gaps)

    @property
    def ties(self) -> int:
        """In how many pairs of cells, alike in all else, the two have the same value."""
        return self._gaps.count(0.0)

    @cached_property
    def _gaps(self) -> list[float]:
        """The differences of the pairs. Configurations that are one computation under two names,
        such as `ddim` and `euler`, have equal values: their pairs count once."""
        pairs = {
            (one.first.steps, one.second.steps, seed, one.first.corrected[seed],
             one.second.corrected[seed])
            for one in self.comparisons
            for seed in one.first.corrected.keys() & one.second.corrected.keys()
        }  # fmt: skip
        return [first - second for *_, first, second in pairs]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all cells that were compared, each once."""
        return tuple(dict.fromkeys(key for one in self.comparisons for key in one.keys))

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """The keys of each pair of cells that was compared."""
        return frozenset(pair for one in self.comparisons for pair in one.pairs)


@dataclass(frozen=True, eq=False)
class Question:
    """Which level of a factor is best, and how sure that is."""

    factor: Factor
    levels: tuple[Level, ...]
    main: tuple[MainEffect, ...]
    is_incomplete: bool = False  # some cell of it has no result yet

    @property
    def name(self) -> str:
        """The name of the factor that is asked about."""
        return self.factor.name

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """All comparisons in single configurations, pair of levels by pair."""
        return tuple(one for each in self.main for one in each.comparisons)

    @property
    def covers_training(self) -> bool:
        """Whether some interval covers the variance between training seeds."""
        return any(one.effect.covers == TRAINING for one in self.main)

    def better_than(self, level: Level) -> list[Level]:
        """The levels that are better overall than this one."""
        pairs = [(one.winner, one.first, one.second) for one in self.main if one.winner is not None]
        return [w for w, first, second in pairs if level in (first, second) and w != level]

    @cached_property
    def best(self) -> tuple[Level, ...]:
        """The levels of which one is best, for all that is decided: one alone where it is better
        overall than all others; of an ordered factor, where the next one is no longer better."""
        if self.factor.is_ordered:
            return self._best_in_order()
        unbeaten = [level for level in self.levels if not self.better_than(level)]
        if len(unbeaten) == 1:  # it may not have been compared with all, or not be decided
            [leader] = unbeaten
            return tuple(
                one for one in self.levels if one == leader or leader not in self.better_than(one)
            )
        return tuple(unbeaten) or self.levels

    def _best_in_order(self) -> tuple[Level, ...]:
        best = [self.main[0].first]
        for one in self.main:
            if one.verdict == "worse":  # after a level that lost, it is not known to beat the best
                best = [one.second] if best[-1] == one.first else [*best, one.second]
            elif one.verdict == "inconclusive" and best[-1] == one.first:
                best.append(one.second)
        return tuple(best)

    @property
    def leader(self) -> Level:
        """Of the best levels, the one that is ahead of most others by the mean."""
        return max(self.best, key=lambda level: sum(one.ahead == level for one in self.main))

    @property
    def is_decided(self) -> bool:
        """Whether one level is left as the best."""
        return len(self.best) == 1

    @property
    def open(self) -> list[MainEffect]:
        """The pairs of levels with no verdict overall that one may yet be had of."""
        best = {*self.best}
        rivals = [one for one in self.main if {one.first, one.second} <= best]
        pairs = self.main if self.factor.is_ordered else rivals
        return [one for one in pairs if one.verdict == "inconclusive" and not one.is_opposed]


def ahead_first(made: Made) -> Made:
    """The same with the one that is ahead by the mean as the first."""
    return made if made.effect.is_first_ahead else made.turned


@lru_cache(maxsize=16)
def questions(study: Study, metric: str = "") -> tuple[Question, ...]:
    """Every question that the grid of a study asks of a metric (the one that decides, where none
    is named), with its verdicts; none where no network has learned anything to ask about."""
    learning = learned(study)
    if learning and not learning.any_has_learned:
        return ()
    everything = study.configurations(metric)
    matched = [one for one in everything if one.is_matched] or list(everything)
    found = []
    for factor in FACTORS:
        is_crossed = factor is SAMPLED_UNDER
        table = sampled_under(everything) if is_crossed else by_axes(matched, factor)
        if question := _question(factor, table, study.looks):
            found.append(question)
    return tuple(found)


def question_named(study: Study, name: str) -> Question | None:
    """The question about this factor; None where the study does not ask it."""
    return next((one for one in questions(study) if one.name == name), None)


def comparisons(study: Study, name: str = "") -> list[Comparison]:
    """Every comparison of two configurations that the questions make, or those of one question, by
    the number of steps."""
    found = [one for each in questions(study) if name in ("", each.name)
             for one in each.comparisons]  # fmt: skip
    return sorted(found, key=lambda one: one.steps)


@lru_cache(maxsize=16)
def _by_sides(study: Study) -> Mapping[frozenset[tuple[str, ...]], Comparison]:
    """Every comparison by the keys of the cells of its two sides: where several questions make it,
    as the first has it."""
    found: dict[frozenset[tuple[str, ...]], Comparison] = {}
    for one in comparisons(study):
        found.setdefault(frozenset((one.first.keys, one.second.keys)), one)
    return found


def compared(study: Study, first: Configuration, second: Configuration) -> Comparison:
    """Two configurations of a study: as the question that compares them has it, else by itself,
    which is exploratory."""
    if one := _by_sides(study).get(frozenset((first.keys, second.keys))):
        return one if one.first.keys == first.keys else one.turned
    return Comparison(EXPLORATORY, first, second, alone(first, second).judged(np.nan))


def judged_pair(
    study: Study, pairs: frozenset[tuple[str, str]], metric: str
) -> tuple[str, Effect] | None:
    """The question that compares just these pairs of cells, by their keys, and its effect."""
    turned = frozenset((other, one) for one, other in pairs)
    for question in questions(study, metric):
        everything: list[MainEffect | Comparison] = [*question.main, *question.comparisons]
        for made in everything:
            if made.pairs in (pairs, turned):
                effect = replace(made.effect, verdict=made.verdict)
                return question.name, effect if made.pairs == pairs else effect.reversed
    return None


def exploratory(
    study: Study, pairs: Iterable[tuple[Configuration, Configuration]]
) -> list[Comparison]:
    """Comparisons that were chosen after looking, judged together (Holm). Those that a question
    makes have its verdict, and cost nothing here."""
    made = [compared(study, first, second) for first, second in pairs]
    loose = [place for place, one in enumerate(made)
             if one.question == EXPLORATORY and np.isfinite(one.effect.p)]  # fmt: skip
    adjusted = holm([made[place].effect.p for place in loose])
    for place, p in zip(loose, adjusted, strict=True):
        made[place] = replace(made[place], effect=made[place].effect.judged(float(p)))
    return made


def alone(first: Configuration, second: Configuration) -> Effect:
    """The effect of two configurations by themselves, not judged."""
    is_one_network = bool(cell_pairs(first.cells, second.cells))
    main, _ = effects_of([{(): first}, {(): second}], [()], [(0, 1)], not is_one_network)
    return main[0, 1]


def _seeds(one: CellResult) -> tuple[int, int]:
    return one.cell.training.seed, one.cell.sampling_seed


def _question(factor: Factor, table: Table, looks: Sequence[Look]) -> Question | None:
    levels = sorted(table, key=lambda level: (isinstance(level, str), level))
    both = pairwise(levels) if factor.is_ordered else combinations(levels, 2)
    named = [(one, other) for one, other in both if table[one].keys() & table[other].keys()]
    if not named:
        return None
    place_of = {level: place for place, level in enumerate(levels)}
    pairs = [(place_of[one], place_of[other]) for one, other in named]
    rests = list(dict.fromkeys(rest for level in levels for rest in table[level]))
    rows = [table[level] for level in levels]
    decision = judge(*effects_of(rows, rests, pairs, factor.retrains)) if not looks else None
    for number, look in enumerate(looks):
        seen = [{rest: cut for rest, one in row.items() if (cut := one.seen(look))} for row in rows]
        effects = effects_of(seen, rests, pairs, factor.retrains)
        decision = judge(*effects, SPENT[number], decision, number + 1)
    assert decision is not None
    main = tuple(
        MainEffect(
            factor.name, one, other, decision.main[pair],
            tuple(
                Comparison(factor.name, table[one][rest], table[other][rest], effect)
                for rest, effect in zip(rests, decision.details[pair], strict=True)
                if rest in table[one] and rest in table[other]
            ),
        )
        for pair, (one, other) in zip(pairs, named, strict=True)
    )  # fmt: skip
    # Looks give more cells to what is open: there, fewer are no gap.
    return Question(factor, tuple(levels), main, not looks and _has_gaps(rows))


def _has_gaps(rows: Sequence[Mapping[Rest, Configuration]]) -> bool:
    """Whether a configuration has fewer cells than another of its question."""
    return len({len(one.cells) for row in rows for one in row.values()}) > 1
