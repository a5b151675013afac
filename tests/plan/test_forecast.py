"""The forecast: what work will take, by speeds that were measured here."""

import json
import shlex
from dataclasses import replace

import made
import pytest

from harness.plan.forecast import (
    NOISE_FLOOR,
    Forecast,
    Speeds,
    duration,
    measured_speeds,
    size,
    warnings_of,
)
from harness.plan.grid_file import fields_of
from harness.plan.pending import LISTED, Plan
from harness.plan.preflight import overheads
from harness.store import Store, write_bytes
from harness.work.cells import Part, distinct_trainings
from harness.work.overheads import Overheads
from harness.work.results import SamplingPath

TRAINING = replace(made.TRAINING, model=Part("tiny"), precision="auto")
CELL = replace(made.CELL, training=TRAINING)
SPEEDS = Speeds(train=0.01, evaluate=0.002, features=0.003, source="a guess")


def cells_of(seeds=(0, 1, 2), steps=(5, 10)):
    return [
        replace(CELL, training=replace(TRAINING, seed=seed), steps=number)
        for seed in seeds
        for number in steps
    ]


def plan_of(cells, to_train=None, to_score=None, kept=(), speeds=SPEEDS, side_by_side=1, devices=1):
    models = {cell.training.model for cell in cells}
    trainings = distinct_trainings(cells)
    known = Forecast(dict.fromkeys(models, speeds), side_by_side, devices) if speeds else None
    return Plan(
        "t",
        tuple(cells),
        tuple(cells),
        to_train=tuple(trainings if to_train is None else to_train),
        to_score=tuple(cells if to_score is None else to_score),
        to_record=tuple(kept),
        forecast=known,
        warnings=("beware",),
    )


def training_seconds(plan):
    return plan.as_json()["forecast"]["training_seconds"]


def sampling_seconds(plan):
    return plan.as_json()["forecast"]["sampling_seconds"]


# What it will cost.


@pytest.mark.parametrize(("side_by_side", "rounds"), [(1, 3), (2, 2), (3, 1), (8, 1)])
def test_trainings_side_by_side_take_the_time_of_one(side_by_side, rounds):
    plan = plan_of(cells_of(), side_by_side=side_by_side)
    assert training_seconds(plan) == pytest.approx(rounds * 0.01 * 100 * 10)


def test_trainings_that_differ_in_ema_alone_take_the_time_of_one():
    decays = [replace(TRAINING, seed=seed, ema=ema) for seed in (0, 1) for ema in (0.9, 0.99)]
    plan = plan_of([replace(CELL, training=one) for one in decays])
    assert training_seconds(plan) == pytest.approx(2 * 0.01 * 100 * 10)
    assert "the time of 2." in plan.text()
    assert "ema 0.99" in plan.text()
    rounds = [trainings for trainings, _ in plan.rounds(lambda: 1, 1) if trainings]
    assert rounds == [tuple(decays[:2]), tuple(decays[2:])]


def test_each_average_is_measured_once_the_steps_are_made():
    decays = [replace(TRAINING, ema=ema) for ema in (0.9, 0.99)]
    plan = plan_of([replace(CELL, training=one) for one in decays])
    longer = replace(plan, forecast=replace(plan.forecast, measuring=500))
    assert training_seconds(longer) - training_seconds(plan) == pytest.approx(2 * 500 * 0.002)
    assert longer.seconds(decays[0]) == plan.seconds(decays[0])  # what a training says of itself


def test_a_training_that_devices_share_takes_its_part_of_the_time_one_after_the_other():
    alone, plan = plan_of(cells_of()), plan_of(cells_of(), devices=4)
    assert training_seconds(plan) == pytest.approx(training_seconds(alone) / 4)
    assert sampling_seconds(plan) == sampling_seconds(alone)
    assert "4 devices for each" in plan.cost()


def test_the_longest_of_those_side_by_side_counts():
    long, short = replace(TRAINING, training_steps=400), TRAINING
    plan = plan_of([replace(CELL, training=each) for each in (long, short)], side_by_side=2)
    assert training_seconds(plan) == pytest.approx(0.01 * 400 * 10)


def test_sampling_costs_evaluations_and_features_of_every_image():
    plan = plan_of(cells_of(seeds=[0]))
    assert sampling_seconds(plan) == pytest.approx(50 * (5 + 10) * 0.002 + 2 * 50 * 0.003)
    assert plan.evaluations == 50 * (5 + 10)


