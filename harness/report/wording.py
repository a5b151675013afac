"""Numbers, lists and comparisons in words, the same in every sentence of a report."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence

from harness.analysis.configurations import Configuration
from harness.analysis.decisions import (
    CONSTANT,
    DISAGREE,
    NO_PAIR,
    ONE_SEED,
    TRAINING,
    Effect,
    is_vague,
)
from harness.analysis.factors import FACTORS, SAMPLED_UNDER, Level
from harness.analysis.looks import is_tie
from harness.analysis.questions import EXPLORATORY, Comparison, MainEffect
from harness.analysis.statistics import Interval
from harness.analysis.study import OF_THE_SAMPLING, OF_THE_TRAINING
from harness.work.cells import denoiser_name

MOST_COUNTS = 6  # in one list
SMALLEST_P = 0.001
MOST_TIMES = 100  # as many images: beyond it, a forecast says nothing
NOUNS = {"training_steps": "length of training", "batch_size": "batch size", "clip": "setting",
         "learning_rate": "learning rate", "ema": "EMA decay", SAMPLED_UNDER.name: "schedule",
         "weighting": "loss weighting", "scale": "scale of the data",
         "times": "density of training times", "optimizer": "optimiser"}  # fmt: skip
PLURALS = {"loss": "losses", "training_steps": "lengths of training",
           "scale": "scales of the data", "times": "densities of training times"}  # fmt: skip
MINUS = "\N{MINUS SIGN}"


def number(value: float, digits: int = 3, decimals: int | None = None) -> str:
    """`0.162`, `35.5`, `1,240`: three significant digits, never scientific for everyday sizes."""
    if not math.isfinite(value):
        return "–"
    decimals = decimals_for(value, digits) if decimals is None else decimals
    return f"{value:z,.{decimals}f}".replace("-", MINUS)  # z: a rounded zero has no sign


def decimals_for(value: float, digits: int = 3) -> int:
    """How many decimals show this many significant digits; five at most."""
    if value == 0 or not math.isfinite(value):
        return 0
    return min(max(digits - 1 - math.floor(math.log10(abs(value))), 0), 5)


def interval(low: float, high: float, decimals: int | None = None) -> str:
    """`[0.131, 0.193]`, and nothing where there are no bounds."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    decimals = decimals_for(max(abs(low), abs(high))) if decimals is None else decimals
    return f"[{number(low, decimals=decimals)}, {number(high, decimals=decimals)}]"


def estimate(value: float, low: float, high: float) -> str:
    """`0.162 [0.131, 0.193]`: a value and its bounds to the same decimals, as many as the
    uncertainty leaves meaningful and no more than four digits of the value."""
    reach = (high - low) / 2
    if not math.isfinite(reach):
        return number(value)
    starts_small = f"{reach:e}"[0] in "12"  # one digit of 0.0012 would be too coarse
    meaningful = max(decimals_for(reach, 2 if starts_small else 1), decimals_for(value, 2))
    decimals = min(decimals_for(value, 4), meaningful)
    return f"{number(value, decimals=decimals)} {interval(low, high, decimals)}"


def wrapped(name: str, width: int = 26) -> str:
    """A long name on several lines, broken at spaces and before its options."""
    lines = textwrap.wrap(name.replace("(", " ("), width, break_on_hyphens=False)
    return "\n".join(lines).replace(" (", "(")


