"""What the report says: one function per question, each a predicate over the table.

A finding reads the tidy frame of one comparable group (`table.tidy`) and returns what the numbers
support: a sentence with its effect, interval and verdict, or None where there is nothing to say.
What cannot be decided says so, and what would decide it. To add one, write the function and name
it in BUILT_IN; another package uses the entry point `harness.findings`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from harness.metrics.statistics import FEW_SEEDS
from harness.registry import Registry
from harness.report.phrases import (
    at,
    basis,
    described,
    is_known,
    magnitude,
    moved,
    over_seeds,
    pairs,
    quantity,
    signed,
    steps_by,
    unit_of,
    value,
    versus,
)
from harness.report.points import (
    BUDGETS,
    Contrast,
    Point,
    best,
    best_of_each,
    contrast_of,
    family,
    points,
    within,
)
from harness.report.words import at_steps, count, estimate, listed, number, sentence
from harness.report.yardsticks import Z, floor_error, floor_of, price, share_bounds, spread


@dataclass(frozen=True)
class Finding:
    """One answer. `effect`, `low` and `high` are NaN where the answer is not one number."""

    question: str
    sentence: str
    evidence: list[str]  # keys of the cells it rests on
    effect: float = np.nan
    low: float = np.nan
    high: float = np.nan
    verdict: Literal["better", "worse", "measured", "inconclusive"] = "measured"
    n: int = 0  # training seeds; cells for what has nothing to do with training
    would_decide: str = ""


Found = Finding | list[Finding] | None


def best_of_all(frame: pd.DataFrame) -> Finding | None:
    """Which combination is best, whatever it costs?"""
    everything = points(frame)
    if len(everything) < 2:
        return None
    return _best_within(frame, everything, [np.inf], family(frame))


def schedule_at_few_steps(frame: pd.DataFrame) -> Finding | None:
    """Which schedule is best at the fewest steps?"""
    contrasts = _asked(frame, "schedule")
    return _schedule_at(frame, contrasts[0]) if contrasts else None


def schedule_at_many_steps(frame: pd.DataFrame) -> Finding | None:
    """Which schedule is best at the most steps?"""
    contrasts = _asked(frame, "schedule")
    return _schedule_at(frame, contrasts[-1]) if len(contrasts) > 1 else None


def schedule_across_steps(frame: pd.DataFrame) -> Finding | None:
    """Is the same schedule best at every number of steps?"""
    contrasts = _asked(frame, "schedule")
    if len(contrasts) < 2:
        return None
    decided = [contrast for contrast in contrasts if contrast.winner]
    undecided = [contrast for contrast in contrasts if not contrast.winner]
    # Without a verdict the means still have an order, which is said as that and no more.
    won = steps_by(decided or contrasts, lambda c: (c.winner or best([c.first, c.second])).schedule)
    leader = next(iter(won))
    unit = unit_of(frame)
    tried = f"at every number of {unit}s tried ({listed(f'{c.first.steps:,}' for c in contrasts)})"
    where = tried if len(won[leader]) == len(contrasts) else at_steps(won[leader], unit)
    split = listed(f"{name} {at_steps(steps, unit)}" for name, steps in won.items())
    if decided:
        words = (
            f"The {leader} schedule is best {where}, by {quantity(frame)}"
            if len(won) == 1
            else f"Which schedule is best depends on the {unit}s: {split}, by {quantity(frame)}"
        )
        words += f"; {at(undecided)} no schedule can be told from the next" if undecided else ""
        narrowest = min(decided, key=lambda contrast: abs(contrast.comparison.difference))
        gap = f"{magnitude(narrowest.comparison)}, {at_steps([narrowest.first.steps], unit)}"
        words += f" (the narrowest gap is {gap})"
    else:
        reason = undecided[0].comparison.reason
        ahead = f"the {leader} schedule is ahead {where}" if len(won) == 1 else f"ahead is {split}"
        words = f"By the means of {quantity(frame)} {ahead}, but without a verdict: {reason}"
        narrowest = min(contrasts, key=lambda contrast: abs(contrast.comparison.difference))
    return _finding(
        f"Is the same schedule best at every number of {unit}s?", words, contrasts, narrowest,
        verdict=decided[0].comparison.verdict if decided else "inconclusive",
    )  # fmt: skip


def ddim_against_ddpm(frame: pd.DataFrame) -> list[Finding]:
    """Is DDIM or DDPM better, and at how many steps does one overtake the other?"""
    lines: dict[tuple[str, str], list[Contrast]] = {}
    for contrast in _asked(frame, "sampler"):
        if (contrast.first.kind, contrast.second.kind) == ("ddim", "ddpm"):
            line = (contrast.first.schedule, contrast.first.setting)
            lines.setdefault(line, []).append(contrast)
    return [_ddim_against_ddpm(frame, contrasts) for _, contrasts in sorted(lines.items())]


def fewest_evaluations_near_the_best(frame: pd.DataFrame) -> Finding | None:
    """How few network evaluations come within 10 % of the best?

    Ten per cent of what is left above real held-out images, not of the raw value: an unbiased KID
    may be zero or below, where a percentage means nothing. Without a floor, the raw value.
    """
    everything = [point for point in points(frame) if is_known(point.nfe)]
    if len({point.nfe for point in everything}) < 2:
        return None
    question = "How few network evaluations come within 10 % of the best?"
    leader, floor = best(everything), floor_of(frame)
    yardstick = f"the {number(floor, 2)} of real held-out images" if is_known(floor) else "zero"
    floor = floor if is_known(floor) else 0.0
    left = (leader.mean - floor) * (1 if leader.lower_is_better else -1)
    if left <= (Z * leader.error if is_known(leader.error) else 0):
        words = (
            f"The best, {described(leader)}, is as near to {yardstick} as can be measured "
            f"({quantity(frame)} {value(leader)}), so ten per cent of the rest means nothing"
        )
        return Finding(
            question, sentence(words), list(leader.keys), leader.mean - floor, n=leader.seeds,
            verdict="inconclusive", would_decide="more images per cell, for a smaller error",
        )  # fmt: skip
    near = [point for point in everything if point.rank <= leader.rank + 0.1 * left]
    cheapest = min(near, key=lambda point: (point.nfe, point.rank, point.label))
    if cheapest.nfe == leader.nfe:
        words = f"{_no_cheaper(leader, everything)} ({quantity(frame)} {value(leader)})"
        return Finding(question, sentence(words), list(leader.keys), n=leader.seeds)
    share = (cheapest.mean - floor) / (leader.mean - floor) - 1
    low, high = share_bounds(cheapest, leader, floor)
    is_sure = high <= 0.1
    words = (
        f"{_evaluations(cheapest)} {'comes' if cheapest.nfe == 1 else 'come'} within 10 % of the "
        f"best: {described(cheapest)} has {quantity(frame)} {number(cheapest.mean)} against "
        f"{number(leader.mean)} for {described(leader)}, {number(100 * share, 2)} % further from "
        f"{yardstick}"
    )
    if not is_sure and is_known(high):
        words += (
            f", though sampling error allows {number(100 * low, 2)} to {number(100 * high, 2)} %"
        )
    return Finding(
        question, sentence(words), [*cheapest.keys, *leader.keys], share, low, high,
        "measured" if is_sure else "inconclusive", cheapest.seeds,
        "" if is_sure else "more images per cell, for a smaller error",
    )  # fmt: skip


def more_steps(frame: pd.DataFrame) -> Finding | None:
    """What do more steps buy?"""
    contrasts = _asked(frame, "steps")
    if not contrasts:
        return None
    parts = []
    for contrast in contrasts:
        change = moved(contrast.comparison, "falls", "rises")
        span = f"from {contrast.second.steps:,} to {contrast.first.steps:,} {unit_of(frame)}s"
        unclear = f"does not clearly change {span} ({signed(contrast.comparison)})"
        parts.append(f"{change} {span}" if contrast.winner else unclear)
    fewest, most, floor = contrasts[0].second, contrasts[-1].first, floor_of(frame)
    words = f"With {fewest.schedule} and {fewest.sampler}, {quantity(frame)} {listed(parts)}"
    left = [point.mean - (floor if is_known(floor) else 0) for point in (fewest, most)]
    if fewest.lower_is_better and min(left) > 0:
        each = (left[0] / left[1]) ** (1 / np.log2(most.steps / fewest.steps))
        what = "its distance to real images" if is_known(floor) else "it"
        words += f"; on average a doubling divides {what} by {number(each)}"
    return _finding(f"What do more {unit_of(frame)}s buy?", words, contrasts, contrasts[-1])


def best_under_a_budget(frame: pd.DataFrame) -> list[Finding]:
    """What is best with at most 10, 25 and 50 network evaluations per image?"""
    everything, contrasts = points(frame), family(frame)
    budgets_of: dict[tuple[str, ...], list[float]] = {}
    for budget in BUDGETS:
        affordable = within(everything, budget)
        # A budget that everything fits into is the question of `best_of_all`.
        if 1 < len(affordable) < len(everything):
            budgets_of.setdefault(best(affordable).keys, []).append(budget)
    return [_best_within(frame, everything, budgets, contrasts) for budgets in budgets_of.values()]


def price_of_an_evaluation(frame: pd.DataFrame) -> Finding | None:
    """What does a step cost in seconds?"""
    line = price(frame)
    if line is None:
        return None
    unit, name = (1e-3, "ms") if line.each < 1 else (1.0, "s")
    low, high = line.each - line.reach, line.each + line.reach
    each = estimate(line.each / unit, low / unit, high / unit)
    where = f" on {line.machine}" if line.machine else ""
    start = f"{number(line.fixed / unit, 2)} {name} plus " if line.fixed > 0 else ""
    words = (
        f"An image costs {start}{each} {name} per network evaluation{where} (a line through "
        f"{count(len(line.keys), 'cell')}, none further from it than "
        f"{number(100 * line.departure, 2)} %)"
    )
    if not line.holds:
        words += ", too rough a line to foresee other step counts by"
    if line.left_out:
        words += f"; {count(line.left_out, 'cell')} timed on other machines left out"
    return Finding(
        "What does a step cost?", sentence(words), line.keys, line.each, low, high,
        "measured" if line.holds else "inconclusive", len(line.keys),
        "" if line.holds else "timing more cells, or the same again on a quiet machine",
    )  # fmt: skip


def training_spread(frame: pd.DataFrame) -> Finding | None:
    """How much does another training seed change, beside the differences claimed?"""
    everything = [point for point in points(frame) if not point.is_exact]
    if not everything:
        return None
    question = "How much does another training seed change?"
    several = [point for point in everything if point.seeds > 1]
    if not several:
        words = (
            f"How much another training seed moves {quantity(frame)} was not measured: there is "
            "one, and every interval here covers the luck of sampling only"
        )
        return Finding(
            question, sentence(words), [], verdict="inconclusive", n=1,
            would_decide="at least two more training seeds",
        )  # fmt: skip
    gaps = {c.first.steps: abs(c.comparison.difference) for c in _asked(frame, "schedule")}
    steps = sorted({point.steps for point in several})
    parts = []
    for there in steps if len(steps) < 2 else (steps[0], steps[-1]):
        moves, _ = spread(point for point in several if point.steps == there)
        part = f"by {number(moves, 2)} {at_steps([there], unit_of(frame))}"
        if gaps.get(there, 0) > 0:
            part += (
                f" ({number(100 * moves / gaps[there], 2)} % of the gap between schedules there)"
            )
        parts.append(part)
    moves, sampling = spread(several)
    seeds = max(point.seeds for point in several)
    words = f"Another training seed moves {quantity(frame)} {listed(parts)}, "
    words += f"as a standard deviation over {count(seeds, 'seed')}"
    if is_known(sampling) and sampling > 0:
        words += f"; over all cells {number(moves / sampling, 2)} times the error of sampling alone"
    keys = sorted(key for point in several for key in point.keys)
    return Finding(question, sentence(words), keys, moves, n=seeds)


def sampling_spread(frame: pd.DataFrame) -> Finding | None:
    """How much does another sampling seed change, and do the standard errors foresee it?"""
    question = "How much does another sampling seed change?"
    ways = frame.groupby(["trained", "schedule", "sampler", "steps", "seed"])
    several = [group for _, group in ways if group["sampling_seed"].nunique() > 1]
    if not several:
        return None
    # Each group is one network sampled one way: what varies in it is the luck of sampling alone.
    freedom = sum(len(group) - 1 for group in several)
    variance = sum(group["centre"].var(ddof=1) * (len(group) - 1) for group in several) / freedom
    foreseen = float(np.sqrt(pd.concat(several)["error"].pow(2).mean()))
    moves = float(np.sqrt(variance))
    low, high = np.sqrt(variance * freedom / stats.chi2.ppf([0.975, 0.025], freedom))
    words = (
        f"Another sampling seed moves {quantity(frame)} by {estimate(moves, low, high)}, as a "
        f"standard deviation over {count(len(several), 'network and way', 'networks and ways')} "
        f"of sampling {'it' if len(several) == 1 else 'them'}"
    )
    agrees = bool(low <= foreseen <= high)
    if is_known(foreseen):
        words += (
            f"; the standard errors foresee {number(foreseen, 2)}, "
            f"{'which agrees' if agrees else 'which does not agree'}"
        )
    keys = sorted(key for group in several for key in group["key"])
    return Finding(
        question, sentence(words), keys, moves, float(low), float(high), n=len(several)
    )  # fmt: skip


def sampler_against_network(frame: pd.DataFrame) -> Finding | None:
    """How much of the error is the sampler's own, and how much the network's?

    The exact denoiser makes no error, so what it scores under a sampler is that sampler's own.
    """
    both = frame[frame["exact_value"].notna()]
    if both.empty:
        return None
    everything = points(both)
    leader = best(everything).label
    line = [point for point in everything if point.label == leader]
    ends = line if len(line) < 2 else [line[0], line[-1]]
    told = {point.steps: _network_error(both, point) for point in ends}
    where = [at_steps([point.steps], point.unit) for point in ends]
    exact = listed(
        f"{number(told[point.steps].exact)} {there}"
        for point, there in zip(ends, where, strict=True)
    )
    found = listed(number(point.mean) for point in ends)
    adds = listed(
        f"{estimate(each.network, each.low, each.high)}"
        + ("" if each.is_clear else ", which may be luck")
        for each in told.values()
    )
    last = told[ends[-1].steps]
    words = (
        f"With {line[0].schedule} and {line[0].sampler}, the exact denoiser has {quantity(frame)} "
        f"{exact}, which is the sampler's own error; the trained network has {found}, "
        f"so the network adds {adds}"
    )
    clear = all(each.is_clear for each in told.values())
    return Finding(
        "How much of the error is the sampler's, and how much the network's?", sentence(words),
        sorted({key for each in told.values() for key in each.keys}), last.network, last.low,
        last.high, "measured" if clear else "inconclusive", ends[-1].seeds,
        "" if clear else "more images per cell",
    )  # fmt: skip


def sampled_elsewhere(frame: pd.DataFrame) -> Finding | None:
    """Is a network best sampled under the schedule that it was trained under?"""
    contrasts = _asked(frame, "elsewhere")
    if not contrasts:
        return None
    parts = []
    for trained in dict.fromkeys(contrast.first.trained for contrast in contrasts):
        of_it = [contrast for contrast in contrasts if contrast.first.trained == trained]
        verdicts = {
            verdict: [contrast for contrast in of_it if contrast.comparison.verdict == verdict]
            for verdict in ("better", "worse", "inconclusive")
        }
        words = {
            "better": f"is best sampled under its own {at(verdicts['better'])}",
            "worse": f"is better sampled under another {at(verdicts['worse'])} "
            f"({pairs(verdicts['worse'])})",
            "inconclusive": f"gives no verdict {at(verdicts['inconclusive'])}",
        }
        parts.append(
            f"a network trained under {trained} "
            + listed(words[verdict] for verdict, those in verdicts.items() if those)
        )
    strongest = max(contrasts, key=lambda contrast: abs(contrast.comparison.difference))
    numbers = f"{described(strongest.first)} against {strongest.second.schedule}"
    words_of_all = (
        f"By {quantity(frame)}, {'; '.join(parts)} (the widest gap: {numbers}, {versus(strongest)})"
    )
    return _finding(
        "Is a network best sampled under the schedule it was trained under?",
        words_of_all, contrasts, strongest,
    )  # fmt: skip


def distance_to_real_images(frame: pd.DataFrame) -> Finding | None:
    """Can the best images be told from real ones?"""
    everything, floor = points(frame), floor_of(frame)
    if not everything or not is_known(floor):
        return None
    leader = best(everything)
    distance = leader.mean - floor
    reach = Z * float(np.hypot(leader.error, floor_error(frame, leader)))
    low, high = distance - reach, distance + reach
    is_apart = low > 0 if leader.lower_is_better else high < 0
    verb = "can still" if is_apart else "cannot"
    words = (
        f"The best images, {described(leader)}, {verb} be told from real held-out images: "
        f"{quantity(frame)} {number(leader.mean)} against {number(floor, 2)}, "
        f"a distance of {estimate(distance, low, high)}"
    )
    if not is_known(reach):
        words = (
            f"The best images, {described(leader)}, reach {quantity(frame)} {number(leader.mean)} "
            f"against {number(floor, 2)} for real held-out images, with no error to judge it by"
        )
    return Finding(
        "Can the best images be told from real ones?", sentence(words), list(leader.keys), distance,
        low, high, "worse" if is_apart else "inconclusive", leader.seeds,
        "" if is_apart else "more images, generated and held out",
    )  # fmt: skip


def without_verdict(frame: pd.DataFrame) -> Finding | None:
    """What could not be decided, and why?"""
    contrasts = family(frame)
    undecided = [contrast for contrast in contrasts if not contrast.winner]
    if not undecided:
        return None
    by_reason: dict[str, list[Contrast]] = {}
    for contrast in undecided:
        by_reason.setdefault(contrast.comparison.reason, []).append(contrast)
    parts = [f"{reason} ({pairs(those)})" for reason, those in by_reason.items()]
    words = f"{len(undecided)} of {count(len(contrasts), 'comparison')} "
    words += f"{'has' if len(undecided) == 1 else 'have'} no verdict: {'; '.join(parts)}"
    first = undecided[0]
    return _finding("What could not be decided, and why?", words, undecided, first)


def found(frame: pd.DataFrame) -> list[Finding]:
    """All findings of one comparable group, in the order of the questions."""
    findings: list[Finding] = []
    for name in [*BUILT_IN, *(name for name in FINDINGS if name not in BUILT_IN)]:
        answer = FINDINGS[name](frame)
        findings += answer if isinstance(answer, list) else [answer] if answer else []
    return findings


def answers(frame: pd.DataFrame) -> list[Finding]:
    """The findings that answer the three questions of the title, at most one for each."""
    everything = points(frame)
    if not everything:
        return []
    leader = best(everything).schedule
    samplers = sorted(
        ddim_against_ddpm(frame), key=lambda found: not found.question.endswith(f"with {leader}?")
    )
    chosen = [
        schedule_across_steps(frame) or schedule_at_few_steps(frame),
        samplers[0] if samplers else None,
        fewest_evaluations_near_the_best(frame) or best_of_all(frame),
    ]
    return [finding for finding in chosen if finding]


@dataclass(frozen=True)
class _Split:
    """What the exact denoiser scores in a point's way, and what the network adds to it."""

    exact: float
    network: float
    low: float
    high: float
    keys: tuple[str, ...]

    @property
    def is_clear(self) -> bool:
        return self.low > 0 or self.high < 0


