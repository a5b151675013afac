"""A finding: one answer of the report, with what it rests on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.analysis.statistics import Interval
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
