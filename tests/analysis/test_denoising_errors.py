"""The denoising error over seeds and along a path, and what more steps take away, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from studies import denoised, results, study, two_schedules

from harness.analysis.denoising import along_the_path, levels
from harness.analysis.questions import comparisons
from harness.analysis.shortfall import share_of_the_difference, shortfalls
from harness.analysis.study import Study
from harness.work.looks import Look

APART = {"linear": [0.1, 0.2, 0.3, 0.5, 0.7], "cosine": [0.2, 0.3, 0.3, 0.4, 0.5]}


def test_a_network_is_better_where_its_error_is_lower_under_every_seed():
    found = levels(denoised(APART))
    assert found.against_all("cosine", "better").tolist() == [False, False, False, True, True]
    assert found.against_all("cosine", "worse").tolist() == [True, True, False, False, False]
    assert (found.against_all("linear", "worse") == found.against_all("cosine", "better")).all()


def test_only_what_all_were_trained_on_is_compared():
    found = levels(denoised(APART, outside={"cosine": 4}))
    assert found.common.tolist() == [False] * 4 + [True]
    assert found.against_all("cosine", "better").tolist() == [False] * 4 + [True]
    assert not found.against_all("linear", "better").any()


def test_of_three_networks_one_is_better_than_all_and_another_worse_than_one():
    of = study({(name, "ddim", 5): 0.1 for name in ("linear", "cosine", "sigmoid")})
    found = levels(denoised(APART | {"sigmoid": [0.3, 0.25, 0.3, 0.3, 0.6]}, of=of))
    assert found.against_all("cosine", "better").tolist() == [False] * 4 + [True]
    assert found.against_all("cosine", "worse").tolist() == [True, True, False, True, False]
    assert found.is_lowest("sigmoid").tolist() == [False, False, True, True, False]


@pytest.mark.parametrize(
    ("path", "expected"),
    # Between levels the logarithm of the error is interpolated; the best linear denoiser has 0.5.
    [((-4.0,), 0.1 / 0.5), ((-4.0, 4.0), 0.8 / 1.0), ((-3.0,), (0.1 * 0.2) ** 0.5 / 0.5),
     ((-9.0,), 0.1 / 0.5)],
)  # fmt: skip
def test_along_a_path_the_error_is_that_of_the_levels_it_visits(path, expected):
    of = denoised(APART, path=path)
    linear = [one for one in of.cells if one.cell.training.schedule.name == "linear"]
    assert along_the_path(of, linear) == pytest.approx(expected, rel=1e-3)
    assert np.isnan(along_the_path(Study.of(of.results), linear))


def test_trainings_of_other_levels_or_of_none_are_not_put_side_by_side():
    of = denoised(APART)
    first, *rest = of.trainings
    fewer = replace(first.denoising, levels=first.denoising.levels[1:])
    for other in (None, fewer):
        changed = replace(first, denoising=other)
        assert levels(Study(of.results, (changed, *rest))) is None
    assert levels(Study.of([])) is None


def test_what_more_steps_take_away_is_a_share_of_the_distance_to_real_images():
    of = study(
        {("cosine", "ddim", 5): [0.5, 0.7], ("cosine", "ddim", 50): [0.2, 0.2]}, baseline=0.1
    )
    [found] = shortfalls(of)
    assert found.total == pytest.approx(0.5)
    assert found.share_of_steps.estimate == pytest.approx((0.3 + 0.5) / 2 / 0.5)
    # Student's t of one degree of freedom, 12.7, times the error of the mean of .6 and 1.
    assert found.share_of_steps.high == pytest.approx(0.8 + 12.706 * 0.2, rel=1e-3)
    near = study({("cosine", "ddim", 5): 0.1, ("cosine", "ddim", 50): 0.1}, baseline=0.1)
    assert shortfalls(near) == []


def test_the_share_of_a_difference_that_more_steps_take_away():
    of = two_schedules([0.5, 0.5], [0.3, 0.3], [0.2, 0.2], [0.1, 0.1], baseline=0.0)
    made = next(one for one in comparisons(of, "schedule") if one.steps == 5)
    # Of a difference of .2 at 5 steps, .1 is there at 50.
    assert share_of_the_difference(made, of).estimate == pytest.approx(0.5)
    at_the_most = next(one for one in comparisons(of, "schedule") if one.steps == 50)
    assert share_of_the_difference(at_the_most, of) is None


def test_a_share_is_of_the_seeds_that_both_numbers_of_steps_have():
    # Two of three seeds are missing at 50 steps: .09 of the .1 of the first is gone.
    of = study({("cosine", "ddim", 5): [0.1, 0.1, 0.7], ("cosine", "ddim", 50): [0.01]})
    assert shortfalls(of)[0].share_of_steps.estimate == pytest.approx(0.9)
    both = results({("linear", "ddim", 5): [0.3, 0.3], ("linear", "ddim", 50): [0.2],
                    ("cosine", "ddim", 5): [0.1, 0.9], ("cosine", "ddim", 50): [0.1]})  # fmt: skip
    made = next(one for one in comparisons(Study.of(both), "schedule") if one.steps == 5)
    assert share_of_the_difference(made, Study.of(both)).estimate == pytest.approx(0.5)


def test_each_look_spends_its_own_part_of_the_error_rate():
    of = denoised(APART)
    looks = tuple(Look(tuple(range(n)), (0,)) for n in (3, 5))
    assert [levels(replace(of, looks=looks[:n])).alpha for n in (0, 1, 2)] == [0.05, 0.02, 0.015]
    # Its adjusted p-value is .033: significant where there is one look, and not at the second.
    near = denoised({"linear": [0.3] * 5, "cosine": [0.285, 0.3, 0.3, 0.3, 0.3]})
    for looked, is_better in ((looks[:0], True), (looks, False)):
        found = levels(replace(near, looks=looked)).against_all("cosine", "better")
        assert found.tolist() == [is_better, False, False, False, False]


def test_networks_of_several_scales_are_compared_at_the_same_noise_in_the_pixels():
    of = denoised(APART, path=(-3.0,))

    def in_units(one):
        if one.training.schedule.name == "linear":
            return one
        lower = tuple(replace(each, log_snr=each.log_snr - 1) for each in one.denoising.levels)
        return replace(one, denoising=replace(one.denoising, levels=lower, offset=1.0))

    trainings = tuple(map(in_units, of.trainings))
    mixed = Study(of.results, trainings)
    assert levels(mixed).axis != levels(of).axis == "log SNR"
    assert levels(mixed).log_snr == pytest.approx([-4, -2, 0, 2, 4])
    cosine = [one for one in of.cells if one.cell.training.schedule.name == "cosine"]
    # What its network calls -3 is -2 for pixels in -1..1.
    assert along_the_path(mixed, cosine) == pytest.approx(0.3 / 0.5, rel=1e-3)
    alone = [one for one in trainings if one.training.schedule.name == "cosine"]
    assert levels(Study(tuple(cosine), tuple(alone))).log_snr == pytest.approx([-5, -3, -1, 1, 3])
