"""A scored cell: its measurements, the files beside them, and what is kept of it."""

import io
import math
import pickle
import shutil
from dataclasses import replace

import made
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from harness.data.datasets import DATASETS
from harness.engine import score as module
from harness.engine.denoisers import final_denoiser
from harness.engine.inputs import extractor, image_set
from harness.engine.reference import read_once
from harness.engine.sample import NotFinite, sample, sampling_path
from harness.engine.score import ScoreJob, score
from harness.engine.train import TrainJob, train
from harness.errors import DataError, HarnessError, MachineError, NotDefined
from harness.execute import energy, machine
from harness.metrics.distances import METRICS
from harness.metrics.evaluation import lacking
from harness.store import CHECKPOINT, FEATURES, WEIGHTS, Store
from harness.work.cells import Part
from harness.work.options import Workplace
from harness.work.results import CellResult, PixelSpread, from_json, to_json

TRAINING = replace(
    made.TRAINING,
    schedule=Part("linear"),
    seed=1,
    training_steps=30,
    batch_size=16,
    learning_rate=5e-3,
)
CELL = replace(
    made.CELL,
    training=TRAINING,
    sample_schedule=TRAINING.schedule,
    sampler=Part("ddpm"),
    steps=4,
    images=60,
    sampling_seed=2,
    clip=True,
)
EARLIER = replace(CELL, weights="0.9")
SMALL = {"influence.npz", "samples.png", "film.png", "film.webp", "nearest.png", "path.csv"}


def quietly(progress):
    pass


def at(folder):
    return Workplace(folder, folder, "cpu")


