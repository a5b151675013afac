"""The questions of the grid: which level of each factor is better, and what more steps buy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from harness.analysis.configurations import Configuration, best
from harness.analysis.decisions import DISAGREE, ONE_SEED, TRAINING, Effect
from harness.analysis.factors import SAMPLED_UNDER, Level
from harness.analysis.looks import is_tie
from harness.analysis.questions import (
    Comparison,
    MainEffect,
    Question,
    ahead_first,
    question_named,
    questions,
)
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.finding import Conclusion, Finding, Row, finding

TITLES = {
    "clip": "Does clipping the estimate help?",
    SAMPLED_UNDER.name: "Is a network best sampled under the schedule it was trained under?",
}
COLUMNS = ("comparison", "where", "first", "second", "change", "p, adjusted", "better")
MOST_NAMED = 3  # questions in a sentence

Made = Comparison | MainEffect
Won = Mapping[Level, Sequence[Comparison]]


def which_schedule(study: Study) -> Finding | None:
    """Which schedule is better?"""
    return _named(study, "schedule")


def which_sampler(study: Study) -> Finding | None:
    """Which sampler is better?"""
    return _named(study, "sampler")


def what_else(study: Study) -> list[Finding]:
    """What do the other factors of the grid do, such as spacing and target?"""
    own = ("schedule", "sampler", "steps")
    return [_finding(study, one) for one in questions(study) if one.name not in own]


def effect_of_eta(study: Study) -> Finding | None:
    """What does fresh noise (eta) do to DDIM?"""
    question = question_named(study, "sampler")
    widths = {
        main: abs(one.eta - other.eta)
        for main in (question.main if question else ())
        for one, other in [(main.comparisons[0].first, main.comparisons[0].second)]
        if one.eta is not None and other.eta is not None
    }
    if question is None or not widths or len(question.levels) == 2:  # the sampler's own finding
        return None
    main = max(widths, key=lambda one: widths[one])
    verdict: Conclusion = "better" if main.winner is not None else "inconclusive"
    return _finding_of(
        "What does fresh noise (eta) do to DDIM?", _of_two(study, main), main, [main], verdict,
        say.needed(main.effect),
    )  # fmt: skip


def more_steps(study: Study) -> Finding | None:
    """What do more steps buy?"""
    question = question_named(study, "steps")
    if question is None:
        return None
    unit, metric, effects = study.unit, study.metric.title, question.main
    gains = [one for one in effects if one.winner == one.second]
    losses = [one for one in effects if one.winner == one.first]
    rest = [one for one in effects if one.winner is None]
    turning = next((found for one in rest if len(found := won(one.comparisons)) > 1), None)
    shown = (gains or losses or effects)[-1]
    if gains:
        most = ", the most tried" if gains[-1].second == question.levels[-1] else ""
        ends = say.listed(_change(one) for one in dict.fromkeys((gains[0], gains[-1])))
        words = f"More {unit}s are better up to {gains[-1].second:,}{most}: {metric} is {ends}"
    elif losses:
        words = f"More {unit}s are worse: {metric} is {_change(losses[-1])}"
    elif turning:
        words = f"The best number of {unit}s depends on the configuration: {where(turning)}"
    else:
        words = f"More {unit}s make no significant difference: {metric} is {_change(shown)}"
    if gains and losses:
        words += f". It is {_change(losses[0])}"
    elif rest and (gains or losses):
        spans = say.listed(f"from {one.first:,} to {one.second:,}" for one in rest)
        depends = all(one.is_opposed for one in rest)
        what = "depends on the configuration" if depends else "is not significant"
        words += f". The difference {spans} {unit}s {what}"
    verdict: Conclusion = "better" if gains else "worse" if losses else "inconclusive"
    needs = "" if gains or losses or turning else say.needed(shown.effect)
    return _finding_of(f"What do more {unit}s buy?", words, shown, effects, verdict, needs)


def open_questions(study: Study) -> Finding | None:
    """What is open, and what decides it?"""
    every = [pair for one in questions(study) for pair in one.open]
    unsettled = [one for one in every if not is_tie(one.effect)]
    if not unsettled:
        return None
    by_question = groupby(unsettled, key=lambda one: one.question)
    hardest = [max(those, key=_effort) for _, those in by_question]
    parts = [f"the {say.noun(one.question)}" for one in hardest]
    parts[MOST_NAMED:] = [f"{len(hardest) - MOST_NAMED} more"] if len(hardest) > MOST_NAMED else []
    first = hardest[0].effect
    rows = [
        (say.noun(pair.question), say.contest(ahead_first(pair)), say.gap(pair), pair.effect.why,
         say.needed(pair.effect))
        for pair in every
    ]  # fmt: skip
    return finding(
        "What is open, and what decides it?", f"Still open: {say.listed(parts)}",
        (key for pair in every for key in pair.keys), _lead(hardest[0]).change, n=first.n,
        needs=say.needed(first), rows=rows,
        columns=("question", "comparison", "the one ahead", "why it is open", "needs"),
    )  # fmt: skip


def won(comparisons: Iterable[Comparison]) -> Won:
    """By level, the comparisons that it is decided to have won."""
    found: dict[Level, list[Comparison]] = {}
    for one in comparisons:
        if one.winner is not None:
            found.setdefault(say.levels(one)[one.winner is one.second], []).append(one)
    return found


def where(found: Won) -> str:
    """`cosine is better at 5 and 10 steps, linear at 50 steps`: by what sets the winners apart, be
    it the steps, the schedule or the sampler; else in how many configurations each has won."""
    made = [*found.values()]

    def differs(of: Callable[[Configuration], Level]) -> bool:
        each = [{of(one.first) for one in those} for those in made]
        return sum(map(len, each)) == len(set.union(*each))

    def words(those: Sequence[Comparison]) -> str:
        if differs(lambda one: one.steps):
            return say.at(those)
        if differs(lambda one: one.trained):
            return f"under {say.listed(dict.fromkeys(say.network(one) for one in those))}"
        if differs(lambda one: one.kind):
            return f"with {say.listed(dict.fromkeys(one.first.kind for one in those))}"
        return f"in {say.count(len(those), 'configuration')}"

    name = made[0][0].question
    told = [f"{say.named(name, level)} {words(those)}" for level, those in found.items()]
    leader = say.named(name, next(iter(found)))
    return ", ".join([f"{leader} is better{told[0].removeprefix(leader)}", *told[1:]])


def _named(study: Study, name: str) -> Finding | None:
    question = question_named(study, name)
    return _finding(study, question) if question else None


def _finding(study: Study, question: Question) -> Finding:
    name, has_two = question.name, len(question.levels) == 2
    title = TITLES.get(name, f"Which {say.noun(name)} is {'better' if has_two else 'best'}?")
    shown = question.main[0] if has_two else _nearest(question)
    words = _of_two(study, shown) if has_two else _of_many(study, question, shown)
    words = words[0].upper() + words[1:] if name in TITLES else words  # no part begins it
    hardest = max(question.open, key=_effort, default=None)
    needs = say.needed(hardest.effect) if hardest else ""
    verdict: Conclusion = "better" if question.is_decided else "inconclusive"
    return _finding_of(title, words, shown, question.main, verdict, needs)


def _finding_of(
    title: str,
    words: str,
    shown: MainEffect,
    effects: Sequence[MainEffect],
    verdict: Conclusion,
    needs: str,
) -> Finding:
    """A finding that shows one of these effects and has all of them in its table."""
    effect = shown.effect.reversed if shown.question == "steps" else _lead(shown)
    made = finding(
        title, words, (key for one in effects for key in one.keys), effect.change, n=effect.n,
        needs=needs, columns=COLUMNS,
        rows=[row for one in map(ahead_first, effects)
              for row in (_row(one), *map(_row, one.comparisons))],
    )  # fmt: skip
    return replace(made, verdict=verdict)


def _of_two(study: Study, made: MainEffect) -> str:
    """One level against another."""
    metric, found, (same, pairs) = study.metric.title, won(made.comparisons), made.agreement
    n, name = len(made.comparisons), made.question
    first, other = (say.named(name, one) for one in say.levels(made))
    ahead, behind = (first, other) if made.effect.is_first_ahead else (other, first)
    if made.effect.reason == ONE_SEED:
        alike = [one.effect.is_first_ahead == made.effect.is_first_ahead
                 for one in made.comparisons]  # fmt: skip
        return _with_one_seed(name, ahead, sum(alike), n)
    if len(found) > 1:
        return f"No {say.noun(name)} is better overall: {where(found)}"
    if made.winner is not None:
        over = f"on average over {n:,} configurations, in {same:,} of {say.count(pairs, 'pair')}"
        seeds = f"over {say.count(made.effect.n, 'training seed')}"
        basis = over if n > 1 else seeds if made.effect.covers == TRAINING else ""
        return f"{ahead} is better than {behind}: {metric} is {say.gap(made)} {basis}".rstrip()
    if is_tie(made.effect):
        return f"{ahead} and {behind} are tied for practical purposes: {metric} is {say.gap(made)}"
    words = f"{ahead} is ahead of {behind} in {same:,} of {say.count(pairs, 'pair')}"
    if found and ahead == say.named(name, *found):
        return f"{words}. Significantly, {where(found)}"
    disagree = made.effect.reason == DISAGREE
    return f"{words}, but {'the networks disagree' if disagree else 'that is not significant yet'}"


def _of_many(study: Study, question: Question, nearest: MainEffect) -> str:
    """Which of three levels or more is best; beside it the level that comes nearest to it."""
    name, best = question.name, question.best
    what, metric = say.noun(name), study.metric.title
    if all(one.effect.reason == ONE_SEED for one in question.main):
        leader, most, n = _most_often_best(question)
        return _with_one_seed(name, say.named(name, leader), most, n)
    if question.is_decided:
        [leader] = best
        [rival] = {nearest.first, nearest.second} - {leader}
        words = f"{say.named(name, leader)} is the best of {len(question.levels)}. {metric} is "
        return f"{words}{say.gap(nearest)} against the next, {say.named(name, rival)}"
    names = say.listed((say.named(name, one) for one in best), "or")
    words = f"The best {what} is {names}"
    if len(best) == len(question.levels):
        words = f"No {what} is best overall"
    rivals = [one for one in question.main if {one.first, one.second} <= {*best}]
    turning = next((found for one in rivals if len(found := won(one.comparisons)) > 1), None)
    if turning:
        return f"{words}. {where(turning)}"
    same, pairs = nearest.agreement
    ahead, behind = _in_order(nearest)
    words += f". {say.named(name, ahead)} is ahead of {say.named(name, behind)} in {same:,} of "
    return f"{words}{say.count(pairs, 'pair')}, which is not significant yet"


def _with_one_seed(name: str, ahead: str, most: int, n: int) -> str:
    words = f"One training seed gives no verdict on the {say.noun(name)}. With this one {ahead}"
    return f"{words} is ahead in {most:,} of {say.count(n, 'configuration')}"


def _nearest(question: Question) -> MainEffect:
    """Of the best level against that which comes nearest to it; without a best level, of the pair
    that may be best the one with the clearest difference."""
    among = [one for one in question.main if {one.first, one.second} & {*question.best}]
    if question.is_decided:
        return min(among, key=lambda one: abs(one.effect.value))
    among = [one for one in among if {one.first, one.second} <= {*question.best}] or among
    return min(among, key=lambda one: one.effect.p if one.effect.p > 0 else np.inf)


def _most_often_best(question: Question) -> tuple[Level, int, int]:
    """The level that has the best mean in most configurations, in how many, and of how many."""
    alike: dict[str, list[Configuration]] = {}
    for one in question.comparisons:
        alike.setdefault(say.place(one), []).extend((one.first, one.second))
    winners = [question.factor.of(best(those)) for those in alike.values()]
    [(leader, most)] = Counter(winners).most_common(1)
    return leader, most, len(winners)


def _in_order(made: MainEffect) -> tuple[Level, Level]:
    """The two levels, the one ahead first."""
    first, other = say.levels(made)
    return (first, other) if made.effect.is_first_ahead else (other, first)


def _lead(made: MainEffect) -> Effect:
    return made.effect if made.effect.is_first_ahead else made.effect.reversed


def _row(made: Made) -> Row:
    # A mean of ratios is not the ratio of the means, which would only puzzle beside it.
    means = map(say.number, say.means(made)) if isinstance(made, Comparison) else ("", "")
    return (
        say.contest(made),
        say.place(made) if isinstance(made, Comparison) else f"all {len(made.comparisons)}",
        *means,
        say.change(made.effect) or "–",
        say.p_value(made.effect.adjusted),
        _better(made),
    )  # fmt: skip


def _better(made: Made) -> str:
    """Which is, or why that is not decided."""
    if made.winner is None:
        is_split = isinstance(made, MainEffect) and made.is_opposed
        return "depends on the configuration" if is_split else made.effect.why
    return say.named(made.question, say.levels(made)[made.verdict == "worse"])


def _change(made: MainEffect) -> str:
    """`57 % lower [50, 63] from 5 to 10 steps`."""
    fewer, more = made.means
    told = say.change(made.effect.reversed) or f"{say.number(more)} instead of {say.number(fewer)}"
    return f"{told} from {made.first:,} to {made.second:,}"


def _effort(made: MainEffect) -> float:
    """How much it takes to decide, for the hardest of several."""
    return made.effect.seeds_needed() or made.effect.images_needed() or np.inf
