"""Step spacings: at which times a sampler evaluates the network.

A spacing is a function of the schedule and the number of steps that returns the times t_0 > t_1
> ... > t_{N-1} before the end; 0 follows. N asked is N done. The choice is the commonest reason
that published figures cannot be reproduced, so every row of results names it. To add one, write
the rule under `@spacing(...)`, which says what must be known of it, and name it in SPACINGS.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import update_wrapper
from itertools import pairwise
from typing import Annotated, Any

from harness.diffusion.schedules import Schedule, T
from harness.errors import BadOption
from harness.lazy import torch
from harness.registry import Between, Registry

Rule = Callable[..., Sequence[float]]
Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Fitting:
    """How much of a network's own sampling paths steps are fitted to."""

    candidates: int = 100  # times to choose from
    images: int = 32  # whose paths are followed through all of them

    @property
    def evaluations(self) -> int:
        """Network evaluations of single images."""
        return self.candidates * self.images


@dataclass(eq=False)
class Spacing:
    """A rule for times, the numbers of steps it can make and the schedules it can be made for.
    One that picks `from_table` makes no more steps than the schedule's table has.

    Called with (schedule, steps, dtype=float64, **options) it gives a tensor [steps + 1] that
    falls from the first time to 0. Raises BadOption where the rule cannot give that.
    """

    rule: Rule
    formula: str
    fewest: int
    from_table: bool
    from_signal: bool
    check: Callable[..., object] | None
    fitting: Callable[..., Fitting] | None  # by its options; None: it needs no denoiser

    def __post_init__(self) -> None:
        update_wrapper(self, self.rule)

    def check_steps(self, steps: int, **options: Any) -> None:
        """Raises BadOption where this spacing has no such number of steps."""
        name = self.rule.__name__
        if self.check:
            self.check(steps, **options)
        if steps < self.fewest:
            raise BadOption(
                f"spacing '{name}' needs at least {self.fewest} steps, not {steps}. Use more, or "
                "spacing 'trailing'."
            )

    def check_schedule(self, schedule: Schedule, steps: int = 1) -> None:
        """Raises BadOption where there are no such times, or not so many, for this schedule."""
        name = self.rule.__name__
        if self.from_signal and schedule.ends_in_pure_noise:
            raise BadOption(
                f"spacing '{name}' cannot begin where no signal is left (zero terminal SNR): log "
                "SNR is infinite there. Use spacing 'uniform', 'trailing' or 'angle'."
            )
        if self.from_table and steps > (most := table_of(schedule)):
            raise BadOption(
                f"spacing '{name}' picks from a table of {most} times: {steps} steps are more than "
                "it has. Use spacing 'uniform', which takes any number."
            )

    def __call__(
        self, schedule: Schedule, steps: int, dtype: torch.dtype | None = None, **options: Any
    ) -> torch.Tensor:
        self.check_steps(steps, **options)
        self.check_schedule(schedule, steps)
        rule = [*self.rule(schedule, steps, **options), 0.0]
        times = torch.tensor(rule, dtype=dtype or torch.float64)
        if not bool((times.diff() < 0).all()):
            raise BadOption(
                f"spacing '{self.rule.__name__}' has no {steps} times that differ under this "
                "schedule. Use fewer steps, or spacing 'trailing'."
            )
        return times


def spacing(
    *,
    formula: str = "",
    fewest: int = 1,
    from_table: bool = False,
    from_signal: bool = False,
    check: Callable[..., object] | None = None,
    fitting: Callable[..., Fitting] | None = None,
) -> Callable[[Rule], Spacing]:
    """Makes a rule a spacing that refuses fewer steps than these; `from_table` one that refuses
    more than the schedule's table has; `from_signal` one that refuses schedules with zero terminal
    SNR; `check(steps, **options)` may refuse more; `fitting` says, by its options, how one that
    needs a network is fitted to it. The formula, as in a paper, is for the page."""
    return lambda rule: Spacing(rule, formula, fewest, from_table, from_signal, check, fitting)


def table_of(schedule: Schedule) -> int:
    """T: the steps of the schedule's table; of one that is a formula, the usual number."""
    return schedule.table_steps or T


@spacing(formula="t_k = 1 − k/N")
def uniform(schedule: Schedule, steps: int) -> Sequence[float]:
    """Even steps from t = 1 to 0."""
    return [1 - k / steps for k in range(steps)]


