"""Degraded images: alike in shape and kind, the same each time, and worse by as much as is said."""

import numpy as np
import pytest

from harness.data.degraded import DEGRADATIONS, NOISE, half_resolution, noisy, pure_noise


@pytest.mark.parametrize("degradation", DEGRADATIONS.values())
@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (2, 3, 7, 7), (1, 5, 1, 1)])
def test_a_degraded_image_is_an_image_of_the_same_kind(degradation, shape):
    images = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    before = images.copy()
    degraded = degradation.do(images)
    assert degraded.shape == shape
    assert degraded.dtype == np.uint8
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(degradation.do(images), degraded)


def test_half_the_resolution_keeps_what_is_broad_and_loses_what_is_fine():
    broad = np.zeros((1, 1, 16, 16), np.uint8)
    broad[..., 8:] = 200
    fine = np.zeros((1, 1, 16, 16), np.uint8)
    fine[..., ::2] = 200
    assert half_resolution(broad)[0, 0, 8, 2] == 0
    assert half_resolution(broad)[0, 0, 8, 13] == 200
    assert np.ptp(half_resolution(fine)) == 0  # stripes of one pixel are grey
    assert half_resolution(fine).mean() == 100


def test_the_noise_is_as_large_as_said_and_stays_in_range():
    grey = np.full((50, 1, 16, 16), 128, np.uint8)
    error = noisy(grey).astype(float) - 128
    assert error.std() == pytest.approx(NOISE, rel=0.05)
    assert abs(error.mean()) < 0.5
    assert noisy(np.full((2, 1, 8, 8), 255, np.uint8)).max() == 255


def test_pure_noise_is_that_of_unit_variance_as_a_sampler_would_leave_it():
    noise = pure_noise(np.zeros((50, 1, 16, 16), np.uint8))
    signal = noise / 127.5 - 1
    assert abs(signal.mean()) < 0.02
    for end in (0, 255):  # what lies beyond the range of pixels
        assert (noise == end).mean() == pytest.approx(0.16, abs=0.01)
    inside = signal[(noise > 0) & (noise < 255)]
    assert inside.std() == pytest.approx(0.54, abs=0.01)  # of a normal cut off at 1
    np.testing.assert_array_equal(noise, pure_noise(np.full((50, 1, 16, 16), 9, np.uint8)))
