"""Neighbours are tested against torch-fidelity, the equations of the papers and closed forms."""

import subprocess
import sys
import tracemalloc
from math import comb

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import binom

from harness.errors import NotDefined
from harness.metrics import arrays, copies, neighbours
from harness.metrics.copies import memorisation, memorisation_influence, nearest
from harness.metrics.neighbours import (
    coverage,
    coverage_left_out,
    density,
    density_influence,
    precision,
    precision_influence,
    recall,
    recall_left_out,
)

FOUR = [precision, recall, density, coverage]
INFLUENCES = {precision: precision_influence, density: density_influence}
LEFT_OUT = {recall: recall_left_out, coverage: coverage_left_out}


def draw(n, d=6, seed=0, shift=0.0, scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=(n, d)) + shift


def modes(n, kept, seed=0):
    """n images of `kept` classes, which lie far apart, in equal parts."""
    corners = 100 * np.eye(10)[np.arange(n) % kept]
    return corners + draw(n, d=10, seed=seed)


@pytest.fixture
def forgetful(monkeypatch):
    """Nothing is remembered, so that the same question is answered anew."""
    for name in ("radii", "balls", "meeting"):
        monkeypatch.setattr(neighbours, name, getattr(neighbours, name).__wrapped__)
    monkeypatch.setattr(copies, "found_nearest", copies.found_nearest.__wrapped__)


# Oracles.


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 6), (60, 300, 20), (150, 150, 2), (4, 9, 3)])
@pytest.mark.parametrize(("shift", "scale"), [(0, 1), (0.7, 1), (0, 0.5), (0, 2)])
def test_precision_and_recall_equal_those_of_torch_fidelity(n, m, d, shift, scale):
    import torch
    from torch_fidelity.metric_prc import prc_features_to_metric

    x, y = draw(n, d, shift=shift, scale=scale), draw(m, d, seed=1)
    expected = prc_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), prc_neighborhood=3, prc_batch_size=10_000,
        save_cpu_ram=False, verbose=False,
    )  # fmt: skip
    assert precision(x, y) == pytest.approx(expected["precision"], abs=1e-5)
    assert recall(x, y) == pytest.approx(expected["recall"], abs=1e-5)


def density_and_coverage_of_the_paper(fake, real, k=5):
    """Naeem et al. 2020, eq. 5 and 6, typed from the paper one pair at a time."""
    radius = [sorted(np.linalg.norm(x - other) for other in real)[k] for x in real]
    inside = [[np.linalg.norm(y - x) < r for x, r in zip(real, radius, strict=True)] for y in fake]
    density = sum(map(sum, inside)) / (k * len(fake))
    coverage = sum(any(row[i] for row in inside) for i in range(len(real))) / len(real)
    return density, coverage


@pytest.mark.parametrize(("n", "m"), [(60, 40), (30, 70), (2, 6)])
@pytest.mark.parametrize(("shift", "scale"), [(0, 1), (0.7, 1), (0, 0.5)])
def test_density_and_coverage_equal_the_equations_of_the_paper(n, m, shift, scale):
    x, y = draw(n, shift=shift, scale=scale), draw(m, seed=1)
    expected = density_and_coverage_of_the_paper(x, y)
    assert (density(x, y), coverage(x, y)) == pytest.approx(expected, rel=1e-12)


def test_density_and_coverage_of_equal_distributions_are_as_chance_has_it():
    """A new draw is among the k nearest of an image as likely as any other draw, whatever the
    distribution: so density is 1, and an image is not covered where its k nearest of both sets are
    all real."""
    n, m, k = 30, 40, 5
    pairs = [(draw(n, 3, seed), draw(m, 3, 10_000 + seed)) for seed in range(400)]
    densities, coverages = ([metric(*pair) for pair in pairs] for metric in (density, coverage))
    expected = 1 - comb(m - 1, k) / comb(m - 1 + n, k)
    assert np.mean(densities) == pytest.approx(1, abs=4 * np.std(densities) / 20)
    assert np.mean(coverages) == pytest.approx(expected, abs=4 * np.std(coverages) / 20)


def test_precision_and_recall_of_equal_distributions_are_the_same_on_average():
    differences = [
        precision(x, y) - recall(x, y)
        for x, y in ((draw(40, 3, seed), draw(40, 3, 10_000 + seed)) for seed in range(300))
    ]
    assert abs(np.mean(differences)) < 4 * np.std(differences) / 300**0.5


def test_a_set_is_wholly_within_itself_and_fills_its_balls_once():
    images = draw(80)
    assert precision(images, images) == recall(images, images) == coverage(images, images) == 1
    # Each ball of density holds its centre and 4 more; the 5th neighbour lies on the edge.
    assert density(images, images) == 1


