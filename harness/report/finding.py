"""A finding: one answer of the report, with what it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from harness.report.family import Contrast, family
from harness.report.words import sentence


@dataclass(frozen=True)
class Finding:
    """One answer. `effect`, `low` and `high` are NaN where the answer is not one number."""

    question: str
    sentence: str
    evidence: list[str]  # keys of the cells it rests on
    effect: float = np.nan
    low: float = np.nan
    high: float = np.nan
    verdict: Literal["better", "worse", "measured", "inconclusive"] = "measured"
    n: int = 0  # training seeds; cells for what has nothing to do with training
    would_decide: str = ""


Found = Finding | list[Finding] | None


def finding_over(
    question: str,
    words: str,
    contrasts: list[Contrast],
    shown: Contrast,
    verdict: Literal["better", "worse", "measured", "inconclusive"] | None = None,
) -> Finding:
    """A finding that rests on these contrasts and whose number is that of one of them."""
    comparison = shown.comparison
    return Finding(
        question, sentence(words), sorted({key for c in contrasts for key in c.keys}),
        comparison.difference, comparison.low, comparison.high, verdict or comparison.verdict,
        comparison.n, next((c.would_decide for c in contrasts if not c.winner), ""),
    )  # fmt: skip


def asked(frame: pd.DataFrame, question: str) -> list[Contrast]:
    """The judged comparisons that were made for one question, by the number of steps."""
    return [contrast for contrast in family(frame) if contrast.question == question]
