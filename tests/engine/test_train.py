"""Training: that it learns, and that stopping and going on changes nothing."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import works
from PIL import Image
from safetensors.torch import load_file

from harness.engine.train import Diverged, TrainJob, learning_rate, train
from harness.errors import DataError
from harness.plan.work import Part
from harness.runtime.progress import Stopped
from harness.runtime.store import Store

TRAINING = replace(
    works.TRAINING,
    model=Part.of("tiny", {"widths": (8, 16)}),
    seed=3,
    training_steps=40,
    batch_size=32,
    learning_rate=2e-3,
    ema=0.99,
)


def job(folder, training=TRAINING):
    return TrainJob(training, folder, folder, "cpu", threads=1)


def quietly(progress):
    pass


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
    train(job(folder), quietly)
    return Store(folder)


@pytest.mark.parametrize("stops", [[1], [17], [7, 8, 31]])
def test_a_stopped_training_ends_in_the_same_weights_bit_for_bit(tmp_path, straight, stops):
    for step in stops:
        with pytest.raises(Stopped):
            train(job(tmp_path), StopAt(step))
        assert not Store(tmp_path).has_model(TRAINING.key)
    train(job(tmp_path), quietly)

    weights, expected = (
        load_file(store.model(TRAINING.key, "weights.safetensors"))
        for store in (Store(tmp_path), straight)
    )
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    losses, expected_losses = (
        store.model(TRAINING.key, "loss.csv").read_text() for store in (Store(tmp_path), straight)
    )
    assert losses == expected_losses


def test_a_finished_training_leaves_no_unfinished_state(straight):
    assert straight.trained(TRAINING.key)["metrics"]["loss"] > 0
    assert not straight.model(TRAINING.key, "state.safetensors").exists()


def checkpoint_of(folder, training=TRAINING):
    return Store(folder).model(training.key, "checkpoint.safetensors")


@pytest.mark.parametrize(("steps", "kept_at"), [(40, 36), (12, 11), (3, 3), (1, 1)])
def test_the_average_after_nine_tenths_of_a_training_is_kept(tmp_path, steps, kept_at):
    short = replace(TRAINING, training_steps=steps, batch_size=4)
    if kept_at > 1:
        with pytest.raises(Stopped):
            train(job(tmp_path, short), StopAt(kept_at - 1))
        assert not checkpoint_of(tmp_path, short).exists()
    with pytest.raises(Stopped):
        train(job(tmp_path, short), StopAt(kept_at))
    state = load_file(Store(tmp_path).model(short.key, "state.safetensors"))
    average = {name.removeprefix("average."): value for name, value in state.items()
               if name.startswith("average.")}  # fmt: skip
    kept = load_file(checkpoint_of(tmp_path, short))
    assert kept.keys() == average.keys()
    assert all(torch.equal(kept[name], average[name]) for name in average)


@pytest.mark.parametrize("stop", [20, 35, 36, 37])
def test_a_stopped_training_keeps_the_same_checkpoint(tmp_path, straight, stop):
    with pytest.raises(Stopped):
        train(job(tmp_path), StopAt(stop))
    train(job(tmp_path), quietly)
    mine, theirs = load_file(checkpoint_of(tmp_path)), load_file(checkpoint_of(straight.root))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_the_end_of_a_training_leaves_its_checkpoint_as_it_was(tmp_path, straight):
    with pytest.raises(Stopped):
        train(job(tmp_path), StopAt(36))
    assert checkpoint_of(tmp_path).read_bytes() == checkpoint_of(straight.root).read_bytes()
    final = load_file(straight.model(TRAINING.key, "weights.safetensors"))
    kept = load_file(checkpoint_of(straight.root))
    assert any(not torch.equal(kept[name], final[name]) for name in final)


def test_ten_sheets_are_drawn_on_the_way(straight):
    assert len(list(straight.model(TRAINING.key, "sheets").iterdir())) == 10


def test_seeds_give_different_networks(tmp_path, straight):
    other = replace(TRAINING, seed=4)
    train(job(tmp_path, other), quietly)
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
        train(job(tmp_path / "stopped", training), StopAt(3))
    for folder in ("stopped", "straight"):
        train(job(tmp_path / folder, training), quietly)
    weights, expected = (
        load_file(Store(tmp_path / folder).model(training.key, "weights.safetensors"))
        for folder in ("stopped", "straight")
    )
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize("target", ["noise", "image", "velocity"])
def test_training_lowers_the_loss(tmp_path, target):
    longer = replace(TRAINING, target=target, training_steps=120)
    outcome = train(job(tmp_path, longer), quietly)
    first = float(
        Store(tmp_path).model(longer.key, "loss.csv").read_text().splitlines()[1].split(",")[1]
    )
    assert outcome["metrics"]["loss"] < 0.7 * first


def test_an_unfinished_training_refuses_other_images(tmp_path, photographs):
    training = replace(TRAINING, data=photographs, training_steps=6, batch_size=4)
    with pytest.raises(Stopped):
        train(job(tmp_path, training), StopAt(3))
    for number in range(5):
        (tmp_path / "photographs" / f"{number}.png").unlink()
    with pytest.raises(DataError, match="saw other images"):
        train(job(tmp_path, training), quietly)


def test_half_a_saved_state_is_as_good_as_none(tmp_path, straight):
    with pytest.raises(Stopped):
        train(job(tmp_path), StopAt(20))
    saved = Store(tmp_path).model(TRAINING.key, "state.safetensors")
    saved.write_bytes(saved.read_bytes()[:1000])
    train(job(tmp_path), quietly)
    mine, theirs = (
        load_file(store.model(TRAINING.key, "weights.safetensors"))
        for store in (Store(tmp_path), straight)
    )
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_training_that_diverges_says_so(tmp_path):
    wild = replace(TRAINING, learning_rate=1e8, training_steps=60)
    with pytest.raises(Diverged, match="learning_rate"):
        train(job(tmp_path, wild), quietly)
    assert not Store(tmp_path).has_model(wild.key)


def test_the_learning_rate_rises_and_falls():
    rates = [learning_rate(TRAINING, step) for step in range(TRAINING.training_steps)]
    assert max(rates) == TRAINING.learning_rate
    assert rates[0] < rates[1] == max(rates)
    assert rates[-1] < 0.01 * max(rates)
    assert all(later <= earlier for earlier, later in pairwise(rates[1:]))
