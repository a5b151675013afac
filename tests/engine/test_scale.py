"""The units in which networks see images, against numpy, Bayes and Tweedie's formula."""

import json
from dataclasses import replace

import made
import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from harness.data.datasets import DATASETS
from harness.data.images import Distribution, ImageSet
from harness.diffusion.analytic import finite_denoiser
from harness.diffusion.objective import CLIPS
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import Cosine
from harness.engine.exact import ExactDenoiser
from harness.engine.network import load_trained
from harness.engine.pictures import Film
from harness.engine.pixel_spread import predicted_spread
from harness.engine.sample import path_of, sample
from harness.engine.scale import Scale
from harness.engine.steps import Setting, step_of
from harness.engine.train import TrainJob, train
from harness.errors import DataError
from harness.store import WEIGHTS, Store
from harness.work.cells import Part
from harness.work.options import Workplace

CPU = torch.device("cpu")
SCALES = ["range", "unit", 0.3, 0.001, 1000.0]
EVERY = np.arange(256, dtype=np.uint8)[:, None, None, None] * np.ones((3, 2, 2), np.uint8)


def colours(count=300, size=2):
    """Images whose channels have means and spreads of their own, and pixels that go together: in
    the first channel nearly all, in the last hardly any."""
    random = np.random.default_rng(3)
    common = random.normal(0, 1, (count, 3, 1, 1))
    apart = np.array([0.1, 0.5, 2])[:, None, None]
    values = common + apart * random.normal(0, 1, (count, 3, size, size))
    middle, reach = (np.array(each)[:, None, None] for each in ([90, 128, 160], [50, 20, 5]))
    images = values * reach + middle
    images = images.round().clip(0, 255).astype(np.uint8)
    return ImageSet("colours", images, images[:2])


@pytest.mark.parametrize("said", SCALES)
def test_bytes_and_signal_are_each_others_inverse(said):
    scale = Scale.of(said, colours())
    assert (scale.to_bytes(scale.to_signal(torch.from_numpy(EVERY))) == EVERY).all()
    low, high = scale.bounds(CPU)
    beyond = torch.stack([low - 3 * (high - low), low, high, 2 * high - low])
    assert [*scale.to_bytes(beyond.expand(4, 3, 1, 1))[:, 1].flat] == [0, 0, 255, 255]


def test_the_range_is_bit_for_bit_what_it_was():
    every = torch.from_numpy(EVERY)
    assert torch.equal(Scale.of("range", colours()).to_signal(every), every.float() / 127.5 - 1)
    assert torch.equal(Scale.of(0.5, colours()).to_signal(every), (every / 127.5 - 1) / 2)


def test_unit_is_the_normalization_layer_of_keras():
    """It is adapted to the training images scaled to 0..1 and works on the channels."""
    images = colours()
    whole = images.train / 255.0
    mean, variance = whole.mean((0, 2, 3)), whole.var((0, 2, 3))
    expected = (EVERY / 255.0 - mean[:, None, None]) / np.sqrt(variance)[:, None, None]
    signal = Scale.of("unit", images).to_signal(torch.from_numpy(EVERY))
    assert signal.numpy() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_a_channel_that_does_not_vary_has_no_unit():
    images = colours().train.copy()
    images[:, 2] = 77
    with pytest.raises(DataError, match=r"channel 3 of 3 .* Use scale: range"):
        Scale.of("unit", ImageSet("flat", images, images[:2]))
    assert Scale.of("range", ImageSet("flat", images, images[:2])) == Scale()


