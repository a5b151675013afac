"""Training: that it learns, and that stopping and going on changes nothing."""

import hashlib
import io
import pickle
import shutil
from dataclasses import replace
from itertools import pairwise

import made
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from harness.data.datasets import DATASETS
from harness.engine.hyperparameters import learning_rate
from harness.engine.inputs import image_set
from harness.engine.network import load_trained
from harness.engine.state import DIGEST, digest_of
from harness.engine.train import Diverged, TrainJob, train
from harness.errors import DataError, StoreError, say_once
from harness.execute.here import here
from harness.execute.progress import Stopped
from harness.store import DECAYS, Store
from harness.work.cells import Part
from harness.work.options import Workplace

TRAINING = replace(
    made.TRAINING,
    model=Part.of("tiny", {"widths": (8, 16)}),
    seed=3,
    training_steps=40,
    batch_size=32,
    learning_rate=2e-3,
    ema=0.99,
)


def quietly(progress):
    pass


def train_in(folder, report=quietly, training=TRAINING):
    return train(TrainJob(training, threads=1), Workplace(folder, folder, "cpu"), report)


def state_in(folder, training=TRAINING):
    return Store(folder).state(training)


class StopAt:
    """A `report` that asks the work to stop at one step."""

    def __init__(self, step):
        self.step = step

    def __call__(self, progress):
        if progress.done == self.step:
            raise Stopped


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The store of a training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("straight")
    train_in(folder)
    return Store(folder)


@pytest.mark.parametrize("stops", [[1], [17], [7, 8, 31]])
def test_a_stopped_training_ends_in_the_same_weights_bit_for_bit(tmp_path, straight, stops):
    for step in stops:
        with pytest.raises(Stopped):
            train_in(tmp_path, StopAt(step))
        assert not Store(tmp_path).has_model(TRAINING.key)
    train_in(tmp_path)

    weights, expected = (
        load_file(store.model(TRAINING.key, "weights.safetensors"))
        for store in (Store(tmp_path), straight)
    )
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    result, expected = (
        store.training_result(TRAINING.key) for store in (Store(tmp_path), straight)
    )
    assert result.loss_curve == expected.loss_curve
    assert result.loss_by_time == expected.loss_by_time
    assert result.denoising == expected.denoising


def test_a_training_by_muon_goes_on_bit_for_bit_and_learns(tmp_path):
    training = replace(TRAINING, optimizer="muon", training_steps=20)
    whole = train_in(tmp_path / "straight", training=training)
    with pytest.raises(Stopped):
        train_in(tmp_path / "stopped", StopAt(7), training)
    again = train_in(tmp_path / "stopped", training=training)
    assert again.loss_curve == whole.loss_curve
    assert again.denoising == whole.denoising
    assert whole.loss_curve[-1].loss < whole.loss_curve[0].loss


# Trainings that differ in the decay of their averages alone.

SIBLINGS = tuple(replace(TRAINING, ema=decay) for decay in (0.5, 0.9, TRAINING.ema))


def train_together(folder, report=quietly, trainings=SIBLINGS):
    job = TrainJob(trainings[0], threads=1, siblings=tuple(trainings[1:]))
    return train(job, Workplace(folder, folder, "cpu"), report)


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """The store of the same trainings, one by one."""
    folder = tmp_path_factory.mktemp("apart")
    for training in SIBLINGS:
        train_in(folder, training=training)
    return Store(folder)


def are_as_alone(store, alone, trainings=SIBLINGS):
    """That every file of these trainings is, bit for bit, what it is where each is done alone."""
    for one in trainings:
        mine, theirs = (each.training_result(one.key) for each in (store, alone))
        assert mine.artifacts == theirs.artifacts
        assert not store.lacking(mine, mine.artifacts.checksums.keys() - {"schedule.csv"})
        assert (mine.loss_curve, mine.loss_by_time) == (theirs.loss_curve, theirs.loss_by_time)
        assert not any(path.exists() for path in store.states([one]))


