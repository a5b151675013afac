"""Data whose distribution is known: the images are drawn from it, and it stands beside them."""

from pathlib import Path

import numpy as np
import pytest

from harness.data.datasets import DATASETS
from harness.errors import BadOption

NOWHERE = Path("nowhere")


def signal(images):
    return images.reshape(len(images), -1) / 127.5 - 1


def test_gaussian_images_have_the_mean_and_spread_they_are_given():
    data = DATASETS["gaussian"](NOWHERE, mean=0.2, std=0.1, images=5000)
    values = signal(data.train)
    assert values.mean() == pytest.approx(0.2, abs=3 * 0.1 / 5000**0.5)
    # Rounding to 256 levels adds a variance of a twelfth of a level squared.
    spread = (0.1**2 + (1 / 127.5) ** 2 / 12) ** 0.5
    assert values.std() == pytest.approx(spread, rel=0.005)
    correlations = np.corrcoef(values.T) - np.eye(64)
    assert abs(correlations).max() < 0.08  # each pixel by itself: five standard errors
    assert (data.distribution.means == 0.2).all()
    assert data.distribution.variances.tolist() == pytest.approx([0.01])


def test_mixture_images_gather_around_its_means_in_its_proportions():
    data = DATASETS["mixture"](NOWHERE, components=4, std=0.05, images=3000)
    known, values = data.distribution, signal(data.train)
    distances = np.linalg.norm(values[:, None] - known.means.reshape(4, -1), axis=2)
    nearest = distances.argmin(1)
    shares = np.bincount(nearest, minlength=4) / len(values)
    assert known.weights == pytest.approx(np.array([12, 6, 4, 3]) / 25)
    assert shares == pytest.approx(known.weights, abs=0.03)
    assert distances.min(1).mean() == pytest.approx(0.05 * 64**0.5, rel=0.02)
    for k in range(4):
        assert values[nearest == k].mean(0) == pytest.approx(known.means[k].ravel(), abs=0.01)


def test_the_means_of_a_mixture_are_different_waves():
    means = DATASETS["mixture"](NOWHERE, components=63).distribution.means.reshape(63, -1)
    overlap = np.corrcoef(means) - np.eye(63)
    assert abs(overlap).max() < 1e-9
    assert abs(means.sum(1)).max() < 1e-9  # grey on average
    with pytest.raises(BadOption, match="at most 63 different waves, not 64 components"):
        DATASETS["mixture"](NOWHERE, components=64)


def test_a_finite_set_is_the_training_images_of_another():
    digits, points = DATASETS["digits"](NOWHERE), DATASETS["finite"](NOWHERE, images=100)
    assert np.array_equal(points.train, digits.train[:100])
    assert np.array_equal(points.held_out, digits.held_out)
    assert points.distribution is None
    assert np.array_equal(DATASETS["finite"](NOWHERE).train, digits.train)
    with pytest.raises(BadOption, match="must name another data set"):
        DATASETS["finite"](NOWHERE, of="finite")


def test_a_finite_set_of_a_set_that_needs_options_is_refused_and_not_a_traceback():
    for ask in (DATASETS["finite"], DATASETS["finite"].sources):
        with pytest.raises(BadOption, match=r"'folder' needs options.*Use digits"):
            ask(NOWHERE, of="folder")


@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_a_distribution_may_have_any_shape_of_image(name):
    data = DATASETS[name](NOWHERE, size=6, channels=3, images=10)
    assert data.train.shape == data.held_out.shape == (10, 3, 6, 6)
    assert data.distribution.means.shape[1:] == (3, 6, 6)
