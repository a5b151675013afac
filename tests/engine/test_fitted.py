"""Cells whose steps are fitted to their network: fitted once, written out, and sampled as such."""

import io
import math
from dataclasses import replace

import made
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harness.diffusion.samplers import SAMPLERS
from harness.engine import fitted as module
from harness.engine.fitted import kept_fit, written_out
from harness.engine.sample import NotFinite
from harness.engine.score import ScoreJob, score
from harness.engine.train import TrainJob, train
from harness.store import Store
from harness.stored import sample_cell
from harness.work.cells import EXACT, Part
from harness.work.options import Workplace

FITTED = Part.of("fitted", {"candidates": 20, "images": 8})
TRAINING = replace(made.TRAINING, training_steps=20, batch_size=16)
CELL = replace(made.CELL, training=TRAINING, spacing=FITTED, steps=4, images=20)


def quietly(progress):
    pass


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    train(TrainJob(TRAINING, threads=1), Workplace(folder, folder, "cpu"), quietly)
    return Workplace(folder, folder, "cpu")


def scored(cell, at, **asked):
    return score(ScoreJob(cell, ("kid",), **asked), at, quietly)


@pytest.fixture
def fits(monkeypatch):
    """How many fits were made."""
    done, fit = [], module.fit
    monkeypatch.setattr(module, "fit", lambda *given: done.append(given) or fit(*given))
    return done


def test_the_times_are_recorded_and_written_out_they_give_the_same_images(at):
    result = scored(CELL, at)
    assert len(result.path.times) == 4
    assert result.path.times[0] == 1
    assert result.cost.nfe == 4  # for an image: fitting is told apart
    assert result.cost.fit_seconds > 0
    table = pd.read_csv(io.BytesIO(result.artifacts.read("path.csv")))
    assert table["t"].tolist() == [*result.path.times, 0]
    listed = scored(replace(CELL, spacing=Part.of("explicit", {"times": result.path.times})), at)
    assert listed.artifacts.read("samples.png") == result.artifacts.read("samples.png")
    assert listed.measurements == result.measurements
    assert listed.path.times == ()
    assert listed.cost.fit_seconds == 0


def test_cells_of_one_network_and_schedule_share_a_fit(at, fits):
    shared = Part.of("fitted", {"candidates": 10, "images": 4})
    one = replace(CELL, spacing=shared)
    scored(one, at)
    for other in [replace(one, steps=3), replace(one, sampler=Part("ddpm"))]:
        scored(other, at)
    assert len(fits) == 1
    for other in [replace(one, sample_schedule=Part("linear")), replace(one, clip=True)]:
        scored(other, at)
    assert len(fits) == 3


def test_a_damaged_fit_is_made_again_and_the_same(at, fits):
    before = scored(CELL, at)
    fits.clear()
    path = Store(at.store).fit(CELL)
    whole = path.read_text()
    path.write_text(whole.replace("1.0", "0.9", 1))
    again = replace(CELL, steps=5)
    scored(again, at)
    assert len(fits) == 1
    assert len([*path.parent.glob("fitted-*.damaged")]) == 1
    store = Store(at.store)
    denoiser = module.Trained  # not asked: the fit is whole again
    assert kept_fit(CELL, denoiser, store, quietly).path(4) == before.path.times


def test_timing_and_sampling_again_use_the_times_that_were_recorded(at, fits, tmp_path):
    before = scored(CELL, at)
    for path in Store(at.store).fit(CELL).parent.glob("fitted-*"):
        path.unlink()
    fits.clear()
    again = scored(CELL, at, retime=True)
    assert again.path == before.path
    assert again.cost.fit_seconds == before.cost.fit_seconds
    written = sample_cell(CELL.key, at, tmp_path / "sheet.png", 20).written
    kept = Image.open(io.BytesIO(before.artifacts.read("samples.png")))
    shown = Image.open(written).resize(kept.size, Image.Resampling.NEAREST)  # it was enlarged
    assert shown.tobytes() == kept.tobytes()
    assert not fits


def test_a_new_training_leaves_no_fit_of_the_old_one(at):
    scored(CELL, at)
    store = Store(at.store)
    assert store.fit(CELL).is_relative_to(store.folder(TRAINING))


def test_steps_are_fitted_to_an_exact_denoiser_too(tmp_path):
    exact = replace(
        made.TRAINING, data=Part("gaussian"), model=Part(EXACT), training_steps=0, ema=0.0
    )
    cell = replace(CELL, training=exact, extractor=Part("pixels"))
    result = scored(cell, Workplace(tmp_path, tmp_path, "cpu"))
    assert np.all(np.diff(result.path.times) < 0)
    assert result.path.clamped == 0


def test_fits_differ_by_how_estimates_are_clipped():
    clips = (False, True, Part("dynamic"), Part.of("dynamic", {"quantile": 0.9}))
    assert len({replace(CELL, clip=clip).fit_name for clip in clips}) == 4


def test_images_that_are_not_finite_are_told_by_the_key_of_the_cell_that_was_asked_for(
    at, monkeypatch
):
    monkeypatch.setitem(SAMPLERS._builtin, "ddim", overflows)
    cell = replace(CELL, sampling_seed=5)
    with pytest.raises(NotFinite, match=cell.key):
        scored(cell, at)


def overflows(denoise, schedule, x, times, draw, **options):
    for t in times[:-1]:
        denoise(x, t)
    return x * math.inf


def test_what_is_not_fitted_is_left_as_it_is():
    assert written_out(made.CELL, ()) is made.CELL


def test_a_fit_has_a_key_of_its_own_by_its_options():
    keys = {replace(CELL, spacing=part).key for part in (Part("fitted"), FITTED, Part("trailing"))}
    assert len(keys) == 3
