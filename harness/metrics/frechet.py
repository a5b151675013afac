"""FID: the Frechet distance between two Gaussians with the means and covariances of the two sets
(Heusel et al. 2017), |m - m_ref|^2 + tr S + tr S_ref - 2 tr (R S R)^(1/2) with R = S_ref^(1/2).

The last trace is the sum of the singular values of A B', for any A and B with A'A = S and
B'B = S_ref. Of these there are two kinds: the centred rows over sqrt(n - 1), exact and small
where there are fewer images than features; and else the symmetric root.

The reference is held fixed; its own sampling error is in `uncertainty`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import NotDefined
from harness.execute.machine import one_numpy_thread
from harness.lazy import linalg
from harness.metrics.arrays import Matrix, Vector, checked, remembered, without_each


@dataclass(frozen=True)
class Moments:
    """The mean and covariance of features."""

    mean: Vector  # [d]
    covariance: Matrix  # [d, d]

    @cached_property
    def root(self) -> Matrix:
        """The symmetric square root of the covariance, [d, d]."""
        variances, axes = alone(linalg.eigh, self.covariance)
        root: Matrix = (axes * np.sqrt(variances.clip(min=0))) @ axes.T
        return root


@remembered
def moments(features: Matrix) -> Moments:
    """The moments of features [N, d], the covariance divided by N - 1."""
    rows = centred(features)
    return Moments(features.mean(axis=0), rows.T @ rows)


def alone(solve: Callable[..., Any], matrix: Matrix, **options: bool) -> Any:
    """What this decomposition gives, by one thread: several wait for each other longer than they
    work, and up to five times as long as one needs where another program has a core."""
    with one_numpy_thread():
        return solve(matrix, **options)


def centred(features: Matrix) -> Matrix:
    """A with A'A = S, [n, d]."""
    rows: Matrix = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return rows


def half(features: Matrix) -> Matrix:
    """The smaller A with A'A = S, [min(n, d), d]."""
    n, d = features.shape
    return centred(features) if n < d else moments(features).root


@remembered
def crossed(features: Matrix, reference: Matrix) -> Matrix:
    """B S B' of our covariance S and the smaller B of the reference, whose eigenvalues are squares
    of the singular values of A B'; [b, b]."""
    basis = half(reference)
    product: Matrix = basis @ moments(features).covariance @ basis.T
    return product


def fid(features: Matrix, reference: Matrix) -> float:
    """Squared Frechet distance. Biased upwards by few images: compare at equal N, M alone."""
    features, reference = checked(features, reference)
    ours, theirs = moments(features), moments(reference)
    if min(len(features), len(reference)) < features.shape[1]:
        overlap = alone(linalg.svdvals, half(features) @ half(reference).T).sum()
    else:
        squares = alone(linalg.eigvalsh, crossed(features, reference))
        overlap = np.sqrt(squares.clip(min=0)).sum()
    return frechet(ours.mean, float(np.trace(ours.covariance)), float(overlap), theirs)


def frechet(mean: Vector, spread: float, overlap: float, theirs: Moments) -> float:
    """The distance from a set of this mean and trace of S, whose A B' has the nuclear norm
    `overlap`; 0 where rounding makes it negative."""
    shift = mean - theirs.mean
    spread += float(np.trace(theirs.covariance))
    return max(float(shift @ shift) + spread - 2 * overlap, 0.0)


def nuclear_norm(gram: Matrix) -> float:
    """The sum of the singular values of C, from C C' or C' C."""
    return float(np.sqrt(linalg.eigvalsh(gram, driver="evd").clip(min=0)).sum())


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
        left, values, _ = alone(linalg.svd, rows @ half(reference).T, full_matrices=False)
        squares = left**2 @ values
    else:
        root = moments(reference).root
        values, axes = alone(linalg.eigh, crossed(features, reference))
        real = values > n_features * np.finfo(float).eps * values[-1]  # the rest is rounding
        squares = (rows @ (root @ axes[:, real])) ** 2 @ values[real] ** -0.5
    return squares


def fid_standard_error(features: Matrix, reference: Matrix) -> float:
    """sd(phi)/sqrt(n). Too wide by 5 to 25 % at n = 8 d, 2 to 15 % at 30 d: phi holds the noise of
    T, which from few images is large."""
    phi = fid_influence(features, reference)
    return float(phi.std(ddof=1) / len(phi) ** 0.5)


# FID of parts of a set. With C the centred rows times B', the overlap of a part is the nuclear norm
# of its rows of C, centred anew, over sqrt(count - 1); and C'C is a sum over images, so that few
# images more or less are a change of low rank.


