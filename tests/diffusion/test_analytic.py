"""Known denoisers against E[x_0 | x_t] worked out by brute force: integrals and plain sums."""

import math

import numpy as np
import pytest
import torch

from harness.diffusion.analytic import finite_denoiser, gaussian_denoiser, mixture_denoiser
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES, Laplace
from harness.diffusion.times import SPACINGS

LINEAR = SCHEDULES["linear"]()
TIMES = [0.005, 0.2, 0.5, 1.0]


def time(t):
    return torch.tensor(t, dtype=torch.float64)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def rates(t):
    return LINEAR.alpha(time(t)).item(), LINEAR.sigma(time(t)).item()


def posterior_mean(density, axes, x, t):
    """E[x_0 | x_t = x] as a sum over a grid of x_0."""
    alpha, sigma = rates(t)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    weight = density(grid) * np.exp(-((x - alpha * grid) ** 2).sum(-1) / (2 * sigma**2))
    total = weight.sum()
    return [(weight * grid[..., axis]).sum() / total for axis in range(len(axes))]


# One Gaussian.


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.7, 0.09), (-2.0, 3.0)])
def test_the_gaussian_denoiser_is_the_posterior_mean(mean, variance, t):
    spread = variance**0.5
    axis = np.linspace(mean - 10 * spread, mean + 10 * spread, 20_001)
    xs = [-1.4, 0.1, 0.9]
    denoise = gaussian_denoiser(LINEAR, mean, variance)
    estimates = denoise(time(xs), time(t)).tolist()
    for x, estimate in zip(xs, estimates, strict=True):
        [expected] = posterior_mean(
            lambda x_0: np.exp(-((x_0[..., 0] - mean) ** 2) / (2 * variance)), [axis], x, t
        )
        assert estimate == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("t", TIMES)
def test_the_gaussian_denoiser_takes_a_mean_and_variance_per_direction(t):
    x, mean, variance = normal(3, 1, 2, 2), normal(1, 2, 2, seed=1), normal(1, 2, 2, seed=2).exp()
    estimate = gaussian_denoiser(LINEAR, mean, variance)(x, time(t))
    for place in [(0, 0, 0, 0), (1, 0, 1, 0), (2, 0, 1, 1)]:
        alone = gaussian_denoiser(LINEAR, mean[place[1:]].item(), variance[place[1:]].item())
        assert estimate[place].item() == pytest.approx(alone(x[place], time(t)).item(), rel=1e-12)


# A mixture of Gaussians.

MEANS = np.array([(-1, 0.3), (0.8, 0.9), (0.2, -1.1)])
VARIANCES = np.array([0.25, 0.16, 0.36])
WEIGHTS = np.array([0.5, 0.3, 0.2])


def mixture_density(x_0):
    offset = ((x_0[..., None, :] - MEANS) ** 2).sum(-1)
    return (WEIGHTS / (2 * np.pi * VARIANCES) * np.exp(-offset / (2 * VARIANCES))).sum(-1)


@pytest.mark.parametrize("t", TIMES)
def test_the_mixture_denoiser_is_the_posterior_mean(t):
    denoise = mixture_denoiser(LINEAR, *map(torch.from_numpy, (MEANS, VARIANCES, WEIGHTS)))
    xs = np.array([(-1.2, 0.1), (0.3, 0.2), (0.5, -0.4), (2.0, 2.0)])
    axes = [np.linspace(-5, 5, 701)] * 2
    estimates = denoise(torch.from_numpy(xs), time(t)).numpy()
    for x, estimate in zip(xs, estimates, strict=True):
        expected = posterior_mean(mixture_density, axes, x, t)
        assert estimate == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("t", TIMES)
def test_a_mixture_of_one_is_a_gaussian(t):
    x, mean = normal(5, 1, 2, 3), normal(1, 2, 3, seed=1)
    one = mixture_denoiser(LINEAR, mean[None], time([0.3]), time([1.0]))
    torch.testing.assert_close(one(x, time(t)), gaussian_denoiser(LINEAR, mean, 0.3)(x, time(t)))


def test_the_narrow_part_of_a_mixture_counts_for_more_the_more_directions_there_are():
    # Both centred at 0; the share of a part with variance v is weight * V^(-d / 2) at x = 0, so
    # one step off the centre shows it. V = alpha^2 v + sigma^2.
    variances, t, d = (0.01, 1.0), 0.3, 4
    alpha, sigma = rates(t)
    spread = [alpha**2 * v + sigma**2 for v in variances]
    offset = 0.2
    share = [v ** (-d / 2) * math.exp(-d * offset**2 / (2 * v)) for v in spread]
    slope = [alpha * v / total for v, total in zip(variances, spread, strict=True)]
    expected = offset * sum(a * b for a, b in zip(share, slope, strict=True)) / sum(share)

    denoise = mixture_denoiser(
        LINEAR, torch.zeros(2, d).double(), time(variances), time([0.5, 0.5])
    )
    estimate = denoise(torch.full((1, d), offset, dtype=torch.float64), time(t))
    assert estimate.tolist() == [pytest.approx([expected] * d, rel=1e-12)]


