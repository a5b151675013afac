"""The denoising error of the networks of a study by log SNR: of several seeds, at the levels that
all were trained on, and along the levels that a sampler visits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from harness.analysis.decisions import ALPHA, SPENT, Decision, Verdict, decide
from harness.analysis.reference import mean_of
from harness.analysis.statistics import Interval, mean_interval
from harness.analysis.study import Study
from harness.work.results import PATH_CURVE, CellResult, Denoising, DenoisingError, Mean

Array = NDArray[np.float64]
Of = Callable[[DenoisingError], float | None]


@dataclass(frozen=True, eq=False)
class Learned:
    """The denoising errors of networks that are trained alike but for their seed."""

    trained: str  # their label
    by_seed: Mapping[int, Denoising]

    @cached_property
    def held_out(self) -> Array:
        """[seeds, levels], on held-out images."""
        return self.each(lambda one: one.held_out.value)

    @cached_property
    def train(self) -> Array:
        """[seeds, levels], on training images."""
        return self.each(lambda one: one.train.value)

    @property
    def first(self) -> Denoising:
        """The denoising error of the first seed, for what all seeds share: the levels."""
        return next(iter(self.by_seed.values()))

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """At which of the levels they were trained, [levels]."""
        return np.array([not one.is_outside for one in self.first.levels])

    def each(self, value: Of) -> Array:
        """A value at each level of each seed, [seeds, levels]; NaN where there is none."""
        rows = [[value(one) for one in found.levels] for found in self.by_seed.values()]
        return np.array(rows, dtype=np.float64)  # NaN where there is none

    def over_seeds(self, of: Callable[[Denoising], Mean | None]) -> Interval | None:
        """The mean of a value of each network over seeds; of one network alone, its interval over
        images. None where it was not measured of all."""
        found = [of(one) for one in self.by_seed.values()]
        known = [one for one in found if one]
        if not known or len(known) < len(found):
            return None
        if len(known) > 1:
            return mean_interval([one.value for one in known])
        return mean_of((one.value, one.standard_error) for one in known)


@dataclass(frozen=True, eq=False)
class Levels:
    """What was measured of all networks of a study, at the same levels."""

    log_snr: Array  # as the networks see it; for pixels in -1..1 where their scales differ
    learned: tuple[Learned, ...]  # by label
    linear: Array  # of the best linear denoiser
    exact: Array  # NaN where unknown
    has_scales: bool  # whether they differ in the scale of the data
    alpha: float = ALPHA  # that this look may spend

    @property
    def axis(self) -> str:
        """What their log SNR is called."""
        return "log SNR of pixels in −1..1" if self.has_scales else "log SNR"

    @property
    def common(self) -> NDArray[np.bool_]:
        """Which levels all networks were trained on, [levels]."""
        found: NDArray[np.bool_] = np.all([one.inside for one in self.learned], axis=0)
        return found

    def seen(self, log_snr: Array, of: Denoising) -> Array:
        """What a network calls by these log SNRs, as they are called here."""
        return log_snr + of.offset * self.has_scales

    @cached_property
    def decision(self) -> Decision | None:
        """Which networks have the lower error on held-out images, overall and at each common level;
        None where there is one kind of them, or no such level."""
        if len(self.learned) < 2 or not self.common.any():
            return None
        seeds = sorted({seed for one in self.learned for seed in one.by_seed})
        values = np.full((len(self.learned), len(seeds), int(self.common.sum())), np.nan)
        for level, one in enumerate(self.learned):
            places = [seeds.index(seed) for seed in one.by_seed]
            values[level, places] = one.held_out[:, self.common]
        return decide(values, alpha=self.alpha)

    @property
    def decided(self) -> tuple[str, str] | None:
        """Of the largest difference over all levels that is significant, the better one first."""
        if self.decision is None:
            return None
        sizes = {
            pair: abs(self.decision.main[pair].value)
            for pair, one in self.decision.overall.items()
            if one != "inconclusive"
        }
        if not sizes:
            return None
        pair = max(sizes, key=lambda each: sizes[each])
        first, second = (self.learned[place].trained for place in pair)
        is_first = self.decision.overall[pair] == "better"
        return (first, second) if is_first else (second, first)

    def is_lowest(self, label: str) -> NDArray[np.bool_]:
        """At which common levels these networks have the lowest error by the mean, significant or
        not; [levels]."""
        means = {one.trained: one.held_out.mean(0) for one in self.learned}
        least: NDArray[np.bool_] = means[label] == np.min([*means.values()], axis=0)
        return least & self.common

    def against_all(self, label: str, verdict: Verdict) -> NDArray[np.bool_]:
        """At which levels these networks are "better" than all others, or "worse" than one;
        [levels]."""
        found = np.zeros(len(self.log_snr), dtype=bool)
        if self.decision is None:
            return found
        place = [one.trained for one in self.learned].index(label)
        turned = {"better": "worse", "worse": "better"}[verdict]
        rows = [
            [one == (verdict if place == pair[0] else turned) for one in verdicts]
            for pair, verdicts in self.decision.by_configuration.items()
            if place in pair
        ]
        found[self.common] = np.all(rows, axis=0) if verdict == "better" else np.any(rows, axis=0)
        return found


@lru_cache(maxsize=16)
def levels(study: Study) -> Levels | None:
    """The denoising errors of a study; None where they were not measured of all networks, or at
    other levels, as of trainings of earlier versions."""
    known: dict[str, dict[int, Denoising]] = {}
    for one in study.trainings:
        if one.denoising is None:
            return None
        label = study.training_label(one.training)
        known.setdefault(label, {})[one.training.seed] = one.denoising
    if not known:
        return None
    learned = tuple(Learned(label, dict(sorted(known[label].items()))) for label in sorted(known))
    everything = [found for one in learned for found in one.by_seed.values()]
    has_scales = len({found.offset for found in everything}) > 1
    rows = [[one.log_snr + found.offset * has_scales for one in found.levels]
            for found in everything]  # fmt: skip
    if any(len(row) != len(rows[0]) or not np.allclose(row, rows[0]) for row in rows):
        return None  # some are of another version, whose levels were others
    linear, exact = (
        np.array([getattr(one, name) for one in everything[0].levels], dtype=np.float64)
        for name in ("linear", "exact")
    )
    # Each look judges anew and spends its own part, so that the rate is kept over all of them.
    alpha = SPENT[len(study.looks) - 1] if study.looks else ALPHA
    return Levels(np.array(rows[0]), learned, linear, exact, has_scales, alpha)


def visited(cell: CellResult) -> Array | None:
    """The log SNRs at which a cell asks for an estimate at its times; None where they were not
    kept."""
    path = cell.artifacts.table(PATH_CURVE)
    return None if path is None else path["log_snr"].to_numpy()[:-1]


def along_the_path(study: Study, cells: Iterable[CellResult]) -> float:
    """The held-out error of the networks of these cells at the levels that their sampler visits,
    relative to the best linear denoiser there; NaN where either is unknown."""
    found, networks = levels(study), {one.training.key: one.denoising for one in study.trainings}
    ratios = []
    for cell in cells:
        path, measured = visited(cell), networks.get(cell.cell.training.key)
        if found is None or path is None or measured is None:
            return np.nan
        asked = found.seen(path, measured)
        own = np.array([one.held_out.value for one in measured.levels])
        sums = [np.exp(np.interp(asked, found.log_snr, np.log(each))).sum()
                for each in (own, found.linear)]  # fmt: skip
        ratios.append(sums[0] / sums[1])
    return float(np.mean(ratios)) if ratios else np.nan
