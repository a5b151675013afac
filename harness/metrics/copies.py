"""Whether images are copies: how near each one lies to a reference image, against held-out ones.

features    [N, d] float64, one row for each image that is evaluated
reference   [M, d] float64, the images of the training
"""

from __future__ import annotations

import numpy as np

from harness.errors import NotDefined
from harness.metrics.arrays import Matrix, Vector, checked, remembered
from harness.metrics.neighbours import Indices, squared_distances

HELD_OUT_NEARER = 0.05  # share of held-out images that count as being as near as a copy


def nearest(features: Matrix, reference: Matrix) -> tuple[Indices, Vector]:
    """The reference image that each evaluated image is nearest to: its index [N], and the distance
    between the two in the units of the features [N]."""
    return found_nearest(*checked(features, reference))


@remembered
def found_nearest(features: Matrix, reference: Matrix) -> tuple[Indices, Vector]:
    """The index of the reference image nearest to each image and its distance, [N] each."""
    indices, distances = np.empty(len(features), np.intp), np.empty(len(features))
    for rows, squares in squared_distances(features, reference):
        indices[rows] = squares.argmin(axis=1)
        distances[rows] = np.sqrt(squares.min(axis=1))
    return indices, distances


def memorisation(features: Matrix, reference: Matrix, *, held_out: Matrix) -> float:
    """Share of evaluated images that lie nearer to the reference than 95 % of the held-out ones do,
    each measured to its nearest reference image, which must be those of the training: 0.05 on
    average where nothing was memorised, 1 where all are copies of training images.

    Held-out images [H, d] are new draws of the same distribution, and so is what a model without
    memory draws. Images that are near to everything, as blurred ones are in some features, raise it
    too: look at the nearest images. Raises NotDefined where H < 19, or where so many held-out
    images are themselves copies that nothing could be nearer.
    """
    return float(memorisation_influence(features, reference, held_out=held_out).mean())


def memorisation_influence(features: Matrix, reference: Matrix, *, held_out: Matrix) -> Vector:
    """1 for each image that is nearer than 95 % of those held out, else 0; [N]. Raises NotDefined
    for too few held-out images."""
    _, distances = nearest(features, reference)
    least = round(1 / HELD_OUT_NEARER) - 1
    if len(held_out) < least:
        raise NotDefined(
            f"memorisation needs at least {least} held-out images, to know how near one new image "
            f"in {least + 1} lies, and there are {len(held_out)}. Hold out more images."
        )
    try:
        _, usual = nearest(held_out, reference)
    except ValueError as error:  # it speaks of features
        raise ValueError(f"of the held-out images: {error}") from error
    # Of the many definitions of a quantile, that below which a new draw lies with probability
    # 0.05 exactly, whatever the distribution.
    limit = np.quantile(usual, HELD_OUT_NEARER, method="weibull")
    if limit == 0:
        raise NotDefined(
            f"memorisation has no meaning where {np.mean(usual == 0):.0%} of the held-out images "
            "are themselves copies of reference images: nothing can be nearer. Take the training "
            "images as the reference, and hold out others."
        )
    return (distances < limit).astype(np.float64)
