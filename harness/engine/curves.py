"""Tables beside weights and samples, as CSV, so that a report can draw curves without torch."""

from __future__ import annotations

import pandas as pd
import torch

from harness.diffusion.schedules import Schedule

POINTS = 101


def schedule_csv(schedule: Schedule) -> bytes:
    """The rates and the log SNR of a schedule at 101 times from 0 to 1."""
    t = torch.linspace(0, 1, POINTS, dtype=torch.float64)
    columns = [t, schedule.alpha(t), schedule.sigma(t), schedule.log_snr(t)]
    return _csv(["t", "alpha", "sigma", "log_snr"], columns)


def path_csv(schedule: Schedule, times: torch.Tensor) -> bytes:
    """The times [steps + 1] that a cell is sampled along, from noise to image, and the log SNR at
    each."""
    t = times.double()
    return _csv(["t", "log_snr"], [t, schedule.log_snr(t)])


def _csv(names: list[str], columns: list[torch.Tensor]) -> bytes:
    rows = torch.stack(columns, dim=1).tolist()
    return pd.DataFrame(rows, columns=names).to_csv(index=False).encode()
