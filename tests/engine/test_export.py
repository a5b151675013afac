"""A network that is written out gives under diffusers the images that it gives here."""

import sys
from dataclasses import replace

import made
import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler

from harness.data.digits import digits
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.times import trailing
from harness.engine.export import betas_of, check_exportable, export, network_source
from harness.engine.network import build, make_schedule, with_weights
from harness.errors import BadOption
from harness.work.cells import Part

STEPS, IMAGES = 20, 3
CPU = torch.device("cpu")
# The schedule that was trained under, and what the network predicts.
TRAINED = [
    ("linear", "noise"),
    ("cosine", "velocity"),
    ("cosine_discrete", "image"),
    ("flow", "flow"),
    ("sigmoid", "edm"),
]


def network_of(tmp_path, **changes):
    """A network whose weights, which begin at zero, were moved at random."""
    training = replace(made.TRAINING, **changes)
    images = digits(tmp_path)
    weights = build(training, 1, 8, CPU).state_dict()
    generator = torch.Generator().manual_seed(3)
    moved = {
        name: each + 0.1 * torch.randn(each.shape, generator=generator)
        for name, each in weights.items()
    }
    return with_weights(training, moved, images, CPU)


def cell_of(trained):
    training = trained.training
    return replace(made.CELL, training=training, sample_schedule=training.schedule, steps=STEPS)


def noise(seed=7):
    return torch.randn(IMAGES, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def ours(trained):
    schedule = make_schedule(trained.training.schedule)
    times = trailing(schedule, STEPS)
    with torch.inference_mode():
        denoise = trained.denoiser(schedule)
        return SAMPLERS["ddim"](denoise, schedule, noise(), times, lambda: torch.empty(0))


@pytest.mark.parametrize(("schedule", "target"), TRAINED)
def test_a_pipeline_of_diffusers_gives_our_images(schedule, target, tmp_path):
    trained = network_of(tmp_path, schedule=Part(schedule), target=target)
    folder = export(cell_of(trained), trained, tmp_path / "net")
    pipeline = DDIMPipeline.from_pretrained(folder, trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        batch_size=IMAGES, generator=torch.Generator().manual_seed(7), num_inference_steps=STEPS,
        output_type="np",
    ).images  # fmt: skip
    expected = (ours(trained) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    assert expected.std() > 0.05
    assert np.abs(drawn - expected).max() < 1e-4


def test_a_network_of_other_units_gives_its_images_by_the_loop_of_its_card(tmp_path, monkeypatch):
    trained = network_of(tmp_path, scale="unit")
    folder = export(cell_of(trained), trained, tmp_path / "net")
    assert not (folder / "model_index.json").exists()
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = code.replace("FOLDER", str(folder)).replace("torch.randn(16,", "torch.randn(3,")
    code = code.replace("x = torch", "torch.manual_seed(7)\nx = torch")
    monkeypatch.setattr(sys, "path", [*sys.path])
    names = {}
    exec(code, names)
    expected = trained.scale.to_bytes(ours(trained)) / 255
    assert np.abs(names["images"].numpy() - expected).max() < 0.5 / 255 + 1e-3


def test_the_code_of_a_network_needs_no_harness():
    source = network_source()
    compile(source, "network.py", "exec")
    assert "import harness" not in source
    assert "from harness" not in source


@pytest.mark.parametrize("name", ["linear", "cosine", "flow", "log_snr_linear"])
def test_a_table_of_betas_says_the_schedule(name):
    schedule = make_schedule(Part(name))
    scheduler = DDIMScheduler(trained_betas=betas_of(schedule))
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    difference = scheduler.alphas_cumprod - schedule.alpha(t) ** 2
    assert difference.abs().max() < 1e-5


@pytest.mark.parametrize(
    "changes",
    [
        {"model": Part("exact")},
        {"model": Part.of("diffusers", {"path": "net"})},
        {"model": Part("tiny", (), "another 1.0 #a")},
        {"target": "mine"},
    ],
    ids=str,
)
def test_what_cannot_be_written_out_is_refused(changes):
    with pytest.raises(BadOption, match="Use a cell"):
        check_exportable(replace(made.TRAINING, **changes))


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    trained = network_of(tmp_path)
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "mine.txt").write_text("")
    with pytest.raises(BadOption, match="Use another --out"):
        export(cell_of(trained), trained, tmp_path / "net")
