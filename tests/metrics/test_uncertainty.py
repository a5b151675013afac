"""The errors of distances against formulas typed anew, brute force and repeated draws."""

import numpy as np
import pytest
from scipy import linalg

from harness.metrics import arrays, frechet, uncertainty
from harness.metrics import kid as kernels
from harness.metrics.frechet import fid, fid_left_out
from harness.metrics.kid import kid, kid_standard_error
from harness.metrics.uncertainty import (
    fid_centre,
    fid_difference_error,
    fid_groups,
    fid_reference_influence,
    fid_reference_variance,
    jackknife_error,
    kid_difference_error,
    kid_reference_influence,
    kid_reference_variance,
)


def draw(n, d=6, seed=0, shift=0.0, scale=1.0):
    """Correlated Gaussian features."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d)) / d**0.5 + np.eye(d)
    return scale * generator.normal(size=(n, d)) @ mixing + shift


def pair(n, d=6, seed=0, apart=0.3):
    """Two sets whose images share most of their noise."""
    first, second = draw(n, d, seed), draw(n, d, seed + 5000)
    return first + apart, 0.9 * first + 0.3 * second


def kernel(x, y):
    return (x @ y.T / x.shape[1] + 1) ** 3


def off_diagonal(matrix):
    return matrix * (1 - np.eye(len(matrix)))


def doubly_centred_square(k):
    """z of section 6, with whole matrices; the diagonal of k is 0."""
    n = len(k)
    r, g = k.sum(axis=1) / (n - 2), k.sum() / ((n - 1) * (n - 2))
    return (off_diagonal(k - r[:, None] - r[None, :] + g) ** 2).sum() / (n * (n - 3))


def crossed_square(k):
    n, m = k.shape
    c = k - k.mean(axis=0) - k.mean(axis=1)[:, None] + k.mean()
    return (c**2).sum() / ((n - 1) * (m - 1))


def spread_against_mean_square_error(values, variances):
    return np.std(values, ddof=1), np.mean(variances) ** 0.5


# The jackknife.


@pytest.mark.parametrize("groups", [5, 10, 40])
def test_the_jackknife_takes_away_a_bias_like_one_over_n_and_nothing_else(groups):
    def biased(n):
        return 3 + 17 / n

    left_out = np.full(groups, biased(200 - 200 // groups))
    assert fid_centre(biased(200), left_out) == pytest.approx(3, rel=1e-9)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(0).normal(size=40)
    left_out = np.array([np.delete(x, i).mean() for i in range(40)])
    assert jackknife_error(left_out) == pytest.approx(x.std(ddof=1) / 40**0.5, rel=1e-9)
    assert fid_centre(x.mean(), left_out) == pytest.approx(x.mean(), rel=1e-9)


def test_the_jackknife_takes_most_of_the_bias_of_fid_away():
    # A set of the reference's own moments in large: the truth of a draw with replacement is 0.
    population, n = draw(400, 10), 80
    generator = np.random.default_rng(0)
    values, centres = [], []
    for _ in range(200):
        features = population[generator.integers(400, size=n)]
        values.append(fid(features, population))
        centres.append(fid_centre(values[-1], fid_left_out(features, population)))
    assert np.mean(values) > 0.2
    assert abs(np.mean(centres)) < 0.15 * np.mean(values)


@pytest.mark.parametrize("images", [120, 400])  # fewer and more than features
def test_fid_without_groups_has_the_same_bits_on_any_number_of_cores(monkeypatch, images):
    features, reference = draw(images, 150), draw(500, 150)
    seen = []
    for cores in (1, 3):
        monkeypatch.setattr(arrays, "cores", lambda cores=cores: cores)
        seen.append(fid_left_out(features, reference, groups=7))
    assert np.array_equal(*seen)
    without = [fid(np.delete(features, np.s_[group::7], axis=0), reference) for group in range(7)]
    assert seen[0] == pytest.approx(without, rel=1e-6)


def test_fewer_groups_are_left_out_where_each_is_dear():
    assert [fid_groups(d) for d in (64, 768, 1024, 2048)] == [50, 50, 10, 10]


# Paired differences.


def test_the_error_of_a_difference_of_kid_is_the_formula_with_whole_matrices():
    (a, b), reference = pair(40), draw(30, seed=1)
    n = len(a)
    k = off_diagonal(kernel(a, a) - kernel(b, b))
    h = 2 * k.sum(axis=1) / (n - 1)
    h -= 2 * (kernel(a, reference) - kernel(b, reference)).mean(axis=1)
    expected = h.var(ddof=1) / n - 2 * doubly_centred_square(k) / (n * (n - 1))
    assert expected > 0.3 * h.var(ddof=1) / n
    assert kid_difference_error(a, b, reference) == pytest.approx(expected**0.5, rel=1e-9)


@pytest.mark.parametrize("apart", [0.0, 0.3])
def test_errors_of_differences_are_the_spread_over_repeated_draws(apart):
    reference = draw(100, d=3, seed=1)
    differences, variances = {"kid": [], "fid": []}, {"kid": [], "fid": []}
    for seed in range(400):
        a, b = pair(100, d=3, seed=10_000 * (seed + 1), apart=apart)
        differences["kid"].append(kid(a, reference) - kid(b, reference))
        differences["fid"].append(fid(a, reference) - fid(b, reference))
        variances["kid"].append(kid_difference_error(a, b, reference) ** 2)
        variances["fid"].append(fid_difference_error(a, b, reference) ** 2)
    for name, values in differences.items():
        spread, error = spread_against_mean_square_error(values, variances[name])
        assert error == pytest.approx(spread, rel=0.13), name


def test_an_error_of_a_difference_does_not_depend_on_its_sign_and_is_small_for_like_images():
    (a, b), reference = pair(60, apart=0), draw(50, seed=1)
    for difference_error in (kid_difference_error, fid_difference_error):
        error = difference_error(a, b, reference)
        assert difference_error(b, a, reference) == pytest.approx(error, rel=1e-9)
        assert difference_error(a, b[::-1], reference) > 1.5 * error
        assert difference_error(a, a, reference) == 0


def test_the_error_of_kid_keeps_what_pairs_give_where_the_rest_is_lost_in_noise():
    # Of sets so small and of the reference's distribution, some have less spread than their pairs.
    x = draw(12, d=3)
    k = off_diagonal(kernel(x, x))
    pairs = 2 * doubly_centred_square(k) / (12 * 11)
    reference = draw(4000, d=3, seed=3)
    h = 2 * k.sum(axis=1) / 11 - 2 * kernel(x, reference).mean(axis=1)
    sets = [draw(12, d=3, seed=seed) for seed in range(40)]
    errors = np.array([kid_standard_error(each, reference) for each in [x, *sets]])
    assert errors[0] ** 2 == pytest.approx(max(h.var(ddof=1) / 12 - pairs, pairs), rel=1e-9)
    assert (errors > 0).all()
    floors = [2 * doubly_centred_square(off_diagonal(kernel(s, s))) / (12 * 11) for s in sets]
    assert np.isclose(errors[1:] ** 2, floors, rtol=1e-9).any()


def test_blocks_change_nothing(monkeypatch):
    (a, b), reference = pair(50), draw(70, seed=1)

    def everything(a, b):
        return [kid_difference_error(a, b, reference), kid_reference_variance(a, reference)]

    whole = everything(a, b)
    monkeypatch.setattr(kernels, "KERNELS_HELD", 600)
    for module, names in {
        kernels: ["within", "across"],
        uncertainty: ["within", "across", "within_difference", "crossing"],
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name).__wrapped__)
    assert everything(a, b) == pytest.approx(whole, rel=1e-9)


def test_what_cannot_be_paired_is_refused():
    for function in (kid_difference_error, fid_difference_error):
        with pytest.raises(ValueError, match="20 and 21 images"):
            function(draw(20), draw(21), draw(30))
        with pytest.raises(ValueError, match="6 columns and the reference has 7"):
            function(draw(20), draw(20), draw(30, d=7))


def test_errors_of_kid_are_unknown_below_four_images():
    assert np.isnan(kid_difference_error(draw(3), draw(3, seed=1), draw(9)))
    assert np.isnan(kid_reference_variance(draw(3), draw(9)))
    assert np.isnan(kid_reference_variance(draw(9), draw(3)))


# The reference's part.


def test_the_reference_variance_of_kid_is_the_formula_with_whole_matrices():
    y, x = draw(40, shift=0.3), draw(50, seed=1)
    n, m = len(y), len(x)
    k_xx, k_yx = off_diagonal(kernel(x, x)), kernel(y, x)
    g = 2 * k_xx.sum(axis=1) / (m - 1) - 2 * k_yx.mean(axis=0)
    expected = g.var(ddof=1) / m - 2 * doubly_centred_square(k_xx) / (m * (m - 1))
    expected -= 4 * crossed_square(k_yx) / (n * m)
    assert 0 < expected < 0.9 * g.var(ddof=1) / m
    assert kid_reference_variance(y, x) == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(kid_reference_influence(y, x), g)


def test_the_reference_variance_of_fid_is_the_formula_with_the_inverse_of_the_transport():
    y, x = draw(60, shift=0.3, scale=1.3), draw(50, seed=1)
    s, s_ref = np.cov(y, rowvar=False), np.cov(x, rowvar=False)
    root = linalg.sqrtm(s_ref).real
    transport = root @ linalg.inv(linalg.sqrtm(root @ s @ root).real) @ root
    offsets, shift = x - x.mean(axis=0), y.mean(axis=0) - x.mean(axis=0)
    curved = np.eye(6) - linalg.pinv(transport)
    psi = -2 * offsets @ shift + np.einsum("id,de,ie->i", offsets, curved, offsets)
    np.testing.assert_allclose(fid_reference_influence(y, x), psi, rtol=1e-6, atol=1e-9)
    assert fid_reference_variance(y, x) == pytest.approx(psi.var(ddof=1) / 50, rel=1e-6)


@pytest.mark.parametrize(("n", "d", "copies"), [(60, 6, 1), (25, 40, 1)])
def test_the_influence_of_a_reference_image_is_what_leaving_it_out_would_change(n, d, copies):
    # Also where our images are too few to fill the space, so that T has no inverse.
    y, x = draw(n, d, shift=0.3), draw(300, d, seed=1)
    for distance, influence in ((kid, kid_reference_influence), (fid, fid_reference_influence)):
        without = [distance(y, np.delete(x, image, axis=0)) for image in range(40)]
        measured = 299 * (distance(y, x) - np.array(without))
        slope = np.polyfit(influence(y, x)[:40], measured, 1)[0]
        assert np.corrcoef(influence(y, x)[:40], measured)[0, 1] > 0.98, distance
        assert slope == pytest.approx(1, abs=0.1), distance


@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_both_parts_together_are_the_spread_over_draws_of_images_and_reference(scale):
    values, variances = {}, {}

    def note(name, value, variance):
        values.setdefault(name, []).append(value)
        variances.setdefault(name, []).append(variance)

    for seed in range(400):
        a = scale * pair(100, d=3, seed=10_000 * (seed + 1), apart=0.2)[0]
        x = draw(80, d=3, seed=20_000_000 + seed)
        note("kid", kid(a, x), kid_standard_error(a, x) ** 2 + kid_reference_variance(a, x))
        note("fid", fid(a, x), frechet.fid_standard_error(a, x) ** 2
             + fid_reference_variance(a, x))  # fmt: skip
    for name, each in values.items():
        spread, error = spread_against_mean_square_error(each, variances[name])
        # Between equal distributions the influences on FID are mostly the noise of T, and too wide.
        slack = 0.3 if name == "fid" and scale == 1 else 0.15
        assert error == pytest.approx(spread, rel=slack), name


def test_a_reference_of_infinitely_many_images_adds_nothing():
    y = draw(100, shift=0.3)
    few, many = draw(100, seed=1), draw(10_000, seed=2)
    for variance in (kid_reference_variance, fid_reference_variance):
        assert variance(y, many) == pytest.approx(variance(y, few) / 100, rel=0.5)
