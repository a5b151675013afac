"""The first screen: each question of a grid, its answer, how sure that is, and what to run next.

Made once, for the page, its Markdown, the tracker's description and the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.analysis.configurations import Configuration, best, within
from harness.analysis.costs import seconds_of
from harness.analysis.decisions import DISAGREE, ONE_SEED, TRAINING, Effect
from harness.analysis.learning import Learning, learned
from harness.analysis.looks import SEEDS, TIMES, is_tie
from harness.analysis.questions import (
    Comparison,
    Level,
    MainEffect,
    Question,
    compared,
    exploratory,
    questions,
)
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.networks import still_improving
from harness.work.speeds import duration

State = Literal["decided", "partly", "open"]
MOST_BUDGETS = 5
MOST_SEEDS = SEEDS[-1]  # what `--until decided` goes to
MOST_TIMES = TIMES[-1]  # as many images


@dataclass(frozen=True)
class Answer:
    """One question, answered in a glance."""

    question: str
    headline: str
    sentence: str
    sureness: str
    state: State
    is_incomplete: bool = False

    @property
    def as_line(self) -> str:
        rest = "; ".join(part for part in (self.sentence, self.sureness) if part)
        return f"{self.question.rstrip('?')}: {self.headline}{f' ({rest})' if rest else ''}."


@dataclass(frozen=True)
class Next:
    """What to run next: a command that can be pasted, what it decides and what it costs."""

    command: str
    decides: str
    seconds: float

    @property
    def comment(self) -> str:
        return f"about {duration(self.seconds)}: {self.decides}"


@dataclass(frozen=True)
class Budget:
    """The best configuration within a number of evaluations, and what it is ahead of."""

    evaluations: int
    take: Configuration
    also: tuple[str, ...]  # samplers with no significant difference
    rival: Comparison | None  # the same with the next best level of what was asked first
    seconds: float  # per image; NaN where not measured

    @property
    def effect(self) -> Effect | None:
        return self.rival.effect if self.rival else None


def answers(study: Study) -> list[Answer]:
    """The answers of the first screen, in the order of the questions; where no network has learned
    anything, that alone."""
    if not (study.cells and study.metrics):
        what = "a value of a metric" if study.cells else "a result yet"
        return [Answer("Answer", "none yet", f"no cell has {what}", "", "open")]
    learning = learned(study)
    last = [_learned(learning, study)] if learning else []
    if learning and not learning.any_has_learned:
        return last
    found = [_answer(one, study) for one in questions(study)]
    return [*found, *last] if found else [_the_best(study), *last]


def budgets(study: Study) -> list[Budget]:
    """What to take within each number of network evaluations that a configuration needs."""
    everything = study.configurations()
    allowed = sorted({round(one.nfe) for one in everything})
    if len(allowed) > MOST_BUDGETS:
        places = np.linspace(0, len(allowed) - 1, MOST_BUDGETS).round().astype(int)
        allowed = [allowed[place] for place in places]
    seconds = seconds_of(study).of
    found = []
    for most in allowed:
        matched = [one for one in within(everything, most + 0.5) if one.is_matched]
        if not matched:
            continue
        take = best(matched)
        found.append(Budget(most, take, _also(study, take, matched), _rival(study, take, matched),
                            seconds.get(take.keys, np.nan)))  # fmt: skip
    return found


def next_commands(study: Study, command: str) -> list[Next]:
    """What would decide the open questions, the cheapest first."""
    learning = learned(study)
    if learning and not learning.any_has_learned:
        steps = max(one.cell.training.training_steps for one in study.cells)
        told = _with(command, "training.steps", str(4 * steps))
        return [Next(told, "trains four times as long", 4 * _seconds_of_trainings(study))]
    found = [*_until_decided(study, command), *_more_steps(study, command)]
    return sorted(found, key=lambda one: one.seconds)


def _the_best(study: Study) -> Answer:
    """Of a grid that varies nothing."""
    one = best(study.configurations())
    value = say.spanned(one.interval)
    return Answer("Result", value, f"{one.metric.title} of {say.described(one)}", "", "open")


def _answer(question: Question, study: Study) -> Answer:
    title = _title(question).capitalize()
    if question.factor.is_ordered:
        found = _in_order(question, study)
    elif question.is_decided:
        found = _decided(question)
    else:
        found = _undecided(question)
    headline, sentence, sureness, state = found
    return Answer(title, headline, sentence, sureness, state, question.is_incomplete)


Parts = tuple[str, str, str, State]


def _decided(question: Question) -> Parts:
    [leader] = question.best
    effects = [_of(question, leader, one) for one in question.levels if one != leader]
    closest = min((one for one in effects if one), key=lambda one: abs(one.effect.value))
    exceptions = "" if _same_everywhere(closest) else ", on average"
    return str(leader), f"{_by(closest, leader)}{exceptions}", _sure(closest), "decided"


def _undecided(question: Question) -> Parts:
    group = question.best
    among = [one for one in question.main if {one.first, one.second} <= {*group}]
    opposed = _won([one for one in among if one.is_opposed])
    if len(opposed) > 1:
        where = [f"{level} {_where(question, those)}" for level, those in opposed.items()]
        return f"depends on {_on(opposed)}", say.listed(where), "each significant", "partly"
    if len(group) < len(question.levels) and len(group) <= 3:
        worse = [level for level in question.levels if level not in group]
        told = f"{say.listed(worse)} {say.are(len(worse))} worse; which of these is best is open"
        return say.listed(group, "or"), told, _basis(question.main[0]), "partly"
    won = _won(among)
    if won:
        where = [f"{level} is better {_where(question, those)}" for level, those in won.items()]
        made = [one for each in among for one in each.comparisons]
        sure = len([one for one in made if one.winner is not None])
        told = f"{say.listed(where)}; elsewhere not significant"
        return "no overall winner", told, f"sure in {sure} of {len(made)} configurations", "partly"
    closest = max(question.open or question.main, key=lambda one: abs(_z(one)))
    if closest.effect.reason == ONE_SEED:
        return f"open, {closest.ahead} ahead", ONE_SEED, _agreement(closest), "open"
    other = closest.second if closest.ahead == closest.first else closest.first
    told = f"{closest.ahead} against {other}: {_gap(closest, closest.ahead)}"
    return "no difference shown", told, _why(closest), "open"


def _in_order(question: Question, study: Study) -> Parts:
    """Of the number of steps: the fewest that more do not significantly improve on."""
    group, unit = question.best, study.unit
    last = question.levels[-1]
    headline = f"{group[0]:,} {unit}s" if len(group) == 1 else f"{group[0]:,} or more"
    into = [one for one in question.main if one.second == group[0] and one.winner == group[0]]
    told = _by(into[-1], group[0]) if into else ""
    beyond = [one for one in question.main if one.first in group and one.second in group]
    if group[0] == last and into:
        return headline, f"{told}; the most tried", _sure(into[-1]), "decided"
    if beyond:
        gap = f"from {beyond[0].first} to {beyond[0].second} no significant change"
        return headline, gap, _basis(beyond[0]), "partly"
    return headline, told or "more do not help", _basis(question.main[-1]), "decided"


def _learned(learning: Learning, study: Study) -> Answer:
    name = study.metric.title
    decimals = say.decimals_for(learning.noise, 2) + 1
    best, noise, real = (
        say.number(value, decimals=decimals)
        for value in (learning.best, learning.noise, learning.baseline)
    )
    numbers = f"{name} {best} at best; pure noise {noise}, real images {real}"
    if learning.has_learned:
        improving = still_improving(study)
        more = f"{say.listed(improving)} still improved: train longer" if improving else ""
        return Answer("Has it learned?", "yes", numbers, more, "partly" if more else "decided")
    if learning.any_has_learned:
        not_yet = f"not yet: {say.listed(learning.not_learned)}"
        return Answer("Has it learned?", "partly", numbers, not_yet, "partly")
    return Answer("Has it learned?", "nothing learned yet", numbers, "train longer", "open")


def _by(effect: MainEffect, winner: Level) -> str:
    """`KID 57 % lower than linear [50, 63]`."""
    other = effect.second if winner == effect.first else effect.first
    told, bracket, span = _gap(effect, winner).partition(" [")
    return f"{told} than {other}{bracket}{span}" if bracket else f"{told}, {other}"


def _gap(effect: MainEffect, winner: Level) -> str:
    """`KID 57 % lower [50, 63]`; where a ratio means nothing, `KID 0.002 against 0.135`."""
    made = effect if winner == effect.first else effect.turned
    one, other = map(say.number, made.means)
    told = say.change(made.effect) or f"{one} against {other}"
    return f"{effect.comparisons[0].first.metric.title} {told}"


def _sure(effect: MainEffect) -> str:
    return f"sure: {_agreement(effect)}, {_basis(effect)}"


def _agreement(effect: MainEffect) -> str:
    same, of = effect.agreement
    return f"{same} of {say.count(of, 'pair')} agree"


def _basis(effect: MainEffect) -> str:
    noun = "training seed" if effect.effect.covers == TRAINING else "network"
    return say.count(effect.effect.n, noun)


def _why(effect: MainEffect) -> str:
    if effect.effect.reason == DISAGREE:
        return DISAGREE
    needed = say.needed(effect.effect)
    if is_tie(effect.effect):
        return needed
    return f"not significant; needs {needed}" if needed else f"not significant, {_basis(effect)}"


def _same_everywhere(effect: MainEffect) -> bool:
    same, of = effect.agreement
    return same == of


def _won(among: Iterable[MainEffect]) -> dict[Level, list[Comparison]]:
    """By level, the configurations in which it is decided to be better than another."""
    found: dict[Level, list[Comparison]] = {}
    for effect in among:
        for one in effect.comparisons:
            if one.winner is not None:
                level = effect.first if one.winner is one.first else effect.second
                found.setdefault(level, []).append(one)
    return found


def _where(question: Question, made: Sequence[Comparison]) -> str:
    """`at 5 and 10 steps`; `with linear at 5 and 10 steps`, where it is so with one schedule of
    several."""
    schedules = {one.first.schedule for one in question.comparisons}
    here = {one.first.schedule for one in made}
    of = (
        f"with {here.pop()} "
        if question.name != "schedule" and len(here) == 1 < len(schedules)
        else ""
    )
    return f"{of}{say.at(made)}"


def _on(won: dict[Level, list[Comparison]]) -> str:
    steps = [{one.steps for one in made} for made in won.values()]
    return "the steps" if not set.intersection(*steps) else "the configuration"


def _of(question: Question, one: Level, other: Level) -> MainEffect | None:
    pair = {one, other}
    return next((each for each in question.main if {each.first, each.second} == pair), None)


def _z(effect: MainEffect) -> float:
    value = effect.effect.value / effect.effect.error if effect.effect.error else np.nan
    return float(np.nan_to_num(value))


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


def _until_decided(study: Study, command: str) -> list[Next]:
    """More seeds and images for what is open, by looks that keep the error rate. Of a grid with one
    training seed no verdict has been looked at, so that it may simply name more."""
    trained = {one.cell.training for one in study.cells if not one.cell.training.is_exact}
    seeds = sorted({training.seed for training in trained})
    noises = len({one.cell.sampling_seed for one in study.cells})
    asked = [one for one in questions(study) if not one.is_decided and not one.factor.is_ordered]
    of_seeds = [one for one in asked if one.covers_training and one.open]
    if of_seeds and len(seeds) == 1:
        more = [seed for seed in range(3) if seed not in seeds][:2]
        told = _with(command, "seeds", str([*seeds, *more]).replace(" ", ""))
        seconds = 2 * (_seconds_of_trainings(study) + _seconds_of_cells(study))
        return [Next(told, f"a verdict on the {_names(of_seeds)}", seconds)]
    names: list[str] = []
    limits, seconds = "", 0.0
    if needed := _needed(of_seeds, Effect.seeds_needed, MOST_SEEDS):
        n = int(max(needed.values()))
        names += needed
        limits += f" --max-seeds {n}"
        of_one = (_seconds_of_trainings(study) + _seconds_of_cells(study)) / len(seeds)
        seconds += of_one * (n - len(seeds))
    of_images = [one for one in asked if not one.covers_training and one.open]
    if needed := _needed(of_images, Effect.images_needed, MOST_TIMES):
        times = min(2 ** int(np.ceil(np.log2(max(needed.values())))), MOST_TIMES)
        names += needed
        limits += f" --max-images {times * noises * study.quantity.images}"
        seconds += _seconds_of_cells(study) * (times - 1)
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
            found[_title(question)] = max(needed)
    return found


def _names(asked: Iterable[Question]) -> str:
    return say.listed(map(_title, asked))


def _title(question: Question) -> str:
    return question.name.replace("_", " ")


def _more_steps(study: Study, command: str) -> list[Next]:
    question = next((one for one in questions(study) if one.factor.is_ordered), None)
    if question is None or question.best[0] != question.levels[-1]:
        return []
    levels = [int(level) for level in question.levels]
    at_last = [one for one in study.cells if (one.cell.budget or one.cell.steps) == levels[-1]]
    told = _with(command, "steps", str([*levels, 2 * levels[-1]]).replace(" ", ""))
    seconds = 2 * sum(_seconds(one.cell.images, one.cost.seconds) for one in at_last)
    return [Next(told, f"are {levels[-1]:,} {study.unit}s enough?", seconds)]


def _with(command: str, field: str, value: str) -> str:
    """The command with this field of the grid changed."""
    kept = re.sub(rf" (?:'{re.escape(field)}=[^']*'|{re.escape(field)}=\S*)", "", command)
    return f"{kept} {field}={value}"


def _seconds_of_trainings(study: Study) -> float:
    return sum(one.seconds for one in study.trainings)


def _seconds_of_cells(study: Study) -> float:
    return sum(
        _seconds(one.cell.images, one.cost.seconds + one.cost.feature_seconds_per_image)
        for one in study.cells
    )


def _seconds(images: int, each: float) -> float:
    return images * each
