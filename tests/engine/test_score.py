"""A scored cell: the files beside its numbers, and what it would be at its checkpoint."""

import io
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import works
from PIL import Image
from safetensors.torch import load_file

from harness.data.datasets import DATASETS
from harness.engine import score as module
from harness.engine.sample import last_abar, sample
from harness.engine.score import ScoreJob, load_network, score
from harness.engine.train import TrainJob, train
from harness.errors import DataError
from harness.plan.work import Part
from harness.runtime.store import Store

TRAINING = replace(
    works.TRAINING,
    schedule=Part("linear"),
    seed=1,
    training_steps=30,
    batch_size=16,
    learning_rate=5e-3,
)
CELL = replace(
    works.CELL,
    training=TRAINING,
    sample_schedule=TRAINING.schedule,
    sampler=Part("ddpm"),
    steps=4,
    images=60,
    sampling_seed=2,
    clip=True,
)


def quietly(progress):
    pass


def job(folder, cell=CELL, metrics=("kid", "fid"), at_checkpoint=True):
    return ScoreJob(cell, metrics, folder, folder, "cpu", at_checkpoint=at_checkpoint)


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The store of a finished training, to be copied."""
    folder = tmp_path_factory.mktemp("trained")
    train(TrainJob(TRAINING, folder, folder, "cpu", threads=1), quietly)
    return folder


@pytest.fixture
def trained(once, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(once, folder)
    return folder


def weights_of(folder, name="weights.safetensors"):
    return Store(folder).model(TRAINING.key, name)


def influences(folder, cell=CELL):
    with np.load(Store(folder).cell(cell.key, "influence.npz")) as file:
        return dict(file)


def read(folder, name, cell=CELL):
    return Store(folder).cell(cell.key, name).read_bytes()


@pytest.fixture
def no_sampling(monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("nothing was to be sampled")

    monkeypatch.setattr(module, "sample", refuse)


# At the checkpoint.


@pytest.mark.parametrize("metrics", [("kid", "fid"), ("fid", "kid"), ("kid", "precision")])
def test_a_checkpoint_with_the_final_weights_gives_the_cells_own_kid(trained, metrics):
    shutil.copy(weights_of(trained), weights_of(trained, "checkpoint.safetensors"))
    told = score(job(trained, metrics=metrics), quietly)["metrics"]
    assert told["kid_checkpoint"] == told["kid"]
    assert "fid_checkpoint" not in told
    kept = influences(trained)
    assert (kept["kid_checkpoint"] == kept["kid"]).all()


def test_without_kid_it_is_fid_less_its_bias(trained):
    shutil.copy(weights_of(trained), weights_of(trained, "checkpoint.safetensors"))
    told = score(job(trained, metrics=("fid",)), quietly)["metrics"]
    assert told["fid_checkpoint"] == told["fid_centre"] != told["fid"]
    kept = influences(trained)
    assert (kept["fid_checkpoint"] == kept["fid"]).all()


def test_it_is_what_the_cell_would_be_with_those_weights(trained, tmp_path):
    told = score(job(trained), quietly)["metrics"]
    other = tmp_path / "other"
    shutil.copytree(trained / "models", other / "models")
    shutil.copy(weights_of(other, "checkpoint.safetensors"), weights_of(other))
    earlier = score(job(other, at_checkpoint=False), quietly)["metrics"]
    assert told["kid_checkpoint"] == earlier["kid"]
    assert told["kid"] != earlier["kid"]
    assert (influences(trained)["kid_checkpoint"] == influences(other)["kid"]).all()


def test_it_changes_nothing_else(trained, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    with_it, without = (
        score(job(folder, at_checkpoint=folder == trained), quietly) for folder in (trained, other)
    )
    assert with_it["metrics"].keys() - without["metrics"].keys() == {"kid_checkpoint"}
    assert without["metrics"].keys() <= with_it["metrics"].keys()
    mine, theirs = influences(trained), influences(other)
    assert mine.keys() - theirs.keys() == {"kid_checkpoint"}
    assert all((mine[name] == theirs[name]).all() for name in theirs)
    assert read(trained, "samples.png") == read(other, "samples.png")


def test_it_can_be_added_to_a_cell_that_was_scored_before(trained):
    before = score(job(trained, at_checkpoint=False), quietly)["metrics"]
    after = score(job(trained), quietly)["metrics"]
    assert after.keys() - before.keys() == {"kid_checkpoint"}
    assert {name: after[name] for name in before} == before
    assert json.loads(read(trained, "outcome.json"))["metrics"] == after


def test_a_second_time_nothing_is_sampled(trained, request):
    first = score(job(trained), quietly)
    request.getfixturevalue("no_sampling")
    assert score(job(trained), quietly) == first


def test_a_training_that_kept_no_checkpoint_is_told_of_and_fails_nothing(trained):
    weights_of(trained, "checkpoint.safetensors").unlink()
    told = score(job(trained), quietly)
    assert math.isnan(told["metrics"]["kid_checkpoint"])
    assert told["undefined"] == {"kid_checkpoint": "its training kept no checkpoint"}
    assert math.isfinite(told["metrics"]["kid"])
    assert "kid_checkpoint" not in influences(trained)
    assert json.loads(read(trained, "outcome.json"))["undefined"] == told["undefined"]


def test_nothing_is_added_where_no_metric_decides(trained):
    told = score(job(trained, metrics=("precision",)), quietly)["metrics"]
    assert "precision" in told
    assert not [name for name in told if name.endswith("_checkpoint")]


def test_a_checkpoint_is_not_held_against_features_of_another_kind(trained):
    score(job(trained, at_checkpoint=False), quietly)
    path = Store(trained).cell(CELL.key, "outcome.json")
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"extractor_fingerprint": "other weights"}))
    with pytest.raises(DataError, match="weights of the extractor"):
        score(job(trained), quietly)


# What is kept beside the numbers.


def test_the_checkpoint_of_a_training_is_not_its_end(trained):
    early, late = (load_file(weights_of(trained, f"{name}.safetensors"))
                   for name in ("checkpoint", "weights"))  # fmt: skip
    assert early.keys() == late.keys()
    assert any((early[name] != late[name]).any() for name in late)


def test_a_scored_cell_keeps_its_pictures_and_its_path(trained):
    score(job(trained, at_checkpoint=False), quietly)
    sheet, film, nearest = (
        np.asarray(Image.open(io.BytesIO(read(trained, f"{name}.png"))))
        for name in ("samples", "film", "nearest")
    )
    assert sheet.shape == (8 * 8, 8 * 8)  # 60 of 64 places
    assert film.shape == (4 * 8, 5 * 8)  # two images, held and estimated; 4 evaluations
    assert nearest.shape == (2 * 8, 8 * 8)
    assert (film[:8, -8:] == sheet[:8, :8]).all()
    assert (film[-8:, -8:] == sheet[:8, 8:16]).all()

    images = DATASETS["digits"](None)
    training = {image.tobytes() for image in images.train}
    below = [nearest[8:, 8 * n : 8 * n + 8].tobytes() for n in range(8)]
    assert {*below} <= training

    path = pd.read_csv(io.BytesIO(read(trained, "path.csv")))
    assert path["t"].tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert not Store(trained).cell(CELL.key, "schedule.csv").exists()  # the training has it


@pytest.mark.parametrize(("reference", "kept"), [("all", True), ("held_out", False)])
def test_nearest_images_are_training_images_or_none_at_all(trained, reference, kept):
    cell = replace(CELL, reference=reference)
    score(job(trained, cell, at_checkpoint=False), quietly)
    assert Store(trained).cell(cell.key, "nearest.png").exists() == kept
    if kept:
        picture = np.asarray(Image.open(io.BytesIO(read(trained, "nearest.png", cell))))
        training = {image.tobytes() for image in DATASETS["digits"](None).train}
        assert {picture[8:, 8 * n : 8 * n + 8].tobytes() for n in range(8)} <= training


def test_contrast_is_that_of_all_images_of_the_cell(trained):
    told = score(job(trained, at_checkpoint=False), quietly)["metrics"]
    network = load_network(Store(trained), TRAINING, trained, "cpu")
    images = sample(CELL, network, quietly).images
    real = DATASETS["digits"](None).train
    expected = images.astype(float).var(axis=0).mean() / real.astype(float).var(axis=0).mean()
    assert told["contrast"] == pytest.approx(math.sqrt(expected), rel=1e-9)
    assert 0.5 < told["contrast_theory"] < 1


def test_an_exact_denoiser_of_gaussian_data_has_the_contrast_that_theory_foresees(tmp_path):
    data = Part.of("gaussian", {"size": 4})
    exact = replace(TRAINING, data=data, model=Part("exact"), training_steps=0)
    cell = replace(
        CELL, training=exact, sampler=Part("ddim"), images=1500, clip=False,
        extractor=Part("pixels"),
    )  # fmt: skip
    told = score(job(tmp_path, cell), quietly)["metrics"]
    assert told["contrast"] == pytest.approx(told["contrast_theory"], rel=0.02)
    assert told["contrast_theory"] < 0.9
    # There are no training images to be near to, only a law.
    assert not Store(tmp_path).cell(cell.key, "nearest.png").exists()
    assert Store(tmp_path).cell(cell.key, "schedule.csv").exists()


def test_images_are_without_energy_where_the_machine_does_not_tell(trained, monkeypatch):
    monkeypatch.setattr("harness.runtime.machine.joules", lambda device: math.nan)
    assert "joules_per_image" not in score(job(trained), quietly)["metrics"]


def test_energy_is_that_of_the_sampling_over_its_images(trained, monkeypatch):
    counter = iter([1000.0, 1090.0])
    monkeypatch.setattr("harness.runtime.machine.joules", lambda device: next(counter))
    told = score(job(trained, at_checkpoint=False), quietly)["metrics"]
    assert told["joules_per_image"] == pytest.approx(90 / 60)


@pytest.mark.parametrize(("schedule", "left"), [("linear", 1.0), ("cosine", 0.95**2)])
def test_the_last_time_of_a_cell_may_leave_noise(schedule, left):
    assert last_abar(replace(CELL, sample_schedule=Part(schedule))) == pytest.approx(left)


# The scale.


def test_damaged_real_images_are_scored_as_the_real_ones_are(trained):
    from harness.data.damage import half_resolution
    from harness.engine.score import extractor
    from harness.metrics.distances import METRICS

    told = score(job(trained), quietly)["metrics"]
    images = DATASETS["digits"](None)
    extract = extractor(trained, "cpu", CELL.extractor)
    worse = half_resolution(images.held_out[: CELL.images])
    expected = METRICS["kid"].function(
        extract(worse).astype(np.float64), extract(images.train).astype(np.float64)
    )
    assert told["kid_half_resolution"] == pytest.approx(expected, rel=1e-9)
    assert told["kid_half_resolution"] > told["kid_floor"]
    assert {"kid_noisy", "fid_noisy"} & told.keys() == {"kid_noisy"}  # of the metric that decides


def test_without_other_real_images_there_is_no_scale(trained):
    told = score(job(trained, replace(CELL, reference="all")), quietly)["metrics"]
    assert not {"kid_half_resolution", "kid_noisy"} & told.keys()
