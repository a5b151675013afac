"""Samplers of higher order, each against its paper's equations written out here, step by step.

The oracles work in the papers' own variables (x / alpha against sigma / alpha, or integrals over
log SNR) on float64 numbers and never call our formulae.
"""

import math

import pytest
import torch
from scipy.integrate import quad

from harness.diffusion.samplers import SAMPLERS, ddim
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS

FALLING = torch.tensor([1.0, 0.83, 0.6, 0.47, 0.3, 0.12, 0.05, 0.0], dtype=torch.float64)


@pytest.fixture(params=["linear", "cosine", "shifted_cosine"])
def schedule(request):
    return SCHEDULES[request.param]()


def some_image(x, t):
    """An estimate of x_0 that is not linear in x and depends on the time."""
    return torch.tanh(1.3 * x + t) + 0.2 * torch.cos(3 * x)


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def run(name, schedule, times, **options):
    x = normal(12)
    source = torch.Generator().manual_seed(11)
    return SAMPLERS[name](
        some_image,
        schedule,
        x,
        times,
        lambda: torch.randn(x.shape, dtype=x.dtype, generator=source),
        **options,
    )


class Path:
    """The rates at FALLING, and the noise that `some_image` finds at x."""

    def __init__(self, schedule, times=FALLING):
        self.schedule, self.times = schedule, times
        self.alpha, self.sigma = schedule.alpha(times).tolist(), schedule.sigma(times).tolist()

    def rho(self, i):
        return self.sigma[i] / self.alpha[i]

    def half_log_snr(self, i):
        return math.log(self.alpha[i] / self.sigma[i])

    def noise(self, x, i):
        return (x - self.alpha[i] * some_image(x, self.times[i])) / self.sigma[i]


# Where a sampler has nothing to remember, its step is that of DDIM (or of DDPM).


@pytest.mark.parametrize(
    "name", ["euler", "ab2", "ipndm", "ipndm_v", "deis", "dpmpp_2m", "dpmpp_3m", "unipc"]
)
@pytest.mark.parametrize("step", [(1.0, 0.6), (0.6, 0.59), (0.3, 0.002)], ids=str)
def test_the_first_step_is_that_of_ddim(schedule, name, step):
    times = torch.tensor(step, dtype=torch.float64)
    expected = run("ddim", schedule, times)
    torch.testing.assert_close(run(name, schedule, times), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("step", [(1.0, 0.6), (0.6, 0.59), (0.3, 0.002)], ids=str)
@pytest.mark.parametrize("name", ["dpmpp_2m_sde", "dpmpp_3m_sde"])
def test_the_first_step_of_dpmpp_sde_of_many_steps_is_that_of_ddpm(schedule, name, step):
    times = torch.tensor(step, dtype=torch.float64)
    expected = run("ddpm", schedule, times)
    torch.testing.assert_close(run(name, schedule, times), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("name", "options"),
    [("euler", {}), *((name, {"order": 1}) for name in ("ipndm", "ipndm_v", "deis"))],
)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_of_first_order_they_are_ddim_at_any_number_of_steps(schedule, name, options, steps):
    times = SPACINGS["trailing"](schedule, steps)
    expected = run("ddim", schedule, times)
    torch.testing.assert_close(run(name, schedule, times, **options), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "name",
    ["ab2", "ipndm", "ipndm_v", "deis", "dpm_solver_2", "dpmpp_2m", "dpmpp_3m", "heun", "unipc"],
)
def test_beyond_first_order_they_are_not(schedule, name):
    expected = run("ddim", schedule, FALLING)
    assert (run(name, schedule, FALLING) - expected).abs().max() > 1e-2


FRESH = {"ddpm", "ddpm_large", "dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_sde", "edm",
         "euler_ancestral", "predictor_corrector"}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - FRESH))