@pytest.mark.parametrize("stops", [[], [17], [7, 36, 40]])
def test_averages_of_the_same_steps_are_those_of_trainings_apart(tmp_path, apart, stops):
    for step in stops:
        with pytest.raises(Stopped):
            train_together(tmp_path, StopAt(step))
    result = train_together(tmp_path)
    are_as_alone(Store(tmp_path), apart)
    shared = [Store(tmp_path).training_result(one.key) for one in SIBLINGS]
    assert shared[0] == result
    assert {one.seconds for one in shared} == {result.seconds}
    assert [one.shared_with for one in shared] == ["", result.training.key, result.training.key]


@pytest.mark.slow
def test_averages_that_two_processes_make_are_those_of_trainings_apart(tmp_path, apart):
    others = [replace(one, seed=5) for one in SIBLINGS]
    jobs = [TrainJob(first, 1, siblings=tuple(rest)) for first, *rest in (SIBLINGS, others)]
    at = Workplace(tmp_path, tmp_path, "cpu")
    for job, result in here(train, jobs, at, lambda *_: None, lambda: False, workers=2):
        assert result == Store(tmp_path).training_result(job.work.key)
        assert all(Store(tmp_path).has_model(one.key) for one in job.works)
    are_as_alone(Store(tmp_path), apart)


def test_a_process_killed_between_its_results_is_completed_without_a_step(
    tmp_path, apart, monkeypatch
):
    keep = Store.keep

    def killed_before_the_last(store, result):
        if result.training == SIBLINGS[0]:
            raise KeyboardInterrupt
        keep(store, result)

    with pytest.raises(Stopped):
        train_together(tmp_path, StopAt(40))
    with monkeypatch.context() as patched:
        patched.setattr(Store, "keep", killed_before_the_last)
        with pytest.raises(KeyboardInterrupt):
            train_together(tmp_path)
    assert [Store(tmp_path).has_model(one.key) for one in SIBLINGS] == [False, True, True]
    steps = []
    train_together(tmp_path, lambda progress: steps.append(progress.done), SIBLINGS[:1])
    assert {*steps} == {40}  # while its error is measured
    are_as_alone(Store(tmp_path), apart)


def test_what_is_measured_at_the_end_can_be_stopped_and_goes_on_without_a_step(tmp_path, apart):
    heard = []

    def stopped_in_the_second(progress):
        heard.append(progress.done)
        if heard.count(40) == 100:
            raise Stopped

    with pytest.raises(Stopped):
        train_together(tmp_path, stopped_in_the_second)
    assert state_in(tmp_path).exists()
    left = [one for one in SIBLINGS if not Store(tmp_path).has_model(one.key)]
    assert left == [*SIBLINGS[:2]]  # what was measured is kept
    heard.clear()
    train_together(tmp_path, lambda progress: heard.append(progress.done), left)
    assert {*heard} == {40}
    are_as_alone(Store(tmp_path), apart)


@pytest.mark.parametrize("saved", [SIBLINGS[:2], SIBLINGS[2:]], ids=["lowest", "highest"])
def test_a_state_without_an_average_that_is_asked_for_begins_anew(tmp_path, apart, saved, caplog):
    say_once.cache_clear()
    with pytest.raises(Stopped):
        train_together(tmp_path, StopAt(20), saved)
    steps = []
    train_together(tmp_path, lambda progress: steps.append(progress.done))
    assert steps[0] == 1
    assert "begins anew" in caplog.text
    assert "damaged" not in caplog.text
    are_as_alone(Store(tmp_path), apart)


@pytest.mark.parametrize("asked", [SIBLINGS[:1], SIBLINGS[1:]], ids=["lowest", "others"])
def test_a_state_with_more_averages_than_are_asked_for_goes_on_with_all(tmp_path, apart, asked):
    with pytest.raises(Stopped):
        train_together(tmp_path, StopAt(20))
    steps = []
    train_together(tmp_path, lambda progress: steps.append(progress.done), asked)
    assert steps[0] == 21
    are_as_alone(Store(tmp_path), apart)
    assert not [*tmp_path.rglob("state.safetensors")]


