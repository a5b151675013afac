"""The decision table: every question's pairs of levels with their verdicts, and the configurations
behind them."""

from __future__ import annotations

from itertools import chain

from harness.analysis.decisions import Effect, Verdict
from harness.analysis.questions import MainEffect, Question, ahead_first, questions
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.tables import NOTHING, Table, numbers, words

MOST_LINES = 90  # for the tracker, which takes 100 tags at once
MOST_PAIRS = 10  # of the levels of a question; of more, those of its leader


def decisions(study: Study) -> Table:
    """A row for each pair of levels of each question, over all configurations that both have; the
    level that is ahead stands first."""
    made = [one for question in questions(study) for one in _shown(question)]
    columns = [
        words("question", [say.called(one.question) for one in made]),
        words("compared", [_contest(one) for one in made]),
        words("verdict", [_verdict(one) for one in made]),
        words("change", [_change(one.effect) for one in made]),
        words("pairs that agree", ["{} of {}".format(*one.agreement) for one in made]),
        words("over", [say.basis(one) for one in made]),
        words("p", [say.p_value(one.effect.adjusted) for one in made]),
    ]
    if any(one.effect.look for one in made):
        columns.append(words("look", [one.effect.look or NOTHING for one in made]))
    return Table("Decisions", columns, [[] for _ in made])


def details(study: Study) -> Table:
    """A row for each comparison of two configurations that a question makes; the one that is ahead
    stands first."""
    made = [ahead_first(one) for question in questions(study) for one in question.comparisons]
    columns = [
        words("question", [say.called(one.question) for one in made]),
        words("ahead", [say.described(one.first) for one in made]),
        words("against", [say.described(one.second) for one in made]),
        words("verdict", [one.verdict if one.winner else one.effect.why for one in made]),
        words("change", [_change(one.effect) for one in made]),
        numbers(f"{study.metric.title}, ahead", [one.first.mean for one in made]),
        numbers("against", [one.second.mean for one in made]),
        words("p", [say.p_value(one.effect.adjusted) for one in made]),
    ]
    return Table("Comparisons", columns, [[] for _ in made])


def verdicts(study: Study) -> list[str]:
    """Verdicts in a line each, as the tracker keeps them: the main effects of all questions, then
    their configurations, as many as it takes."""
    asked = questions(study)
    lines = [
        f"{one.question}: {_contest(one)}: {_line(one.effect, one.verdict)}"
        for question in asked
        for one in question.main
    ]
    for made in map(ahead_first, chain.from_iterable(one.comparisons for one in asked)):
        pair = f"{say.described(made.first)} against {say.described(made.second)}"
        lines.append(f"{made.question}: {pair}: {_line(made.effect, made.verdict)}")
    return lines[:MOST_LINES]


def _shown(question: Question) -> list[MainEffect]:
    if len(question.main) <= MOST_PAIRS or question.factor.is_ordered:
        return [*question.main]
    return [one for one in question.main if question.leader in (one.first, one.second)]


def _contest(made: MainEffect) -> str:
    made = ahead_first(made)
    return f"{made.first} against {made.second}"


def _line(effect: Effect, verdict: Verdict) -> str:
    ahead = "inconclusive" if verdict == "inconclusive" else "better"
    change = _change(effect)
    why = f" ({effect.why})" if ahead != "better" and effect.why else ""
    return f"{ahead}{f', {change}' if change != NOTHING else ''}{why}"


def _verdict(made: MainEffect) -> str:
    if made.is_opposed:
        return "depends on the configuration"
    if made.winner is None:
        return made.effect.why
    return f"{made.winner} is better"


def _change(effect: Effect) -> str:
    return say.change(effect if effect.is_first_ahead else effect.reversed) or NOTHING
