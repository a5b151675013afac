"""The answers of the first screen: each question of a grid, its answer, and how sure that is.

Made once, for the page, its Markdown, the tracker's description and the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.analysis.configurations import best
from harness.analysis.decisions import DISAGREE, ONE_SEED
from harness.analysis.factors import Level
from harness.analysis.learning import Learning, learned
from harness.analysis.looks import is_tie
from harness.analysis.questions import Comparison, MainEffect, Question, questions
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.networks import still_improving
from harness.report.findings.questions import Won, won

MOST_WINNERS = 2  # named with where they win
State = Literal["decided", "partly", "open"]


@dataclass(frozen=True, repr=False)
class Answer:
    """One question, answered in a glance."""

    question: str
    headline: str
    sentence: str
    sureness: str
    state: State
    is_incomplete: bool = False

    def __repr__(self) -> str:
        return self.as_line

    @property
    def as_line(self) -> str:
        rest = "; ".join(part for part in (self.sentence, self.sureness) if part)
        return f"{self.question.rstrip('?')}: {self.headline}{f' ({rest})' if rest else ''}."


def answers(study: Study) -> list[Answer]:
    """The answers of the first screen, in the order of the questions; where no network has learned
    anything, that alone."""
    if not (study.cells and study.metrics):
        what = "a value of a metric" if study.cells else "a result yet"
        return [Answer("Answer", "none yet", f"no cell has {what}", "", "open")]
    learning = learned(study)
    last = [_learned(learning, study)] if learning else []
    if learning and not learning.any_has_learned:
        return last
    found = [_answer(one, study) for one in questions(study)]
    return [*found, *last] if found else [_the_best(study), *last]


def _the_best(study: Study) -> Answer:
    """Of a grid that varies nothing."""
    one = best(study.configurations())
    value = say.spanned(one.interval)
    return Answer("Result", value, f"{one.metric.title} of {say.described(one)}", "", "open")


def _answer(question: Question, study: Study) -> Answer:
    title = title_of(question)
    title = title[0].upper() + title[1:]
    if question.factor.is_ordered:
        found = _in_order(question, study)
    elif question.is_decided:
        found = _decided(question)
    else:
        found = _undecided(question)
    headline, sentence, sureness, state = found
    return Answer(title, headline, sentence, sureness, state, question.is_incomplete)


Parts = tuple[str, str, str, State]


def _decided(question: Question) -> Parts:
    [leader] = question.best
    effects = [_of(question, leader, one) for one in question.levels if one != leader]
    closest = min((one for one in effects if one), key=lambda one: abs(one.effect.value))
    exceptions = "" if _same_everywhere(closest) else ", on average"
    return say.shown(leader), f"{_by(closest, leader)}{exceptions}", _sure(closest), "decided"


def _undecided(question: Question) -> Parts:
    group = question.best
    among = [one for one in question.main if {one.first, one.second} <= {*group}]
    opposed = won(one for each in among if each.is_opposed for one in each.comparisons)
    if len(opposed) > 1:
        where = [
            f"{say.shown(level)} {_where(question, those)}" for level, those in opposed.items()
        ]
        told = say.listed(where)
        if len(opposed) > MOST_WINNERS:
            told = f"{len(opposed)} of {len(group)} are better than another somewhere"
        return f"depends on {_on(opposed)}", told, "each significant", "partly"
    if len(group) < len(question.levels) and len(group) <= 3:
        worse = [say.shown(level) for level in question.levels if level not in group]
        told = f"{say.listed(worse)} {say.are(len(worse))} worse; which of these is best is open"
        return say.listed(map(say.shown, group), "or"), told, say.basis(question.main[0]), "partly"
    made = [one for each in among for one in each.comparisons]
    if winners := won(made):
        where = [
            f"{say.shown(level)} is better {_where(question, those)}"
            for level, those in winners.items()
        ]
        sure = len([one for one in made if one.winner is not None])
        told = f"{say.listed(where)}; elsewhere not significant"
        if len(winners) > MOST_WINNERS:
            told = f"{len(winners)} of {len(group)} are better than another somewhere"
        return "no overall winner", told, f"sure in {sure} of {len(made)} configurations", "partly"
    closest = max(question.open or question.main, key=lambda one: abs(_z(one)))
    if closest.effect.reason == ONE_SEED:
        return f"open, {say.shown(closest.ahead)} ahead", ONE_SEED, _agreement(closest), "open"
    other = closest.second if closest.ahead == closest.first else closest.first
    told = f"{say.shown(closest.ahead)} against {say.shown(other)}: {_gap(closest, closest.ahead)}"
    return "no difference shown", told, _why(closest), "open"


def _in_order(question: Question, study: Study) -> Parts:
    """Of the number of steps: the fewest that more do not significantly improve on."""
    group, unit = question.best, study.unit
    last = question.levels[-1]
    headline = f"{group[0]:,} {unit}s" if len(group) == 1 else f"{group[0]:,} or more"
    into = [one for one in question.main if one.second == group[0] and one.winner == group[0]]
    told = _by(into[-1], group[0]) if into else ""
    beyond = [one for one in question.main if one.first in group and one.second in group]
    if group[0] == last and into:
        return f"{group[0]:,} or more", f"{told}; more was not tried", _sure(into[-1]), "partly"
    if beyond:
        gap = f"from {beyond[0].first} to {beyond[0].second} no significant change"
        return headline, gap, say.basis(beyond[0]), "partly"
    return headline, told or "more do not help", say.basis(question.main[-1]), "decided"


def _learned(learning: Learning, study: Study) -> Answer:
    name = study.metric.title
    decimals = say.decimals_for(learning.noise, 2) + 1
    best, noise, real = (
        say.number(value, decimals=decimals)
        for value in (learning.best, learning.noise, learning.baseline)
    )
    numbers = f"{name} {best} at best; pure noise {noise}, real images {real}"
    if learning.has_learned:
        if improving := still_improving(study):
            more = f"train {say.listed(improving)} longer"
            return Answer("Has it learned?", "yes, still improving", numbers, more, "partly")
        return Answer("Has it learned?", "yes", numbers, "", "decided")
    if learning.any_has_learned:
        not_yet = f"not yet: {say.listed(learning.not_learned)}"
        return Answer("Has it learned?", "partly", numbers, not_yet, "partly")
    return Answer("Has it learned?", "nothing learned yet", numbers, "train longer", "open")


def _by(effect: MainEffect, winner: Level) -> str:
    """`KID 57 % lower than linear [50, 63]`."""
    other = effect.second if winner == effect.first else effect.first
    told, bracket, span = _gap(effect, winner).partition(" [")
    than = say.shown(other)
    return f"{told} than {than}{bracket}{span}" if bracket else f"{told}, {than}"


def _gap(effect: MainEffect, winner: Level) -> str:
    """`KID 57 % lower [50, 63]`; where a ratio means nothing, `KID 0.002 against 0.135`."""
    made = effect if winner == effect.first else effect.turned
    one, other = map(say.number, made.means)
    told = say.change(made.effect) or f"{one} against {other}"
    return f"{effect.comparisons[0].first.metric.title} {told}"


def _sure(effect: MainEffect) -> str:
    return f"sure: {_agreement(effect)}, {say.basis(effect)}"


def _agreement(effect: MainEffect) -> str:
    same, of = effect.agreement
    told = f"{same} of {say.count(of, 'pair')}"
    return f"{told}, equal in {effect.ties}" if effect.ties else told


def _why(effect: MainEffect) -> str:
    if effect.effect.reason == DISAGREE:
        return DISAGREE
    needed = say.needed(effect.effect)
    if is_tie(effect.effect):
        return needed
    return f"not significant; needs {needed}" if needed else f"not significant, {say.basis(effect)}"


def _same_everywhere(effect: MainEffect) -> bool:
    same, of = effect.agreement
    return same == of


def _where(question: Question, made: Sequence[Comparison]) -> str:
    """`at 5 and 10 steps`; `with linear at 5 and 10 steps`, where it is so with one schedule of
    several."""
    schedules = {say.network(one) for one in question.comparisons}
    here = {say.network(one) for one in made}
    of = (
        f"with {here.pop()} "
        if question.name != "schedule" and len(here) == 1 < len(schedules)
        else ""
    )
    return f"{of}{say.at(made)}"


def _on(found: Won) -> str:
    steps = [{one.steps for one in made} for made in found.values()]
    return "the steps" if not set.intersection(*steps) else "the configuration"


def _of(question: Question, one: Level, other: Level) -> MainEffect | None:
    pair = {one, other}
    return next((each for each in question.main if {each.first, each.second} == pair), None)


def _z(effect: MainEffect) -> float:
    value = effect.effect.value / effect.effect.error if effect.effect.error else np.nan
    return float(np.nan_to_num(value))


def title_of(question: Question) -> str:
    return say.called(question.name)
