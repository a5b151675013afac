"""What a grid says that does not go together is refused at the door, with what to use."""

import json

import pytest

from harness.diffusion.samplers import SAMPLERS
from harness.errors import GridError
from harness.plan.forecast import nfe_of
from harness.plan.grid import expand, load_grid
from harness.work.cells import Part, distinct_trainings

SMALLEST = {
    "name": "t",
    "data": "digits",
    "schedules": ["cosine"],
    "samplers": ["ddim"],
    "steps": [5],
    "extractor": "digits",
}
ZERO = {"name": "linear", "zero_terminal_snr": True}
VELOCITY = {"target": "velocity"}


@pytest.fixture
def load(tmp_path):
    def load(**fields):
        path = tmp_path / "grid.yaml"
        path.write_text(json.dumps(SMALLEST | fields))
        return load_grid(path)

    return load


@pytest.fixture
def refusal(load):
    def refusal(**fields):
        with pytest.raises(GridError) as refused:
            load(**fields)
        return str(refused.value)

    return refusal


# Zero terminal SNR.


@pytest.mark.parametrize("field", ["schedules", "sample_schedules"])
def test_noise_prediction_is_refused_where_no_signal_is_left(refusal, load, field):
    told = refusal(**{field: [ZERO]})
    assert "target 'noise' cannot be used with zero terminal SNR" in told
    assert "Use target 'velocity', 'image' or 'flow'" in told
    for target in ("velocity", "image", "flow", "edm"):
        load(**{field: [ZERO]}, training={"target": target})


@pytest.mark.parametrize("spacing", ["log_snr", "karras"])
def test_a_spacing_along_log_snr_is_refused_where_that_is_infinite(refusal, load, spacing):
    told = refusal(schedules=[ZERO], training=VELOCITY, spacing=[spacing])
    assert f"spacing '{spacing}' cannot begin where no signal is left" in told
    load(schedules=["linear"], spacing=[spacing])


@pytest.mark.parametrize("sampler", ["euler", "heun", "ab2", "dpm_solver_2", "edm"])
def test_a_sampler_that_divides_by_the_signal_is_refused_where_there_is_none(
    refusal, load, sampler
):
    told = refusal(schedules=[ZERO], training=VELOCITY, samplers=[sampler])
    assert f"sampler '{sampler}' divides by the signal rate" in told
    assert "Use spacing 'leading', which begins later" in told
    load(schedules=[ZERO], training=VELOCITY, samplers=[sampler], spacing=["leading"])
    load(schedules=["linear"], samplers=[sampler])


@pytest.mark.parametrize(
    "sampler", ["ddim", "ddpm", "ddpm_large", "ipndm", "deis", "dpmpp_2m", "dpmpp_2m_sde", "unipc"]
)
@pytest.mark.parametrize("spacing", ["uniform", "trailing", "linspace", "angle"])
def test_the_other_samplers_begin_anywhere(load, sampler, spacing):
    load(schedules=[ZERO], training=VELOCITY, samplers=[sampler], spacing=[spacing])


FLOW = {"schedules": ["flow"], "training": {"target": "flow"}}


def test_flow_is_told_what_cannot_begin_at_pure_noise_and_what_can(load, refusal):
    assert "Use target 'velocity', 'image' or 'flow'" in refusal(schedules=["flow"])
    for spacing in ("log_snr", "karras"):
        told = refusal(**FLOW, spacing=[spacing])
        assert "Use spacing 'uniform', 'trailing' or 'angle'" in told
    for sampler in SAMPLERS:
        if SAMPLERS[sampler].from_signal:
            told = refusal(**FLOW, samplers=[sampler], spacing=["uniform"])
            assert f"sampler '{sampler}' divides by the signal rate" in told
            load(**FLOW, samplers=[sampler], spacing=["leading"])
            load(**FLOW, samplers=[sampler], spacing=[listed(0.99, 0.5)], steps=[2])
        else:
            load(**FLOW, samplers=[sampler], spacing=["uniform", "trailing", "angle"])


def test_a_spacing_from_the_table_makes_no_more_steps_than_the_schedule_has(load, refusal):
    fifty = {"name": "linear", "T": 50}
    load(schedules=[fifty], spacing=["trailing", "leading"], steps=[50])
    told = refusal(schedules=["cosine", fifty], spacing=["trailing"], steps=[50, 51])
    assert "picks from a table of 50 times: 51 steps are more than it has" in told
    load(schedules=[fifty], spacing=["uniform"], steps=[51])
    load(schedules=[{"name": "linear", "T": 2000}], spacing=["trailing"], steps=[2000])


def test_every_contradiction_is_told_at_once(refusal):
    told = refusal(schedules=[ZERO], spacing=["log_snr", "leading"], samplers=["heun"], steps=[1])
    for part in ("target 'noise'", "spacing 'log_snr'", "spacing 'leading' needs at least 2"):
        assert part in told


# Times written out.


def listed(*times):
    return {"name": "explicit", "times": list(times)}


def test_listed_times_make_as_many_steps(load, refusal):
    load(spacing=[listed(1, 0.6, 0.2)], steps=[3])
    told = refusal(spacing=[listed(1, 0.6, 0.2)], steps=[3, 4])
    assert "spacing 'explicit' lists 3 times, which make so many steps, not 4" in told


