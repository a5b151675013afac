"""Metrics of what a classifier calls the images, from its logits.

    features    [N, d] float64, one row for each image that is evaluated
    reference   [M, d] float64, real images: only a metric that compares with them looks at it
    logits      [N, classes] float64, of the same images in the same order; the class probabilities
                are their softmax

To add a metric, write its functions here and name them in one record of METRICS, with `logits`
among its needs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.errors import NotDefined
from harness.metrics.arrays import Matrix, Vector, checked, remembered, row_blocks


def inception_score(features: Matrix, reference: Matrix, *, logits: Matrix) -> float:
    """exp of the mean over images of KL(p(c | x_j) || p(c)), p(c) their mean; Salimans et al. 2016.

    From 1, where all images get the same probabilities, to the number of classes. It asks that
    images be told apart with certainty and be of all kinds, never that they look real. Over all
    images at once, not over ten splits as in some papers: those values are lower, for it grows with
    N. Compare at equal N alone. Raises NotDefined for fewer than two classes.
    """
    return float(np.exp(divergences(checked_logits(features, reference, logits)).mean()))


def inception_score_influence(features: Matrix, reference: Matrix, *, logits: Matrix) -> Vector:
    """IS (KL_j - log IS) for each image j, up to first order; [N].

    log IS is the mean of sum_c p_jc log p_jc, less sum_c p_c log p_c. To give image j a little more
    weight moves the first by its distance from its mean, and p_c by p_jc - p_c; the derivative of
    p log p is log p + 1, and the changes of p_c sum to 0. Together KL_j - log IS: that p(c) itself
    moves with the image counts in the second order only. The exponential gives the factor IS.
    """
    kl = divergences(checked_logits(features, reference, logits))
    influence: Vector = np.exp(kl.mean()) * (kl - kl.mean())
    return influence


@remembered
def divergences(logits: Matrix) -> Vector:
    """KL(p(c | x_j) || p(c)) in nats; [N]."""
    mean = sum(np.exp(log_p).sum(axis=0) for _, log_p in log_probabilities(logits)) / len(logits)
    # A class that no image has any share in, not even in the last digit, adds nothing.
    log_mean = np.log(mean, where=mean > 0, out=np.zeros_like(mean))
    kl = np.empty(len(logits))
    for rows, log_p in log_probabilities(logits):
        kl[rows] = (np.exp(log_p) * (log_p - log_mean)).sum(axis=1)
    return kl


def log_probabilities(logits: Matrix) -> Iterator[tuple[slice, Matrix]]:
    """log p(c | x_j) in blocks of whole rows, so that memory stays bounded."""
    for rows in row_blocks(*logits.shape):
        largest = logits[rows].max(axis=1, keepdims=True)  # exp of what is left cannot overflow
        shifted = logits[rows] - largest
        yield rows, shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def checked_logits(features: Matrix, reference: Matrix, logits: Matrix) -> Matrix:
    """The logits in float64. Raises ValueError for sets that are none, and logits of others,
    and NotDefined for fewer than two classes."""
    features, _ = checked(features, reference)
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2 or len(logits) != len(features):
        raise ValueError(
            f"logits must be [images, classes] of the same {len(features)} images as the features, "
            f"not of shape {logits.shape}"
        )
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits).all(axis=1)).sum())
        raise ValueError(f"logits holds values that are not finite, in {bad} images")
    if logits.shape[1] < 2:
        raise NotDefined(
            f"the inception score needs a classifier of at least 2 classes, and the logits have "
            f"{logits.shape[1]}. Use an extractor whose classifier tells images apart."
        )
    return logits