def scored(folder, cell=CELL, metrics=("kid", "fid"), **asked):
    return score(ScoreJob(cell, metrics, **asked), at(folder), quietly)


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The store of a finished training, to be copied."""
    folder = tmp_path_factory.mktemp("trained")
    train(TrainJob(TRAINING, threads=1), at(folder), quietly)
    return folder


@pytest.fixture
def trained(once, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(once, folder)
    return folder


def weights_of(folder, name=WEIGHTS):
    return Store(folder).model(TRAINING.key, name)


def picture(result, name):
    return np.asarray(Image.open(io.BytesIO(result.artifacts.read(name))))


@pytest.fixture
def no_sampling(monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("nothing was to be sampled")

    monkeypatch.setattr(module, "sample", refuse)


# What is kept.


def test_the_result_is_kept_with_its_files_and_comes_with_them_in_memory(trained):
    result = scored(trained)
    assert Store(trained).cell_result(CELL.key) == result
    assert {*result.artifacts.checksums} == {*SMALL, FEATURES}
    shutil.rmtree(trained)
    sent = pickle.loads(pickle.dumps(result))
    assert sent == result
    assert all(sent.artifacts.read(name) for name in SMALL)
    assert sent.influence("kid").shape == (60,)


def test_a_second_time_nothing_is_sampled_or_written(trained, request):
    first = scored(trained)
    request.getfixturevalue("no_sampling")
    path = Store(trained).cell(CELL.key, "result.json")
    before = path.stat().st_mtime_ns
    again = scored(trained)
    assert again == first
    assert {*again.artifacts.checksums} == {*first.artifacts.checksums}
    assert again.artifacts.read("samples.png") == first.artifacts.read("samples.png")
    assert path.stat().st_mtime_ns == before


def test_a_metric_that_is_added_later_comes_from_kept_features(trained, request):
    first = scored(trained, metrics=("kid",))
    request.getfixturevalue("no_sampling")
    later = scored(trained, metrics=("kid", "precision"))
    assert later.measurements["kid"] == first.measurements["kid"]
    assert later.measurements["precision"].value == scored_alone(trained, "precision")
    assert later.cost == first.cost
    assert (later.influence("kid") == first.influence("kid")).all()
    assert {"kid", "precision"} <= {*later.influences}


def scored_alone(folder, name):
    features = np.load(Store(folder).cell(CELL.key, FEATURES))
    extract = extractor(folder, "cpu", CELL.extractor)
    real = extract(DATASETS["digits"](None).train)
    return METRICS[name].function(features.astype(np.float64), real.astype(np.float64))


def test_the_error_of_the_reference_is_added_where_it_is_asked_for_later(trained, request):
    first = scored(trained, metrics=("kid",))
    assert first.measurements["kid"].reference_error is None
    request.getfixturevalue("no_sampling")
    later = scored(trained, metrics=("kid",), reference_variance=True).measurements["kid"]
    assert later.reference_error > 0
    assert replace(later, reference_error=None) == first.measurements["kid"]


def test_what_was_sampled_stays_sampled_where_memory_does_not_last(trained, monkeypatch, request):
    def broken(*arguments, **keywords):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("harness.engine.measure.evaluate", broken)
        with pytest.raises(MachineError, match="memory ran out"):
            scored(trained)
    assert Store(trained).cell_result(CELL.key).measurements == {}
    request.getfixturevalue("no_sampling")
    assert {*scored(trained).measurements} == {"kid", "fid"}


def test_what_a_metric_cannot_say_of_so_few_images_is_said(trained):
    result = scored(trained, metrics=("kid", "fid_infinity"))
    assert {*result.measurements} == {"kid"}
    assert "fid_infinity" in result.undefined
    assert (
        "1,024" in result.undefined["fid_infinity"] or "images" in result.undefined["fid_infinity"]
    )
    assert Store(trained).cell_result(CELL.key) == result


def test_seconds_are_measured_again_where_that_is_asked(trained, monkeypatch):
    first = scored(trained)
    monkeypatch.setattr(machine, "name", lambda device: "another machine")
    again = scored(trained, retime=True)
    assert again.provenance.machine == "another machine"
    assert again.cost.seconds_per_image != first.cost.seconds_per_image
    assert again.measurements == first.measurements
    assert Store(trained).cell_result(CELL.key) == again


@pytest.mark.parametrize("damage", ["cut short", "one bit", "gone"])
def test_features_that_are_damaged_are_set_aside_and_made_again(trained, damage, caplog):
    first = scored(trained, metrics=("kid",))
    path = Store(trained).cell(CELL.key, FEATURES)
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[-1] ^= 1
        path.write_bytes(content[:200] if damage == "cut short" else content)
    again = scored(trained, metrics=("kid", "precision"))
    assert again.measurements["kid"] == first.measurements["kid"]
    assert ("was damaged" in caplog.text) == (damage != "gone")


@pytest.mark.parametrize("damage", ["cut short", "one bit"])
def test_reference_features_that_are_damaged_are_made_again(trained, damage):
    first = scored(trained, metrics=("kid",))
    path = Store(trained).reference(first.reference_features)
    content = bytearray(path.read_bytes())
    content[-1] ^= 64  # the exponent of a number
    path.write_bytes(content[:200] if damage == "cut short" else content)
    read_once.cache_clear()  # as in another process
    later = scored(trained, metrics=("kid", "precision"))
    assert later.measurements["precision"].value == scored_alone(trained, "precision")


@pytest.mark.parametrize("damage", ["newer", "gone"])
def test_influences_of_another_result_are_made_again_from_features(trained, request, damage):
    """As a kill leaves them between the file and the result that names its checksum: those of
    all that was measured, whatever is asked for now."""
    first = scored(trained, reference_variance=True)
    path = Store(trained).cell(CELL.key, "influence.npz")
    path.unlink() if damage == "gone" else path.write_bytes(b"newer")
    request.getfixturevalue("no_sampling")
    later = scored(trained, metrics=("kid", "precision"))
    assert {*later.measurements} == {"kid", "fid", "precision"}
    for name in ("kid", "fid"):
        assert later.measurements[name] == first.measurements[name]
        assert (later.influence(name) == first.influence(name)).all()
        assert (later.reference_influence(name) == first.reference_influence(name)).all()
    assert Store(trained).cell_result(CELL.key) == later


def test_a_metric_that_is_not_here_any_more_keeps_its_value_beside_damaged_influences(trained):
    first = scored(trained, metrics=("kid",))
    known = {**first.measurements, "theirs": first.measurements["kid"]}
    Store(trained).keep(replace(first, measurements=known))
    Store(trained).cell(CELL.key, "influence.npz").write_bytes(b"newer")
    assert scored(trained).measurements["theirs"] == first.measurements["kid"]


def test_kept_features_are_not_held_against_those_of_another_kind(trained):
    result = scored(trained, metrics=("kid",))
    other = replace(result.provenance, extractor_fingerprint="other weights")
    Store(trained).keep(replace(result, provenance=other))
    with pytest.raises(DataError, match="weights of the extractor"):
        scored(trained, metrics=("kid", "fid"))


def test_a_cell_refuses_weights_that_are_not_those_it_names(trained):
    with pytest.raises(DataError, match="weights of the extractor 'digits'"):
        scored(trained, replace(CELL, extractor_fingerprint="other weights"))


def test_images_that_are_not_finite_fail_the_cell_that_they_are_of(tmp_path):
    schedule = Part.of("linear", {"beta_end": 0.5})
    exact = replace(TRAINING, model=Part("exact"), training_steps=0, schedule=schedule)
    training = replace(exact, data=Part.of("gaussian", {"size": 8}), target="noise")
    network = replace(TRAINING, schedule=schedule, training_steps=1)
    train(TrainJob(network, threads=1), at(tmp_path), quietly)
    cell = replace(CELL, training=network, sample_schedule=schedule, clip=False)
    with pytest.raises(NotFinite, match=cell.key):
        scored(tmp_path, cell)
    assert Store(tmp_path).cell_result(cell.key) is None
    fine = replace(CELL, training=training, sample_schedule=schedule, extractor=Part("pixels"))
    assert math.isfinite(scored(tmp_path, fine).measurements["kid"].value)


def test_a_cell_is_clipped_as_it_says(trained):
    ways = (False, True, Part("dynamic"), Part.of("dynamic", {"quantile": 0.5}))
    found = [scored(trained, replace(CELL, clip=clip)) for clip in ways]
    assert len({one.measurements["kid"].value for one in found}) == 4
    assert [one.cell.clip for one in found] == [*ways]
    again = from_json(CellResult, to_json(found[3]), found[3].artifacts.read_from, "here")
    assert again.cell == found[3].cell


def test_features_that_are_not_finite_fail_the_cell(trained, monkeypatch):
    def infinite(extract, images, device, report):
        return np.full((len(images), 4), np.inf)

    monkeypatch.setattr(module, "in_chunks", infinite)
    with pytest.raises(HarnessError, match=f"cell {CELL.key} .* not finite"):
        scored(trained)


def test_a_metric_whose_code_changed_is_evaluated_again_from_kept_features(trained, monkeypatch):
    """And it takes the place of what the other code found, or could not find."""
    first = scored(trained)
    monkeypatch.setattr(module, "sample", lambda *_, **__: 1 / 0)

    def scored_by(function, source):
        changed = replace(METRICS["kid"], function=function)
        monkeypatch.setitem(METRICS._builtin, "kid", changed)
        monkeypatch.setattr(METRICS, "source", lambda name: source if name == "kid" else "")
        return scored(trained)

    second = scored_by(lambda *_: 7.0, "mine 2.0 #b")
    assert second.measurements["kid"].value == 7.0
    assert second.measurements["fid"] == first.measurements["fid"]
    assert second.metric_sources == {"kid": "mine 2.0 #b"}
    assert Store(trained).cell_result(CELL.key) == second
    third = scored_by(refusing, "mine 3.0 #c")
    assert {*third.measurements} == {"fid"}
    assert third.undefined == {"kid": "too few images"}


def refusing(features, reference):
    raise NotDefined("too few images")


# At the checkpoint.


@pytest.mark.parametrize("metric", ["kid", "fid"])
def test_a_checkpoint_with_the_final_weights_gives_the_cells_own_value(trained, metric):
    shutil.copy(weights_of(trained), weights_of(trained, CHECKPOINT))
    unchecked(trained)
    final, earlier = (scored(trained, cell, (metric,)) for cell in (CELL, EARLIER))
    assert earlier.measurements[metric] == final.measurements[metric]
    assert (earlier.influence(metric) == final.influence(metric)).all()


def unchecked(folder):
    """Let a test's own weights pass for those that were written."""
    store = Store(folder)
    result = store.training_result(TRAINING.key)
    store.keep(replace(result, artifacts=replace(result.artifacts, checksums={})))