@pytest.mark.parametrize("times", [(), (0.2, 0.6), (1.2, 0.5), (1, 1), (1, 0), (1, -0.5)])
def test_listed_times_must_fall_within_what_there_is(refusal, times):
    told = refusal(spacing=[listed(*times)], steps=[max(1, len(times))])
    assert "times must fall from at most 1 and stay above 0" in told


@pytest.mark.parametrize("time", ["half", None, [1], True])
def test_listed_times_are_numbers(refusal, time):
    assert "spacing 'explicit': times must be" in refusal(spacing=[listed(1, time)], steps=[2])


# Exact denoisers.


@pytest.mark.parametrize("name", ["gaussian", "mixture", "finite"])
def test_data_whose_denoiser_is_known_train_nothing_unless_told(load, name):
    assert distinct_trainings(expand(load(data=name))) == []
    [training] = distinct_trainings(expand(load(data=name, model="tiny")))
    assert training.model == Part("tiny")


def test_an_exact_denoiser_is_sampled_once_whatever_is_said_of_training(load):
    def exact(**fields):
        return expand(load(model="exact", **fields))

    assert len(exact(seeds=[0, 1, 2])) == 1
    assert exact(training={"steps": 7, "target": "velocity", "loss": "mae"}) == exact()
    crossed = exact(schedules=["linear", "cosine"], sample_schedules=["linear", "cosine"])
    assert [cell.sample_schedule.name for cell in crossed] == ["linear", "cosine"]
    assert exact(schedules=[ZERO])  # no target can be wrong where nothing is predicted


def test_a_grid_may_join_networks_with_the_exact_denoiser(load):
    cells = expand(load(seeds=[0, 1], steps=[5, 10], include=[{"model": "exact", "steps": [5]}]))
    kinds = [(cell.training.model.name, cell.steps) for cell in cells]
    assert kinds == [("tiny", 5), ("tiny", 10), ("exact", 5), ("tiny", 5), ("tiny", 10)]
    assert len(distinct_trainings(cells)) == 2


@pytest.mark.parametrize(
    ("entry", "left"),
    [({"seed": 0}, ["seed 1", "exact"]), ({"training.target": "noise"}, ["exact"])],
)  # fmt: skip
def test_what_is_not_trained_is_not_excluded_by_a_seed_or_recipe(load, entry, left):
    fields = {"seeds": [0, 1], "samplers": ["ddim"], "steps": [5], "include": [{"model": "exact"}]}
    cells = expand(load(**fields, exclude=[entry]))
    assert {cell.training.origin for cell in cells} == {*left}


def test_an_included_model_may_be_another_network(load):
    cells = expand(load(include=[{"model": {"name": "tiny", "widths": [8]}}]))
    assert len(distinct_trainings(cells)) == 2


# Equal evaluations.


@pytest.mark.parametrize(
    ("sampler", "allowed", "steps"),
    [
        ("ddim", 10, 10),
        ("heun", 10, 5),
        ("heun", 9, 5),
        ("heun", 1, 1),
        ("unipc", 25, 25),
        ({"name": "predictor_corrector", "corrector_steps": 3}, 11, 3),
    ],
)
def test_a_budget_of_evaluations_buys_as_many_steps_as_it_can(load, sampler, allowed, steps):
    [cell] = expand(load(samplers=[sampler], steps=[allowed], budget="nfe"))
    assert cell.steps == steps
    assert cell.budget == allowed
    assert nfe_of(cell) <= allowed


def test_a_cell_is_the_same_work_however_its_steps_were_asked_for(load):
    [bought] = expand(load(samplers=["heun"], steps=[10], budget="nfe"))
    [asked] = expand(load(samplers=["heun"], steps=[5]))
    assert bought.key == asked.key
    assert asked.budget is None


def test_a_cell_is_told_the_smallest_budget_that_affords_it(load):
    cells = expand(load(samplers=["heun", "ddim"], steps=[9, 10], budget="nfe"))
    assert [(cell.sampler.name, cell.steps, cell.budget) for cell in cells] == [
        ("heun", 5, 9),
        ("ddim", 9, 9),
        ("ddim", 10, 10),
    ]


def test_a_budget_that_a_spacing_cannot_fill_is_refused(refusal):
    told = refusal(samplers=["heun"], steps=[2], budget="nfe", spacing=["leading"])
    assert "spacing 'leading' needs at least 2 steps, not 1" in told


def test_steps_are_fitted_from_pure_noise_by_samplers_that_can_begin_there(load, refusal):
    load(schedules=[ZERO], training=VELOCITY, spacing=["fitted"])
    told = refusal(schedules=[ZERO], training=VELOCITY, spacing=["fitted"], samplers=["euler"])
    assert "sampler 'euler' divides by the signal rate" in told
    assert "among 10 times" in refusal(spacing=[{"name": "fitted", "candidates": 10}], steps=[11])


# A skip from the input to the output.


def test_a_skip_is_refused_where_the_network_predicts_no_noise(refusal, load):
    skipping = {"name": "tiny", "skip": True}
    assert "model: skip" in refusal(model=skipping, training=VELOCITY)
    assert "model: skip" in refusal(include=[{"model": skipping}], training=VELOCITY)
    assert load(model=skipping)
    assert load(model=["exact", "tiny"], training=VELOCITY)
