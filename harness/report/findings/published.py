"""Whether samplers and schedules come in the order that others published."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from harness.analysis import comparisons
from harness.analysis.comparisons import Comparison, asked
from harness.analysis.configurations import Configuration
from harness.analysis.published import PUBLISHED, WHERE_AHEAD, Published
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.finding import Finding, finding_over, split

VERBS = {True: "agrees in", False: "disagrees in", None: "finds no significant difference in"}


@dataclass(frozen=True)
class Held:
    """One comparison of ours against the published order of the same two samplers."""

    better: str  # as published
    worse: str
    made: Comparison

    @property
    def steps(self) -> int:
        return self.made.steps

    @property
    def agrees(self) -> bool | None:
        """None where ours has no verdict."""
        return None if (won := self.made.winner) is None else won.kind == self.better

    @property
    def ahead(self) -> str:
        """Which sampler is ahead here, where there is a verdict."""
        return self.better if self.agrees else self.worse


def published_order(study: Study) -> list[Finding]:
    """Do samplers come in the order that others published, at about as many evaluations?"""
    both = ((published, _held(study, published)) for published in PUBLISHED)
    return [_finding(study, published, held) for published, held in both if held]


def published_schedules(study: Study) -> Finding | None:
    """Do we agree with published results on linear and cosine?

    Others found one ahead on one data set and the other on another.
    """
    made = [one for one in asked(study, "schedule") if _is_linear_against_cosine(one)]
    if not made:
        return None
    decided, undecided = split(made)
    ahead: dict[tuple[str, str], list[Comparison]] = {}
    for one in decided:
        winner = one.winner or one.first
        ahead.setdefault((winner.schedule, WHERE_AHEAD[_family(winner)]), []).append(one)
    won = ahead.items()
    parts = [f"{name} is ahead {say.at(those)} (as on {where})" for (name, where), those in won]
    parts += [f"no difference is significant {say.at(undecided)}"] if undecided else []
    words = (
        "With 4,000 evaluations Nichol and Dhariwal (2021) found cosine_discrete ahead of linear "
        f"on {WHERE_AHEAD['cosine']} and a little behind it on {WHERE_AHEAD['linear']}, by FID. "
        f"Here, by {study.named(study.metric)}, {say.listed(parts)}"
    )
    return finding_over(
        "Do we agree with published results on linear and cosine?", words, made,
        (decided or made)[0], "measured" if decided else None,
    )  # fmt: skip


def _is_linear_against_cosine(made: Comparison) -> bool:
    """Of trained networks that differ in nothing else."""
    both = (made.first, made.second)
    one, other = (each.cells[0].cell.training for each in both)
    are_networks = all(each.is_matched and not each.is_exact for each in both)
    is_pair = {_family(each) for each in both} == {*WHERE_AHEAD} and are_networks
    return is_pair and replace(one, schedule=other.schedule, seed=other.seed) == other


def _family(one: Configuration) -> str:
    """The name of its schedule without options, whether continuous or discrete."""
    return one.cells[0].cell.training.schedule.name.removesuffix("_discrete")


def _held(study: Study, published: Published) -> list[Held]:
    held, everything = [], comparisons.comparisons(study)
    for first, second, order in comparisons.published_pairs(study.configurations(), published):
        if made := comparisons.comparison_of(everything, first, second):
            held.append(Held(*order, made))
    return sorted(held, key=lambda each: (each.better, each.worse, each.steps))


def _finding(study: Study, published: Published, held: list[Held]) -> Finding:
    groups = {agrees: [each for each in held if each.agrees is agrees] for agrees in VERBS}
    parts = [f"{VERBS[agrees]} {say.count(len(some), 'comparison')} ({_orders(some)})"
             for agrees, some in groups.items() if some]  # fmt: skip
    decided = [*groups[True], *groups[False]]
    words = f"At about as many evaluations this study (under {published.schedule}, by "
    words += f"{study.named(study.metric)}) {say.listed(parts)}"
    words += "".join(f". {crossing}" for crossing in _crossings(published, held))
    return finding_over(
        f"Do the samplers come in the order published for {published.source}?", words,
        [each.made for each in held], (decided or held)[0].made, "measured" if decided else None,
    )  # fmt: skip


def _orders(held: Iterable[Held]) -> str:
    """`ddim ahead of ddpm at 10 and 20 steps`, which is the published order."""
    orders: dict[str, list[Comparison]] = {}
    for each in held:
        orders.setdefault(f"{each.better} ahead of {each.worse}", []).append(each.made)
    return say.listed(f"{order} {say.at(made)}" for order, made in orders.items())


def _crossings(published: Published, held: list[Held]) -> Iterable[str]:
    """Where one sampler overtakes another there, and where here."""
    decided = [each for each in held if each.agrees is not None]
    for pair in dict.fromkeys(frozenset((each.better, each.worse)) for each in decided):
        ours = [each for each in decided if {each.better, each.worse} == pair]
        ours = sorted(ours, key=lambda each: each.steps)
        first, second = sorted(pair)
        for low, high, wins, loses in published.crossings(first, second):
            there = f"There {wins} overtakes {loses} between {low} and {high} evaluations"
            here = f"{ours[-1].ahead} is ahead at {ours[-1].steps}"
            for before, after in reversed([*pairwise(ours)]):
                if (before.ahead, after.ahead) == (loses, wins):
                    here = f"between {before.steps} and {after.steps}"
            if len(ours) > 1:
                yield f"{there}; here {here}"
