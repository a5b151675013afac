"""Verdicts on one question: which levels of a factor differ, overall and in each configuration.

A family of hypotheses is a question, not a report. Half of its error rate is on the main effects
and half on the configurations, Holm's procedure inside each; what a half no longer needs passes to
the other (Bretz et al. 2009, graphical procedure). Of a factor that retrains, values are put on a
relative scale and the between-seed variance is pooled over its levels, with Welch's test where
the levels' variances differ visibly. `docs/pages/verdicts.md` has the simulation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from harness.analysis.statistics import Interval

Verdict = Literal["better", "worse", "inconclusive"]
Pair = tuple[int, int]

ALPHA = 0.05
# What each look at the data may spend of it, where there is more than one: written down before.
SPENT = (0.02, 0.015, 0.01, 0.005)
LOGARITHMIC = 0.01  # of the mean size: with a value below it, a configuration has no logarithms
UNEQUAL = 0.01  # level of Bartlett's test
MEANINGLESS = 3.0  # a relative change this large, or known no better: the value is near zero
MAIN = -1  # in the place of a configuration's number
MOST_SEEDS = 100  # beyond this a forecast of seeds says nothing

TRAINING, SAMPLING = "training and sampling", "sampling only"
ONE_SEED = "one training seed gives no verdict on what is trained"
NO_PAIR = "no training seed has both"
CONSTANT = "the differences do not vary, so nothing measures their error"
UNMEASURED = "the metric states no error"
DISAGREE = "the networks disagree"
NOT_SIGNIFICANT = "not significant"


@dataclass(frozen=True)
class Effect:
    """How the first level or configuration differs from the second, as the logarithm of their
    ratio (where values near zero have none: their difference over their mean), and the verdict.

    `p` is for this effect alone; `adjusted` is within its question, NaN before it was judged.
    """

    value: float
    error: float
    degrees: float  # of freedom; infinite for a normal distribution
    n: int  # training seeds; networks where only sampling varies
    covers: str
    lower_is_better: bool = True
    levels: int = 2  # whose between-seed variances are pooled
    is_welch: bool = False
    is_paired: bool = False  # image by image
    reason: str = ""  # why there can be no verdict
    adjusted: float = np.nan
    verdict: Verdict = "inconclusive"
    look: int = 0  # that decided it, from 1; 0 where there was one look
    is_ratio: bool = True  # of logarithms alone; else values are near zero, and a share is vague

    @property
    def p(self) -> float:
        """Two-sided; NaN where nothing measures the error, or there can be no verdict."""
        if self.reason or not (np.isfinite(self.value) and self.error > 0):
            return np.nan
        return float(2 * special.stdtr(min(self.degrees, 1e9), -abs(self.value) / self.error))

    @property
    def interval(self) -> Interval:
        """The logarithm of the ratio, with its 95 % bounds."""
        if not self.error > 0:
            return Interval(self.value, np.nan, np.nan, self.n)
        reach = float(quantile(self.degrees, ALPHA)) * self.error
        return Interval(self.value, self.value - reach, self.value + reach, self.n)

    @property
    def change(self) -> Interval:
        """By which share the first is above the second: -0.56 is 56 % lower."""
        span = self.interval
        low, value, high = np.expm1([span.low, span.estimate, span.high])
        return Interval(float(value), float(low), float(high), self.n)

    @property
    def is_first_ahead(self) -> bool:
        """By the mean, whatever the verdict."""
        return (self.value < 0) == self.lower_is_better

    @property
    def level(self) -> float:
        """The error rate at which it was tested within its question."""
        return ALPHA * self.p / self.adjusted if self.adjusted > 0 else ALPHA

    @property
    def why(self) -> str:
        """Why there is no verdict; empty where there is one."""
        if self.verdict != "inconclusive":
            return ""
        if self.reason:
            return self.reason
        return f"{NOT_SIGNIFICANT} after correction" if self.p < ALPHA else NOT_SIGNIFICANT

    @property
    def reversed(self) -> Effect:
        """The same, of the second against the first."""
        other: Mapping[Verdict, Verdict] = {"better": "worse", "worse": "better"}
        verdict = other.get(self.verdict, "inconclusive")
        return replace(self, value=-self.value, verdict=verdict)

    def judged(self, adjusted: float, alpha: float = ALPHA, look: int = 0) -> Effect:
        """The effect with its p-value within the question, and what that allows to say."""
        known = replace(self, adjusted=adjusted)
        if not adjusted <= alpha:
            return known
        return replace(known, verdict="better" if self.is_first_ahead else "worse", look=look)

    def judged_as(self, other: Effect) -> Effect:
        """With the verdict of another effect."""
        return replace(self, adjusted=other.adjusted, verdict=other.verdict, look=other.look)

    def seeds_needed(self) -> int | None:
        """How many training seeds would settle it if effect and variance stay as they are; None
        where more than MOST_SEEDS would be needed or nothing can be foreseen."""
        if self.covers != TRAINING or self.n < 2 or not np.isfinite(self.p):
            return None
        n = np.arange(self.n + 1, MOST_SEEDS + 1)
        error = self.error * np.sqrt(self.n / n)
        enough = n[quantile(self.levels * (n - 1), self.level) * error < abs(self.value)]
        return int(enough[0]) if len(enough) else None

    def images_needed(self) -> float | None:
        """How many times as many images would settle it; None where that cannot be foreseen."""
        if self.covers != SAMPLING or not np.isfinite(self.p) or self.value == 0:
            return None
        return float((quantile(np.inf, self.level) * self.error / self.value) ** 2)


def is_vague(change: Interval) -> bool:
    """Whether a relative change says nothing, since what it is relative to is near zero."""
    return not abs(change.estimate) <= MEANINGLESS or change.high - change.low > MEANINGLESS


@dataclass(frozen=True)
class Decision:
    """One question answered: the effects of each pair of levels (i, j), i < j."""

    main: Mapping[Pair, Effect]
    details: Mapping[Pair, tuple[Effect, ...]]

    @property
    def overall(self) -> dict[Pair, Verdict]:
        """Of level i against level j over all configurations. Inconclusive where a configuration is
        decided the other way: then neither is better overall."""
        return {
            pair: "inconclusive" if opposed(effect, self.details[pair]) else effect.verdict
            for pair, effect in self.main.items()
        }

    @property
    def by_configuration(self) -> dict[Pair, list[Verdict]]:
        """By pair of levels, the verdict in each configuration, in their order."""
        return {pair: [one.verdict for one in effects] for pair, effects in self.details.items()}


def decide(values: ArrayLike, *, alpha: float = ALPHA, lower_is_better: bool = True) -> Decision:
    """Judge one question about a factor that retrains.

    values [levels, seeds, configurations] are a metric's, less its bias, NaN where a cell is
    missing. Raises ValueError for another shape, fewer than two levels, or infinite values.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 3 or len(array) < 2 or np.isinf(array).any():
        raise ValueError(
            f"values have the shape {array.shape}. Use finite ones of [levels, seeds, "
            "configurations] with two levels or more, NaN where a cell is missing."
        )
    pairs = list(combinations(range(len(array)), 2))
    main, details = seed_effects(array, pairs, lower_is_better)
    return judge(main, details, alpha)