def test_what_is_done_costs_nothing():
    cells = cells_of()
    plan = plan_of(cells, to_train=[], to_score=cells[:1])
    assert training_seconds(plan) == 0
    assert plan.evaluations == 50 * 5


def test_the_seconds_of_one_piece_of_work_are_its_own():
    plan = plan_of(cells_of())
    assert plan.seconds(TRAINING) == pytest.approx(0.01 * 100 * 10)
    assert plan.seconds(CELL) == pytest.approx(50 * (10 * 0.002 + 0.003))
    heun = replace(CELL, sampler=Part("heun"))
    assert plan.seconds(heun) == pytest.approx(50 * (19 * 0.002 + 0.003))


def test_the_seconds_of_work_with_a_model_of_unknown_speed_are_not_known():
    plan = plan_of(cells_of())
    other = replace(TRAINING, model=Part("unet"))
    assert plan.seconds(other) is plan.seconds(replace(CELL, training=other)) is None
    assert plan_of([CELL], speeds=None).seconds(CELL) is None


def test_a_checkpoint_cell_costs_as_its_cell_does():
    first, second = cells = cells_of(seeds=[0])  # of 5 and 10 steps
    again = replace(second, weights="0.9")
    plan = replace(plan_of(cells, to_score=[*cells, again]), checkpoints=(again,))
    assert plan.evaluations == 50 * (5 + 10 + 10)
    assert sampling_seconds(plan) == pytest.approx(plan.seconds(first) + 2 * plan.seconds(second))
    assert plan.as_json()["forecast"]["network_evaluations"] == 50 * 25
    assert "1,250 network evaluations" in plan.cost()
    assert again.key in plan.text()


# What it says.


def test_the_cost_is_a_sentence_with_its_parts_and_its_source():
    # 3 trainings of 10 s, 2 at a time; 3 cells each of 5 and 10 steps for 50 images.
    cost = plan_of(cells_of(), side_by_side=2).cost()
    assert cost == (
        "About 25 s here: 20 s of training (2 at a time), 5 s of sampling. "
        "2,250 network evaluations. From a guess."
    )
    alone = plan_of(cells_of())
    assert alone.cost().startswith("About 35 s here: 30 s of training, 5 s of sampling")
    assert alone.text().splitlines()[1] == alone.cost()


def test_what_is_fixed_counts_and_is_most_of_a_small_grid():
    plan = plan_of(cells_of(seeds=[0], steps=[5]))
    beside = Overheads(start=20, training=10, scoring=5, cell=1, report=8, report_cell=2)
    whole = replace(
        plan, forecast=replace(plan.forecast, beside=beside, reported=3, real_images=1000)
    )
    told = whole.as_json()["forecast"]
    assert told["fixed_seconds"] == 20 + 10 + 5 + 1 + 8 + 3 * 2
    assert told["real_image_seconds"] == pytest.approx(1000 * 0.003)
    assert whole.predicted == pytest.approx(plan.predicted + 50 + 3)
    assert "the rest starting up, records and the report" in whole.cost()
    assert not whole.is_long


def test_the_metrics_of_each_cell_count_and_once_those_of_real_images():
    plan = plan_of(cells_of(seeds=[0]))
    longer = replace(plan, forecast=replace(plan.forecast, metrics=4.0, measured=3))
    assert longer.as_json()["forecast"]["metric_seconds"] == 4 * (2 + 3 + 1)
    assert longer.predicted == pytest.approx(plan.predicted + 24)
    assert "24 s of metrics" in longer.cost()
    nothing = replace(longer.forecast, measured=0)
    assert nothing.metric_seconds([]) == 0


def test_a_long_forecast_names_what_would_cost_less_and_how_much():
    plan = plan_of(cells_of(seeds=range(4)))
    assert not plan.cheaper
    slow = replace(SPEEDS, train=200.0)  # 200,000 s a training
    long = plan_of(cells_of(seeds=range(4)), speeds=slow)
    by_change = {one.change: one.seconds for one in long.cheaper}
    whole = long.predicted
    assert by_change.keys() == {"--only seed=0", "--only 'seed=[0,1,2]'"}
    assert by_change["--only seed=0"] == pytest.approx(whole / 4)
    assert by_change["--only 'seed=[0,1,2]'"] == pytest.approx(whole * 3 / 4)
    assert [one.seconds for one in long.cheaper] == sorted(by_change.values())


