"""How far a set of images is from a reference, as pure functions of two feature matrices.

    features    [N, d] float64, one row for each image that is judged
    reference   [M, d] float64, one row for each image that it is held against; N and M may differ

The reference is held fixed: influences and standard errors speak of the N images alone. To add a
metric, write its functions and name them in one record of METRICS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg

from harness.metrics.arrays import Matrix, Vector, checked, remembered
from harness.registry import Registry

BLOCK = 2**24  # kernel values held at once, 128 MB, so that 50,000 images need no more than 500


@dataclass(frozen=True)
class Metric:
    """One metric: everything about it in one record.

    All three functions take (features, reference) and, by keyword, what is named in `needs`.
    They raise ValueError for fewer than two images, for features that are not finite, and for two
    sets that have different numbers of features.
    """

    name: str
    unit: str
    lower_is_better: bool
    description: str
    function: Callable[..., float]
    # [N], how far each image moves the value, to first order and up to a constant: its spread
    # gives the standard error of a value, its difference between two cells that of a difference.
    influence: Callable[..., Vector] | None = None
    standard_error: Callable[..., float] | None = None
    # (features, reference, groups=G) -> [G], the value without the images j of j % G == g each: its
    # spread gives the error of a value that has no influences, its mean the bias of one that has.
    left_out: Callable[..., Vector] | None = None
    needs: frozenset[str] = frozenset()  # of "logits" and "held_out"


# KID: the unbiased squared maximum mean discrepancy under k(x, y) = (x.y / d + 1)^3
# (Binkowski et al. 2018), over all images at once rather than over random subsets.


@dataclass(frozen=True)
class KernelSums:
    """What is kept of a kernel matrix within one set, its diagonal left out."""

    rows: Vector  # [n], sum over j != i of k_ij
    squares: float  # sum over i != j of k_ij^2


def kernel_rows(x: Matrix, y: Matrix) -> Iterator[tuple[slice, Matrix]]:
    """k(x_i, y_j) in blocks of whole rows of x, so that memory stays bounded."""
    height = max(1, BLOCK // len(y))
    for start in range(0, len(x), height):
        rows = slice(start, start + height)
        base = x[rows] @ y.T / x.shape[1] + 1
        yield rows, base * base * base


@remembered
def within(x: Matrix) -> KernelSums:
    sums, squares = np.empty(len(x)), 0.0
    for rows, kernel in kernel_rows(x, x):
        inside = np.arange(len(x))[rows]
        kernel[inside - inside[0], inside] = 0
        sums[rows] = kernel.sum(axis=1)
        squares += float(np.vdot(kernel, kernel))
    return KernelSums(sums, squares)


@remembered
def across(x: Matrix, y: Matrix) -> Vector:
    """[len(x)], mean over j of k(x_i, y_j)."""
    return np.concatenate([kernel.mean(axis=1) for _, kernel in kernel_rows(x, y)])


def mean_over_pairs(sums: KernelSums) -> float:
    n = len(sums.rows)
    return float(sums.rows.sum() / (n * (n - 1)))


def kid(features: Matrix, reference: Matrix) -> float:
    """Unbiased MMD^2: 0 on average for equal laws, so it may be negative. N, M >= 2."""
    features, reference = checked(features, reference)
    inside = mean_over_pairs(within(features)) + mean_over_pairs(within(reference))
    return inside - 2 * float(across(features, reference).mean())


def kid_influence(features: Matrix, reference: Matrix) -> Vector:
    """h_j = 2 mean_i k(y_j, y_i) - 2 mean_i k(y_j, x_i) for each image y_j; [N]."""
    features, reference = checked(features, reference)
    company = within(features).rows / (len(features) - 1)
    return 2 * company - 2 * across(features, reference)


def kid_standard_error(features: Matrix, reference: Matrix) -> float:
    """SE^2 = var(h)/n - 2 z/(n (n - 1)), and 0 where noise makes that negative.

    var(h)/n alone counts the interaction of pairs twice over: 5 to 25 % too wide, and worst
    where two sets are nearly equal. NaN below 4 images, where z has no degree of freedom left.
    """
    h = kid_influence(features, reference)
    n = len(h)
    if n < 4:
        return float("nan")
    z = interaction(within(checked(features, reference)[0]))
    return float(max(h.var(ddof=1) / n - 2 * z / (n * (n - 1)), 0) ** 0.5)


def interaction(sums: KernelSums) -> float:
    """z = sum over i != j of c_ij^2 / (n (n - 3)), with c_ij = k_ij - r_i - r_j + g: the variance
    of what two images do to the kernel beyond what each does alone. n >= 4.

    r_i and g make every row of c sum to 0, so sum c^2 = sum c k, which needs only the sums.
    """
    n = len(sums.rows)
    r = sums.rows / (n - 2)
    g = sums.rows.sum() / ((n - 1) * (n - 2))
    total = sums.squares - 2 * (n - 2) * float(r @ r) + (n - 1) * (n - 2) * g**2
    return float(max(total, 0) / (n * (n - 3)))


# FID: the Frechet distance between two Gaussians with the means and covariances of the two sets
# (Heusel et al. 2017), |m - m_ref|^2 + tr S + tr S_ref - 2 tr (R S R)^(1/2) with R = S_ref^(1/2).
#
# The last trace is the sum of the singular values of A B', for any A and B with A'A = S and
# B'B = S_ref. Of these there are two kinds: the centred rows over sqrt(n - 1), exact and small
# where there are fewer images than features; and else the symmetric root.


@dataclass(frozen=True)
class Moments:
    mean: Vector  # [d]
    covariance: Matrix  # [d, d]

    @cached_property
    def root(self) -> Matrix:
        variances, axes = linalg.eigh(self.covariance)
        root: Matrix = (axes * np.sqrt(variances.clip(min=0))) @ axes.T
        return root


@remembered
def moments(features: Matrix) -> Moments:
    rows = centred(features)
    return Moments(features.mean(axis=0), rows.T @ rows)


def centred(features: Matrix) -> Matrix:
    """A with A'A = S, [n, d]."""
    rows: Matrix = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return rows


