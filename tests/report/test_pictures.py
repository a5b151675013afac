"""Figures made of pictures: what is where on them, and what of many is shown."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from harness.report import pictures, plots, style

SHOWN = [("cosine", "ddpm", 50), ("linear", "ddim", 50)]  # the best of these results


def shades(rows, side=4, **texts):
    """A picture of uniform tiles of these shades of grey."""
    pixels = np.kron(np.array(rows, np.uint8), np.ones((side, side), np.uint8))
    file, info = io.BytesIO(), PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    Image.fromarray(pixels).save(file, "png", pnginfo=info)
    return file.getvalue()


def drawn(name, results):
    """The figure's names beside its rows, its other texts, and its shades from the top left."""
    figure = plots.drawn(name, results)
    assert style.is_raster(figure)
    [axes] = figure.axes
    beside = [label.get_text() for label in axes.get_yticklabels()]
    return beside, [text.get_text() for text in axes.texts], axes.images[0].get_array()


def shades_in(canvas):
    """The shades other than white, in lines of tiles: each line as it goes from left to right."""
    lines = []
    for row in canvas[:, :, 0]:
        line = [
            int(v) for v, before in zip(row, [255, *row], strict=False) if v not in (255, before)
        ]
        if line and (not lines or lines[-1] != line):
            lines.append(line)
    return lines


def test_the_sheet_has_a_row_for_each_way_and_a_column_for_each_number_of_steps(results):
    figure = plots.drawn("samples", results)
    [axes] = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "10", "20", "50"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "cosine, ddim", "cosine, ddpm", "linear, ddim", "linear, ddpm",
    ]  # fmt: skip


def test_the_sheets_of_the_best_way_of_each_schedule_have_sixteen_images_to_a_row(results):
    def rows(first):
        return [[first + 10 * row + column for column in range(8)] for row in range(3)]

    sheets = {
        cell.key: shades(rows(100 if cell.seed else 1 if cell.schedule == "cosine" else 50))
        for cell in results.cells.itertuples()
        if (cell.schedule, cell.sampler, cell.steps) in SHOWN
    }
    others = dict.fromkeys(results.sheets, shades(rows(200)))
    beside, texts, canvas = drawn("best_samples", replace(results, sheets=others | sheets))
    assert texts == [f"{schedule}, {sampler} at {n} steps" for schedule, sampler, n in SHOWN]
    assert beside == ["", ""]
    cosine, linear = rows(1), rows(50)
    assert shades_in(canvas) == [
        cosine[0] + cosine[1], cosine[2], linear[0] + linear[1], linear[2],
    ]  # fmt: skip


def test_a_film_is_the_first_image_with_the_numbers_of_its_evaluations(results):
    film = shades([[10, 20, 30], [40, 50, 60], [1, 2, 3], [4, 5, 6]], evaluations="1 1050")
    films = {results.cells["key"].iloc[0]: film}
    beside, texts, canvas = drawn("film", replace(results, films=films))
    assert beside == ["linear, ddpm"]
    assert texts == ["evaluation", "1", "1,050", "result"]
    assert shades_in(canvas) == [[10, 20, 30], [40, 50, 60]]


def test_all_films_have_the_same_number_of_steps(build):
    beside, texts, _ = drawn("film", build(steps=(5, 20, 100)))
    assert beside == ["cosine, ddim", "cosine, ddpm", "linear, ddim", "linear, ddpm"]
    assert texts == ["evaluation", "1", "4", "7", "10", "14", "17", "20", "result"]
    _, texts, _ = drawn("film", build(steps=(100, 200)))
    assert texts[-2:] == ["100", "result"]


def test_films_with_other_evaluations_stand_together_below_their_own_numbers(results):
    films = {
        key: shades([[1, 2]] * 4, evaluations="99" if "ddim" in key else "50")
        for key in results.films
    }
    beside, texts, _ = drawn("film", replace(results, films=films))
    assert beside == ["cosine, ddim", "linear, ddim", "cosine, ddpm", "linear, ddpm"]
    assert texts == ["evaluation", "99", "result", "evaluation", "50", "result"]


def test_of_many_films_each_schedule_keeps_its_best_samplers(build):
    many = build(schedules=("linear", "cosine", "a", "b", "c"), samplers=("ddpm", *"efg"),
                 steps=(20,), seeds=(0,))  # fmt: skip
    beside, *_ = drawn("film", many)
    assert len(beside) == pictures.MOST_FILMS
    schedules = [name.split(",")[0] for name in beside]
    assert {schedules.count(schedule) for schedule in schedules} == {2}


def test_a_film_without_numbers_still_ends_in_its_result(results):
    films = {key: shades([[1, 2, 3]] * 4) for key in results.films}
    _, texts, _ = drawn("film", replace(results, films=films))
    assert texts == ["evaluation", "", "", "result"]


def test_the_nearest_are_those_of_the_best_way_of_each_schedule(results):
    generated, training = [*range(10, 18)], [*range(100, 108)]
    near = shades([generated, training])
    beside, texts, canvas = drawn("nearest_images", replace(results, nearest=dict.fromkeys(
        results.nearest, near)))  # fmt: skip
    assert beside == ["generated", "training"] * 2
    assert texts == ["cosine, ddpm at 50 steps", "linear, ddim at 50 steps"]
    assert shades_in(canvas) == [generated, training] * 2


def test_three_schedules_at_most_have_their_nearest_images_shown(build):
    many = build(schedules=("linear", "cosine", "a", "b"), samplers=("ddim",), steps=(5,))
    beside, texts, _ = drawn("nearest_images", many)
    assert len(beside) == 6
    assert texts[0] == "cosine, ddim at 5 steps"


@pytest.mark.parametrize("wide", [3, 8])
def test_fewer_neighbours_than_eight_are_not_made_larger(results, wide):
    near = shades([[1] * wide] * 2)
    *_, canvas = drawn("nearest_images", replace(results, nearest=dict.fromkeys(
        results.nearest, near)))  # fmt: skip
    assert canvas.shape[1] == 8 * (4 + 1) - 1


@pytest.mark.parametrize("name", ["samples", "best_samples", "film", "nearest_images"])
def test_no_pictures_no_figure(results, name):
    assert plots.drawn(name, replace(results, sheets={}, films={}, nearest={})) is None
