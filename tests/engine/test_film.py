"""The pictures of a cell: which evaluations a film shows, and who stands beside whom."""

import io
from dataclasses import replace

import made
import numpy as np
import pytest
import torch
from PIL import Image

from harness.data.datasets import DATASETS
from harness.data.images import ImageSet
from harness.diffusion.schedules import SCHEDULES
from harness.engine.network import build, with_weights
from harness.engine.noise import starting_noise
from harness.engine.pictures import WIDEST, Film, forward, nearest_pairs, png, sheet, with_look
from harness.engine.sample import sample
from harness.engine.scale import Scale
from harness.work.cells import Part

SIDE = 2


def tiles_of(picture, side=SIDE):
    """[rows, columns, side, side(, colours)]: a picture taken apart again."""
    pixels = np.asarray(Image.open(io.BytesIO(picture)))
    rows, columns = pixels.shape[0] // side, pixels.shape[1] // side
    cut = pixels.reshape(rows, side, columns, side, *pixels.shape[2:])
    return cut.swapaxes(1, 2)


def evaluations_in(picture):
    return [int(word) for word in Image.open(io.BytesIO(picture)).text["evaluations"].split()]


def plain(values, channels=1):
    """Images of one brightness each, uint8 [N, channels, SIDE, SIDE]."""
    images = np.array(values, np.uint8)[:, None, None, None]
    return images * np.ones((1, channels, SIDE, SIDE), np.uint8)


def signal(values, channels=1):
    return torch.from_numpy(plain(values, channels)) / 127.5 - 1


def filmed(count, batches=1):
    """The film of a cell of three images whose k-th evaluation holds images of brightness k, k + 1
    and k + 2 and takes them to be 100 + k, ...; later batches are all white."""
    film = Film(count, Scale())
    for k in range(1, count + 1):
        held, estimated = ([first + k, first + k + 1, first + k + 2] for first in (0, 100))
        film.look(signal(held), signal(estimated))
    for _ in range((batches - 1) * count):
        film.look(signal([255] * 3), signal([255] * 3))
    return film.png(plain([201, 202, 203]))


# A film.


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
def test_few_evaluations_are_all_shown(count):
    assert evaluations_in(filmed(count)) == list(range(1, count + 1))


@pytest.mark.parametrize("count", [11, 50, 99, 1000])
def test_of_many_evaluations_ten_are_shown_evenly_from_the_first_to_the_last(count):
    film = Film(count, Scale())
    assert len(film.chosen) == 10
    assert (film.chosen[0], film.chosen[-1]) == (1, count)
    even = 1 + (count - 1) * np.arange(10) / 9
    assert np.abs(np.array(film.chosen) - even).max() <= 0.5


@pytest.mark.parametrize("count", [1, 3, 7, 50])
@pytest.mark.parametrize("batches", [1, 2])
def test_columns_hold_what_was_held_above_what_was_estimated(count, batches):
    picture = filmed(count, batches)
    numbered = evaluations_in(picture)
    brightness = tiles_of(picture)[..., 0, 0]
    assert brightness.shape == (4, len(numbered) + 1)
    for image, rows in enumerate((brightness[:2], brightness[2:])):
        assert rows[0, :-1].tolist() == [k + image for k in numbered]
        assert rows[1, :-1].tolist() == [100 + k + image for k in numbered]
        assert rows[:, -1].tolist() == [201 + image] * 2  # the result, beside both


@pytest.mark.parametrize("count", [250, 1000])
def test_the_film_of_large_images_has_as_many_evaluations_as_there_is_room_for(count):
    film, side = Film(count, Scale()), 200
    for _ in range(count):
        film.look(torch.zeros(1, 1, side, side), torch.zeros(1, 1, side, side))
    picture = Image.open(io.BytesIO(film.webp(np.zeros((1, 1, side, side), np.uint8))))
    numbered = [*map(int, picture.info["xmp"].split())]
    assert len(numbered) == WIDEST // side - 1
    assert (numbered[0], numbered[-1]) == (1, count)


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (20, 20), (100, 100), (1000, 100)])
def test_the_film_that_moves_has_every_evaluation_of_all_but_very_many(count, shown):
    film = Film(count, Scale())
    for k in range(1, count + 1):
        film.look(signal([k % 256] * 2), signal([1] * 2))
    picture = Image.open(io.BytesIO(film.webp(plain([201, 202]))))
    numbered = [*map(int, picture.info["xmp"].split())]
    assert len(numbered) == shown
    assert (numbered[0], numbered[-1]) == (1, count)
    brightness = np.asarray(picture.convert("L"))[::SIDE, ::SIDE]
    assert brightness.shape == (4, shown + 1)
    assert brightness[0].tolist() == [*(k % 256 for k in numbered), 201]


