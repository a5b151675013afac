"""Which schedule is best, at how many steps, and whether networks keep to their own."""

from __future__ import annotations

from collections.abc import Iterable

from harness.analysis.comparisons import Comparison, asked
from harness.analysis.configurations import Configuration, best
from harness.analysis.statistics import FEW_SEEDS, SMALL
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.finding import Finding, finding_over, split

MOST_SAMPLERS = 6  # samplers in a sentence
MATCHED = {
    "better": "is best sampled under its matched schedule",
    "worse": "is better sampled under a mismatched schedule",
    "inconclusive": "shows no significant difference",
}


def schedule_at_few_steps(study: Study) -> Finding | None:
    """Which schedule is best at the fewest steps?"""
    made = asked(study, "schedule")
    return _schedule_at(study, made[0]) if made else None


def schedule_at_many_steps(study: Study) -> Finding | None:
    """Which schedule is best at the most steps?"""
    made = asked(study, "schedule")
    return _schedule_at(study, made[-1]) if len(made) > 1 else None


def schedule_across_steps(study: Study) -> Finding | None:
    """Is the same schedule best at every number of steps?"""
    made, unit = asked(study, "schedule"), study.unit
    if len(made) < 2:
        return None
    metric, (decided, undecided) = study.named(study.metric), split(made)
    # Without a verdict the means still have an order, which is said as that and no more.
    won = say.steps_by(decided or made, lambda one: _ahead(one).schedule)
    leader, *others = won
    tried = f"at every number of {unit}s tried ({say.listed(f'{one.steps:,}' for one in made)})"
    where = tried if len(won[leader]) == len(made) else say.at_steps(won[leader], unit)
    each = say.listed(say.each_at(decided or made, lambda one: _ahead(one).schedule))
    narrowest = min(decided or made, key=lambda one: abs(one.difference.value))
    if decided:
        words = f"The {leader} schedule is best {where}"
        words = f"Which schedule is best depends on the {unit}s: {each}" if others else words
        words += f", by {metric}"
        words += f"; {say.at(undecided)} no schedule is significantly ahead" if undecided else ""
        gap = f"{say.magnitude(narrowest.difference)}, {say.at_steps([narrowest.steps], unit)}"
        words += f" (the narrowest gap is {gap})"
    else:
        ahead = f"the schedule ahead is {each}" if others else f"{leader} is ahead {where}"
        reasons = say.listed(dict.fromkeys(say.why_undecided(one.difference) for one in made))
        words = f"By the mean {metric} {ahead}{_pairs_ahead(study, made)}; "
        words += f"no single number of {unit}s gives a verdict ({reasons})"
    return finding_over(
        f"Is the same schedule best at every number of {unit}s?",
        words + _not_compared(study, made), made, narrowest,
        verdict=decided[0].difference.verdict if decided else "inconclusive",
    )  # fmt: skip


def mismatched_schedules(study: Study) -> Finding | None:
    """Is a network best sampled under the schedule that it was trained under?"""
    made = asked(study, "mismatched")
    if not made:
        return None
    parts = []
    for trained in dict.fromkeys(one.first.trained for one in made):
        results = []
        for verdict, words in MATCHED.items():
            of_it = [one for one in made if one.first.trained == trained]
            if those := [one for one in of_it if one.difference.verdict == verdict]:
                which = f" ({say.pairs(those)})" if verdict == "worse" else ""
                results.append(f"{words} {say.at(those)}{which}")
        parts.append(f"a network trained under {trained} {say.listed(results)}")
    widest = max(made, key=lambda one: abs(one.difference.value))
    gap = f"{say.described(widest.first)} against {widest.second.schedule}, {say.versus(widest)}"
    return finding_over(
        "Is a network best sampled under the schedule it was trained under?",
        f"By {study.named(study.metric)}, {'; '.join(parts)} (the widest gap: {gap})", made, widest,
    )  # fmt: skip


