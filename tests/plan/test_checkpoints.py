"""Which cells are scored again at 90 % of their training: one of each, cheap and telling."""

import itertools
from dataclasses import replace

import made
import pytest

from harness.plan.checkpoints import checkpoint_cells
from harness.work.cells import Part

TRAINING = replace(made.TRAINING, model=Part("tiny"), precision="auto")
CELL = replace(made.CELL, training=TRAINING, steps=50)


def chosen(cells):
    """The chosen cells, which are the same in whatever order the cells come."""
    cells = list(cells)
    found = checkpoint_cells(cells)
    assert {*checkpoint_cells(reversed(cells))} == {*found}
    assert all(cell.weights == "0.9" for cell in found)
    return [cell for cell in cells if replace(cell, weights="0.9") in found]


def of_steps(*steps, sampler="ddim"):
    return [replace(CELL, sampler=Part(sampler), steps=number) for number in steps]


@pytest.mark.parametrize(
    ("steps", "best"),
    [
        ([10, 20, 50, 100], 20),
        ([100, 50, 21], 21),
        ([19, 1000], 1000),
        ([5, 10, 19], 19),
        ([2], 2),
        ([20], 20),
    ],
)
def test_the_fewest_steps_that_are_enough_are_taken_or_else_the_most(steps, best):
    assert [cell.steps for cell in chosen(of_steps(*steps))] == [best]


def test_evaluations_count_and_not_steps():
    # heun makes 2 N - 1: 19 of 10 steps, 21 of 11.
    heun = of_steps(10, 11, sampler="heun")
    assert chosen([*heun, *of_steps(10, 50)]) == [heun[1]]
    assert chosen([heun[0], *of_steps(10, 50)]) == [of_steps(50)[0]]
    assert chosen([heun[0], *of_steps(10, 18)]) == [heun[0]]


def test_each_training_has_one():
    trainings = [replace(TRAINING, seed=seed) for seed in range(3)]
    cells = [replace(cell, training=each) for each in trainings for cell in of_steps(10, 20, 50)]
    assert [(cell.training.seed, cell.steps) for cell in chosen(cells)] == [
        (0, 20), (1, 20), (2, 20),
    ]  # fmt: skip


def test_trainings_share_a_sampler_configuration_where_they_can():
    configurations = itertools.product(
        ("ddpm", "ddim"), ("uniform", "leading"), (True, False), (1, 0)
    )
    cells = [
        replace(
            CELL, training=replace(TRAINING, seed=seed), sampler=Part(sampler),
            spacing=Part(spacing), clip=clip, sampling_seed=noise,
        )
        for sampler, spacing, clip, noise in configurations
        for seed in (0, 1)
    ]  # fmt: skip
    first, second = chosen(cells)
    assert replace(first, training=TRAINING) == replace(second, training=TRAINING)
    assert {first.training.seed, second.training.seed} == {0, 1}


def test_the_configuration_that_most_trainings_have_is_taken_before_a_cheaper_one():
    trainings = [replace(TRAINING, seed=seed) for seed in range(3)]
    everywhere = [replace(cell, training=each) for each in trainings for cell in of_steps(10, 50)]
    once = of_steps(20, sampler="ab2")
    assert [cell.steps for cell in chosen([*once, *everywhere])] == [50, 50, 50]
    assert [cell.steps for cell in chosen([*once, *of_steps(50)])] == [20]
    few = [cell for cell in everywhere if cell.steps == 10]
    assert [cell.steps for cell in chosen([*once, *few])] == [20, 10, 10]


def test_an_exact_denoiser_has_no_checkpoint():
    exact = replace(TRAINING, model=Part("exact"), training_steps=0)
    assert chosen([replace(CELL, training=exact), CELL]) == [CELL]
    assert chosen([replace(CELL, training=exact)]) == []


def test_cells_sampled_under_another_schedule_are_never_taken():
    elsewhere = replace(CELL, sample_schedule=Part("linear"), steps=20)
    assert chosen([elsewhere, CELL]) == [CELL]
    assert chosen([elsewhere]) == []


def test_no_cells_need_no_checkpoints():
    assert checkpoint_cells([]) == []
