"""Whether there are enough real images for a metric to have a value: asked before any work."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from harness.errors import DataError
from harness.metrics.distances import METRICS

PLENTY = 64  # images: more than any count that a metric asks for


def check_enough(metrics: Iterable[str], reference: int, held_out: int) -> None:
    """Raises DataError where a metric has no value against so many reference images, with so many
    held out: each is tried on noise, so that it is asked itself."""
    random = np.random.default_rng(0)
    sets = {
        "features": random.standard_normal((PLENTY, 2)),
        "reference": random.standard_normal((min(reference, PLENTY), 2)),
        "held_out": random.standard_normal((min(held_out, PLENTY), 2)),
        "logits": random.standard_normal((PLENTY, 2)),
    }
    for name in metrics:
        metric = METRICS[name]
        given = {need: sets[need] for need in metric.needs if need in sets}
        with METRICS.blamed(name):
            try:
                metric.function(sets["features"], sets["reference"], **given)
            except ValueError as error:
                raise DataError(
                    f"metric '{name}' has no value with {reference:,} reference and {held_out:,} "
                    f"held-out images: {error} Use a larger held_out, more images, or another "
                    "metric."
                ) from error
