"""Tables beside weights and samples, so that a report can draw curves without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from harness.diffusion.schedules import Schedule
from harness.runtime.store import write_bytes

POINTS = 101


def write_curves(path: Path, schedule: Schedule) -> None:
    """The rates and the log SNR of a schedule at 101 times from 0 to 1."""
    t = torch.linspace(0, 1, POINTS, dtype=torch.float64)
    columns = [t, schedule.alpha(t), schedule.sigma(t), schedule.log_snr(t)]
    rows = [tuple(row) for row in torch.stack(columns, dim=1).tolist()]
    write_table(path, ["t", "alpha", "sigma", "log_snr"], rows)


def write_path(path: Path, schedule: Schedule, times: torch.Tensor) -> None:
    """The times that a cell is sampled along, from noise to image, and the log SNR at each."""
    t = times.double()
    rows = [tuple(row) for row in torch.stack([t, schedule.log_snr(t)], dim=1).tolist()]
    write_table(path, ["t", "log_snr"], rows)


def write_table(path: Path, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    write_bytes(path, pd.DataFrame(rows, columns=columns).to_csv(index=False).encode())
