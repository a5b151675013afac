"""What the error of a denoiser over log SNR amounts to: a bound on the likelihood of the data.

With x = alpha x_0 + sigma eps, the error is the mean squared error of eps per pixel. Half of its
integral over log SNR is the diffusion part of the bound (Kingma et al. 2021, eq. 13 to 18); what
lies beyond either end of the integral is the prior and the reconstruction part. For the best
denoiser the three add up to the entropy of the data (Guo, Shamai & Verdu 2005).
"""

from __future__ import annotations

import math

from harness.lazy import torch

GREY_LEVELS = 256
REACH, NODES = 6.0, 97  # of the noise in the reconstruction, in standard deviations


def gaussian_error(log_snr: torch.Tensor, variances: torch.Tensor) -> torch.Tensor:
    """The error of the best denoiser of Gaussian data, the least that a linear one can make on any
    data: the mean over directions of SNR v / (1 + SNR v).

    log_snr: [L]; variances: [d] of the data along their principal directions. Returns [L].
    """
    gained = log_snr[:, None] + variances.log()
    return torch.sigmoid(gained).mean(1)


def diffusion_nats(log_snr: torch.Tensor, errors: torch.Tensor) -> torch.Tensor:
    """Half of the integral of errors [..., L] over rising log SNRs [L], in nats per pixel (Kingma
    et al. 2021, eq. 15), by the trapezoidal rule."""
    return torch.trapezoid(errors, log_snr) / 2


def prior_nats(log_snr: float, mean_square: float) -> float:
    """KL(q(x_t | x_0) || N(0, 1)) in nats per pixel, where the integral ends in noise; mean_square
    is that of a pixel of x_0."""
    signal, noise = (1 / (1 + math.exp(-sign * log_snr)) for sign in (1, -1))
    return (signal * (mean_square - 1) - math.log(noise)) / 2


def reconstruction_nats(log_snr: float, shares: torch.Tensor) -> float:
    """What telling the grey level of a pixel from x_t costs, where the integral ends in the image:
    -log p(x_0 | x_t) in nats per pixel, with p(x_0 | x_t) in proportion to q(x_t | x_0) (Kingma et
    al. 2021, eq. 11 and appendix).

    shares: [256] how often each grey level from -1 to 1 occurs.
    """
    values = torch.linspace(-1, 1, GREY_LEVELS, dtype=torch.float64)
    noise = torch.linspace(-REACH, REACH, NODES, dtype=torch.float64)
    weight = torch.softmax(-noise.square() / 2, dim=0)
    scale = math.exp(-log_snr / 2)  # of the noise in x_t / alpha
    apart = (values[:, None] - values) / scale  # of the true level from each
    costs = torch.stack(
        [
            torch.logsumexp((noise.square() - (row[:, None] + noise).square()) / 2, dim=0) @ weight
            for row in apart
        ]
    )
    return float(shares.double() @ costs)
