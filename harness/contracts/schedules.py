"""What every schedule must satisfy: rates that follow from a log SNR which falls. And every
spacing: N steps asked are N done, falling from at most 1 to 0."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from itertools import pairwise, product
from typing import Any, TypeAlias

from harness.contracts.check import Bench, Claims, check, refuses
from harness.contracts.closed_forms import (
    LAM,
    Compared,
    built_in_schedules,
    forms,
    spread_and_limit,
    starting,
    worst,
)
from harness.diffusion.analytic import gaussian_denoiser
from harness.diffusion.fitting import Departures, candidate_times, least_costly
from harness.diffusion.schedules import SCHEDULES, Schedule
from harness.diffusion.times import SPACINGS, Fitting, fitting_of
from harness.errors import BadOption
from harness.lazy import torch
from harness.registry import BUILT_IN

# Candidate times [M + 1], and of the steps between them [M + 1, M + 1].
Costs: TypeAlias = "tuple[torch.Tensor, torch.Tensor]"
COUNTS = (1, 2, 3, 5, 10, 13, 50, 61, 100, 250, 500, 999, 1000)  # of steps


def of_schedule(name: str, bench: Bench) -> Claims:
    built_in = [spacing for spacing in SPACINGS if SPACINGS.origin(spacing) == BUILT_IN]
    t = torch.arange(0, 1001, dtype=torch.float64) / 1000
    for form, schedule in forms(name, bench.options).items():
        about = partial(check, bench, f"schedule {form}")
        unit = partial(variance_off, schedule, t.to(bench.dtype))
        yield about("alpha^2 + sigma^2 = 1", bench.ulps(8), unit)
        falls = f"log SNR falls from t = 0 to 1 (of {len(t) - 1:,} table entries where not)"
        yield about(falls, 0, partial(rises, schedule, t))
        yield about("t(log_snr(t)) = t, ends included", 1e-9, partial(inverse_off, schedule, t))
        yield about("log SNR = log(alpha^2 / sigma^2)", 1e-6, partial(rates_off, schedule, t))
        yield about("keeps shape and dtype (faults)", 0, partial(schedule_faults, schedule, bench))
        unmade = partial(no_paths, built_in, [schedule])
        yield about("every spacing has its steps (cases where not)", 0, unmade)
        spacing = "angle" if schedule.ends_in_pure_noise else "log_snr"
        spread = partial(spread_and_limit, bench, "ddim", schedule, spacing)
        yield about(f"ddim's spread of N(0, {LAM}), 500 {spacing}", 0.02, spread)
        if schedule.ends_in_pure_noise:
            signal = partial(schedule.alpha, torch.ones((), dtype=bench.dtype))
            yield about("signal that is left at t = 1", 0, signal)
    if not bench.options and (abar := getattr(SCHEDULES[name], "abar_at_1", None)) is not None:
        last = partial(abar_ratio, forms(name)[name], bench, abar)
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


def schedule_faults(schedule: Schedule, bench: Bench) -> int:
    times = [torch.full(shape, 0.4, dtype=bench.dtype) for shape in ((), (3,), (2, 1))]
    functions = (schedule.log_snr, schedule.alpha, schedule.sigma, schedule.t)
    pairs = [(t, function(t)) for t in times for function in functions]
    return sum(t.shape != found.shape or t.dtype != found.dtype for t, found in pairs)


def abar_ratio(schedule: Schedule, bench: Bench, papers: float) -> torch.Tensor:
    return schedule.alpha(torch.tensor(1.0, dtype=bench.dtype)) ** 2 / papers


def of_spacing(name: str, bench: Bench) -> Claims:
    about = partial(check, bench, f"spacing {name}")
    if fitting := fitting_of(name, **bench.options):
        yield from of_fitted_spacing(name, fitting, bench)
        return
    unmade = partial(no_paths, [name], built_in_schedules().values(), bench.options)
    yield about("N asked are N done (cases where not)", 0, unmade)
    yield about(
        "gives times in the dtype asked for (faults)", 0, partial(spacing_faults, name, bench)
    )


def of_fitted_spacing(name: str, fitting: Fitting, bench: Bench) -> Claims:
    about = partial(check, bench, f"spacing {name}")
    costs = cache(partial(gaussian_costs, fitting.candidates, bench))
    yield about("has times without a network (cases)", 0, partial(unasked_times, name))
    for steps in (5, 10):
        turns = partial(worst, partial(largest_turn, costs, steps))
        yield about(f"N(0, 1), {steps} steps: the largest turn is the least", 0.02, turns)
        dearer = partial(worst, partial(cost_over_trailing, costs, steps))
        yield about(f"{steps} steps cost more than trailing (by)", 0, dearer)


def unasked_times(name: str) -> int:
    linear = built_in_schedules()["linear"]
    return sum(not refuses(BadOption, SPACINGS[name], linear, steps) for steps in COUNTS)


def gaussian_costs(candidates: int, bench: Bench, schedule: Schedule) -> Costs:
    """The candidate times of a fitted spacing, and what the steps between them cost on N(0, 1)."""
    times = candidate_times(schedule, candidates)
    denoise = gaussian_denoiser(schedule, 0.0, 1.0)
    return times, Departures.of(denoise, schedule, starting(bench), times).costs


def largest_turn(of: Callable[[Schedule], Costs], steps: int, schedule: Schedule) -> Compared:
    """The largest angle that DDIM turns through in one step on N(0, 1), the last of them from the
    last time to the image. The least that it can be is even; where the schedule ends so far from
    the image that the last turn is larger, the others share the rest."""
    ends = torch.tensor([1.0, 0.0], dtype=torch.float64)
    whole, end = torch.atan2(schedule.sigma(ends), schedule.alpha(ends)).tolist()
    least = max(whole / steps, end)
    times, costs = of(schedule)
    path = times[least_costly(costs, steps)][:-1]
    angles = [*torch.atan2(schedule.sigma(path), schedule.alpha(path)).tolist(), 0.0]
    return least, max(t - s for t, s in pairwise(angles))


def cost_over_trailing(of: Callable[[Schedule], Costs], steps: int, schedule: Schedule) -> Compared:
    """By how much the path costs more than that through the candidates nearest to `trailing`."""
    times, costs = of(schedule)
    usual = SPACINGS["trailing"](schedule, steps)
    nearest = (times[:, None] - usual).abs().argmin(dim=0).tolist()
    spent = [
        sum(float(costs[i, j]) for i, j in pairwise(path))
        for path in (least_costly(costs, steps), nearest)
    ]
    return 0.0, max(0.0, spent[0] - spent[1])


def no_paths(
    spacings: Iterable[str], schedules: Iterable[Schedule], options: Mapping[str, Any] | None = None
) -> int:
    cases = product(spacings, schedules, COUNTS)
    return sum(not is_path(*case, options or {}) for case in cases)


def is_path(name: str, schedule: Schedule, steps: int, options: Mapping[str, Any]) -> bool:
    """Whether the spacing makes a path of so many steps, or says why it will not."""
    try:
        times = SPACINGS[name](schedule, steps, **{**written_out(name, steps), **options})
    except BadOption:
        return True
    falls = bool((times.diff() < 0).all())
    return len(times) == steps + 1 and falls and float(times[0]) <= 1 and float(times[-1]) == 0


def spacing_faults(name: str, bench: Bench) -> int:
    schedule = built_in_schedules()["linear"]
    options = {**written_out(name, 5), **bench.options}
    times = SPACINGS[name](schedule, 5, dtype=bench.dtype, **options)
    return int(times.dtype != bench.dtype)


def written_out(name: str, steps: int) -> dict[str, Any]:
    """The option without which `explicit` has no times."""
    return {"times": tuple(1 - k / steps for k in range(steps))} if name == "explicit" else {}
