"""Values of one metric by different code: a package's formula may change between two runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from harness.errors import PartFailed
from harness.metrics.distances import METRICS
from harness.work.results import CellResult


def of_one_source(results: Iterable[CellResult]) -> list[CellResult]:
    """The results with values of each metric by one code alone, that which is installed here where
    any is by it, else that of most cells; the others are undefined, with the reason."""
    results = list(results)
    names = dict.fromkeys(name for one in results for name in one.metric_sources)
    chosen = {name: _chosen(name, results) for name in names}
    return [_by(chosen, one) for one in results]


def _chosen(name: str, results: Iterable[CellResult]) -> str:
    counts = Counter(one.metric_sources.get(name, "") for one in results if _has(one, name))
    try:
        here = METRICS.source(name) if name in METRICS else ""
    except PartFailed:
        here = ""
    return max(sorted(counts), key=lambda source: (source == here, counts[source]), default="")


def _by(chosen: dict[str, str], result: CellResult) -> CellResult:
    others = {
        name: f"it was evaluated by other code ({found}) than elsewhere. Run the grid again."
        for name, source in chosen.items()
        if _has(result, name) and (found := result.metric_sources.get(name, "")) != source
    }
    if not others:
        return result
    kept = {name: one for name, one in result.measurements.items() if name not in others}
    return replace(result, measurements=kept, undefined={**result.undefined, **others})


def _has(result: CellResult, name: str) -> bool:
    return name in result.measurements