@spacing(
    formula="t_k = (⌊T/N⌋ (N − 1 − k) + 1)/T, which never starts at pure noise",
    fewest=2,
    from_table=True,
)
def leading(schedule: Schedule, steps: int) -> Sequence[float]:
    """Every floor(T/N)-th table entry from the first, never from T (Lin et al. 2024, table 2).

    From N = T/2 + 1 on it starts below t = 0.5.
    """
    size = table_of(schedule)
    return [((size // steps) * (steps - 1 - k) + 1) / size for k in range(steps)]


@spacing(formula="t_k = round(T − kT/N)/T", from_table=True)
def trailing(schedule: Schedule, steps: int) -> Sequence[float]:
    """Every (T/N)-th table entry from the last, rounded (Lin et al. 2024, table 2)."""
    size = table_of(schedule)
    # Fractions round their exact value half to even; floats would round their own error.
    return [round(Fraction(size * (steps - k), steps)) / size for k in range(steps)]


@spacing(formula="N evenly spaced values from T to 1, rounded, over T", from_table=True)
def linspace(schedule: Schedule, steps: int) -> Sequence[float]:
    """Even steps from the last table entry to the first, rounded (Lin et al. 2024, table 2)."""
    if steps == 1:
        return [1.0]
    size = table_of(schedule)
    return [round(size - Fraction((size - 1) * k, steps - 1)) / size for k in range(steps)]


@spacing(
    formula="t_k = (u_k² + 1)/T, u_k evenly spaced from √(0.8 T) down to 0",
    fewest=2,
    from_table=True,
)
def quadratic(schedule: Schedule, steps: int) -> Sequence[float]:
    """Squares of even steps, dense near the image, from t = 0.801 (Song et al. 2021a, CIFAR-10).

    Not rounded to the table, where small steps would collide.
    """
    size = table_of(schedule)
    root = (0.8 * size) ** 0.5
    return [((root * (1 - k / (steps - 1))) ** 2 + 1) / size for k in range(steps)]


@spacing(
    formula="evenly spaced in log SNR, from t = 1 to 1/T (to 0 where log SNR is finite there)",
    from_signal=True,
)
def log_snr(schedule: Schedule, steps: int) -> Sequence[float]:
    """Even steps of log SNR (Lu et al. 2022a) from t = 1 to the first table entry.

    Where log SNR is finite at t = 0, the even steps go on to there.
    """

    def place(share: torch.Tensor, first: float, last: float) -> torch.Tensor:
        return first + share * (last - first)

    return _evenly(schedule, steps, place)


@spacing(
    formula="evenly spaced in (σ/α)^(1/ρ) between the same ends, ρ = 7 unless said otherwise "
    "(Karras et al. 2022)",
    from_signal=True,
)
def karras(
    schedule: Schedule, steps: int, *, rho: Annotated[float, Between(1, 100)] = 7.0
) -> Sequence[float]:
    """Even steps of (sigma / alpha)^(1 / rho) (Karras et al. 2022, eq. 5), between the same ends.

    rho = 1 is even in sigma / alpha; the larger it is, the nearer to `log_snr`.
    """

    def place(share: torch.Tensor, first: float, last: float) -> torch.Tensor:
        root_first, root_last = (math.exp(-end / (2 * rho)) for end in (first, last))
        return -2 * rho * torch.log(root_first + share * (root_last - root_first))

    return _evenly(schedule, steps, place)


@spacing(
    formula="evenly spaced in the angle atan2(σ, α c), c the standard deviation of the data, 1 "
    "unless said otherwise"
)
def angle(
    schedule: Schedule, steps: int, *, data_std: Annotated[float, Between(1e-3, 100)] = 1.0
) -> Sequence[float]:
    """Even steps of the angle atan2(sigma, alpha c), c the standard deviation of the data.

    For Gaussian data of that spread, DDIM shrinks least on these times.
    """
    ends = torch.tensor([1.0, 0.0], dtype=torch.float64)
    first, last = torch.atan2(schedule.sigma(ends), schedule.alpha(ends) * data_std).tolist()
    angles = first + torch.arange(1, steps, dtype=torch.float64) / steps * (last - first)
    return [1.0, *schedule.t(-2 * torch.log(data_std * torch.tan(angles))).tolist()]


def _evenly(
    schedule: Schedule, steps: int, place: Callable[[torch.Tensor, float, float], torch.Tensor]
) -> Sequence[float]:
    """N times even in a function of log SNR, which `place(share, first, last)` inverts.

    From t = 1 to 1 / T, both included, since log SNR is infinite at 0; where it is finite there,
    to 0, which is then the end of the last of N even steps.
    """
    is_finite = bool(schedule.log_snr(torch.zeros(1, dtype=torch.float64)).isfinite())
    last_time = 0.0 if is_finite else 1 / table_of(schedule)
    ends = torch.tensor([1.0, last_time], dtype=torch.float64)
    first, last = schedule.log_snr(ends).tolist()
    share = torch.arange(steps, dtype=torch.float64) / max(1, steps if is_finite else steps - 1)
    times: list[float] = schedule.t(place(share, first, last)).tolist()
    times[0] = 1.0
    if not is_finite and steps > 1:
        times[-1] = last_time
    return times


def _check_explicit(steps: int, *, times: Numbers = ()) -> Sequence[float]:
    if not all(isinstance(t, int | float) and not isinstance(t, bool) for t in times):
        raise BadOption(
            f"spacing 'explicit': times must be numbers, not {list(times)}. Use such as [1.0, 0.5]."
        )
    falls = all(s < t for t, s in pairwise([*times, 0.0]))  # false for NaN
    if not (times and times[0] <= 1 and falls):
        raise BadOption(
            "spacing 'explicit': times must fall from at most 1 and stay above 0 (the last step to "
            f"0 is not listed), not {list(times)}. Use such as [1.0, 0.6, 0.2]."
        )
    if steps != len(times):
        raise BadOption(
            f"spacing 'explicit' lists {len(times)} times, which make so many steps, not {steps}. "
            f"Use steps: [{len(times)}]."
        )
    return times


@spacing(formula="the times that are listed", check=_check_explicit)
def explicit(schedule: Schedule, steps: int, *, times: Numbers = ()) -> Sequence[float]:
    """These times, written out: {name: explicit, times: [1.0, 0.6, 0.2]} for 3 steps."""
    return times


def _check_fitted(steps: int, **options: int) -> None:
    if steps > (candidates := Fitting(**options).candidates):
        raise BadOption(
            f"spacing 'fitted' chooses among {candidates} times: {steps} steps are more than that. "
            f"Use fewer steps, or its option candidates of at least {steps}."
        )


@spacing(
    formula="of candidates evenly spaced in atan2(σ, α) the N that lie least in sum off the "
    "denoiser's own path: each step of DDIM by its distance from the path where it ends, over the "
    "standard deviation of images there (after GITS, Chen et al. 2024)",
    check=_check_fitted,
    fitting=Fitting,
)
def fitted(
    schedule: Schedule,
    steps: int,
    *,
    candidates: Annotated[int, Between(2, 1000)] = Fitting.candidates,
    images: Annotated[int, Between(2, 1024)] = Fitting.images,
) -> Sequence[float]:
    """Fitted to each network by dynamic programming over its own sampling paths (GITS).

    `candidates` times are chosen from, on the paths of so many `images`. The times that came of it
    are recorded with each cell. Raises BadOption: without a network there are no times.
    """
    raise BadOption(
        "spacing 'fitted' has no times without a denoiser, to which they are fitted when a cell is "
        "sampled. Use the times that are recorded with such a cell, as spacing 'explicit', or "
        "spacing 'angle', which needs no denoiser."
    )


def fitting_of(name: str, **options: Any) -> Fitting | None:
    """How the spacing of this name is fitted to a network; None of one that needs none."""
    of: Callable[..., Fitting] | None = getattr(SPACINGS[name], "fitting", None)
    return of(**options) if of else None


SPACINGS = Registry(
    "spacing",
    {
        "uniform": uniform,
        "leading": leading,
        "trailing": trailing,
        "linspace": linspace,
        "quadratic": quadratic,
        "log_snr": log_snr,
        "karras": karras,
        "angle": angle,
        "explicit": explicit,
        "fitted": fitted,
    },
    given=("schedule", "steps", "dtype"),
    contract="""A function, best under @spacing(...) of harness.diffusion.times:

    spacing(schedule, steps, dtype=torch.float64, **options) -> times, a tensor [steps + 1]

Under @spacing(...) the function need only give the times before 0:

    rule(schedule, steps, *, option=default) -> steps numbers that fall from at most 1, all above 0

schedule has log_snr(t), alpha(t), sigma(t) and the inverse t(log_snr). N steps asked are N.""",
)
