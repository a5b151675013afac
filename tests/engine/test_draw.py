"""Images of a trained model on their own, and a probe of how fast it works."""

from dataclasses import replace

import made
import numpy as np
import pytest
from PIL import Image

from harness.engine import denoisers, steps
from harness.engine import probe as probe_module
from harness.engine.compiled import Compiled
from harness.engine.denoisers import denoiser_of
from harness.engine.probe import probe
from harness.engine.sample import draw
from harness.engine.score import ScoreJob, score
from harness.engine.train import TrainJob, train
from harness.work.cells import Part
from harness.work.options import Workplace

TRAINING = replace(made.TRAINING, training_steps=10)
CELL = replace(made.CELL, training=TRAINING, steps=3, images=64)


def quietly(progress):
    pass


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    at = Workplace(folder, folder, "cpu")
    train(TrainJob(TRAINING, threads=1), at, quietly)
    return at


def pixels(path):
    return np.asarray(Image.open(path))


def test_a_sheet_shows_the_first_images_of_the_cell(place, tmp_path):
    result = score(ScoreJob(CELL, ("kid",)), place, quietly)
    (tmp_path / "kept.png").write_bytes(result.artifacts.read("samples.png"))
    out = tmp_path / "sheet.png"
    draw(CELL, denoiser_of(CELL, place), out, images=8, report=quietly)
    kept, shown = pixels(tmp_path / "kept.png")[:8].astype(int), pixels(out).astype(int)
    times = len(shown) // len(kept)
    assert times > 1, "images of 8 pixels are too small to be looked at"
    found, expected = shown[::times, ::times], kept
    assert (shown == found.repeat(times, axis=0).repeat(times, axis=1)).all(), "it was smoothed"
    assert np.abs(found - expected).max() <= 1  # another batch size may round otherwise


def test_a_folder_has_a_picture_for_each_image_and_another_seed_other_ones(place, tmp_path):
    for name, seed in (("own", CELL.sampling_seed), ("other", 5)):
        cell = replace(CELL, sampling_seed=seed)
        draw(cell, denoiser_of(cell, place), tmp_path / name, images=3, report=quietly)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == [
            "00000.png", "00001.png", "00002.png"
        ]  # fmt: skip
    assert (pixels(tmp_path / "own/00000.png") != pixels(tmp_path / "other/00000.png")).any()


def test_a_probe_measures_each_kind_of_work(tmp_path):
    speeds = probe(CELL, Workplace(tmp_path / "no store", tmp_path, "cpu"))
    assert min(speeds.train, speeds.evaluate, speeds.features, speeds.memory) > 0
    assert speeds.width == 64
    assert speeds.parameters > 1000
    assert not (tmp_path / "no store").exists()


def test_a_probe_compiles_where_a_short_run_does_and_for_whole_batches_alone(tmp_path, monkeypatch):
    sizes = []

    def noted(network, shapes, *arguments, **options):
        def called(x, log_snr):
            sizes.append(len(x))
            return network(x, log_snr)

        return Compiled(called, 20.0)

    monkeypatch.setattr(probe_module, "pays", lambda *_: True)
    for module in (steps, denoisers):
        monkeypatch.setattr(module, "compiled", noted)
    speeds = probe(CELL, Workplace(tmp_path, tmp_path, "cpu"))
    assert speeds.compile == 20.0 + 20.0
    assert set(sizes) == {TRAINING.batch_size, CELL.images}


def test_on_a_processor_a_probe_compiles_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.compile", lambda *_, **__: 1 / 0)
    assert probe(CELL, Workplace(tmp_path, tmp_path, "cpu")).compile == 0


def test_an_exact_denoiser_trains_nothing(tmp_path):
    exact = replace(TRAINING, model=Part("exact"), training_steps=0)
    speeds = probe(replace(CELL, training=exact), Workplace(tmp_path, tmp_path, "cpu"))
    assert (speeds.train, speeds.parameters) == (0, 0)
    assert speeds.evaluate > 0
