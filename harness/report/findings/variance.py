"""How large the variance between seeds is."""

from __future__ import annotations

import numpy as np
from scipy import special

from harness.analysis.configurations import total_error
from harness.analysis.reference import spread
from harness.analysis.statistics import Interval
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.finding import Finding, finding


def between_seed_variance(study: Study) -> Finding | None:
    """How much does another training seed change?"""
    several = [one for one in study.configurations() if one.seeds > 1 and one.is_trained]
    if not several:
        return None
    seeds, (between, sampling) = max(one.seeds for one in several), spread(several)
    words = f"Between {seeds:,} training seeds {study.metric.title} has a standard deviation of "
    words += say.number(between, 2)
    if np.isfinite(sampling) and sampling > 0:
        words += f", {say.number(between / sampling, 2)} times the sampling error"
    rows = []
    for steps in sorted({one.steps for one in several}):
        of_seeds, of_sampling = spread(one for one in several if one.steps == steps)
        rows.append((f"{steps:,}", say.number(of_seeds, 2), say.number(of_sampling, 2)))
    return finding(
        "How much does another training seed change?", words,
        (key for one in several for key in one.keys), between, n=seeds, rows=rows,
        columns=(f"{study.unit}s", "between training seeds", "sampling error"),
    )  # fmt: skip


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
    low, high = np.sqrt(variance * freedom / special.chdtri(freedom, [0.025, 0.975]))
    deviation = Interval(float(np.sqrt(variance)), float(low), float(high), len(several))
    words = f"Between sampling seeds {study.metric.title} has a standard deviation of "
    words += say.spanned(deviation)
    if known:
        predicted = float(np.sqrt(np.mean(known)))
        agrees = "agrees" if low <= predicted <= high else "disagrees"
        words += f". The standard errors predict {say.number(predicted, 2)}, which {agrees}"
    return finding(
        "How much does another sampling seed change?", words,
        (key for group in several for key, _ in group), deviation, n=len(several),
    )  # fmt: skip
