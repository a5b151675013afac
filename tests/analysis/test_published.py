"""Published figures: which of two samplers is ahead at about as many evaluations."""

import pytest

from harness.analysis.published import CIFAR_10, FLOWERS


@pytest.mark.parametrize(
    ("evaluations", "order"),
    [(5, ("ab2", "ddim")), (2, ("ddim", "ab2")), (20, None), (250, None)],
)
def test_the_published_order_is_that_of_the_nearest_count_if_it_is_near(evaluations, order):
    assert FLOWERS.ahead("ddim", "ab2", evaluations) == order  # 16: a tie; 64 is far from 250
    assert CIFAR_10.ahead("ddim", "ab2", evaluations) is None