def count(n: int, noun: str, plural: str | None = None) -> str:
    """`1 step`, `20 steps`, `2 differences`."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def are(n: int) -> str:
    return "is" if n == 1 else "are"


def listed(items: Iterable[object], last: str = "and") -> str:
    """`5, 10 and 20`."""
    words = [str(item) for item in items]
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else "".join(words)


def sentence(*parts: str) -> str:
    """The parts as one sentence: a capital first, one full stop at the end."""
    text = " ".join(part for part in parts if part).strip()
    return text if text.endswith((".", "?")) else f"{text}."


def at_steps(steps: Sequence[int], unit: str = "step") -> str:
    """`at 20 steps`, `at 5, 10 and 20 steps`, `at 1 step`, `at 10 evaluations`, `at 8 numbers of
    steps from 2 to 12`."""
    if len(steps) > MOST_COUNTS:
        return f"at {len(steps)} numbers of {unit}s from {steps[0]:,} to {steps[-1]:,}"
    return f"at {listed(f'{n:,}' for n in steps)} {unit}{'' if [*steps] == [1] else 's'}"


def time_of(seconds: float) -> str:
    """`12.4 ms`, `1.3 s`, `4.10 min`: seconds in the unit in which they are read."""
    if not math.isfinite(seconds):
        return "–"
    for unit, size, least in (("h", 3600, 7200), ("min", 60, 120), ("s", 1, 1), ("ms", 1e-3, 1e-3)):
        if seconds >= least:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds / 1e-6)} µs"


def percent(share: float, digits: int = 2) -> str:
    """`27 %`."""
    return f"{number(100 * share, digits)} %"


def p_value(p: float) -> str:
    """`0.013`, `< 0.001`; a dash where nothing was tested."""
    return f"< {SMALLEST_P}" if p < SMALLEST_P else number(p, 2)


def spanned(span: Interval, factor: float = 1.0) -> str:
    """`0.162 [0.131, 0.193]`; a factor of 100 makes per cent of it."""
    return estimate(factor * span.estimate, factor * span.low, factor * span.high)


def described(one: Configuration) -> str:
    """`cosine with ddim at 10 steps`."""
    return f"{one.schedule} with {sampler_at(one)}"


def sampler_at(one: Configuration) -> str:
    """`ddim at 10 steps`."""
    return f"{sampler_of(one)} {at_steps([one.steps], one.unit)}"


def sampler_of(one: Configuration) -> str:
    """`ddim`, or `ddim (trailing)` where configurations differ in more than the sampler."""
    return f"{one.kind} ({one.setting.removeprefix(', ')})" if one.setting else one.kind


def change(effect: Effect | Interval) -> str:
    """`57 % lower [50, 63]`, `5 % lower [14 lower to 6 higher]`: the first against the second, of
    an effect or of shares. Empty where a ratio means nothing, as of a KID near zero."""
    span = effect.change if isinstance(effect, Effect) else effect
    value, low, high = 100 * span.estimate, 100 * span.low, 100 * span.high
    is_ratio = not isinstance(effect, Effect) or effect.is_ratio
    if not is_ratio or is_vague(span):
        return ""
    if low < 0 < high:
        decimals = decimals_for((high - low) / 2, 1)
        ends = " to ".join(_share(end, decimals) for end in (low, high))
        return f"{_share(value, decimals, ' %')} [{ends}]"
    low, high = (-high, -low) if value < 0 else (low, high)
    decimals = 0 if abs(value) >= 10 else min(decimals_for(value, 2), 2)
    told = f"{number(abs(value), decimals=decimals)} % {_up_or_down(value)}"
    return f"{told} {interval(low, high, decimals)}".rstrip()


def gap(made: Comparison | MainEffect) -> str:
    """The one that is ahead against the other: `57 % lower [50, 63]`, or where a ratio means
    nothing the means, `0.002 instead of 0.135`."""
    effect = made.effect
    one, other = means(made)
    if not effect.is_first_ahead:
        effect, one, other = effect.reversed, other, one
    return change(effect) or f"{number(one)} instead of {number(other)}"


def means(made: Comparison | MainEffect) -> tuple[float, float]:
    return made.means if isinstance(made, MainEffect) else (made.first.mean, made.second.mean)


def basis(made: MainEffect) -> str:
    """`3 training seeds`, `6 networks`: what an effect was measured over."""
    first = made.comparisons[0].first
    if not first.is_trained:
        return denoiser_name(first.cells[0].cell.training)
    noun = "training seed" if made.effect.covers == TRAINING else "network"
    return count(made.effect.n, noun) + (" (Welch)" if made.effect.is_welch else "")


def needed(effect: Effect) -> str:
    """What would give a verdict: `5 training seeds` in all, `4 times as many images`; empty where
    there is one."""
    if effect.verdict != "inconclusive":
        return ""
    of_reason = {NO_PAIR: "the same training seeds for both", DISAGREE: "more training seeds",
                ONE_SEED: "at least 2 training seeds",
                CONSTANT: "images that differ"}  # fmt: skip
    if effect.reason:
        return of_reason.get(effect.reason, "a metric whose error can be measured")
    if is_tie(effect):
        bound = max(abs(effect.change.low), abs(effect.change.high))
        return f"a tie for practical purposes (within {percent(bound)})"
    if seeds := effect.seeds_needed():
        return count(seeds, "training seed")
    if (times := effect.images_needed()) and times <= MOST_TIMES:
        return f"{max(2, math.ceil(times))} times as many images"
    return f"more than {MOST_TIMES} {'times as many images' if times else 'training seeds'}"


def noun(question: str) -> str:
    """What the levels of a question are."""
    return NOUNS.get(question, question)


def called(question: str) -> str:
    """What a question is called by itself: `EMA decay`, `sampler`."""
    return noun(question) if question in OF_THE_TRAINING else question


def counted(number: int, question: str) -> str:
    """`2 EMA decays`, `3 losses`: so many levels."""
    return count(number, noun(question), PLURALS.get(question))


def shown(level: Level) -> str:
    """`cosine`, `20,000`, `0.0002`: a level by itself, where its question is told."""
    if isinstance(level, str):
        return level
    return f"{level:,}" if isinstance(level, int) else f"{level:g}"


def named(question: str, level: Level) -> str:
    """`cosine`, `batch size 64`, `clipping`: a level as it stands in a sentence."""
    match question:
        case "clip":
            return {"True": "clipping", "False": "no clipping"}.get(str(level), f"{level} clipping")
        case "training_steps":
            return f"training for {level:,} steps"
        case "steps":
            return f"{level:,}"
    return f"{OF_THE_TRAINING.get(question, '')}{level}"


def contest(made: Comparison | MainEffect) -> str:
    """`cosine against linear`."""
    if made.question == EXPLORATORY and isinstance(made, Comparison):
        return f"{described(made.first)} against {described(made.second)}"
    return " against ".join(named(made.question, level) for level in levels(made))


def levels(made: Comparison | MainEffect) -> tuple[Level, Level]:
    """The two that are compared."""
    if isinstance(made, MainEffect):
        return made.first, made.second
    return _level(made.question, made.first), _level(made.question, made.second)


def place(made: Comparison) -> str:
    """`ddim, 5 steps`: what the two share, and so the name of a comparison in its question."""
    one, question = made.first, made.question
    if question == EXPLORATORY:
        return ""
    if question == SAMPLED_UNDER.name and one.is_matched:
        one = made.second
    steps = count(one.steps, one.unit)
    text = f"{one.schedule}, {one.kind}{one.setting}, {steps}"
    return _without(text, steps if question == "steps" else _in_label(question, one))


def network(made: Comparison) -> str:
    """The schedule of the two, with the rest of the recipe that they share."""
    return _without(made.first.schedule, _in_label(made.question, made.first))


def verdict(made: Comparison | MainEffect) -> str:
    """One line: `cosine against linear, ddim, 5 steps: better, KID 57 % lower [50, 63]`."""
    one, other = means(made)
    where = "overall" if isinstance(made, MainEffect) else place(made)
    metric = (made.comparisons[0] if isinstance(made, MainEffect) else made).first.metric.title
    told = change(made.effect) or f"{number(one)} instead of {number(other)}"
    why = f" ({made.effect.why})" if made.effect.why else ""
    title = f"{contest(made)}{', ' if where else ''}{where}"
    return f"{title}: {made.verdict}, {metric} {told}{why}"


def _share(per_cent: float, decimals: int, unit: str = "") -> str:
    size = number(abs(per_cent), decimals=decimals)
    way = f" {_up_or_down(per_cent)}" if float(size.replace(",", "")) else ""
    return f"{size}{unit}{way}"


def _up_or_down(value: float) -> str:
    return "lower" if value < 0 else "higher"


def _in_label(question: str, one: Configuration) -> str:
    """The level of a configuration as it stands in its labels."""
    prefix = {**OF_THE_TRAINING, **OF_THE_SAMPLING}.get(question, "")
    return f"{prefix}{_level(question, one)}"


def _without(label: str, part: str) -> str:
    """A label less one of the parts that commas set apart."""
    return f", {label}, ".replace(f", {part}, ", ", ", 1).strip(", ")


def _level(question: str, one: Configuration) -> Level:
    return next(each for each in FACTORS if each.name == question).of(one)


def at(made: Sequence[Comparison]) -> str:
    """`at 5 and 10 steps`."""
    return at_steps(sorted({one.steps for one in made}), made[0].first.unit)


def steps_by(made: Iterable[Comparison], name: Callable[[Comparison], str]) -> dict[str, list[int]]:
    """The step counts of the comparisons that share a name, names in the order they appear."""
    steps: dict[str, list[int]] = {}
    for one in made:
        steps.setdefault(name(one), []).append(one.steps)
    return steps


def each_at(made: Sequence[Comparison], name: Callable[[Comparison], str]) -> list[str]:
    """`cosine at 5 and 10 steps`, `linear at 50 steps`."""
    unit = made[0].first.unit if made else "step"
    return [f"{of} {at_steps(steps, unit)}" for of, steps in steps_by(made, name).items()]
