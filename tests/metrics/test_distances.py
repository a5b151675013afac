"""Distances are tested against torch-fidelity, closed forms and repeated draws."""

import subprocess
import sys

import numpy as np
import pytest

from harness.errors import NotDefined
from harness.metrics import frechet
from harness.metrics import kid as kernels
from harness.metrics.distances import METRICS
from harness.metrics.frechet import (
    fid_infinity,
    fid_infinity_left_out,
    fid_left_out,
    prefix_sizes,
)

fid, kid = METRICS["fid"].function, METRICS["kid"].function


def draw(n, d=6, seed=0, shift=0.0, scale=1.0):
    """Correlated Gaussian features."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d)) / d**0.5 + np.eye(d)
    return scale * generator.normal(size=(n, d)) @ mixing + shift


@pytest.fixture(params=["kid", "fid"])
def metric(request):
    return METRICS[request.param]


def test_every_metric_is_one_complete_record():
    for name in METRICS:
        metric = METRICS[name]
        assert metric.needs <= {"logits", "held_out"}
        assert isinstance(metric.lower_is_better, bool)
        assert metric.name
        assert metric.description
        assert metric.influence or metric.left_out, "something must tell how sure a value is"


# The contract of every metric.


def test_every_metric_takes_sets_of_different_sizes(metric):
    assert isinstance(metric.function(draw(30), draw(50, seed=1)), float)
    assert metric.influence(draw(30), draw(50, seed=1)).shape == (30,)
    assert metric.influence(draw(30), draw(50, seed=1)).dtype == np.float64
    assert metric.standard_error(draw(30), draw(50, seed=1)) > 0


def test_every_metric_gets_worse_with_distance(metric):
    values = [metric.function(draw(300, shift=shift), draw(300, seed=1)) for shift in (0, 0.3, 1)]
    assert values == sorted(values, reverse=not metric.lower_is_better)


def test_no_metric_depends_on_the_order_of_the_images(metric):
    features, reference = draw(40), draw(50, seed=1)
    value = metric.function(features, reference)
    assert metric.function(features[::-1], reference[::-1]) == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(
        metric.influence(features[::-1], reference)[::-1], metric.influence(features, reference)
    )


@pytest.mark.parametrize(("n", "d", "copies"), [(60, 6, 1), (30, 40, 20)])
def test_an_influence_is_what_leaving_an_image_out_would_change(metric, n, d, copies):
    # With fewer images than features only a copy is left out: to lose a dimension is no small
    # change, of which alone an influence speaks.
    features, reference = np.tile(draw(n, d, shift=0.3), (copies, 1)), draw(200, d, seed=1)
    whole = metric.function(features, reference)
    left_out = [
        metric.function(np.delete(features, image, axis=0), reference) for image in range(n)
    ]
    measured = (len(features) - 1) * (whole - np.array(left_out))
    influence = metric.influence(features, reference)[:n]
    # Both are known up to a constant and to first order in 1/n.
    assert np.corrcoef(measured, influence)[0, 1] > 0.99
    assert np.polyfit(influence, measured, 1)[0] == pytest.approx(1, abs=0.15)


def test_the_influence_on_fid_is_the_same_by_either_decomposition():
    few, reference = draw(30, 40, shift=0.3), draw(200, 40, seed=1)
    influence = METRICS["fid"].influence
    by_root = influence(np.tile(few, (20, 1)), reference)[:30]
    assert np.corrcoef(influence(few, reference), by_root)[0, 1] > 0.999


def test_a_standard_error_is_the_spread_over_repeated_draws(metric):
    reference = draw(200, d=4, seed=1)
    values, errors = [], []
    for seed in range(400):
        features = draw(60, d=4, seed=1000 + seed, shift=0.3)
        values.append(metric.function(features, reference))
        errors.append(metric.standard_error(features, reference))
    assert np.mean(np.square(errors)) ** 0.5 == pytest.approx(np.std(values, ddof=1), rel=0.15)


@pytest.mark.parametrize(
    ("features", "reference", "problem"),
    [
        (draw(1), draw(5), "features must hold at least 2 images, not 1"),
        (draw(5), draw(0), "reference must hold at least 2 images, not 0"),
        (draw(5), draw(5, d=7), "6 columns and the reference has 7"),
        (draw(5), np.full((5, 6), np.nan), "reference holds values that are not finite"),
        (np.full((5, 6), np.inf), draw(5), "features holds values that are not finite"),
        (draw(5)[0], draw(5), r"not of shape \(6,\)"),
    ],
)
def test_every_metric_refuses_what_it_cannot_judge(metric, features, reference, problem):
    for function in (metric.function, metric.influence, metric.standard_error):
        with pytest.raises(ValueError, match=problem):
            function(features, reference)


def test_an_answer_is_remembered_by_content_and_never_stale(metric):
    features, reference = draw(40), draw(50, seed=1)
    before = metric.function(features, reference)
    features += 1
    assert metric.function(features, reference) > before
    features -= 1
    assert metric.function(features, reference) == pytest.approx(before, rel=1e-9)


def test_distances_do_not_wait_for_torch():
    script = "import sys, harness.metrics.distances; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# KID.


def kernel(x, y):
    """Binkowski et al. 2018, section 4, typed from the paper one pair at a time."""
    return np.array([[(sum(a * b) / len(a) + 1) ** 3 for b in y] for a in x])


def test_kid_is_the_unbiased_estimator_of_the_paper():
    x, y = draw(7), draw(9, seed=1, shift=0.2)
    k_xx, k_yy, k_xy = kernel(x, x), kernel(y, y), kernel(x, y)
    expected = (
        (k_xx.sum() - np.trace(k_xx)) / (7 * 6)
        + (k_yy.sum() - np.trace(k_yy)) / (9 * 8)
        - 2 * k_xy.mean()
    )
    assert kid(x, y) == pytest.approx(expected, rel=1e-12)


def test_kid_averages_zero_between_equal_distributions():
    values = [kid(draw(20, seed=seed), draw(30, seed=10_000 + seed)) for seed in range(500)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 500**0.5


def test_kid_of_a_set_against_its_own_resampling_is_as_negative_as_its_diagonal_says():
    images = draw(25)
    k = kernel(images, images)
    off_diagonal = (k.sum() - np.trace(k)) / (25 * 24)
    expected = (off_diagonal - np.trace(k) / 25) / 25
    generator = np.random.default_rng(0)
    values = [kid(images[generator.integers(25, size=40)], images) for _ in range(2000)]
    assert expected < 0
    assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / 2000**0.5)


def test_kid_in_many_blocks_equals_kid_in_one(monkeypatch):
    x, y = draw(50), draw(70, seed=1)
    whole = kid(x, y), METRICS["kid"].standard_error(x, y)
    monkeypatch.setattr(kernels, "KERNELS_HELD", 200)
    x, y = x + 0, y[::-1]  # another content, so that nothing is remembered
    monkeypatch.setattr(kernels, "within", kernels.within.__wrapped__)
    monkeypatch.setattr(kernels, "across", kernels.across.__wrapped__)
    assert (kid(x, y), METRICS["kid"].standard_error(x, y)) == pytest.approx(whole, rel=1e-9)


def test_the_error_of_kid_leaves_out_what_pairs_count_twice():
    x, y = draw(40), draw(300, seed=1)
    k, n = kernel(x, x), 40
    np.fill_diagonal(k, 0)
    r, g = k.sum(axis=1) / (n - 2), k.sum() / ((n - 1) * (n - 2))
    c = k - r[:, None] - r[None, :] + g
    np.fill_diagonal(c, 0)
    z = (c**2).sum() / (n * (n - 3))
    h = 2 * k.sum(axis=1) / (n - 1) - 2 * kernel(x, y).mean(axis=1)
    expected = h.var(ddof=1) / n - 2 * z / (n * (n - 1))
    assert METRICS["kid"].standard_error(x, y) == pytest.approx(expected**0.5, rel=1e-9)
    assert expected < 0.95 * h.var(ddof=1) / n


def test_the_error_of_kid_is_unknown_below_four_images_and_zero_for_images_that_are_all_one():
    assert np.isnan(METRICS["kid"].standard_error(draw(3), draw(9)))
    assert METRICS["kid"].standard_error(np.ones((9, 6)), draw(9)) == 0


# FID.


def test_fid_is_the_squared_distance_of_means_where_covariances_are_equal():
    features = draw(50)
    assert fid(features, features) == pytest.approx(0, abs=1e-9)
    assert fid(features + 0.5, features) == pytest.approx(6 * 0.25, rel=1e-9)


def test_fid_of_independent_features_is_the_difference_of_standard_deviations():
    corners = np.array([[a, b] for a in (-1, 1) for b in (-1, 1)], dtype=float)
    # Four corners of a square have variance 4/3 a side; a rectangle 3 by 2 has 12 and 16/3.
    expected = (12**0.5 - (4 / 3) ** 0.5) ** 2 + ((16 / 3) ** 0.5 - (4 / 3) ** 0.5) ** 2
    assert fid(corners * [3, 2], corners) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(20, 200), (200, 20), (20, 30), (41, 41)])
def test_fid_with_few_images_equals_the_matrix_square_root(n, m):
    from scipy.linalg import sqrtm

    x, y = draw(n, d=40, shift=0.1), draw(m, d=40, seed=1)
    s_x, s_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    ridge = 1e-10 * np.eye(40)  # sqrtm fails on singular matrices
    root = np.trace(sqrtm((s_x + ridge) @ (s_y + ridge)).real)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s_x) + np.trace(s_y) - 2 * root
    assert fid(x, y) == pytest.approx(expected, rel=1e-3)
    assert fid(x, y) == pytest.approx(fid(y, x), rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(60, 70), (20, 60), (60, 20)])
def test_what_is_transported_adds_up_to_the_overlap(n, m):
    x, y = draw(n, d=40), draw(m, d=40, seed=1)
    overlap = (np.cov(x, rowvar=False).trace() + np.cov(y, rowvar=False).trace() - fid(x, y)) / 2
    overlap += ((x.mean(0) - y.mean(0)) ** 2).sum() / 2
    assert frechet.transported_squares(x, y).sum() == pytest.approx(overlap, rel=1e-6)


# FID without some of the images.


@pytest.mark.parametrize(
    ("n", "m", "d"),
    [(103, 200, 6), (30, 200, 40), (60, 25, 40), (30, 20, 40), (41, 41, 40), (46, 90, 40)],
)
def test_fid_left_out_is_the_fid_of_the_remaining_images(n, m, d):
    features, reference = draw(n, d, shift=0.2, scale=1.3), draw(m, d, seed=1)
    kept = [np.arange(n) % 10 != group for group in range(10)]
    expected = [fid(features[rows], reference) for rows in kept]
    left_out = METRICS["fid"].left_out(features, reference, groups=10)
    np.testing.assert_allclose(left_out, expected, rtol=1e-6)


def test_each_image_is_left_out_alone_where_images_are_fewer_than_groups():
    features, reference = draw(20), draw(50, seed=1)
    expected = [fid(np.delete(features, image, axis=0), reference) for image in range(20)]
    np.testing.assert_allclose(fid_left_out(features, reference), expected, rtol=1e-6)


def test_too_little_to_leave_out_is_refused():
    with pytest.raises(NotDefined, match="3 images"):
        fid_left_out(draw(2), draw(9))
    for function in (fid_left_out, fid_infinity_left_out):
        with pytest.raises(ValueError, match="at least 2 groups, not 1"):
            function(draw(200), draw(9), groups=1)


def test_fid_left_out_spreads_as_the_influences_say():
    features, reference = draw(500, shift=0.3), draw(200, seed=1)
    left_out = METRICS["fid"].left_out(features, reference)
    error = METRICS["fid"].standard_error(features, reference)
    assert (49 * left_out.var()) ** 0.5 == pytest.approx(error, rel=0.25)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 100), (60, 200, 100), (150, 80, 100)])
def test_fid_equals_the_square_root_of_scipy_to_a_millionth_of_the_traces(n, m, d):
    from scipy.linalg import sqrtm

    x, y = draw(n, d, shift=0.1), draw(m, d, seed=1)
    s_x, s_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = ((x.mean(0) - y.mean(0)) ** 2).sum()
    # R S R is symmetric: its square root exists also where S has no inverse.
    variances, axes = np.linalg.eigh(s_y)
    root = (axes * np.sqrt(variances.clip(min=0))) @ axes.T
    overlap = np.trace(sqrtm(root @ s_x @ root + 1e-14 * np.eye(d)).real)
    expected = shift + np.trace(s_x) + np.trace(s_y) - 2 * overlap
    assert abs(fid(x, y) - expected) < 1e-6 * (np.trace(s_x) + np.trace(s_y))


# FID at infinitely many images.


def test_the_line_goes_through_the_fid_of_the_first_images():
    features, reference = draw(333, shift=0.3), draw(90, seed=1)
    sizes = prefix_sizes(333, 6)
    assert (sizes[0], sizes[-1], len(sizes)) == (167, 333, 8)
    np.testing.assert_allclose(np.diff(1 / sizes), -1 / 333 / 7, rtol=0.1)
    values = [fid(features[:size], reference) for size in sizes]
    design = np.stack([np.ones(8), 1 / sizes], axis=1)
    intercept, _ = np.linalg.lstsq(design, values, rcond=None)[0]
    assert fid_infinity(features, reference) == pytest.approx(intercept, rel=1e-6)


def test_prefixes_are_added_up_in_blocks(monkeypatch):
    features, reference = draw(333, shift=0.3), draw(90, seed=1)
    whole = fid_infinity(features, reference)
    monkeypatch.setattr(frechet, "PREFIX_BLOCK", 7)
    assert fid_infinity(features, reference) == pytest.approx(whole, rel=1e-9)


def test_too_few_images_for_a_line_are_refused_with_the_number_needed():
    assert np.isfinite(fid_infinity(draw(96), draw(50, seed=1)))
    for function in (fid_infinity, fid_infinity_left_out):
        with pytest.raises(NotDefined, match="96 images, not 95"):
            function(draw(95), draw(50, seed=1))


def test_a_line_left_out_is_the_line_through_the_prefixes_without_the_group():
    features, reference = draw(200, shift=0.3), draw(90, seed=1)
    sizes = prefix_sizes(*features.shape)
    expected = []
    for group in range(10):
        kept = [np.flatnonzero(np.arange(size) % 10 != group) for size in sizes]
        values = [fid(features[rows], reference) for rows in kept]
        expected.append(np.polyfit([1 / len(rows) for rows in kept], values, 1)[1])
    left_out = fid_infinity_left_out(features, reference)
    np.testing.assert_allclose(left_out, expected, rtol=1e-6, atol=1e-9)


def test_fid_at_infinity_is_far_nearer_to_the_truth_than_fid():
    population = draw(400, 10)
    generator = np.random.default_rng(0)
    finite, infinite = [], []
    for _ in range(60):
        features = population[generator.integers(400, size=320)]
        finite.append(fid(features, population))
        infinite.append(fid_infinity(features, population))
    assert abs(np.mean(infinite)) < 0.3 * np.mean(finite)


# torch-fidelity, through its own entry points.


def test_kid_equals_the_kernel_distance_of_torch_fidelity():
    from torch_fidelity.metric_kid import kernel_mmd

    x, y = draw(50), draw(50, seed=1, shift=0.2)
    assert kid(x, y) == pytest.approx(kernel_mmd(x, y), rel=1e-9)


def test_fid_equals_the_statistics_of_torch_fidelity():
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    x, y = draw(200), draw(150, seed=1, shift=0.2)
    statistics = [fid_features_to_statistics(torch.from_numpy(each)) for each in (x, y)]
    [expected] = fid_statistics_to_metric(*statistics, verbose=False).values()
    assert fid(x, y) == pytest.approx(expected, rel=1e-9)


def test_both_equal_the_metrics_that_torch_fidelity_computes_from_the_same_images():
    import torch
    import torch_fidelity
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    class MeanOfPatches(FeatureExtractorBase):
        """12 features: the mean colours of four quarters of an image."""

        def __init__(self, name, features_list, **_options):
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list():
            return ("patches",)

        def forward(self, images):
            halves = torch.nn.functional.adaptive_avg_pool2d(images.float() / 128 - 1, 2)
            return (halves.flatten(1),)

    class Images(torch.utils.data.Dataset):
        def __init__(self, images):
            self.images = images

        def __len__(self):
            return len(self.images)

        def __getitem__(self, index):
            return self.images[index]

    generator = torch.Generator().manual_seed(0)
    dark = torch.randint(0, 200, (80, 3, 8, 8), generator=generator, dtype=torch.uint8)
    light = torch.randint(60, 256, (80, 3, 8, 8), generator=generator, dtype=torch.uint8)
    FEATURE_EXTRACTORS_REGISTRY["patches"] = MeanOfPatches
    try:
        expected = torch_fidelity.calculate_metrics(
            input1=Images(dark), input2=Images(light), cuda=False, save_cpu_ram=True, cache=False,
            verbose=False, feature_extractor="patches", feature_layer_fid="patches",
            feature_layer_kid="patches", fid=True, kid=True, kid_subsets=1, kid_subset_size=80,
        )  # fmt: skip
    finally:
        del FEATURE_EXTRACTORS_REGISTRY["patches"]
    extractor = MeanOfPatches("patches", ["patches"])
    x, y = (extractor(images)[0].double().numpy() for images in (dark, light))
    assert fid(x, y) == pytest.approx(expected["frechet_inception_distance"], rel=1e-5)
    assert kid(x, y) == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-5)
