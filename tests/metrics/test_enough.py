"""Too few real images for a metric are refused before any work."""

import numpy as np
import pytest

from harness.errors import DataError, NotDefined
from harness.metrics.distances import METRICS
from harness.metrics.enough import check_enough
from harness.metrics.frechet import fid_left_out


def test_plenty_of_real_images_are_enough_for_every_metric():
    check_enough(METRICS.names(), reference=1297, held_out=500)


@pytest.mark.parametrize(
    ("name", "reference", "held_out"),
    [("kid", 1, 5), ("precision", 3, 5), ("coverage", 5, 5), ("memorisation", 100, 18)],
)
def test_a_metric_that_has_no_value_with_so_few_is_named_with_the_counts(name, reference, held_out):
    counts = f"'{name}' .* {reference} reference and {held_out} held-out images.*larger held_out"
    with pytest.raises(DataError, match=counts):
        check_enough(["fid", name] if reference > 1 else [name], reference, held_out)


@pytest.mark.parametrize(("name", "reference", "held_out"), [
    ("kid", 2, 1), ("precision", 4, 1), ("coverage", 6, 1), ("memorisation", 2, 19),
])  # fmt: skip
def test_one_image_more_is_enough(name, reference, held_out):
    check_enough([name], reference, held_out)


@pytest.mark.parametrize(("images", "groups"), [(2, 2), (3, 2)])
def test_fid_without_groups_is_not_defined_where_one_image_would_be_left(images, groups):
    features = np.random.default_rng(0).standard_normal((images, 8))
    with pytest.raises(NotDefined, match="2 beside each group"):
        fid_left_out(features, np.random.default_rng(1).standard_normal((30, 8)), groups=groups)