def test_once_scaled_by_b_the_log_snr_is_2_log_b_more():
    """Chen 2023: b x_0 under a schedule is x_0 under another, x_t brought to its variance."""

    class Lower(Cosine):
        def log_snr(self, t):
            return super().log_snr(t) + 2 * np.log(0.3)

    images, t = colours(), torch.tensor(0.4, dtype=torch.float64)
    exact = ExactDenoiser(replace(made.TRAINING, model=Part("exact"), scale=0.3), images, CPU)
    schedule, lower = Cosine(), Lower()
    x = torch.randn(20, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    found = exact.denoiser(schedule)(x, t)
    points = torch.from_numpy(images.train).float() / 127.5 - 1
    expected = finite_denoiser(lower, points)(x * float(lower.sigma(t) / schedule.sigma(t)), t)
    torch.testing.assert_close(found, 0.3 * expected, rtol=1e-4, atol=1e-4)


def test_the_exact_denoiser_of_a_known_distribution_is_exact_in_unit_scale_too():
    """Tweedie: E[x_0 | x_t] = (x_t + sigma^2 d log p(x_t) / dx_t) / alpha."""
    random = np.random.default_rng(5)
    means, variances = random.uniform(-0.6, 0.6, (3, 3, 2, 2)), np.array([0.02, 0.05, 0.1])
    known = Distribution(means, variances, np.array([0.5, 0.3, 0.2]))
    images = replace(colours(), distribution=known)
    training = replace(made.TRAINING, model=Part("exact"), scale="unit")
    schedule, t = Cosine(), torch.tensor(0.4, dtype=torch.float64)
    pixels = images.train / 127.5 - 1
    deviation = pixels.std((0, 2, 3))[:, None, None]
    centres = (means - pixels.mean((0, 2, 3))[:, None, None]) / deviation
    spread = np.sqrt(variances)[:, None, None, None] / deviation
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    noisy = Normal(
        torch.from_numpy(alpha * centres), torch.from_numpy(np.hypot(alpha * spread, sigma))
    )
    p = MixtureSameFamily(Categorical(torch.from_numpy(known.weights)), Independent(noisy, 3))
    x = torch.from_numpy(random.normal(0, 1, (20, 3, 2, 2))).requires_grad_()
    [slope] = torch.autograd.grad(p.log_prob(x).sum(), x)
    found = ExactDenoiser(training, images, CPU).denoiser(schedule)(x.detach().float(), t)
    expected = ((x + sigma**2 * slope) / alpha).detach().float()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("said", ["unit", 3.0])
def test_samples_and_films_of_a_finite_set_are_images_of_it(said):
    images = ImageSet("few", colours().train[:20], colours().train[:2])
    training = replace(made.TRAINING, model=Part("exact"), scale=said)
    cell = replace(made.CELL, training=training, sample_schedule=Part("linear"), steps=50, images=8)
    drawn = sample(cell, ExactDenoiser(training, images, CPU), lambda progress: None)
    points = {image.tobytes() for image in images.train}
    assert all(image.tobytes() in points for image in drawn.images)
    scale = Scale.of(said, images)
    film, shown = Film(1, scale), torch.from_numpy(images.train[:2])
    film.look(scale.to_signal(shown), scale.to_signal(shown.flip(0)))
    other = Film(1, Scale())
    other.look(Scale().to_signal(shown), Scale().to_signal(shown.flip(0)))
    assert film.png(images.train) == other.png(images.train)


def test_clipped_estimates_are_images():
    training = replace(made.TRAINING, model=Part("exact"), scale="unit")
    exact = ExactDenoiser(training, colours(), CPU)
    denoise = exact.denoiser(Cosine(), clip=CLIPS["static"])
    denoise.estimate = lambda x, t: x
    x = 100 * torch.randn(50, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    values = {*exact.scale.to_bytes(denoise(x, torch.tensor(0.5))).flat}
    assert {0, 255} <= values
    low, high = exact.scale.bounds(CPU)
    assert torch.equal(denoise(x, torch.tensor(0.5)), torch.maximum(torch.minimum(x, high), low))


@pytest.mark.parametrize("size", [2, 12])
@pytest.mark.parametrize("steps", [3, 20])
def test_the_predicted_spread_is_that_of_a_gaussian_in_the_scale_of_the_network(size, steps):
    """More pixels than images, and fewer. By matrices: the best denoiser of N(0, S) multiplies by
    alpha S (alpha^2 S + sigma^2)^-1, and DDIM of a unit matrix is the map from noise to images."""
    images = colours(300, size)
    training = replace(made.TRAINING, scale="unit")
    cell = replace(made.CELL, training=training, sample_schedule=Part("cosine"), steps=steps)
    pixels = images.train / 127.5 - 1
    deviation = np.repeat(pixels.std((0, 2, 3)), size**2)
    covariance = np.cov(pixels.reshape(300, -1).T, bias=True)
    scaled = torch.from_numpy(covariance / np.outer(deviation, deviation))
    unit = torch.eye(len(scaled)).double()

    def denoise(x, t):
        alpha, sigma = (float(rate(t.double())) for rate in (schedule.alpha, schedule.sigma))
        return x @ torch.linalg.solve(alpha**2 * scaled + sigma**2 * unit, alpha * scaled)

    schedule, times = path_of(cell)
    made_of = SAMPLERS["ddim"](denoise, schedule, unit, times.double(), lambda: None)
    variance = (made_of.square().sum(0).numpy() * deviation**2).sum()
    expected = np.sqrt(variance / np.trace(covariance))
    assert predicted_spread(cell, images) == pytest.approx(expected, rel=2e-3)
    plain = predicted_spread(replace(cell, training=made.TRAINING), images)
    assert abs(plain - expected) > 0.02


def test_a_network_is_trained_on_data_of_unit_variance(tmp_path):
    """Then x_t has mean square 1 at every time, whatever the schedule."""
    training = replace(made.TRAINING, scale="unit", batch_size=1000)
    setting = Setting.of(training, Workplace(tmp_path, tmp_path, "cpu"))
    state = setting.first_state(threads=1)
    seen = []

    def network(x, log_snr):
        seen.append(x)
        return 0 * x + 0 * sum(each.sum() for each in state.network.parameters())

    step_of(setting, network)(state)
    assert float(seen[0].square().mean()) == pytest.approx(1, abs=0.01)


def test_the_weights_of_a_training_say_how_to_invert_its_scale(tmp_path):
    training = replace(made.TRAINING, scale="unit", training_steps=2)
    train(
        TrainJob(training, threads=1), Workplace(tmp_path, tmp_path, "cpu"), lambda progress: None
    )
    store, images = Store(tmp_path), DATASETS["digits"](None)
    with safe_open(store.model(training.key, WEIGHTS), framework="pt") as file:
        kept = json.loads(file.metadata()["scale"])
    pixels = images.train / 127.5 - 1
    assert kept["shift"] == pytest.approx([pixels.mean()])
    assert kept["factor"] == pytest.approx([1 / pixels.std()])
    trained = load_trained(training, store, images, CPU)
    assert trained.scale == Scale(*(tuple(kept[name]) for name in ("shift", "factor")))
