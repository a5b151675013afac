"""What a reader does next: what to take for a budget, and what to run for what is open."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isfinite, nan

import numpy as np

from harness.analysis.configurations import Configuration, best, within
from harness.analysis.costs import (
    budget_of_time,
    cell_seconds,
    seconds_of,
    training_seconds,
)
from harness.analysis.decisions import Effect
from harness.analysis.learning import learned
from harness.analysis.looks import SEEDS, TIMES
from harness.analysis.questions import Comparison, Question, compared, exploratory, questions
from harness.analysis.study import Study, is_exact
from harness.report import wording as say
from harness.report.answers import title_of
from harness.report.findings.networks import still_improving
from harness.work.options import quoted
from harness.work.speeds import duration

MOST_BUDGETS = 5
MOST_SEEDS, MOST_TIMES = SEEDS[-1], TIMES[-1]  # what `--until decided` goes to


@dataclass(frozen=True)
class Next:
    """What to run next: a command that can be pasted, what it decides and what it costs."""

    command: str
    decides: str
    seconds: float  # NaN where that is not known

    @property
    def comment(self) -> str:
        cost = f"about {duration(self.seconds)}: " if isfinite(self.seconds) else ""
        return f"{cost}{self.decides}"


@dataclass(frozen=True)
class Budget:
    """The best configuration within a number of evaluations or a time, and what it is ahead of."""

    limit: str  # `20` evaluations, or `5 ms`
    take: Configuration
    also: tuple[str, ...]  # samplers with no significant difference
    rival: Comparison | None  # the same with the next best level of what was asked first
    seconds: float  # per image; NaN where not measured

    @property
    def effect(self) -> Effect | None:
        return self.rival.effect if self.rival else None


def budgets(study: Study) -> list[Budget]:
    """What to take within each number of network evaluations that a configuration needs, and in a
    limited time, where that is another configuration."""
    everything = study.configurations()
    allowed = sorted({round(one.nfe) for one in everything})
    if len(allowed) > MOST_BUDGETS:
        places = np.linspace(0, len(allowed) - 1, MOST_BUDGETS).round().astype(int)
        allowed = [allowed[place] for place in places]
    affordable = [(f"{most:,}", within(everything, most + 0.5), False) for most in allowed]
    if (time := budget_of_time(study)) is not None:
        affordable.append((say.time_of(time.seconds), time.configurations, True))
    seconds = seconds_of(study).of
    found: list[Budget] = []
    for limit, those, is_time in affordable:
        matched = [one for one in those if one.is_matched]
        take = best(matched) if matched else None
        if take is None or (is_time and take in [one.take for one in found]):
            continue
        found.append(Budget(limit, take, _also(study, take, matched), _rival(study, take, matched),
                            seconds.get(take.keys, np.nan)))  # fmt: skip
    return found


def next_commands(study: Study, command: str, missing: int = 0) -> list[Next]:
    """What would decide the open questions, the cheapest first; of a grid that so many cells are
    missing of, the rest of it."""
    rest = [_rest(study, command, missing)] if missing else []
    learning = None if is_exact(study) else learned(study)
    if learning and not learning.any_has_learned:
        return [*rest, _longer(study, command, 4, "trains four times as long")]
    if rest:
        return rest
    found = [*_until_decided(study, command), *_more_steps(study, command)]
    if still_improving(study):
        found.append(_longer(study, command, 2, "twice the training"))
    return sorted(found, key=lambda one: one.seconds)


def _also(
    study: Study, take: Configuration, candidates: Iterable[Configuration]
) -> tuple[str, ...]:
    """The other samplers that do not differ significantly from this one, with the same number of
    steps."""
    alike = [
        one for one in candidates
        if (one.schedule, one.setting, one.steps) == (take.schedule, take.setting, take.steps)
        and one is not take
    ]  # fmt: skip
    made = exploratory(study, [(take, one) for one in alike])
    return tuple(one.second.kind for one in made if one.winner is None and not one.effect.reason)


def _rival(
    study: Study, take: Configuration, candidates: Iterable[Configuration]
) -> Comparison | None:
    """The same under the best other schedule, or where there is one schedule the best other
    sampler."""
    there = [one for one in candidates if one.steps == take.steps and one is not take]
    others = [one for one in there if one.sampler == take.sampler and one.schedule != take.schedule]
    others = others or [one for one in there if one.schedule == take.schedule]
    return compared(study, take, best(others)) if others else None


def _rest(study: Study, command: str, missing: int) -> Next:
    """The same command again. Of what it compares there may be one level so far, which is then no
    question of the study; the exact denoiser, which is done first, has them all."""
    asked = [title_of(one) for one in questions(study) if one.open or one.is_incomplete]
    made = [one.cell.training.schedule for one in study.cells]
    beside = [one.cell.training.schedule for one in study.results]
    if len({*made}) < len({*beside}) and len({*made}) == 1:
        asked = ["schedule", *asked]
    told = f"a verdict on the {say.listed(asked)}" if asked else "the rest of the grid"
    return Next(command, f"{say.count(missing, 'cell')} to do: {told}", nan)


def _longer(study: Study, command: str, times: int, why: str) -> Next:
    steps = max(one.cell.training.training_steps for one in study.cells)
    seconds = times * training_seconds(study) + cell_seconds(study)
    return Next(_with(command, "training.steps", str(times * steps)), why, seconds)


def _until_decided(study: Study, command: str) -> list[Next]:
    """More seeds and images for what is open, by looks that keep the error rate. Of a grid with one
    training seed no verdict has been looked at, so that it may simply name more."""
    trained = {one.cell.training for one in study.cells if one.cell.training.is_trained}
    seeds = sorted({training.seed for training in trained})
    noises = len({one.cell.sampling_seed for one in study.cells})
    asked = [one for one in questions(study) if not one.is_decided and not one.factor.is_ordered]
    of_seeds = [one for one in asked if one.covers_training and one.open]
    if of_seeds and len(seeds) == 1:
        more = [seed for seed in range(3) if seed not in seeds][:2]
        told = _with(command, "seeds", str([*seeds, *more]).replace(" ", ""))
        seconds = 2 * (training_seconds(study) + cell_seconds(study))
        return [Next(told, f"a verdict on the {_names(of_seeds)}", seconds)]
    names: list[str] = []
    limits, seconds = "", 0.0
    if needed := _needed(of_seeds, Effect.seeds_needed, MOST_SEEDS):
        n = int(max(needed.values()))
        names += needed
        limits += f" --max-seeds {n}"
        of_one = (training_seconds(study) + cell_seconds(study)) / len(seeds)
        seconds += of_one * (n - len(seeds))
    of_images = [one for one in asked if not one.covers_training and one.open]
    if needed := _needed(of_images, Effect.images_needed, MOST_TIMES):
        times = min(2 ** int(np.ceil(np.log2(max(needed.values())))), MOST_TIMES)
        names += needed
        limits += f" --max-images {times * noises * study.quantity.images}"
        seconds += cell_seconds(study) * (times - 1)
    if not names:
        return []
    told = f"{command} --until decided{limits}"
    return [Next(told, f"may decide the {say.listed(names)}", seconds)]


def _needed(
    asked: Iterable[Question], of: Callable[[Effect], float | None], most: float
) -> dict[str, float]:
    """By question, what its open effects need, where that is within reach."""
    found = {}
    for question in asked:
        needed = [n for one in question.open if (n := of(one.effect)) and n <= most]
        if needed:
            found[title_of(question)] = max(needed)
    return found


def _names(asked: Iterable[Question]) -> str:
    return say.listed(map(title_of, asked))


def _more_steps(study: Study, command: str) -> list[Next]:
    question = next((one for one in questions(study) if one.factor.is_ordered), None)
    if question is None or question.best[0] != question.levels[-1]:
        return []
    levels = [int(level) for level in question.levels]
    at_last = [one for one in study.cells if (one.cell.budget or one.cell.steps) == levels[-1]]
    told = _with(command, "steps", str([*levels, 2 * levels[-1]]).replace(" ", ""))
    seconds = 2 * sum(one.cell.images * one.cost.seconds for one in at_last)
    return [Next(told, f"are {levels[-1]:,} {study.unit}s enough?", seconds)]


def _with(command: str, field: str, value: str) -> str:
    """The command with this field of the grid changed."""
    kept = re.sub(rf" (?:'{re.escape(field)}=[^']*'|{re.escape(field)}=\S*)", "", command)
    return f"{kept} {quoted(f'{field}={value}')}"
