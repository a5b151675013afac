"""A finding: one answer of the report, with what it rests on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Literal, get_args

import numpy as np

from harness.analysis.statistics import Interval
from harness.errors import Fault, legible
from harness.registry.signature import shown
from harness.report import wording as say

Conclusion = Literal["better", "worse", "measured", "inconclusive"]
Row = tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """One answer: a sentence or two with at most three numbers, and the others in a table.

    `effect`, `low` and `high` are NaN where the answer is not one number.
    """

    question: str
    sentence: str
    evidence: list[str]  # keys of the cells it rests on
    effect: float = np.nan
    low: float = np.nan
    high: float = np.nan
    verdict: Conclusion = "measured"
    n: int = 0  # training seeds; cells for what has nothing to do with training
    would_decide: str = ""
    columns: Row = ()  # of the table behind the sentence
    rows: tuple[Row, ...] = ()


Found = Finding | list[Finding] | None


def finding(
    question: str,
    words: str,
    evidence: Iterable[str],
    effect: Interval | float = np.nan,
    *,
    verdict: Conclusion = "measured",
    n: int = 0,
    needs: str = "",
    columns: Row = (),
    rows: Iterable[Row] = (),
) -> Finding:
    """A finding; inconclusive where it needs something more, which decides it."""
    span = effect if isinstance(effect, Interval) else Interval(effect, np.nan, np.nan, n)
    return Finding(
        question, say.sentence(words), sorted({*evidence}), span.estimate, span.low, span.high,
        "inconclusive" if needs else verdict, n, needs, columns, tuple(rows),
    )  # fmt: skip


def few(items: Iterable[str], most: int = 2) -> str:
    """`a, b and 3 more`: the first of many."""
    named = [*items]
    left = len(named) - most
    return say.listed([*named[:most], f"{left:,} more"] if left > 0 else named)


def checked(given: object) -> Finding:
    """A finding of another package. Raises Fault where a page could not show it."""
    if not isinstance(given, Finding):
        raise Fault(f"gives no Finding, a list of them, or None, but {shown(given)}")
    texts: list[object] = [given.question, given.sentence, given.would_decide]
    texts += [*given.columns, *given.evidence]
    if not all(isinstance(text, str) for text in texts):
        raise Fault("gives a Finding whose question, sentence, columns or evidence is no text")
    if not all(isinstance(each, Real) for each in (given.effect, given.low, given.high, given.n)):
        raise Fault("gives a Finding whose effect, interval or n is no number")
    if given.verdict not in get_args(Conclusion):
        raise Fault(f"gives the verdict {shown(given.verdict)}, not one of {get_args(Conclusion)}")
    if any(len(row) != len(given.columns) for row in given.rows):
        raise Fault("gives a table whose rows are not as long as its columns")
    rows = tuple(tuple(legible(str(value)) for value in row) for row in given.rows)
    question, sentence = legible(given.question), legible(given.sentence)
    return replace(given, question=question, sentence=sentence, rows=rows)