def _network_error(frame: pd.DataFrame, point: Point) -> _Split:
    """On the models at hand, with all errors taken as independent: on the safe side, since both
    start from the same noise."""
    rows = frame[frame["key"].isin(point.keys)]
    once = rows.drop_duplicates("exact_key")
    exact = float(rows["exact_value"].mean())
    error = float(np.sqrt((once["exact_error"] ** 2).sum()) / len(once))
    reach = Z * float(np.hypot(point.error, error))
    added = point.mean - exact
    keys = (*point.keys, *sorted(once["exact_key"]))
    return _Split(exact, added, added - reach, added + reach, keys)


def _asked(frame: pd.DataFrame, question: str) -> list[Contrast]:
    return [contrast for contrast in family(frame) if contrast.question == question]


def _finding(
    question: str,
    words: str,
    contrasts: list[Contrast],
    shown: Contrast,
    verdict: Literal["better", "worse", "inconclusive"] | None = None,
) -> Finding:
    """A finding that rests on these contrasts and whose number is that of one of them."""
    comparison = shown.comparison
    return Finding(
        question, sentence(words), sorted({key for c in contrasts for key in c.keys}),
        comparison.difference, comparison.low, comparison.high, verdict or comparison.verdict,
        comparison.n, next((c.would_decide for c in contrasts if not c.winner), ""),
    )  # fmt: skip