def test_fewer_training_steps_and_smaller_images_are_named_with_their_cost():
    training = replace(TRAINING, data=Part("flowers102"), training_steps=20_000)
    plan = plan_of([replace(CELL, training=training)], speeds=replace(SPEEDS, train=1.0))
    by_change = {one.change: one.seconds for one in plan.cheaper}
    assert by_change["training.steps=2200"] == pytest.approx(plan.predicted * 0.11, rel=0.01)
    assert by_change["'data={name: flowers102, image_size: 32}'"] == pytest.approx(
        plan.predicted / 4, rel=0.01
    )
    path = "my [best] photos: all"
    data = Part.of("folder", {"path": path, "image_size": 64})
    plan = plan_of([replace(CELL, training=replace(training, data=data))],
                   speeds=replace(SPEEDS, train=1.0))  # fmt: skip
    [change] = [one.change for one in plan.cheaper if "data=" in one.change]
    assert fields_of("{}", "", shlex.split(change)) == {
        "data": {"name": "folder", "path": path, "image_size": 32}
    }


def test_compiling_counts_once_for_all_networks_of_one_shape():
    plan = plan_of(cells_of(), speeds=replace(SPEEDS, compile=54.0), side_by_side=2)
    assert plan.cost().startswith("About 79 s here: 54 s of compiling, 20 s of training (2 at a")
    assert plan.as_json()["forecast"]["compile_seconds"] == 54.0
    assert plan_of([CELL], to_train=[], to_score=[]).as_json()["forecast"]["compile_seconds"] == 0


def test_a_plan_begins_with_how_much_there_is_to_do():
    first, second, *_ = plan_of(cells_of(), side_by_side=2).text().splitlines()
    assert first == "t: 3 trainings, 6 cells; 3 to train, 6 to sample and score."
    assert "2 at a time" in second
    assert "2,250 network evaluations" in second
    assert second.endswith("From a guess.")


def test_one_is_not_told_as_many():
    text = plan_of([CELL]).text()
    assert text.startswith("t: 1 training, 1 cell; ")
    assert "at a time" not in text


def test_a_plan_with_nothing_to_do_says_so():
    plan = plan_of(cells_of(), to_train=[], to_score=[], speeds=None)
    assert "Nothing to do." in plan.text()
    assert plan.evaluations == 0
    assert plan.as_json()["forecast"] is None
    assert not plan


def test_each_piece_of_work_is_to_do_in_the_store_or_finished():
    cells = cells_of(seeds=[0])
    plan = plan_of(cells, to_train=[], to_score=cells[:1], kept=[TRAINING])
    assert [plan.state(work) for work in [TRAINING, *cells]] == [
        "in the store",
        "to do",
        "finished",
    ]
    lines = plan.text().splitlines()
    for work, state in ((TRAINING, "in the store"), (cells[0], "to do"), (cells[1], "finished")):
        [line] = [line for line in lines if work.key in line]
        assert state in line


def test_warnings_are_told_before_the_list():
    text = plan_of([CELL]).text()
    assert text.index("Note: beware") < text.index(CELL.key)


def test_a_long_list_is_cut_and_the_json_is_not():
    cells = cells_of(seeds=range(40))
    plan = plan_of(cells)
    assert len(plan.text().splitlines()) < LISTED + 8
    assert f"and {120 - LISTED} more" in plan.text()
    assert len(plan.as_json()["cells"]) == len(cells)


def test_the_json_of_a_plan_names_all_work_with_its_state():
    cells = cells_of()
    told = json.loads(json.dumps(plan_of(cells, to_score=cells[1:]).as_json()))
    assert told["name"] == "t"
    assert [row["key"] for row in told["cells"]] == [cell.key for cell in cells]
    assert [row["state"] for row in told["cells"]] == ["finished"] + ["to do"] * 5
    assert told["trainings"][0]["training_steps"] == 100
    assert told["forecast"]["training_seconds"] == pytest.approx(30)
    assert told["warnings"] == ["beware"]


