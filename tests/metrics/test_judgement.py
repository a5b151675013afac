"""Everything about one metric of one set of images, by name."""

import math

import numpy as np
import pytest

from harness.errors import NotDefined
from harness.metrics.distances import METRICS
from harness.metrics.judgement import judge, numbers_of

DRAW = np.random.default_rng(0)
FEATURES, REFERENCE = DRAW.normal(size=(150, 5)), DRAW.normal(0.2, 1.1, size=(200, 5))
OTHER = DRAW.normal(size=(90, 5))


def given(name):
    more = {"held_out": OTHER, "logits": DRAW.normal(size=(150, 7))}
    return {need: more[need] for need in METRICS[name].needs}


@pytest.fixture(params=[name for name in METRICS if name != "fid_infinity"])
def name(request):
    return request.param


def test_every_metric_has_a_value_an_error_and_what_comparisons_need(name):
    found = judge(name, METRICS[name], FEATURES, REFERENCE, **given(name))
    assert math.isfinite(found.numbers[name])
    assert found.numbers[f"{name}_se"] > 0
    assert found.arrays
    for kept, array in found.arrays.items():
        assert kept == name or kept.startswith(f"{name}_")
        assert np.isfinite(array).all()
    if METRICS[name].influence:
        assert found.arrays[name].shape == (150,)
        assert found.arrays[name].dtype == np.float32
    else:
        assert found.arrays[f"{name}_left_out"].shape == (50,)


def test_the_error_of_every_metric_is_near_that_of_drawing_again(name):
    """Against the spread over fresh draws of the same law: no formula of the code is used."""
    random = np.random.default_rng(1)
    more = {"held_out": OTHER}
    values, errors = [], []
    for _ in range(60):
        features = random.normal(size=(150, 5))
        if "logits" in METRICS[name].needs:
            more["logits"] = random.normal(size=(150, 7))
        needed = {need: more[need] for need in METRICS[name].needs}
        found = judge(name, METRICS[name], features, REFERENCE, **needed)
        values.append(found.numbers[name])
        errors.append(found.numbers[f"{name}_se"])
    ratio = np.mean(errors) / np.std(values, ddof=1)
    # Neighbourhoods shrink in steps, and leaving out groups of images overstates what that does.
    assert 0.7 < ratio < (2.2 if name in ("recall", "coverage") else 1.6), ratio


def test_fid_is_centred_on_its_value_less_its_bias():
    # 2,000 images of the law of the reference population itself: FID is near 0 but for its bias.
    random = np.random.default_rng(2)
    reference = random.normal(size=(20_000, 5))
    centres, values = [], []
    for _ in range(40):
        found = judge("fid", METRICS["fid"], random.normal(size=(100, 5)), reference)
        centres.append(found.numbers["fid_centre"])
        values.append(found.numbers["fid"])
    bias = (5 + 5 * 6 / 4) / 100  # (1/n)(d + d(d + 1)/4)
    assert np.mean(values) == pytest.approx(bias, rel=0.2)
    assert abs(np.mean(centres)) < 0.25 * bias
    assert "kid_centre" not in judge("kid", METRICS["kid"], FEATURES, REFERENCE).numbers


@pytest.mark.parametrize("name", ["kid", "fid"])
def test_the_part_of_the_reference_is_there_where_it_is_asked_for(name):
    without = judge(name, METRICS[name], FEATURES, REFERENCE)
    found = judge(name, METRICS[name], FEATURES, REFERENCE, reference_variance=True)
    assert f"{name}_reference_se" not in without.numbers
    assert found.numbers[f"{name}_reference_se"] > 0
    assert found.arrays[f"{name}_reference"].shape == (200,)
    assert numbers_of([name], True) == {name, f"{name}_reference_se"}
    assert numbers_of([name], False) == {name}


def test_what_has_no_meaning_is_refused_with_the_number_that_would_do():
    with pytest.raises(NotDefined, match="80"):  # 16 images for each of 5 features
        judge("fid_infinity", METRICS["fid_infinity"], FEATURES[:70], REFERENCE)
    assert (
        "fid_infinity"
        in judge("fid_infinity", METRICS["fid_infinity"], FEATURES, REFERENCE).numbers
    )
