"""What a run costs beyond its own work: cells of an exact denoiser on a few pixels."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from rich.console import Console

from harness.bench.timing import BenchReport, Ratio
from harness.execute import machine
from harness.execute.screen import Screen
from harness.plan.grid import Grid, load_grid
from harness.run import run_grid
from harness.work.options import Options, Paths

SCALES = (10, 100, 1000)  # cells
COMMON = "name: bench\nschedules: [linear]\nsamplers: [ddim]\n"
EXACT_GRID = COMMON + "data: gaussian\nmodel: exact\nsteps: [2]\nimages: 64\nextractor: pixels\n"


def scaling_here(say: Callable[[str], None], counts: tuple[int, ...] = SCALES) -> BenchReport:
    """How the driver's cost grows with the number of cells, on data that costs next to nothing:
    seconds per cell, the report included, and the memory of this process."""
    report = BenchReport({"name": machine.name(torch.device("cpu"))})
    with tempfile.TemporaryDirectory() as folder:
        run_cells(Path(folder) / "warm", 3)
        for count in counts:
            say(f"measuring: {count} cells")
            seconds = run_cells(Path(folder) / str(count), count, report=True)
            report.absolute[f"seconds_per_cell_{count}"] = seconds / count
            report.absolute[f"memory_bytes_{count}"] = float(psutil.Process().memory_info().rss)
    first, last = counts[0], counts[-1]
    for name, what in (("seconds_per_cell", "seconds per cell"), ("memory_bytes", "memory")):
        growth = report.absolute[f"{name}_{last}"] / report.absolute[f"{name}_{first}"]
        title = f"{what}, {last:,} cells against {first:,}"
        report.ratios[f"{name}_growth"] = Ratio(title, growth, "does not grow")
    return report


def driver(report: BenchReport) -> None:
    """Seconds of a cell, from the plan to the record. What a run costs once falls out of the
    difference of two."""
    few, many = 10, 60
    with tempfile.TemporaryDirectory() as folder:
        run_cells(Path(folder) / "warm", 3)
        seconds = {count: run_cells(Path(folder) / str(count), count) for count in (few, many)}
    report.ratios["driver_seconds_per_cell"] = Ratio(
        "driver: seconds per cell", (seconds[many] - seconds[few]) / (many - few), "at most 0.1"
    )


def run_cells(folder: Path, count: int, report: bool = False) -> float:
    """The seconds of a whole run of so many cells, with or without its report."""
    folder.mkdir()
    grid = grid_of(EXACT_GRID, folder, f"sampling_seeds={list(range(count))}")
    paths = Paths(folder, f"sqlite:///{folder / 'mlflow.db'}", folder / "report", folder, "cpu")
    with Screen(Console(quiet=True)) as screen:
        began = time.perf_counter()
        run_grid(grid, paths, Options(report=report), screen)
        return time.perf_counter() - began


def grid_of(text: str, folder: Path, *overrides: str) -> Grid:
    path = folder / "grid.yaml"
    path.write_text(text, encoding="utf-8")
    return load_grid(path, overrides)
