"""What every target, weighting and loss must satisfy: of one and the same squared error, each is
another view. And every density of training times."""

from __future__ import annotations

from functools import partial

from harness.contracts.check import Bench, Claims, check
from harness.contracts.closed_forms import Compared, exact_denoiser, sample_with, starting, worst
from harness.diffusion.levels import levels
from harness.diffusion.objective import CLIPS, LOG_SNR_LIMIT, LOSSES, TARGETS, WEIGHTINGS, Estimate
from harness.diffusion.schedules import Schedule
from harness.diffusion.times import SPACINGS
from harness.diffusion.training_times import TIME_DENSITIES
from harness.errors import Fault
from harness.lazy import torch


def of_target(name: str, bench: Bench) -> Claims:
    # Noise is divided by alpha(1).
    tolerance = 1e-9 if bench.dtype == torch.float64 else 1e-3
    about = partial(check, bench, f"target {name}")
    apart = partial(worst, partial(target_apart, bench, name))
    yield about("the samples of the exact denoiser", tolerance, apart)
    ratio = partial(ratio_off, bench, name)
    yield about("an error of x_0 by its error ratio", bench.ulps(2000), ratio)


def target_apart(bench: Bench, name: str, schedule: Schedule) -> Compared:
    """A network that says exactly what this target asks of it, against the exact denoiser."""
    exact, target = exact_denoiser(schedule), TARGETS[name]

    def network(x: torch.Tensor, log_snr: torch.Tensor) -> torch.Tensor:
        x_0 = exact(x, asked[-1])
        [rates] = levels(schedule, asked[-1][None])
        eps = (x - rates.alpha * x_0) / rates.sigma
        return target.value(x_0, eps, rates.alpha, rates.sigma)

    asked: list[torch.Tensor] = []
    estimate = Estimate(network, schedule, target)

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        asked.append(t)
        return estimate(x, t)

    times = SPACINGS["trailing"](schedule, 10)
    one, other = (sample_with(bench, "ddim", schedule, times, each) for each in (denoise, exact))
    return 0.0, float((one - other).abs().max())


def ratio_off(bench: Bench, name: str) -> torch.Tensor:
    """How far the squared error of x_0, times the error ratio, is from the squared error of the
    prediction that caused it, relative to that."""
    target, x_0, error = TARGETS[name], starting(bench), 0.5
    eps, off = x_0.flip(0), []
    for log_snr in (-4.0, -1.0, 0.0, 3.0):
        rates = torch.sigmoid(bench.tensor([log_snr, -log_snr])).sqrt().unbind()
        x = rates[0] * x_0 + rates[1] * eps
        wrong = target.image(x, target.value(x_0, eps, *rates) + error, *rates)
        ratio = target.error_ratio(bench.tensor(log_snr).exp())
        off.append((ratio * (wrong - x_0).square() / error**2 - 1).abs().max())
    return torch.stack(off).max()


def of_weighting(name: str, bench: Bench) -> Claims:
    weights = partial(weights_off, bench, name)
    yield check(bench, f"weighting {name}", "finite, from 0 up (log SNRs where not)", 0, weights)


def weights_off(bench: Bench, name: str) -> int:
    log_snr = torch.linspace(-LOG_SNR_LIMIT, LOG_SNR_LIMIT, 401, dtype=bench.dtype)
    weight: object = WEIGHTINGS[name](log_snr, **bench.options)
    if not isinstance(weight, torch.Tensor) or weight.shape != log_snr.shape:
        raise Fault(f"gives no tensor of the shape of log SNR, but {weight!r:.60}")
    if weight.dtype != log_snr.dtype or not bool((weight > 0).any()):
        raise Fault(f"gives {weight.dtype} for {log_snr.dtype}, {int((weight > 0).sum())} above 0")
    return int((~(weight.isfinite() & (weight >= 0))).sum())


def of_time_density(name: str, bench: Bench) -> Claims:
    faults = partial(density_faults, bench, name)
    yield check(bench, f"time_density {name}", "rises within 0 to 1 (faults)", 0, faults)


def density_faults(bench: Bench, name: str) -> int:
    u = torch.linspace(0, 1, 401, dtype=bench.dtype)
    t: object = TIME_DENSITIES[name](u, **bench.options)
    if not isinstance(t, torch.Tensor) or t.shape != u.shape:
        raise Fault(f"gives no tensor of the shape of u, but {t!r:.60}")
    inside = bool(((t >= 0) & (t <= 1)).all()) and bool((t[1:] > 0).all())
    return sum([t.dtype != u.dtype, not inside, not bool((t.diff() >= 0).all())])


def of_loss(name: str, bench: Bench) -> Claims:
    about = partial(check, bench, f"loss {name}")
    yield about("0 at no error, else above (faults)", 0, partial(loss_faults, bench, name))
    yield about("even: difference of both signs", 0, partial(oddness, bench, name))


def loss_faults(bench: Bench, name: str) -> int:
    loss, errors = LOSSES[name], bench.tensor([0.0, 1e-3, 0.5, 3.0])
    found, weight = loss.error(errors), loss.weight(errors)
    grows = bool((found.diff() > 0).all())
    is_weight = bool((weight.isfinite() & (weight >= 0)).all())
    return sum([found.shape != errors.shape, float(found[0]) != 0, not grows, not is_weight])


def oddness(bench: Bench, name: str) -> torch.Tensor:
    errors = starting(bench)
    return (LOSSES[name].error(errors) - LOSSES[name].error(-errors)).abs().max()


def of_clip(name: str, bench: Bench) -> Claims:
    about = partial(check, bench, f"clip {name}")
    yield about("within the data's range, shape, dtype (faults)", 0, partial(astray, bench, name))
    yield about("each image by itself", bench.ulps(10), partial(clip_of_one_apart, bench, name))


BOUNDS = (-1.5, 0.5)  # not about 0, since a scale of the data may move it


def astray(bench: Bench, name: str) -> int:
    x_0 = 3 * starting(bench)
    found = CLIPS[name](x_0, BOUNDS, **bench.options)
    slack = bench.ulps(10)
    is_beyond = (found < BOUNDS[0] - slack) | (found > BOUNDS[1] + slack)
    return int(is_beyond.sum()) + sum([found.dtype != x_0.dtype, found.shape != x_0.shape])


def clip_of_one_apart(bench: Bench, name: str) -> torch.Tensor:
    """Between images clipped together and one at a time."""
    clip, x_0 = CLIPS[name], 3 * starting(bench)
    alone = [clip(one, BOUNDS, **bench.options) for one in x_0[:, None]]
    return (clip(x_0, BOUNDS, **bench.options) - torch.cat(alone)).abs().max()