def _schedule_at(frame: pd.DataFrame, contrast: Contrast) -> Finding:
    first, second, comparison = contrast.first, contrast.second, contrast.comparison
    there = at_steps([first.steps], first.unit)
    where = f"{there.capitalize()} with {first.sampler},"
    numbers = f"{quantity(frame)} is {versus(contrast)}"
    if contrast.winner:
        words = (
            f"{where} {first.schedule} is {comparison.verdict} than {second.schedule}: {numbers}, "
            f"{moved(comparison, 'lower', 'higher')}{_over_what(contrast)}"
        )
    elif comparison.n in FEW_SEEDS and not first.is_exact:
        words = (
            f"{where} {first.schedule} is ahead of {second.schedule} ({numbers}), "
            f"but {comparison.reason}"
        )
    else:
        words = (
            f"{where} {first.schedule} and {second.schedule} cannot be told apart: {numbers}, "
            f"{signed(comparison)}{_over_what(contrast)}, {comparison.reason}"
        )
    question = f"Which schedule is best {there}?"
    return _finding(question, words + _elsewhere(frame, contrast), [contrast], contrast)


def _over_what(contrast: Contrast) -> str:
    """` over 3 training seeds`; nothing where no network is trained."""
    return "" if contrast.first.is_exact else f" {over_seeds(contrast.comparison)}"


