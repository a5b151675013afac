"""Sampling a network: the same images however they are batched, and honest counts."""

from dataclasses import replace

import made
import numpy as np
import pytest
import torch

from harness.data.datasets import DATASETS
from harness.engine import sample as module
from harness.engine.memory import in_halves
from harness.engine.network import (
    format_as_trained,
    log_snr_range,
    make_schedule,
    with_weights,
)
from harness.engine.pictures import legible_sheet, sheet
from harness.engine.sample import NotFinite, preview, sample
from harness.errors import MachineError
from harness.execute import machine
from harness.plan.forecast import Forecast
from harness.work import timing
from harness.work.cells import Part
from harness.work.execution import Format
from harness.work.speeds import Speeds
from harness.work.timing import TIMINGS

CPU = torch.device("cpu")
TRAINING = replace(
    made.TRAINING,
    model=Part.of("tiny", {"widths": (8, 16)}),
    schedule=Part("linear"),
    training_steps=1,
    batch_size=1,
)


def cell(sampler="ddim", steps=4, images=150, **options):
    return replace(
        made.CELL,
        training=TRAINING,
        sample_schedule=TRAINING.schedule,
        sampler=Part.of(sampler, options),
        steps=steps,
        images=images,
        sampling_seed=5,
    )


@pytest.fixture(scope="module")
def trained():
    """A network with weights that do something: the untrained one predicts 0."""
    images = DATASETS["digits"](None)
    from harness.engine.network import build

    weights = build(TRAINING, 1, 8, CPU).state_dict()
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: value + 0.1 * torch.randn(value.shape, generator=generator)
        for name, value in weights.items()
    }
    return with_weights(TRAINING, weights, images, CPU)


def quietly(progress):
    pass


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "ddpm_large"])
def test_images_do_not_depend_on_the_batch_size(trained, monkeypatch, sampler):
    whole = sample(cell(sampler), trained, quietly).images
    monkeypatch.setattr(
        module, "batches_of", lambda images, device: [range(0, 64), range(64, 128), range(128, 150)]
    )
    parted = sample(cell(sampler), trained, quietly).images
    # Equal within rounding: a convolution may sum in another order for another batch size.
    assert np.abs(whole.astype(int) - parted.astype(int)).max() <= 1


def test_the_first_images_of_a_cell_are_the_same_however_many_are_wanted(trained):
    few = sample(cell(), trained, quietly, images=10).images
    many = sample(cell(), trained, quietly).images
    assert np.abs(few.astype(int) - many[:10].astype(int)).max() <= 1


def test_evaluations_are_counted_per_image(trained):
    samples = sample(cell(steps=7), trained, quietly)
    assert samples.nfe == 7
    assert samples.images.shape == (150, 1, 8, 8)
    assert samples.images.dtype == np.uint8


def test_enough_batches_are_timed_for_a_median(trained):
    seconds = sample(cell(images=20), trained, quietly, timings=TIMINGS).seconds_per_image
    assert len(seconds) == TIMINGS
    assert all(value > 0 for value in seconds)
    assert len(sample(cell(images=20), trained, quietly).seconds_per_image) == 1


@pytest.mark.parametrize("patience", [0.0, 1e6])
@pytest.mark.parametrize("weights", ["final", "0.9"])
@pytest.mark.parametrize("images", [64, 65, 110, 256, 500])  # 1, 2 and 4 batches
def test_as_many_evaluations_are_made_as_are_foretold(
    trained, monkeypatch, images, weights, patience
):
    monkeypatch.setattr(timing, "PATIENCE_SECONDS", patience)
    monkeypatch.setattr(module, "largest_batch", lambda device: 64 if images < 500 else 128)
    asked = replace(cell(steps=2, images=images), weights=weights)
    seen = []
    hook = trained.network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    sample(asked, trained, quietly, timings=timing.timings_of(asked))
    hook.remove()
    speeds = Speeds(train=0.0, evaluate=1e-4, features=0.0, source="a guess")
    forecast = Forecast({TRAINING.model: speeds}, batch=module.largest_batch(CPU))
    assert forecast.evaluations([asked]) == sum(seen)


def test_progress_reaches_the_end(trained):
    seen = []
    sample(cell(), trained, lambda progress: seen.append((progress.done, progress.total)))
    assert max(done for done, _ in seen) >= seen[-1][1] - 1


def test_the_network_is_asked_only_about_what_it_was_trained_on():
    low, high = log_snr_range(make_schedule(Part("cosine")))
    assert low == pytest.approx(2 * np.log(0.02 / np.sqrt(1 - 0.02**2)), rel=1e-6)
    assert high == pytest.approx(2 * np.log(0.95 / np.sqrt(1 - 0.95**2)), rel=1e-6)
    _, first = log_snr_range(make_schedule(Part("linear")))
    assert first == pytest.approx(np.log((1 - 1e-4) / 1e-4), rel=1e-6)


