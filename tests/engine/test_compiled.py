"""Compiled networks: the same numbers within rounding, and none where there is no compiler."""

import shutil
from dataclasses import replace

import made
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness.engine import compiled as module
from harness.engine import denoisers as denoisers_module
from harness.engine import steps as steps_module
from harness.engine.compiled import COST, GAIN, Compiled, compiled, pays
from harness.engine.denoisers import denoiser_of
from harness.engine.score import ScoreJob, score
from harness.engine.share import Share
from harness.engine.train import TrainJob, train
from harness.execute.progress import Stopped
from harness.models.presets import MODELS
from harness.store import FEATURES, WEIGHTS, Store
from harness.work.options import Workplace

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="there is no C++ compiler here"
)
TRAINING = replace(made.TRAINING, training_steps=12, batch_size=8)
CELL = replace(made.CELL, training=TRAINING, steps=3, images=70)


def quiet(progress):
    pass


def train_in(folder, report=quiet, compile=False):
    return train(TrainJob(TRAINING, 1, compile), Workplace(folder, folder, "cpu"), report)


def score_in(folder, compile):
    job = ScoreJob(CELL, ("kid",), compile=compile)
    return score(job, Workplace(folder, folder, "cpu"), quiet)


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
    result = train_in(tmp_path / "a", compile=True)
    assert "division by zero" in result.provenance.compile_trouble
    assert not result.provenance.is_compiled
    plain = train_in(tmp_path / "b")
    assert (plain.provenance.is_compiled, plain.provenance.compile_trouble) == (False, "")
    assert plain.loss == result.loss


def test_a_network_that_cannot_be_compiled_is_sampled_as_it_is_and_says_why(tmp_path, monkeypatch):
    train_in(tmp_path)
    monkeypatch.setattr(module.torch, "compile", lambda *_, **__: 1 / 0)
    made_by = score_in(tmp_path, compile=True).provenance
    assert "division by zero" in made_by.compile_trouble
    assert not made_by.is_compiled


def test_batches_too_large_to_compile_are_halved(tmp_path, monkeypatch):
    train_in(tmp_path)
    tried = []

    def only_small(network, shapes, *arguments, **options):
        tried.append([size for size, *_ in shapes])
        if max(tried[-1]) > 20:
            raise torch.OutOfMemoryError("too large")
        return Compiled(network, 1.0)

    monkeypatch.setattr(denoisers_module, "compiled", only_small)
    made = denoiser_of(CELL, Workplace(tmp_path, tmp_path, "cpu"), compile=True)
    assert tried == [[70], [35], [18]]
    assert made.compile_seconds == 1.0


def test_each_process_compiles_for_its_share_of_the_batch(tmp_path, monkeypatch):
    seen = []

    def only_look(network, shapes, *arguments, **options):
        seen.append(shapes)
        return Compiled(network)

    monkeypatch.setattr(steps_module, "compiled", only_look)
    monkeypatch.setattr(Share, "any", lambda share, happened: happened)  # the others are not here
    setting = steps_module.Setting.of(TRAINING, Workplace(tmp_path, tmp_path, "cpu"))
    state = setting.first_state(1, is_compiled=True)
    for share in (Share(), Share(0, 3), Share(1, 3)):
        steps_module.ready(state, setting, share)
    assert seen == [[(8, 1, 8, 8)], [(2, 1, 8, 8)], [(3, 1, 8, 8)]]


def test_a_network_is_compiled_for_parts_of_a_batch_that_fit(tmp_path, monkeypatch):
    tried = []

    def only_small(network, shapes, *arguments, **options):
        tried.append([size for size, *_ in shapes])
        if max(tried[-1]) > 3:
            raise torch.OutOfMemoryError("too large")
        return Compiled(network)

    monkeypatch.setattr(steps_module, "compiled", only_small)
    batches_of_seven = replace(TRAINING, batch_size=7)
    setting = steps_module.Setting.of(batches_of_seven, Workplace(tmp_path, tmp_path, "cpu"))
    state = setting.first_state(1, is_compiled=True)
    steps_module.ready(state, setting)
    assert tried == [[7], [3, 4], [1, 2]]
    assert state.at_once == 2


@pytest.mark.slow
@needs_compiler
def test_a_compiled_training_in_parts_ends_in_the_same_weights(tmp_path, monkeypatch):
    train_in(tmp_path / "plain")
    first_state = steps_module.Setting.first_state

    def in_parts(*given):
        state = first_state(*given)
        state.at_once = 3  # of 8: two of 3, and one of 2
        return state

    monkeypatch.setattr(steps_module.Setting, "first_state", in_parts)
    made_by = train_in(tmp_path / "parts", compile=True).provenance
    assert (made_by.is_compiled, made_by.micro_batches) == (True, 3)
    mine, theirs = (
        load_file(Store(tmp_path / folder).model(TRAINING.key, WEIGHTS))
        for folder in ("parts", "plain")
    )
    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, rtol=1e-3, atol=1e-4)


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
def test_a_network_compiled_to_be_sampled_is_not_compiled_again_for_its_samples():
    """Samplers call it in inference mode, whose tensors are of another kind to the compiler."""
    made = compiled(network().eval(), [(4, 1, 8, 8)], "float32", CPU, for_training=False)
    with torch._dynamo.config.patch(error_on_recompile=True), torch.inference_mode():
        made.network(torch.zeros(4, 1, 8, 8), torch.zeros(4))


@pytest.mark.slow
@needs_compiler
def test_a_compiled_training_has_the_same_losses_and_resumes_to_the_same_bits(tmp_path):
    def run(folder, report=quiet, compile=True):
        return train_in(tmp_path / folder, report, compile)

    plain, whole = run("plain", compile=False), run("whole")
    assert whole.loss == pytest.approx(plain.loss, rel=1e-4)
    assert whole.provenance.is_compiled
    assert whole.compile_seconds > 0

    def stop_half_way(progress):
        if progress.done == 6:
            raise Stopped

    with pytest.raises(Stopped):
        run("parts", stop_half_way)
    resumed = run("parts", compile=False)  # it goes on as it began
    assert resumed.provenance.is_compiled
    weights = [
        Store(tmp_path / folder).model(TRAINING.key, WEIGHTS).read_bytes()
        for folder in ("whole", "parts")
    ]
    assert weights[0] == weights[1]


@pytest.mark.slow
@needs_compiler
def test_a_compiled_cell_has_the_same_images_within_rounding(tmp_path):
    train_in(tmp_path / "store")
    shutil.copytree(tmp_path / "store", tmp_path / "other")
    features = []
    for folder, compile in (("store", False), ("other", True)):
        assert score_in(tmp_path / folder, compile).provenance.is_compiled == compile
        features.append(np.load(Store(tmp_path / folder).cell(CELL.key, FEATURES)))
    # An image that is rounded to another byte moves its features a little.
    assert np.abs(features[0] - features[1]).mean() < 1e-2 * np.abs(features[0]).mean()
