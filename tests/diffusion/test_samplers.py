"""What every sampler promises, and single steps against the papers' equations typed here."""

import math

import pytest
import torch

from harness.diffusion.samplers import SAMPLERS, ddim, ddpm, ddpm_large, draws
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.errors import BadOption

FALLING = torch.tensor([1.0, 0.83, 0.6, 0.35, 0.1, 0.0], dtype=torch.float64)
# They remember nothing, of those that do not look at the number of steps, as `edm` does.
OF_ONE_STEP = ["ddim", "ddpm", "ddpm_large", "dpm_solver_2", "dpmpp_sde", "euler",
               "euler_ancestral", "heun", "predictor_corrector"]  # fmt: skip
ELSEWHERE_TOO = ["dpm_solver_2", "dpmpp_sde", "edm"]  # they ask at times of their own as well
PAIRS = [(1.0, 0.9), (1.0, 0.1), (0.6, 0.5), (0.6, 0.599), (0.3, 0.002), (0.002, 0.001)]


@pytest.fixture(params=SAMPLERS.names())
def sampler(request):
    return SAMPLERS[request.param]


def some_image(x, t):
    """An estimate of x_0 that is not linear in x and depends on the time."""
    return torch.tanh(1.3 * x + t) + 0.2 * torch.cos(3 * x)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def noise_source(x, seed=11):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(x.shape, dtype=x.dtype, generator=generator)


def no_noise():
    raise AssertionError("fresh noise was asked for")


def one_step(sampler, schedule, step, *, x_t=-1.3, x_0=0.4, fresh=0.0, **options):
    """x_s after the step (t, s), for numbers x_t, x_0 and the fresh noise given."""
    start = torch.full((1,), x_t, dtype=torch.float64)
    stepped = sampler(
        lambda x, t: torch.full_like(x, x_0),
        schedule,
        start,
        torch.tensor(step, dtype=torch.float64),
        lambda: torch.full_like(start, fresh),
        **options,
    )
    return stepped.item()


def abar(schedule, t):
    return schedule.alpha(torch.tensor(t, dtype=torch.float64)).item() ** 2


# The contract of every sampler.