def test_where_the_image_is_known_every_deterministic_sampler_keeps_it_and_the_noise(
    schedule, name
):
    image, noise = normal(12, seed=1), normal(12, seed=2)
    (first, *_, last), times = Path(schedule).alpha[:-1], FALLING[:-1]
    (most, *_, least) = Path(schedule).sigma[:-1]
    start = first * image + most * noise
    reached = SAMPLERS[name](lambda x, t: image, schedule, start, times, lambda: None)
    # Even at alpha = 6e-3, where x / alpha has lost 2 digits.
    torch.testing.assert_close(reached, last * image + least * noise, rtol=0, atol=1e-12)


# heun: Karras et al. 2022, Algorithm 1, on y = x / alpha and rho = sigma / alpha.


def test_heun_takes_the_mean_of_the_slopes_at_both_ends(schedule):
    path = Path(schedule)
    y = normal(12) / path.alpha[0]
    for i in range(len(FALLING) - 2):
        d = path.noise(path.alpha[i] * y, i)
        step = path.rho(i + 1) - path.rho(i)
        there = path.noise(path.alpha[i + 1] * (y + step * d), i + 1)
        y = y + step * (d + there) / 2
    last = len(FALLING) - 2
    expected = some_image(path.alpha[last] * y, FALLING[last])
    torch.testing.assert_close(run("heun", schedule, FALLING), expected, rtol=0, atol=1e-10)


# ab2: the variable-step formula, (1 + r/2) e_n - (r/2) e_(n-1) with r = h_n / h_(n-1).


def test_ab2_weighs_two_noises_by_the_ratio_of_their_steps(schedule):
    path, before = Path(schedule), None
    y = normal(12) / path.alpha[0]
    for i in range(len(FALLING) - 2):
        e = path.noise(path.alpha[i] * y, i)
        h = path.rho(i + 1) - path.rho(i)
        if before is None:
            y = y + h * e
        else:
            r = h / before[1]
            y = y + h * ((1 + r / 2) * e - r / 2 * before[0])
        before = e, h
    last = len(FALLING) - 2
    expected = some_image(path.alpha[last] * y, FALLING[last])
    torch.testing.assert_close(run("ab2", schedule, FALLING), expected, rtol=0, atol=1e-10)


# ipndm: Liu et al. 2022, eq. 9 (order 4) and the classic weights below it.


def published_mean(noises):
    """The mean of the last noises, newest last."""
    match noises[-4:]:
        case [e]:
            return e
        case [e1, e]:
            return (3 * e - e1) / 2
        case [e2, e1, e]:
            return (23 * e - 16 * e1 + 5 * e2) / 12
        case [e3, e2, e1, e]:
            return (55 * e - 59 * e1 + 37 * e2 - 9 * e3) / 24


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ipndm_follows_its_published_weights(schedule, order):
    path, noises, x = Path(schedule), [], normal(12)
    for i in range(len(FALLING) - 2):
        noises.append(path.noise(x, i))
        mean = published_mean(noises[-order:])
        # DDIM, Song et al. 2021, eq. 12, with the mean in the place of the noise.
        image = (x - path.sigma[i] * mean) / path.alpha[i]
        x = path.alpha[i + 1] * image + path.sigma[i + 1] * mean
    expected = some_image(x, FALLING[-2])
    sampled = run("ipndm", schedule, FALLING, order=order)
    torch.testing.assert_close(sampled, expected, rtol=0, atol=1e-10)


def test_ipndm_is_of_order_4_unless_told_otherwise(schedule):
    fourth = run("ipndm", schedule, FALLING, order=4)
    assert torch.equal(run("ipndm", schedule, FALLING), fourth)