def test_a_large_plan_is_cut_on_the_screen_and_whole_for_programs():
    plan = plan_of(cells_of(seeds=range(10), steps=range(1, 151)))
    assert len(plan.text().splitlines()) < 80
    assert len(plan.as_json()["cells"]) == 1500


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (45.4, "45 s"), (600, "10 min"), (3 * 3600, "3.0 h"), (12600, "3.5 h")],
)
def test_durations_read_well(seconds, told):
    assert duration(seconds) == told


@pytest.mark.parametrize(("abar", "warned"), [(0.0, False), (NOISE_FLOOR, False), (0.2, True)])
def test_a_start_that_is_not_noise_is_warned_of(abar, warned):
    told = warnings_of(CELL, SamplingPath(abar, 1.0, clamped=0))
    assert len(told) == warned
    for warning in told:
        for word in ("cosine", "trailing", "10 steps", "0.200"):
            assert word in warning


def test_times_that_the_network_was_not_trained_on_are_warned_of():
    cell = replace(CELL, sample_schedule=Part("linear"))
    [told] = warnings_of(cell, SamplingPath(0.0, 1.0, clamped=3))
    for word in ("trained under cosine", "sampled under linear", "3 of 10 steps", "nearest"):
        assert word in told


def test_a_sampler_that_evaluates_twice_a_step_costs_twice():
    ddim, heun = (replace(CELL, sampler=Part(name)) for name in ("ddim", "heun"))
    assert plan_of([heun], to_train=[]).evaluations == 50 * 19
    one, two = (sampling_seconds(plan_of([cell], to_train=[])) for cell in (ddim, heun))
    assert two - one == pytest.approx(50 * 9 * 0.002)


def test_an_exact_denoiser_costs_no_training_and_its_own_evaluations():
    exact = replace(TRAINING, model=Part("exact"), training_steps=0)
    cells = [CELL, replace(CELL, training=exact)]
    speeds = {Part("tiny"): SPEEDS, Part("exact"): Speeds(0.0, 0.5, 0.003, "a probe")}
    plan = replace(plan_of(cells), forecast=Forecast(speeds))
    assert [training.model.name for training in plan.trainings] == ["tiny"]
    assert sampling_seconds(plan) == pytest.approx(50 * (10 * (0.002 + 0.5) + 2 * 0.003))
    assert plan.forecast.source == "a guess and a probe"


# Speeds of earlier work.


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def keep_training(store, training=TRAINING, machine="here", images_per_second=100.0, threads=1):
    images = training.training_steps * training.batch_size
    made_by = replace(made.PROVENANCE, machine=machine, threads=threads)
    store.keep(made.trained(training, seconds=images / images_per_second, provenance=made_by))
    write_bytes(store.model(training.key, "weights.safetensors"), b"")


def keep_cell(store, cell=CELL, machine="here", seconds=0.5, nfe=10):
    cost = replace(made.COST, nfe=nfe, seconds_per_image=(seconds,), feature_seconds_per_image=0.25)
    made_by = replace(made.PROVENANCE, machine=machine)
    store.keep(made.result(cell, kid=0.1, cost=cost, provenance=made_by))


def test_speeds_are_those_of_earlier_work(store):
    keep_training(store)
    keep_cell(store)
    speeds = measured_speeds(store, TRAINING, "here")
    assert speeds.train == pytest.approx(1 / 100)
    assert speeds.evaluate == pytest.approx(0.5 / 10)
    assert speeds.features == pytest.approx(0.25)
    assert speeds.compile == 0
    assert "earlier" in speeds.source


def test_one_slow_run_does_not_count_for_much(store):
    for seed, pace in enumerate([100, 100, 1]):
        keep_training(store, replace(TRAINING, seed=seed), images_per_second=pace)
    for steps, seconds in [(5, 0.1), (10, 0.1), (20, 50.0)]:
        keep_cell(store, replace(CELL, steps=steps), seconds=seconds, nfe=1)
    speeds = measured_speeds(store, TRAINING, "here")
    assert speeds.train == pytest.approx(1 / 100)
    assert speeds.evaluate == pytest.approx(0.1)


def test_other_lengths_seeds_and_schedules_tell_the_same_speeds(store):
    other = replace(TRAINING, seed=7, training_steps=9, schedule=Part("linear"), learning_rate=0.1)
    keep_training(store, other)
    keep_cell(store, replace(CELL, training=other, sampler=Part("ddpm"), images=3))
    assert measured_speeds(store, TRAINING, "here") is not None


