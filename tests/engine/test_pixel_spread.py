"""The pixel spread of images, and what is predicted of it, against numpy and DDIM's closed form."""

import itertools
import math
from dataclasses import replace

import made
import numpy as np
import pytest
import torch

from harness.data.images import PIXEL_CHUNK, ImageSet
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.engine.pixel_spread import (
    pixel_spread,
    predicted_spread,
    real_variance,
    spectrum,
    variance,
)
from harness.engine.scale import Scale
from harness.work.cells import Part

RANGE = Scale()

# DDIM on N(0, 1), by hand: how much of the target's standard deviation its images have.
KNOWN = [
    ("linear", "trailing", 10, 0.829),
    ("linear", "trailing", 20, 0.911),
    ("linear", "trailing", 50, 0.964),
    ("linear", "trailing", 100, 0.982),
    ("cosine_discrete", "trailing", 10, 0.883),
    ("cosine_discrete", "trailing", 20, 0.940),
    ("cosine_discrete", "trailing", 50, 0.976),
    ("cosine_discrete", "trailing", 100, 0.988),
    ("cosine", "uniform", 5, 0.747),
    ("cosine", "uniform", 10, 0.844),
    ("cosine", "uniform", 20, 0.896),
    ("cosine", "uniform", 100, 0.939),
]


def cell(schedule="linear", sampler="ddim", spacing="trailing", steps=10, **options):
    training = replace(
        made.TRAINING, model=Part("tiny"), schedule=Part(schedule), training_steps=1, batch_size=1
    )
    return replace(
        made.CELL,
        training=training,
        sample_schedule=Part(schedule),
        sampler=Part.of(sampler, options),
        spacing=Part(spacing),
        steps=steps,
        images=10,
    )


def image_set(images, flip=False):
    return ImageSet("made by hand", images, images[:1], flip=flip)


def plain(values):
    """Images of one brightness each."""
    return np.array(values, np.uint8).repeat(16).reshape(-1, 1, 4, 4)


def draws(count, channels=2, size=4, seed=0, noise=0):
    """Images of a distribution whose pixels have means and spreads of their own: `seed` makes the
    distribution and
    `noise` the images."""
    random = np.random.default_rng(seed)
    middle = random.uniform(60, 200, (channels, size, size))
    reach = random.uniform(1, 50, (channels, size, size))
    random = np.random.default_rng([seed, noise])
    images = random.normal(middle, reach, (count, channels, size, size))
    return np.clip(images, 0, 255).astype(np.uint8)


def in_every_combination(*pairs):
    """Each pixel of an image takes its two values in every combination with the others', so that
    pixels are uncorrelated exactly, each with the variance of its pair."""
    side = math.isqrt(len(pairs))
    return np.array(list(itertools.product(*pairs)), np.uint8).reshape(-1, 1, side, side)


BLACK_AND_WHITE = image_set(in_every_combination(*[(0, 255)] * 9))  # -1 and 1: variance 1 exactly


def spread_of(images, real):
    return pixel_spread(cell(), images, real)


def doubled(images):
    return np.concatenate([images, images[:, :, :, ::-1]])


# The variance.


@pytest.mark.parametrize("count", [1, 2, PIXEL_CHUNK, PIXEL_CHUNK + 1, 3 * PIXEL_CHUNK - 5])
def test_the_variance_is_that_of_each_pixel_over_images_meant_over_pixels(count):
    images = draws(count)
    expected = images.astype(np.float64).var(axis=0).mean()
    assert variance(images) == pytest.approx(expected, abs=1e-8)


def test_with_mirror_images_it_is_that_of_the_doubled_set():
    images = draws(300)
    expected = doubled(images).astype(np.float64).var(axis=0).mean()
    assert variance(images, flip=True) == pytest.approx(expected, rel=1e-12)
    assert real_variance(image_set(images, flip=True)) == pytest.approx(expected, rel=1e-12)
    assert expected > 1.1 * variance(images)  # so that the two can be told apart


# The spread.


def test_it_is_the_ratio_of_standard_deviations():
    real = plain([88, 168, 88, 168])
    found = spread_of(plain([108, 148, 108, 148]), image_set(real))
    assert found.value == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("count", [40, 3 * PIXEL_CHUNK - 5])