# ipndm_v: the polynomial through the last noises, in rho = sigma / alpha, integrated.


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ipndm_v_integrates_the_polynomial_through_the_last_noises(schedule, order):
    path, noises, x = Path(schedule), [], normal(12)
    for i in range(len(FALLING) - 2):
        noises.append((path.rho(i), path.noise(x, i)))
        at = [rho for rho, _ in noises[-order:]]
        x = path.alpha[i + 1] / path.alpha[i] * x
        for j, (_, noise) in enumerate(noises[-order:]):
            area, _ = quad(lambda rho, j=j, at=at: lagrange(j, at, rho), at[-1], path.rho(i + 1))
            x = x + path.alpha[i + 1] * area * noise
    expected = some_image(x, FALLING[-2])
    sampled = run("ipndm_v", schedule, FALLING, order=order)
    torch.testing.assert_close(sampled, expected, rtol=0, atol=1e-9)


def test_ipndm_v_is_ab2_at_order_2_and_ipndm_where_the_steps_are_even(schedule):
    expected = run("ab2", schedule, FALLING)
    torch.testing.assert_close(
        run("ipndm_v", schedule, FALLING, order=2), expected, rtol=0, atol=1e-11
    )
    even = schedule.t(-2 * torch.linspace(3, 0.5, 9, dtype=torch.float64).log())
    fourth = run("ipndm_v", schedule, even)
    torch.testing.assert_close(fourth, run("ipndm", schedule, even), rtol=0, atol=1e-9)
    assert torch.equal(fourth, run("ipndm_v", schedule, even, order=4))


# deis: Zhang & Chen 2023, eq. 14 and 15, each coefficient as an integral over time.


def lagrange(j, at, tau):
    return math.prod((tau - other) / (at[j] - other) for k, other in enumerate(at) if k != j)


def deis_coefficient(schedule, j, at, t, s):
    """C_j: alpha_s times the integral of L_j(tau) d rho from t to s, L_j Lagrange's polynomial in
    time. d rho = -rho/2 d log SNR, so that it is taken over log SNR."""

    def integrand(log_snr):
        tau = schedule.t(torch.tensor(log_snr, dtype=torch.float64)).item()
        return lagrange(j, at, tau) * math.exp(-log_snr / 2) / -2

    ends = (schedule.log_snr(torch.tensor(end, dtype=torch.float64)).item() for end in (t, s))
    area, _ = quad(integrand, *ends, epsabs=0, epsrel=1e-10)
    return schedule.alpha(torch.tensor(s, dtype=torch.float64)).item() * area


def deis_coefficient_of_a_table(schedule, j, at, t, s):
    """The same as a plain sum over many times: quad does not get past the kinks of a table."""
    tau = torch.linspace(t, s, 200_001, dtype=torch.float64)
    rho = schedule.sigma(tau) / schedule.alpha(tau)
    at_time = lagrange(j, at, tau) * torch.ones_like(tau)
    return schedule.alpha(tau[-1]).item() * torch.trapezoid(at_time, rho).item()


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("name", ["cosine", "shifted_cosine", "linear"])
def test_deis_weighs_the_noises_by_the_integrals_of_the_paper(name, order):
    schedule = SCHEDULES[name]()
    coefficient = deis_coefficient_of_a_table if schedule.table_steps else deis_coefficient
    path, times, noises, x = Path(schedule), FALLING.tolist(), [], normal(12)
    for i in range(len(times) - 2):
        noises.append(path.noise(x, i))
        first = max(0, i + 1 - order)
        x = path.alpha[i + 1] / path.alpha[i] * x
        for j in range(i + 1 - first):
            share = coefficient(schedule, j, times[first : i + 1], times[i], times[i + 1])
            x = x + share * noises[first + j]
    expected = some_image(x, FALLING[-2])
    sampled = run("deis", schedule, FALLING, order=order)
    # Simpson's rule in 64 parts; between the entries of a table it meets kinks.
    bound = 1e-7 if schedule.table_steps else 5e-9
    torch.testing.assert_close(sampled, expected, rtol=0, atol=bound)


def test_deis_is_of_order_3_unless_told_otherwise(schedule):
    third = run("deis", schedule, FALLING, order=3)
    assert torch.equal(run("deis", schedule, FALLING), third)


