"""The addresses of MLflow's pages: of an experiment and of a run, as a model is trained in it.

MLflow opens in its mode for language models where an address does not say otherwise.
"""

from __future__ import annotations

from urllib.parse import quote

CELLS_VIEW, CURVES_VIEW = "harness", "harness-curves"  # the shared views of an experiment
MODE = "workflowType=machine_learning"


def experiment_page(ui_url: str, experiment: str, view: str = CELLS_VIEW) -> str:
    """The runs of an experiment, named by its id, in one of its shared views; as a reader last saw
    them where no view is named."""
    shown = f"&viewStateShareKey={quote(view, safe='')}" if view else ""
    # Curves are drawn beside the list of runs; cells are a table first.
    shown += "&compareRunsMode=CHART" if view == CURVES_VIEW else ""
    return f"{_of(ui_url, experiment)}?{MODE}{shown}"


def run_page(ui_url: str, experiment: str, run: str) -> str:
    return f"{_of(ui_url, experiment)}/{quote(run, safe='')}?{MODE}"


def _of(ui_url: str, experiment: str) -> str:
    return f"{ui_url.rstrip('/')}/#/experiments/{quote(experiment, safe='')}/runs"
