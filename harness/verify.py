"""The mathematics checked on the user's own machine: `harness verify`.

Every registered schedule, spacing, sampler and target, those of other packages included, is held
against closed forms and identities (`oracles.py`): what is expected was derived by hand and is not
computed by the code that is checked. To add a claim, write what is known in `oracles.py` and make
it a `check` here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.diffusion.objective import TARGETS
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.errors import MachineError
from harness.metrics.distances import METRICS
from harness.oracles import (
    LAM,
    Bench,
    alone,
    eta_1_apart,
    eta_variance,
    every_schedule,
    faults,
    first_steps_apart,
    inverse_off,
    last_abar,
    last_step_off,
    miscounted,
    no_paths,
    off_the_set,
    order,
    posterior_off,
    rates_off,
    ready,
    rises,
    shrinkage,
    spread,
    spread_and_limit,
    target_apart,
    variance_off,
    worst,
)
from harness.runtime import machine

ABAR_AT_1 = {  # final abar, worked out from the papers' formulae
    "linear": 4.0358e-5, "scaled_linear": 4.6601e-3, "cosine": 0.02**2,
    "cosine_discrete": 2.4288e-9, "sigmoid": 1e-9, "laplace": 3.0590e-7,
    "shifted_cosine": 3.0590e-7,
}  # fmt: skip
ORDERS = {"ddim": 1, "euler": 1, "heun": 2, "ab2": 2, "dpmpp_2m": 2, "ipndm": 2, "deis": 3,
          "unipc": 3}  # fmt: skip
FIRST_STEP_OF = {  # samplers whose first step has nothing to remember
    "euler": "ddim", "ab2": "ddim", "ipndm": "ddim", "deis": "ddim", "dpmpp_2m": "ddim",
    "unipc": "ddim", "dpmpp_2m_sde": "ddpm",
}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One claim: what was expected, and what was found on this machine."""

    kind: str
    part: str
    claim: str
    expected: float
    found: float
    tolerance: float
    precision: str
    reason: str = ""  # why nothing was found

    @property
    def holds(self) -> bool:
        return abs(self.found - self.expected) <= self.tolerance  # false for NaN

    def as_json(self) -> dict[str, Any]:
        found = self.found if math.isfinite(self.found) else None
        return asdict(self) | {"found": found, "holds": self.holds}


Find = Callable[[], float | Tensor | tuple[float, float]]


def check(
    bench: Bench, what: str, claim: str, tolerance: float, find: Find, expected: float = 0.0
) -> Check:
    """`what` is a kind and a name; `find` gives what was found, or the (expected, found) that are
    furthest apart of several."""
    reason = ""
    try:
        found = find()
    except Exception as error:  # a plugin may raise anything: then its claim fails
        found, reason = math.nan, f"{type(error).__name__}: {error}"
    if isinstance(found, tuple):
        expected, found = found
    kind, part = what.split(" ", 1)
    return Check(kind, part, claim, expected, float(found), tolerance, bench.precision, reason)


def verify(precisions: Iterable[str], device: torch.device) -> Iterator[Check]:
    """Every check, in each of these precisions (`float32`, `float64`)."""
    for precision in precisions:
        bench = Bench(getattr(torch, precision), device)
        for claims in (of_schedules, of_spacings, of_samplers, of_targets, of_data, of_metrics):
            yield from claims(bench)


def of_schedules(bench: Bench) -> Iterator[Check]:
    for name, schedule in every_schedule().items():
        about = partial(check, bench, f"schedule {name}")
        yield about("alpha^2 + sigma^2 = 1", bench.ulps(8), partial(variance_off, schedule, bench))
        yield about("log SNR falls (table entries where not)", 0, partial(rises, schedule))
        yield about("t(log_snr(t)) = t, ends included", 1e-9, partial(inverse_off, schedule))
        yield about("log SNR = log(alpha^2 / sigma^2)", 1e-6, partial(rates_off, schedule))
        if name in ABAR_AT_1:
            yield about(
                "abar(1) over the paper's",
                1e-4 + bench.ulps(10),
                partial(last_abar, schedule, bench, ABAR_AT_1[name]),
                1.0,
            )


def of_spacings(bench: Bench) -> Iterator[Check]:
    for name in ready(SPACINGS):
        yield check(
            bench,
            f"spacing {name}",
            "N asked are N done (cases where not)",
            0,
            partial(no_paths, name),
        )
    whole = SCHEDULES.make("cosine", {"max_signal": 1.0})
    for steps in (10, 20, 100):
        yield check(
            bench,
            "spacing angle",
            f"DDIM on N(0, 1), {steps} steps: cos(theta / N)^N",
            bench.ulps(100 * steps),
            partial(spread, bench, "ddim", whole, "angle", steps, 1.0),
            math.cos(math.acos(0.02) / steps) ** steps,
        )


def of_samplers(bench: Bench) -> Iterator[Check]:
    for name in ready(SAMPLERS):
        about = partial(check, bench, f"sampler {name}")
        yield about("evaluations beyond those declared", 0, partial(miscounted, bench, name))
        yield about("the last step gives the estimate", 0, partial(last_step_off, bench, name))
        yield about("keeps dtype, draws once a step (faults)", 0, partial(faults, bench, name))
        yield about(
            f"spread of N(0, {LAM}), 500 log_snr",
            0.02,
            partial(worst, partial(spread_and_limit, bench, name)),
        )
        if like := FIRST_STEP_OF.get(name):
            yield about(
                f"first step is that of {like}",
                bench.ulps(100),
                partial(first_steps_apart, bench, name, like),
            )
        if name in ORDERS:
            yield about("order of convergence", 0.25, partial(order, bench, name), ORDERS[name])
    yield from of_ddim(bench)
    yield from of_ddpm(bench)