# dpmpp_2m and dpmpp_2m_sde: Lu et al. 2022 (DPM-Solver++), Algorithm 2 and eq. 18.


def carried_on(images, path, i):
    """D_i = (1 + 1/(2r)) x_i - 1/(2r) x_(i-1), r = h_(i-1) / h_i in half log SNR."""
    if len(images) == 1:
        return images[0]
    h_before = path.half_log_snr(i) - path.half_log_snr(i - 1)
    r = h_before / (path.half_log_snr(i + 1) - path.half_log_snr(i))
    return (1 + 1 / (2 * r)) * images[-1] - 1 / (2 * r) * images[-2]


def test_dpmpp_2m_is_algorithm_2_of_the_paper(schedule):
    path, images, x = Path(schedule), [], normal(12)
    for i in range(len(FALLING) - 2):
        images.append(some_image(x, FALLING[i]))
        h = path.half_log_snr(i + 1) - path.half_log_snr(i)
        image = carried_on(images, path, i)
        x = path.sigma[i + 1] / path.sigma[i] * x - path.alpha[i + 1] * math.expm1(-h) * image
    expected = some_image(x, FALLING[-2])
    torch.testing.assert_close(run("dpmpp_2m", schedule, FALLING), expected, rtol=0, atol=1e-12)


def test_dpmpp_2m_sde_is_equation_18_of_the_paper(schedule):
    path, images, x = Path(schedule), [], normal(12)
    source = torch.Generator().manual_seed(11)
    for i in range(len(FALLING) - 2):
        images.append(some_image(x, FALLING[i]))
        h = path.half_log_snr(i + 1) - path.half_log_snr(i)
        fresh = torch.randn(x.shape, dtype=x.dtype, generator=source)
        x = (
            path.sigma[i + 1] / path.sigma[i] * math.exp(-h) * x
            + path.alpha[i + 1] * -math.expm1(-2 * h) * carried_on(images, path, i)
            + path.sigma[i + 1] * math.sqrt(-math.expm1(-2 * h)) * fresh
        )
    expected = some_image(x, FALLING[-2])
    sampled = run("dpmpp_2m_sde", schedule, FALLING)
    torch.testing.assert_close(sampled, expected, rtol=0, atol=1e-12)


# dpmpp_3m and dpmpp_3m_sde: Lu et al. 2022 (DPM-Solver++), eq. 14, and the same for the SDE, the
# parabola through the last three estimates integrated numerically.


@pytest.mark.parametrize(("name", "rate"), [("dpmpp_3m", 1), ("dpmpp_3m_sde", 2)])
def test_dpmpp_3m_integrates_the_parabola_through_the_last_estimates(schedule, name, rate):
    path, images, x = Path(schedule), [], normal(12)
    source = torch.Generator().manual_seed(11)
    for i in range(len(FALLING) - 2):
        images.append((path.half_log_snr(i), some_image(x, FALLING[i])))
        at, end = [place for place, _ in images[-3:]], path.half_log_snr(i + 1)
        h = rate * (end - at[-1])
        x = path.sigma[i + 1] / path.sigma[i] * math.exp(at[-1] - end) ** (rate - 1) * x
        for j, (_, image) in enumerate(images[-3:]):

            def integrand(place, j=j, at=at, end=end):
                return rate * math.exp(rate * (place - end)) * lagrange(j, at, place)

            x = x + path.alpha[i + 1] * quad(integrand, at[-1], end)[0] * image
        if rate == 2:
            fresh = torch.randn(x.shape, dtype=x.dtype, generator=source)
            x = x + path.sigma[i + 1] * math.sqrt(-math.expm1(-h)) * fresh
    expected = some_image(x, FALLING[-2])
    torch.testing.assert_close(run(name, schedule, FALLING), expected, rtol=0, atol=1e-10)


