"""Filters over cells."""

from dataclasses import replace

import pytest
from made import CELL, TRAINING

from harness.errors import BadOption
from harness.work.cells import Part
from harness.work.filters import FILTER_FIELDS, Filter

CELLS = [
    replace(
        CELL,
        training=replace(TRAINING, schedule=Part(schedule)),
        sampler=sampler,
        steps=steps,
        clip=clip,
    )
    for schedule in ("cosine", "linear")
    for sampler, clip in ((Part.of("ddim", {"eta": 0.5}), True), (Part("ddpm"), False))
    for steps in (10, 50, 100)
]


def chosen(text):
    return [
        (cell.training.schedule.name, cell.sampler.name, cell.steps)
        for cell in Filter(text).choose(CELLS)
    ]


def test_a_filter_keeps_the_cells_that_have_the_value_in_their_order():
    assert chosen("steps=50") == [
        (schedule, sampler, 50) for schedule in ("cosine", "linear") for sampler in ("ddim", "ddpm")
    ]


def test_all_conditions_of_a_filter_must_hold():
    assert chosen("schedule=linear,sampler=ddpm,steps=10") == [("linear", "ddpm", 10)]


def test_a_condition_may_name_several_values():
    assert chosen("steps=[10,100],schedule=cosine,sampler=ddim") == [
        ("cosine", "ddim", 10),
        ("cosine", "ddim", 100),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "schedule=linear, sampler=ddpm, steps=[10, 50]",
        " schedule = linear ,sampler= ddpm,steps = [ 10 , 50 ] ",
        "schedule=[linear],sampler=[ddpm],steps=[50,10],",
    ],
)
def test_a_filter_may_hold_spaces(text):
    assert chosen(text) == [("linear", "ddpm", 10), ("linear", "ddpm", 50)]


@pytest.mark.parametrize(
    ("text", "number"),
    [("eta=0.5", 6), ("eta=.50", 6), ("steps=1e1", 4), ("clip=true", 6), ("clip=False", 6)],
)
def test_values_are_compared_as_what_they_are(text, number):
    assert len(chosen(text)) == number


def test_a_value_of_another_kind_does_not_match():
    with pytest.raises(BadOption, match="no cell of the grid matches 'steps=many'"):
        chosen("steps=many")
    with pytest.raises(BadOption, match="no cell of the grid matches 'clip=1'"):
        chosen("clip=1")


def test_a_filter_that_matches_nothing_says_what_there_is():
    with pytest.raises(BadOption) as refused:
        chosen("steps=30,schedule=linear")
    assert str(refused.value) == (
        "no cell of the grid matches 'steps=30,schedule=linear'. "
        "Here steps has 10, 50, 100; schedule has cosine, linear."
    )


def test_an_unknown_field_is_refused_with_the_closest_there_is():
    with pytest.raises(BadOption) as refused:
        chosen("steps=10,sched=cosine")
    assert str(refused.value).startswith(
        "cells have no field 'sched'. Did you mean 'schedule'? Available: data, model, schedule,"
    )


def test_an_unknown_field_is_refused_also_where_another_condition_fails_first():
    with pytest.raises(BadOption, match="cells have no field 'step'"):
        chosen("schedule=sigmoid,step=10")


@pytest.mark.parametrize("text", ["steps", "steps=", "=10", "steps=10,cosine", "steps: 10"])
def test_a_filter_of_another_form_is_refused(text):
    with pytest.raises(BadOption) as refused:
        chosen(text)
    assert str(refused.value) == (
        f"the filter '{text}' is not of the form field=value. Use field=value,field=[value,value]."
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sample_schedule": Part.of("linear", {"beta_end": 0.03})},
        {"spacing": Part.of("karras", {"rho": 5})},
        {"training": replace(TRAINING, schedule=Part.of("linear", {"beta_end": 0.03}))},
    ],
    ids=["plain", "sample_schedule", "spacing", "schedule"],
)
def test_every_param_of_a_cell_can_be_filtered_by(changes):
    cell = replace(CELL, **changes)
    for name, value in cell.params().items():
        assert Filter(f"{name}={value}").choose([cell]) == [cell]


def test_every_field_of_cells_and_trainings_can_be_named():
    def foreign(name, **options):
        return Part.of(name, options, source="a package 1.0 #abc")

    training = replace(
        TRAINING,
        **{name: foreign("x") for name in ("data", "model", "weighting", "times")},
        schedule=foreign("cosine", max_signal=0.9),
        named_sources="a package 1.0 #abc",
        data_fingerprint="abc",
    )
    cell = replace(
        CELL,
        training=training,
        sample_schedule=foreign("linear", beta_end=0.1),
        sampler=foreign("ddim", eta=0.5),
        spacing=foreign("karras", rho=5.0),
        clip=foreign("dynamic", quantile=0.9),
        extractor=foreign("x"),
        extractor_fingerprint="abc",
        weights="0.9",
    )
    assert {*FILTER_FIELDS} == {*cell.fields()}


def test_cells_that_differ_in_their_training_can_be_told_apart():
    other = replace(CELL, training=replace(TRAINING, learning_rate=2e-3))
    assert Filter("learning_rate=2e-3").choose([CELL, other]) == [other]


def test_an_exact_denoiser_has_no_recipe_to_be_chosen_by():
    exact = replace(CELL, training=replace(TRAINING, model=Part("exact")))
    with pytest.raises(BadOption, match="no cell"):
        Filter(f"ema={TRAINING.ema:g}").choose([exact])
    assert Filter(f"seed={TRAINING.seed}").choose([exact, CELL]) == [CELL]
    assert Filter("schedule=cosine").choose([exact, CELL])


@pytest.mark.parametrize("text", ["clip=static", "scale=1", "clip=true", "scale=range"])
def test_a_value_may_be_written_as_a_grid_writes_it(text):
    assert Filter(text).choose([replace(CELL, clip=True)])


@pytest.mark.parametrize(
    ("given", "used"),
    [("training.target", "target"), ("training.steps", "training_steps"),
     ("training.loss", "loss_function"), ("loss", "loss_function")],
)  # fmt: skip
def test_a_field_may_have_its_name_in_a_grid_file(given, used):
    value = CELL.fields()[used]
    assert Filter(f"{given}={value}").choose([CELL]) == [CELL]
    with pytest.raises(BadOption, match=f"names {used} twice"):
        Filter(f"{given}={value},{used}={value}").choose([CELL])
