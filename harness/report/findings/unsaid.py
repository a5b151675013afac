"""What the findings leave out because it could not be tested: lines among the limitations."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.costs import price
from harness.analysis.denoising import levels
from harness.analysis.learning import learned
from harness.analysis.study import Study
from harness.report import wording as say
from harness.report.findings import best, published, theory
from harness.report.findings.networks import still_improving


def unsaid(study: Study) -> list[str]:
    """Why some findings say nothing, a sentence each."""
    return [*_unsaid(study)] if study.configurations() else []


def _unsaid(study: Study) -> Iterator[str]:
    trained = [one for one in study.configurations() if one.is_trained]
    if improving := still_improving(study):
        yield (
            f"{say.listed(improving)} still improved when training ended: what is said of what is "
            "trained holds for this length of training."
        )
    has_scale = study.metric.is_distance and study.metric.lower_is_better
    if trained and has_scale and learned(study) is None:
        yield (
            f"Whether the networks learned anything was not tested: {study.metric.title} of pure "
            "noise or of real held-out images was not measured."
        )
    if trained and max(one.seeds for one in trained) == 1:
        yield (
            "One training seed gives no verdict about schedules or any factor that retrains: "
            "every interval covers the sampling error alone."
        )
    if unmeasured := sum(one.denoising is None for one in study.trainings):
        yield (
            f"The denoising error by log SNR is not there for {say.count(unmeasured, 'training')}: "
            "it was made by an earlier version, or had no memory for it. Use --redo to train again."
        )
    elif study.trainings and levels(study) is None:
        yield (
            "The denoising error by log SNR is not compared: trainings of different versions "
            "measured it at different levels. Use --redo to train again."
        )
    made = theory.predicted_at_fewest_steps(study)
    if made and all(one.winner is None for one in made):
        yield (
            f"What the closed form predicts of schedules {say.at(made)} was not tested: no "
            "difference between them is significant there."
        )
    if published.is_undecided(study):
        yield (
            "Some published rankings of schedules or samplers could not be checked: here the "
            "differences between them are not significant."
        )
    if best.is_too_near_to_tell(study):
        yield (
            "How few evaluations come within 10 % of the best was not tested: the best images are "
            "as near to real ones as can be measured. Use more images per cell."
        )
    if (line := price(study)) is not None and not line.holds:
        yield (
            "Seconds per network evaluation are not given: cells lie up to "
            f"{say.percent(line.departure)} from a line. Time them again on a quiet machine."
        )
