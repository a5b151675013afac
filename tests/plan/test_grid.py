"""The grid: what lists and their exceptions stand for, and how a bad one is refused."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from installing import installer
from ruamel.yaml import YAML

from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.times import SPACINGS
from harness.errors import GridError
from harness.plan.grid import MOST_CELLS, Grid, expand, load_grid
from harness.work.cells import Part, distinct_trainings

SMALLEST = {
    "name": "t",
    "data": "digits",
    "schedules": ["cosine"],
    "samplers": ["ddim"],
    "steps": [5],
    "extractor": "digits",
}
read_yaml = YAML(typ="safe", pure=True).load
LIMITED = {"leading", "trailing", "linspace", "quadratic"}  # to the 1,000 times of a table


@pytest.fixture
def load(tmp_path):
    """Loads the smallest grid with these fields in place of its own; text is taken as a file."""

    def load(*overrides, text=None, **fields):
        path = tmp_path / "grid.yaml"
        # JSON is YAML, without the aliases that a writer of YAML might use.
        path.write_text(text if text is not None else json.dumps(SMALLEST | fields))
        return load_grid(path, overrides)

    return load


@pytest.fixture
def cells(load):
    return lambda *overrides, **fields: expand(load(*overrides, **fields))


@pytest.fixture
def refusal(load):
    """The message with which a grid is refused."""

    def refusal(*overrides, **fields):
        with pytest.raises(GridError) as refused:
            load(*overrides, **fields)
        return str(refused.value)

    return refusal


# What a grid stands for.


def test_lists_multiply(cells):
    found = cells(
        schedules=["linear", "cosine"],
        sample_schedules=["same", "cosine_discrete"],
        samplers=["ddpm", "ddim", "ddpm_large"],
        spacing=["trailing", "leading"],
        steps=[5, 10],
        seeds=[0, 1],
        sampling_seeds=[0, 1, 2],
    )
    assert len(found) == len({cell.key for cell in found}) == 2 * 2 * 3 * 2 * 2 * 2 * 3
    assert len(distinct_trainings(found)) == 2 * 2


def test_what_is_not_said_has_a_default(cells):
    [cell] = cells()
    training = cell.training
    assert (training.model, training.target, training.weighting) == (
        Part("tiny"),
        "noise",
        Part("simple"),
    )
    assert (training.seed, training.precision) == (0, "auto")
    assert cell.sample_schedule == training.schedule == Part("cosine")
    assert (cell.spacing, cell.images, cell.sampling_seed) == (Part("trailing"), 1000, 0)
    assert (cell.clip, cell.reference) == (False, "train")


def test_cells_of_one_training_stand_side_by_side(cells):
    found = cells(
        schedules=["linear", "cosine"], steps=[5, 10], include=[{"samplers": ["ddpm"]}], seeds=[1]
    )
    order = [cell.training for cell in found]
    assert order == sorted(order, key=order.index)
    assert len(found) == 8


def test_included_lists_take_the_place_of_the_grids_own(cells):
    found = cells(steps=[5, 10], include=[{"steps": [20]}, {"samplers": ["ddpm"], "seeds": [3]}])
    assert [(cell.sampler.name, cell.steps, cell.training.seed) for cell in found] == [
        ("ddim", 5, 0),
        ("ddim", 10, 0),
        ("ddim", 20, 0),
        ("ddpm", 5, 3),
        ("ddpm", 10, 3),
    ]


def test_a_cell_that_two_lists_name_is_there_once(cells):
    written_twice = [{"name": "cosine", "max_signal": 0.95}, "cosine"]
    assert len(cells(steps=[5, 5], schedules=written_twice, include=[{"steps": [5]}])) == 1


@pytest.mark.parametrize(
    ("entry", "taken"),
    [
        ({"steps": 5}, 4),
        ({"steps": [5, 10]}, 8),
        ({"steps": 5, "sampler": "ddim"}, 2),
        ({"schedule": "linear", "steps": [10, 20]}, 4),
        ({"eta": 0.5}, 6),
        ({"clip": False, "steps": 20}, 4),
    ],
    ids=str,
)
def test_an_exclusion_takes_away_cells_of_which_all_it_says_holds(cells, entry, taken):
    found = cells(
        schedules=["linear", "cosine"],
        samplers=["ddpm", {"name": "ddim", "eta": 0.5}],
        steps=[5, 10, 20],
        exclude=[entry],
    )
    assert len(found) == 12 - taken


def test_exclusions_hold_for_included_cells_too(cells):
    found = cells(include=[{"steps": [10, 20]}], exclude=[{"steps": 20}])
    assert [cell.steps for cell in found] == [5, 10]


def test_a_schedule_is_told_by_its_options_in_an_exclusion(cells):
    narrow = {"name": "cosine", "max_signal": 0.9, "min_signal": 0.1}
    found = cells(
        schedules=["cosine", narrow],
        exclude=[{"schedule_options": "max_signal=0.9, min_signal=0.1"}],
    )
    assert [cell.training.schedule for cell in found] == [Part("cosine")]


def test_same_is_the_schedule_of_each_training(cells):
    found = cells(schedules=["linear", "cosine"], sample_schedules=["same", "cosine"])
    assert [(cell.training.schedule.name, cell.sample_schedule.name) for cell in found] == [
        ("linear", "linear"),
        ("linear", "cosine"),
        ("cosine", "cosine"),
    ]


# Recipes.


RECIPES = {
    "steps": [100, 200],
    "batch_size": [32, 64],
    "learning_rate": [1e-3, 2e-4],
    "target": ["noise", "velocity"],
    "weighting": ["simple", {"name": "min_snr", "gamma": 4}],
    "times": ["uniform", {"name": "logit_normal", "mean": 0.5}],
    "loss": ["mse", "mae"],
    "optimizer": ["adamw", "muon"],
    "ema": [0.99, 0.999],
}


@pytest.mark.parametrize("field", RECIPES)
def test_each_value_of_a_listed_recipe_is_the_work_of_that_value_alone(cells, field):
    apart = [cells(training={field: value})[0] for value in RECIPES[field]]
    assert cells(training={field: RECIPES[field]}) == apart
    assert cells(training={field: RECIPES[field][:1]}) == apart[:1]


def test_every_recipe_field_but_how_it_is_computed_may_be_a_list():
    fields = {*Grid.model_fields["training"].annotation.model_fields}
    assert fields - {"precision", "devices"} == {*RECIPES}


def test_recipes_and_networks_multiply(cells):
    found = cells(
        "training.ema=[0.9,0.99]", model=["tiny", "small"], training=RECIPES, seeds=[0, 1]
    )
    assert len({cell.key for cell in found}) == 2 ** len(RECIPES) * 2 * 2


def test_scales_multiply_networks_and_exact_denoisers(cells):
    found = cells(scale=["unit", "range", 2], model=["exact", "tiny"], seeds=[0, 1])
    trainings = {cell.training for cell in found}
    assert len(trainings) == 3 + 3 * 2
    assert {one.scale for one in trainings} == {"unit", "range", 2.0}
    [one, other] = cells(include=[{"scale": 0.5}])
    assert (one.training.scale, other.training.scale) == ("range", 0.5)


def test_the_range_multiplied_by_1_is_the_range(cells):
    assert cells(scale=1.0) == cells()


def test_no_recipe_multiplies_the_exact_denoiser(cells):
    mixture = {"name": "mixture", "size": 4}
    alone = cells(data=mixture, model="exact", extractor="pixels")
    found = cells(data=mixture, model=["exact", "tiny"], extractor="pixels", training=RECIPES)
    assert [cell for cell in found if cell.training.is_exact] == alone
    assert len(found) == 1 + 2 ** len(RECIPES)


def test_an_included_recipe_takes_the_place_of_what_it_names_alone(cells):
    found = cells(
        training={"ema": [0.9, 0.99], "target": "velocity"},
        include=[{"training": {"ema": 0.5}, "model": "small"}, {"training": {"loss": ["mae"]}}],
    )
    made = [(t.model.name, t.target, t.ema, t.loss) for t in distinct_trainings(found)]
    assert made == [
        ("tiny", "velocity", 0.9, "mse"),
        ("tiny", "velocity", 0.99, "mse"),
        ("small", "velocity", 0.5, "mse"),
        ("tiny", "velocity", 0.9, "mae"),
        ("tiny", "velocity", 0.99, "mae"),
    ]


@pytest.mark.parametrize(
    ("entry", "left"),
    [
        ({"ema": 0.99}, 4),
        ({"target": "velocity", "weighting": "simple"}, 6),
        ({"weighting": "min_snr(gamma=4.0)", "ema": [0.99]}, 6),
    ],
    ids=str,
)
def test_an_exclusion_names_what_a_recipe_lists(cells, entry, left):
    listed = {name: RECIPES[name] for name in ("target", "weighting", "ema")}
    assert len(cells(training=listed, exclude=[entry])) == left


def test_the_schema_lets_a_value_stand_for_its_list():
    schema = Grid.model_json_schema()
    one, several = schema["$defs"]["TrainingFields"]["properties"]["ema"]["anyOf"]
    assert one["type"] == "number"
    assert several["items"] == one
    assert (several["minItems"], several["uniqueItems"]) == (1, True)


# Overrides.


def test_fields_can_be_changed_from_outside_the_file(cells):
    [cell] = cells(
        "training.steps=200",
        "schedules=[linear]",
        "model.name=small",
        "samplers=[{name: ddim, eta: 0.5}]",
        "clip=true",
        model={"name": "tiny"},
    )
    assert cell.training.training_steps == 200
    assert cell.training.schedule == Part("linear")
    assert cell.training.model == Part("small")
    assert cell.sampler == Part.of("ddim", {"eta": 0.5})
    assert cell.clip is True


def test_the_last_override_of_a_field_holds(cells):
    assert [cell.steps for cell in cells("steps=[6]", "steps=[7, 8]")] == [7, 8]


def test_the_text_of_a_grid_says_what_was_changed(load):
    text = load("steps=[7]", "training.ema=0.5").text
    assert "steps=[7]" in text
    assert "training.ema=0.5" in text
    assert read_yaml(text) == SMALLEST


def test_an_override_of_several_lines_leaves_the_text_readable(load):
    assert read_yaml(load("steps=\n- 7\n- 8").text) == SMALLEST


# Numbers.


@pytest.mark.parametrize("written", ["1e-3", "1.0e-3", "1E-3", "0.001", "+1e-3"])
def test_a_number_is_written_as_everywhere_else(load, written):
    grid = load(f"training.learning_rate={written}")
    assert grid.training.learning_rate == [0.001]


def test_ways_to_clip_multiply_and_true_is_static(cells):
    [plain] = cells("schedules=[linear]", "training.steps=200")
    found = cells("schedules=[linear]", "training.steps=200",
                  "clip=[false, static, dynamic, {name: dynamic, quantile: 0.9}]")  # fmt: skip
    named = Part("dynamic"), Part.of("dynamic", {"quantile": 0.9})
    assert [cell.clip for cell in found] == [False, True, *named]
    assert found[0].key == plain.key
    assert len({cell.key for cell in found}) == 4
    assert cells("clip=true")[0] == cells("clip={name: static}")[0]
    assert [cell.clip for cell in cells("clip={name: dynamic, quantile: 0.995}")] == [
        named[0]
    ] * len(cells())


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("dynamik", "clip: 'dynamik' is neither true nor false nor one of dynamic, static. Use"),
        ("{name: dynamic, quantile: 3}", "quantile must be a number between 0.5 and 1, not 3"),
        ("{name: dynamic, ratio: 0.9}", "clip 'dynamic' has no option 'ratio'"),
        ("[true, static]", "True is there twice"),
        ("[]", "must have at least 1 item"),
    ],
)
def test_a_way_to_clip_that_is_none_is_refused(refusal, written, told):
    assert told in refusal(f"clip={written}")


@pytest.mark.parametrize("written", ["yes", "on", "no"])
def test_only_true_and_false_are_truths(refusal, written):
    assert f"clip: '{written}' is neither true nor false" in refusal(f"clip={written}")


def test_a_number_that_begins_with_0_is_decimal(load):
    assert load("seeds=[010]").seeds == [10]


@pytest.mark.parametrize(("value", "seed"), [("0", 0), ("4294967295", 2**32 - 1)])
def test_seeds_are_32_bits(load, value, seed):
    assert load(f"seeds=[{value}]").seeds == [seed]


# Keys.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"samplers": ["ddim"]}, {"samplers": [{"name": "ddim", "eta": 0}]}),
        ({"samplers": ["ddim"]}, {"samplers": [{"name": "ddim", "eta": 0.0}]}),
        (
            {"samplers": [{"name": "ddim", "eta": 1}]},
            {"samplers": [{"eta": 1.0, "name": "ddim"}]},
        ),
        (
            {"schedules": [{"name": "cosine", "max_signal": 0.9, "min_signal": 0.1}]},
            {"schedules": [{"min_signal": 0.1, "max_signal": 0.9, "name": "cosine"}]},
        ),
        ({}, {"schedules": [{"name": "cosine", "max_signal": 0.95, "min_signal": 0.02}]}),
        ({}, {"sample_schedules": ["cosine"]}),
        ({}, {"spacing": [{"name": "trailing"}]}),
        ({}, {"model": {"name": "tiny", "widths": [32, 96], "blocks": 1, "attention": [4]}}),
        ({}, {"data": {"name": "digits"}, "extractor": {"name": "digits"}}),
        ({}, {"training": {}}),
        ({}, {"training": {"learning_rate": 2e-4, "weighting": {"name": "simple"}}}),
        ({"training": {"learning_rate": 1}}, {"training": {"learning_rate": 1.0}}),
        ({"training": {"ema": 0}}, {"training": {"ema": 0.0}}),
        ({}, {"name": "another", "metrics": ["fid"]}),
        ({}, {"seeds": [0, 0], "steps": [5, 5]}),
    ],
    ids=str,
)
def test_two_spellings_of_the_same_work_have_one_key(cells, one, other):
    [first], [second] = cells(**one), cells(**other)
    assert first == second
    assert first.key == second.key


OTHER_WORK = {
    "data": {"name": "folder", "path": "mine"},
    "scale": "unit",
    "model": {"name": "tiny", "widths": [16]},
    "training": {"steps": 7},
    "schedules": [{"name": "cosine", "max_signal": 0.94}],
    "sample_schedules": ["linear"],
    "samplers": [{"name": "ddim", "eta": 0.1}],
    "spacing": ["uniform"],
    "steps": [6],
    "seeds": [1],
    "sampling_seeds": [1],
    "images": 999,
    "clip": True,
    "extractor": {"name": "inception", "layer": 768},
    "reference": "held_out",
}
OTHER_TRAINING = {
    "steps": 7,
    "batch_size": 7,
    "learning_rate": 7e-3,
    "ema": 0.7,
    "target": "velocity",
    "weighting": {"name": "min_snr", "gamma": 4},
    "times": "logit_normal",
    "precision": "float32",
    "loss": "mae",
    "optimizer": "muon",
}


@pytest.mark.parametrize("field", OTHER_WORK)
def test_another_value_of_a_field_is_other_work(cells, field):
    assert cells(**{field: OTHER_WORK[field]})[0].key != cells()[0].key


@pytest.mark.parametrize("field", OTHER_TRAINING)
def test_another_recipe_is_another_training(cells, field):
    [cell] = cells(training={field: OTHER_TRAINING[field]})
    assert cell.training.key != cells()[0].training.key


def test_every_field_that_is_work_has_an_example_here():
    not_work = {"name", "metrics", "include", "exclude", "budget", "reference_variance"}
    assert {*Grid.model_fields} == OTHER_WORK.keys() | not_work
    recipe = {*Grid.model_fields["training"].annotation.model_fields} - {"devices"}
    assert recipe == {*OTHER_TRAINING}


def test_cells_that_differ_in_sampling_share_their_training(cells):
    one, other = cells(steps=[5, 10])
    assert one.training == other.training
    assert replace(other, steps=5) == one


# Bounds.


@pytest.mark.parametrize("eta", [0, 0.5, 1])
def test_eta_may_be_anything_from_0_to_1(load, eta):
    load(samplers=[{"name": "ddim", "eta": eta}])


@pytest.mark.parametrize("eta", [-0.1, 1.1, 2, True, "0.5", None, [0.5], 10**400])
def test_eta_may_be_nothing_else(refusal, eta):
    told = refusal(samplers=[{"name": "ddim", "eta": eta}])
    assert "samplers" in told
    assert "eta must be a number between 0 and 1" in told


@pytest.mark.parametrize("eta", [".nan", ".inf", "-.inf"])
def test_eta_is_finite(refusal, eta):
    assert "between 0 and 1" in refusal(f"samplers=[{{name: ddim, eta: {eta}}}]")


@pytest.mark.parametrize("signal", [(0.95, 0.02), (1, 1e-6), (0.5, 0.49)])
def test_the_signal_may_fall_between_any_two_rates(load, signal):
    high, low = signal
    load(schedules=[{"name": "cosine", "max_signal": high, "min_signal": low}])


SIGNALS = [(0.02, 0.95), (0.5, 0.5), (0.95, 0), (1.1, 0.02), (0.95, -0.1)]


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("field", ["schedules", "sample_schedules"])
def test_the_signal_must_fall_and_stay_above_0(refusal, field, signal):
    high, low = signal
    told = refusal(**{field: [{"name": "cosine", "max_signal": high, "min_signal": low}]})
    assert "signal" in told


@pytest.mark.parametrize("spacing", sorted(set(SPACINGS) - {"explicit", "fitted"}))
@pytest.mark.parametrize("steps", [1, 2, 1000, 1001])
def test_a_spacing_refuses_what_its_table_does_not_have(load, refusal, spacing, steps):
    too_few = steps == 1 and spacing in ("leading", "quadratic")
    too_many = steps > 1000 and spacing in LIMITED
    if too_few or too_many:
        told = refusal(spacing=[spacing], steps=[steps])
        assert f"spacing '{spacing}'" in told
        assert str(steps) in told
    else:
        load(spacing=[spacing], steps=[steps])


@pytest.mark.parametrize(
    "included",
    [
        {"steps": [1]},
        {"steps": [1001]},
        {"spacing": ["quadratic"], "steps": [1]},
        {"schedules": [{"name": "cosine", "max_signal": 0.01}]},
        {"sample_schedules": [{"name": "cosine", "max_signal": 0.01}]},
    ],
    ids=str,
)
def test_the_bounds_hold_for_included_lists_too(refusal, included):
    assert "include" in refusal(spacing=["leading"], include=[included])


def test_an_excluded_cell_need_not_be_possible(cells):
    found = cells(
        spacing=["leading", "trailing"],
        steps=[1, 5],
        exclude=[{"spacing": "leading", "steps": 1}],
    )
    assert [(cell.spacing.name, cell.steps) for cell in found] == [
        ("leading", 5),
        ("trailing", 1),
        ("trailing", 5),
    ]


@pytest.mark.parametrize(
    "model",
    [
        {"name": "tiny", "widths": []},
        {"name": "tiny", "widths": [12]},
        {"name": "tiny", "widths": [-8]},
        {"name": "tiny", "widths": [[8]]},
        {"name": "tiny", "widths": [{"a": 1}]},
        {"name": "tiny", "widths": 32},
        {"name": "tiny", "attention": [True]},
        {"name": "tiny", "attention": ["all"]},
        {"name": "tiny", "blocks": 0},
    ],
    ids=str,
)
def test_a_network_that_cannot_be_built_is_refused_at_the_door(refusal, model):
    told = refusal(model=model)
    assert "grid.yaml" in told
    assert "model" in told


# A bad grid: one clear message.

BAD_FIELDS = {
    "unknown data set": ({"data": "digit"}, "Did you mean 'digits'?"),
    "unknown model": ({"model": "tinny"}, "Did you mean 'tiny'?"),
    "unknown target": ({"training": {"target": "nosie"}}, "Did you mean 'noise'?"),
    "unknown weighting": ({"training": {"weighting": "smiple"}}, "Did you mean 'simple'?"),
    "unknown precision": ({"training": {"precision": "float31"}}, "'float32'"),
    "unknown schedule": ({"schedules": ["cosin"]}, "Did you mean 'cosine'?"),
    "unknown sample schedule": ({"sample_schedules": ["liner"]}, "Did you mean 'linear'?"),
    "unknown sampler": ({"samplers": ["dimm"]}, "Did you mean 'ddim'?"),
    "unknown spacing": ({"spacing": ["traling"]}, "Did you mean 'trailing'?"),
    "unknown extractor": ({"extractor": "inceptoin"}, "Did you mean 'inception'?"),
    "unknown reference": ({"reference": "heldout"}, "'held_out'"),
    "unknown metric": ({"metrics": ["fidd"]}, "Did you mean 'fid'?"),
    "unknown field": ({"stepz": [5]}, "Did you mean 'steps'?"),
    "unknown field of the training": ({"training": {"stpes": 5}}, "Did you mean 'steps'?"),
    "unknown field of an addition": ({"include": [{"stepz": [5]}]}, "Did you mean 'steps'?"),
    "unknown field of an exclusion": ({"exclude": [{"smapler": "ddim"}]}, "mean 'sampler'?"),
    "unknown option": ({"samplers": [{"name": "ddim", "etta": 0}]}, "Did you mean 'eta'?"),
    "option of a part that has none": ({"samplers": [{"name": "ddpm", "eta": 0}]}, "It has none"),
    "required option": ({"data": "folder"}, "needs the option 'path'"),
    "option of the wrong type": ({"data": {"name": "folder", "path": 5}}, "path must be a text"),
    "text for a list": ({"schedules": "cosine"}, "list"),
    "number for a list": ({"steps": 5}, "list"),
    "list for a part": ({"data": ["digits"]}, "must be the name of a dataset"),
    "null for a part": ({"schedules": [None]}, "must be the name of a schedule"),
    "mapping without name": ({"samplers": [{"ddim": {"eta": 0}}]}, "name of a sampler"),
    "text for a number": ({"images": "many"}, "whole number"),
    "no scale": ({"scale": "units"}, "scale: cannot be 'units'. Use unit, range or a number"),
    "scale of nothing": ({"scale": [0.5, 0]}, "scale: cannot be 0. Use unit, range or a number"),
    "truth for a scale": ({"scale": True}, "scale: cannot be True"),
    "number for a truth": ({"clip": 1}, "true nor false"),
    "text for a mapping": ({"training": "fast"}, "training"),
    "empty schedules": ({"schedules": []}, "at least 1"),
    "empty samplers": ({"samplers": []}, "at least 1"),
    "empty steps": ({"steps": []}, "at least 1"),
    "empty seeds": ({"seeds": []}, "at least 1"),
    "empty metrics": ({"metrics": []}, "at least 1"),
    "an empty recipe": ({"training": {"ema": []}}, "training.ema: must have at least 1 item"),
    "a recipe twice": ({"training": {"ema": [0.5, 0.5]}}, "training.ema: 0.5 is there twice"),
    "a network twice": ({"model": ["tiny", {"name": "tiny"}]}, "model: tiny is there twice"),
    "a word in a recipe": ({"training": {"ema": [0.5, "x"]}}, "training.ema: 'x' is not a number"),
    "a bad recipe in a list": ({"training": {"target": ["nosie"]}}, "mean 'noise'?"),
    "a list for a precision": ({"training": {"precision": ["auto"]}}, "training.precision"),
    "unknown field of an included training": (
        {"include": [{"training": {"emma": 1}}]},
        "include.0.training.emma: there is no such field. Did you mean 'ema'?",
    ),
    "too many recipes": (
        {"training": {"batch_size": [*range(1, 1001)], "steps": [*range(1, 1001)]}},
        "1,000,000 cells",
    ),
    "a long recipe": ({"training": {"steps": [*range(1, 10_002)]}}, "training.steps: the list has"),
    "empty included list": ({"include": [{"steps": []}]}, "at least 1"),
    "negative steps": ({"steps": [-5]}, "-5"),
    "no steps": ({"steps": [0]}, "0 is too low. Use 1 or more"),
    "half a step": ({"steps": [5.0]}, "whole number"),
    "true steps": ({"steps": [True]}, "whole number"),
    "quoted steps": ({"steps": ["5"]}, "whole number"),
    "no training": ({"training": {"steps": 0}}, "training.steps"),
    "empty batches": ({"training": {"batch_size": 0}}, "training.batch_size"),
    "no learning": ({"training": {"learning_rate": 0}}, "training.learning_rate"),
    "an average that never moves": ({"training": {"ema": 1}}, "training.ema"),
    "negative seed": ({"seeds": [-1]}, "seeds: -1 is too low"),
    "seed beyond 32 bits": ({"sampling_seeds": [2**32]}, "sampling_seeds: 4294967296 is too high"),
    "one image": ({"images": 1}, "Use 2 or more"),
    "a path for a name": ({"name": "../up"}, "'../up'"),
    "a name with a space": ({"name": "my grid"}, "'my grid'"),
    "an empty name": ({"name": ""}, "name"),
    "a long name": ({"name": "a" * 101}, "name"),
    "a name of other letters": ({"name": "größe"}, "'größe'"),
    "a number for a name": ({"name": 2024}, "2024"),
    "nothing left": ({"exclude": [{"schedule": "cosine"}]}, "no cell is left"),
    "an exclusion of nothing there": ({"exclude": [{"steps": 6}]}, "no cell matches"),
    "too many cells": ({"steps": [*range(1, 401)], "seeds": [*range(400)]}, f"{MOST_CELLS:,}"),
}


@pytest.mark.parametrize("case", BAD_FIELDS)
def test_a_bad_field_is_refused_with_its_place_and_what_to_use(refusal, case):
    fields, told = BAD_FIELDS[case]
    message = refusal(**fields)
    assert told in message
    assert "grid.yaml is not a valid grid" in message
    assert next(iter(fields)) in message or case.startswith("too many")
    assert len(message.splitlines()) == 2, f"one problem told more than once:\n{message}"


GRID = "".join(f"{name}: {json.dumps(value)}\n" for name, value in SMALLEST.items())
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghi")
)
BAD_TEXTS = {
    "an empty file": ("", "field: value"),
    "a comment": ("# to do\n", "field: value"),
    "a list": ("- a\n- b\n", "field: value"),
    "a word": ("hello\n", "field: value"),
    "two documents": (f"{GRID}---\n{GRID}", "another document"),
    "a field given twice": (f"{GRID}steps: [6]\n", "'steps' is given twice"),
    "an option given twice": (GRID + "model: {name: tiny, blocks: 1, blocks: 2}", "'blocks'"),
    "a tab": ("name: t\n\tdata: digits\n", "line 2"),
    "an open bracket": ("name: [t\n", "line 2"),
    "two colons": ("name: a: b\n", "line 1"),
    "a control character": ("name: a\x07\n", "#x0007"),
    "an alias": ("name: &a t\ndata: *a\n", "aliases"),
    "a bomb": (BOMB, "aliases"),
    "deep brackets": ("name: " + "[" * 5000 + "]" * 5000, "grid.yaml"),
    "deep mappings": ("".join(f"{' ' * depth}a:\n" for depth in range(900)), "grid.yaml"),
    "deep exclusions": (GRID + "exclude: [" + "[" * 40 + "]" * 40 + "]", "exclude"),
    "too deep exclusions": (GRID + "exclude: [" + "[" * 200 + "]" * 200 + "]", "deep"),
    "code": ("name: !!python/object/apply:os.getcwd []\n", "python/object"),
    "a list for a field": (f"{GRID}? [a, b]\n: 1\n", "grid.yaml"),
    "a mapping for a field": (f"{GRID}? {{a: b}}\n: 1\n", "grid.yaml"),
    "a number for a field": (f"{GRID}1: 2\n", "1"),
    "no truth": (f"{GRID}clip: !!bool maybe\n", "grid.yaml"),
    "no date": (f"{GRID}images: !!timestamp soon\n", "grid.yaml"),
    "no number": (f'{GRID}images: !!int ""\n', "grid.yaml"),
    "a long number": (f"{GRID}images: {'9' * 5000}\n", "grid.yaml"),
    "a long hexadecimal number": (f"{GRID}images: 0x{'f' * 5000}\n", "images"),
    "no day": (f"{GRID}model: 2024-13-45\n", "grid.yaml"),
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_a_text_that_is_no_grid_is_refused_at_once(refusal, case):
    text, told = BAD_TEXTS[case]
    began = time.monotonic()
    message = refusal(text=text)
    assert time.monotonic() - began < 5
    assert told in message
    assert "grid.yaml" in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    "text",
    [
        GRID + '"\\e[2J": 1\n',
        GRID + 'metrics: ["\\e[2J"]\n',
        GRID + 'exclude: [{"\\e[2J": 1}]\n',
        GRID + 'model: {name: tiny, "\\e[2J": 1}\n',
        GRID + '"\\e[2J": 1\n"\\e[2J": 2\n',
        "name: t\n\x1b[2J: 1\n",
    ],
)
def test_no_control_character_of_a_file_reaches_the_screen(refusal, text):
    assert "\x1b" not in refusal(text=text)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(GridError, match=r"grid\.yaml is not text"):
        load_grid(path)


def test_a_large_file_is_refused_unread(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_bytes(b"#" * 400_000)
    with pytest.raises(GridError, match="larger than 200,000 bytes"):
        load_grid(path)


@pytest.mark.parametrize("place", ["nowhere.yaml", ".", "a/b/c.yaml", "grid.yaml/inside"])
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path, place):
    (tmp_path / "grid.yaml").touch()
    with pytest.raises(GridError, match="cannot be read") as refused:
        load_grid(tmp_path / place)
    assert str(tmp_path / place) in str(refused.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("steps", "field=value"),
        ("=5", "field=value"),
        ("", "field=value"),
        ("stepz=[5]", "Did you mean 'steps'?"),
        ("training.stepz=5", "Did you mean 'steps'?"),
        ("steps=5", "steps"),
        ("steps=[5", "'steps=[5'"),
        ("steps=", "steps"),
        ("steps.0=5", "'steps' has no fields"),
        ("schedules=[cosin]", "Did you mean 'cosine'?"),
        ("steps=*a", "aliases"),
        ("steps=[5]\n---\n[6]", "steps="),
        ("clip=!!bool maybe", "clip"),
        ("name=../up", "'../up'"),
        ("images=1e3", "images"),
    ],
)
def test_a_bad_override_is_refused(refusal, override, told):
    assert told in refusal(override)


def test_every_problem_is_told_at_once(refusal):
    told = refusal(
        name="a/b",
        data="digit",
        model={"name": "tiny", "width": [8]},
        training={"steps": -1, "stepz": 1, "target": "nosie"},
        schedules=["cosine", "cosin"],
        samplers=[{"name": "ddim", "eta": 2}, "dimm"],
        spacing=["traling"],
        steps=[5, 0, "ten"],
        seeds=[],
        clip="yes",
        reference="held-out",
        metrics=["fdi"],
        include=[{"steps": [-1]}, {"sampler": ["ddim"]}],
        colour="red",
    ).splitlines()
    assert told[0].endswith("grid.yaml is not a valid grid:")
    places = [line.strip().split(": ")[0] for line in told[1:]]
    assert sorted(places) == sorted(
        [
            "name", "data", "model", "training.steps", "training.stepz", "training.target",
            "schedules", "samplers", "samplers", "spacing", "steps", "steps", "seeds",
            "clip", "reference", "metrics", "include.0.steps", "include.1.sampler", "colour",
        ]
    )  # fmt: skip


def test_every_missing_field_is_told_at_once(refusal):
    told = refusal(text="name: t\n")
    assert "extractor is missing: `digits` for the digits, `inception` (downloads)" in told
    assert "schedules is missing. Use such as schedules: [linear, cosine]." in told
    for field in ("data", "samplers", "steps"):
        assert f"{field} is missing. Use such as {field}: " in told


def test_a_part_that_is_wrong_in_itself_is_told_with_its_place(refusal):
    assert "schedules: " in refusal(schedules=["linear", {"name": "cosine", "max_signal": 0.01}])


def test_problems_between_fields_are_told_at_once(refusal):
    told = refusal(spacing=["trailing", "leading"], steps=[1, 2000])
    assert "'leading' needs at least 2 steps" in told
    assert "2000 steps are more" in told


def test_problems_between_fields_are_told_beside_those_of_other_fields(refusal):
    told = refusal(schedules=[{"name": "cosine", "max_signal": 0.01}], samplers=["dimm"])
    assert "min_signal" in told
    assert "Did you mean 'ddim'?" in told


def test_a_message_stays_readable_where_everything_is_wrong(refusal):
    assert len(refusal(steps=["x"] * 10_000)) < 20_000


# The grids that come with the program.


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "runs").glob("*.yaml")), ids=lambda path: path.stem
)
def test_a_grid_that_comes_with_the_program_is_one(path):
    grid = load_grid(path)
    assert grid.name == path.stem
    assert expand(grid)


def test_the_assignment_of_a_course_is_a_grid_of_a_dozen_lines():
    path = Path(__file__).parents[2] / "runs" / "nycu.yaml"
    assert len(path.read_text().splitlines()) <= 12
    cells = expand(load_grid(path))
    found = {(cell.training.schedule.name, cell.training.target) for cell in cells}
    assert found == {
        *product(["linear", "quad", "cosine_discrete"], ["noise", "image", "velocity"])
    }
    assert {cell.sampler.name for cell in cells} == {"ddpm", "ddim"}


# Parts of other packages.

STRAIGHT = """
from dataclasses import dataclass
from harness.diffusion.schedules import Schedule

