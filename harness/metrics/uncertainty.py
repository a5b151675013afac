"""How sure a distance is: the jackknife, errors of paired differences, the part of the reference.

    features    [N, d] float64, evaluated images; two sets `a` and `b` are paired: image j of both
                starts from the same noise, so they are equally many
    reference   [M, d] float64, held fixed except where a function is named for its variance

Standard errors are in the unit of the distance; the variances of the reference are to be added to
their squares. All raise ValueError as the distances do, and for pairs that are not equally many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.metrics.arrays import Matrix, Vector, checked, remembered
from harness.metrics.frechet import fid_influence
from harness.metrics.kid import (
    KernelSums,
    across,
    interaction,
    kernel_error,
    kernel_rows,
    kernel_sums,
    kid_influence,
    within,
)

# The jackknife over groups of images (Efron & Stein 1981; Busing et al. 1999), with G values that
# each leave one group out.


def fid_groups(d: int) -> int:
    """Into how many groups the images are divided to leave each out in turn: 50, or 10 from
    d = 1024.

    Each group costs the eigenvalues of a d x d matrix: seconds apiece at d = 2048, so that fifty
    would cost more than all else that is asked of a cell. The mean over groups, which is all that
    `fid_centre` needs, hardly depends on their number. The *spread* over ten groups is another
    matter: 9 degrees of freedom; the error of FID comes from its influences instead.
    """
    return 50 if d < 1024 else 10


def fid_centre(value: float, left_out: Vector) -> float:
    """F - (G - 1)(mean_g F_(-g) - F), on which an interval of FID is centred.

    Few images make FID too large by about c/n. Without a group it is larger by c/(n (G - 1)) more,
    which gives c/n away. Of a difference: that of the values, and that of the left-out values.
    """
    return float(value - (len(left_out) - 1) * (left_out.mean() - value))


def jackknife_error(left_out: Vector) -> float:
    """sqrt((G - 1)/G sum_g (F_(-g) - mean)^2), the standard error of any metric of independent
    images; G - 1 degrees of freedom. Of a paired difference: from the differences [G]."""
    groups = len(left_out)
    return float(((groups - 1) * left_out.var()) ** 0.5)


# Paired differences.


def kid_difference_error(features_a: Matrix, features_b: Matrix, reference: Matrix) -> float:
    """The standard error of KID(a) - KID(b): that of KID with h_a - h_b for h and K_a - K_b for K.

    0 for two sets that are the same, NaN below 4 images.
    """
    features_a, features_b, reference = _paired(features_a, features_b, reference)
    h = kid_influence(features_a, reference) - kid_influence(features_b, reference)
    return kernel_error(h, within_difference(features_a, features_b))


def fid_difference_error(features_a: Matrix, features_b: Matrix, reference: Matrix) -> float:
    """The standard error of FID(a) - FID(b): sd(phi_a - phi_b)/sqrt(n)."""
    features_a, features_b, reference = _paired(features_a, features_b, reference)
    phi = fid_influence(features_a, reference) - fid_influence(features_b, reference)
    return float(phi.std(ddof=1) / len(phi) ** 0.5)


@remembered
def within_difference(a: Matrix, b: Matrix) -> KernelSums:
    """What `within` keeps of a kernel matrix, of the difference of two."""
    return kernel_sums(a, less=b)


# What the choice of the reference adds. Without it an interval holds for this reference only.


def kid_reference_influence(features: Matrix, reference: Matrix) -> Vector:
    """g_i = 2 mean_i' k(x_i, x_i') - 2 mean_j k(x_i, y_j) for each image x_i of the reference; [M].
    Of a difference: g_a - g_b."""
    features, reference = checked(features, reference)
    company = within(reference).rows / (len(reference) - 1)
    return 2 * company - 2 * crossing(features, reference).columns


def kid_reference_variance(features: Matrix, reference: Matrix) -> float:
    """var(g)/m - 2 z_xx/(m (m - 1)) - 4 z_xy/(n m).

    z_xx is `interaction` within the reference, z_xy that between the sets, which var(h)/n and
    var(g)/m have counted once each. 0 where noise makes it negative, NaN below 4 images of either.
    """
    features, reference = checked(features, reference)
    n, m = len(features), len(reference)
    if min(n, m) < 4:
        return float("nan")
    alone = kid_reference_influence(features, reference).var(ddof=1) / m
    twice = 2 * interaction(within(reference)) / (m * (m - 1))
    twice += 4 * crossing(features, reference).interaction / (n * m)
    return float(max(alone - twice, 0))


def fid_reference_influence(features: Matrix, reference: Matrix) -> Vector:
    """psi_i = -2 (m - m_ref).x + x' (I - T^+) x for each image x_i of the reference, where
    x = x_i - m_ref; [M]. Of a difference: psi_a - psi_b.

    T^+ is the optimal transport map from the reference to our images, on their range: FID is
    symmetric, and psi what `fid_influence` would be with the two sets exchanged.
    """
    return fid_influence(reference, features)


def fid_reference_variance(features: Matrix, reference: Matrix) -> float:
    """var(psi)/m."""
    psi = fid_reference_influence(features, reference)
    return float(psi.var(ddof=1) / len(psi))


@dataclass(frozen=True)
class CrossSums:
    """What is kept of a matrix k_ij of n images against m of the reference."""

    columns: Vector  # [m], mean over images
    interaction: float  # z = sum_ij (k_ij - r_i - c_j + mean)^2 / ((n - 1)(m - 1))


@remembered
def crossing(features: Matrix, reference: Matrix) -> CrossSums:
    """The sums over the kernel between features [N, d] and reference [M, d] that its variance
    takes."""
    n, m, means = len(features), len(reference), across(features, reference)
    columns, squares = np.zeros(m), 0.0
    for rows, block in kernel_rows(features, reference):
        # Centred before they are squared, lest rounding hide the little that remains.
        centred = block - means[rows, None]
        columns += centred.sum(axis=0) / n
        squares += float(np.vdot(centred, centred))
    left = max(squares - n * float(columns @ columns), 0)
    return CrossSums(columns + means.mean(), left / ((n - 1) * (m - 1)))


def _paired(a: Matrix, b: Matrix, reference: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    a, reference = checked(a, reference)
    b, reference = checked(b, reference)
    if len(a) != len(b):
        raise ValueError(
            f"two sets are paired image by image: {len(a)} and {len(b)} images cannot be"
        )
    return a, b, reference
