"""The inception score is tested against torch-fidelity, closed forms and finite differences."""

import subprocess
import sys

import numpy as np
import pytest

from harness.errors import NotDefined
from harness.metrics import arrays
from harness.metrics import logits as module
from harness.metrics.logits import inception_score, inception_score_influence


def draw(n=60, classes=10, seed=0, sharpness=3.0):
    return sharpness * np.random.default_rng(seed).normal(size=(n, classes))


def sets(n):
    """Features and a reference, of which the score takes no notice."""
    generator = np.random.default_rng(5)
    return generator.normal(size=(n, 4)), generator.normal(size=(7, 4))


def score(logits):
    return inception_score(*sets(len(logits)), logits=logits)


def influence(logits):
    return inception_score_influence(*sets(len(logits)), logits=logits)


def weighted_score(logits, weights):
    """Salimans et al. 2016, with a weight for each image; typed from the paper."""
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    weights = weights / weights.sum()
    overall = (weights[:, None] * p).sum(axis=0)
    return np.exp((weights * (p * np.log(p / overall)).sum(axis=1)).sum())


@pytest.mark.parametrize(("n", "classes"), [(60, 10), (300, 1008), (2, 2)])
@pytest.mark.parametrize("sharpness", [0.1, 3, 30])
def test_the_score_equals_that_of_torch_fidelity_over_one_split(n, classes, sharpness):
    import torch
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = draw(n, classes, sharpness=sharpness)
    expected = isc_features_to_metric(torch.from_numpy(logits), splits=1)["inception_score_mean"]
    assert score(logits) == pytest.approx(expected, rel=1e-5)


def test_the_score_is_the_number_of_classes_that_are_told_apart_for_certain():
    certain = 1000 * np.eye(10)
    assert score(np.tile(certain, (5, 1))) == pytest.approx(10, rel=1e-9)
    assert score(np.tile(certain[:4], (5, 1))) == pytest.approx(4, rel=1e-9)  # dropped classes
    assert score(np.tile(certain[0], (5, 1))) == pytest.approx(1, rel=1e-9)
    assert score(np.zeros((5, 10))) == pytest.approx(1, rel=1e-9)  # nothing is told apart


def test_doubt_and_dropped_classes_lower_the_score():
    logits = 8 * np.eye(10)[np.arange(200) % 10] + draw(200, sharpness=1)
    doubtful = [score(logits / temperature) for temperature in (1, 2, 4, 8)]
    assert doubtful == sorted(doubtful, reverse=True)
    fewer = [score(logits[np.arange(200) % 10 < kept]) for kept in (10, 7, 4, 1)]
    assert fewer == sorted(fewer, reverse=True)


def test_logits_that_are_all_higher_are_the_same_probabilities():
    logits = draw()
    assert score(logits + 700) == pytest.approx(score(logits), rel=1e-9)
    assert score(logits - 7e4) == pytest.approx(score(logits), rel=1e-9)
    assert np.isfinite(influence(1e6 * logits)).all()


def test_an_influence_is_the_derivative_by_the_weight_of_an_image():
    logits, n, step = draw(40), 40, 1e-4
    equal = np.full(n, 1 / n)
    measured = [
        (
            weighted_score(logits, (1 - step) * equal + step * one)
            - weighted_score(logits, (1 + step) * equal - step * one)
        )
        / (2 * step)
        for one in np.eye(n)
    ]
    assert score(logits) == pytest.approx(weighted_score(logits, equal), rel=1e-9)
    np.testing.assert_allclose(influence(logits), measured, rtol=1e-5, atol=1e-6)
    assert influence(logits).mean() == pytest.approx(0, abs=1e-12)


def test_an_influence_is_what_leaving_an_image_out_would_change():
    logits, n = draw(400), 400
    left_out = np.array([score(np.delete(logits, image, axis=0)) for image in range(n)])
    measured = (n - 1) * (score(logits) - left_out)
    assert np.corrcoef(measured, influence(logits))[0, 1] > 0.99
    assert np.polyfit(influence(logits), measured, 1)[0] == pytest.approx(1, abs=0.05)


def test_the_error_from_influences_is_the_spread_over_repeated_draws():
    draws = [draw(150, seed=seed) for seed in range(300)]
    errors = [influence(logits).std(ddof=1) / 150**0.5 for logits in draws]
    spread = np.std([score(logits) for logits in draws], ddof=1)
    assert np.mean(np.square(errors)) ** 0.5 == pytest.approx(spread, rel=0.15)


def test_neither_order_nor_blocks_change_anything(monkeypatch):
    logits = draw()
    value, whole = score(logits), influence(logits)
    assert score(logits[::-1]) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(influence(logits[::-1])[::-1], whole, rtol=1e-9)
    monkeypatch.setattr(module, "divergences", module.divergences.__wrapped__)
    for block in (1, 70, 200):
        monkeypatch.setattr(arrays, "HELD", block)
        assert score(logits) == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(influence(logits), whole, rtol=1e-9)


@pytest.mark.parametrize(
    ("logits", "problem"),
    [
        (draw(9), "of the same 60 images as the features, not of shape \\(9, 10\\)"),
        (draw()[:, 0], "not of shape \\(60,\\)"),
        (np.where(np.eye(60, 10), np.nan, draw()), "logits holds values .* in 10 images"),
    ],
)
def test_what_are_no_logits_of_these_images_is_refused(logits, problem):
    for function in (inception_score, inception_score_influence):
        with pytest.raises(ValueError, match=problem):
            function(*sets(60), logits=logits)


def test_one_class_or_one_image_is_refused():
    with pytest.raises(NotDefined, match="at least 2 classes, and the logits have 1"):
        score(draw(classes=1))
    with pytest.raises(ValueError, match="features must hold at least 2 images, not 1"):
        score(draw(1))


def test_logits_do_not_wait_for_torch():
    script = "import sys, harness.metrics.logits; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
