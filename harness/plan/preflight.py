"""Before any work: what the cells' data and weights are, what is missing, and what it will cost.

Everything that would fail after hours is refused here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.downloads import NotHereYet, no_downloads
from harness.errors import MachineError
from harness.execute import machine
from harness.metrics.distances import METRICS
from harness.metrics.enough import check_enough
from harness.plan.forecast import Forecast, measured_speeds, warnings_of
from harness.plan.grid import Grid
from harness.plan.pending import Plan
from harness.store import Store, check_writable
from harness.work.cells import Cell, Part, Training, distinct_trainings
from harness.work.options import Paths, Workplace
from harness.work.speeds import Speeds

LEAST_DISK = 200_000_000  # bytes: a few models, features and pictures


@dataclass(frozen=True)
class Site:
    """What the work needs to know of this machine and of the data."""

    at: Workplace  # its device by name, no longer `auto`
    values: int  # numbers in one image
    notes: tuple[str, ...] = ()  # what was left out of the data, or altered


def identified(cells: Iterable[Cell], at: Workplace) -> list[Cell]:
    """The cells with the fingerprints of their data and of their extractors' weights, which are
    part of their keys: other images under the same name are other work.

    Raises DataError where data or weights cannot be had, NotHereYet where they would have to be
    downloaded and may not be.
    """
    from harness.engine.identity import data_fingerprint, extractor_fingerprint

    cells = list(cells)
    data = {part: data_fingerprint(part, at) for part in {cell.training.data for cell in cells}}
    weights = {part: extractor_fingerprint(part, at) for part in {cell.extractor for cell in cells}}
    trainings: dict[Training, Training] = {
        training: replace(training, data_fingerprint=data[training.data])
        for training in {cell.training for cell in cells}
    }
    return [
        replace(
            cell,
            training=trainings[cell.training],
            extractor_fingerprint=weights[cell.extractor],
        )
        for cell in cells
    ]


def preflight(grid: Grid, plan: Plan, paths: Paths) -> Site:
    """Look at everything the pending work will need: images, extractor and weights, device, disk.
    Raises HarnessError saying what is missing."""
    from harness.engine.inputs import extractor, image_set, with_logits
    from harness.models.presets import MODELS

    device = str(machine.find_device(paths.device))
    at = replace(paths.workplace, device=device)
    images = image_set(at.data_dir, grid.data)
    for model in {cell.training.model for cell in plan.cells}:
        with MODELS.blamed(model.name, "cannot say which images it takes"):
            MODELS.make(model.name, model.keywords).check(images.size)
    extract = extractor(at.data_dir, device, grid.extractor)
    extract.check(images.channels, images.size)
    if any("logits" in METRICS[name].needs for name in grid.metrics):
        with_logits(extract)
    check_enough(grid.metrics, len(images.reference(grid.reference)), len(images.held_out))
    Store(paths.store).check()
    check_writable(paths.report_dir, "report", "--report-dir")
    if (free := machine.free_disk(paths.store)) < LEAST_DISK:
        raise MachineError(
            f"only {free / 1e6:.0f} MB are free where the store {paths.store} is; at least "
            f"{LEAST_DISK / 1e6:.0f} MB are needed. Make room, or use another --store."
        )
    return Site(at, int(images.train[0].size), images.notes)


def forecast(grid: Grid, plan: Plan, site: Site) -> Plan:
    """The plan with its forecast: by earlier work in this store, or by a short probe of this
    machine; and with what should be known of it beforehand."""
    from harness.engine.probe import probe
    from harness.engine.sample import sampling_path

    device = site.at.device
    workers = workers_for(plan, device, grid.training.devices)
    processes = workers * grid.training.devices
    here = machine.name(machine.find_device(device))
    threads = machine.threads_for(site.values, processes) if device == "cpu" else None
    store = Store(site.at.store)
    speeds: dict[Part, Speeds] = {}
    for cell in plan.cells:
        model = cell.training.model
        if model not in speeds:
            known = measured_speeds(store, cell.training, here, threads)
            speeds[model] = known or probe(cell, site.at, processes)
    warnings = [text for cell in plan.cells for text in warnings_of(cell, sampling_path(cell))]
    return replace(
        plan,
        forecast=Forecast(speeds, workers, grid.training.devices),
        warnings=tuple(dict.fromkeys([*plan.warnings, *site.notes, *warnings])),
    )


def forecast_without_downloads(grid: Grid, plan: Plan, paths: Paths) -> Plan:
    """The plan with its forecast where everything is at hand; else with what is missing first."""
    if not plan.is_work:
        return plan
    try:
        with no_downloads():
            return forecast(grid, plan, preflight(grid, plan, paths))
    except NotHereYet as missing:
        unknown = f"{missing}; until then the cost is not known"
        return replace(plan, warnings=(*plan.warnings, unknown))


def workers_for(plan: Plan, device: str, devices: int = 1) -> int:
    """How many trainings run side by side: on a CPU one a core, on GPUs one for each or for as
    many as a training takes.

    From all cells asked for, not from those that are pending, so that a training that was stopped
    before its first saved state begins again with as many threads and ends in the same bits.
    """
    if device != "cpu":
        return max(1, len(machine.gpus()) // devices) if device == "cuda" else 1
    return max(1, min(machine.cores() // devices, len(distinct_trainings(plan.whole))))
