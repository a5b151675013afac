"""Whether networks learned: half way between real images and pure noise is where it is decided."""

from dataclasses import replace

import pytest
from studies import results, two_schedules

from harness.analysis.learning import learned
from harness.analysis.study import Study
from harness.work.cells import Part
from harness.work.results import PURE_NOISE


def noise_of(score):
    def more(result):
        kid = replace(result.measurements["kid"], degraded={PURE_NOISE: score})
        return replace(result, measurements={"kid": kid})

    return more


def test_a_training_has_learned_whose_best_images_are_nearer_to_real_ones_than_to_noise():
    found = learned(two_schedules(2.2, 1.9, 1.4, 0.2, baseline=0.1, more=noise_of(2.5)))
    assert [*found.reached] == ["cosine", "linear"]
    assert (found.noise, found.baseline) == (2.5, pytest.approx(0.1))
    assert found.best == pytest.approx(0.2, abs=0.001)
    assert found.not_learned == ("linear",)  # 1.4 is above (2.5 + 0.1) / 2
    assert (found.has_learned, found.any_has_learned) == (False, True)


def test_all_or_none_may_have_learned():
    all_have = learned(two_schedules(0.3, 0.1, 0.2, 0.05, baseline=0.0, more=noise_of(1.0)))
    assert all_have.has_learned
    none_has = learned(two_schedules(0.9, 0.8, 0.9, 0.7, baseline=0.0, more=noise_of(1.0)))
    assert not none_has.any_has_learned
    assert len(none_has.not_learned) == 2


def test_it_is_not_known_without_noise_or_baseline_or_networks_or_a_distance():
    values = (0.3, 0.1, 0.2, 0.05)
    assert learned(two_schedules(*values, baseline=0.0)) is None
    assert learned(two_schedules(*values, more=noise_of(1.0))) is None
    of_exact = two_schedules(*values, baseline=0.0, more=noise_of(1.0), model=Part("exact"))
    assert learned(of_exact) is None
    other = results({("cosine", "ddim", 5): 0.5}, metric="coverage", baseline=0.9)
    assert learned(Study.of(other)) is None
    assert learned(Study.of([])) is None