# The pictures of a training.


def uniform(brightness):
    """A data set of 50 images of one brightness."""
    images = np.full((50, 1, 32, 32), brightness, np.uint8)
    return ImageSet("uniform", images, images[:1])


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_images_in_noise_have_the_rates_of_their_schedule(name):
    schedule = SCHEDULES[name]()
    tiles = tiles_of(forward(uniform(0.6 * 127.5 + 127.5), schedule, Scale()), 32) / 127.5 - 1
    assert tiles.shape[:2] == (2, 11)
    for place, t in enumerate(torch.linspace(0, 1, 11, dtype=torch.float64)):
        # Beyond -1 and 1 nothing is shown.
        noise = torch.randn(200_000, generator=torch.Generator().manual_seed(1))
        shown = (0.6 * schedule.alpha(t) + schedule.sigma(t) * noise).clamp(-1, 1)
        assert tiles[:, place].mean() == pytest.approx(float(shown.mean()), abs=0.04)
        assert tiles[:, place].std() == pytest.approx(float(shown.std()), abs=0.04)


def test_every_schedule_is_shown_with_the_same_images_and_noise():
    real, zero = DATASETS["digits"](None), {"zero_terminal_snr": True}
    ends = [
        tiles_of(forward(real, SCHEDULES.make(name, zero), Scale()), 8)[:, -1]
        for name in ("linear", "scaled_linear")
    ]
    assert (ends[0] == ends[1]).all()


def steps_in(picture):
    return Image.open(io.BytesIO(picture)).text["steps"]


@pytest.mark.parametrize("channels", [1, 3])
def test_looks_at_a_training_stand_side_by_side(channels):
    looks = b""
    for step in (10, 20, 30):
        looks = with_look(looks, step, plain(range(step, step + 5), channels))
    assert steps_in(looks) == "10 20 30"
    shown = tiles_of(looks)[:, :, 0, 0].reshape(4, 3, -1)[..., 0]
    assert shown.tolist() == [[10 + n, 20 + n, 30 + n] for n in range(4)]


def test_tiles_are_whole_images_without_borders():
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 2, 2)
    film = Film(1, Scale())
    film.look(
        torch.from_numpy(images) / 127.5 - 1, torch.from_numpy(images[::-1].copy()) / 127.5 - 1
    )
    tiles = tiles_of(film.png(images)).transpose(0, 1, 4, 2, 3)  # colours first, as images are
    assert tiles[:, 0].tolist() == images[[0, 1, 1, 0]].tolist()
    assert tiles[:, 1].tolist() == images[[0, 0, 1, 1]].tolist()


def test_a_cell_of_one_image_has_a_film_too():
    film = Film(2, Scale())
    for _ in range(2):
        film.look(signal([10]), signal([20]))
    assert tiles_of(film.png(plain([30])))[..., 0, 0].tolist() == [[10, 10, 30], [20, 20, 30]]


def test_a_film_keeps_what_it_saw_though_a_sampler_goes_on_in_place():
    film, x, estimate = Film(1, Scale()), signal([10, 11]), signal([20, 21])
    film.look(x, estimate)
    x.fill_(1)
    estimate.fill_(1)
    assert tiles_of(film.png(plain([30, 31])))[:, 0, 0, 0].tolist() == [10, 20, 11, 21]


# The film of a cell.

CPU = torch.device("cpu")
TRAINING = replace(made.TRAINING, schedule=Part("linear"), training_steps=1, batch_size=1)


def cell(sampler, steps):
    return replace(
        made.CELL,
        training=TRAINING,
        sample_schedule=TRAINING.schedule,
        sampler=Part(sampler),
        steps=steps,
        images=150,  # two batches
        sampling_seed=5,
    )


@pytest.fixture(scope="module")
def trained():
    weights = build(TRAINING, 1, 8, CPU).state_dict()
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: value + 0.1 * torch.randn(value.shape, generator=generator)
        for name, value in weights.items()
    }
    return with_weights(TRAINING, weights, DATASETS["digits"](None), CPU)


