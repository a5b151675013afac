"""Experiments that all tests of the report share."""

from dataclasses import replace

import pytest
from experiments import build

from harness.report import page
from harness.work.results import Run


@pytest.fixture(name="build", scope="session")
def _build():
    """Makes the experiment of a grid with the axes it is given."""
    return build


@pytest.fixture(scope="session")
def everything():
    """An experiment in which every figure and every finding has something to say."""
    return build(crossed=True, exact=True)


@pytest.fixture(scope="session")
def results():
    """Two schedules, two samplers, four step counts, three training seeds."""
    return build()


@pytest.fixture(scope="session")
def written(results, tmp_path_factory):
    """The folder of the report of these results."""
    folder = tmp_path_factory.mktemp("report")
    page.write(results, folder)
    return folder


@pytest.fixture
def change():
    """Changes the cells of an experiment, each by a function of it and its place; what a cell was
    recorded as stays."""

    def change(experiment, function):
        cells = tuple(function(one, n) for n, one in enumerate(experiment.cells))
        moved = {
            new.cell.key: experiment.runs.get(old.cell.key, Run())
            for new, old in zip(cells, experiment.cells, strict=True)
        }
        return replace(experiment, cells=cells, runs={**experiment.runs, **moved})

    return change