def _elsewhere(frame: pd.DataFrame, contrast: Contrast) -> str:
    """Whether the other samplers order these two schedules the same way: no test, only means."""
    here = {(p.schedule, p.sampler): p for p in points(frame) if p.steps == contrast.first.steps}
    orders: dict[bool, list[str]] = {}
    for sampler in sorted({sampler for _, sampler in here} - {contrast.first.sampler}):
        first = here.get((contrast.first.schedule, sampler))
        second = here.get((contrast.second.schedule, sampler))
        if first and second:
            orders.setdefault(first.rank <= second.rank, []).append(sampler)
    parts = [
        f"with {listed(samplers)} the means are in the {'same' if is_same else 'opposite'} order"
        for is_same, samplers in sorted(orders.items(), reverse=True)
    ]
    return f"; {listed(parts)}" if parts else ""


def _ddim_against_ddpm(frame: pd.DataFrame, contrasts: list[Contrast]) -> Finding:
    first, second = contrasts[0].first, contrasts[0].second
    decided = [contrast for contrast in contrasts if contrast.winner]
    undecided = [contrast for contrast in contrasts if not contrast.winner]
    verdicts = steps_by(decided, lambda contrast: contrast.comparison.verdict)
    parts = [f"{verdict} {at_steps(steps, first.unit)}" for verdict, steps in verdicts.items()]
    parts = [f"{parts[0].replace(' ', f' than {second.sampler} ', 1)}", *parts[1:]] if parts else []
    words = f"With {first.schedule}, {first.sampler} "
    if parts:
        words += f"is {listed(parts)}"
        words += f", without a verdict {at(undecided)}" if undecided else ""
    else:
        words += f"cannot be told from {second.sampler} {at(undecided)}"
    turns = [
        f"{after.winner.sampler} overtakes between {before.first.steps:,} and "
        f"{after.first.steps:,} {first.unit}s"
        for before, after in pairwise(decided)
        if before.winner and after.winner and before.winner.sampler != after.winner.sampler
    ]
    words += f", so {listed(turns)}" if turns else ""
    ends = contrasts if len(contrasts) < 2 else [contrasts[0], contrasts[-1]]
    numbers = listed(f"{versus(c)} {at_steps([c.first.steps], first.unit)}" for c in ends)
    words += (
        f" ({quantity(frame)} {numbers}; on {count(contrasts[0].comparison.n, 'trained model')})"
    )
    question = f"Is {first.sampler} or {second.sampler} better with {first.schedule}?"
    return _finding(question, words, contrasts, (decided or contrasts)[0])


