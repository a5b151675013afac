"""What every schedule must satisfy: rates that follow from a log SNR which falls."""

from __future__ import annotations

from functools import partial

from harness.contracts.check import Bench, Claims, check
from harness.contracts.closed_forms import LAM, forms, spread_and_limit
from harness.contracts.spacings import COUNTS, is_path
from harness.diffusion.schedules import SCHEDULES, Schedule
from harness.diffusion.times import SPACINGS
from harness.lazy import torch
from harness.registry import BUILT_IN


def claims(name: str, bench: Bench) -> Claims:
    t = torch.arange(0, 1001, dtype=torch.float64) / 1000
    for form, schedule in forms(name).items():
        about = partial(check, bench, f"schedule {form}")
        unit = partial(variance_off, schedule, t.to(bench.dtype))
        yield about("alpha^2 + sigma^2 = 1", bench.ulps(8), unit)
        yield about("log SNR falls (table entries where not)", 0, partial(rises, schedule, t))
        yield about("t(log_snr(t)) = t, ends included", 1e-9, partial(inverse_off, schedule, t))
        yield about("log SNR = log(alpha^2 / sigma^2)", 1e-6, partial(rates_off, schedule, t))
        yield about("keeps shape and dtype (faults)", 0, partial(faults, schedule, bench))
        yield about("every spacing has its steps (cases where not)", 0, partial(no_paths, schedule))
        if not schedule.ends_in_pure_noise:
            spread = partial(spread_and_limit, bench, "ddim", schedule)
            yield about(f"ddim's spread of N(0, {LAM}), 500 log_snr", 0.02, spread)
    if (abar := getattr(SCHEDULES[name], "abar_at_1", None)) is not None:
        last = partial(last_abar, forms(name)[name], bench, abar)
        what, tolerance = f"schedule {name}", 1e-4 + bench.ulps(10)
        yield check(bench, what, "abar(1) over the paper's", tolerance, last, 1.0)


def variance_off(schedule: Schedule, t: torch.Tensor) -> torch.Tensor:
    return (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2 - 1).abs().max()


def rises(schedule: Schedule, t: torch.Tensor) -> torch.Tensor:
    return (~(schedule.log_snr(t).diff() < 0)).sum()


def inverse_off(schedule: Schedule, t: torch.Tensor) -> torch.Tensor:
    return (schedule.t(schedule.log_snr(t)) - t).abs().max()


def rates_off(schedule: Schedule, t: torch.Tensor) -> torch.Tensor:
    """How far the rates are from the log SNR that they should follow from, relative to it."""
    inside = t[1:-1]
    log_snr = torch.log(schedule.alpha(inside) ** 2 / schedule.sigma(inside) ** 2)
    return ((log_snr - schedule.log_snr(inside)) / (1 + log_snr.abs())).abs().max()


def faults(schedule: Schedule, bench: Bench) -> int:
    times = [torch.full(shape, 0.4, dtype=bench.dtype) for shape in ((), (3,), (2, 1))]
    functions = (schedule.log_snr, schedule.alpha, schedule.sigma, schedule.t)
    pairs = [(t, function(t)) for t in times for function in functions]
    return sum(t.shape != found.shape or t.dtype != found.dtype for t, found in pairs)


def no_paths(schedule: Schedule) -> int:
    built_in = [name for name in SPACINGS if SPACINGS.origin(name) == BUILT_IN]
    return sum(not is_path(name, schedule, steps) for name in built_in for steps in COUNTS)


def last_abar(schedule: Schedule, bench: Bench, papers: float) -> torch.Tensor:
    return schedule.alpha(torch.tensor(1.0, dtype=bench.dtype)) ** 2 / papers
