"""Every figure: drawn where it has something to show, in one style, the same every time."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from harness.analysis.study import Study
from harness.errors import PartFailed
from harness.report.figures import catalogue, style
from harness.work.results import Artifacts

FIGURES = [*catalogue.FIGURES]
OF_IMAGES = ["samples", "best_samples", "film", "training_looks", "forward_process",
             "nearest_images"]  # fmt: skip


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


def test_a_schedule_has_one_colour_in_all_figures(
    drawn, legend, labels, everything, results, study_of
):
    colours = style.looks(study_of(results)).colours
    assert colours.items() <= style.looks(study_of(everything)).colours.items()
    names = ["quality_by_steps", "pareto_front", "schedule_curves", "snr_by_step", "losses",
             "loss_by_time"]  # fmt: skip
    for experiment in (everything, results):
        for name in names:
            figure = drawn(name, experiment)
            lines, beside = legend(figure), labels(figure)
            for schedule in ("cosine", "linear"):
                colour = colours[schedule]
                known = [to_hex(line.get_color()) == colour for text, line in lines.items()
                         if text == schedule]  # fmt: skip
                known += [text.get_color() == style.readable(colour)
                          for name, text in beside.items() if schedule in name]  # fmt: skip
                assert known
                assert all(known)


def test_a_sampler_has_one_marker_in_all_figures(drawn, legend, results, study_of):
    dots, marks = legend(drawn("pareto_front", results)), drawn("quality_by_steps", results).artists
    looks = style.looks(study_of(results), ["ddim", "ddpm"])
    for sampler in ("ddim", "ddpm"):
        assert dots[sampler].get_marker() == looks.markers[sampler]
    assert {*looks.markers.values()} == {line.get_marker() for line in marks} - {"None"}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("grid", [
    {"crossed": True, "exact": True}, {"schedules": ("linear", "cosine", *"abc")},
    {"samplers": ("ddim", "ddpm", *"efghij"), "seeds": (0,)},
    {"schedules": ("linear", "cosine", *"abcdefg"), "seeds": (0,), "steps": (5, 1000)},
])  # fmt: skip
def test_no_type_is_smaller_than_nine_points_nor_beyond_the_page(drawn, build, name, grid):
    figure = drawn(name, build(**grid))
    if figure is None:
        return
    figure.draw_without_rendering()
    assert figure.get_figwidth() == style.PAGE_WIDTH
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text():
            assert text.get_fontsize() >= style.SMALL
    for text in (text for axes in figure.axes for text in axes.texts):
        assert text.get_window_extent().x1 <= figure.bbox.width + 1


# Machado, Oliveira and Fernandes (2009), severity 1: linear RGB as the colour-blind see it.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip


def lab(colour, sight):
    """CIELAB of a colour under D65, as somebody with this sight sees it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = XYZ @ np.clip(np.array(SIGHT[sight]) @ linear, 0, 1) / (0.95047, 1, 1.08883)
    f = [np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT)
def test_no_two_colours_look_alike_to_anybody(sight):
    seen = [lab(colour, sight) for colour in style.COLOURS]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 15


def test_the_first_colours_differ_in_grey_and_samplers_by_their_marker():
    lightness = sorted(lab(colour, "normal")[0] for colour in style.COLOURS[:6])
    assert min(np.diff(lightness)) > 5
    assert min(np.diff(sorted(lab(colour, "normal")[0] for colour in style.COLOURS[:4]))) > 10
    assert len({*style.MARKERS}) == len(style.MARKERS)


@pytest.mark.parametrize("colour", style.COLOURS)
def test_a_line_and_its_label_stand_out_from_white(colour):
    def contrast(of):
        return 1.05 / (style.luminance(of) + 0.05)

    assert contrast(colour) > 2.7
    assert contrast(style.readable(colour)) >= 4.5


def test_labels_that_would_touch_move_apart_in_their_order(drawn, build, labels):
    figure = drawn("quality_by_steps", build(schedules=("a", "b"), samplers=("e", "f", "g")))
    figure.draw_without_rendering()
    beside = labels(figure)
    assert {"a, e", "b, g", "real images"} <= {*beside}
    boxes = [text.get_window_extent() for text in beside.values()]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_a_caption_says_only_what_is_drawn(drawn, results, everything, build):
    def reading(name, experiment):
        return catalogue.caption(name, drawn(name, experiment))[1]

    assert "exact denoiser" not in reading("quality_by_steps", results)
    assert "exact denoiser" in reading("quality_by_steps", everything)
    assert "over training seeds" in reading("quality_by_steps", results)
    alone = reading("quality_by_steps", build(seeds=(0,)))
    assert "sampling error alone" in alone
    assert "over training seeds" not in alone
    assert "KID of cosine relative to linear" in alone
    alike = reading("loss_by_time", build(seeds=(0,)))
    assert "training seeds" not in alike
    assert not any(mark in text for text in (alone, alike) for mark in "[]{}")


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
    with pytest.raises(PartFailed, match=f"plot '{name}' .*ours"):
        drawn(name, results)
