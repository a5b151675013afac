"""Figures are drawn from studies, which are made from experiments made by hand."""

from dataclasses import replace

import pytest

from harness.analysis.study import Study, studies
from harness.report.figures import catalogue
from harness.work.results import Artifacts, Experiment


@pytest.fixture(scope="session")
def study_of():
    """The study of an experiment, or of results in a list."""

    def study_of(results):
        return studies(results)[0] if isinstance(results, Experiment) else Study.of(results)

    return study_of


@pytest.fixture(scope="session")
def drawn(study_of):
    """Draws a figure by its name: the loss by time of trainings alone that were made before the
    denoising error was measured."""

    def drawn(name, results):
        study = study_of(results)
        if name == "loss_by_time":
            before = [replace(one, denoising=None) for one in study.trainings]
            study = replace(study, trainings=tuple(before))
        return catalogue.figure_named(name, study)

    return drawn


@pytest.fixture(scope="session")
def with_files():
    """An experiment whose cells have other files: `files` by name, or a function of a cell. A file
    that is None is no longer there."""

    def with_files(experiment, files):
        def changed(one):
            kept = {name: one.artifacts.read(name) for name in one.artifacts.checksums}
            kept |= files(one) if callable(files) else files
            kept = {name: content for name, content in kept.items() if content is not None}
            return replace(one, artifacts=Artifacts.of(kept))

        return replace(experiment, cells=tuple(map(changed, experiment.cells)))

    return with_files


@pytest.fixture(scope="session")
def legend():
    """What the legend of a figure names, in its order, each with its line."""

    def legend(figure):
        pairs = [pair for found in figure.legends
                 for pair in zip(found.get_texts(), found.get_lines(), strict=True)]  # fmt: skip
        return {text.get_text(): line for text, line in pairs}

    return legend


@pytest.fixture(scope="session")
def labels():
    """What stands beside the panels of a figure, at the ends of lines, from top to bottom."""

    def labels(figure):
        found = [text for axes in figure.axes for text in axes.texts
                 if getattr(text, "xycoords", "") == "axes fraction"]  # fmt: skip
        return {each.get_text(): each for each in sorted(found, key=lambda each: -each.xy[1])}

    return labels