def _schedule_at(study: Study, made: Comparison) -> Finding:
    first, second, difference = made.first, made.second, made.difference
    there = say.at_steps([made.steps], first.unit)
    numbers = f"{study.named(study.metric)} is {say.versus(made)}"
    over = "" if first.is_exact else f" {say.basis(difference)}"
    apart = f"{numbers}, {say.signed(difference)}{over}"
    if made.winner:
        words = f"{first.schedule} is {difference.verdict} than {second.schedule}: {numbers}, "
        words += f"{say.change_of(difference, 'lower', 'higher')}{over}"
    elif difference.n in FEW_SEEDS and not first.is_exact:
        words = f"{first.schedule} is ahead of {second.schedule} ({numbers}), but "
        words += difference.reason
    elif difference.low > 0 or difference.high < 0:
        words = f"{first.schedule} looks better than {second.schedule}: {apart}, "
        words += difference.reason
    else:
        words = f"{first.schedule} and {second.schedule} do not differ significantly: {apart}"
        words += "" if difference.reason == SMALL else f" ({difference.reason})"
    words = f"{there.capitalize()} with {say.sampler_of(first)}, {words}"
    words += _other_samplers(study, made) + _not_compared(study, [made])
    return finding_over(f"Which schedule is best {there}?", words, [made], made)


def _ahead(made: Comparison) -> Configuration:
    """Which is ahead, by the verdict or without one by the mean."""
    return made.winner or best([made.first, made.second])


def _other_samplers(study: Study, made: Comparison) -> str:
    """Whether the other samplers order these two schedules the same way: no test, only means."""
    here = {(o.schedule, o.sampler): o for o in study.configurations() if o.steps == made.steps}
    orders: dict[bool, list[str]] = {}
    for sampler in sorted({sampler for _, sampler in here} - {made.first.sampler}):
        first = here.get((made.first.schedule, sampler))
        second = here.get((made.second.schedule, sampler))
        if first and second:
            orders.setdefault(first.rank <= second.rank, []).append(say.sampler_of(first))
    total, parts = sum(map(len, orders.values())), []
    for is_same, those in sorted(orders.items(), reverse=True):
        who = say.listed(those)
        if total > MOST_SAMPLERS:
            who = f"{'all' if len(those) == total else f'{len(those)} of'} {total} other samplers"
        parts.append(f"in the {'same' if is_same else 'opposite'} order with {who}")
    return f"; the means are {say.listed(parts)}" if parts else ""


def _pairs_ahead(study: Study, made: list[Comparison]) -> str:
    """In how many pairs of cells, alike in all but these two schedules, the leader is ahead."""
    schedules = {one.schedule for each in made for one in (each.first, each.second)}
    leaders = {_ahead(one).schedule for one in made}
    if len(schedules) != 2 or len(leaders) != 1:
        return ""
    [leader], [other] = leaders, schedules - leaders
    everything = study.configurations()
    partner = {(one.sampler, one.steps): one for one in everything if one.schedule == other}
    gaps: list[float] = []
    for one in everything:
        if one.schedule == leader and (rival := partner.get((one.sampler, one.steps))):
            gaps += _gaps(one, rival, one.corrected.keys() & rival.corrected.keys())
    return f", and in {sum(gap < 0 for gap in gaps)} of {len(gaps)} pairs of the same seed"


def _not_compared(study: Study, made: Iterable[Comparison]) -> str:
    """The schedules that are ahead by the mean of the seeds they share with the leader, with the
    same sampler, but share too few to be compared with it."""
    ahead: dict[str, list[int]] = {}
    for comparison in made:
        leader = comparison.first
        for one in study.configurations():
            seeds = one.values.keys() & leader.values.keys()
            is_alike = (one.steps, one.sampler) == (leader.steps, leader.sampler) and one.is_matched
            has_few = 0 < len(seeds) < comparison.difference.n
            if is_alike and has_few and sum(_gaps(one, leader, seeds)) < 0:
                ahead.setdefault(one.schedule, []).append(one.steps)
    return "".join(
        f"; {schedule}, ahead {say.at_steps(steps, study.unit)} by the mean, shares too few "
        "training seeds with it to be compared"
        for schedule, steps in ahead.items()
    )


def _gaps(one: Configuration, other: Configuration, seeds: Iterable[int]) -> list[float]:
    """By how much one is worse than the other under each of these training seeds."""
    sign = 1 if one.lower_is_better else -1
    return [sign * (one.corrected[seed] - other.corrected[seed]) for seed in seeds]
