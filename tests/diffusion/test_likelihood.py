"""The likelihood bound against entropies and divergences in closed form, and against simulation."""

import math

import pytest
import torch

from harness.diffusion.likelihood import (
    diffusion_nats,
    gaussian_error,
    prior_nats,
    reconstruction_nats,
)

LEVELS = torch.linspace(-12, 12, 20, dtype=torch.float64)
VARIANCES = torch.tensor([0.02, 0.3, 1.7], dtype=torch.float64)


@pytest.mark.parametrize("log_snr", [-3.0, 0.5, 4.0])
def test_the_error_of_the_best_linear_denoiser_is_that_of_a_simulation(log_snr):
    draw = torch.Generator().manual_seed(0)
    x_0 = torch.randn(200_000, 3, generator=draw, dtype=torch.float64) * VARIANCES.sqrt()
    eps = torch.randn(x_0.shape, generator=draw, dtype=torch.float64)
    alpha, sigma = (torch.sigmoid(torch.tensor(sign * log_snr)).sqrt() for sign in (1, -1))
    x = alpha * x_0 + sigma * eps
    # E[eps | x] of jointly normal eps and x: cov(eps, x) / var(x) times x.
    best = sigma / (alpha**2 * VARIANCES + sigma**2) * x
    [found] = gaussian_error(torch.tensor([log_snr], dtype=torch.float64), VARIANCES)
    assert float((best - eps).square().mean()) == pytest.approx(float(found), rel=0.01)


def test_the_bound_of_the_best_denoiser_is_the_entropy_of_gaussian_data():
    entropy = (2 * math.pi * math.e * VARIANCES).log().mean() / 2
    errors = gaussian_error(LEVELS, VARIANCES)
    # The reconstruction of data with a density: the entropy of the noise that is left in it.
    left = (math.log(2 * math.pi * math.e) - float(LEVELS[-1])) / 2
    found = prior_nats(-12, float(VARIANCES.mean())) + diffusion_nats(LEVELS, errors) + left
    assert float(found) == pytest.approx(float(entropy), abs=2e-3)


def test_the_integral_is_that_of_the_error_of_the_image_over_snr():
    # Kingma et al. 2021, eq. 13: a fine sum of (SNR(s) - SNR(t)) |x_0 - estimate|^2 / 2.
    fine = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    middle = (fine[1:] + fine[:-1]) / 2
    of_image = gaussian_error(middle, VARIANCES) / middle.exp()
    total = (fine.exp().diff() * of_image).sum() / 2
    found = diffusion_nats(LEVELS, gaussian_error(LEVELS, VARIANCES))
    assert float(found) == pytest.approx(float(total), rel=1e-3)


def test_the_prior_is_the_divergence_from_noise():
    x_0 = torch.tensor([-0.9, 0.1, 0.4], dtype=torch.float64)
    alpha, sigma = (torch.sigmoid(torch.tensor(sign * -1.5)).sqrt() for sign in (1, -1))
    noisy = torch.distributions.Normal(alpha * x_0, sigma.double())
    noise = torch.distributions.Normal(torch.zeros(3).double(), torch.ones(3).double())
    expected = torch.distributions.kl_divergence(noisy, noise).mean()
    assert prior_nats(-1.5, float(x_0.square().mean())) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("log_snr", [7.0, 9.0, 11.0])
def test_the_reconstruction_is_that_of_a_simulation(log_snr):
    shares = torch.zeros(256, dtype=torch.float64)
    shares[[0, 100, 255]] = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    draw = torch.Generator().manual_seed(0)
    truth = torch.multinomial(shares, 20_000, replacement=True, generator=draw)
    levels = torch.arange(256) / 127.5 - 1.0
    scale = math.exp(-log_snr / 2)
    seen = levels[truth] + scale * torch.randn(20_000, generator=draw)
    guesses = torch.log_softmax(-((seen[:, None] - levels) ** 2) / (2 * scale**2), dim=1)
    expected = -guesses[torch.arange(20_000), truth].mean()
    assert reconstruction_nats(log_snr, shares) == pytest.approx(float(expected), rel=0.02)


def test_nothing_is_left_to_reconstruct_where_noise_is_below_a_grey_level():
    assert reconstruction_nats(20, torch.full((256,), 1 / 256)) == pytest.approx(0, abs=1e-6)
