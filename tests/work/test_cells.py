"""What is asked for: keys, params, titles."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from harness.work import cells
from harness.work.cells import (
    Asked,
    Cell,
    Part,
    Training,
    distinct_trainings,
    titles,
    trained_together,
)
from harness.work.looks import Look

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
    "times": Part("logit_normal"),
    "named_sources": "another package",
    "data_fingerprint": "other images",
    "scale": "unit",
    "model_fingerprint": "another network",
    "optimizer": "muon",
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
    "weights": "0.9",
    "extractor_fingerprint": "other weights",
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
    again = replace(CELL, training=replace(TRAINING))
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
    assert {*OTHER_CELL, "budget"} == vars(replace(CELL)).keys()


def test_a_field_that_came_later_leaves_the_keys_of_what_was_done_before():
    content = {"result_version": 2, **asdict(CELL)}
    del content["budget"]
    for field in ("scale", "times", "model_fingerprint", "optimizer"):
        del content["training"][field]
    earlier = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    assert CELL.training.scale == "range"
    assert CELL.key == earlier


def test_how_the_steps_were_chosen_is_no_other_work():
    allowed = replace(CELL, budget=20)
    assert allowed == CELL
    assert allowed.key == CELL.key


def test_a_part_of_another_version_of_its_package_is_another_key():
    one, other = (replace(CELL, sampler=Part("mine", (), f"mine 0.{n} #abc")) for n in (1, 2))
    assert one.key != other.key


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


def test_another_result_version_is_another_key(monkeypatch):
    before = CELL.key
    monkeypatch.setattr(cells, "RESULT_VERSION", cells.RESULT_VERSION + 1)
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


# What the tracker shows.


def test_the_params_of_a_cell_are_in_the_words_of_the_grid():
    assert CELL.params() == {
        "data": "digits",
        "scale": "range",
        "model": "unet(attention=(8, 16), width=32)",
        "schedule": "cosine",
        "seed": 0,
        "target": "noise",
        "precision": "auto",
        "weighting": str(TRAINING.weighting),
        "times": "uniform",
        "loss_function": "mse",
        "training_steps": TRAINING.training_steps,
        "batch_size": TRAINING.batch_size,
        "optimizer": "adamw",
        "learning_rate": TRAINING.learning_rate,
        "ema": TRAINING.ema,
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
    identity = {"named_sources", "data_fingerprint", "model_fingerprint"}
    fields = OTHER_TRAINING.keys() - identity - {"loss"} | {"loss_function"}
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


# Titles.


def test_a_title_names_what_a_person_chose_and_what_is_unusual():
    assert CELL.title == "cosine, ddim(eta=0.5), 10 steps, seed 0"
    other = replace(CELL, sample_schedule=Part("linear"), steps=1, sampling_seed=3, weights="0.9")
    assert other.title == (
        "cosine sampled as linear, ddim(eta=0.5), 1 step, seed 0, sampling seed 3, "
        "weights at 0.9 of the training"
    )


def test_a_way_to_clip_is_told_by_its_name_and_options():
    named = replace(CELL, clip=Part.of("dynamic", {"quantile": 0.9}))
    assert named.params()["clip"] == "dynamic(quantile=0.9)"
    assert named.clipping == named.clip
    assert (CELL.clipping, replace(CELL, clip=True).clipping) == (None, Part("static"))


def test_titles_of_cells_name_all_that_tells_them_apart():
    others = [
        replace(CELL, training=replace(TRAINING, learning_rate=2e-3)),
        replace(CELL, clip=True),
        replace(CELL, spacing=Part("leading")),
    ]
    found = titles([CELL, *others])
    assert len({*found.values()}) == 4
    assert "learning rate 0.002" in found[others[0].key]
    assert titles([CELL]) == {CELL.key: CELL.title}


def test_titles_name_the_source_of_a_part_only_where_a_part_has_two():
    steep, changed = Part("steep", source="a 1.0 #1"), Part("steep", source="a 1.1 #2")

    def under(part):
        return replace(CELL, training=replace(TRAINING, schedule=part), sample_schedule=part)

    built_in, own, other = CELL, under(steep), under(changed)
    assert titles([built_in, own]) == {one.key: one.title for one in (built_in, own)}
    assert "a 1.1 #2" in titles([built_in, own, other])[other.key]


def test_titles_of_trainings_name_their_recipes_and_no_recipe_made_the_exact_denoiser():
    recipes = [
        replace(TRAINING, ema=decay, loss=loss) for decay in (0.9, 0.99) for loss in ("mse", "mae")
    ]
    assert {*titles(recipes).values()} == {
        f"{TRAINING.title}, loss function {one.loss}, ema {one.ema}" for one in recipes
    }
    exact = replace(CELL, training=replace(TRAINING, model=Part("exact")))
    found = titles([exact, *(replace(CELL, training=one) for one in recipes)])
    assert found.pop(exact.key) == exact.title
    assert len({*found.values()}) == 4


def test_trainings_that_differ_in_their_averages_alone_belong_together():
    low, high = (replace(TRAINING, ema=decay) for decay in (0.5, 0.99))
    other = replace(TRAINING, ema=0.9, seed=1)
    assert trained_together([high, other, low]) == [(low, high), (other,)]


def test_long_options_that_differ_in_their_last_number_have_different_names():
    one, other = (
        Part.of("explicit", {"times": (*(1 - i / 900 for i in range(900)), end)})
        for end in (0.001, 0.002)
    )
    assert str(one) != str(other)
    assert len(str(one)) < 150


# What a grid stands for.


def asked(*seeds, steps=(10,), looks=()):
    cells = [replace(CELL, training=replace(TRAINING, seed=seed), steps=n)
             for seed in seeds for n in steps]  # fmt: skip
    return Asked.of(cells, looks)


def test_training_seeds_that_are_added_by_hand_after_a_look_are_noticed():
    first = asked(0, 1, 2).after(Asked.of([]))
    more = asked(0, 1, 2, 3, 4).after(first)
    assert more.looked == (3,)
    assert asked(0, 1, 2, 3, 4, 5).after(more).looked == (3, 5)


def test_what_is_run_again_or_asks_for_other_cells_remembers_what_was_noticed():
    more = asked(0, 1, 2).after(asked(0, 1))
    assert asked(0, 1, 2).after(more).looked == (2,)
    assert asked(0, 1, 2, steps=(10, 20)).after(more).looked == (2,)
    assert Asked.from_json(more.as_json()) == more


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (asked(), asked(0, 1, 2)),  # the first run
        (asked(0), asked(0, 1, 2)),  # one seed gives no verdict to look at
        (asked(0, 1, 2), asked(0, 1)),
        (asked(0, 1), asked(2, 3, 4)),
        (asked(0, 1, 2), asked(0, 1, 2, steps=(10, 20))),
        (asked(0, 1, 2), asked(0, 1, 2, 3, 4, looks=[Look((0, 1, 2), (0,))])),
    ],
)
def test_seeds_of_looks_that_were_planned_or_of_no_look_are_not(before, now):
    assert now.after(before).looked == ()


def test_cells_that_were_judged_at_looks_are_not_judged_afresh():
    """Else a plain run after looks would spend the whole error rate once more."""
    looks = (Look((0, 1, 2), (0,)), Look((0, 1, 2, 3, 4), (0,)))
    looked = asked(0, 1, 2, 3, 4, looks=looks)
    plain = asked(0, 1, 2).after(looked)
    assert plain.looks == looks
    assert asked(0, 1, 2).after(plain) == plain
    assert asked(0, 1, 2, 3, 4, 5).after(looked).looks == ()
    assert asked(0, 1, 2, 3, 4, 5).after(looked).looked == (5,)


def test_a_part_is_the_same_in_a_process_with_other_hashes():
    part = Part.of("explicit", {"times": (1.0, 0.5)})
    known = {part: "here"}
    code = "import pickle, sys; part = pickle.loads(sys.stdin.buffer.read());"
    code += "from harness.work.cells import Part; assert hash(part) == hash(Part.of('explicit', "
    code += "{'times': (1.0, 0.5)})); sys.stdout.buffer.write(pickle.dumps(part))"
    sent = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(part), capture_output=True, check=True,
        env=os.environ | {"PYTHONHASHSEED": "1"},
    )  # fmt: skip
    assert known[pickle.loads(sent.stdout)] == "here"
