"""What tests of whole runs share: where a run is, and work that needs no process of its own."""

from harness.execute.here import in_this_process
from harness.work.options import Paths


def in_turn(function, jobs, at, on_progress, should_stop, **how):
    """Everything in this process: a worker would take seconds to load torch."""
    return in_this_process(function, jobs, at, on_progress, should_stop)


def paths_in(folder):
    return Paths(
        store=folder / "store",
        tracking_uri=f"sqlite:///{folder / 'store' / 'mlflow.db'}",
        report_dir=folder / "report",
        data_dir=folder / "data",
        device="cpu",
    )
