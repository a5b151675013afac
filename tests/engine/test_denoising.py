"""The denoising error by log SNR: of denoisers whose error is known, whatever their schedule."""

import math
from dataclasses import replace

import made
import numpy as np
import pytest
import torch
from torch import nn

from harness.data.images import Distribution, ImageSet
from harness.diffusion.likelihood import gaussian_error
from harness.engine.denoising import (
    HELD_OUT,
    LEVELS,
    chosen,
    denoising,
    errors,
    levels,
    network_evaluations,
    variances_along,
)
from harness.engine.exact import ExactDenoiser
from harness.engine.network import Trained
from harness.engine.scale import Scale
from harness.work.cells import Part

CPU = torch.device("cpu")
LOG_SNR = levels()[0]
VARIANCE = 0.04


def gaussian(spreads, held_out=400, **more):
    """Grey images of 4x4 whose pixels are independent, as 8 bits hold them."""
    draw = np.random.default_rng(0)
    signal = 0.1 + np.asarray(spreads) * draw.standard_normal((2000, 1, 4, 4))
    pixels = np.clip((signal + 1) * 127.5, 0, 255).round().astype(np.uint8)
    return ImageSet("gaussian", pixels[held_out:], pixels[:held_out], **more)


class Zero(nn.Module):
    def forward(self, x, log_snr):
        return torch.zeros_like(x)


def trained(target="noise", schedule="cosine", network=None):
    part = schedule if isinstance(schedule, Part) else Part(schedule)
    training = replace(made.TRAINING, target=target, schedule=part)
    return Trained(training, network or Zero(), "float32", (1, 4, 4), CPU, Scale())


def test_the_exact_denoiser_of_gaussian_data_makes_the_error_in_closed_form():
    known = Distribution(np.full((1, 1, 4, 4), 0.1), np.array([VARIANCE]), np.ones(1))
    images = gaussian(VARIANCE**0.5, distribution=known)
    found = errors(ExactDenoiser(made.TRAINING, images, CPU), chosen(images.held_out), HELD_OUT)
    expected = gaussian_error(LOG_SNR, torch.tensor([VARIANCE]).double()).numpy()
    assert found.mean(1)[:-3] == pytest.approx(expected[:-3], rel=0.06)  # then 8 bits show
    of_a_network = denoising(trained(), images)
    assert [one.exact for one in of_a_network.levels] == pytest.approx(found.mean(1))


@pytest.mark.parametrize(
    ("target", "of_zero"),
    [
        ("noise", lambda abar, square: 1.0),
        ("image", lambda abar, square: abar / (1 - abar) * square),
        ("velocity", lambda abar, square: abar * (abar + (1 - abar) * square)),
    ],
)
def test_a_network_that_says_zero_has_the_error_of_its_target_in_eps(target, of_zero):
    images = gaussian(0.2)
    square = np.square(chosen(images.held_out).which / 127.5 - 1).mean()
    for one in denoising(trained(target), images).levels:
        abar = 1 / (1 + math.exp(-one.log_snr))
        assert one.held_out.value == pytest.approx(of_zero(abar, square), rel=0.1)


def test_levels_images_and_noise_do_not_depend_on_the_schedule_and_what_is_outside_is_marked():
    images = gaussian(0.2)
    linear, cosine = (denoising(trained(schedule=name), images) for name in ("linear", "cosine"))
    assert [one.held_out for one in linear.levels] == [one.held_out for one in cosine.levels]
    inside = [one.log_snr for one in cosine.levels if not one.is_outside]
    low, high = (-2 * math.log(math.tan(math.acos(signal))) for signal in (0.02, 0.95))
    assert inside == [level for level in LOG_SNR.tolist() if low <= level <= high]


def linear(images):
    return gaussian_error(LOG_SNR, variances_along(images, Scale()))


def test_the_best_linear_denoiser_is_found_with_fewer_images_than_pixels_too():
    spreads = np.linspace(0.02, 0.3, 16).reshape(4, 4)
    expected = gaussian_error(LOG_SNR, torch.from_numpy(spreads).double().square().flatten())
    many = gaussian(spreads)
    assert linear(many).tolist() == pytest.approx(expected.tolist(), rel=0.08)
    few = ImageSet("few", many.train[:8], many.held_out)
    # It knows fewer directions: worse than the best, and better than one variance for all.
    one_for_all = gaussian_error(LOG_SNR, torch.tensor([np.square(spreads).mean()]))
    at = 12
    assert expected[at] < linear(few)[at] < 1.05 * one_for_all[at]
    # What lies beside the directions that are known is spread over the others, none of it lost.
    apart = few.held_out / 127.5 - few.train.mean(0) / 127.5
    assert float(variances_along(few, Scale()).sum()) == pytest.approx(
        np.square(apart).mean(0).sum()
    )