def _best_within(
    frame: pd.DataFrame, everything: list[Point], budgets: list[float], contrasts: list[Contrast]
) -> Finding:
    ranked = best_of_each(within(everything, budgets[-1]), lambda point: point.label)
    leader = ranked[0]
    if budgets == [np.inf]:
        question = "Which combination is best, whatever it costs?"
        where = f"The best of the {count(len(everything), 'combination')} is"
    else:
        limits = (
            f"{listed((int(budget) for budget in budgets), 'or')} network evaluations per image"
        )
        question, where = (
            f"What is best with at most {limits}?",
            f"With at most {limits} the best is",
        )
    words = f"{where} {described(leader)} ({quantity(frame)} {value(leader)})"
    contrast = contrast_of(contrasts, leader, ranked[1]) if len(ranked) > 1 else None
    span = leader.interval()
    if contrast is None:
        return Finding(
            question, sentence(words), list(leader.keys), leader.mean, span.low, span.high,
            n=leader.seeds,
        )  # fmt: skip
    told = (
        f"worse by {magnitude(contrast.comparison)} {basis(contrast.comparison)}"
        if contrast.winner
        else f"which cannot be told from it ({contrast.comparison.reason})"
    )
    words += f"; next comes {described(ranked[1])}, {told}"
    return Finding(
        question, sentence(words), list(contrast.keys), leader.mean, span.low, span.high,
        "better" if contrast.winner else "inconclusive", leader.seeds, contrast.would_decide,
    )  # fmt: skip


