"""The figure of the denoising error: what it draws, and what its caption says of it."""

from dataclasses import replace

import numpy as np
import pytest

from harness.report.figures.catalogue import caption, figure_named
from harness.report.figures.style import looks
from harness.work.results import SCHEDULE_CURVE


def panels(figure):
    return [axes.get_ylabel().replace("\n", " ") for axes in figure.axes]


def line_of(axes, colour):
    [found] = [line for line in axes.lines if line.get_color() == colour]
    return np.array(found.get_xdata()), np.array(found.get_ydata())


def test_errors_differences_and_training_times_stand_below_each_other(drawn, results, study_of):
    figure = drawn("denoising_error", results)
    assert panels(figure) == ["error of ε", "% above geometric mean", "training density"]
    colours, (errors, apart, times) = looks(study_of(results)).colours, figure.axes
    log_snr, cosine = line_of(apart, colours["cosine"])
    _, linear = line_of(apart, colours["linear"])
    common = (log_snr > -7.8) & (log_snr < 2.2)  # where both were trained
    assert [*np.isfinite(cosine)] == [*np.isfinite(linear)] == [*common]
    assert (cosine[common] > 0).tolist() == (log_snr[common] < 0).tolist()
    # In logarithms they are as far above the mean as below it.
    assert (1 + cosine[common] / 100) * (1 + linear[common] / 100) == pytest.approx(1, abs=1e-4)
    log_snr, density = line_of(times, colours["cosine"])  # which spends all of its time
    assert np.trapezoid(density[::-1], log_snr[::-1]) == pytest.approx(1, abs=0.03)
    [first, *_] = [one for one in study_of(results).trainings if "cosine" in one.training.title]
    known = first.artifacts.table(SCHEDULE_CURVE)["log_snr"]
    known = known[np.isfinite(known)]  # up to both ends, where nothing is drawn beyond
    assert (log_snr.min(), log_snr.max()) == (known.min(), known.max())
    assert {line.get_alpha() for line in errors.lines} == {None, 0.3}


def test_a_caption_speaks_of_what_is_drawn(drawn, build):
    both = caption("denoising_error", drawn("denoising_error", build()))[1]
    one = drawn("denoising_error", build(schedules=("cosine",)))
    assert panels(one) == ["error of ε", "training density"]
    assert "relative to the geometric mean of all networks" in both
    assert (
        "relative to the geometric mean of all networks" not in caption("denoising_error", one)[1]
    )


def test_trainings_without_it_have_the_loss_by_time_instead(drawn, results, study_of):
    old = replace(
        results, trainings=tuple(replace(one, denoising=None) for one in results.trainings)
    )
    assert drawn("denoising_error", old) is None
    assert drawn("loss_by_time", old) is not None


def test_what_is_of_several_versions_leaves_the_loss_by_time(results, study_of):
    of = study_of(results)
    first, *rest = of.trainings
    fewer = replace(first.denoising, levels=first.denoising.levels[1:])
    mixed = replace(of, trainings=(replace(first, denoising=fewer), *rest))
    assert figure_named("denoising_error", mixed) is None
    assert figure_named("loss_by_time", mixed) is not None
    assert figure_named("loss_by_time", of) is None
