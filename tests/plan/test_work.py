"""The work of a benchmark: its keys, its way through JSON, and filters over it."""

import json
import pickle
from dataclasses import replace

import pytest

from harness.errors import BadOption
from harness.plan import work
from harness.plan.work import Cell, Filter, Part, Training, distinct_trainings
from harness.runtime.execute import Failure

TRAINING = Training(
    data=Part("digits"),
    model=Part.of("unet", {"width": 32, "attention": (8, 16)}),
    schedule=Part("cosine"),
    target="noise",
    weighting=Part("simple"),
    seed=0,
    training_steps=2000,
    batch_size=64,
    learning_rate=1e-3,
    ema=0.05,
    precision="auto",
)
CELL = Cell(
    training=TRAINING,
    sample_schedule=Part("cosine"),
    sampler=Part.of("ddim", {"eta": 0.5}),
    spacing=Part("trailing"),
    steps=10,
    images=500,
    sampling_seed=0,
    clip=False,
    extractor=Part("digits"),
    reference="train",
)
OTHER_TRAINING = {
    "data": Part("flowers"),
    "model": Part.of("unet", {"width": 32, "attention": (8,)}),
    "schedule": Part.of("cosine", {"max_signal": 0.99}),
    "target": "velocity",
    "weighting": Part("min_snr"),
    "seed": 1,
    "training_steps": 2001,
    "batch_size": 65,
    "learning_rate": 2e-3,
    "ema": 0.1,
    "precision": "float32",
    "loss": "mae",
}
OTHER_CELL = {
    "training": replace(TRAINING, seed=1),
    "sample_schedule": Part("linear"),
    "sampler": Part("ddim"),
    "spacing": Part("leading"),
    "steps": 11,
    "images": 501,
    "sampling_seed": 1,
    "clip": True,
    "extractor": Part("inception"),
    "reference": "held_out",
}


# Parts.


def test_a_part_reads_as_it_is_written():
    assert str(Part("ddpm")) == "ddpm"
    assert str(Part.of("ddim", {"eta": 0.5})) == "ddim(eta=0.5)"
    assert str(Part.of("cosine", {"min_signal": 0.1, "max_signal": 0.9})) == (
        "cosine(max_signal=0.9, min_signal=0.1)"
    )


def test_a_part_gives_its_options_back():
    assert Part("ddim").keywords == Part.of("ddim").keywords == {}
    assert Part.of("ddim", {"eta": 0.5}).keywords == {"eta": 0.5}


def test_a_part_does_not_depend_on_the_order_of_its_options():
    one, other = Part.of("p", {"a": 1, "b": 2}), Part.of("p", {"b": 2, "a": 1})
    assert one == other
    assert hash(one) == hash(other)


# Keys.


def test_equal_work_has_an_equal_key():
    again = Cell.from_canonical(json.loads(json.dumps(CELL.canonical())))
    assert again == CELL
    assert again.key == CELL.key
    assert again.training.key == TRAINING.key


def test_the_key_does_not_depend_on_the_order_of_options():
    def training(options):
        return replace(TRAINING, model=Part.of("unet", options))

    one = training({"width": 8, "depth": 2})
    assert one.key == training({"depth": 2, "width": 8}).key


def test_the_same_options_in_a_list_or_a_tuple_are_the_same_key():
    one, other = (
        replace(TRAINING, model=Part.of("unet", {"attention": kind([8])})) for kind in (list, tuple)
    )
    assert one.key == other.key


def test_the_examples_of_other_work_name_every_field():
    assert OTHER_TRAINING.keys() == vars(replace(TRAINING)).keys()
    assert OTHER_CELL.keys() == vars(replace(CELL)).keys()


@pytest.mark.parametrize("field", OTHER_TRAINING)
def test_a_training_that_differs_in_any_field_has_another_key(field):
    other = replace(TRAINING, **{field: OTHER_TRAINING[field]})
    assert other.key != TRAINING.key
    assert replace(CELL, training=other).key != CELL.key


@pytest.mark.parametrize("field", OTHER_CELL)
def test_a_cell_that_differs_in_any_field_has_another_key(field):
    assert replace(CELL, **{field: OTHER_CELL[field]}).key != CELL.key


