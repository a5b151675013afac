"""How much is luck: of training, of sampling, and what it leaves undecided."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from harness.report.family import Contrast, family
from harness.report.finding import Finding, asked, finding_over
from harness.report.phrases import is_known, pairs, quantity, unit_of
from harness.report.points import points
from harness.report.words import at_steps, count, estimate, listed, number, sentence
from harness.report.yardsticks import spread


def training_spread(frame: pd.DataFrame) -> Finding | None:
    """How much does another training seed change, beside the differences claimed?"""
    everything = [point for point in points(frame) if not point.is_exact]
    if not everything:
        return None
    question = "How much does another training seed change?"
    several = [point for point in everything if point.seeds > 1]
    if not several:
        words = (
            f"How much another training seed moves {quantity(frame)} was not measured: there is "
            "one, and every interval here covers the luck of sampling only"
        )
        return Finding(
            question, sentence(words), [], verdict="inconclusive", n=1,
            would_decide="at least two more training seeds",
        )  # fmt: skip
    gaps = {c.first.steps: abs(c.comparison.difference) for c in asked(frame, "schedule")}
    steps = sorted({point.steps for point in several})
    parts = []
    for there in steps if len(steps) < 2 else (steps[0], steps[-1]):
        moves, _ = spread(point for point in several if point.steps == there)
        part = f"by {number(moves, 2)} {at_steps([there], unit_of(frame))}"
        if gaps.get(there, 0) > 0:
            part += (
                f" ({number(100 * moves / gaps[there], 2)} % of the gap between schedules there)"
            )
        parts.append(part)
    moves, sampling = spread(several)
    seeds = max(point.seeds for point in several)
    words = f"Another training seed moves {quantity(frame)} {listed(parts)}, "
    words += f"as a standard deviation over {count(seeds, 'seed')}"
    if is_known(sampling) and sampling > 0:
        words += f"; over all cells {number(moves / sampling, 2)} times the error of sampling alone"
    keys = sorted(key for point in several for key in point.keys)
    return Finding(question, sentence(words), keys, moves, n=seeds)


def sampling_spread(frame: pd.DataFrame) -> Finding | None:
    """How much does another sampling seed change, and do the standard errors foresee it?"""
    question = "How much does another sampling seed change?"
    ways = frame.groupby(["trained", "schedule", "sampler", "steps", "seed"])
    several = [group for _, group in ways if group["sampling_seed"].nunique() > 1]
    if not several:
        return None
    # Each group is one network sampled one way: what varies in it is the luck of sampling alone.
    freedom = sum(len(group) - 1 for group in several)
    variance = sum(group["centre"].var(ddof=1) * (len(group) - 1) for group in several) / freedom
    foreseen = float(np.sqrt(pd.concat(several)["error"].pow(2).mean()))
    moves = float(np.sqrt(variance))
    low, high = np.sqrt(variance * freedom / stats.chi2.ppf([0.975, 0.025], freedom))
    words = (
        f"Another sampling seed moves {quantity(frame)} by {estimate(moves, low, high)}, as a "
        f"standard deviation over {count(len(several), 'network and way', 'networks and ways')} "
        f"of sampling {'it' if len(several) == 1 else 'them'}"
    )
    agrees = bool(low <= foreseen <= high)
    if is_known(foreseen):
        words += (
            f"; the standard errors foresee {number(foreseen, 2)}, "
            f"{'which agrees' if agrees else 'which does not agree'}"
        )
    keys = sorted(key for group in several for key in group["key"])
    return Finding(
        question, sentence(words), keys, moves, float(low), float(high), n=len(several)
    )  # fmt: skip


def without_verdict(frame: pd.DataFrame) -> Finding | None:
    """What could not be decided, and why?"""
    contrasts = family(frame)
    undecided = [contrast for contrast in contrasts if not contrast.winner]
    if not undecided:
        return None
    by_reason: dict[str, list[Contrast]] = {}
    for contrast in undecided:
        by_reason.setdefault(contrast.comparison.reason, []).append(contrast)
    parts = [f"{reason} ({pairs(those)})" for reason, those in by_reason.items()]
    words = f"{len(undecided)} of {count(len(contrasts), 'comparison')} "
    words += f"{'has' if len(undecided) == 1 else 'have'} no verdict: {'; '.join(parts)}"
    first = undecided[0]
    return finding_over("What could not be decided, and why?", words, undecided, first)
