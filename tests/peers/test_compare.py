"""The comparison with other programs measures all that it says; how fast they are, no test asks."""

import json
import sys

import compare
import pytest
from click.testing import CliRunner

from harness import bench
from harness.bench import timing
from harness.execute.others import Others

PACKAGES = ("accelerate", "diffusers", "denoising_diffusion_pytorch", "torch_fidelity")


def measured(folder, monkeypatch, *given):
    monkeypatch.setattr(timing, "SECONDS_A_SET", 0.0)
    monkeypatch.setattr(timing, "TURNS", (1, 1))
    monkeypatch.setattr(compare, "STEPS", 3)
    monkeypatch.setattr(bench, "STEPS", 3)
    monkeypatch.setattr(compare, "compiled_once", lambda trained, sizes: trained)
    given = ["images=100", "--data-dir", str(folder), "--device", "cpu", *given]
    return CliRunner().invoke(compare.main, given, catch_exceptions=False).stdout


def test_each_program_is_measured_at_each_piece_of_work(tmp_path, monkeypatch):
    for package in PACKAGES:
        pytest.importorskip(package, reason="pip install -e '.[peers]' brings it")
    rows = json.loads(measured(tmp_path, monkeypatch, "--json"))["rows"]
    assert [(row["work"], row["program"]) for row in rows] == [
        ("a training step", "diffusers"), ("a training step", "lucidrains"),
        ("ddim in 3 steps", "diffusers"), ("ddim in 3 steps", "lucidrains"),
        ("FID, KID, precision and recall", "torch-fidelity"),
    ]  # fmt: skip
    assert all(row["theirs"] > 0 < row["ours"] and not row["reason"] for row in rows)


def test_what_is_not_installed_is_named_and_the_others_are_measured(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "denoising_diffusion_pytorch", None)
    told = measured(tmp_path, monkeypatch)
    assert told.count("lucidrains was not measured") == 2
    assert "Use pip install" in told
    assert "torch-fidelity  " in told
    assert "The machine was" in told


def test_the_table_is_aligned_and_markdown_where_that_is_asked():
    rows = [compare.Row("a step", "one", "at least 1", 3.0, 2.0), compare.Row("b", "two", "", 5, 4)]
    table = compare.Comparison({"name": "x"}, [], Others(0.0, 0.0, 0.0), rows)
    head, first, second = table.table().splitlines()
    assert head.index("program") == first.index("one") == second.index("two")
    assert "1.5" in first
    lines = table.table(is_markdown=True).splitlines()
    assert {(len(line), line.count("|")) for line in lines} == {(len(lines[0]), 7)}