def test_few_held_out_images_have_several_noises_each():
    found = denoising(trained(), gaussian(0.2, held_out=5))
    assert (found.images, found.noises) == (5, 26)
    of = chosen(gaussian(0.2, held_out=5).held_out)
    by_image = errors(trained("image"), of, HELD_OUT)  # which says 0: SNR x_0^2
    expected = np.square(of.which / 127.5 - 1).mean((1, 2, 3))
    assert by_image / np.exp(LOG_SNR.numpy())[:, None] == pytest.approx(
        np.broadcast_to(expected, by_image.shape), rel=1e-5
    )


def test_telling_grey_levels_apart_is_easier_at_the_ends_of_the_scale():
    grey = np.full((40, 1, 4, 4), 128, np.uint8)
    ends = np.where(np.arange(16).reshape(4, 4) % 2, 255, 0).astype(np.uint8) + 0 * grey
    of_ends, of_grey = (
        denoising(trained(), ImageSet("two", part, part)).bits.value for part in (ends, grey)
    )
    assert of_ends < of_grey - 0.5  # half of the noise cannot be mistaken for another level


def test_what_the_last_tenth_of_a_training_changed_is_paired_image_by_image():
    class Half(nn.Module):
        def forward(self, x, log_snr):
            return x / 2

    images = gaussian(0.2)
    nothing = denoising(trained(), images).levels[0]
    half = denoising(trained(network=Half()), images, before=trained()).levels[0]
    change = half.held_out.value - nothing.held_out.value
    assert half.last_tenth.value == pytest.approx(change)
    # Nearly pure noise: what is left is a quarter, and so is what three quarters vary by.
    assert half.last_tenth.standard_error == pytest.approx(
        0.75 * nothing.held_out.standard_error, rel=0.1
    )
    assert nothing.last_tenth is None


def test_bits_are_the_entropy_of_the_data_for_the_best_network_and_more_for_another():
    class Best(nn.Module):
        def forward(self, x, log_snr):
            alpha, sigma = (torch.sigmoid(s * log_snr).sqrt()[:, None, None, None] for s in (1, -1))
            return sigma * (x - alpha * 0.1) / (alpha**2 * VARIANCE + sigma**2)

    images, of_noise = gaussian(VARIANCE**0.5), math.log2(math.sqrt(2 * math.pi * math.e) * 127.5)
    best = denoising(trained(schedule="linear", network=Best()), images)
    entropy = of_noise + math.log2(VARIANCE**0.5)
    assert best.bits.value == pytest.approx(entropy, abs=3 * best.bits.standard_error)
    assert best.train_bits.value == pytest.approx(entropy, abs=3 * best.train_bits.standard_error)
    assert best.bits.standard_error < 0.08
    # Where nothing is predicted, images are noise from the lower end of the integral on.
    nothing = denoising(trained(schedule="linear"), images).bits
    low = next(one.log_snr for one in best.levels if not one.is_outside)
    expected = of_noise - low / 2 / math.log(2)
    assert nothing.value == pytest.approx(expected, abs=4 * nothing.standard_error)
    narrow = Part.of("cosine", {"max_signal": 0.5, "min_signal": 0.4})
    alone = replace(made.TRAINING, schedule=narrow)
    assert (
        denoising(Trained(alone, Zero(), "float32", (1, 4, 4), CPU, Scale()), images).bits is None
    )


@pytest.mark.parametrize("said", ["unit", 3.0])
def test_the_same_network_in_other_units_has_the_same_error_at_the_same_pixels(said):
    images = gaussian(VARIANCE**0.5)

    class Best(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.shift, self.factor = scale.shift[0], scale.factor[0]

        def forward(self, x, log_snr):
            alpha, sigma = (torch.sigmoid(s * log_snr).sqrt()[:, None, None, None] for s in (1, -1))
            mean, variance = self.factor * (0.1 - self.shift), self.factor**2 * VARIANCE
            return sigma * (x - alpha * mean) / (alpha**2 * variance + sigma**2)

    def measured(said):
        scale, of = Scale.of(said, images), replace(made.TRAINING, scale=said)
        of = replace(of, schedule=Part("sigmoid"))  # trained at any level
        return denoising(Trained(of, Best(scale), "float32", (1, 4, 4), CPU, scale), images)

    plain, scaled = measured("range"), measured(said)
    assert scaled.offset == pytest.approx(2 * math.log(Scale.of(said, images).factor[0]))
    assert scaled.bits.value == pytest.approx(plain.bits.value, abs=1e-2)
    for one, other in zip(plain.levels, scaled.levels, strict=True):
        assert one.log_snr == pytest.approx(other.log_snr + scaled.offset)
        assert other.held_out.value == pytest.approx(one.held_out.value, rel=1e-3)
        assert other.linear == pytest.approx(one.linear, rel=1e-4)
        assert other.exact == pytest.approx(one.exact, rel=1e-2, abs=1e-6)


def test_the_forecast_counts_the_evaluations_that_are_made():
    made, watched, images = [], [], gaussian(0.2)

    class Counted(Zero):
        def forward(self, x, log_snr):
            made.append(len(x))
            return super().forward(x, log_snr)

    one = trained(network=Counted())
    denoising(one, images, before=one, watch=lambda: watched.append(None))
    assert sum(made) == network_evaluations(images.train[0].size)
    assert len(watched) >= 3 * LEVELS