@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 1, 3, 3), (1, 2, 2, 2, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("times_dtype", [torch.float32, torch.float64])
def test_every_sampler_keeps_the_shape_and_dtype_of_the_noise(sampler, shape, dtype, times_dtype):
    x = normal(*shape, dtype=dtype)
    seen = []

    def denoise(x, t):
        seen.append((x.shape, x.dtype))
        return some_image(x, t.to(x.dtype))

    images = sampler(denoise, SCHEDULES["linear"](), x, FALLING.to(times_dtype), noise_source(x))
    assert {*seen, (images.shape, images.dtype)} == {(x.shape, dtype)}


def test_every_sampler_works_on_each_element_by_itself(sampler, schedule):
    x, fresh = normal(24), [normal(24, seed=9 + k) for k in range(20)]

    def sample(shape):
        draws = iter(fresh)
        return sampler(
            some_image, schedule, x.view(shape), FALLING, lambda: next(draws).view(shape)
        )

    assert torch.equal(sample((24,)), sample((2, 3, 2, 2)).flatten())


def test_every_sampler_leaves_the_noise_it_was_given_alone(sampler):
    x = normal(6)
    kept = x.clone()
    sampler(some_image, SCHEDULES["linear"](), x, FALLING, noise_source(x))
    assert torch.equal(x, kept)


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_every_sampler_asks_for_images_at_the_times_it_was_given(name):
    asked = []

    def denoise(x, t):
        asked.append(t)
        return some_image(x, t)

    x = normal(6)
    SAMPLERS[name](denoise, SCHEDULES["linear"](), x, FALLING, noise_source(x))
    assert all(t.shape == () for t in asked)
    times, given = {t.item() for t in asked}, set(FALLING[:-1].tolist())
    if name in ELSEWHERE_TOO:
        assert all(min(given) < t < max(given) for t in times - given)
        assert len(times - given) == 4 if name != "edm" else 3  # from t = 1 nothing is noisier
    else:
        assert times == given


@pytest.mark.parametrize(
    ("name", "options", "most"),
    [
        *((name, {}, 1) for name in SAMPLERS if name not in ("dpmpp_sde", "predictor_corrector")),
        ("dpmpp_sde", {}, 2),
        ("predictor_corrector", {}, 2),
        ("predictor_corrector", {"corrector_steps": 3, "eta": 0.5}, 4),
    ],
)
def test_every_sampler_draws_noise_at_most_as_often_a_step_as_it_declares(name, options, most):
    drawn, x = [], normal(6)
    source = noise_source(x)

    def draw_noise():
        drawn.append(source())
        return drawn[-1]

    SAMPLERS[name](some_image, SCHEDULES["linear"](), x, FALLING, draw_noise, **options)
    assert draws(SAMPLERS[name], **options) == most
    assert len(drawn) <= most * (len(FALLING) - 1)


def test_every_sampler_returns_the_estimate_of_the_image_at_time_zero(sampler, schedule):
    last = []

    def denoise(x, t):
        last[:] = [some_image(x, t)]
        return last[0]

    x = normal(6)
    images = sampler(denoise, schedule, x, FALLING, noise_source(x))
    assert torch.equal(images, last[0])


def test_every_sampler_returns_x_at_the_last_time_where_that_is_above_zero(sampler, schedule):
    # Without noise, and the image known, x_t = alpha(t) x_0 all the way down.
    x_0 = normal(6)
    times = FALLING[:-1]
    stopped = sampler(
        lambda x, t: x_0,
        schedule,
        schedule.alpha(times[0]) * x_0,
        times,
        lambda: torch.zeros_like(x_0),
    )
    torch.testing.assert_close(stopped, schedule.alpha(times[-1]) * x_0, rtol=1e-12, atol=1e-12)


def test_every_sampler_does_the_same_twice(sampler):
    x = normal(6)
    first, second = (
        sampler(some_image, SCHEDULES["cosine"](), x, FALLING, noise_source(x)) for _ in range(2)
    )
    assert torch.equal(first, second)


def test_every_sampler_in_float32_is_near_itself_in_float64(sampler, schedule):
    x, fresh = normal(50), [normal(50, seed=k) for k in range(40)]

    def sample(dtype):
        draws = iter(fresh)
        times = SPACINGS["trailing"](schedule, 20)
        return sampler(
            lambda x, t: torch.tanh(x), schedule, x.to(dtype), times, lambda: next(draws).to(dtype)
        )

    # Such a step corrects by sigma / alpha times a difference of two noises: sigmoid begins at
    # sigma / alpha = 31,623.
    looks_ahead = sampler in [SAMPLERS[name] for name in ("heun", "edm", "dpm_solver_2")]
    is_far = abar(schedule, 1.0) < 1e-6
    torch.testing.assert_close(
        sample(torch.float32).double(),
        sample(torch.float64),
        atol=1e-4 if looks_ahead and is_far else 1e-5,
        rtol=0,
    )


# Stopping and going on.


@pytest.mark.parametrize("sampler", [SAMPLERS[name] for name in OF_ONE_STEP], ids=OF_ONE_STEP)
def test_stopping_on_the_way_and_going_on_is_the_same_as_not_stopping(sampler, schedule):
    options = {"eta": 0.7} if sampler is ddim else {}
    x = normal(8)
    whole = sampler(some_image, schedule, x, FALLING, noise_source(x), **options)
    draw_noise = noise_source(x)
    half = sampler(some_image, schedule, x, FALLING[:3], draw_noise, **options)
    rest = sampler(some_image, schedule, half, FALLING[2:], draw_noise, **options)
    assert torch.equal(whole, rest)


# DDPM: Ho et al. 2020, eq. 6 and 7, with abar of two times instead of two neighbours.


@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_one_ddpm_step_has_the_mean_and_variance_of_the_posterior(schedule, t, s):
    x_t, x_0 = -1.3, 0.4
    abar_t, abar_s = abar(schedule, t), abar(schedule, s)
    alpha = abar_t / abar_s
    beta = 1 - alpha
    mean = (
        math.sqrt(abar_s) * beta / (1 - abar_t) * x_0
        + math.sqrt(alpha) * (1 - abar_s) / (1 - abar_t) * x_t
    )
    variance = (1 - abar_s) / (1 - abar_t) * beta

    without = one_step(ddpm, schedule, (t, s), x_t=x_t, x_0=x_0)
    spread = one_step(ddpm, schedule, (t, s), x_t=x_t, x_0=x_0, fresh=1.0) - without
    assert without == pytest.approx(mean, rel=1e-9)
    assert spread == pytest.approx(math.sqrt(variance), rel=1e-9)


@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_one_ddpm_large_step_has_the_variance_of_the_forward_step(schedule, t, s):
    without = one_step(ddpm_large, schedule, (t, s))
    spread = one_step(ddpm_large, schedule, (t, s), fresh=1.0) - without
    assert without == pytest.approx(one_step(ddpm, schedule, (t, s)), rel=1e-12)
    assert spread**2 == pytest.approx(1 - abar(schedule, t) / abar(schedule, s), rel=1e-9)


@pytest.mark.parametrize("i", [2, 3, 500, 1000])
def test_between_neighbours_of_linear_the_variances_are_those_of_the_betas(i):
    betas = [1e-4 + (0.02 - 1e-4) * k / 999 for k in range(1000)]
    abar_t = math.prod(1 - beta for beta in betas[:i])
    abar_s = math.prod(1 - beta for beta in betas[: i - 1])
    beta = betas[i - 1]
    schedule = SCHEDULES["linear"]()

    def spread(sampler):
        with_noise, without = (
            one_step(sampler, schedule, (i / 1000, (i - 1) / 1000), fresh=fresh)
            for fresh in (1.0, 0.0)
        )
        return with_noise - without

    assert spread(ddpm_large) ** 2 == pytest.approx(beta, rel=1e-9)
    assert spread(ddpm) ** 2 == pytest.approx((1 - abar_s) / (1 - abar_t) * beta, rel=1e-9)


def test_the_last_noise_of_ddpm_large_has_the_spread_of_the_last_time():
    schedule = SCHEDULES["linear"]()
    stepped = one_step(ddpm_large, schedule, (0.1, 0.0), x_0=0.7, fresh=1.0, last_noise=True)
    assert stepped == pytest.approx(0.7 + math.sqrt(1 - abar(schedule, 0.1)), rel=1e-12)


@pytest.mark.parametrize("sampler", [ddpm, ddpm_large])
def test_the_last_step_draws_no_noise_unless_asked(sampler):
    x = normal(4)
    sampler(some_image, SCHEDULES["linear"](), x, FALLING[-2:], no_noise)


# DDIM: Song et al. 2021, eq. 12 and 16.


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_one_ddim_step_is_equation_12_of_the_paper(schedule, t, s, eta):
    x_t, x_0, fresh = -1.3, 0.4, 0.6
    abar_t, abar_s = abar(schedule, t), abar(schedule, s)
    noise = (x_t - math.sqrt(abar_t) * x_0) / math.sqrt(1 - abar_t)
    spread = eta * math.sqrt((1 - abar_s) / (1 - abar_t)) * math.sqrt(1 - abar_t / abar_s)
    expected = math.sqrt(abar_s) * x_0 + math.sqrt(1 - abar_s - spread**2) * noise + spread * fresh
    stepped = one_step(ddim, schedule, (t, s), x_t=x_t, x_0=x_0, fresh=fresh, eta=eta)
    assert stepped == pytest.approx(expected, rel=1e-9)


def test_ddim_without_eta_is_deterministic(schedule):
    x = normal(8)
    images = ddim(some_image, schedule, x, FALLING, no_noise)
    assert torch.equal(images, ddim(some_image, schedule, x, FALLING, no_noise, eta=0.0))


@pytest.mark.parametrize("spacing", sorted(set(SPACINGS) - {"explicit", "fitted"}))
def test_ddim_with_eta_one_is_ddpm(schedule, spacing):
    x = normal(50)
    times = SPACINGS[spacing](schedule, 20)
    one = ddim(some_image, schedule, x, times, noise_source(x), eta=1.0)
    other = ddpm(some_image, schedule, x, times, noise_source(x))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_keeps_the_distribution_of_the_noisy_image_where_the_image_is_known(schedule, eta):
    # Song et al. 2021, lemma 1: q(x_s | x_0) stays N(alpha_s x_0, sigma_s^2) for any eta.
    t, s = 0.7, 0.4
    mean, kept, fresh = (
        one_step(ddim, schedule, (t, s), x_t=x_t, x_0=0.0, fresh=z, eta=eta)
        for x_t, z in ((0.0, 0.0), (math.sqrt(1 - abar(schedule, t)), 0.0), (0.0, 1.0))
    )
    assert mean == 0
    assert kept**2 + fresh**2 == pytest.approx(1 - abar(schedule, s), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ddim", {"eta": 1.5}, "sampler 'ddim': eta must be a number between 0 and 1, not 1.5"),
        ("ddim", {"eta": -0.1}, "eta must be a number between 0 and 1, not -0.1"),
        ("ddim", {"eta": True}, "eta must be a number between 0 and 1, not True"),
        ("ddim", {"etta": 0.5}, "has no option 'etta'. Did you mean 'eta'? Available: eta."),
        ("ddim", {"x": 0.5}, "sampler 'ddim' has no option 'x'."),
        ("ddpm", {"eta": 0.5}, "sampler 'ddpm' has no option 'eta'. It has none."),
        ("ddpm_large", {"last_noise": 1}, "last_noise must be true or false, not 1"),
        ("ipndm", {"order": 5}, "order must be a whole number between 1 and 4, not 5"),
        ("deis", {"order": 0}, "order must be a whole number between 1 and 4, not 0"),
        ("unipc", {"order": 4}, "order must be a whole number between 1 and 3, not 4"),
        ("dpmpp_2m", {"order": 2}, "sampler 'dpmpp_2m' has no option 'order'. It has none."),
        ("edm", {"s_churn": -1}, "s_churn must be a number between 0 and 1000, not -1"),
        ("predictor_corrector", {"corrector_steps": 0.5}, "must be a whole number between 0 and"),
    ],
)
def test_an_option_that_a_sampler_cannot_take_is_refused(name, options, message):
    with pytest.raises(BadOption) as refused:
        SAMPLERS.check_options(name, options)
    assert message in str(refused.value)
