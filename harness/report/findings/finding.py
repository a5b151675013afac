"""A finding: one answer of the report, with what it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.analysis.comparisons import Comparison
from harness.analysis.statistics import Interval
from harness.report import wording as say

Conclusion = Literal["better", "worse", "measured", "inconclusive"]


@dataclass(frozen=True)
class Finding:
    """One answer. `effect`, `low` and `high` are NaN where the answer is not one number."""

    question: str
    sentence: str
    evidence: list[str]  # keys of the cells it rests on
    effect: float = np.nan
    low: float = np.nan
    high: float = np.nan
    verdict: Conclusion = "measured"
    n: int = 0  # training seeds; cells for what has nothing to do with training
    would_decide: str = ""


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
) -> Finding:
    """A finding; inconclusive where it needs something more, which would decide it."""
    span = effect if isinstance(effect, Interval) else Interval(effect, np.nan, np.nan, n)
    return Finding(
        question, say.sentence(words), sorted({*evidence}), span.estimate, span.low, span.high,
        "inconclusive" if needs else verdict, n, needs,
    )  # fmt: skip


def split(made: Sequence[Comparison]) -> tuple[list[Comparison], list[Comparison]]:
    """Those with a verdict, and those without."""
    return [one for one in made if one.winner], [one for one in made if not one.winner]


def finding_over(
    question: str,
    words: str,
    made: Sequence[Comparison],
    shown: Comparison,
    verdict: Conclusion | None = None,
) -> Finding:
    """A finding that rests on these comparisons and whose effect is that of one of them."""
    difference = shown.difference
    return Finding(
        question, say.sentence(words), sorted({key for one in made for key in one.keys}),
        difference.value, difference.low, difference.high, verdict or difference.verdict,
        difference.n, next((one.would_decide for one in made if not one.winner), ""),
    )  # fmt: skip
