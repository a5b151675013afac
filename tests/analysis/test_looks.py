"""Looking more than once: what each look sees, what it adds, and what stays decided."""

import dataclasses

import made
import numpy as np
from studies import results

from harness.analysis.decisions import DISAGREE, SAMPLING, SPENT, Effect
from harness.analysis.looks import Schedule, added_by, cells_at_first, first, is_out_of_reach
from harness.analysis.questions import questions
from harness.analysis.study import Study
from harness.work.cells import Asked
from harness.work.looks import Look

CLEAR = np.array([0.0, 0.001, -0.001])


def cells_of(seeds=(0, 1, 2), noises=(0,), schedules=("linear", "cosine")):
    return [
        made.cell(schedule, "ddim", 10, seed, sampling_seed=noise)
        for schedule in schedules for seed in seeds for noise in noises
    ]  # fmt: skip


def looks_of(**limits):
    return Schedule.of(cells_of(), **limits).looks


def at(values, looks):
    return Study(tuple(results(values)), looks=tuple(looks))


def test_the_error_rate_is_all_that_looks_may_spend():
    assert sum(SPENT) <= 0.05 + 1e-12
    assert len(looks_of()) == len(SPENT)


def test_looks_have_the_seeds_of_the_grid_first():
    assert first([7, 3], 4) == (7, 3, 0, 1)
    assert first([0, 1, 2, 3], 3) == (0, 1, 2)
    assert [len(look.seeds) for look in looks_of()] == [3, 5, 8, 12]
    assert [len(look.sampling_seeds) for look in looks_of()] == [1, 2, 4, 8]


def test_limits_end_the_looks():
    assert [len(look.seeds) for look in looks_of(most_seeds=6, most_images=50)] == [3, 5, 6]
    assert all(len(look.sampling_seeds) == 1 for look in looks_of(most_images=50))
    images = made.CELL.images
    assert max(len(one.sampling_seeds) for one in looks_of(most_images=4 * images)) == 4


def test_a_grid_of_one_schedule_adds_no_seeds():
    looks = Schedule.of(cells_of(schedules=("cosine",))).looks
    assert {len(look.seeds) for look in looks} == {3}


def test_the_first_look_has_three_seeds_whatever_the_grid_names():
    for seeds in ((0,), (0, 1, 2, 3, 4)):
        cells = cells_of(seeds)
        there = cells_at_first(cells, Schedule.of(cells).looks[0])
        assert {cell.training.seed for cell in there} == {0, 1, 2}
        assert len(there) == 6


def test_a_decided_question_adds_nothing():
    study = at({("linear", "ddim", 10): 0.3 + CLEAR, ("cosine", "ddim", 10): 0.1 + CLEAR},
               looks_of()[:1])  # fmt: skip
    [question] = questions(study)
    assert question.best == ("cosine",)
    assert question.main[0].effect.look == 1
    assert added_by(study, looks_of()[1]) == []


def test_an_open_question_adds_seeds_to_its_own_levels():
    values = {("linear", "ddim", 10): [0.30, 0.34, 0.27],
              ("cosine", "ddim", 10): [0.28, 0.31, 0.25],
              ("quad", "ddim", 10): 0.9 + CLEAR}  # fmt: skip
    added = added_by(at(values, looks_of()[:1]), looks_of()[1])
    assert {str(cell.training.schedule) for cell in added} == {"linear", "cosine"}
    assert {cell.training.seed for cell in added} == {3, 4}


def test_a_practical_tie_adds_nothing():
    near = 1 + np.array([0.0, 0.004, -0.004])
    study = at({("linear", "ddim", 10): 0.3 * near, ("cosine", "ddim", 10): 0.3001 * near[::-1]},
               looks_of()[:1])  # fmt: skip
    assert not questions(study)[0].is_decided
    assert added_by(study, looks_of()[1]) == []


def test_an_open_sampler_adds_images_to_the_networks_at_hand():
    values = {("cosine", "ddim", 10): [0.100], ("cosine", "ddpm", 10): [0.110]}
    study = Study(tuple(results(values, error=0.01)), looks=looks_of()[:1])
    added = added_by(study, looks_of()[1])
    assert {cell.sampling_seed for cell in added} == {1}
    assert {cell.training.seed for cell in added} == {0}
    assert {str(cell.sampler) for cell in added} == {"ddim", "ddpm"}


def test_networks_that_contradict_each_other_are_asked_for_no_more_images():
    effect = Effect(0.1, 0.05, np.inf, 2, SAMPLING, reason=DISAGREE)
    assert is_out_of_reach(effect)
    assert not is_out_of_reach(dataclasses.replace(effect, reason=""))


def test_what_a_look_decided_stays_decided():
    """Later seeds that contradict the first three leave the verdict, and show in the effect."""
    values = {("linear", "ddim", 10): [0.300, 0.301, 0.299, 0.10, 0.11],
              ("cosine", "ddim", 10): [0.100, 0.101, 0.099, 0.30, 0.31]}  # fmt: skip
    [question] = questions(at(values, looks_of()[:2]))
    assert question.best == ("cosine",)
    assert question.main[0].effect.look == 1
    assert question.main[0].effect.n == 5


def test_a_later_look_decides_what_the_first_left_open():
    luck = np.array([0.03, -0.03, 0.0, 0.01, -0.01, 0.02, -0.02, 0.0])
    values = {("linear", "ddim", 10): 0.13 + luck, ("cosine", "ddim", 10): 0.08 + luck[::-1]}
    [question] = questions(at(values, looks_of()[:3]))
    assert question.is_decided
    assert question.main[0].effect.look > 1


def test_what_a_look_added_to_some_levels_makes_no_question_incomplete():
    values = {("linear", "ddim", 10): [0.3, 0.31, 0.29], ("cosine", "ddim", 10): 0.1 + CLEAR}
    more = values | {("cosine", "ddim", 10): [*(0.1 + CLEAR), 0.1, 0.1]}
    assert not questions(at(more, looks_of()[:2]))[0].is_incomplete
    assert questions(at(more, []))[0].is_incomplete


def test_looks_travel_with_what_was_asked():
    asked = Asked.of(cells_of(), [Look((0, 1, 2), (0,)), Look((0, 1, 2, 3, 4), (0, 1))])
    assert Asked.from_json(asked.as_json()) == asked
    old = dataclasses.replace(asked, looks=()).as_json().replace(b', "looks": []', b"")
    assert Asked.from_json(old.replace(b'"looks": [], ', b"")).looks == ()
