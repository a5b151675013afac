"""Means over seeds against network evaluations, as MLflow draws them: metrics of the run of a grid
whose step is the number of evaluations."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.analysis.study import Study, studies
from harness.work.results import Experiment

ALLOWED = re.compile(r"[^\w.\- ]+")  # what a name may not have, within a section
LONGEST_NAME = 250


@dataclass(frozen=True)
class Point:
    """The mean of a metric over the seeds of one configuration."""

    metric: str
    name: str  # of its curve: `kid/cosine ddim`
    evaluations: int
    value: float


def curves(experiment: Experiment) -> list[Point]:
    """Every curve of the comparable cells of an experiment, those of the exact denoiser after those
    of networks; values less their finite-sample bias, as in the report."""
    main = next((one for one in studies(experiment) if one.metrics), None)
    if main is None:
        return []
    found = [*_of(main, "")]
    exact = [one for one in main.results if one.cell.training.is_exact]
    if exact and not main.cells[0].cell.training.is_exact:
        found += _of(replace(main, results=tuple(exact)), "exact ")
    return found


def _of(study: Study, before: str) -> Iterator[Point]:
    for metric in study.metrics:
        for one in study.configurations(metric.key):
            label = ALLOWED.sub(" ", f"{before}{one.schedule} {one.sampler}")
            name = f"{metric.key}/{' '.join(label.split())}"[:LONGEST_NAME]
            if math.isfinite(one.mean):
                yield Point(metric.key, name, round(one.nfe), one.mean)
