"""What every metric must satisfy: a number that means what its record says, and influences and
errors that belong to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from harness.contracts.check import Bench, CannotCheck, Claims, check, refuses
from harness.errors import Fault, NotDefined
from harness.metrics.answers import a_number, vector
from harness.metrics.arrays import Matrix, Vector
from harness.metrics.distances import METRICS, Metric

NEEDS = frozenset({"logits", "held_out"})
LEFT_OUT_GROUPS = 10  # of images that are left out in turn
LEFT_OUT = 24  # images that are left out one by one


def normal_features(seed: int, images: int) -> Matrix:
    """Standard normal features [images, 6]; nobody may write to them."""
    features = np.random.default_rng(seed).standard_normal((images, 6))
    features.flags.writeable = False
    return features


FEATURES, REFERENCE, HELD_OUT, CLASSIFIER = map(normal_features, range(4), (200, 180, 100, 4))


def of_metric(name: str, bench: Bench) -> Claims:
    metric = METRICS[name]
    about = partial(check, bench, f"metric {name}")
    yield about("its record is complete (faults)", 0, partial(record_faults, metric))
    yield about("needs nothing but logits and held_out", 0, lambda: len(metric.needs - NEEDS))
    yield about("a number, of two sets (1 if so)", 0, partial(gives_number, metric), 1.0)
    yield about("the same each time", 0, lambda: value(metric) - value(metric))
    yield about("refuses what has no meaning (cases not refused)", 0, partial(unrefused, metric))
    if metric.group == "distance":
        yield about(
            "worse when moved away (1 if so)", 0, partial(is_worse, metric, moved_away), 1.0
        )
        yield about("worse with noise (1 if so)", 0, partial(is_worse, metric, with_noise), 1.0)
    if metric.influence:
        apart = partial(influence_apart, metric, metric.influence)
        yield about("influences are what leaving an image out does", 0.1, apart)
    if metric.left_out:
        off = partial(left_out_apart, metric, metric.left_out)
        yield about("values without a group (relative difference)", 0.05, off)
    yield about("errors and variances from 0 up (faults)", 0, partial(error_faults, metric))


def ask(metric: Metric, function: Callable[..., Any], *sets: Matrix, **more: Any) -> Any:
    """The answer for features and a reference, given what the metric needs beside them."""
    given = {"held_out": HELD_OUT, "logits": sets[0] @ CLASSIFIER.T}
    return function(*sets, **{need: given[need] for need in metric.needs & NEEDS}, **more)


def value(metric: Metric, features: Matrix = FEATURES, reference: Matrix = REFERENCE) -> float:
    return a_number(ask(metric, metric.function, features, reference))


def record_faults(metric: Metric) -> int:
    """What in the record of a metric is of another type than it says."""
    texts = metric.name, metric.description, metric.group, metric.explanation
    flags = metric.lower_is_better, metric.biased
    optional = (metric.influence, metric.standard_error, metric.left_out, metric.difference_error,
                metric.reference_variance, metric.reference_influence)  # fmt: skip
    return (
        sum(not isinstance(text, str) for text in texts)
        + sum(not isinstance(flag, bool) for flag in flags)
        + sum(each is not None and not callable(each) for each in (metric.function, *optional))
    )


def gives_number(metric: Metric) -> bool:
    try:
        found = value(metric)
    except NotDefined as error:  # of so few images, say
        raise CannotCheck(str(error)) from None
    if not np.isfinite(found):
        raise Fault(f"gives {found} for two sets of finite features")
    return True


def unrefused(metric: Metric) -> int:
    """One image, a feature that is not a number, and two sets of different features."""
    broken = FEATURES.copy()
    broken[3, 2] = np.nan
    cases = [(FEATURES[:1], REFERENCE), (broken, REFERENCE), (FEATURES, REFERENCE[:, :4])]
    return sum(not refuses(ValueError, value, metric, *sets) for sets in cases)


# Distances.


def moved_away(features: Matrix) -> Matrix:
    return features + 3.0


def with_noise(features: Matrix) -> Matrix:
    return features + 2 * np.random.default_rng(5).standard_normal(features.shape)


def is_worse(metric: Metric, spoil: Callable[[Matrix], Matrix]) -> bool:
    """Whether images that are spoilt score worse than they did against themselves."""
    gap = value(metric, spoil(REFERENCE), REFERENCE) - value(metric, REFERENCE, REFERENCE)
    return gap > 0 if metric.lower_is_better else gap < 0


# Uncertainty.


def influence_apart(metric: Metric, influence: Callable[..., Vector]) -> float:
    """(n - 1) times what the value loses without an image, less the image's influence: how far
    that differs between the images left out, relative to the influences."""
    influences = vector(ask(metric, influence, FEATURES, REFERENCE), len(FEATURES))
    without = [value(metric, np.delete(FEATURES, j, axis=0)) for j in range(LEFT_OUT)]
    lost = (len(FEATURES) - 1) * (value(metric) - np.array(without))
    return float((lost - influences[:LEFT_OUT]).std() / influences[:LEFT_OUT].std())


def left_out_apart(metric: Metric, left_out: Callable[..., Vector]) -> float:
    """Between the value without the first group and that of the other images alone."""
    found = vector(
        ask(metric, left_out, FEATURES, REFERENCE, groups=LEFT_OUT_GROUPS), LEFT_OUT_GROUPS
    )
    rest = value(metric, np.delete(FEATURES, np.s_[::LEFT_OUT_GROUPS], axis=0))
    return abs(float(found[0]) - rest) / abs(value(metric))


def error_faults(metric: Metric) -> int:
    """Standard errors and variances that are negative or no number, and a difference of a set from
    itself that has an error."""
    above = [each for each in (metric.standard_error, metric.reference_variance) if each]
    found = sum(not a_number(ask(metric, each, FEATURES, REFERENCE)) >= 0 for each in above)
    if error := metric.difference_error:
        found += not abs(a_number(ask(metric, error, FEATURES, FEATURES, REFERENCE))) < 1e-9
    if influence := metric.reference_influence:
        vector(ask(metric, influence, FEATURES, REFERENCE), len(REFERENCE))
    return found
