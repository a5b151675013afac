"""What a run costs beyond its own work: cells of an exact denoiser on a few pixels."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil
import torch
from rich.console import Console

from harness.bench.timing import BenchReport, Part, Ratio
from harness.errors import Ended, HarnessError
from harness.execute import machine
from harness.execute.others import Watch
from harness.execute.screen import Screen
from harness.plan.grid import load_grid
from harness.run import run_grid
from harness.work.options import Options, Paths

SCALES = (10, 100, 1000)  # cells
EXACT_GRID = """
name: bench
data: gaussian
model: exact
schedules: [linear]
samplers: [ddim]
steps: [2]
images: 64
extractor: pixels
"""


def scaling_here(screen: Screen, counts: tuple[int, ...] = SCALES) -> BenchReport:
    """How the driver's cost grows with the number of cells, on data that costs next to nothing:
    seconds per cell, the report included, and the memory of this process."""
    report, watch = BenchReport({"name": machine.name(torch.device("cpu"))}), Watch()
    screen.say(report.heading())
    with tempfile.TemporaryDirectory() as folder:
        run_cells(Path(folder) / "warm", 3)
        for count in counts:
            screen.doing(f"measuring {count:,} cells")
            seconds = run_cells(Path(folder) / str(count), count, report=True)
            part = Part(f"{count:,} cells")
            part.absolute[f"seconds_per_cell_{count}"] = seconds / count
            part.absolute[f"memory_bytes_{count}"] = float(psutil.Process().memory_info().rss)
            report.add(part, screen)
    growth, found = Part("growth"), report.as_json()["absolute"]
    first, last = counts[0], counts[-1]
    for name, what in (("seconds_per_cell", "seconds per cell"), ("memory_bytes", "memory")):
        title = f"{what}, {last:,} cells against {first:,}"
        ratio = found[f"{name}_{last}"] / found[f"{name}_{first}"]
        growth.ratios[f"{name}_growth"] = Ratio(title, ratio, "does not grow")
    report.add(growth, screen)
    report.others = watch.others()
    return report


def driver(part: Part) -> None:
    """Seconds of a cell, from the plan to the record. What a run costs once falls out of the
    difference of two."""
    few, many = 10, 60
    with tempfile.TemporaryDirectory() as folder:
        run_cells(Path(folder) / "warm", 3)
        seconds = {count: run_cells(Path(folder) / str(count), count) for count in (few, many)}
    part.ratios["driver_seconds_per_cell"] = Ratio(
        "seconds per cell", (seconds[many] - seconds[few]) / (many - few), "at most 0.1"
    )


def run_cells(folder: Path, count: int, report: bool = False) -> float:
    """The seconds of a whole run of so many cells, with or without its report. Raises Ended where
    a signal stops it, and HarnessError where a cell fails."""
    folder.mkdir()
    grid = load_grid(EXACT_GRID, sampling_seeds=list(range(count)))
    paths = Paths(folder, f"sqlite:///{folder / 'mlflow.db'}", folder / "report", folder, "cpu")
    with Screen(Console(quiet=True)) as screen:
        began = time.perf_counter()
        summary = run_grid(grid, paths, Options(report=report), screen)
        took = time.perf_counter() - began
    if summary.status > 1:  # the run has saved what it did, for which nobody asks here
        raise Ended(summary.status)
    if summary.failed:
        raise HarnessError(f"the driver cannot be measured: {summary.failed[0][1].reason}.")
    return took