def test_it_is_what_the_cell_would_be_with_those_weights(trained, tmp_path):
    earlier, final = (scored(trained, cell, ("kid",)) for cell in (EARLIER, CELL))
    other = tmp_path / "other"
    shutil.copytree(trained / "models", other / "models")
    shutil.copy(weights_of(other, CHECKPOINT), weights_of(other))
    unchecked(other)
    final_denoiser.cache_clear()
    expected = scored(other, metrics=("kid",))
    final_denoiser.cache_clear()
    assert earlier.measurements == expected.measurements != final.measurements
    assert (earlier.influence("kid") == expected.influence("kid")).all()


def test_it_is_a_cell_of_its_own_without_pictures_and_timed_once(trained, monkeypatch):
    asked = []

    def noted(*arguments, **keywords):
        asked.append(keywords["timings"])
        return sample(*arguments, **keywords)

    monkeypatch.setattr(module, "sample", noted)
    result = scored(trained, EARLIER, ("kid",))
    assert asked == [1]
    assert {*result.artifacts.checksums} == {"influence.npz", "path.csv", FEATURES}
    assert result.cell.key != CELL.key
    assert Store(trained).cell_result(CELL.key) is None


def test_a_training_that_kept_no_checkpoint_is_told_of(trained):
    weights_of(trained, CHECKPOINT).unlink()
    with pytest.raises(DataError, match="kept no checkpoint"):
        scored(trained, EARLIER, ("kid",))