@dataclass(frozen=True)
class Straight(Schedule):
    highest: float = 10.0

    def log_snr(self, t):
        return self.highest * (1 - 2 * t)
"""
OFFERED = "[harness.schedules]\nstraight = kitchen_plugin:Straight\n"


@pytest.fixture
def install(tmp_path, monkeypatch):
    return installer(tmp_path, monkeypatch)


def test_a_part_of_another_package_whose_formula_changes_is_other_work(cells, install):
    install(STRAIGHT, OFFERED)
    [first] = cells(schedules=["straight"])
    assert first.training.schedule.source.startswith("kitchen-plugin 1.0 #")
    install(STRAIGHT.replace("10.0", "2.0"), OFFERED)
    [formula] = cells(schedules=["straight"])
    install(STRAIGHT, OFFERED, version="2.0")
    [version] = cells(schedules=["straight"])
    install(STRAIGHT, OFFERED)
    [again] = cells(schedules=["straight"])
    assert len({first.key, formula.key, version.key}) == 3
    assert first.key == again.key


def test_a_built_in_part_has_no_source(cells):
    assert cells()[0].training.schedule == Part("cosine")


def test_a_part_that_cannot_be_loaded_is_refused_only_by_a_grid_that_names_it(
    load, refusal, install
):
    install("import nothere\n", OFFERED)
    load()
    told = refusal(schedules=["straight"])
    assert "schedules: schedule 'straight' cannot be loaded" in told
    assert "kitchen-plugin" in told
    assert "No module named 'nothere'" in told
    assert "straight" not in json.dumps(Grid.model_json_schema())


def test_a_schedule_that_is_none_is_refused_at_the_door(refusal, install):
    install(
        "class Straight:\n    def log_snr(self, t): return 10 * (1 - 2 * t)\n",
        OFFERED,
    )
    assert "schedule 'straight' of kitchen-plugin is no Schedule" in refusal(schedules=["straight"])


def test_a_finite_set_of_a_data_set_that_needs_options_is_refused_at_the_door(refusal, load):
    told = refusal(data={"name": "finite", "of": "folder"})
    assert "data: dataset 'finite': " in told
    assert "'folder' needs" in told
    assert "Use digits" in told
    assert "digit" in refusal(data={"name": "finite", "of": "digit"})
    load(data={"name": "finite", "of": "digits"})


# How, not what.


def test_how_many_devices_train_together_is_no_part_of_the_work(load):
    one, two = load(), load(training={"devices": 2})
    assert (one.training.devices, two.training.devices) == (1, 2)
    assert expand(one) == expand(two)
    assert [cell.key for cell in expand(one)] == [cell.key for cell in expand(two)]


# The schema.


def test_the_schema_tells_every_option_of_every_part_with_its_bounds():
    schema = Grid.model_json_schema()
    by_name, in_full = schema["properties"]["samplers"]["items"]["anyOf"]
    assert by_name["enum"] == SAMPLERS.names()
    [ddim] = [each for each in in_full["oneOf"] if each["properties"]["name"]["const"] == "ddim"]
    assert ddim["properties"]["eta"] == {
        "type": "number", "minimum": 0, "maximum": 1, "default": 0.0,
    }  # fmt: skip
    assert ddim["additionalProperties"] is False
    names, [*sets] = (
        each.get("enum") or each["oneOf"] for each in schema["properties"]["data"]["anyOf"]
    )
    [folder] = [each for each in sets if each["properties"]["name"]["const"] == "folder"]
    assert "path" in folder["required"]
    assert "folder" not in names
    assert schema["properties"]["spacing"]["default"] == ["trailing"]


# The cost of looking at a grid.


def test_a_grid_is_read_without_torch_or_mlflow(load, tmp_path):
    load(schedules=[{"name": "cosine", "max_signal": 0.9}, "linear"], model="small")
    script = (
        "import sys; from harness.plan.grid import load_grid, expand;"
        "assert all(cell.key for cell in expand(load_grid(sys.argv[1])));"
        "print({'torch', 'mlflow', 'pandas', 'matplotlib'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "grid.yaml")]
    assert subprocess.check_output(command, text=True).strip() == "set()"


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": [*range(1, 1001)], "seeds": [*range(1000)]},
        {"include": [{"steps": [*range(1, 1001)], "seeds": [*range(1000)]}]},
        {"seeds": [0] * 20_000},
        {"metrics": ["kid"] * 20_000},
        {"exclude": [{"steps": 5}] * 11_000},
        {"steps": [*range(1, 1001)], "seeds": [*range(1000)], "schedules": ["cosin"] * 1000},
    ],
    ids=["product", "included product", "seeds", "metrics", "exclude", "unknown names"],
)
def test_lists_that_are_too_long_are_refused_before_anything_is_looked_up(refusal, fields):
    began = time.monotonic()
    told = refusal(**fields)
    assert "Use " in told
    assert len(told) < 1000
    assert time.monotonic() - began < 10


def test_many_exclusions_of_many_cells_take_seconds(load):
    began = time.monotonic()
    entries = [{"seed": seed, "steps": steps} for seed in range(10) for steps in range(1, 31)]
    grid = load(steps=[*range(1, 501)], seeds=[*range(100)], exclude=entries)
    assert len(expand(grid)) == 49_700
    assert time.monotonic() - began < 15


def test_a_grid_is_expanded_once(load, monkeypatch):
    grid = load(seeds=[0, 1])
    monkeypatch.setattr("harness.plan.grid.multiplied", None)
    assert len(expand(grid)) == 2


def test_a_large_grid_is_read_in_seconds(load):
    began = time.monotonic()
    grid = load(
        steps=[*range(1, 101)],
        seeds=[*range(100)],
        exclude=[{"seed": seed, "steps": 7} for seed in range(10)],
    )
    assert len(expand(grid)) == 9_990
    assert time.monotonic() - began < 15


def test_a_grid_is_the_same_from_a_file_its_text_its_fields_and_another_grid(grid_file):
    of_file = load_grid(grid_file, ["training.steps=20", "steps=[5]"])
    fields = read_yaml(grid_file.read_text())
    others = [
        load_grid(grid_file.read_text(), steps=np.array([5]), training={"steps": 20}),
        load_grid(fields, steps=(5,), training={"steps": 20}),
        load_grid(load_grid(grid_file, ["training.steps=20"]), steps=[5]),
    ]
    for one in others:
        assert expand(one) == expand(of_file)
        again = load_grid(one)  # as a run records it: what was changed goes with it
        assert (expand(again), again.text) == (expand(one), one.text)


@pytest.mark.parametrize("wrong", [3, None, {"name": object()}, "name: x\ndata: digits", {}])
def test_what_is_no_grid_is_refused_in_words(wrong):
    with pytest.raises(GridError, match="Use"):
        load_grid(wrong)