def fid_left_out(features: Matrix, reference: Matrix, *, groups: int = 50) -> Vector:
    """FID without the images j of j % groups == g, for each g; [groups].

    Two cells of one grid lose the same images, so that differences are paired. With fewer images
    than groups each image is a group, and [N] values come back. Raises ValueError for fewer than 2
    groups, NotDefined where fewer than 2 images would remain, and what `fid` raises.
    """
    features, reference = checked(features, reference)
    n = len(features)
    if groups < 2:
        raise ValueError(f"images are left out in at least 2 groups, not {groups}")
    groups = min(groups, n)
    if n - -(-n // groups) < 2:  # without the largest group
        raise NotDefined(
            f"FID needs 3 images, and 2 beside each group left out, not {n}. Use more images."
        )
    basis = half(reference)
    if n - n // groups < len(basis):
        return _left_out_of_few(features, reference, groups)
    ours, theirs = moments(features), moments(reference)
    gram = (n - 1) * crossed(features, reference)
    square = (n - 1) * float(np.trace(ours.covariance))

    def without(group: int) -> float:
        lost = features[group::groups] - ours.mean
        seen = lost @ basis.T
        rest = PartSums(
            count=n - len(lost),
            total=-lost.sum(axis=0),
            square=square - float(np.vdot(lost, lost)),
            gram=gram - seen.T @ seen,
        )
        return rest.fid(ours.mean, basis, theirs)

    return without_each(without, groups, len(basis))


def _left_out_of_few(features: Matrix, reference: Matrix, groups: int) -> Vector:
    """The same from C C', which is the smaller where images are fewer than features."""
    ours, theirs = moments(features), moments(reference)
    offsets = features - ours.mean
    seen = offsets @ half(reference).T
    gram = seen @ seen.T

    def without(group: int) -> float:
        kept = np.delete(np.arange(len(features)), np.s_[group::groups])
        inner = gram[np.ix_(kept, kept)]
        inner -= inner.mean(axis=0)
        inner -= inner.mean(axis=1)[:, None]
        shift = offsets[kept].mean(axis=0)
        spread = float(((offsets[kept] - shift) ** 2).sum()) / (len(kept) - 1)
        overlap = nuclear_norm(inner) / (len(kept) - 1) ** 0.5
        return frechet(ours.mean + shift, spread, overlap, theirs)

    return without_each(without, groups, len(features))


@dataclass
class PartSums:
    """Sums over some images, of their offsets o from a common centre."""

    count: int
    total: Vector  # [d], of o
    square: float  # of |o|^2
    gram: Matrix  # [b, b], of (B o)(B o)'

    def fid(self, centre: Vector, basis: Matrix, theirs: Moments) -> float:
        """The FID of these images alone; `basis` is a B of the reference, [b, d]."""
        shift = self.total / self.count
        seen = basis @ shift
        inner = self.gram - self.count * np.outer(seen, seen)
        overlap = nuclear_norm(inner) / (self.count - 1) ** 0.5
        spread = (self.square - self.count * float(shift @ shift)) / (self.count - 1)
        return frechet(centre + shift, spread, overlap, theirs)


# FID at infinitely many images. Its bias is a line in 1/n (Chong & Forsyth 2020) only where n is
# many times d: taken down to n/10, the line gave -3.5 for a truth of 2.7.

PREFIXES = 8
PREFIX_BLOCK = 4096  # images added at once


def fid_infinity(features: Matrix, reference: Matrix) -> float:
    """FID as it would be with infinitely many images and this reference, which may be negative:
    where the line by least squares through FID at 8 sizes, even in 1/n from max(n/2, 8 d) to n,
    meets 1/n = 0.

    Raises NotDefined for fewer than 16 d images, and what `fid` raises.
    """
    features, reference = checked(features, reference)
    return _intercept(features, reference, prefix_sizes(*features.shape))


def fid_infinity_left_out(features: Matrix, reference: Matrix, *, groups: int = 10) -> Vector:
    """`fid_infinity` without the images j of j % groups == g, for each g; [groups].

    Every prefix of the line loses its share, so that the line stays the same but for the images.
    Raises ValueError for fewer than 2 groups, and as `fid_infinity` does.
    """
    features, reference = checked(features, reference)
    if groups < 2:
        raise ValueError(f"images are left out in at least 2 groups, not {groups}")
    sizes = prefix_sizes(*features.shape)
    values = np.empty(groups)
    for group in range(groups):
        lost = [len(range(group, size, groups)) for size in sizes.tolist()]
        rest = np.delete(features, np.s_[group::groups], axis=0)
        values[group] = _intercept(rest, reference, sizes - lost)
    return values


def prefix_sizes(n: int, d: int) -> NDArray[np.int64]:
    """Numbers of images [sizes], as even in 1/n as whole numbers allow, rising. Raises NotDefined
    for fewer than 16 images a feature."""
    if n < 16 * d:
        raise NotDefined(
            f"FID at infinitely many images needs 16 images for each of {d} features, {16 * d:,} "
            f"images, not {n:,}. Draw that many, or take an extractor of fewer features."
        )
    smallest = max((n + 1) // 2, 8 * d)
    return np.unique(np.rint(1 / np.linspace(1 / smallest, 1 / n, PREFIXES)).astype(np.int64))


def _intercept(features: Matrix, reference: Matrix, sizes: NDArray[np.int64]) -> float:
    """Where the line through FID of features[:size] meets 1/n = 0, from sums that grow."""
    theirs, basis, centre = moments(reference), half(reference), features.mean(axis=0)
    part = PartSums(0, np.zeros(len(centre)), 0.0, np.zeros((len(basis), len(basis))))
    values = []
    for size in sizes.tolist():
        while part.count < size:
            block = features[part.count : min(part.count + PREFIX_BLOCK, size)] - centre
            seen = block @ basis.T
            part.count += len(block)
            part.total += block.sum(axis=0)
            part.square += float(np.vdot(block, block))
            part.gram += seen.T @ seen
        values.append(part.fid(centre, basis, theirs))
    return float(np.polyfit(1 / sizes, values, 1)[1])
