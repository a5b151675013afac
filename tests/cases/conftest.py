"""Situations that a user meets, each through the command line in this process."""

from __future__ import annotations

import importlib
import shutil
import sys

import pytest
from situations import EXACT, NETWORK, images

from harness.report.figures.catalogue import FIGURES, PLOTS


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