def half(features: Matrix) -> Matrix:
    """The smaller A with A'A = S, [min(n, d), d]."""
    n, d = features.shape
    return centred(features) if n < d else moments(features).root


def fid(features: Matrix, reference: Matrix) -> float:
    """Squared Frechet distance. Biased upwards by few images: compare at equal N, M alone."""
    features, reference = checked(features, reference)
    ours, theirs = moments(features), moments(reference)
    if min(len(features), len(reference)) < features.shape[1]:
        overlap = linalg.svdvals(half(features) @ half(reference).T).sum()
    else:
        squares = linalg.eigvalsh(theirs.root @ ours.covariance @ theirs.root)
        overlap = np.sqrt(squares.clip(min=0)).sum()
    shift = ours.mean - theirs.mean
    spread = np.trace(ours.covariance) + np.trace(theirs.covariance)
    return max(float(shift @ shift + spread - 2 * overlap), 0.0)


def fid_influence(features: Matrix, reference: Matrix) -> Vector:
    """phi_j = 2 (m - m_ref).(y_j - m) + (y_j - m)' (I - T) (y_j - m), where T is the optimal
    transport map R (R S R)^(-1/2) R from our Gaussian to that of the reference; [N]."""
    features, reference = checked(features, reference)
    ours, theirs = moments(features), moments(reference)
    offsets = features - ours.mean
    transported = (len(features) - 1) * transported_squares(features, reference)
    away = 2 * offsets @ (ours.mean - theirs.mean)
    influence: Vector = away + (offsets**2).sum(axis=1) - transported
    return influence


@remembered
def transported_squares(features: Matrix, reference: Matrix) -> Vector:
    """a_j' T a_j for each row a_j of the centred A; [N]. They sum to the overlap of `fid`.

    With the singular values A B' = U s V' it is sum_k s_k U_jk^2, for any B: no inverse is taken
    where there are too few images for one.
    """
    rows, n_features = centred(features), features.shape[1]
    squares: Vector
    if min(len(features), len(reference)) < n_features:
        left, values, _ = linalg.svd(rows @ half(reference).T, full_matrices=False)
        squares = left**2 @ values
    else:
        root = moments(reference).root
        values, axes = linalg.eigh(root @ moments(features).covariance @ root)
        real = values > n_features * np.finfo(float).eps * values[-1]  # the rest is rounding
        squares = (rows @ (root @ axes[:, real])) ** 2 @ values[real] ** -0.5
    return squares


def fid_standard_error(features: Matrix, reference: Matrix) -> float:
    """sd(phi)/sqrt(n), conservative where n <= 4 d."""
    phi = fid_influence(features, reference)
    return float(phi.std(ddof=1) / len(phi) ** 0.5)


METRICS = Registry(
    "metric",
    {
        "fid": Metric(
            name="FID",
            unit="",
            lower_is_better=True,
            description="Frechet distance between Gaussians fitted to the features",
            function=fid,
            influence=fid_influence,
            standard_error=fid_standard_error,
        ),
        "kid": Metric(
            name="KID",
            unit="",
            lower_is_better=True,
            description="Unbiased kernel distance over all images: 0 on average for equal laws",
            function=kid,
            influence=kid_influence,
            standard_error=kid_standard_error,
        ),
    },
)
