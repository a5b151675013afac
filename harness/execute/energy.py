"""The energy that a device has used, by the counters of its maker."""

from __future__ import annotations

import math
from pathlib import Path

from harness.lazy import torch

POWERCAP = Path("/sys/class/powercap")


def joules(device: torch.device) -> float:
    """The energy this device has used since some moment in the past; NaN where that cannot be read.

    Of a GPU by its own counter (NVML, with the package nvidia-ml-py), of a processor by RAPL, which
    most systems let only root read. A GPU's counter goes on while others use it.
    """
    if device.type == "cuda":
        return _joules_of_gpu(device)
    return _joules_of_processor() if device.type == "cpu" else math.nan


def _joules_of_gpu(device: torch.device) -> float:
    try:
        import pynvml

        pynvml.nvmlInit()
        place = torch.cuda.current_device() if device.index is None else device.index
        uuid = torch.cuda.get_device_properties(place).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
    except Exception:  # not installed, not this driver's, or not this card's
        return math.nan


def _joules_of_processor() -> float:
    try:
        counted = [
            int((zone / "energy_uj").read_text())
            for zone in POWERCAP.glob("intel-rapl:*")
            # Zones of a package's parts and of the whole platform would count it twice.
            if (zone / "name").read_text().startswith("package")
        ]
    except (OSError, ValueError):
        return math.nan
    return sum(counted) / 1e6 if counted else math.nan