@pytest.mark.parametrize(
    ("sampler", "steps", "made"), [("ddim", 1, 1), ("ddim", 9, 9), ("ddpm", 3, 3), ("heun", 3, 5)]
)
def test_the_film_of_a_cell_goes_from_its_noise_to_its_images(trained, sampler, steps, made):
    samples = sample(cell(sampler, steps), trained, lambda progress: None)
    picture = samples.film.png(samples.images)
    numbered = evaluations_in(picture)
    assert (numbered[0], numbered[-1]) == (1, made)
    tiles = tiles_of(picture, side=8)
    noise = Scale().to_bytes(starting_noise(5, range(2), (1, 8, 8)))[:, 0]
    assert (tiles[[0, 2], 0] == noise).all()
    assert (tiles[[0, 2], -1] == samples.images[:2, 0]).all()
    # The last step of each of these gives the last estimate as the image.
    assert (tiles[[1, 3], -2] == tiles[[1, 3], -1]).all()
    assert (tiles[[0, 2]] != tiles[[1, 3]])[:, 0].any()


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_looking_does_not_change_the_images(trained, monkeypatch, sampler):
    looked_at = sample(cell(sampler, 4), trained, lambda progress: None).images
    monkeypatch.setattr(Film, "look", lambda film, x, estimate: None)
    assert (sample(cell(sampler, 4), trained, lambda progress: None).images == looked_at).all()


def test_one_repeat_is_timed_where_no_more_is_wanted(trained):
    timed = sample(cell("ddim", 1), trained, lambda progress: None, images=10)
    assert len(timed.seconds_per_image) == 1


# The nearest training images.

TRAIN, HELD_OUT = plain([10, 20, 30, 40]), plain([50, 60])
REAL = ImageSet("made by hand", TRAIN, HELD_OUT)
PLACES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 20.0], [30.0, 30.0]])  # of the training images


def brightness_of(picture):
    return tiles_of(picture)[..., 0, 0].tolist()


def test_the_nearest_come_first_and_each_stands_above_its_training_image():
    features = np.array([[10.0, 5.0], [1.0, 0.0], [0.0, 18.0], [30.0, 33.0]])  # 5, 1, 2, 3 away
    above, below = brightness_of(nearest_pairs(plain([1, 2, 3, 4]), features, REAL, PLACES))
    assert above == [2, 3, 4, 1]
    assert below == [10, 30, 40, 20]


def test_one_training_image_may_be_the_nearest_of_several():
    features = np.array([[30.0, 31.0], [30.0, 30.0], [29.0, 27.0]])
    above, below = brightness_of(nearest_pairs(plain([1, 2, 3]), features, REAL, PLACES))
    assert above == [2, 1, 3]
    assert below == [40] * 3


def test_of_more_than_eight_images_the_nearest_eight_are_shown():
    distances = [11, 3, 9, 1, 7, 5, 2, 12, 4, 8]
    features = np.array([[-float(distance), 0.0] for distance in distances])
    above, below = brightness_of(nearest_pairs(plain(distances), features, REAL, PLACES))
    assert above == sorted(distances)[:8]
    assert below == [10] * 8


def test_where_held_out_images_are_compared_with_too_only_training_images_are_shown():
    everyone = np.concatenate([PLACES, [[1.0, 0.0], [30.0, 31.0]]])
    features = np.array([[1.0, 0.0], [30.0, 31.0]])  # on top of the two held-out images
    above, below = brightness_of(nearest_pairs(plain([1, 2]), features, REAL, everyone))
    assert (above, below) == ([1, 2], [10, 40])


def test_images_that_are_as_near_keep_their_order():
    features = np.array([[5.0, 0.0]] * 3)
    above, _ = brightness_of(nearest_pairs(plain([3, 1, 2]), features, REAL, PLACES))
    assert above == [3, 1, 2]


# A sheet and its file.


def test_a_sheet_of_colour_images_keeps_their_colours():
    images = np.arange(3 * 3, dtype=np.uint8).reshape(3, 3, 1, 1)  # three pixels: 012, 345, 678
    pixels = np.asarray(sheet(images, columns=2))
    assert pixels.tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [0, 0, 0]]]


def test_texts_of_a_picture_are_read_back():
    picture = Image.open(io.BytesIO(png(sheet(plain([1])), evaluations="1 2", other="words")))
    assert picture.format == "PNG"
    assert picture.text == {"evaluations": "1 2", "other": "words"}