def of_ddim(bench: Bench) -> Iterator[Check]:
    """What is known of DDIM in closed form."""
    about = partial(check, bench, "sampler ddim")
    for spacing in ("uniform", "leading", "trailing", "linspace", "log_snr", "karras", "angle"):
        for steps in (10, 100):
            yield about(
                f"N(0, 1), {steps} {spacing}: product of cosines",
                bench.ulps(100 * steps),
                partial(worst, partial(shrinkage, bench, spacing, steps)),
            )
    first, end = math.acos(0.95), math.acos(0.02)
    for steps in (5, 10, 20, 100):
        d = (end - first) / steps
        yield about(
            f"N(0, 1) under the lab's cosine, {steps} steps",
            bench.ulps(100 * steps),
            partial(spread, bench, "ddim", SCHEDULES.make("cosine", {}), "uniform", steps, 1.0),
            math.cos(d) ** (steps - 1) * math.cos(first + d),
        )
    for eta in (0.5, 1.0):
        yield about(
            f"variance by its recursion, eta = {eta:g}",
            bench.ulps(5000),
            partial(worst, partial(eta_variance, bench, eta)),
        )


def of_ddpm(bench: Bench) -> Iterator[Check]:
    """What is known of DDPM, with either variance."""
    yield check(
            bench,
        "sampler ddpm", "is ddim at eta = 1", bench.ulps(5000),
        partial(worst, lambda schedule: (0.0, eta_1_apart(bench, schedule))),
    )  # fmt: skip
    yield check(
            bench,
        "sampler ddpm", "one step: the posterior's mean and variance", bench.ulps(5000),
        partial(worst, lambda schedule: (0.0, posterior_off(bench, schedule))),
    )  # fmt: skip
    last_noise = partial(spread, bench, "ddpm_large", last_noise=True)
    yield check(
            bench,
        "sampler ddpm_large", "exact on N(0, 1) with its last noise", bench.ulps(5000),
        partial(worst, lambda schedule: (1.0, last_noise(schedule, "trailing", 13, 1.0))),
    )  # fmt: skip


def of_targets(bench: Bench) -> Iterator[Check]:
    tolerance = 1e-9 if bench.dtype == torch.float64 else 1e-3  # noise is divided by alpha(1)
    for name in TARGETS:
        yield check(
            bench,
            f"target {name}",
            "the samples of the exact denoiser",
            tolerance,
            partial(worst, partial(target_apart, bench, name)),
        )


def of_data(bench: Bench) -> Iterator[Check]:
    yield check(
        bench, "data finite", "distance of a sample from the set", 1e-3, partial(off_the_set, bench)
    )
    yield check(
        bench,
        "data mixture",
        "of one Gaussian is that Gaussian",
        bench.ulps(50),
        partial(alone, bench),
    )


def of_metrics(bench: Bench) -> Iterator[Check]:
    if bench.dtype != torch.float64:  # metrics never compute in anything else
        return
    features = np.random.default_rng(0).standard_normal((200, 6))
    moved = np.array([0.5, -0.3, 0, 0.2, 0, 0])
    kernel = (features @ features.T / 6 + 1) ** 3
    diagonal = float(np.diag(kernel).mean())
    off = (float(kernel.sum()) - 200 * diagonal) / (200 * 199)
    yield check(
            bench,
        "metric fid", "of a set and itself moved: distance squared", 1e-9,
        partial(METRICS["fid"].function, features + moved, features), float(moved @ moved),
    )  # fmt: skip
    yield check(
            bench,
        "metric kid", "of a set and itself: 2 (off - diagonal) / n", 1e-9,
        partial(METRICS["kid"].function, features, features), 2 * (off - diagonal) / 200,
    )  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """All checks that were made on one machine, and how long they took."""

    machine: str
    checks: list[Check]
    seconds: float

    @property
    def holds(self) -> bool:
        return all(check.holds for check in self.checks)

    def as_text(self) -> str:
        """A table for a person, what fails last, and the sum of it."""
        heading = ["", "part", "claim", "expected", "found", "tolerance", "in"]
        rows = [
            [
                "ok" if check.holds else "FAILS", f"{check.kind} {check.part}", check.claim,
                f"{check.expected:.6g}", f"{check.found:.6g}", f"{check.tolerance:.2g}",
                check.precision,
            ]
            for check in sorted(self.checks, key=lambda check: not check.holds)
        ]  # fmt: skip
        wide = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, wide, strict=True)).rstrip()
            for row in [heading, *rows]
        ]
        reasons = [
            f"{check.kind} {check.part}: {check.reason}" for check in self.checks if check.reason
        ]
        failed = sum(not check.holds for check in self.checks)
        return "\n".join(
            [
                *lines,
                "",
                *dict.fromkeys(reasons),
                f"{len(self.checks)} claims checked on {self.machine} in {self.seconds:.0f} s; "
                + (f"{failed} do not hold." if failed else "all hold."),
                "Of what was tried under several schedules, the worst is shown.",
            ]
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "seconds": self.seconds,
            "holds": self.holds,
            "checks": [check.as_json() for check in self.checks],
        }


def verify_here(precision: str, device_name: str) -> Verdict:
    """Every check in `float32`, `float64` or `both`. Raises MachineError where the device is not
    there or does not compute in that precision."""
    device = machine.find_device(device_name)
    precisions = ["float64", "float32"] if precision == "both" else [precision]
    if "float64" in precisions and device.type == "mps":
        raise MachineError(
            f"device '{device_name}' does not compute in float64; --precision float32 would do"
        )
    began = time.monotonic()
    checks = list(verify(precisions, device))
    return Verdict(machine.name(device), checks, time.monotonic() - began)
