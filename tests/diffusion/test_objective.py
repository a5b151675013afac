"""Targets, weightings and losses against the papers' formulas typed here."""

import math

import pytest
import torch

from harness.diffusion.objective import LOSSES, TARGETS, WEIGHTINGS, training_losses
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.training_times import training_times
from harness.errors import BadOption

SHAPE = (6, 1, 3, 3)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def time(t):
    return torch.tensor(t, dtype=torch.float64)


# What a target is, in the words of the papers.


def edm_training_target(x_0, eps, alpha, sigma):
    """(y - c_skip (y + n)) / c_out with data of standard deviation 1, n = s eps of the noise level
    s = sigma / alpha (Karras et al. 2022, eq. 8 and table 1)."""
    s = sigma / alpha
    c_skip, c_out = 1 / (s**2 + 1), s * 1 / (1 + s**2) ** 0.5
    return (x_0 - c_skip * (x_0 + s * eps)) / c_out


PREDICTION = {
    "noise": lambda x_0, eps, alpha, sigma: eps,
    "image": lambda x_0, eps, alpha, sigma: x_0,
    "velocity": lambda x_0, eps, alpha, sigma: alpha * eps - sigma * x_0,
    "flow": lambda x_0, eps, alpha, sigma: eps - x_0,  # Lipman et al. 2023
    "edm": edm_training_target,
}


@pytest.mark.parametrize("name", PREDICTION)
def test_a_target_asks_for_what_the_papers_say(name):
    x_0, eps = normal(*SHAPE), normal(*SHAPE, seed=1)
    value = TARGETS[name].value(x_0, eps, 0.8, 0.6)
    torch.testing.assert_close(value, PREDICTION[name](x_0, eps, 0.8, 0.6))


