"""Figures made of images: what is where on them, and what of many is shown."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from harness.report.figures import images, moving, style
from harness.report.figures.catalogue import caption
from harness.work.cells import Part

SHOWN = [("cosine", "ddpm", 50), ("linear", "ddim", 50)]  # the best of these results


def shades(rows, side=4, **texts):
    """A picture of uniform tiles of these shades of grey."""
    pixels = np.kron(np.array(rows, np.uint8), np.ones((side, side), np.uint8))
    file, info = io.BytesIO(), PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    Image.fromarray(pixels).save(file, "png", pnginfo=info)
    return file.getvalue()


def place(one):
    return str(one.cell.training.schedule), str(one.cell.sampler), one.cell.steps


def beside(figure):
    return [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]


def titles(figure):
    return [axes.get_title("left") for axes in figure.axes]


def heads(axes):
    """What stands above the columns, after what that is."""
    return [axes.get_xlabel(), *(label.get_text() for label in axes.get_xticklabels())]


def shades_in(figure):
    """The shades other than white, in lines of tiles: each line as it goes from left to right."""
    assert style.is_raster(figure)
    lines = []
    for axes in figure.axes:
        for row in axes.images[0].get_array()[:, :, 0]:
            pairs = zip(row, [255, *row], strict=False)
            line = [int(v) for v, before in pairs if v not in (255, before)]
            if line and (not lines or lines[-1] != line):
                lines.append(line)
    return lines


def test_samples_have_a_row_for_each_schedule_and_sampler_and_a_column_for_each_step_count(
    drawn, results
):
    figure = drawn("samples", results)
    assert heads(figure.axes[0]) == ["steps", "5", "10", "20", "50"]
    assert beside(figure) == ["cosine, ddim", "cosine, ddpm", "linear, ddim", "linear, ddpm"]


def test_a_cell_without_a_picture_leaves_its_place_white(drawn, results, with_files):
    def one_lost(one):
        picture = shades([[one.cell.steps] * 8] * 8)
        return {"samples.png": None if place(one) == ("cosine", "ddim", 10) else picture}

    lines = shades_in(drawn("samples", with_files(results, one_lost)))
    assert [*dict.fromkeys(lines[0])] == [5, 20, 50]
    assert [*dict.fromkeys(lines[1])] == [5, 10, 20, 50]


def test_the_picture_is_that_of_the_first_seed_that_has_one(drawn, build, with_files):
    one_way = build(schedules=("linear",), samplers=("ddim",), steps=(5,))
    files = {0: None, 1: shades([[11] * 8] * 8), 2: shades([[22] * 8] * 8)}
    kept = with_files(one_way, lambda one: {"samples.png": files[one.cell.training.seed]})
    assert set(shades_in(drawn("samples", kept))[0]) == {11}


def test_the_best_samples_of_each_schedule_have_sixteen_images_to_a_row(drawn, results, with_files):
    def rows(first):
        return [[first + 10 * row + column for column in range(8)] for row in range(3)]

    def sheet(one):
        if place(one) not in SHOWN:
            return {"samples.png": shades(rows(200))}
        first = 100 if one.cell.training.seed else 1 if place(one)[0] == "cosine" else 50
        return {"samples.png": shades(rows(first))}

    figure = drawn("best_samples", with_files(results, sheet))
    assert titles(figure) == [
        f"{schedule}, {sampler} at {n} steps" for schedule, sampler, n in SHOWN
    ]
    cosine, linear = rows(1), rows(50)
    assert shades_in(figure) == [
        cosine[0] + cosine[1], cosine[2], linear[0] + linear[1], linear[2],
    ]  # fmt: skip


def test_a_film_is_the_first_image_with_the_numbers_of_its_evaluations(drawn, results, with_files):
    film = shades([[10, 20, 30], [40, 50, 60], [1, 2, 3], [4, 5, 6]], evaluations="1 1050")
    chosen = ("linear", "ddpm", 5)
    one = with_files(results, lambda one: {"film.png": film if place(one) == chosen else None})
    figure = drawn("film", one)
    assert beside(figure) == ["linear, ddpm"]
    assert heads(figure.axes[0])[:4] == ["evaluation", "1", "1,050", "result"]
    assert shades_in(figure) == [[10, 20, 30], [40, 50, 60]]


def test_all_films_have_the_same_number_of_steps(drawn, build):
    figure = drawn("film", build(steps=(5, 20, 100)))
    assert beside(figure) == ["cosine, ddim", "cosine, ddpm", "linear, ddim", "linear, ddpm"]
    assert heads(figure.axes[0]) == [
        "evaluation", "1", "4", "7", "10", "14", "17", "20", "result",
    ]  # fmt: skip
    assert heads(drawn("film", build(steps=(100, 200))).axes[0])[-2:] == ["100", "result"]


def test_films_with_other_evaluations_stand_together_below_their_own_numbers(
    drawn, results, with_files
):
    def film(one):
        return {
            "film.png": shades([[1, 2]] * 4, evaluations="99" if place(one)[1] == "ddim" else "50")
        }

    figure = drawn("film", with_files(results, film))
    assert beside(figure) == ["cosine, ddim", "linear, ddim", "cosine, ddpm", "linear, ddpm"]
    assert [heads(axes)[:2] for axes in figure.axes] == [
        ["evaluation", "99"], [""], ["evaluation", "50"], [""],
    ]  # fmt: skip


def test_of_many_films_each_schedule_keeps_its_best_samplers(drawn, build):
    many = build(schedules=("linear", "cosine", "a", "b", "c"), samplers=("ddpm", *"efg"),
                 steps=(20,), seeds=(0,))  # fmt: skip
    names = beside(drawn("film", many))
    assert len(names) == images.MOST_FILMS
    schedules = [name.split(",")[0] for name in names]
    assert {schedules.count(schedule) for schedule in schedules} == {2}


def test_a_film_without_numbers_still_ends_in_its_result(drawn, results, with_files):
    figure = drawn("film", with_files(results, {"film.png": shades([[1, 2, 3]] * 4)}))
    assert [text for text in heads(figure.axes[0]) if text] == ["evaluation", "result"]


def webp(rows, numbers, side=4):
    pixels = np.kron(np.array(rows, np.uint8), np.ones((side, side), np.uint8))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "webp", lossless=True, xmp=numbers.encode())
    return file.getvalue()


def frames_of(animation):
    """The shades other than white of each frame, in lines of tiles, and how long it stands."""
    picture, found = Image.open(io.BytesIO(animation)), []
    for frame in range(picture.n_frames):
        picture.seek(frame)
        pixels = np.asarray(picture.convert("L"))
        lines = {tuple(dict.fromkeys(row.tolist())) for row in pixels[:, :: moving.GAP]}
        found.append(({shade for line in lines for shade in line}, picture.info["duration"]))
    return found


def test_a_film_moves_through_every_evaluation_of_the_best_of_each_schedule(
    drawn, results, with_files
):
    def films(one):
        if place(one) not in SHOWN:
            return {"film.webp": webp([[99, 99, 99]] * 4, "1 2")}
        first = 10 if place(one)[0] == "cosine" else 20
        return {"film.webp": webp([[first, first + 1, first + 2]] * 4, "1 2")}

    frames = frames_of(drawn("film", with_files(results, films)).moving)
    assert len(frames) == 3
    for place_in_film, (shades_shown, _) in enumerate(frames):
        assert {10 + place_in_film, 20 + place_in_film} <= shades_shown
    assert frames[-1][1] > frames[0][1]


def test_films_of_other_lengths_end_together():
    tiles = np.zeros((4, 11, 8, 8, 3), np.uint8)
    long, short = moving.Reel(tiles, range(1, 11)), moving.Reel(tiles[:, :6], range(1, 6))
    assert [long.at(frame, 11) for frame in (0, 5, 10)] == [0, 5, 10]
    assert [short.at(frame, 11) for frame in (0, 5, 10)] == [0, 2, 5]
    assert short.says(5, 5) == "result"
    assert short.says(4, 50) == "evaluation 5 of 50"


def test_all_frames_of_a_film_of_large_images_have_one_size():
    reel = moving.Reel(np.zeros((2, 12, 64, 64, 3), np.uint8), range(1, 12))
    film = Image.open(io.BytesIO(moving.animated({"cosine": reel, "a schedule, ddim": reel})))
    sizes = set()
    for frame in range(film.n_frames):
        film.seek(frame)
        sizes.add(film.size)
    assert (film.n_frames, len(sizes)) == (12, 1)


def test_an_animation_that_fails_does_not_cost_the_still(drawn, results, with_files):
    broken = with_files(results, {"film.webp": b"no picture"})
    figure = drawn("film", broken)
    assert not figure.moving
    assert beside(figure) == ["cosine, ddim", "cosine, ddpm", "linear, ddim", "linear, ddpm"]
    assert "could not be made" in caption("film", figure)[1]


def test_without_every_evaluation_a_film_does_not_move(drawn, results, with_files):
    assert not drawn("film", with_files(results, {"film.webp": None})).moving


def test_images_in_noise_stand_under_the_log_snr_of_their_schedule(drawn, build):
    figure = drawn("forward_process", build())
    assert beside(figure) == ["cosine", "linear"]
    above = heads(figure.axes[0])[1:]
    assert above[0] == "t = 0.0\n2.2"  # (0.95 / 0.312)^2
    assert above[-1] == "t = 1.0\n−7.8"  # (0.02 / 0.9998)^2
    assert heads(figure.axes[1])[1] == "∞"


def test_pixels_in_other_units_have_rows_of_images_in_noise_of_their_own(drawn, build):
    of = build(schedules=("linear",), samplers=("ddim",), steps=(5,), seeds=(0,))
    assert (
        "the same training images and"
        in caption("forward_process", drawn("forward_process", of))[1]
    )
    [training] = of.trainings
    other = replace(training, training=replace(training.training, scale=Part("unit")))
    figure = drawn("forward_process", [*of.cells, training, other])
    assert [name.replace("\n", " ") for name in beside(figure)] == [
        f"linear, scale {scale}" for scale in sorted((str(training.training.scale), "unit"))
    ]


def test_samples_drawn_while_training_are_those_of_the_first_seed(drawn, build):
    of = build()
    figure = drawn("training_looks", of)
    assert beside(figure) == ["cosine", "linear"]
    assert [text for text in heads(figure.axes[0]) if text] == [
        "training steps", "400", "800", "1,200",
    ]  # fmt: skip
    assert heads(figure.axes[1]) == [""]  # the same


def test_the_nearest_are_those_of_the_best_configuration_of_each_schedule(
    drawn, results, with_files
):
    generated, training = [*range(10, 18)], [*range(100, 108)]
    near = {"nearest.png": shades([generated, training])}
    figure = drawn("nearest_images", with_files(results, near))
    assert beside(figure) == ["generated", "training"] * 2
    assert titles(figure) == ["cosine, ddpm at 50 steps", "linear, ddim at 50 steps"]
    assert shades_in(figure) == [generated, training] * 2


def test_three_schedules_at_most_have_their_nearest_images_shown(drawn, build):
    many = build(schedules=("linear", "cosine", "a", "b"), samplers=("ddim",), steps=(5,))
    figure = drawn("nearest_images", many)
    assert len(beside(figure)) == 6
    assert titles(figure)[0] == "cosine, ddim at 5 steps"


@pytest.mark.parametrize("wide", [3, 8])
def test_fewer_neighbours_than_eight_are_not_made_larger(drawn, results, with_files, wide):
    near = {"nearest.png": shades([[1] * wide] * 2)}
    for axes in drawn("nearest_images", with_files(results, near)).axes:
        assert axes.images[0].get_array().shape[1] == 8 * (4 + 1) - 1


@pytest.mark.parametrize("name", ["samples", "best_samples", "film", "nearest_images"])
def test_no_pictures_no_figure(drawn, results, with_files, name):
    none = dict.fromkeys(["samples.png", "film.png", "nearest.png"])
    assert drawn(name, with_files(results, none)) is None


def test_all_rows_of_a_figure_have_one_scale(drawn, results):
    figure = drawn("film", results)
    figure.draw_without_rendering()
    widths = {round(axes.get_position().width, 6) for axes in figure.axes}
    assert len(widths) == 1
