"""Which sampler is best, what fresh noise does, and how to space the steps."""

from __future__ import annotations

from itertools import pairwise

from harness.analysis.comparisons import Comparison, asked
from harness.analysis.configurations import Configuration
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings.finding import Finding, finding_over, split


def ddim_against_ddpm(study: Study) -> list[Finding]:
    """Is DDIM or DDPM better, and at how many steps does one overtake the other?"""
    kinds, findings = ("ddim", "ddpm"), []
    made = [one for one in asked(study, "sampler") if (one.first.kind, one.second.kind) == kinds]
    for line in _lines(made):
        ddim, ddpm = line[0].first, line[0].second
        both = f"{say.sampler_of(ddim)} or {say.sampler_of(ddpm)}"
        question = f"Is {both} better with {ddim.schedule}?"
        findings.append(_one_against_another(study, line, question))
    return findings


def effect_of_eta(study: Study) -> list[Finding]:
    """What does the fresh noise of eta do to DDIM?"""
    findings = []
    for line in _lines(asked(study, "eta")):
        ddim = line[0].first
        question = f"What does fresh noise (eta) do to DDIM with {ddim.schedule}?"
        findings.append(_one_against_another(study, line, question, _by_eta(study, ddim)))
    return findings


def effect_of_spacing(study: Study) -> Finding | None:
    """Does it matter how the steps are spaced?"""
    made = asked(study, "spacing")
    if not made:
        return None
    metric, (decided, undecided) = study.named(study.metric), split(made)
    widest = max(decided or made, key=lambda one: abs(one.difference.value))
    gap = f"{say.described(widest.first)} against {widest.second.spacing}: {say.versus(widest)}, "
    gap += say.signed(widest.difference)
    if decided:
        won = say.each_at(decided, lambda one: (one.winner or one.first).spacing)
        words = f"The best spacing is {say.listed(won)}, by {metric}"
        words += f"; {say.at(undecided)} no spacing is significantly ahead" if undecided else ""
    else:
        words = f"By {metric} no spacing is significantly ahead {say.at(made)}"
    return finding_over(
        "Does it matter how the steps are spaced?", f"{words} (the widest gap: {gap})", made, widest
    )


def _lines(made: list[Comparison]) -> list[list[Comparison]]:
    """The comparisons of each schedule and setting, by the number of steps."""
    lines: dict[tuple[str, str], list[Comparison]] = {}
    for one in made:
        lines.setdefault((one.first.schedule, one.first.setting), []).append(one)
    return [line for _, line in sorted(lines.items())]


def _by_eta(study: Study, like: Configuration) -> str:
    """The means at each eta between, where there are more than two."""
    place = like.schedule, like.setting, like.steps
    alike = [o for o in study.configurations() if (o.schedule, o.setting, o.steps) == place]
    means = sorted((one.eta, one.mean) for one in alike if one.eta is not None)
    if len(means) < 3:
        return ""
    words = say.listed(f"{say.number(mean)} at eta {eta:g}" for eta, mean in means)
    return f"; {say.at_steps([like.steps], like.unit)} it is {words}"


def _one_against_another(
    study: Study, made: list[Comparison], question: str, beside: str = ""
) -> Finding:
    """Two samplers under one schedule at every number of steps, and where one overtakes."""
    first, other = made[0].first, say.sampler_of(made[0].second)
    decided, undecided = split(made)
    parts = say.each_at(decided, lambda one: one.difference.verdict)
    words = f"With {first.schedule}, {say.sampler_of(first)} "
    if parts:
        words += f"is {say.listed([parts[0].replace(' ', f' than {other} ', 1), *parts[1:]])}"
        words += f", with no significant difference {say.at(undecided)}" if undecided else ""
    else:
        words += f"does not differ significantly from {other} {say.at(undecided)}"
    turns = []
    for before, after in pairwise(decided):
        if before.winner and after.winner and before.winner.sampler != after.winner.sampler:
            between = f"between {before.steps:,} and {after.steps:,} {first.unit}s"
            turns.append(f"{say.sampler_of(after.winner)} overtakes {between}")
    words += f", so {say.listed(turns)}" if turns else ""
    ends = dict.fromkeys((made[0], made[-1]))
    numbers = say.listed(f"{say.versus(one)} {say.at([one])}" for one in ends)
    models = "" if first.is_exact else f"; on {say.count(made[0].difference.n, 'trained model')}"
    words += f" ({study.named(study.metric)} {numbers}{models})"
    return finding_over(question, words + beside, made, (decided or made)[0])
