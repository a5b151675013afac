"""Whether two sets of images cover one another, by who is near whom.

    features    [N, d] float64, one row for each image that is evaluated
    reference   [M, d] float64, one row for each image that it is held against; N and M may differ

Around each image of one set lies a ball that reaches to its k-th nearest neighbour in that set, so
the balls together stand for the distribution. The four metrics ask which images lie in whose balls,
and one pass over the distances between the two sets answers all. To add a metric of that kind,
count what it needs in `meeting` and write its functions below.

Precision and recall are those of Kynkaanniemi et al. 2019, density and coverage those of Naeem et
al. 2020. The reference is held fixed, as in `harness.metrics.distances`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import NotDefined
from harness.metrics.arrays import Matrix, Vector, checked, remembered, row_blocks

MANIFOLD = 3  # k of precision and recall, as in all their published figures
DENSITY = 5  # k of density and coverage, likewise
GROUPS = 50  # that are left out one by one
NO_BALL = -1.0  # the squared radius where there are too few others for one

Squares = NDArray[np.float32]  # squared distances
Indices = NDArray[np.intp]
Marks = NDArray[np.bool_]


# Distances.


def squared_distances(x: Matrix, y: Matrix) -> Iterator[tuple[slice, Squares]]:
    """|x_i - y_j|^2 in blocks of whole rows of x, so that memory stays bounded.

    Worked out in float64, and given in float32: what differs by rounding alone is equal then. Two
    copies of an image are at distance 0 exactly, and an image that lies on the edge of a ball, as
    a copy of the neighbour that it reaches to does, lies there however the rows were split.
    """
    x_norms, y_norms = (np.einsum("ij,ij->i", each, each) for each in (x, y))
    for rows in row_blocks(len(x), len(y)):
        sizes = x_norms[rows, None] + y_norms
        squares = x[rows] @ y.T
        squares *= -2
        squares += sizes
        sizes *= 4 * x.shape[1] * np.finfo(np.float64).eps  # what the sums above may be out by
        squares[squares <= sizes] = 0
        yield rows, squares.astype(np.float32)


def squares_within(x: Matrix) -> Iterator[tuple[slice, Squares]]:
    """The same within one set, where no image is its own neighbour."""
    for rows, squares in squared_distances(x, x):
        inside = np.arange(len(x))[rows]
        squares[inside - inside[0], inside] = np.inf
        yield rows, squares


@remembered
def radii(x: Matrix) -> Squares:
    """[n, DENSITY], the squared distances to the nearest others, rising."""
    found = np.full((len(x), DENSITY), NO_BALL, np.float32)
    count = min(DENSITY, len(x) - 1)
    for rows, squares in squares_within(x):
        squares.partition(count - 1, axis=1)
        found[rows, :count] = np.sort(squares[:, :count], axis=1)
    return found


# A group that is left out takes its balls with it, and the other balls grow where they lose a
# neighbour. Only the groups of an image's k nearest neighbours can make its ball grow.


@dataclass(frozen=True)
class Balls:
    """The balls of precision and recall around the images of one set, and how they grow."""

    squares: Squares  # [n], squared radius
    groups: Indices  # [n, MANIFOLD], the groups of the neighbours within
    squares_without: Squares  # [n, MANIFOLD], squared radius without each of these groups


@remembered
def balls(x: Matrix, groups: Vector) -> Balls:
    """The balls of x, and their radii without the images j of j % groups == g for every g.

    A group has at most ceil(n / groups) images, so that many neighbours more than k are enough.
    """
    n, count = len(x), int(groups[0])
    enough = min(n - 1, MANIFOLD + -(-n // count))
    found = Balls(
        np.full(n, NO_BALL, np.float32),
        np.zeros((n, MANIFOLD), np.intp),
        np.full((n, MANIFOLD), NO_BALL, np.float32),
    )
    if n <= MANIFOLD:
        return found
    for rows, squares in squares_within(x):
        nearest = np.argpartition(squares, enough - 1, axis=1)[:, :enough]
        distances = np.take_along_axis(squares, nearest, axis=1)
        order = np.argsort(distances, axis=1, kind="stable")
        distances = np.take_along_axis(distances, order, axis=1)
        members = np.take_along_axis(nearest, order, axis=1) % count
        found.squares[rows] = distances[:, MANIFOLD - 1]
        found.groups[rows] = members[:, :MANIFOLD]
        for column in range(MANIFOLD):
            remaining = np.cumsum(members != members[:, [column]], axis=1) >= MANIFOLD
            kth = remaining.argmax(axis=1)  # there is one: `refuse_groups` sees to it
            found.squares_without[rows, column] = distances[np.arange(len(distances)), kth]
    return found


@dataclass(frozen=True)
class Meeting:
    """Which images of the two sets lie in whose balls."""

    precise: Marks  # [N], in a ball of the reference
    density: Vector  # [N], in how many wider balls of the reference
    recalled: Marks  # [M], in a ball of the features
    covered: Marks  # [M], have one of the features in their wider ball
    recall_without: Vector  # [groups], the share that is recalled without each group
    coverage_without: Vector  # [groups]


@remembered
def meeting(features: Matrix, reference: Matrix, groups: Vector) -> Meeting:
    """How the manifolds of features [N, d] and reference [M, d] meet, with and without each group
    of images."""
    n, count = len(features), int(groups[0])
    ours, theirs = balls(features, groups), radii(reference)
    one_hot = np.eye(count, dtype=np.float32)
    stays = 1 - one_hot[np.arange(n) % count]  # [N, groups], 1 where ball j outlives group g
    grows = [one_hot[column] * stays for column in ours.groups.T]  # and 1 where it then grows
    precise, density = np.zeros(n, bool), np.zeros(n)
    recalled, covered = np.zeros(len(reference), bool), np.zeros(len(reference), bool)
    recall_without, coverage_without = np.zeros(count), np.zeros(count)
    for rows, squares in squared_distances(reference, features):
        precise |= (squares <= theirs[rows, MANIFOLD - 1, None]).any(axis=0)

        within = squares < theirs[rows, DENSITY - 1, None]
        density += within.sum(axis=0)
        covered[rows] = within.any(axis=1)
        coverage_without += (counts_by_group(within, stays) > 0).sum(axis=0)

        within = squares <= ours.squares
        recalled[rows] = within.any(axis=1)
        reached = counts_by_group(within, stays)
        for column, grown in enumerate(grows):
            reached += counts_by_group(squares <= ours.squares_without[:, column], grown)
        recall_without += (reached > 0).sum(axis=0)
    m = len(reference)
    return Meeting(precise, density, recalled, covered, recall_without / m, coverage_without / m)


def counts_by_group(marks: Marks, of: Squares) -> Squares:
    """[rows, groups], how many are marked of those that `of` [columns, groups] says; float32
    counts to 16 million without a mistake."""
    counts: Squares = marks.astype(np.float32) @ of
    return counts


def met(features: Matrix, reference: Matrix, groups: int = GROUPS) -> Meeting:
    """The same for so many groups."""
    return meeting(features, reference, np.array([groups], np.float64))


# Precision, recall, density and coverage.


def precision(features: Matrix, reference: Matrix) -> float:
    """Share of evaluated images in a ball of a reference image, edge included, k = 3; 0 to 1.

    Kynkaanniemi et al. 2019, eq. 1 and 2. Raises NotDefined where M <= 3.
    """
    return float(precision_influence(features, reference).mean())


def precision_influence(features: Matrix, reference: Matrix) -> Vector:
    """1 for each image that is in a ball, else 0: precision is their mean; [N]."""
    features, reference = checked(features, reference)
    refuse_few("precision", "reference", reference, MANIFOLD)
    return met(features, reference).precise.astype(np.float64)


def recall(features: Matrix, reference: Matrix) -> float:
    """Share of reference images in a ball of an evaluated image, edge included, k = 3; 0 to 1.

    Kynkaanniemi et al. 2019, eq. 1 and 2, with the sets exchanged. It grows with N: compare at
    equal N, M alone. Raises NotDefined where N <= 3.
    """
    features, reference = checked(features, reference)
    refuse_few("recall", "evaluated", features, MANIFOLD)
    return float(met(features, reference).recalled.mean())


def recall_left_out(features: Matrix, reference: Matrix, *, groups: int = GROUPS) -> Vector:
    """Recall without the images j of j % groups == g, for each g; [groups].

    Their spread gives an error that is up to two thirds too wide: how much of the reference is
    covered is no sum over the images, and a jackknife never takes less than the truth for that
    (Efron and Stein 1981). Raises NotDefined where a group is empty, or leaves 3 images or fewer.
    """
    features, reference = checked(features, reference)
    refuse_groups("recall", features, groups, MANIFOLD)
    return met(features, reference, groups).recall_without


def density(features: Matrix, reference: Matrix) -> float:
    """In how many balls of reference images an evaluated image lies, edge left out, k = 5, over k:
    1 on average for equal distributions, 0 to M / k.

    Naeem et al. 2020, eq. 5. Raises NotDefined where M <= 5.
    """
    return float(density_influence(features, reference).mean())


def density_influence(features: Matrix, reference: Matrix) -> Vector:
    """The number of balls that each image lies in, over k: density is their mean; [N]."""
    features, reference = checked(features, reference)
    refuse_few("density", "reference", reference, DENSITY)
    return met(features, reference).density / DENSITY


def coverage(features: Matrix, reference: Matrix) -> float:
    """Share of reference images with an evaluated image in their ball, edge left out, k = 5; 0-1.

    Naeem et al. 2020, eq. 6: 1 - 2^-k for equal distributions and N = M, which grows with N / M:
    compare at equal N, M alone. Raises NotDefined where M <= 5.
    """
    features, reference = checked(features, reference)
    refuse_few("coverage", "reference", reference, DENSITY)
    return float(met(features, reference).covered.mean())


def coverage_left_out(features: Matrix, reference: Matrix, *, groups: int = GROUPS) -> Vector:
    """Coverage without the images j of j % groups == g, for each g; [groups].

    As for recall, the error from their spread is up to two thirds too wide. Raises NotDefined
    where M <= 5, where a group is empty, or leaves fewer than 2 images.
    """
    features, reference = checked(features, reference)
    refuse_few("coverage", "reference", reference, DENSITY)
    refuse_groups("coverage", features, groups, 1)
    return met(features, reference, groups).coverage_without


def refuse_few(metric: str, which: str, images: Matrix, neighbours: int) -> None:
    """Raises NotDefined where images have fewer others than neighbours are needed."""
    if len(images) <= neighbours:
        raise NotDefined(
            f"{metric} needs the {neighbours} nearest others of each {which} image, and there are "
            f"{len(images)} {which} images. Take at least {neighbours + 1}."
        )


def refuse_groups(metric: str, features: Matrix, groups: int, neighbours: int) -> None:
    """More than `neighbours` evaluated images must remain without the largest group. Raises
    NotDefined where they do not."""
    n = len(features)
    if groups < 2 or groups > n or n - -(-n // groups) <= neighbours:
        raise NotDefined(
            f"{metric} cannot leave out one of {groups} groups of {n} images at a time: each must "
            f"hold an image, and more than {neighbours} must remain. Take more images, or 2 to {n} "
            "groups."
        )