def test_the_checkpoint_of_a_training_is_not_its_end(trained):
    early, late = (load_file(weights_of(trained, name)) for name in (CHECKPOINT, WEIGHTS))
    assert early.keys() == late.keys()
    assert any((early[name] != late[name]).any() for name in late)


# Pictures and curves.


def test_a_scored_cell_keeps_its_pictures_and_its_path(trained):
    result = scored(trained)
    sheet, film, nearest = (
        picture(result, f"{name}.png") for name in ("samples", "film", "nearest")
    )
    assert sheet.shape == (8 * 8, 8 * 8)  # 60 of 64 places
    assert film.shape == (4 * 8, 5 * 8)  # two images, held and estimated; 4 evaluations
    assert nearest.shape == (2 * 8, 8 * 8)
    assert (film[:8, -8:] == sheet[:8, :8]).all()
    assert (film[-8:, -8:] == sheet[:8, 8:16]).all()
    training = {image.tobytes() for image in DATASETS["digits"](None).train}
    assert {nearest[8:, 8 * n : 8 * n + 8].tobytes() for n in range(8)} <= training
    assert result.artifacts.table("path.csv")["t"].tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert "schedule.csv" not in result.artifacts.checksums  # the training has it


@pytest.mark.parametrize(("reference", "kept"), [("all", True), ("held_out", False)])
def test_nearest_images_are_training_images_or_none_at_all(trained, reference, kept):
    result = scored(trained, replace(CELL, reference=reference))
    assert ("nearest.png" in result.artifacts.checksums) == kept
    if kept:
        training = {image.tobytes() for image in DATASETS["digits"](None).train}
        below = picture(result, "nearest.png")[8:]
        assert {below[:, 8 * n : 8 * n + 8].tobytes() for n in range(8)} <= training


def test_pixel_spread_is_that_of_all_images_of_the_cell(trained):
    found = scored(trained).pixel_spread
    images = sample(CELL, final_denoiser(TRAINING, at(trained)), quietly).images
    real = DATASETS["digits"](None).train
    expected = images.astype(float).var(axis=0).mean() / real.astype(float).var(axis=0).mean()
    assert found.value == pytest.approx(math.sqrt(expected), rel=1e-9)
    assert 0.5 < found.predicted < 1


def test_an_exact_denoiser_of_gaussian_data_has_the_spread_that_is_predicted(tmp_path):
    data = Part.of("gaussian", {"size": 4})
    exact = replace(TRAINING, data=data, model=Part("exact"), training_steps=0)
    cell = replace(
        CELL, training=exact, sampler=Part("ddim"), images=1500, clip=False,
        extractor=Part("pixels"),
    )  # fmt: skip
    result = scored(tmp_path, cell)
    assert isinstance(result.pixel_spread, PixelSpread)
    assert result.pixel_spread.value == pytest.approx(result.pixel_spread.predicted, rel=0.02)
    assert result.pixel_spread.predicted < 0.9
    # There are no training images to be near to, only a distribution.
    of_the_schedule = {"schedule.csv", "forward.png"}  # there is no training to keep them
    assert {*result.artifacts.checksums} == {*SMALL, *of_the_schedule, FEATURES} - {"nearest.png"}


# Costs.


def test_images_are_without_energy_where_the_machine_does_not_tell(trained, monkeypatch):
    monkeypatch.setattr(energy, "joules", lambda device: math.nan)
    assert scored(trained).cost.joules_per_image is None


def test_energy_is_that_of_the_sampling_over_its_images(trained, monkeypatch):
    counter = iter([1000.0, 1090.0])
    monkeypatch.setattr(energy, "joules", lambda device: next(counter))
    assert scored(trained).cost.joules_per_image == pytest.approx(90 / 60)