# A finite set.


@pytest.mark.parametrize("t", TIMES)
def test_the_finite_denoiser_is_the_mean_of_the_images_by_their_likelihood(t):
    points, xs = normal(7, 3), normal(4, 3, seed=1)
    alpha, sigma = rates(t)
    estimates = finite_denoiser(LINEAR, points)(xs, time(t))
    for x, estimate in zip(xs.tolist(), estimates.tolist(), strict=True):
        distances = [math.dist(x, [alpha * value for value in p]) ** 2 for p in points.tolist()]
        nearest = min(distances)
        weights = [math.exp(-(d - nearest) / (2 * sigma**2)) for d in distances]
        for axis in range(3):
            pairs = zip(weights, points.tolist(), strict=True)
            expected = sum(weight * point[axis] for weight, point in pairs) / sum(weights)
            assert estimate[axis] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_every_sample_from_a_finite_set_lands_on_one_of_its_images(name, schedule):
    # laplace at t = .02, the last of `trailing`, still holds half as much noise as image.
    spacing = "log_snr" if isinstance(schedule, Laplace) else "trailing"
    images = normal(5, 1, 4, 4, seed=3).sign() * 0.8
    x = normal(200, 1, 4, 4)
    generator = torch.Generator().manual_seed(5)
    samples = SAMPLERS[name](
        finite_denoiser(schedule, images),
        schedule,
        x,
        SPACINGS[spacing](schedule, 50),
        lambda: torch.randn(x.shape, dtype=x.dtype, generator=generator),
    )
    distance, nearest = (samples[:, None] - images).abs().amax((2, 3, 4)).min(1)
    assert distance.max() < 1e-5  # where a path ends, another image may still have so much weight
    assert nearest.unique().tolist() == [0, 1, 2, 3, 4]


def test_the_finite_denoiser_tells_near_duplicates_apart_in_float32():
    originals = torch.rand(50, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = torch.cat([originals, originals + 0.01 * normal(50, 1, 16, 16, dtype=torch.float32)])
    alpha, sigma = rates(0.01)
    x = alpha * images + sigma * normal(100, 1, 16, 16, seed=2, dtype=torch.float32)
    estimate = finite_denoiser(LINEAR, images)(x, time(0.01))

    distance = (x[:, None].double() - alpha * images[None].double()).square().sum((2, 3, 4))
    share = torch.softmax(-distance / (2 * sigma**2), dim=1)
    expected = torch.einsum("nk,kchw->nchw", share, images.double())
    assert estimate.dtype == torch.float32
    torch.testing.assert_close(estimate.double(), expected, rtol=0, atol=1e-5)


# Any shape.


@pytest.mark.parametrize("shape", [(), (3,), (1, 2, 2), (2, 1, 3, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_denoisers_take_images_of_any_shape(shape, dtype):
    # `shape` is that of one image; () means numbers, so that x is one-dimensional.
    x, centres = normal(6, *shape, dtype=dtype), normal(4, *shape, seed=1, dtype=dtype)
    parts = torch.full((4,), 0.25, dtype=dtype)
    for denoise in (
        gaussian_denoiser(LINEAR, 0.2, 0.5),
        mixture_denoiser(LINEAR, centres, parts, parts),
        finite_denoiser(LINEAR, centres),
    ):
        estimate = denoise(x, time(0.4))
        assert estimate.shape == x.shape
        assert estimate.dtype == dtype


@pytest.mark.parametrize("shape", [(12,), (3, 2, 2)], ids=str)
def test_the_shape_of_an_image_does_not_change_its_estimate(shape):
    x, centres, parts = normal(6, 12), normal(4, 12, seed=1), time([0.1, 0.2, 0.3, 0.4])
    for denoiser in (
        lambda centres: mixture_denoiser(LINEAR, centres, parts, parts),
        lambda centres: finite_denoiser(LINEAR, centres),
    ):
        flat = denoiser(centres)(x, time(0.4))
        shaped = denoiser(centres.view(4, *shape))(x.view(6, *shape), time(0.4))
        assert torch.equal(shaped.flatten(1), flat)
