"""Everything about one metric of one set of images, by name."""

import math
from dataclasses import replace

import made
import numpy as np
import pytest

from harness.errors import NotDefined
from harness.metrics.distances import METRICS
from harness.metrics.evaluation import deciding, evaluate, lacking

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
    found = evaluate(name, METRICS[name], FEATURES, REFERENCE, **given(name))
    assert math.isfinite(found.measurement.value)
    assert found.measurement.standard_error > 0
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
    """Against the spread over fresh draws of one distribution: no formula of the code is used."""
    random = np.random.default_rng(1)
    more = {"held_out": OTHER}
    values, errors = [], []
    for _ in range(60):
        features = random.normal(size=(150, 5))
        if "logits" in METRICS[name].needs:
            more["logits"] = random.normal(size=(150, 7))
        needed = {need: more[need] for need in METRICS[name].needs}
        found = evaluate(name, METRICS[name], features, REFERENCE, **needed).measurement
        values.append(found.value)
        errors.append(found.standard_error)
    ratio = np.mean(errors) / np.std(values, ddof=1)
    # Neighbourhoods shrink in steps, and leaving out groups of images overstates what that does.
    assert 0.7 < ratio < (2.2 if name in ("recall", "coverage") else 1.6), ratio


def test_fid_is_corrected_by_its_bias():
    # 100 images of the distribution of the reference itself: FID is near 0 but for its bias.
    random = np.random.default_rng(2)
    reference = random.normal(size=(20_000, 5))
    found = [
        evaluate("fid", METRICS["fid"], random.normal(size=(100, 5)), reference).measurement
        for _ in range(40)
    ]
    bias = (5 + 5 * 6 / 4) / 100  # (1/n)(d + d(d + 1)/4)
    assert np.mean([one.value for one in found]) == pytest.approx(bias, rel=0.2)
    assert abs(np.mean([one.corrected for one in found])) < 0.25 * bias
    kid = evaluate("kid", METRICS["kid"], FEATURES, REFERENCE).measurement
    assert kid.corrected == kid.value


@pytest.mark.parametrize("name", ["kid", "fid"])
def test_the_part_of_the_reference_is_there_where_it_is_asked_for(name):
    without = evaluate(name, METRICS[name], FEATURES, REFERENCE)
    found = evaluate(name, METRICS[name], FEATURES, REFERENCE, reference_variance=True)
    assert without.measurement.reference_error is None
    assert found.measurement.reference_error > 0
    assert replace(found.measurement, reference_error=None) == without.measurement
    assert found.arrays[f"{name}_reference"].shape == (200,)


def test_what_has_no_meaning_is_refused_with_the_number_that_would_do():
    with pytest.raises(NotDefined, match="80"):  # 16 images for each of 5 features
        evaluate("fid_infinity", METRICS["fid_infinity"], FEATURES[:70], REFERENCE)
    found = evaluate("fid_infinity", METRICS["fid_infinity"], FEATURES, REFERENCE)
    assert math.isfinite(found.measurement.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_whose_value_is_no_number_is_not_defined(value):
    broken = replace(METRICS["kid"], function=lambda features, reference: value)
    with pytest.raises(NotDefined, match="no number"):
        evaluate("kid", broken, FEATURES, REFERENCE)


# What a cell lacks.


def test_without_a_result_every_metric_is_lacking():
    assert lacking(None, ["fid", "kid"]) == ["fid", "kid"]


def test_what_was_measured_or_has_no_value_is_not_lacking():
    result = made.result(kid=0.1, undefined={"recall": "too few images"})
    assert lacking(result, ["recall", "kid"]) == []
    assert lacking(result, ["recall", "fid", "kid"]) == ["fid"]


def test_a_reference_error_that_is_asked_for_later_is_lacking_where_the_metric_has_one():
    result = made.result(kid=0.1, precision=0.7)
    assert lacking(result, ["kid", "precision"], reference_variance=True) == ["kid"]
    complete = made.result(kid=made.measured(0.1, reference_error=0.01))
    assert lacking(complete, ["kid"], reference_variance=True) == []


def test_a_metric_of_another_package_is_lacking_once_its_code_changed(monkeypatch):
    monkeypatch.setattr(METRICS, "source", lambda name: "mine 1.0 #b" if name == "kid" else "")
    for before in ("", "mine 1.0 #a"):
        measured = made.result(kid=0.1, recall=0.5, metric_sources={"kid": before})
        assert lacking(measured, ["kid", "recall"]) == ["kid"]
        undefined = made.result(undefined={"kid": "too few"}, metric_sources={"kid": before})
        assert lacking(undefined, ["kid"]) == ["kid"]
    current = made.result(kid=0.1, metric_sources={"kid": "mine 1.0 #b"})
    assert lacking(current, ["kid"]) == []


@pytest.mark.parametrize(
    ("metrics", "name"),
    [(["fid", "kid"], "kid"), (["precision", "fid"], "fid"), (["precision"], None)],
)
def test_kid_decides_before_fid(metrics, name):
    assert deciding(metrics) == name
