"""The comparison with other programs measures all that it says; how fast they are, no test asks."""

import json

import compare
import pytest
from click.testing import CliRunner

from harness import bench
from harness.bench import timing


def test_each_program_is_measured_at_each_piece_of_work(tmp_path, monkeypatch):
    for package in ("accelerate", "diffusers", "denoising_diffusion_pytorch"):
        pytest.importorskip(package, reason="pip install -e '.[peers]' brings it")
    monkeypatch.setattr(timing, "SECONDS_A_SET", 0.0)
    monkeypatch.setattr(timing, "TURNS", (1, 1))
    monkeypatch.setattr(compare, "STEPS", 3)
    monkeypatch.setattr(bench, "STEPS", 3)
    monkeypatch.setattr(compare, "compiled_once", lambda trained, sizes: trained)
    given = ["--data-dir", str(tmp_path), "--device", "cpu", "--json"]
    result = CliRunner().invoke(compare.main, given, catch_exceptions=False)
    ratios = json.loads(result.stdout)["ratios"]
    assert ratios.keys() == {
        "training_against_diffusers", "training_against_lucidrains",
        "sampling_against_diffusers", "sampling_against_lucidrains",
        "scoring_against_torch_fidelity",
    }  # fmt: skip
    assert all(ratio > 0 for ratio in ratios.values())
