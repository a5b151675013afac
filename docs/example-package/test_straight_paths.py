"""That the parts keep the contracts of their kinds, as `harness verify` checks it too."""

import pytest

from harness.contracts import failures
from harness.work.cells import Part

PARTS = [("schedule", "straight"), ("sampler", "straight_euler"), ("metric", "mean_shift")]


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_a_part_keeps_its_contract(kind, name):
    assert failures([(kind, Part(name))]) == []
