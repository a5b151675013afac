"""How far a set of images is from a reference, as pure functions of two feature matrices.

    features    [N, d] float64, one row for each image that is evaluated
    reference   [M, d] float64, one row for each image that it is compared with; N and M may differ

The functions stand in the modules of their kind; here are the records by which a grid names them.
The reference is held fixed: influences and standard errors speak of the N images alone. To add a
metric, write its functions and name them in one record of METRICS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harness.metrics import copies, frechet, kid, logits, neighbours, uncertainty
from harness.metrics.arrays import Vector
from harness.registry import Registry


@dataclass(frozen=True)
class Metric:
    """One metric: everything about it in one record.

    All three functions take (features, reference) and, by keyword, what is named in `needs`.
    They raise ValueError for fewer than two images, for features that are not finite, and for two
    sets that have different numbers of features.
    """

    name: str
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
    biased: bool = False  # by few images: intervals are of the value less that bias
    # (features_a, features_b, reference): the error of a difference of two cells whose image j
    # starts from the same noise, where influences alone do not tell it exactly.
    difference_error: Callable[..., float] | None = None
    # (features, reference) -> what the choice of the reference adds to the variance, and [M], how
    # far each reference image moves the value.
    reference_variance: Callable[..., float] | None = None
    reference_influence: Callable[..., Vector] | None = None
    needs: frozenset[str] = frozenset()  # of "logits" and "held_out"
    group: Literal["distance", "other"] = "distance"  # distances to real images stand together
    explanation: str = ""  # the sentence of the report that says what it is, with its source

    @property
    def formula(self) -> str:
        """The explanation, by the name that it has in other parts."""
        return self.explanation


METRICS = Registry(
    "metric",
    {
        "kid": Metric(
            name="KID",
            lower_is_better=True,
            description="Unbiased kernel distance over all images: 0 on average for equal "
            "distributions",
            function=kid.kid,
            influence=kid.kid_influence,
            standard_error=kid.kid_standard_error,
            difference_error=uncertainty.kid_difference_error,
            reference_variance=uncertainty.kid_reference_variance,
            reference_influence=uncertainty.kid_reference_influence,
            explanation="KID is the unbiased squared maximum mean discrepancy between generated "
            "and reference features, with the kernel (x·y/d + 1)³ (Bińkowski et al. 2018), over "
            "all images at once and not over subsets. Being unbiased it may be below zero when two "
            "sets are alike.",
        ),
        "fid": Metric(
            name="FID",
            lower_is_better=True,
            description="Frechet distance between Gaussians fitted to the features",
            function=frechet.fid,
            influence=frechet.fid_influence,
            standard_error=frechet.fid_standard_error,
            left_out=frechet.fid_left_out,
            biased=True,
            difference_error=uncertainty.fid_difference_error,
            reference_variance=uncertainty.fid_reference_variance,
            reference_influence=uncertainty.fid_reference_influence,
            explanation="FID is the Fréchet distance between two Gaussians fitted to the "
            "features, |m − m_r|² + tr(S + S_r − 2√(S S_r)) (Heusel et al. 2017). It is biased "
            "upwards by few images, so it is stated with their number and never compared across "
            "numbers.",
        ),
        "fid_infinity": Metric(
            name="FID at infinity",
            lower_is_better=True,
            description="Where a line through FID over 1/n ends: FID without its bias",
            function=frechet.fid_infinity,
            left_out=frechet.fid_infinity_left_out,
            explanation="FID at infinity is where the line by least squares through FID over 1/n, "
            "at eight sizes up to all images, meets 1/n = 0 (Chong & Forsyth 2020).",
        ),
        "precision": Metric(
            name="Precision",
            lower_is_better=False,
            description="Share of images within the 3-neighbour balls of real images",
            function=neighbours.precision,
            influence=neighbours.precision_influence,
            group="other",
            explanation="Precision is the share of images within the ball of some reference "
            "image, which reaches to that one's 3rd nearest neighbour among them (Kynkäänniemi et "
            "al. 2019).",
        ),
        "recall": Metric(
            name="Recall",
            lower_is_better=False,
            description="Share of real images within the 3-neighbour balls of the images",
            function=neighbours.recall,
            left_out=neighbours.recall_left_out,
            group="other",
            explanation="Recall is the share of reference images within the ball of some image, "
            "which reaches to that one's 3rd nearest neighbour among the images (Kynkäänniemi et "
            "al. 2019).",
        ),
        "density": Metric(
            name="Density",
            lower_is_better=False,
            description="How many 5-neighbour balls of real images hold an image, over 5",
            function=neighbours.density,
            influence=neighbours.density_influence,
            group="other",
            explanation="Density counts in how many balls of reference images, each to the 5th "
            "nearest neighbour, an image lies, over 5; it may exceed 1 (Naeem et al. 2020).",
        ),
        "coverage": Metric(
            name="Coverage",
            lower_is_better=False,
            description="Share of real images with an image in their 5-neighbour ball",
            function=neighbours.coverage,
            left_out=neighbours.coverage_left_out,
            group="other",
            explanation="Coverage is the share of reference images that have an image within "
            "their ball to the 5th nearest neighbour (Naeem et al. 2020).",
        ),
        "memorisation": Metric(
            name="Memorisation",
            lower_is_better=True,
            description="Share of images nearer to a training image than 95 % of held-out ones are",
            function=copies.memorisation,
            influence=copies.memorisation_influence,
            needs=frozenset({"held_out"}),
            group="other",
            explanation="Memorisation is the share of images that are nearer to a training image "
            "than 95 % of held-out images are: 0.05 where nothing is copied.",
        ),
        "inception_score": Metric(
            name="Inception Score",
            lower_is_better=False,
            description="How surely a classifier tells the images apart, and into how many kinds",
            function=logits.inception_score,
            influence=logits.inception_score_influence,
            needs=frozenset({"logits"}),
            group="other",
            explanation="The Inception Score is exp of the mean of KL(p(c | x) ‖ p(c)), over all "
            "images at once and not over splits; it grows with n (Salimans et al. 2016).",
        ),
    },
    contract="""A harness.metrics.distances.Metric(name=..., lower_is_better=..., description=...,
function=...), whose functions take two float64 arrays:

    function(features [N, d], reference [M, d]) -> float
    influence(features, reference) -> [N], how far each image moves the value (optional)

and, by keyword, what is named in `needs`: logits [N, classes] of the images, held_out [H, d]
features of held-out images. They raise ValueError for fewer than two images, for features that are
not finite, and for two sets that have different numbers of features.""",
    record=Metric,
)