def _no_cheaper(leader: Point, everything: list[Point]) -> str:
    """What it means that nothing cheaper than the best comes near it."""
    tried = [point.nfe for point in everything]
    if leader.nfe == min(tried):
        return f"The best, {described(leader)}, is already the cheapest tried"
    more = "More evaluations still pay: nothing" if leader.nfe == max(tried) else "Nothing"
    return f"{more} under {_evaluations(leader)} comes within 10 % of the best, {described(leader)}"


def _evaluations(point: Point) -> str:
    return f"{count(round(point.nfe), 'network evaluation')} per image"


# In the order in which a reader asks; the registry itself is in the order of names.
BUILT_IN: dict[str, Callable[[pd.DataFrame], Found]] = {
    "best_of_all": best_of_all,
    "schedule_at_few_steps": schedule_at_few_steps,
    "schedule_at_many_steps": schedule_at_many_steps,
    "schedule_across_steps": schedule_across_steps,
    "ddim_against_ddpm": ddim_against_ddpm,
    "fewest_evaluations_near_the_best": fewest_evaluations_near_the_best,
    "more_steps": more_steps,
    "best_under_a_budget": best_under_a_budget,
    "price_of_an_evaluation": price_of_an_evaluation,
    "training_spread": training_spread,
    "sampling_spread": sampling_spread,
    "sampler_against_network": sampler_against_network,
    "sampled_elsewhere": sampled_elsewhere,
    "distance_to_real_images": distance_to_real_images,
    "without_verdict": without_verdict,
}

FINDINGS = Registry("finding", BUILT_IN)