def test_cost_and_provenance_are_those_of_the_work(trained):
    result = scored(trained)
    assert result.cost.nfe == 4
    assert len(result.cost.seconds_per_image) >= 3
    assert result.feature_width == 64
    assert result.provenance.data == image_set(trained, CELL.training.data).fingerprint
    assert result.provenance.extractor == "digits"
    assert result.provenance.precision == "float32"
    assert result.path.clamped == 0


@pytest.mark.parametrize(("schedule", "left"), [("linear", 1.0), ("cosine", 0.95**2)])
def test_the_last_time_of_a_cell_may_leave_noise(schedule, left):
    cell = replace(CELL, sample_schedule=Part(schedule))
    assert sampling_path(cell).last_abar == pytest.approx(left)


# The scale.


def test_degraded_real_images_are_scored_as_the_real_ones_are(trained):
    from harness.data.degraded import half_resolution

    result = scored(trained)
    images = DATASETS["digits"](None)
    extract = extractor(trained, "cpu", CELL.extractor)
    train, real = (extract(part).astype(np.float64) for part in (images.train, images.held_out))
    worse = extract(half_resolution(images.held_out[: CELL.images])).astype(np.float64)
    kid = result.measurements["kid"]
    assert kid.baseline == pytest.approx(METRICS["kid"].function(real[:60], train), rel=1e-9)
    expected = METRICS["kid"].function(worse, train)
    assert kid.degraded["half_resolution"] == pytest.approx(expected, rel=1e-9)
    assert kid.degraded["half_resolution"] > kid.baseline
    assert {*kid.degraded} == {"half_resolution", "noisy", "pure_noise"}
    # Of digits of 8x8 pixels half the resolution leaves little; noise leaves nothing.
    assert kid.degraded["pure_noise"] > 1.2 * kid.degraded["half_resolution"]
    assert kid.degraded["pure_noise"] > 100 * kid.degraded["noisy"]
    assert result.measurements["fid"].degraded == {}  # of the metric that decides alone
    assert result.measurements["fid"].baseline_corrected < result.measurements["fid"].baseline
    assert result.baseline_images == 60


def test_the_metric_that_decides_has_its_scale_whatever_was_measured_before(
    trained, tmp_path, monkeypatch
):
    """And what had one keeps it."""
    shutil.copytree(trained / "models", tmp_path / "other" / "models")
    expected = scored(tmp_path / "other", metrics=("fid",)).measurements["fid"]
    assert {*expected.degraded} == {"half_resolution", "noisy", "pure_noise"}
    first = scored(trained, metrics=("kid", "fid"))
    monkeypatch.setattr(module, "sample", None)
    assert lacking(first, ("kid", "fid")) == []
    assert lacking(first, ("fid",)) == ["fid"]
    later = scored(trained, metrics=("fid",))
    assert later.measurements == {"kid": first.measurements["kid"], "fid": expected}
    assert lacking(later, ("fid",)) == lacking(later, ("kid", "fid")) == []


def test_a_scale_from_before_it_reached_to_pure_noise_is_completed_from_kept_features(
    trained, monkeypatch
):
    expected, store = scored(trained), Store(trained)
    measured = {
        name: replace(one, degraded={n: x for n, x in one.degraded.items() if n != "pure_noise"})
        for name, one in expected.measurements.items()
    }
    old = replace(store.cell_result(CELL.key), measurements=measured)
    store.keep(old)
    assert lacking(old, ("kid", "fid")) == ["kid"]
    monkeypatch.setattr(module, "sample", None)
    completed = scored(trained)
    assert completed.measurements == expected.measurements
    assert lacking(completed, ("kid", "fid")) == []


def test_draws_from_a_distribution_lack_no_scale(tmp_path):
    exact = replace(
        TRAINING, data=Part.of("gaussian", {"size": 4}), model=Part("exact"), training_steps=0
    )
    cell = replace(CELL, training=exact, clip=False, extractor=Part("pixels"))
    result = scored(tmp_path, cell)
    assert result.measurements["fid"].degraded == {}
    assert lacking(result, ("fid",)) == lacking(result, ("kid",)) == []


def test_without_other_real_images_there_is_no_scale(trained):
    result = scored(trained, replace(CELL, reference="all"))
    assert result.measurements["kid"].degraded == {}
    assert result.measurements["kid"].baseline is None
    assert result.baseline_images is None