@pytest.mark.parametrize("name", TARGETS.names())
def test_a_right_prediction_of_any_target_gives_the_image_back(name):
    x_0, eps, target = normal(*SHAPE), normal(*SHAPE, seed=1), TARGETS[name]
    for angle in (0.05, 0.6, 1.5):
        alpha, sigma = math.cos(angle), math.sin(angle)
        prediction = target.value(x_0, eps, alpha, sigma)
        image = target.image(alpha * x_0 + sigma * eps, prediction, alpha, sigma)
        torch.testing.assert_close(image, x_0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", TARGETS.names())
def test_the_errors_of_a_target_and_of_the_image_have_the_ratio_it_says(name):
    x, prediction, target = normal(*SHAPE), normal(*SHAPE, seed=1), TARGETS[name]
    for angle in (0.05, 0.6, 1.5):
        alpha, sigma = math.cos(angle), math.sin(angle)
        off = target.image(x, prediction + 1e-3, alpha, sigma)
        error = (off - target.image(x, prediction, alpha, sigma)).square().mean()
        ratio = target.error_ratio(time(alpha**2 / sigma**2))
        assert (1e-6 / error).item() == pytest.approx(ratio.item(), rel=1e-9)


def test_the_prediction_of_edm_means_the_denoiser_of_the_paper_and_is_minus_v():
    y, n, f = normal(*SHAPE), normal(*SHAPE, seed=1), normal(*SHAPE, seed=2)
    for s in (0.02, 0.5, 3.0, 80.0):  # sigma of Karras et al. 2022, eq. 7, with sigma_data = 1
        c_skip, c_out, c_in = 1 / (s**2 + 1), s / (s**2 + 1) ** 0.5, 1 / (s**2 + 1) ** 0.5
        alpha, sigma = c_in, s * c_in  # on the unit circle
        x = alpha * y + sigma * n
        torch.testing.assert_close(c_in * (y + s * n), x)  # what the network is shown
        paper = c_skip * (y + s * n) + c_out * f
        torch.testing.assert_close(TARGETS["edm"].image(x, f, alpha, sigma), paper)
        torch.testing.assert_close(TARGETS["velocity"].image(x, -f, alpha, sigma), paper)


# Weightings: the weight on the mean squared error of each target, SNR = abar / (1 - abar).


def s(value):
    return 1 / (1 + math.exp(-value))


WEIGHTS = {
    "simple": {
        "noise": lambda snr: 1,
        "image": lambda snr: snr,
        "velocity": lambda snr: snr / (snr + 1),
    },
    "snr_plus_one": {  # Salimans & Ho 2022, section 4; EDM's lambda(s) = (s^2 + 1) / s^2
        "noise": lambda snr: 1 + 1 / snr,
        "image": lambda snr: snr + 1,
        "velocity": lambda snr: 1,
        "flow": lambda snr: (snr + 1) / (1 + snr**0.5) ** 2,
        "edm": lambda snr: 1,
    },
    "flow": {
        "noise": lambda snr: (1 + snr**-0.5) ** 2,
        "image": lambda snr: (1 + snr**0.5) ** 2,
        "velocity": lambda snr: (1 + snr**0.5) ** 2 / (snr + 1),
        "flow": lambda snr: 1,
        "edm": lambda snr: (1 + snr**0.5) ** 2 / (snr + 1),
    },
    "min_snr": {
        "noise": lambda snr: min(snr, 5) / snr,
        "image": lambda snr: min(snr, 5),
        "velocity": lambda snr: min(snr, 5) / (snr + 1),
    },
    "truncated_snr": {
        "noise": lambda snr: max(1, 1 / snr),
        "image": lambda snr: max(snr, 1),
        "velocity": lambda snr: max(snr, 1) / (snr + 1),
    },
    "sigmoid": {
        "noise": lambda snr: s(-math.log(snr)),
        "image": lambda snr: snr * s(-math.log(snr)),
        "velocity": lambda snr: snr / (snr + 1) * s(-math.log(snr)),
    },
}


TABLED = [(name, target) for name, weights in WEIGHTS.items() for target in weights]


def weights_on(target_name, weighting, schedule, t, *loss):
    """The losses of a network that is wrong by exactly 1 everywhere."""
    images, eps = normal(len(t), 1, 2, 2), normal(len(t), 1, 2, 2, seed=1)
    alpha, sigma = (rate(t).view(-1, 1, 1, 1) for rate in (schedule.alpha, schedule.sigma))
    right = PREDICTION[target_name](images, eps, alpha, sigma)
    losses = training_losses(
        lambda x, log_snr: right + 1,
        schedule,
        TARGETS[target_name],
        weighting,
        images,
        t,
        eps,
        *loss,
    )
    return losses.tolist()


@pytest.mark.parametrize(("name", "target_name"), TABLED)
def test_a_weighting_means_what_the_table_says_for_each_target(schedule, name, target_name):
    t = time([0.001, 0.01, 0.1, 0.3, 0.5, 0.8, 0.99])
    snr = (schedule.alpha(t) ** 2 / schedule.sigma(t) ** 2).tolist()
    expected = [WEIGHTS[name][target_name](value) for value in snr]
    weights = weights_on(target_name, WEIGHTINGS[name], schedule, t)
    assert weights == pytest.approx(expected, rel=1e-5)


# Losses: the absolute error takes the root of the weight of the squared one.


@pytest.mark.parametrize(("name", "target_name"), TABLED)
def test_on_absolute_errors_the_root_of_the_table_is_the_weight(schedule, name, target_name):
    t = time([0.001, 0.1, 0.5, 0.99])
    snr = (schedule.alpha(t) ** 2 / schedule.sigma(t) ** 2).tolist()
    expected = [math.sqrt(WEIGHTS[name][target_name](value)) for value in snr]
    weights = weights_on(target_name, WEIGHTINGS[name], schedule, t, LOSSES["mae"])
    assert weights == pytest.approx(expected, rel=1e-5)


def losses_of_one_denoiser(target_name, weighting, schedule, t, loss):
    """The losses where the network estimates 0.9 tanh(x) for x_0, in the words of the target."""
    images, eps = normal(len(t), 1, 2, 2).clamp(-1, 1), normal(len(t), 1, 2, 2, seed=1)
    alpha, sigma = (rate(t).view(-1, 1, 1, 1) for rate in (schedule.alpha, schedule.sigma))

    def network(x, log_snr):
        x_0 = 0.9 * torch.tanh(x)
        return PREDICTION[target_name](x_0, (x - alpha * x_0) / sigma, alpha, sigma)

    return training_losses(
        network, schedule, TARGETS[target_name], weighting, images, t, eps, LOSSES[loss]
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", WEIGHTS)
def test_for_one_denoiser_the_weighted_loss_is_the_same_whatever_the_target(schedule, name, loss):
    t = time([0.001, 0.01, 0.1, 0.3, 0.5, 0.8, 0.99])
    image, *others = (
        losses_of_one_denoiser(target_name, WEIGHTINGS[name], schedule, t, loss)
        for target_name in ("image", "noise", "velocity", "flow", "edm")
    )
    for other in others:
        torch.testing.assert_close(other, image, rtol=1e-6, atol=0)


def test_the_losses_are_the_means_of_squares_and_of_sizes():
    images, eps, t = normal(*SHAPE), normal(*SHAPE, seed=1), torch.full((6,), 0.4).double()

    def losses(*loss):
        return training_losses(
            lambda x, log_snr: torch.zeros_like(x),
            SCHEDULES["linear"](),
            TARGETS["noise"],
            WEIGHTINGS["simple"],
            images,
            t,
            eps,
            *loss,
        ).tolist()

    squares = [sum(e * e for e in one.flatten().tolist()) / 9 for one in eps]
    sizes = [sum(abs(e) for e in one.flatten().tolist()) / 9 for one in eps]
    assert losses(LOSSES["mse"]) == pytest.approx(squares, rel=1e-9)
    assert losses() == pytest.approx(squares, rel=1e-9)
    assert losses(LOSSES["mae"]) == pytest.approx(sizes, rel=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_training_under_zero_terminal_snr_meets_no_infinity(loss):
    for table in ("linear", "scaled_linear", "cosine_discrete"):
        schedule, t = SCHEDULES[table](zero_terminal_snr=True), time([0.001, 0.5, 0.999, 1.0])
        for target_name in ("image", "velocity", "flow"):
            for name in WEIGHTINGS:
                weights = weights_on(target_name, WEIGHTINGS[name], schedule, t, LOSSES[loss])
                assert all(math.isfinite(weight) for weight in weights)


def test_the_network_is_told_the_limit_where_no_signal_is_left():
    seen = []

    def network(x, log_snr):
        seen.append((x, log_snr))
        return x

    eps = normal(2, 1, 3, 3, seed=1)
    training_losses(
        network,
        SCHEDULES["linear"](zero_terminal_snr=True),
        TARGETS["velocity"],
        WEIGHTINGS["simple"],
        normal(2, 1, 3, 3),
        time([1.0, 0.5]),
        eps,
    )
    [(noisy, log_snr)] = seen
    assert torch.equal(noisy[0], eps[0])
    assert log_snr[0] == -20
    assert -20 < log_snr[1] < 20


# Options of the weightings.


def test_min_snr_takes_another_gamma():
    schedule, t = SCHEDULES["linear"](), time([0.01, 0.9])
    snr = (schedule.alpha(t) ** 2 / schedule.sigma(t) ** 2).tolist()
    weights = weights_on("noise", lambda at: WEIGHTINGS["min_snr"](at, gamma=2.0), schedule, t)
    assert weights == pytest.approx([2 / snr[0], 1], rel=1e-5)


def test_the_sigmoid_weighting_takes_a_bias():
    schedule, t = SCHEDULES["linear"](), time([0.01, 0.4, 0.9])
    log_snr = schedule.log_snr(t).tolist()
    weights = weights_on("noise", lambda at: WEIGHTINGS["sigmoid"](at, bias=1.5), schedule, t)
    assert weights == pytest.approx([s(1.5 - value) for value in log_snr], rel=1e-5)


def test_no_weight_is_infinite_where_the_signal_is_almost_gone():
    schedule = SCHEDULES["cosine_discrete"]()
    for target_name in PREDICTION:
        for name in WEIGHTINGS:
            weights = weights_on(target_name, WEIGHTINGS[name], schedule, time([1.0]))
            assert math.isfinite(weights[0])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("min_snr", {"gamma": 0}, "gamma must be a number between 0.01 and 1000, not 0"),
        ("sigmoid", {"bias": 21}, "bias must be a number between -20 and 20, not 21"),
        ("simple", {"gamma": 5}, "weighting 'simple' has no option 'gamma'. It has none."),
        ("sigmoid", {"log_snr": 1}, "weighting 'sigmoid' has no option 'log_snr'."),
    ],
)
def test_an_option_that_a_weighting_cannot_take_is_refused(name, options, message):
    with pytest.raises(BadOption) as refused:
        WEIGHTINGS.check_options(name, options)
    assert message in str(refused.value)


# Algorithm 1 of Ho et al. 2020.


@pytest.mark.parametrize("name", ["linear", "cosine_discrete"])
def test_a_table_is_trained_at_each_of_its_entries_equally_often(name):
    u = (torch.arange(5000, dtype=torch.float64) + 0.5) / 5000
    times, counts = training_times(SCHEDULES[name](), u).unique(return_counts=True)
    torch.testing.assert_close(times, torch.arange(1, 1001).double() / 1000, rtol=0, atol=1e-15)
    assert (counts == 5).all()


def test_a_formula_is_trained_evenly_over_all_its_times():
    times = training_times(SCHEDULES["cosine"](), torch.arange(1000, dtype=torch.float64) / 1000)
    expected = torch.arange(1, 1001, dtype=torch.float64) / 1000
    torch.testing.assert_close(times.sort().values, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_never_asks_for_time_zero_nor_for_later_than_one(schedule, dtype):
    ends = torch.tensor([0.0, 1 - torch.finfo(dtype).eps / 2], dtype=dtype)
    times = training_times(schedule, ends)
    assert times.shape == ends.shape
    assert times.dtype == dtype
    assert (times > 0).all()
    assert (times <= 1).all()


def test_the_loss_is_that_of_algorithm_1():
    images, eps = normal(*SHAPE, seed=2).clamp(-1, 1), normal(*SHAPE, seed=3)
    numbers = [1, 2, 250, 500, 999, 1000]
    t = time([number / 1000 for number in numbers])
    betas = [1e-4 + (0.02 - 1e-4) * k / 999 for k in range(1000)]
    seen = []

    def network(x, log_snr):
        seen.append((x, log_snr))
        return torch.tanh(2 * x + log_snr.view(-1, 1, 1, 1))

    losses = training_losses(
        network, SCHEDULES["linear"](), TARGETS["noise"], WEIGHTINGS["simple"], images, t, eps
    )
    [(noisy, log_snr)] = seen
    for i, number in enumerate(numbers):
        abar = math.prod(1 - beta for beta in betas[:number])
        x = math.sqrt(abar) * images[i] + math.sqrt(1 - abar) * eps[i]
        loss = (eps[i] - torch.tanh(2 * x + math.log(abar / (1 - abar)))).square().mean()
        torch.testing.assert_close(noisy[i], x, rtol=0, atol=1e-12)
        assert log_snr[i].item() == pytest.approx(math.log(abar / (1 - abar)), rel=1e-9)
        assert losses[i].item() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_network_is_trained_in_the_dtype_of_its_images(dtype):
    images, eps = normal(*SHAPE, dtype=dtype), normal(*SHAPE, seed=1, dtype=dtype)
    seen = []

    def network(x, log_snr):
        seen.append((x.dtype, x.shape, log_snr.dtype, log_snr.shape))
        return x

    losses = training_losses(
        network,
        SCHEDULES["cosine"](),
        TARGETS["velocity"],
        WEIGHTINGS["simple"],
        images,
        torch.linspace(0.1, 1, 6, dtype=torch.float64),
        eps,
    )
    assert seen == [(dtype, SHAPE, dtype, (6,))]
    assert (losses.dtype, losses.shape) == (dtype, (6,))


def test_the_loss_teaches_the_network():
    scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    images, eps = normal(*SHAPE), normal(*SHAPE, seed=1)
    training_losses(
        lambda x, log_snr: scale * x,
        SCHEDULES["linear"](),
        TARGETS["noise"],
        WEIGHTINGS["simple"],
        images,
        torch.full((6,), 0.5, dtype=torch.float64),
        eps,
    ).mean().backward()
    assert scale.grad < 0  # the noisy image holds the noise: more of it is a better guess