def test_a_name_that_looks_like_an_option_is_another_key():
    one = replace(TRAINING, schedule=Part.of("p", {"q": 1}))
    assert one.key != replace(TRAINING, schedule=Part("p(q=1)")).key


def test_a_number_is_not_the_text_of_it():
    one, other = (replace(CELL, sampler=Part.of("p", {"order": v})) for v in (2, "2"))
    assert one.key != other.key


def test_a_change_of_the_recipe_is_another_key(monkeypatch):
    before = CELL.key
    monkeypatch.setattr(work, "RECIPE", work.RECIPE + 1)
    assert replace(CELL).key != before
    assert replace(TRAINING).key != TRAINING.key


def test_a_key_can_name_a_folder():
    assert len(CELL.key) >= 12
    assert CELL.key.isalnum()
    assert CELL.key == CELL.key.lower()


def test_work_is_the_same_in_another_process():
    fresh = replace(CELL)
    assert pickle.loads(pickle.dumps(fresh)).key == CELL.key
    assert pickle.loads(pickle.dumps(fresh)) == CELL  # which remembers its key by now


# Through JSON and back.


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention": (8, 16)},
        {"nested": ((1, 2), (3,))},
        {"empty": ()},
        {"name": "x", "scale": 1.5, "count": 3, "flag": True},
    ],
    ids=str,
)
def test_work_comes_back_from_json_as_it_was(options):
    training = replace(TRAINING, model=Part.of("unet", options))
    cell = replace(CELL, training=training, sampler=Part.of("p", options))
    text = json.dumps(cell.canonical())
    again = Cell.from_canonical(json.loads(text))
    assert again == cell
    assert hash(again) == hash(cell)
    assert json.dumps(again.canonical()) == text
    assert Training.from_canonical(json.loads(json.dumps(training.canonical()))) == training


def test_canonical_holds_plain_json_types_in_words():
    canonical = CELL.canonical()
    assert canonical["sampler"] == {"name": "ddim", "options": {"eta": 0.5}}
    assert canonical["training"]["model"]["options"] == {"attention": [8, 16], "width": 32}
    assert canonical["steps"] == 10


# What the tracker shows.


def test_the_params_of_a_cell_are_in_the_words_of_the_grid():
    assert CELL.params() == {
        "data": "digits",
        "model": "unet(attention=(8, 16), width=32)",
        "schedule": "cosine",
        "seed": 0,
        "target": "noise",
        "precision": "auto",
        "sample_schedule": "cosine",
        "sampler": "ddim",
        "sampler_options": "eta=0.5",
        "eta": 0.5,
        "spacing": "trailing",
        "steps": 10,
        "images": 500,
        "sampling_seed": 0,
        "clip": False,
        "extractor": "digits",
        "reference": "train",
    }


def test_eta_is_shown_for_ddim_also_where_it_is_the_default_and_for_no_other_sampler():
    assert replace(CELL, sampler=Part("ddim")).params()["eta"] == 0
    assert "eta" not in replace(CELL, sampler=Part("ddpm")).params()


def test_the_params_of_a_training_name_all_its_fields():
    params = replace(TRAINING, schedule=Part.of("linear", {"beta_end": 0.03})).params()
    # `loss` is the name of what it came to.
    fields = OTHER_TRAINING.keys() - {"loss"} | {"loss_function"}
    assert params.keys() == fields | {"schedule_options"}
    assert (params["schedule"], params["schedule_options"]) == ("linear", "beta_end=0.03")
    assert params["model"] == "unet(attention=(8, 16), width=32)"


def test_each_training_is_found_once_in_the_order_of_its_cells():
    second = replace(TRAINING, seed=1)
    cells = [
        replace(CELL, training=training, steps=steps)
        for training, steps in ((second, 10), (TRAINING, 10), (second, 20), (TRAINING, 20))
    ]
    assert distinct_trainings(cells) == [second, TRAINING]


def test_an_exact_denoiser_is_no_training():
    exact = replace(TRAINING, model=Part("exact"))
    assert exact.is_exact
    assert not TRAINING.is_exact
    assert distinct_trainings([replace(CELL, training=exact), CELL]) == [TRAINING]
    assert "seed" not in exact.title


def test_a_failure_holds_its_reason():
    assert Failure("the disk is full").reason == "the disk is full"


# Filters.

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
        f"the filter '{text}' is not of the form field=value,field=[value,value]"
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
