"""Situations that a user meets, each through the command line in this process."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from harness.cli import main
from harness.report.figures.catalogue import FIGURES, PLOTS

EXACT = """
name: exactcase
data: {name: mixture, size: 4, images: 200}
schedules: [linear]
samplers: [ddim]
steps: [2]
images: 40
extractor: pixels
metrics: [kid]
"""
NETWORK = """
name: case
data: {name: folder, path: imgs, image_size: 8, grey: true}
model: {name: tiny, widths: [8], attention: []}
training: {steps: 6, batch_size: 8, precision: float32}
schedules: [linear]
samplers: [ddim]
steps: [2]
images: 16
extractor: pixels
metrics: [kid]
"""


@pytest.fixture
def place(tmp_path, database, monkeypatch):
    """A working directory with two grids, a folder of images and an empty store."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/store").mkdir(parents=True)
    shutil.copy(database, tmp_path / "runs/store/mlflow.db")
    (tmp_path / "exact.yaml").write_text(EXACT)
    (tmp_path / "network.yaml").write_text(NETWORK)
    images(tmp_path / "imgs")
    return tmp_path


@pytest.fixture(autouse=True)
def without_own_figures(request, monkeypatch):
    """Reports take most of the time, and their built-in figures most of that; a test that wants
    them takes the fixture `with_figures`."""
    if "with_figures" not in request.fixturenames:
        monkeypatch.setattr(
            "harness.report.contents.in_page_order",
            lambda: [name for name in PLOTS if name not in FIGURES],
        )


@pytest.fixture
def with_figures():
    """Asks for the built-in figures of reports."""


def images(folder, seed=1, count=24):
    """Write as many random images into a folder, over those that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    for number in range(count):
        pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")


def harness(*arguments, status=0):
    """What a command printed; its status must be this, and a traceback is never right."""
    given = [str(each) for each in arguments]
    if given[0] in ("run", "plan", "report", "compare", "sample") and "--store" not in given:
        # Whole: of a relative one MLflow would take the database of another test.
        given += ["--store", str(Path("runs/store").absolute())]
    result = CliRunner().invoke(main, given)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs a package of another author: `package(points, **modules)` writes the modules and
    what the package says of itself, anew each time."""
    site = tmp_path / "site"
    names = set()

    def install(points, version="1.0", **modules):
        info = site / "caseplug-1.0.dist-info"
        shutil.rmtree(site, ignore_errors=True)
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: caseplug\nVersion: {version}\n"
        )
        (info / "top_level.txt").write_text("\n".join(modules))
        lines = [f"[harness.{kind}]\n{name} = {value}\n" for (kind, name), value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(lines))
        for name, text in modules.items():
            (site / f"{name}.py").write_text(text)
        names.update(modules)
        for name in names:
            sys.modules.pop(name, None)
        importlib.invalidate_caches()

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(site)
    yield install
    for name in names:
        sys.modules.pop(name, None)
