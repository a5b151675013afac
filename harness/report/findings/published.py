"""Whether samplers and schedules come in the order that others published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.analysis.configurations import Configuration
from harness.analysis.published import PAIRS, PUBLISHED, WHERE_AHEAD, Published
from harness.analysis.questions import Comparison, MainEffect, comparisons, question_named
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.finding import Finding, finding
from harness.report.findings.questions import where, won


@dataclass(frozen=True)
class Held:
    """One comparison of ours against the published order of the same two samplers."""

    better: str  # as published
    worse: str
    made: Comparison

    @property
    def agrees(self) -> bool | None:
        """None where ours has no verdict."""
        return None if (winner := self.made.winner) is None else winner.kind == self.better


def published_order(study: Study) -> list[Finding]:
    """Do samplers come in the order that others published, at about as many evaluations?"""
    found = []
    for published in PUBLISHED:
        held = list(_held(study, published))
        decided = [one for one in held if one.agrees is not None]
        if not decided:
            continue
        against = [one.made for one in decided if not one.agrees]
        agreeing = len(decided) - len(against)
        words = f"{agreeing:,} of {say.count(len(decided), 'significant comparison')} "
        words += f"{'comes' if agreeing == 1 else 'come'} in the published order"
        words += f". The other way round here: {_pairs(against)}" if against else ""
        shown = decided[0].made
        rows = [
            (f"{one.better} ahead of {one.worse}", f"{one.made.steps:,}", say.gap(one.made),
             {True: "agrees", False: "disagrees", None: one.made.effect.why}[one.agrees])
            for one in held
        ]  # fmt: skip
        found.append(finding(
            f"Do the samplers come in the order published for {published.source}?", words,
            (key for one in held for key in one.made.keys), shown.effect.change, n=shown.effect.n,
            columns=("published", f"{study.unit}s", "the one ahead here", "verdict"), rows=rows,
        ))  # fmt: skip
    return found


def published_schedules(study: Study) -> Finding | None:
    """Do we agree with published results on linear and cosine?

    Others found one ahead on one data set and the other on another.
    """
    made = _linear_against_cosine(study)
    if made is None or not (made.winner or made.is_opposed):
        return None
    words = (
        "By FID, the cosine of Nichol and Dhariwal (cosine_discrete here) is ahead of linear on "
    )
    words += f"{WHERE_AHEAD['cosine']} and a little behind it on {WHERE_AHEAD['linear']}. "
    if made.is_opposed:
        words += f"Here {where(won(made.comparisons))}"
    else:
        family = str(made.winner).partition("(")[0].removesuffix("_discrete")
        words += f"Here {made.winner} is ahead, as on {WHERE_AHEAD[family]}"
    return finding(
        "Do we agree with published results on linear and cosine?", words, made.keys,
        made.effect.change, n=made.effect.n,
        columns=("data", "ahead", "source"),
        rows=[(data, name, "Nichol and Dhariwal (2021), 4,000 evaluations")
              for name, data in WHERE_AHEAD.items()],
    )  # fmt: skip


def is_undecided(study: Study) -> bool:
    """Whether something published is asked here, too, and not decided."""
    schedules = _linear_against_cosine(study)
    held = [list(_held(study, published)) for published in PUBLISHED]
    asked = [not (schedules.winner or schedules.is_opposed)] if schedules else []
    return any(asked + [all(one.agrees is None for one in those) for those in held if those])


def _linear_against_cosine(study: Study) -> MainEffect | None:
    """Of trained networks."""
    question = question_named(study, "schedule")
    for made in question.main if question else ():
        both = made.comparisons[0].first, made.comparisons[0].second
        if {*map(_family, both)} == {*WHERE_AHEAD}:
            return made if all(one.is_trained and one.is_matched for one in both) else None
    return None


def _family(one: Configuration) -> str:
    """The name of its schedule without options, whether continuous or discrete."""
    return one.cells[0].cell.training.schedule.name.removesuffix("_discrete")


def _held(study: Study, published: Published) -> Iterator[Held]:
    """Our comparisons of trained networks under the table's schedule, at each number of steps that
    it tells of."""
    for made in comparisons(study, "sampler"):
        one, kinds = made.first, {made.first.kind, made.second.kind}
        pair = next((pair for pair in PAIRS if {*pair} == kinds), None)
        is_alike = one.schedule == published.schedule and one.is_matched and one.is_trained
        if pair and is_alike and (order := published.ahead(*pair, made.steps)):
            yield Held(*order, made)


def _pairs(against: list[Comparison]) -> str:
    """`ddpm ahead of ddim at 10 steps`, as it is here."""

    def ahead(one: Comparison) -> str:
        loser = one.second if one.winner is one.first else one.first
        return f"{(one.winner or one.first).kind} ahead of {loser.kind}"

    return say.listed(say.each_at(against, ahead))
