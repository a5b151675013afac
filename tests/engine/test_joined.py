"""Networks beside the exact denoiser, sampled under their own schedule and another: what a grid
that joins them asks of the engine, by worker processes as a run does it."""

import pickle
from dataclasses import replace

import made
import numpy as np
import pytest

from harness.engine.score import ScoreJob, score
from harness.engine.train import TrainJob, train
from harness.execute.here import here
from harness.work.cells import EXACT, Part
from harness.work.options import Workplace

LINEAR = Part("linear")
ENDING = Part.of("cosine_discrete", {"zero_terminal_snr": True})
TRAINING = replace(
    made.TRAINING,
    data=Part.of("mixture", {"images": 200}),
    target="velocity",
    loss="mae",
    training_steps=12,
    batch_size=16,
)
STEPS = {"ddim": 5, "dpmpp_2m": 5, "heun": 3}  # for five evaluations


def never():
    return False


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of every cell, by the model, the schedules and the sampler; and of the trainings."""
    at = Workplace(tmp_path_factory.mktemp("joined"), tmp_path_factory.mktemp("data"), "cpu")
    networks = [replace(TRAINING, schedule=schedule) for schedule in (LINEAR, ENDING)]
    exact = [replace(one, model=Part(EXACT), training_steps=0) for one in networks]
    jobs = [TrainJob(training, threads=1) for training in networks]
    trained = [result for _, result in here(train, jobs, at, ignore, never, workers=2)]
    cells = [
        replace(
            made.CELL, training=training, sample_schedule=schedule, sampler=Part(sampler),
            steps=steps, images=80, extractor=Part("pixels"),
        )
        for training in (*networks, *exact)
        for schedule in ((LINEAR, ENDING) if not training.is_exact else (training.schedule,))
        for sampler, steps in STEPS.items()
        if sampler != "heun" or schedule == LINEAR  # which divides by the signal at t = 1
    ]  # fmt: skip
    scored = list(here(score, [ScoreJob(cell, ("kid",)) for cell in cells], at, ignore, never,
                       workers=2))  # fmt: skip
    return trained, {job.cell: result for job, result in scored}


def ignore(job, progress):
    pass


def test_everything_comes_back_and_can_be_sent_on(results):
    trained, scored = results
    assert len(trained) == 2
    assert len(scored) == 4 * 2 + 2 + 2 * 2 + 1
    for cell, result in scored.items():
        assert result.cell == cell
        assert pickle.loads(pickle.dumps(result)) == result
        assert np.isfinite(result.measurements["kid"].value)
        assert result.provenance.precision == "float32"


def test_each_sampler_makes_the_evaluations_that_its_steps_take(results):
    _, scored = results
    assert {result.cost.nfe for result in scored.values()} == {5}


def test_the_schedule_is_kept_with_the_cells_whose_training_does_not_keep_it(results):
    trained, scored = results
    for cell, result in scored.items():
        is_needed = cell.training.is_exact or not cell.is_matched
        curve = result.artifacts.table("schedule.csv")
        assert (curve is not None) == is_needed
        if is_needed:
            assert np.allclose(curve["alpha"] ** 2 + curve["sigma"] ** 2, 1)
    assert all("schedule.csv" in result.artifacts.checksums for result in trained)


def test_times_that_a_network_was_not_trained_on_are_counted(results):
    _, scored = results
    for cell, result in scored.items():
        # The schedule that ends in pure noise begins at log SNR -inf, where linear never was.
        is_beyond = cell.sample_schedule == ENDING and cell.training.schedule == LINEAR
        assert (result.path.clamped > 0) == (is_beyond and not cell.training.is_exact)
