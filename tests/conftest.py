"""What all tests share: one thread to a process, nothing of the user's, small grids, and parts as
another package would offer them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from harness import registry

# Two workers with two threads each on two cores are far slower than with one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # xdist's, and not of a reader

SMALL_GRID = """
name: small
data: digits
model: {name: tiny, widths: [8], attention: []}
training: {steps: 12, batch_size: 16, precision: float32}
schedules: [linear, cosine]
samplers: [ddpm, ddim]
steps: [2, 3]
images: 80
extractor: digits
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--need-gpu", action="store_true",
        help="Fail where tests that need an accelerator would be skipped.",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """With --need-gpu a machine without an accelerator is an error, and not a green run of skipped
    tests."""
    if config.getoption("--need-gpu"):
        import torch

        if not torch.cuda.is_available():
            raise pytest.UsageError(
                "--need-gpu: torch finds no CUDA device here. Use a machine with a GPU and a torch "
                f"that is built for it (this one is {torch.__version__})."
            )


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's data folder."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making one takes seconds, so tests copy this one."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store_folder(tmp_path: Path, database: Path) -> Path:
    """A store with an empty database and nothing else."""
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copy(database, folder / "mlflow.db")
    return folder


@pytest.fixture(scope="session")
def small_grid() -> str:
    """The text of a grid of 2 trainings and 8 cells that takes seconds."""
    return SMALL_GRID


@pytest.fixture
def grid_file(tmp_path: Path, small_grid: str) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(small_grid)
    return path


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, object], None]:
    """Offers a part under the name `wrong`."""

    def offered(kind: str, part: object) -> None:
        module = ModuleType("somebodys")
        module.part = part  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "somebodys", module)
        point = EntryPoint("wrong", "somebodys:part", f"harness.{registry.plural(kind)}")
        monkeypatch.setattr(
            registry,
            "_installed",
            lambda group, *_: {"wrong": [point]} if group == point.group else {},
        )

    return offered
