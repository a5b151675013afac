"""How large the variance between seeds is, and what it leaves undecided."""

from __future__ import annotations

from collections import Counter

import numpy as np
from scipy import stats

from harness.analysis.comparisons import Comparison, asked, comparisons
from harness.analysis.configurations import total_error
from harness.analysis.reference import spread
from harness.analysis.statistics import MODELS_DISAGREE, SAMPLING, Interval
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.finding import Finding, finding, split


def between_seed_variance(study: Study) -> Finding | None:
    """How much does another training seed change, beside the differences claimed?"""
    trained = [one for one in study.configurations() if not one.is_exact]
    if not trained:
        return None
    question, metric = "How much does another training seed change?", study.named(study.metric)
    several = [one for one in trained if one.seeds > 1]
    if not several:
        words = f"The between-seed variance of {metric} was not measured: there is one training "
        words += "seed, and every interval here covers the sampling error only"
        return finding(question, words, [], n=1, needs="at least two more training seeds")
    gaps = {one.steps: abs(one.difference.value) for one in asked(study, "schedule")}
    steps = sorted({one.steps for one in several})
    parts = []
    for there in dict.fromkeys((steps[0], steps[-1])):
        between, _ = spread(one for one in several if one.steps == there)
        part = f"{say.number(between, 2)} {say.at_steps([there], study.unit)}"
        if gaps.get(there, 0) > 0:
            part += f" ({say.percent(between / gaps[there])} of the gap between schedules there)"
        parts.append(part)
    between, sampling = spread(several)
    seeds = max(one.seeds for one in several)
    words = f"Between training seeds {metric} has a standard deviation of {say.listed(parts)}, "
    words += f"over {say.count(seeds, 'seed')}"
    if np.isfinite(sampling) and sampling > 0:
        words += f"; over all cells, {say.number(between / sampling, 2)} times the sampling error"
    return finding(question, words, (key for one in several for key in one.keys), between, n=seeds)


def sampling_variance(study: Study) -> Finding | None:
    """How much does another sampling seed change, and do the standard errors predict it?"""
    # Each group is one network in one configuration: what varies in it is the sampling alone.
    several = []
    for one in study.configurations():
        for cells in one.by_seed.values():
            if len({cell.cell.sampling_seed for cell in cells}) > 1:
                several.append([(cell.cell.key, one.measurement(cell)) for cell in cells])
    if not several:
        return None
    freedom = sum(len(group) - 1 for group in several)
    values = ([measured.corrected for _, measured in group] for group in several)
    variance = sum(float(np.var(one, ddof=1)) * (len(one) - 1) for one in values) / freedom
    errors = [total_error(measured) for group in several for _, measured in group]
    known = [error**2 for error in errors if np.isfinite(error)]
    predicted = float(np.sqrt(np.mean(known))) if known else np.nan
    low, high = np.sqrt(variance * freedom / stats.chi2.ppf([0.975, 0.025], freedom))
    deviation = Interval(float(np.sqrt(variance)), float(low), float(high), len(several))
    words = f"Between sampling seeds {study.named(study.metric)} has a standard deviation of "
    words += f"{say.spanned(deviation)}, over {say.count(len(several), 'network')} in one "
    words += f"configuration{'' if len(several) == 1 else ' each'}"
    if np.isfinite(predicted):
        agrees = "agrees" if low <= predicted <= high else "does not agree"
        words += f"; the standard errors predict {say.number(predicted, 2)}, which {agrees}"
    return finding(
        "How much does another sampling seed change?", words,
        (key for group in several for key, _ in group), deviation, n=len(several),
    )  # fmt: skip


def inconclusive_comparisons(study: Study) -> Finding | None:
    """What could not be decided, and why?"""
    made = comparisons(study)
    _, undecided = split(made)
    if not undecided:
        return None
    by_reason: dict[str, list[Comparison]] = {}
    for one in undecided:
        by_reason.setdefault(say.why_undecided(one.difference), []).append(one)
    parts = [f"{reason} ({say.pairs(those)})" for reason, those in by_reason.items()]
    words = f"{len(undecided)} of {say.count(len(made), 'comparison')} "
    words += f"{say.are(len(undecided))} inconclusive: {'; '.join(parts)}"
    first = undecided[0].difference
    return finding(
        "What could not be decided, and why?", words,
        (key for one in undecided for key in one.keys),
        Interval(first.value, first.low, first.high, first.n), n=first.n, needs=_needs(undecided),
    )  # fmt: skip


def _needs(undecided: list[Comparison]) -> str:
    """What would decide them: one answer where it is the same for all, else how many need what."""
    if len(each := {one.would_decide for one in undecided}) == 1:
        return each.pop()
    gaps = [one.difference for one in undecided]
    of_images = [gap.covers == SAMPLING and gap.reason != MODELS_DISAGREE for gap in gaps]
    what = Counter("more images per cell" if one else "more training seeds" for one in of_images)
    if len(what) == 1:
        return next(iter(what))
    return say.listed(f"{needed} for {many} of them" for needed, many in what.items())
