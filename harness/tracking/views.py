"""What MLflow's pages show first of an experiment: its cells as a table with charts, and curves.

MLflow keeps a view that people share as a tag of the experiment: JSON with a name, two times and
the state of the page, compressed. The format is its own and documented nowhere; a browser test
opens both views.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from harness.analysis.configurations import MetricInfo
from harness.work.addresses import CELLS_VIEW, CURVES_VIEW
from harness.work.cells import EXACT, Cell

SHARED = "mlflow.sharedViewState."  # before the key of a view
COMPRESSED = "deflate;"
LONGEST_TAG = 5000  # characters that every version of MLflow takes

FACTORS = ("schedule", "sampler", "steps", "seed")  # columns of every grid
# Of a schedule that differs from cell to cell because that of its training does.
IMPLIED = {"sample_schedule": "schedule", "sample_schedule_options": "schedule_options"}
COSTS = ("seconds_per_image", "nfe")
WIDTHS = {"schedule": 95, "sampler": 85, "steps": 70, "seed": 65}  # pixels
MOST_LINES = 24  # in a chart
MLFLOW_PAGE = 100  # runs that a page of MLflow's has
OF_CELLS = "tags.`harness.kind` = 'cell'"
OF_NETWORKS = f"params.`model` != '{EXACT}'"
CURVES = "Curves"
AVERAGED = ("steps", "seed", "sampling_seed")  # what tells the cells of one curve apart

View = dict[str, Any]
Shared = tuple[str, View]  # with its title


def views_of(cells: Sequence[Cell], metrics: Sequence[str]) -> dict[str, Shared]:
    """The shared views of a grid of these cells and metrics, by their keys."""
    views = {CELLS_VIEW: ("Cells", cells_view(cells, metrics))}
    if len(cells) <= MLFLOW_PAGE:  # of more it would average those on its page alone
        views[CURVES_VIEW] = (CURVES, curves_view(cells, metrics))
    return views


def cells_view(cells: Iterable[Cell], metrics: Sequence[str]) -> View:
    """The cells of a grid by the first of its metrics, the best first: what the grid varies, its
    metrics and costs as columns; quality against cost as charts. The exact denoiser would be the
    best of all: where there are networks, its cells are left out."""
    cells = list(cells)
    networks = [cell for cell in cells if not cell.training.is_exact]
    is_mixed = 0 < len(networks) < len(cells)
    params = [cell.params() for cell in networks or cells]
    factors = varied(params)
    in_all = [name for name in factors if all(name in each for each in params)]
    first, numbers = metrics[0], [*metrics, *COSTS]
    columns = {_column("params", name): WIDTHS.get(name, 110) for name in factors}
    columns |= {_column("metrics", name): 110 for name in numbers}
    charts = [
        _chart("SCATTER", "quality", xaxis=_axis(cost), yaxis=_axis(first))
        for cost in reversed(COSTS)
    ]
    charts.append(
        _chart("PARALLEL", "quality", selectedParams=in_all, selectedMetrics=[first],
               showAllRuns=False)
    )  # fmt: skip
    charts += [_chart("BAR", "metrics", metricKey=name, displayName=name) for name in numbers]
    sections = {"quality": "Quality and cost", "metrics": "Metrics, cell by cell"}
    return {
        "searchFilter": f"{OF_CELLS} AND {OF_NETWORKS}" if is_mixed else OF_CELLS,
        "orderByKey": _column("metrics", first),
        "orderByAsc": MetricInfo.of(first).lower_is_better,
        "selectedColumns": [*columns],
        "columnOrder": [*columns],
        "columnWidths": columns,
        **_drawn(charts, sections, metrics),
    }


def curves_view(cells: Iterable[Cell], metrics: Sequence[str]) -> View:
    """Each metric against network evaluations: a line for each configuration, the mean of its cells
    over seeds, between the least and the greatest of them. MLflow groups the runs on its page."""
    params = [cell.params() for cell in cells]
    factors = [name for name in varied(params) if name not in AVERAGED]
    keys = [{"mode": "param", "groupByData": name} for name in factors]
    charts = [_line(metric, [metric], metric) for metric in metrics]
    return {
        "searchFilter": OF_CELLS,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": keys},
        "selectedColumns": [],
        **_drawn(charts, {"curves": "Means over seeds, by network evaluations"}, metrics),
    }


def means_view(curves: Mapping[str, Sequence[str]]) -> View:
    """The same of a grid of more cells than a page of MLflow has: by the means that the run of the
    grid has as metrics of these names, by metric."""
    charts = [_line(names[0], names[:MOST_LINES], metric) for metric, names in curves.items()]
    return {
        "searchFilter": "tags.`harness.kind` = 'grid'",
        "selectedColumns": [],
        **_drawn(charts, {"curves": "Means over seeds, by network evaluations"}, [*curves]),
    }


def varied(params: Sequence[Mapping[str, object]]) -> list[str]:
    """The names of params that tell cells apart, those of every grid first."""
    names = dict.fromkeys(chain(FACTORS, *params))
    names.pop("eta", None)  # the options of a sampler say it, too
    return [name for name in names if name in FACTORS or _is_varied(name, params)]


def _is_varied(name: str, params: Sequence[Mapping[str, object]]) -> bool:
    if (other := IMPLIED.get(name)) and all(each.get(name) == each.get(other) for each in params):
        return False
    # Most params are missing where they mean nothing; options, where they are the defaults.
    is_told_by_absence = name.endswith("_options")
    values = {str(each.get(name)) for each in params if is_told_by_absence or name in each}
    return len(values) > 1


def tag_of(key: str, name: str, view: View, before: str | None, now: int) -> dict[str, str]:
    """The tag of an experiment that shares this view, with the time in milliseconds; none where
    the tag as it was `before` says the same, or where it would be too long for MLflow."""
    text = json.dumps(view, sort_keys=True)
    known, since = _read(before)
    if known == text:
        return {}
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    shared = {"name": name, "createdAt": since or now, "updatedAt": now}
    value = json.dumps({**shared, "state": f"{COMPRESSED}{packed}"})
    return {f"{SHARED}{key}": value} if len(value) <= LONGEST_TAG else {}


def _read(tag: str | None) -> tuple[str, int]:
    """The text of a view and when it was made; of anything else, nothing."""
    try:
        shared = json.loads(tag or "{}")
        packed = base64.b64decode(shared["state"].removeprefix(COMPRESSED))
        return zlib.decompress(packed).decode(), int(shared["createdAt"])
    except (ValueError, TypeError, KeyError, AttributeError, zlib.error):
        return "", 0


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


def _axis(metric: str) -> dict[str, str]:
    return {"key": metric, "type": "METRIC"}


def _chart(kind: str, section: str, **more: Any) -> View:
    fixed = {"type": kind, "metricSectionId": section, "runsCountToCompare": 100,
             "deleted": False, "isGenerated": False}  # fmt: skip
    return {**fixed, **more}


def _line(key: str, names: Sequence[str], title: str) -> View:
    """A chart of metrics whose steps are network evaluations."""
    return _chart(
        "LINE", "curves", metricKey=key, selectedMetricKeys=names, displayName=title,
        xAxisKey="step", selectedXAxisMetricKey="", xAxisScaleType="linear", scaleType="linear",
        yAxisKey="metric", yAxisExpressions=[], range={}, lineSmoothness=0, displayPoints=True,
        ignoreOutliers=False, useGlobalXaxisKey=False, useGlobalLineSmoothing=False,
    )  # fmt: skip


def _drawn(charts: Sequence[View], sections: Mapping[str, str], others: Iterable[str] = ()) -> View:
    """The charts of a view in their sections. All other metrics, which MLflow draws by itself, stay
    folded, and so do `others`, its sections of metrics whose names begin so."""
    folded = {name: name for name in (*others, "Model metrics", "System metrics")}
    return {
        "compareRunCharts": [{"uuid": f"chart-{n}", **one} for n, one in enumerate(charts)],
        "compareRunSections": [
            {"uuid": uuid, "name": name, "display": uuid in sections, "isReordered": True,
             "deleted": False, "isGenerated": False}
            for uuid, name in {**sections, **folded}.items()
        ],
        "isAccordionReordered": True,  # or MLflow would sort the sections by name
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
        "autoRefreshEnabled": True,
    }  # fmt: skip