def test_images_on_a_line_are_counted_by_hand():
    line = np.arange(10.0)[:, None]
    # The third neighbour of 0 is at 3, that of 1 at 2 (on the left there is only 0), of 5 at 2.
    assert precision(np.array([[-2.9], [-3.1]]), line) == 0.5
    assert precision(np.array([[-3.0], [12.0]]), line) == 1  # the edge belongs to the ball
    # The fifth neighbour of 0 is at 5, that of 1 at 4, of 2 at 3: the edges do not belong.
    assert density(np.array([[-0.5], [-0.5]]), line) == 3 / 5
    assert coverage(np.array([[-0.5], [-0.5]]), line) == 0.3
    assert coverage(np.array([[-1.0], [-1.0]]), line) == 0.2


# What each metric sees.


def test_noise_lowers_precision_and_density():
    reference = draw(400, seed=1)
    noisy = [draw(300) + spread * draw(300, seed=2) for spread in (0, 0.7, 1.5, 4)]
    for metric in (precision, density):
        values = [metric(features, reference) for features in noisy]
        assert values == sorted(values, reverse=True)
        assert values[0] > 2 * values[-1]


def test_shrinking_as_blur_does_lowers_recall_and_coverage_and_no_precision():
    reference = draw(400, seed=1)
    shrunk = [draw(300, scale=scale) for scale in (1, 0.7, 0.4, 0.1)]
    for metric in (recall, coverage):
        values = [metric(features, reference) for features in shrunk]
        assert values == sorted(values, reverse=True)
        assert values[0] > 2 * values[-1]
    assert precision(shrunk[-1], reference) == 1
    assert density(shrunk[-1], reference) > 1.5


@pytest.mark.parametrize("kept", [10, 7, 3])
def test_dropped_classes_lower_recall_and_coverage_by_their_share_and_no_precision(kept):
    reference = modes(500, kept=10, seed=1)
    whole, some = modes(500, kept=10), modes(500, kept=kept)
    assert recall(some, reference) == pytest.approx(kept / 10 * recall(whole, reference), abs=0.12)
    assert recall(some, reference) <= kept / 10
    assert coverage(some, reference) == pytest.approx(kept / 10, abs=0.05)
    assert precision(some, reference) > 0.9 * precision(whole, reference)


def test_sets_far_apart_share_nothing():
    x, y = draw(50, shift=100), draw(60, seed=1)
    assert [metric(x, y) for metric in FOUR] == [0, 0, 0, 0]


# Contract.


@pytest.mark.parametrize("metric", FOUR)
def test_no_metric_depends_on_the_order_of_the_images(metric):
    x, y = draw(60, shift=0.3), draw(70, seed=1)
    assert metric(x[::-1], y[::-1]) == pytest.approx(metric(x, y), rel=1e-12)
    if influence := INFLUENCES.get(metric):
        np.testing.assert_array_equal(influence(x[::-1], y)[::-1], influence(x, y))


@pytest.mark.parametrize("repeated", [False, True])
def test_blocks_change_nothing(monkeypatch, forgetful, repeated):
    x, y = draw(90, shift=0.3), draw(70, seed=1)
    if repeated:  # many images at the same distance, and copies of real ones
        x, y = np.rint(x), np.rint(y)
        x[:20] = y[:20]
    held_out = draw(40, seed=2)

    def everything():
        return [
            *(metric(x, y) for metric in FOUR),
            *(influence(x, y) for influence in INFLUENCES.values()),
            *(left_out(x, y, groups=7) for left_out in LEFT_OUT.values()),
            *nearest(x, y),
            memorisation_influence(x, y, held_out=held_out),
        ]

    whole = everything()
    for block in (1, 200, 1000):
        monkeypatch.setattr(arrays, "HELD", block)
        for one, many in zip(whole, everything(), strict=True):
            np.testing.assert_array_equal(one, many)