def seed_effects(
    values: NDArray[np.float64], pairs: Sequence[Pair], lower_is_better: bool = True
) -> tuple[dict[Pair, Effect], dict[Pair, tuple[Effect, ...]]]:
    """The main effect of each pair of levels and its effect in each configuration, not yet judged,
    of values [levels, seeds, configurations] whose seeds are independent."""
    scaled, is_ratio = relative(values), have_logarithms(values)
    main, details = {}, {}
    for pair in pairs:
        i, j = pair
        there = np.isfinite(scaled[i]) & np.isfinite(scaled[j])
        seeds, configurations = complete_block(there)
        block = scaled[:, seeds][:, :, configurations]
        means = block.mean(axis=2) if block.size else np.full((len(values), 0), np.nan)
        effect = _seed_effect(means, pair, lower_is_better)
        main[pair] = replace(effect, is_ratio=bool(is_ratio[configurations].all()))
        details[pair] = tuple(
            replace(
                _seed_effect(scaled[:, :, c], pair, lower_is_better), is_ratio=bool(is_ratio[c])
            )
            for c in range(scaled.shape[2])
        )
    return main, details


def relative(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values [levels, seeds, configurations] on a scale on which differences are relative: the
    logarithm in a configuration where all values are clearly positive, else the value over the
    mean size there, since an unbiased KID may be zero or below. Both agree to the third order."""
    size = _mean_size(values)
    shares = values / np.where(size > 0, size, 1)
    logarithms = np.log(np.where(shares > 0, shares, np.nan))
    return np.where(have_logarithms(values), logarithms, shares)


def have_logarithms(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """In which configurations all values [levels, seeds, configurations] are clearly positive."""
    least = np.where(np.isfinite(values), values, np.inf).min(axis=(0, 1), initial=np.inf)
    clear: NDArray[np.bool_] = least > LOGARITHMIC * _mean_size(values)
    return clear


def _mean_size(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the values in each configuration; 0 where there are none."""
    there = np.isfinite(values)
    total = np.where(there, np.abs(values), 0).sum(axis=(0, 1))
    return np.asarray(total / np.maximum(there.sum(axis=(0, 1)), 1), np.float64)


def complete_block(there: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The seeds and configurations of a table without gaps: of the seeds that have everything, or
    of the configurations that every seed has, whichever keeps more cells. `there` says of each
    of [seeds, configurations] whether it is; the answers are indices, [S] and [C]."""
    seeds, configurations = there.any(axis=1), there.any(axis=0)
    whole_seeds = seeds & there[:, configurations].all(axis=1)
    whole_configurations = configurations & there[seeds].all(axis=0)
    by_seed = whole_seeds.sum() * configurations.sum()
    if whole_seeds.sum() >= 2 and by_seed >= seeds.sum() * whole_configurations.sum():
        return np.flatnonzero(whole_seeds), np.flatnonzero(configurations)
    return np.flatnonzero(seeds), np.flatnonzero(whole_configurations)


def judge(
    main: Mapping[Pair, Effect],
    details: Mapping[Pair, Sequence[Effect]],
    alpha: float = ALPHA,
    before: Decision | None = None,
    look: int = 0,
) -> Decision:
    """All effects of a question, judged together. With a single configuration, the main effect is
    that of the configuration, and tested once. What `before` has decided stays decided."""
    is_single = {
        pair: sum(np.isfinite(one.p) for one in several) < 2 for pair, several in details.items()
    }
    effects = {(pair, MAIN): one for pair, one in main.items()}
    effects |= {
        (pair, c): one
        for pair, several in details.items()
        if not is_single[pair]
        for c, one in enumerate(several)
    }
    found = {
        place: one.judged_as(old)  # its numbers may be newer, the verdict stands
        for place, one in effects.items()
        if (old := _decided(before, *place))
    }
    new = [place for place in effects if place not in found]
    adjusted = graphical(
        np.array([effects[place].p for place in new if place[1] == MAIN]),
        np.array([effects[place].p for place in new if place[1] != MAIN]),
    )
    for place, p in zip(new, adjusted, strict=True):
        found[place] = effects[place].judged(p, alpha, look)
    return Decision(
        {pair: found[pair, MAIN] for pair in main},
        {
            pair: tuple(
                found[pair, c]
                if not is_single[pair]
                else one.judged_as(found[pair, MAIN])
                if np.isfinite(one.p)
                else one
                for c, one in enumerate(several)
            )
            for pair, several in details.items()
        },
    )


def graphical(main: NDArray[np.float64], details: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjusted p-values of main effects and then of details, in the order given; NaN stays NaN,
    and what could not be tested does not make the others pay.

    Each of the two families has half of the error rate, by Holm's procedure; the whole once the
    other has no hypothesis left (Bretz et al. 2009). Of p-values [M] and [D] it
    gives [M + D].
    """
    p = np.concatenate([main, details])
    adjusted = np.full(len(p), np.nan)
    is_main = np.arange(len(p)) < len(main)
    left = [
        [int(k) for k in np.argsort(p, kind="stable") if of[k] and np.isfinite(p[k])]
        for of in (is_main, ~is_main)
    ]
    largest = 0.0
    while any(left):
        share = 0.5 if all(left) else 1.0
        costs = [p[of[0]] * len(of) / share if of else np.inf for of in left]
        family = left[int(costs[1] < costs[0])]
        largest = min(1.0, max(largest, *[min(costs)]))
        adjusted[family.pop(0)] = largest
    return adjusted


def opposed(effect: Effect, details: Sequence[Effect]) -> bool:
    """Whether a configuration is decided against a main effect."""
    against = {"better": "worse", "worse": "better"}.get(effect.verdict)
    return any(one.verdict == against for one in details)


def quantile(degrees: ArrayLike, level: float) -> NDArray[np.float64]:
    """Of Student's distribution: beyond it, on both sides, lies this share; in any shape."""
    return np.asarray(special.stdtrit(np.minimum(degrees, 1e9), 1 - level / 2), np.float64)


def _decided(decision: Decision | None, pair: Pair, place: int) -> Effect | None:
    """What an earlier look has decided."""
    if decision is None or pair not in decision.main:
        return None
    several = decision.details[pair]
    old = decision.main[pair] if place == MAIN else several[place]
    return None if old.verdict == "inconclusive" else old


def _seed_effect(means: NDArray[np.float64], pair: Pair, lower_is_better: bool) -> Effect:
    """Of one value for each level and seed [levels, seeds]."""
    i, j = pair
    both = np.isfinite(means[i]) & np.isfinite(means[j])
    n = int(both.sum())
    value = float((means[i, both] - means[j, both]).mean()) if n else np.nan
    nothing = Effect(
        value, np.nan, np.nan, n, TRAINING, lower_is_better,
        reason={0: NO_PAIR, 1: ONE_SEED}.get(n, ""),
    )  # fmt: skip
    if nothing.reason:
        return nothing
    own = [means[i, both], means[j, both]]
    others = [row[np.isfinite(row)] for k, row in enumerate(means) if k not in pair]
    groups = own + [row for row in others if len(row) > 1]
    variances = np.array([row.var(ddof=1) for row in groups], dtype=np.float64)
    degrees = np.array([len(row) - 1 for row in groups])
    rounding = 1e-12 * max(float(np.abs(row).max()) for row in own)
    if variances.max() <= rounding**2:
        return replace(nothing, reason=CONSTANT)
    if are_unequal(variances, degrees):
        one, other = variances[:2] / n
        free = (one + other) ** 2 / ((one**2 + other**2) / (n - 1))
        return replace(
            nothing, error=float((one + other) ** 0.5), degrees=float(free), is_welch=True
        )
    pooled = float((variances * degrees).sum() / degrees.sum())
    return replace(
        nothing, error=float((2 * pooled / n) ** 0.5), degrees=float(degrees.sum()),
        levels=len(groups),
    )  # fmt: skip


def are_unequal(variances: NDArray[np.float64], degrees: NDArray[np.intp]) -> bool:
    """Whether Bartlett's test (1937) rejects that these variances [levels] are equal."""
    total, k = degrees.sum(), len(variances)
    pooled = (variances * degrees).sum() / total
    if variances.min() <= 0:
        return False  # the variance of a constant level has no logarithm
    statistic = total * np.log(pooled) - (degrees * np.log(variances)).sum()
    statistic /= 1 + ((1 / degrees).sum() - 1 / total) / (3 * (k - 1))
    return bool(special.chdtrc(k - 1, statistic) < UNEQUAL)
