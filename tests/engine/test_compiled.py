"""Compiled networks: the same numbers within rounding, and none where there is no compiler."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import works

from harness.engine import compiled as module
from harness.engine import score as score_module
from harness.engine import train as train_module
from harness.engine.compiled import COST, GAIN, Compiled, compiled, pays
from harness.engine.score import ScoreJob, network_of, score
from harness.engine.share import Share
from harness.engine.train import TrainJob, train
from harness.models.presets import MODELS
from harness.runtime.progress import Stopped
from harness.runtime.store import Store

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="there is no C++ compiler here"
)
TRAINING = replace(works.TRAINING, training_steps=12, batch_size=8)
CELL = replace(works.CELL, training=TRAINING, steps=3, images=70)


def quiet(progress):
    pass


def network():
    torch.manual_seed(0)
    made = MODELS.make("tiny", {"widths": (8,), "attention": ()}).build(1, 8)
    for parameter in made.parameters():  # its last layers begin at zero and would hide all
        torch.nn.init.normal_(parameter, std=0.1)
    return made


def test_only_long_work_pays_on_a_processor():
    assert not pays(0.99 * COST / GAIN, CPU)
    assert pays(1.01 * COST / GAIN, CPU)
    assert pays(1.0, torch.device("cuda"))


def test_without_a_compiler_the_network_is_used_as_it_is(monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("no C++ compiler\nmany lines more")

    monkeypatch.setattr(module.torch, "compile", broken)
    own = network()
    made = compiled(own, [(2, 1, 8, 8)], "float32", CPU, for_training=True)
    assert made.network is own
    assert made.trouble == "no C++ compiler"


def test_a_network_that_cannot_be_compiled_still_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(module.torch, "compile", lambda *_, **__: 1 / 0)
    outcome = train(TrainJob(TRAINING, tmp_path / "a", tmp_path, "cpu", 1, compile=True), quiet)
    assert "division by zero" in outcome["compiled"]
    plain = train(TrainJob(TRAINING, tmp_path / "b", tmp_path, "cpu", 1), quiet)
    assert plain["compiled"] == "False"
    assert plain["metrics"]["loss"] == outcome["metrics"]["loss"]


def test_a_network_that_cannot_be_compiled_is_sampled_as_it_is_and_says_why(tmp_path, monkeypatch):
    train(TrainJob(TRAINING, tmp_path, tmp_path, "cpu", 1), quiet)
    monkeypatch.setattr(module.torch, "compile", lambda *_, **__: 1 / 0)
    outcome = score(ScoreJob(CELL, ("kid",), tmp_path, tmp_path, "cpu", compile=True), quiet)
    assert "division by zero" in outcome["compiled"]
    trained = network_of(ScoreJob(CELL, ("kid",), tmp_path, tmp_path, "cpu", compile=True))
    assert trained.compiled is None


def test_batches_too_large_to_compile_are_halved(tmp_path, monkeypatch):
    train(TrainJob(TRAINING, tmp_path, tmp_path, "cpu", 1), quiet)
    tried = []

    def only_small(network, shapes, *arguments, **options):
        tried.append([size for size, *_ in shapes])
        if max(tried[-1]) > 20:
            raise torch.OutOfMemoryError("too large")
        return Compiled(network, 1.0)

    monkeypatch.setattr(score_module, "compiled", only_small)
    made = network_of(ScoreJob(CELL, ("kid",), tmp_path, tmp_path, "cpu", compile=True))
    assert tried == [[70], [35], [18]]
    assert made.compile_seconds == 1.0


def test_each_process_compiles_for_its_share_of_the_batch(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        train_module, "compiled", lambda network, shapes, *_, **__: seen.append(shapes)
    )
    setting = train_module.Setting.of(TRAINING, tmp_path, CPU)
    state = setting.first_state(1, is_compiled=True)
    for share in (Share(), Share(0, 3), Share(1, 3)):
        train_module.ready(state, setting, share)
    assert seen == [[(8, 1, 8, 8)], [(2, 1, 8, 8)], [(3, 1, 8, 8)]]


@pytest.mark.slow
@needs_compiler
def test_a_compiled_network_gives_the_same_numbers_and_keeps_its_weights():
    own, other = network(), network()
    made = compiled(own, [(4, 1, 8, 8)], "float32", CPU, for_training=True)
    assert made.trouble == ""
    assert made.seconds > 0
    x, log_snr = torch.randn(4, 1, 8, 8), torch.randn(4)
    assert torch.allclose(made.network(x, log_snr), other(x, log_snr), atol=1e-5)
    for one, another in zip(own.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, another)
        assert one.grad is None


@pytest.mark.slow
@needs_compiler
def test_a_compiled_training_has_the_same_losses_and_resumes_to_the_same_bits(tmp_path):
    def run(folder, report=quiet, compile=True):
        job = TrainJob(TRAINING, tmp_path / folder, tmp_path, "cpu", 1, compile=compile)
        return train(job, report)

    plain, whole = run("plain", compile=False), run("whole")
    assert whole["metrics"]["loss"] == pytest.approx(plain["metrics"]["loss"], rel=1e-4)
    assert whole["compiled"] == "True"
    assert whole["metrics"]["compile_seconds"] > 0

    def stop_half_way(progress):
        if progress.done == 6:
            raise Stopped

    with pytest.raises(Stopped):
        run("parts", stop_half_way)
    resumed = run("parts", compile=False)  # it goes on as it began
    assert resumed["compiled"] == "True"
    weights = [
        Store(tmp_path / folder).model(TRAINING.key, "weights.safetensors").read_bytes()
        for folder in ("whole", "parts")
    ]
    assert weights[0] == weights[1]


@pytest.mark.slow
@needs_compiler
def test_a_compiled_cell_has_the_same_images_within_rounding(tmp_path):
    train(TrainJob(TRAINING, tmp_path / "store", tmp_path, "cpu", 1), quiet)
    shutil.copytree(tmp_path / "store", tmp_path / "other")
    features = []
    for folder, compile in (("store", False), ("other", True)):
        job = ScoreJob(CELL, ("kid",), tmp_path / folder, tmp_path, "cpu", compile=compile)
        json.dumps(score(job, quiet))
        features.append(np.load(Store(tmp_path / folder).features(CELL.key)))
    # An image that is rounded to another byte moves its features a little.
    assert np.abs(features[0] - features[1]).mean() < 1e-2 * np.abs(features[0]).mean()
