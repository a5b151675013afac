"""What samplers make of Gaussian data, against the recursion of the variance typed from the papers.

`a` and `s` are the rates of signal and noise, `g` = a lam / (a^2 lam + s^2) the best denoiser of
N(0, lam).
"""

from itertools import pairwise

import pytest
import torch

from harness.diffusion.analytic import gains
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES

LINEAR = SCHEDULES["linear"]()
TIMES = torch.tensor([1.0, 0.7, 0.4, 0.1, 0.0], dtype=torch.float64)
VARIANCES = torch.tensor([1.0, 0.04, 3.0], dtype=torch.float64)


def levels():
    return [(float(LINEAR.alpha(t)), float(LINEAR.sigma(t))) for t in TIMES]


def of(sampler, times=TIMES, variances=VARIANCES, **options):
    return gains(SAMPLERS[sampler], LINEAR, times, variances, **options)


def denoised(lam, a, s):
    return a * lam / (a**2 * lam + s**2)


def ddim_variance(lam):
    """Song et al. 2021, eq. 12 with no fresh noise, from N(0, 1)."""
    factor = 1.0
    for (a_t, s_t), (a_s, s_s) in pairwise(levels()):
        g = denoised(lam, a_t, s_t)
        factor *= a_s * g + s_s * (1 - a_t * g) / s_t
    return factor**2


def ddpm_variance(lam, last):
    """Ho et al. 2020, eq. 7, from N(0, 1); each step but the last adds fresh noise, and so does
    the last of `ddpm_large` where it is told to."""
    total = 1.0
    path = list(pairwise(levels()))
    for number, ((a_t, s_t), (a_s, s_s)) in enumerate(path, start=1):
        beta = 1 - (a_t / a_s) ** 2
        g = denoised(lam, a_t, s_t)
        kept = a_s * beta / s_t**2 * g + a_t / a_s * (s_s / s_t) ** 2
        fresh = beta if last is not None else beta * (s_s / s_t) ** 2
        total = kept**2 * total + (fresh if number < len(path) or last else 0)
    return total


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_without_fresh_noise_images_are_made_of_the_starting_noise_alone(sampler):
    found = of(sampler)
    assert found.shape == (3, 5)
    assert found[:, 0].square().tolist() == pytest.approx(
        [ddim_variance(lam) for lam in VARIANCES.tolist()], rel=1e-9
    )
    assert not found[:, 1:].any()


@pytest.mark.parametrize(
    ("sampler", "options", "last", "drawn"),
    [
        ("ddpm", {}, None, 3),
        ("ddim", {"eta": 1.0}, None, 3),
        ("ddpm_large", {}, False, 3),
        ("ddpm_large", {"last_noise": True}, True, 4),
    ],
)
def test_fresh_noises_add_their_variance(sampler, options, last, drawn):
    found = of(sampler, **options)
    if last:  # the noise of the step to 0 is that of its first rate, as the equation has it
        assert found[:, drawn].tolist() == pytest.approx([levels()[-2][1]] * 3, rel=1e-9)
    expected = [ddpm_variance(lam, last) for lam in VARIANCES.tolist()]
    assert found.square().sum(1).tolist() == pytest.approx(expected, rel=1e-9)
    assert (found[:, : drawn + 1] != 0).all()
    assert not found[:, drawn + 1 :].any()


@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_gains_are_what_samples_are_made_of(sampler):
    """With the noises drawn for once: x_0 = the sum of each noise times its gain."""
    noises = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = iter(noises[1:])

    def denoise(x, t):
        a, s = LINEAR.alpha(t), LINEAR.sigma(t)
        return a * VARIANCES / (a**2 * VARIANCES + s**2) * x

    image = SAMPLERS[sampler](denoise, LINEAR, noises[0], TIMES, lambda: next(drawn))
    found = of(sampler)
    assert found.shape[1] in (5, 9)  # of four steps that draw once or twice
    expected = (found * noises.T[:, : found.shape[1]]).sum(1)
    assert image.tolist() == pytest.approx(expected.tolist(), rel=1e-9)


def test_the_more_steps_of_ddpm_the_nearer_to_the_variance_of_the_data():
    errors = []
    for steps in (500, 1000):
        times = torch.arange(steps, -1, -1, dtype=torch.float64) / steps
        errors.append((of("ddpm", times).square().sum(1) / VARIANCES - 1).abs())
    assert (errors[1] < 0.05).all()
    assert (errors[1] / errors[0]).tolist() == pytest.approx([0.5] * 3, abs=0.05)  # first order
