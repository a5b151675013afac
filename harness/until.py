"""`harness run --until decided`: look at the verdicts, add cells where a question is open, again.

The looks and what each may spend of the error rate are fixed before the first (`analysis.looks`),
and every look judges what it saw alone, so that the same command goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from harness.analysis.looks import (
    Schedule,
    added_by,
    cells_at_first,
    is_out_of_reach,
    is_tie,
    open_effects,
)
from harness.analysis.questions import Question, questions
from harness.analysis.study import Study
from harness.execute.screen import Screen
from harness.jobs import Summary
from harness.work.cells import Cell
from harness.work.looks import Look
from harness.work.options import Until
from harness.work.speeds import duration


class Run(Protocol):
    """What a look is made of, by those who know the store and the tracker."""

    def work(self, cells: list[Cell], looks: Iterable[Look]) -> Summary: ...

    def report(self, cells: list[Cell], looks: Iterable[Look], summary: Summary) -> Summary: ...

    def study(self, cells: list[Cell], looks: Iterable[Look]) -> Study | None: ...

    def cost(self, cells: list[Cell]) -> float | None: ...


def until_decided(whole: Sequence[Cell], until: Until, run: Run, screen: Screen) -> Summary:
    """Look until all questions of a grid are decided, or a limit or the last look is reached."""
    looks = Schedule.of(whole, until.most_seeds, until.most_images).looks
    cells = cells_at_first(whole, looks[0])
    began = time.monotonic()
    for number in range(1, len(looks) + 1):
        summary = run.work(cells, looks[:number])
        study = run.study(cells, looks[:number]) if not summary.status else None
        if study is None:
            break
        screen.say(f"Look {number} of {len(looks)}: {_told(questions(study))}")
        added = added_by(study, looks[number]) if number < len(looks) else []
        if not added:
            screen.say(_why_no_more(questions(study)))
            break
        cost = run.cost([*cells, *added])
        known = f", about {duration(cost)}" if cost else ""
        screen.say(f"The next look adds {len(added):,} cells{known}.")
        spent = time.monotonic() - began
        if until.most_seconds is not None and spent + (cost or 0.0) > until.most_seconds:
            screen.say(
                f"--at-most {duration(until.most_seconds)} leaves no time for it. The same command "
                "with more time goes on from here."
            )
            break
        cells = [*cells, *added]
    return run.report(cells, looks[:number], summary)


def _why_no_more(asked: Sequence[Question]) -> str:
    if any(open_effects(one) for one in asked):
        return "Nothing more is spent: the limits of seeds and images are reached."
    return "Nothing more is spent: no question is open that a further look could decide."


def _told(asked: Sequence[Question]) -> str:
    """Each question in a few words: `schedule: cosine; sampler: open`."""
    if not asked:
        return "nothing to decide: the grid varies nothing, or no network has learned anything yet."
    return "; ".join(f"{one.name}: {_state(one)}" for one in asked) + "."


def _state(question: Question) -> str:
    if question.is_decided:
        [level] = question.best
        return f"{level} (decided at look {max(one.effect.look for one in question.main)})"
    if not question.open:
        return "depends on the configuration"
    effects = [one.effect for one in question.open]
    if all(map(is_tie, effects)):
        return "a practical tie"
    if all(is_tie(one) or is_out_of_reach(one) for one in effects):
        return "open, and out of reach"
    return "open"