def test_it_is_one_for_the_training_images_themselves(count):
    images = draws(count)
    assert spread_of(images, image_set(images)).value == pytest.approx(1, rel=1e-12)
    mirrored = spread_of(doubled(images), image_set(images, flip=True))
    assert mirrored.value == pytest.approx(1, rel=1e-12)


def test_a_difference_that_all_images_share_is_no_spread():
    real, other = draws(40), (draws(50, seed=1) // 2 + 100).astype(np.uint8)
    expected = other.astype(float).var(axis=0).mean() / real.astype(float).var(axis=0).mean()
    assert spread_of(other, image_set(real)).value == pytest.approx(math.sqrt(expected), rel=1e-9)


def test_its_error_is_how_much_it_varies_from_draw_to_draw():
    real = image_set(draws(2000))
    found = [spread_of(draws(60, seed=0, noise=n), real) for n in range(1, 301)]
    # Of 300 draws, known to 4 %.
    measured = np.std([one.value for one in found], ddof=1)
    assert np.mean([one.standard_error for one in found]) == pytest.approx(
        measured, rel=0.15
    )  # of 300 draws, known to 4 %


def test_its_error_is_about_that_of_a_jackknife():
    images, real = draws(200, noise=7), image_set(draws(500))
    spread = real.train.astype(float).var(axis=0).mean()
    left_out = [
        math.sqrt(np.delete(images, n, axis=0).astype(float).var(axis=0).mean() / spread)
        for n in range(len(images))
    ]
    error = math.sqrt((len(images) - 1) * np.var(left_out))
    assert spread_of(images, real).standard_error == pytest.approx(error, rel=0.02)


def test_one_image_alone_has_no_error():
    found = spread_of(draws(1), image_set(draws(20)))
    assert found.value == pytest.approx(0, abs=1e-9)
    assert found.standard_error is None


@pytest.mark.parametrize("value", [0, 37, 100, 255])
@pytest.mark.parametrize("flip", [False, True])
def test_images_that_are_all_the_same_have_no_spread_to_compare_with(value, flip):
    same = image_set(np.full((7, 1, 4, 4), value, np.uint8), flip)
    assert spread_of(draws(5, channels=1), same) is None
    assert len(spectrum(same, RANGE)[0]) == 0
    assert predicted_spread(cell(), same) is None


def test_copies_of_a_detailed_image_have_no_spectrum_but_its_mirror_image_brings_one():
    copies = draws(1).repeat(7, axis=0)
    assert len(spectrum(image_set(copies), RANGE)[0]) == 0
    assert len(spectrum(image_set(copies, flip=True), RANGE)[0]) == 1


# The spectrum.


@pytest.mark.parametrize("count", [5, 20, 60], ids=lambda count: f"{count} images of 32 values")
@pytest.mark.parametrize("flip", [False, True])
def test_the_spectrum_is_that_of_the_covariance_of_the_pixels(count, flip):
    images = draws(count)
    whole = doubled(images) if flip else images
    signal = whole.reshape(len(whole), -1) / 127.5 - 1
    expected = np.linalg.eigvalsh(np.cov(signal.T, bias=True))[::-1]
    found = spectrum(image_set(images, flip), RANGE)[0]
    assert len(found) >= min(count - 1, 32)
    assert found == pytest.approx(expected[: len(found)], rel=1e-9)
    assert found.sum() == pytest.approx(expected.sum(), rel=1e-5)
    assert (np.diff(found) <= 0).all()


def test_directions_that_hardly_vary_are_left_out_of_the_spectrum():
    # The second pixel never moves, and the third has 1 / 255^2 of the variance of the first.
    images = in_every_combination((0, 255), (7, 7), (90, 91), (30, 230))
    expected = sorted([(half / 127.5) ** 2 for half in (127.5, 0.5, 100)], reverse=True)
    assert spectrum(image_set(images), RANGE)[0] == pytest.approx(expected, rel=1e-9)


def test_the_mean_of_the_spectrum_is_the_variance_of_a_pixel():
    images = draws(50)
    total = spectrum(image_set(images), RANGE)[0].sum() * 127.5**2
    assert total / images[0].size == pytest.approx(variance(images), rel=1e-5)


# What is predicted.


@pytest.mark.parametrize(("schedule", "spacing", "steps", "known"), KNOWN)
def test_the_spread_of_white_noise_is_predicted_as_known_by_hand(schedule, spacing, steps, known):
    predicted = predicted_spread(cell(schedule, spacing=spacing, steps=steps), BLACK_AND_WHITE)
    assert predicted == pytest.approx(known, abs=6e-4)


@pytest.mark.parametrize(("schedule", "spacing", "steps", "known"), KNOWN[::4])
def test_random_black_and_white_pixels_come_near_that(schedule, spacing, steps, known):
    random = np.random.default_rng(0).integers(0, 2, (1000, 1, 4, 4)) * 255
    real = image_set(random.astype(np.uint8))
    predicted = predicted_spread(cell(schedule, spacing=spacing, steps=steps), real)
    assert predicted == pytest.approx(known, abs=0.005)


def kept_by_ddim(lam, schedule, times):
    """The standard deviation of DDIM's images of N(0, lam) over sqrt(lam): one step times
    (alpha_s alpha_t lam + sigma_s sigma_t) / (alpha_t^2 lam + sigma_t^2), from N(0, 1)."""
    pairs = [(float(schedule.alpha(t)), float(schedule.sigma(t))) for t in times]
    pairs[-1] = (1.0, 0.0)  # the last step gives the estimate of the image itself
    std = 1.0
    for (a_t, s_t), (a_s, s_s) in itertools.pairwise(pairs):
        std *= (a_s * a_t * lam + s_s * s_t) / (a_t**2 * lam + s_t**2)
    return std / math.sqrt(lam)


def test_a_spectrum_loses_what_each_of_its_directions_loses():
    pairs = [(0, 255), (60, 200), (120, 136), (100, 104)]
    real = image_set(in_every_combination(*pairs))
    schedule = SCHEDULES["linear"]()
    times = torch.tensor([1, 0.75, 0.5, 0.25, 0], dtype=torch.float64)
    variances = [((high - low) / 255) ** 2 for low, high in pairs]
    total = sum(lam * kept_by_ddim(lam, schedule, times) ** 2 for lam in variances)
    expected = math.sqrt(total / sum(variances))
    predicted = predicted_spread(cell(steps=4), real)
    assert predicted == pytest.approx(expected, rel=2e-3)  # between its places it interpolates
    alone = [kept_by_ddim(lam, schedule, times) for lam in variances]
    assert max(alone) - min(alone) > 0.1  # else any of them would do


def test_fresh_noise_is_part_of_the_spread():
    """DDPM on N(0, 1), whose best estimate of x_0 is alpha x (Ho et al. 2020, eq. 7)."""
    schedule = SCHEDULES["linear"]()
    times = torch.tensor([1, 0.75, 0.5, 0.25, 0], dtype=torch.float64)
    rates = [(float(schedule.alpha(t)), float(schedule.sigma(t))) for t in times]
    total = 1.0
    for (a_t, s_t), (a_s, s_s) in itertools.pairwise(rates[:-1]):
        beta = 1 - (a_t / a_s) ** 2
        kept = a_s * beta / s_t**2 * a_t + a_t / a_s * (s_s / s_t) ** 2
        total = kept**2 * total + (s_s / s_t) ** 2 * beta
    expected = math.sqrt(rates[-2][0] ** 2 * total)
    predicted = predicted_spread(cell(sampler="ddpm", steps=4), BLACK_AND_WHITE)
    assert predicted == pytest.approx(expected, rel=1e-9)


def test_the_cells_own_sampler_and_its_options_count():
    deterministic = predicted_spread(cell(), BLACK_AND_WHITE)
    fresh = predicted_spread(cell(eta=1.0), BLACK_AND_WHITE)
    assert fresh == pytest.approx(predicted_spread(cell(sampler="ddpm"), BLACK_AND_WHITE))
    assert abs(fresh - deterministic) > 0.01


def test_nothing_is_predicted_of_a_sampler_of_another_package(monkeypatch):
    monkeypatch.setattr(SAMPLERS, "origin", lambda name: "another package")
    assert predicted_spread(cell(), BLACK_AND_WHITE) is None