# dpm_solver_2: Lu et al. 2022 (DPM-Solver), Algorithm 1, r_1 = 1/2.


def test_dpm_solver_2_is_algorithm_1_of_the_paper(schedule):
    path, x = Path(schedule), normal(12)
    for i in range(len(FALLING) - 2):
        h = path.half_log_snr(i + 1) - path.half_log_snr(i)
        middle = schedule.t(torch.tensor(2 * path.half_log_snr(i) + h, dtype=torch.float64))
        alpha, sigma = schedule.alpha(middle).item(), schedule.sigma(middle).item()
        u = alpha / path.alpha[i] * x - sigma * math.expm1(h / 2) * path.noise(x, i)
        noise = (u - alpha * some_image(u, middle)) / sigma
        x = path.alpha[i + 1] / path.alpha[i] * x - path.sigma[i + 1] * math.expm1(h) * noise
    expected = some_image(x, FALLING[-2])
    torch.testing.assert_close(run("dpm_solver_2", schedule, FALLING), expected, rtol=0, atol=1e-9)


# unipc: Zhao et al. 2023, on estimates of the image, B(h) = e^h - 1 with h there -h here.


def unipc_step(x, path, known, i, to, *, arrived=None):
    """UniP (eq. 3) from the levels `known` [(index, image)], newest first; with `arrived` UniC
    (eq. 8). Each condition for the weights a_m, sum_m r_m^(n-1) a_m = B_n, is written with its
    integral B_n = n!/h^n phi_(n+1)(h)/B(h), phi_k(h) by its series."""

    def phi(k, z):
        return sum(z**m / math.factorial(m + k) for m in range(60))

    h = path.half_log_snr(to) - path.half_log_snr(i)
    image = known[0][1]
    rs = [(path.half_log_snr(k) - path.half_log_snr(i)) / h for k, _ in known[1:]]
    changes = [value - image for _, value in known[1:]]
    if arrived is not None:
        rs, changes = [*rs, 1.0], [*changes, arrived - image]
    x = path.sigma[to] / path.sigma[i] * x - path.alpha[to] * math.expm1(-h) * image
    if not rs:
        return x
    b = math.expm1(-h)
    sides = [-h * math.factorial(n) * phi(n + 1, -h) / b for n in range(1, len(rs) + 1)]
    if len(rs) == 1:
        weights = [0.5]
    else:
        matrix = torch.tensor([[r**n for r in rs] for n in range(len(rs))], dtype=torch.float64)
        weights = torch.linalg.inv(matrix) @ torch.tensor(sides, dtype=torch.float64)
        weights = weights.tolist()
    total = sum(w / r * change for w, r, change in zip(weights, rs, changes, strict=True))
    return x - path.alpha[to] * b * total


@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_predicts_and_corrects_by_the_conditions_of_the_paper(schedule, order):
    path, known, x = Path(schedule), [], normal(12)
    origin = x
    for i in range(len(FALLING) - 2):
        image = some_image(x, FALLING[i])
        if known:
            x = unipc_step(origin, path, known, i - 1, i, arrived=image)
        known = [(i, image), *known][:order]
        origin, x = x, unipc_step(x, path, known, i, i + 1)
    expected = some_image(x, FALLING[-2])
    sampled = run("unipc", schedule, FALLING, order=order)
    torch.testing.assert_close(sampled, expected, rtol=0, atol=1e-10)


def test_unipc_is_of_order_2_unless_told_otherwise(schedule):
    second = run("unipc", schedule, FALLING, order=2)
    assert torch.equal(run("unipc", schedule, FALLING), second)


def test_unipc_of_order_1_only_predicts_by_ddim():
    schedule, times = SCHEDULES["cosine"](), FALLING[:2]
    assert torch.equal(
        run("unipc", schedule, times, order=1),
        ddim(some_image, schedule, normal(12), times, lambda: None),
    )
