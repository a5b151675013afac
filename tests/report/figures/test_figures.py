"""Every figure: drawn where it has something to show, in one style, the same every time."""

from dataclasses import replace

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from harness.analysis.study import Study
from harness.report.figures import catalogue, style
from harness.report.figures.catalogue import FigureFailed
from harness.work.results import Artifacts

FIGURES = [*catalogue.FIGURES]
OF_IMAGES = ["samples", "best_samples", "film", "nearest_images"]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_and_saved_the_same_twice(drawn, everything, name):
    for kind in ("svg", "png"):
        first, second = (style.saved(drawn(name, everything), kind) for _ in range(2))
        assert first == second
        assert len(first) < 400_000


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_with_nothing_to_show_is_none(name):
    assert catalogue.figure_named(name, Study.of([])) is None


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_can_be_drawn_from_one_cell(drawn, build, name):
    one = build(schedules=("cosine",), samplers=("ddim",), steps=(10,), seeds=(0,))
    figure = drawn(name, one)
    assert isinstance(figure, Figure) or name in ("comparisons", "train_by_sample")
    if figure:
        assert style.saved(figure, "svg")


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_can_be_drawn_where_nothing_was_measured_but_one_value(drawn, results, name):
    one = results.cells[0]
    bare = replace(one, artifacts=Artifacts(), measurements={
        "kid": replace(one.measurements["kid"], standard_error=None, baseline=None)})  # fmt: skip
    figure = drawn(name, [bare])
    assert (figure is not None) == (name in ("quality_by_steps", "quality_by_seconds",
                                             "pareto_front"))  # fmt: skip
    if figure:
        assert style.saved(figure, "svg")


@pytest.mark.parametrize("name", FIGURES)
def test_a_caption_is_one_line_and_the_rest_tells_how_to_read_the_figure(name):
    shows, reading = catalogue.caption(name)
    assert shows.endswith(".")
    assert reading.endswith(".")
    assert "\n" not in shows + reading


@pytest.mark.parametrize("name", FIGURES)
def test_a_file_that_is_not_at_hand_is_left_out(drawn, everything, name):
    away = [
        replace(one, artifacts=replace(one.artifacts, read_from=lambda _: None))
        for one in (*everything.cells, *everything.trainings)
    ]
    figure = drawn(name, away)
    missing = [*OF_IMAGES, "schedule_curves", "snr_by_step", "forecast"]  # whose runs are unknown
    assert (figure is None) == (name in missing)


def test_a_schedule_has_one_colour_in_all_figures(drawn, legend, everything, results, study_of):
    colours = style.looks(study_of(results)).colours
    assert colours.items() <= style.looks(study_of(everything)).colours.items()
    names = ["quality_by_steps", "pareto_front", "schedule_curves", "snr_by_step", "losses",
             "loss_by_time"]  # fmt: skip
    for experiment in (everything, results):
        for name in names:
            lines = legend(drawn(name, experiment))
            for schedule in ("cosine", "linear"):
                assert to_hex(lines[schedule].get_color()) == to_hex(colours[schedule])


def test_a_sampler_has_one_marker_in_all_figures(drawn, legend, results):
    lines, dots = (legend(drawn(name, results)) for name in ("quality_by_steps", "pareto_front"))
    for sampler in ("ddim", "ddpm"):
        assert lines[sampler].get_marker() == dots[sampler].get_marker()


@pytest.mark.parametrize("name", ["quality_by_steps", "pareto_front", "losses", "samples"])
def test_a_dollar_sign_in_a_name_is_a_dollar_sign(drawn, build, name):
    priced = build(schedules=("a$b", "c$d"), samplers=("ddim",), steps=(5, 10), seeds=(0,))
    assert style.saved(drawn(name, priced), "svg")


def test_the_figure_that_answers_comes_first_and_the_forecast_last():
    assert [catalogue.in_page_order()[place] for place in (0, len(FIGURES) - 1)] == [
        "quality_by_steps", "forecast",
    ]  # fmt: skip


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """Installs a package with figures: one that works, one that raises, one that is not there."""
    (tmp_path / "figures_of_ours.py").write_text(
        "from matplotlib.figure import Figure\n"
        "def cells(study):\n"
        '    """How many cells.\n\n    One bar."""\n'
        "    figure = Figure()\n"
        "    figure.subplots().bar(['cells'], [len(study.cells)])\n"
        "    return figure\n"
        "def broken(study):\n"
        "    raise ZeroDivisionError('of nothing')\n"
    )
    about = tmp_path / "ours-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ours\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[harness.plots]\n"
        "cells = figures_of_ours:cells\n"
        "broken = figures_of_ours:broken\n"
        "missing = figures_of_ours:missing\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_a_figure_of_another_package_comes_after_the_built_in_ones(plug_in, drawn, results):
    assert catalogue.in_page_order() == [*FIGURES, "broken", "cells", "missing"]
    assert catalogue.caption("cells") == ("How many cells.", "One bar.")
    [axes] = drawn("cells", results).axes
    assert axes.patches[0].get_height() == len(results.cells)


@pytest.mark.parametrize("name", ["broken", "missing"])
def test_a_figure_of_another_package_that_raises_is_named_with_its_package(
    plug_in, drawn, results, name
):
    with pytest.raises(FigureFailed, match=f"the figure '{name}' .ours. could not be drawn"):
        drawn(name, results)
