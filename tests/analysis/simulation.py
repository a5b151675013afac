"""Worlds with a known truth, for the error rates and the power of verdicts.

`python tests/analysis/simulation.py` prints the tables of docs/pages/verdicts.md.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from harness.analysis.decisions import SPENT, Decision, decide, judge, seed_effects
from harness.analysis.looks import SEEDS, is_out_of_reach, is_tie

CONFIGURATIONS = 8  # such as two samplers at four step counts
LUCK = 0.12  # standard deviation of the logarithm, of networks and again of sampling
EFFECT = 0.8  # logarithm of the ratio of two schedules


@dataclass(frozen=True)
class World:
    """Values of a metric that falls with the configurations, and what is true of them."""

    effect: str = "none"  # main: the first level is higher; best: lower by far; crossing
    variance: float = 1.0  # of the first level, relative to the others
    tails: int | None = None  # degrees of freedom of Student's distribution
    noise: float = 0.0  # added, so that the last configurations are near zero and below

    def truth(self, levels: int) -> np.ndarray:
        """The logarithm of each level in each configuration [levels, configurations]."""
        found = np.zeros((levels, CONFIGURATIONS))
        found[0] = {
            "none": 0.0, "main": EFFECT, "best": -2 * EFFECT,
            "crossing": np.linspace(EFFECT, -EFFECT, CONFIGURATIONS),
        }[self.effect]  # fmt: skip
        return found

    def draw(self, draw: np.random.Generator, levels: int, seeds: int) -> np.ndarray:
        """Values [levels, seeds, configurations]."""
        shape = levels, seeds, CONFIGURATIONS
        scale = np.array([self.variance**0.5] + [1.0] * (levels - 1))[:, None, None]
        luck = self._standard(draw, (*shape[:2], 1)) + self._standard(draw, shape)
        falls = np.linspace(0, -2.5, CONFIGURATIONS)
        values = np.exp(falls + self.truth(levels)[:, None] + LUCK * scale * luck)
        return values + self.noise * draw.standard_normal(shape)

    def _standard(self, draw: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        if self.tails is None:
            return draw.standard_normal(shape)
        return draw.standard_t(self.tails, shape) / (self.tails / (self.tails - 2)) ** 0.5


WORLDS = {
    "no effect": World(),
    "main effect": World("main"),
    "one far better": World("best"),
    "crossing": World("crossing"),
    "twice the variance": World(variance=2),
    "main effect, twice the variance": World("main", variance=2),
    "heavy tails": World(tails=5),
    "near the floor": World(noise=0.08),
    "main effect near the floor": World("main", noise=0.08),
}


@dataclass(frozen=True)
class Rates:
    """Of the repetitions: any false verdict, the shares found of true main effects and of true
    effects in single configurations, any true verdict; networks trained, of those of
    the full grid."""

    false: float
    overall: float
    single: float
    any: float  # whether there is any true verdict
    seeds: float = 1.0


def judged(decision: Decision, truth: np.ndarray) -> tuple[bool, float, float, bool]:
    """Whether a verdict is false, the shares of true effects found, and whether there is any."""
    wrong, overall, single = False, [], []
    for (i, j), verdict in decision.overall.items():
        apart = truth[i] - truth[j]
        right = _right(apart.mean())
        wrong |= verdict not in (right, "inconclusive")
        if right != "inconclusive":
            overall.append(verdict == right)
        for found, difference in zip(decision.by_configuration[i, j], apart, strict=True):
            right = _right(difference)
            wrong |= found not in (right, "inconclusive")
            if right != "inconclusive":
                single.append(found == right)
    shares = float(np.mean(overall or [np.nan])), float(np.mean(single or [np.nan]))
    return wrong, *shares, any([*overall, *single])


def rates(world: World, levels: int, seeds: int, repetitions: int, seed: int = 0) -> Rates:
    draw, truth = np.random.default_rng([seed, levels, seeds]), world.truth(levels)
    found = [judged(decide(world.draw(draw, levels, seeds)), truth) for _ in range(repetitions)]
    return Rates(*map(float, np.mean(found, axis=0)))


def rates_over_looks(world: World, levels: int, repetitions: int, seed: int = 0) -> Rates:
    """As `--until decided` does: more seeds only to the pairs that are open overall, of levels that
    none is better than, and neither a practical tie nor out of reach."""
    draw, truth = np.random.default_rng([seed, levels]), world.truth(levels)
    pairs = [(i, j) for i in range(levels) for j in range(i + 1, levels)]
    found = []
    for _ in range(repetitions):
        values, decision = world.draw(draw, levels, SEEDS[-1]), None
        seen, extended = np.full_like(values, np.nan), set(range(levels))
        for number, seeds in enumerate(SEEDS):
            seen[[*extended], :seeds] = values[[*extended], :seeds]
            effects = seed_effects(seen, pairs)
            decision = judge(*effects, SPENT[number], decision, number + 1)
            if not (extended := _still_open(decision)):
                break
        used = np.isfinite(seen[:, :, 0]).sum() / (levels * SEEDS[-1])
        found.append((*judged(decision, truth), float(used)))
    return Rates(*map(float, np.mean(found, axis=0)))


def _still_open(decision: Decision) -> set[int]:
    overall = decision.overall
    beaten = {pair[v == "better"] for pair, v in overall.items() if v != "inconclusive"}
    found = set()
    for pair, effect in decision.main.items():
        is_spent = is_tie(effect) or is_out_of_reach(effect)
        if effect.verdict == "inconclusive" and not is_spent and not {*pair} & beaten:
            found |= {*pair}
    return found


def _right(difference: float) -> str:
    if abs(difference) < 1e-9:
        return "inconclusive"
    return "better" if difference < 0 else "worse"


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with ProcessPoolExecutor(2) as pool:
        one = {} if '--looks' in sys.argv else {
            (name, levels, seeds): pool.submit(rates, world, levels, seeds, repetitions)
            for name, world in WORLDS.items() for levels in (2, 3, 5) for seeds in (2, 3, 5)
        }  # fmt: skip
        several = {
            (name, levels): pool.submit(rates_over_looks, world, levels, repetitions)
            for name, world in WORLDS.items() for levels in (2, 3)
        }  # fmt: skip
        print("| world | levels | seeds | false verdict | main effect found | single found |")
        print("|---|--:|--:|--:|--:|--:|")
        for (name, levels, seeds), job in one.items():
            found = job.result()
            shares = (found.false, found.overall, found.single)
            numbers = " | ".join(map(_shown, shares))
            print(f"| {name} | {levels} | {seeds} | {numbers} |", flush=True)
        print(
            "\n| world | levels | false verdict | main effect found | single found | seeds used |"
        )
        print("|---|--:|--:|--:|--:|--:|")
        for (name, levels), job in several.items():
            found = job.result()
            shares = (found.false, found.overall, found.single, found.seeds)
            print(f"| {name} | {levels} | {' | '.join(map(_shown, shares))} |", flush=True)


def _shown(share: float) -> str:
    return "–" if np.isnan(share) else f"{share:.3f}"


if __name__ == "__main__":
    main()