def test_a_state_of_an_earlier_version_goes_on(tmp_path, straight):
    """It lay under the key of the training, and its average had no decay in its name."""
    with pytest.raises(Stopped):
        train_in(tmp_path, StopAt(20))
    saved, earlier = state_in(tmp_path), Store(tmp_path).model(TRAINING.key, "state.safetensors")
    with safe_open(saved, framework="pt") as file:
        kept = file.metadata()
    del kept[DECAYS], kept[DIGEST]
    tensors = {name.replace("average 0.99.", "average."): one
               for name, one in load_file(saved).items()}  # fmt: skip
    earlier.parent.mkdir(exist_ok=True)
    save_file(tensors, earlier, kept | {DIGEST: digest_of(TRAINING.key, tensors, kept)})
    saved.unlink()
    steps = []
    train_in(tmp_path, lambda progress: steps.append(progress.done))
    assert steps[0] == 21
    assert not earlier.exists()
    mine, theirs = (
        store.training_result(TRAINING.key).artifacts for store in (Store(tmp_path), straight)
    )
    assert mine.checksums["weights.safetensors"] == theirs.checksums["weights.safetensors"]


def test_each_average_has_sheets_of_its_own(tmp_path):
    alone, own, others = {}, {}, {}
    train_in(tmp_path / "alone", lambda progress: alone.update(progress.files), SIBLINGS[2])

    def seen(progress):
        own.update(progress.files)
        for key, files in progress.of_others.items():
            others.setdefault(key, {}).update(files)

    train_together(tmp_path, seen)
    assert others.keys() == {one.key for one in SIBLINGS[1:]}
    assert others[SIBLINGS[2].key] == alone != own


def test_a_finished_training_leaves_no_unfinished_state(straight):
    assert straight.training_result(TRAINING.key).loss > 0
    assert not [*straight.root.rglob("state.safetensors")]
    assert [path.name for path in (straight.root / "models").iterdir()] == [TRAINING.key]


def checkpoint_of(folder, training=TRAINING):
    return Store(folder).model(training.key, "checkpoint.safetensors")


@pytest.mark.parametrize(("steps", "kept_at"), [(40, 36), (12, 11), (3, 3), (1, 1)])
def test_the_average_after_nine_tenths_of_a_training_is_kept(tmp_path, steps, kept_at):
    short = replace(TRAINING, training_steps=steps, batch_size=4)
    if kept_at > 1:
        with pytest.raises(Stopped):
            train_in(tmp_path, StopAt(kept_at - 1), short)
        assert not checkpoint_of(tmp_path, short).exists()
    with pytest.raises(Stopped):
        train_in(tmp_path, StopAt(kept_at), short)
    average = {name.removeprefix("average 0.99."): value
               for name, value in load_file(state_in(tmp_path, short)).items()
               if name.startswith("average 0.99.")}  # fmt: skip
    kept = load_file(checkpoint_of(tmp_path, short))
    assert kept.keys() == average.keys()
    assert all(torch.equal(kept[name], average[name]) for name in average)


@pytest.mark.parametrize("stop", [20, 35, 36, 37])
def test_a_stopped_training_keeps_the_same_checkpoint(tmp_path, straight, stop):
    with pytest.raises(Stopped):
        train_in(tmp_path, StopAt(stop))
    train_in(tmp_path)
    mine, theirs = load_file(checkpoint_of(tmp_path)), load_file(checkpoint_of(straight.root))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_the_end_of_a_training_leaves_its_checkpoint_as_it_was(tmp_path, straight):
    with pytest.raises(Stopped):
        train_in(tmp_path, StopAt(36))
    assert checkpoint_of(tmp_path).read_bytes() == checkpoint_of(straight.root).read_bytes()
    final = load_file(straight.model(TRAINING.key, "weights.safetensors"))
    kept = load_file(checkpoint_of(straight.root))
    assert any(not torch.equal(kept[name], final[name]) for name in final)


