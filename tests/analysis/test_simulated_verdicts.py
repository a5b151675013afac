"""Error rates and power of verdicts, in worlds whose truth is known."""

import math

import pytest
from simulation import WORLDS, rates, rates_over_looks

pytestmark = pytest.mark.slow

REPETITIONS = 1000
MOST = 0.06 + 2 * math.sqrt(0.06 * 0.94 / REPETITIONS)  # of false verdicts, with chance


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("levels", [2, 3, 5])
@pytest.mark.parametrize("world", WORLDS)
def test_few_verdicts_within_a_question_are_false(world, levels, seeds):
    assert rates(WORLDS[world], levels, seeds, REPETITIONS).false <= MOST


def test_three_seeds_decide_what_three_seeds_can():
    """The last row of the table that the procedure was chosen by: .997 and .89, and of an effect
    that crosses zero .50; less two standard errors."""
    found = rates(WORLDS["main effect"], 2, 3, REPETITIONS)
    assert found.overall > 0.985
    assert found.single > 0.86
    assert rates(WORLDS["crossing"], 2, 3, REPETITIONS).any > 0.45


@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("world", WORLDS)
def test_few_verdicts_over_all_looks_are_false(world, levels):
    assert rates_over_looks(WORLDS[world], levels, REPETITIONS).false <= MOST


def test_a_clear_effect_saves_most_of_the_full_grid():
    found = rates_over_looks(WORLDS["main effect"], 2, REPETITIONS)
    assert found.overall > 0.99
    assert found.seeds < 0.5