def test_memory_is_bounded_by_the_blocks(monkeypatch, forgetful):
    x, y = draw(2000, 4), draw(2000, 4, seed=1)  # 32 MB of distances, three times over
    monkeypatch.setattr(arrays, "HELD", 2**16)
    tracemalloc.start()
    recall_left_out(x, y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6


def test_what_is_shared_is_worked_out_once(monkeypatch):
    x, y = draw(50, seed=77), draw(60, seed=78)
    seen, original = [], neighbours.squared_distances

    def counted(*sets):
        seen.append([len(each) for each in sets])
        return original(*sets)

    monkeypatch.setattr(neighbours, "squared_distances", counted)
    for function in [*FOUR, *INFLUENCES.values(), *LEFT_OUT.values()]:
        function(x, y)
    assert sorted(seen) == [[50, 50], [60, 50], [60, 60]]


@pytest.mark.parametrize("metric", [precision, density])
def test_an_influence_is_what_leaving_an_image_out_changes(metric):
    x, y = draw(30, shift=0.5), draw(50, seed=1)
    influence = INFLUENCES[metric](x, y)
    left_out = np.array([metric(np.delete(x, image, axis=0), y) for image in range(30)])
    assert influence.shape == (30,)
    assert influence.dtype == np.float64
    assert influence.std() > 0
    np.testing.assert_allclose(29 * (metric(x, y) - left_out), influence - influence.mean())


@pytest.mark.parametrize("metric", [recall, coverage])
@pytest.mark.parametrize("groups", [2, 3, 10, 41, 90])
@pytest.mark.parametrize("distribution", ["smooth", "repeated", "by group", "one point"])
def test_left_out_is_the_metric_of_the_remaining_images(metric, groups, distribution):
    x, y = draw(90, 3, scale=1.3), draw(70, 3, seed=1)
    if distribution == "repeated":
        x, y = np.rint(x), np.rint(y)
    if distribution == "by group":  # a ball that loses all its neighbours at once
        x += 10 * np.random.default_rng(2).normal(size=(groups, 3))[np.arange(90) % groups]
        y += 10 * np.random.default_rng(3).normal(size=(70, 3))
    if distribution == "one point":
        x[:], y[:5] = 0.5, 0.5
    numbers = np.arange(90) % groups
    expected = [metric(x[numbers != group], y) for group in range(groups)]
    np.testing.assert_array_equal(LEFT_OUT[metric](x, y, groups=groups), expected)


def test_fifty_groups_are_left_out_unless_told_otherwise():
    x, y = draw(120), draw(70, seed=1)
    for left_out in LEFT_OUT.values():
        np.testing.assert_array_equal(left_out(x, y), left_out(x, y, groups=50))
        assert left_out(x, y).shape == (50,)


@pytest.mark.parametrize("metric", [recall, coverage])
def test_the_spread_over_groups_is_never_narrower_than_that_over_repeated_draws(metric):
    """A jackknife is too wide (Efron and Stein 1981), and for images that cover one another by up
    to two thirds."""
    y, groups = draw(150, 3, seed=1), 20
    values, errors = [], []
    for seed in range(200):
        x = draw(100, 3, seed=1000 + seed, scale=0.8)
        values.append(metric(x, y))
        without = LEFT_OUT[metric](x, y, groups=groups)
        errors.append((groups - 1) * np.var(without))
    assert 1 < np.mean(errors) ** 0.5 / np.std(values) < 1.75


@pytest.mark.parametrize(
    ("features", "reference", "problem"),
    [
        (draw(1), draw(9), "features must hold at least 2 images, not 1"),
        (draw(9), draw(0), "reference must hold at least 2 images, not 0"),
        (draw(9), draw(9, d=7), "6 columns and the reference has 7"),
        (draw(9), np.full((9, 6), np.nan), "reference holds values that are not finite"),
        (np.full((9, 6), np.inf), draw(9), "features holds values that are not finite"),
        (draw(9)[0], draw(9), r"not of shape \(6,\)"),
    ],
)
@pytest.mark.parametrize("function", [*FOUR, *INFLUENCES.values(), *LEFT_OUT.values(), nearest])
def test_what_is_no_pair_of_sets_is_refused(function, features, reference, problem):
    with pytest.raises(ValueError, match=problem):
        function(features, reference)


@pytest.mark.parametrize(
    ("function", "n", "m", "problem"),
    [
        (precision, 9, 3, "3 reference images. Take at least 4"),
        (precision_influence, 9, 3, "3 reference images. Take at least 4"),
        (recall, 3, 9, "3 evaluated images. Take at least 4"),
        (density, 9, 5, "5 reference images. Take at least 6"),
        (density_influence, 9, 5, "5 reference images. Take at least 6"),
        (coverage, 9, 5, "5 reference images. Take at least 6"),
        (coverage_left_out, 60, 5, "5 reference images. Take at least 6"),
        (recall_left_out, 49, 9, "one of 50 groups of 49 images"),
        (coverage_left_out, 49, 9, "one of 50 groups of 49 images"),
    ],
)
def test_too_few_images_for_a_ball_or_a_group_are_refused(function, n, m, problem):
    with pytest.raises(NotDefined, match=problem):
        function(draw(n), draw(m, seed=1))


@pytest.mark.parametrize(("left_out", "least"), [(recall_left_out, 4), (coverage_left_out, 2)])
def test_as_few_images_may_remain_as_the_metric_itself_needs(left_out, least):
    assert left_out(draw(least + 1), draw(9, seed=1), groups=least + 1).shape == (least + 1,)
    with pytest.raises(NotDefined, match="cannot leave out"):
        left_out(draw(least), draw(9, seed=1), groups=least)
    with pytest.raises(NotDefined, match="cannot leave out"):
        left_out(draw(60), draw(9, seed=1), groups=1)
    with pytest.raises(NotDefined, match="cannot leave out"):  # without its larger group of two
        left_out(draw(least + 1), draw(9, seed=1), groups=least)


def test_one_metric_does_not_need_what_another_does():
    assert 0 <= precision(draw(2), draw(4, seed=1)) <= 1
    assert 0 <= recall(draw(4), draw(2, seed=1)) <= 1
    assert density(draw(2), draw(6, seed=1)) >= 0
    assert 0 <= coverage(draw(2), draw(6, seed=1)) <= 1


def test_neighbours_do_not_wait_for_torch():
    script = "import sys, harness.metrics.neighbours; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# Memorisation.


def test_copies_and_draws_from_a_finite_set_are_memorised():
    training, held_out = draw(200, seed=1), draw(150, seed=2)
    drawn = training[np.random.default_rng(0).integers(200, size=300)]
    nearly = drawn + 1e-4 * draw(300, seed=3)
    for features in (training, drawn, nearly):
        assert memorisation(features, training, held_out=held_out) == 1
        assert memorisation_influence(features, training, held_out=held_out).shape == (
            len(features),
        )


@pytest.mark.parametrize("held", [19, 25, 100])
def test_fresh_draws_are_memorised_as_often_as_chance_has_it(held):
    """For 400 sets of 10 images, each with its own held-out ones; 1 in 20 on average."""
    training = draw(100, 3, seed=1)
    found = sum(
        memorisation_influence(
            draw(10, 3, seed=100 + seed), training, held_out=draw(held, 3, seed=10_000 + seed)
        ).sum()
        for seed in range(400)
    )
    # Ten images share the luck of one held-out set: the bound is that of their own beta-binomial.
    place = 0.05 * (held + 1)
    luck = place * (held + 1 - place) / ((held + 1) ** 2 * (held + 2))
    spread = (400 * (10 * 0.05 * 0.95 + 90 * luck)) ** 0.5
    assert found == pytest.approx(200, abs=4 * spread)


def test_against_many_held_out_images_fresh_draws_stay_within_the_binomial_bound():
    training, held_out = draw(300, seed=1), draw(4000, seed=2)
    low, high = binom.interval(0.9999, 1000, 0.05)
    found = memorisation_influence(draw(1000, seed=3), training, held_out=held_out).sum()
    assert low - 5 <= found <= high + 5  # the quantile itself is known within a few images


def test_a_part_that_is_copied_shows_as_that_part():
    training, held_out = draw(300, seed=1), draw(400, seed=2)
    features = np.concatenate([training[:50], draw(50, seed=3) + 2])
    influence = memorisation_influence(features, training, held_out=held_out)
    assert influence[:50].all()
    assert not influence[50:].any()
    assert memorisation(features, training, held_out=held_out) == 0.5


def test_an_image_exactly_at_the_limit_is_not_nearer():
    training = np.array([[0.0], [1000.0]])
    held_out = np.arange(1.0, 20)[:, None]  # distances 1 to 19, of which 1 is the 5 % quantile
    features = np.array([[-0.9], [-1.0], [-1.1], [0.0]])
    influence = memorisation_influence(features, training, held_out=held_out)
    assert influence.tolist() == [1, 0, 0, 1]


def test_memorisation_refuses_what_could_not_tell():
    training = draw(50, seed=1)
    with pytest.raises(NotDefined, match=r"at least 19 held-out images.*there are 18"):
        memorisation(draw(9), training, held_out=draw(18, seed=2))
    with pytest.raises(NotDefined, match="100% of the held-out images are themselves copies"):
        memorisation(draw(9), training, held_out=training)
    with pytest.raises(ValueError, match=r"of the held-out images: .* not finite"):
        memorisation(draw(9), training, held_out=np.full((30, 6), np.nan))
    with pytest.raises(ValueError, match=r"held-out images: .* 7 columns"):
        memorisation(draw(9), training, held_out=draw(30, d=7))


@pytest.mark.parametrize(("n", "m", "d"), [(40, 60, 5), (60, 40, 300)])
def test_the_nearest_are_those_of_a_search_through_all(n, m, d):
    x, y = draw(n, d), draw(m, d, seed=1)
    indices, distances = nearest(x, y)
    expected = cdist(x, y)
    np.testing.assert_array_equal(indices, expected.argmin(axis=1))
    np.testing.assert_allclose(distances, expected.min(axis=1), rtol=1e-6)
    copies, zero = nearest(y[::-1], y)
    assert copies.tolist() == list(range(m))[::-1]
    assert not zero.any()