def test_ten_sheets_are_reported_on_the_way(tmp_path):
    sheets = {}
    train_in(tmp_path, lambda progress: sheets.update(progress.files))
    assert list(sheets) == [f"sheets/step_{step:07d}.png" for step in range(4, 41, 4)]
    assert all(Image.open(io.BytesIO(content)).size == (64, 16) for content in sheets.values())


def test_the_result_is_kept_with_its_files_and_their_checksums(tmp_path):
    result = train_in(tmp_path)
    kept = Store(tmp_path).training_result(TRAINING.key)
    assert kept == result
    checksums = kept.artifacts.checksums
    curves = {"schedule.csv", "denoising.csv"}
    weights, pictures = (
        {"weights.safetensors", "checkpoint.safetensors"},
        {"forward.png", "looks.png"},
    )
    assert {*checksums} == weights | curves | pictures
    for name, expected in checksums.items():
        content = Store(tmp_path).model(TRAINING.key, name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == expected
    assert list(result.artifacts.table("schedule.csv")) == ["t", "alpha", "sigma", "log_snr"]
    shown = result.artifacts.table("denoising.csv")["held_out"]
    assert [*shown] == [one.held_out.value for one in result.denoising.levels]
    assert pickle.loads(pickle.dumps(result)) == result


def test_its_losses_are_means_over_all_steps_and_over_times(straight):
    result = straight.training_result(TRAINING.key)
    assert [point.step for point in result.loss_curve] == list(range(1, 41))
    losses = [point.loss for point in result.loss_curve]
    assert result.loss == pytest.approx(np.mean(losses[-4:]), rel=1e-6)  # of the last tenth
    bins = result.loss_by_time
    assert all(one.t_high - one.t_low == pytest.approx(0.05) for one in bins)
    assert min(losses[-4:]) / 5 < np.mean([one.loss for one in bins]) < 5 * max(losses[-4:])


def test_weights_that_a_training_does_not_have_or_that_are_damaged_are_refused(tmp_path, straight):
    images = DATASETS["digits"](None)
    with pytest.raises(StoreError, match="no finished training"):
        load_trained(TRAINING, Store(tmp_path), images, torch.device("cpu"))
    store = Store(tmp_path / "copy")
    shutil.copytree(straight.root, store.root)
    path = store.model(TRAINING.key, "weights.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # one bit of one weight
    path.write_bytes(content)
    with pytest.raises(StoreError, match="checksum"):
        load_trained(TRAINING, store, images, torch.device("cpu"))


def test_seeds_give_different_networks(tmp_path, straight):
    other = replace(TRAINING, seed=4)
    train_in(tmp_path, training=other)
    mine = load_file(Store(tmp_path).model(other.key, "weights.safetensors"))
    theirs = load_file(straight.model(TRAINING.key, "weights.safetensors"))
    assert any(not torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture
def photographs(tmp_path):
    """A folder of small colour images, of a size at which memory is laid out channels last."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(40):
        pixels = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return Part.of("folder", {"path": str(folder), "image_size": 32, "flip": True})


def test_colour_images_train_and_go_on_too(tmp_path, photographs):
    training = replace(TRAINING, data=photographs, training_steps=6, batch_size=4)
    with pytest.raises(Stopped):
        train_in(tmp_path / "stopped", StopAt(3), training)
    for folder in ("stopped", "straight"):
        train_in(tmp_path / folder, training=training)
    weights, expected = (
        load_file(Store(tmp_path / folder).model(training.key, "weights.safetensors"))
        for folder in ("stopped", "straight")
    )
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize("target", ["noise", "image", "velocity"])
def test_training_lowers_the_loss(tmp_path, target):
    longer = replace(TRAINING, target=target, training_steps=120)
    result = train_in(tmp_path, training=longer)
    assert result.loss < 0.7 * result.loss_curve[0].loss


def test_an_unfinished_training_refuses_other_images(tmp_path, photographs):
    training = replace(TRAINING, data=photographs, training_steps=6, batch_size=4)
    with pytest.raises(Stopped):
        train_in(tmp_path, StopAt(3), training)
    for number in range(5):
        (tmp_path / "photographs" / f"{number}.png").unlink()
    image_set(tmp_path, photographs, is_fresh=True)
    with pytest.raises(DataError, match="saw other images"):
        train_in(tmp_path, training=training)


def test_a_training_refuses_images_that_are_not_those_it_names(tmp_path, photographs):
    training = replace(TRAINING, data=photographs, training_steps=2, batch_size=4)
    named = replace(training, data_fingerprint=image_set(tmp_path, photographs).fingerprint)
    (tmp_path / "photographs" / "0.png").unlink()
    image_set(tmp_path, photographs, is_fresh=True)
    with pytest.raises(DataError, match="not those that training"):
        train_in(tmp_path, training=named)
    now = replace(training, data_fingerprint=image_set(tmp_path, photographs).fingerprint)
    assert train_in(tmp_path, training=now).provenance.data == now.data_fingerprint


def cut_short(saved):
    saved.write_bytes(saved.read_bytes()[:1000])


def without_its_last_tensor(saved):
    rewritten(saved, lambda tensors: tensors.pop("losses"))


def of_another_shape(saved):
    rewritten(saved, lambda tensors: tensors.update(losses=torch.zeros(7)))


def without_its_fields(saved):
    save_file(load_file(saved), saved)


def with_another_number(saved):
    content = bytearray(saved.read_bytes())
    content[-1000] ^= 64
    saved.write_bytes(content)


def of_another_training(saved):
    """As good as this one but for its seed."""
    other = replace(TRAINING, seed=TRAINING.seed + 1)
    with pytest.raises(Stopped):
        train_in(saved.parents[2], StopAt(20), training=other)
    shutil.copy(state_in(saved.parents[2], other), saved)


def without_one_field(saved):
    rewritten(saved, lambda tensors: None, leave_out="processes")


def rewritten(saved, change, leave_out=""):
    with safe_open(saved, framework="pt") as file:
        kept = {name: text for name, text in file.metadata().items() if name != leave_out}
    tensors = load_file(saved)
    change(tensors)
    save_file(tensors, saved, metadata=kept)


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        without_its_last_tensor,
        of_another_shape,
        without_its_fields,
        without_one_field,
        with_another_number,
        of_another_training,
    ],
)
def test_a_damaged_state_is_set_aside_and_as_good_as_none(tmp_path, straight, damage, caplog):
    with pytest.raises(Stopped):
        train_in(tmp_path, StopAt(20))
    saved = state_in(tmp_path)
    damage(saved)
    train_in(tmp_path)
    assert "was damaged" in caplog.text
    assert saved.with_name("state.safetensors.damaged").exists()
    mine, theirs = (
        load_file(store.model(TRAINING.key, "weights.safetensors"))
        for store in (Store(tmp_path), straight)
    )
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_training_that_diverges_says_so(tmp_path):
    wild = replace(TRAINING, learning_rate=1e8, training_steps=60)
    with pytest.raises(Diverged, match="learning_rate"):
        train_in(tmp_path, training=wild)
    assert not Store(tmp_path).has_model(wild.key)


def test_the_learning_rate_rises_and_falls():
    rates = [learning_rate(TRAINING, step) for step in range(TRAINING.training_steps)]
    assert max(rates) == TRAINING.learning_rate
    assert rates[0] < rates[1] == max(rates)
    assert rates[-1] < 0.01 * max(rates)
    assert all(later <= earlier for earlier, later in pairwise(rates[1:]))
