"""The exact denoiser in a network's place: what its samples are is known in closed form."""

import math
from dataclasses import replace
from itertools import pairwise

import made
import numpy as np
import pytest
import torch

from harness.data.datasets import DATASETS
from harness.diffusion.samplers import SAMPLERS, evaluations
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.engine.exact import ExactDenoiser
from harness.engine.sample import sample, sampling_path
from harness.work.cells import Part

STD = 0.25
TRAINING = replace(
    made.TRAINING,
    data=Part("gaussian"),
    model=Part("exact"),
    schedule=Part("linear"),
    training_steps=0,
    batch_size=1,
    ema=0.0,
)
CELL = replace(
    made.CELL,
    training=TRAINING,
    sample_schedule=Part("linear"),
    images=1000,
    extractor=Part("pixels"),
)


def exact(name="gaussian", tmp_path=None, **options):
    images = DATASETS[name](tmp_path, **options)
    return ExactDenoiser(TRAINING, images, torch.device("cpu"))


def sampled(cell, model):
    return sample(cell, model, lambda progress: None)


@pytest.mark.parametrize("steps", [5, 20, 100])
@pytest.mark.parametrize("name", ["linear", "cosine_discrete", "cosine"])
def test_ddim_images_of_gaussian_data_have_the_spread_of_the_closed_form(name, steps):
    cell = replace(CELL, sample_schedule=Part(name), steps=steps)
    schedule = SCHEDULES[name]()
    times = SPACINGS["trailing"](schedule, steps)[:-1]
    signal, noise = STD * schedule.alpha(times), schedule.sigma(times)
    angles = [*torch.atan2(noise, signal).tolist(), 0.0]
    # It starts from N(0, 1), slightly wider than what x_T should be, and turns to the image.
    start = 1 / math.hypot(signal[0], noise[0])
    expected = STD * start * math.prod(math.cos(t - s) for t, s in pairwise(angles))
    values = sampled(cell, exact()).images / 127.5 - 1
    assert values.std() == pytest.approx(expected, rel=0.01)  # of 64,000 values


def test_every_image_of_a_finite_set_is_one_of_it():
    model = exact("finite", images=50)
    points = {image.tobytes() for image in model.images.train}
    images = sampled(replace(CELL, images=100, steps=50), model).images
    assert all(image.tobytes() in points for image in images)
    assert len({image.tobytes() for image in images}) > 20


def test_images_of_a_mixture_come_in_its_proportions():
    model = exact("mixture", std=0.1)
    images = sampled(replace(CELL, images=2000, steps=50), model).images
    values = images.reshape(len(images), -1) / 127.5 - 1
    distribution = model.images.distribution
    nearest = np.linalg.norm(values[:, None] - distribution.means.reshape(3, -1), axis=2).argmin(1)
    shares = np.bincount(nearest, minlength=3) / len(values)
    assert shares == pytest.approx(distribution.weights, abs=0.04)


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_evaluations_are_counted_and_told_as_the_sampler_declares(name):
    cell = replace(CELL, sampler=Part(name), images=4, steps=7)
    told = []
    samples = sample(cell, exact(), told.append, timings=2)
    assert samples.nfe == evaluations(name, 7)
    assert (told[-1].done, told[-1].total) == (samples.nfe, samples.nfe)


def test_a_network_sampled_under_another_schedule_is_told_where_it_was_not_trained():
    network = replace(TRAINING, model=Part("tiny"))
    matched = replace(CELL, training=network)
    assert sampling_path(matched).clamped == 0
    # The lab's cosine spans log SNR from -7.8 to 2.2; linear from -10.1 to 9.2.
    mismatched = replace(matched, training=replace(network, schedule=Part("cosine")))
    linear = SCHEDULES["linear"]()
    log_snr = linear.log_snr(SPACINGS["trailing"](linear, 10)[:-1])
    beyond = ((log_snr < -7.8237) | (log_snr > 2.2254)).sum().item()
    assert sampling_path(mismatched).clamped == beyond > 0
    untrained = replace(mismatched, training=TRAINING)
    assert sampling_path(untrained).clamped == 0  # nothing was trained at all