@pytest.mark.parametrize(
    "change",
    [
        {"data": Part("mnist")},
        {"model": Part.of("tiny", {"widths": (8,)})},
        {"precision": "float32"},
        {"batch_size": 11},
    ],
    ids=lambda change: next(iter(change)),
)
def test_work_of_another_kind_tells_nothing(store, change):
    other = replace(TRAINING, **change)
    keep_training(store, other)
    keep_cell(store, replace(CELL, training=other))
    assert measured_speeds(store, TRAINING, "here") is None


def test_a_training_that_had_all_cores_tells_nothing_of_several_side_by_side(store):
    keep_training(store, images_per_second=60.0)
    keep_training(store, replace(TRAINING, seed=1), images_per_second=100.0, threads=2)
    keep_cell(store)
    assert measured_speeds(store, TRAINING, "here", 1).train == pytest.approx(1 / 60)
    assert measured_speeds(store, TRAINING, "here", 2).train == pytest.approx(1 / 100)
    assert measured_speeds(store, TRAINING, "here", 3) is None
    assert measured_speeds(store, TRAINING, "here").train == pytest.approx(1 / 80, rel=0.1)


def test_another_machine_tells_nothing(store):
    keep_training(store, machine="there")
    keep_cell(store, machine="there")
    assert measured_speeds(store, TRAINING, "here") is None


def test_both_kinds_of_work_are_needed(store):
    assert measured_speeds(store, TRAINING, "here") is None
    keep_training(store)
    assert measured_speeds(store, TRAINING, "here") is None


def test_memory_and_disk_are_told_where_they_are_known():
    speeds = replace(SPEEDS, memory=1.5e9, parameters=1e6, width=100)
    cells = cells_of()
    plan = plan_of(cells, speeds=speeds, side_by_side=2)
    told = plan.as_json()["forecast"]
    assert told["memory_bytes"] == 3e9
    trainings, images = len(plan.trainings), sum(cell.images for cell in cells)
    assert told["disk_bytes"] == trainings * 2 * 4e6 + images * 4 * 106
    assert "3.0 GB of memory, " in plan.cost()
    assert "of memory" not in plan_of(cells).cost()
    scored = plan_of(cells, to_train=[], speeds=speeds, side_by_side=2)
    assert scored.as_json()["forecast"]["memory_bytes"] == 1.5e9  # cells go one at a time
    nothing = plan_of(cells, to_train=[], to_score=[], speeds=speeds)
    assert nothing.as_json()["forecast"]["disk_bytes"] == 0


def test_each_row_of_the_json_has_its_own_forecast():
    plan = plan_of(cells_of())
    told = plan.as_json()
    for row, cell in zip(told["cells"], plan.cells, strict=True):
        assert row["nfe"] == cell.steps
        assert row["forecast_seconds"] == pytest.approx(plan.seconds(cell))
    assert all(row["forecast_seconds"] == pytest.approx(10) for row in told["trainings"])


@pytest.mark.parametrize(("amount", "told"), [(10, "1 MB"), (4e7, "40 MB"), (1.24e9, "1.2 GB")])
def test_sizes_read_well(amount, told):
    assert size(amount) == told


def test_fitting_steps_to_a_network_is_counted_beside_its_cells():
    cells = cells_of(seeds=[0])
    fitted = [replace(cell, spacing=Part.of("fitted", {"images": 10})) for cell in cells]
    without, plan = plan_of(cells), replace(plan_of(fitted), to_fit=(fitted[0],))
    assert plan.predicted == pytest.approx(without.predicted + 100 * 10 * 0.002)
    assert plan.as_json()["forecast"]["fitting_evaluations"] == 1000
    assert sampling_seconds(plan) == sampling_seconds(without)
    assert "2 s of fitting steps to networks" in plan.cost()


def test_what_the_last_run_took_is_scaled_by_how_fast_programs_start_now(tmp_path):
    """The machine may have been busy then, or be so now."""
    store, kept = Store(tmp_path), Overheads(10, 10, 4, 0.5, 8, 0.1)
    store.keep_overheads("here", kept)
    assert overheads(store, "here", None) == kept
    assert overheads(store, "here", 20.0) == Overheads(20, 20, 8, 1, 16, 0.2)