def test_a_sheet_shows_images_row_by_row():
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1).repeat(2, 2).repeat(2, 3)
    pixels = np.asarray(sheet(images, columns=4))
    assert pixels.shape == (6, 8)
    assert pixels[::2, ::2].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 0]]


@pytest.mark.parametrize(
    ("count", "side", "times"), [(3, 8, 6), (1, 28, 2), (2, 64, 1), (20_000, 8, 1)]
)
def test_small_images_are_enlarged_in_a_sheet_as_far_as_there_is_room(count, side, times):
    images = np.random.default_rng(0).integers(0, 256, (count, 1, side, side), np.uint8)
    enlarged = np.asarray(legible_sheet(images))
    expected = np.asarray(sheet(images)).repeat(times, 0).repeat(times, 1)
    assert np.array_equal(enlarged, expected)


def test_a_preview_is_sixteen_images(trained):
    assert preview(trained).shape == (16, *trained.shape)


def test_images_that_are_not_finite_are_refused_by_the_name_of_their_cell(trained):
    # beta rises to 0.5: at t = 1 the rate of the signal is 2e-67, and the estimate overflows.
    schedule = Part.of("linear", {"beta_end": 0.5})
    wanted = replace(cell(), sample_schedule=schedule)
    with pytest.raises(NotFinite, match=f"cell {wanted.key} .*not finite.*Use "):
        sample(wanted, trained, quietly)


def test_a_batch_that_does_not_fit_is_halved_and_so_are_those_that_follow():
    tried = []

    def work(batch):
        tried.append(len(batch))
        if len(batch) > 40:
            raise torch.OutOfMemoryError
        return batch

    done = list(in_halves([range(128), range(128, 200)], work, "cpu"))
    assert tried == [128, 64, 32, 32, 32, 32, 32, 32, 8]
    assert [i for batch in done for i in batch] == list(range(200))


def test_where_not_one_image_fits_that_is_said():
    def work(batch):
        raise torch.OutOfMemoryError

    with pytest.raises(MachineError, match="one image"):
        list(in_halves([range(4)], work, "cpu"))


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_halved_batches_give_the_same_images_and_the_same_evaluations(
    trained, sampler, monkeypatch
):
    wanted = cell(sampler, steps=3, images=100)
    whole = sample(wanted, trained, quietly)
    real = module.starting_noise

    def tight(seed, images, shape):
        if len(images) > 30:
            raise torch.OutOfMemoryError
        return real(seed, images, shape)

    monkeypatch.setattr(module, "starting_noise", tight)
    halved = sample(wanted, trained, quietly)
    assert halved.nfe == whole.nfe == 3
    apart = np.abs(halved.images.astype(int) - whole.images.astype(int))
    assert apart.max() <= 1
    assert halved.film.png(halved.images)


def test_weights_rounded_once_give_the_bits_of_autocast(trained):
    from copy import deepcopy

    from harness.engine.network import Predictor, rounded_once

    x, log_snr = torch.randn(3, 1, 8, 8), torch.tensor([-3.0, 0.0, 4.0])
    network = deepcopy(trained.network)
    by_autocast = Predictor(network, "bfloat16")(x, log_snr)
    rounded = rounded_once(network, "bfloat16")
    assert torch.equal(Predictor(rounded, "bfloat16")(x, log_snr), by_autocast)
    kinds = {value.dtype for value in rounded.state_dict().values()}
    assert kinds == {torch.bfloat16, torch.float32}  # convolutions, and normalisations


def test_weights_that_a_layer_computes_on_are_not_rounded():
    from harness.engine.network import rounded_once

    class Standardised(torch.nn.Conv2d):
        pass

    assert rounded_once(Standardised(1, 8, 3), "bfloat16").weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("trained_in", "where", "sampled_in"),
    [
        (Format("float32", True), "here", Format("float32", True)),
        (Format("float32", True), "another", Format("float32", False)),  # as its rule has it
        (Format("bfloat16", True), "here", Format("bfloat16", True)),
        (Format("bfloat16", True), "another", Format("float32", False)),  # slow here, perhaps
    ],
)
def test_a_network_is_sampled_as_it_was_trained(monkeypatch, trained_in, where, sampled_in):
    monkeypatch.setattr(machine, "_cpu_can", lambda what: False)
    monkeypatch.setattr(machine, "name", lambda device: "here")
    anywhere = replace(TRAINING, precision="auto")
    provenance = replace(
        made.PROVENANCE, machine=where, precision=trained_in.precision,
        channels_last=trained_in.channels_last,
    )  # fmt: skip
    assert format_as_trained(anywhere, provenance, 8, CPU) == sampled_in
