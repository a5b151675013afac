"""Before any work: what the cells' data and weights are, what is missing, and what it will cost.

Everything that would fail after hours is refused here.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import version

from harness import __version__
from harness.data.images import ImageSet
from harness.diffusion.objective import check_target
from harness.downloads import NotHereYet, no_downloads
from harness.errors import MachineError
from harness.execute import machine
from harness.execute.executor import Needs
from harness.execute.ray import RayCluster
from harness.metrics.distances import METRICS
from harness.metrics.enough import check_enough
from harness.plan.executions import executions
from harness.plan.forecast import Forecast, fitted_evaluations, measured_speeds, warnings_of
from harness.plan.grid import Grid
from harness.plan.pending import Plan
from harness.store import Store, check_writable
from harness.work.cells import Cell, Part, Training, distinct_trainings, trained_together
from harness.work.execution import Execution
from harness.work.options import Paths, Workplace
from harness.work.overheads import USUAL, Overheads
from harness.work.reading import Reading
from harness.work.speeds import Speeds

LEAST_DISK = 200_000_000  # bytes: a few models, features and pictures


@dataclass(frozen=True)
class Site:
    """What the work needs to know of this machine and of the data."""

    at: Workplace  # its device by name, no longer `auto`
    shape: tuple[int, int, int]  # of one image: channels, height, width
    devices: int = 1  # that share each training
    images: Reading = field(default_factory=Reading)  # what was read of the data
    notes: tuple[str, ...] = ()  # what a data set of another package says of its images
    cluster: RayCluster | None = None  # that does the work in this machine's place

    @property
    def values(self) -> int:
        """Numbers in one image."""
        return math.prod(self.shape)


def identified(cells: Iterable[Cell], at: Workplace) -> list[Cell]:
    """The cells with the fingerprints of their data, of their extractors' weights and of networks
    that were trained elsewhere, which are part of their keys: other images under the same name are
    other work.

    Raises DataError where data or weights cannot be had, NotHereYet where they would have to be
    downloaded and may not be, and BadOption where a grid does not fit such a network.
    """
    from harness.engine.identity import data_fingerprint, extractor_fingerprint, with_network

    cells = list(cells)
    data = {part: data_fingerprint(part, at) for part in {cell.training.data for cell in cells}}
    weights = {part: extractor_fingerprint(part, at) for part in {cell.extractor for cell in cells}}
    trainings: dict[Training, Training] = {
        training: replace(with_network(training, at), data_fingerprint=data[training.data])
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


def preflight(grid: Grid, plan: Plan, paths: Paths, cluster: RayCluster | None = None) -> Site:
    """Look at everything the pending work will need: images, extractor and weights, device, disk;
    and whether a cluster has what a job takes. Raises HarnessError saying what is missing."""
    from harness.engine.inputs import extractor, image_set, with_logits
    from harness.engine.scale import Scale
    from harness.models.presets import MODELS

    device = cluster.device(paths.device) if cluster else str(machine.find_device(paths.device))
    at = replace(paths.workplace, device=device)
    if not cluster:
        machine.find_precision(grid.training.precision, machine.find_device(device))
    images = image_set(at.data_dir, grid.data)
    for scale in {cell.training.scale for cell in plan.cells}:
        Scale.of(scale, images)
    for model in {cell.training.model for cell in plan.cells}:
        with MODELS.blamed(model.name, "cannot say which images it takes"):
            MODELS.make(model.name, model.keywords).check(images.size)
    said = () if images.reading else images.notes  # what was read says more
    notes = said + networks_checked(plan.cells, images, at)
    extract = extractor(at.data_dir, "cpu" if cluster else device, grid.extractor)
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
    shape = images.channels, images.size, images.size
    site = Site(at, shape, grid.training.devices, images.as_read, notes, cluster)
    if plan.to_train:
        trained_at_once(grid, plan, site)
    if plan.to_score:
        scored_at_once(plan, site)
    return site


def networks_checked(cells: Iterable[Cell], images: ImageSet, at: Workplace) -> tuple[str, ...]:
    """What should be known of networks that were trained elsewhere. Raises BadOption where one does
    not take these images, or cannot be sampled under a schedule."""
    from harness.engine.network import make_schedule
    from harness.engine.pretrained import network_of

    notes: dict[str, None] = {}
    given = [cell for cell in cells if cell.training.is_given]
    for training, under in dict.fromkeys((one.training, one.sample_schedule) for one in given):
        check_target(training.target, make_schedule(under))
        network = network_of(training, at)
        network.check(images.channels, images.size)
        if network.has_variance:
            notes[f"the network '{network.name}' predicts a variance, too, which is left out"] = (
                None
            )
    return tuple(notes)


def forecast(grid: Grid, plan: Plan, site: Site, began: float | None = None) -> Plan:
    """The plan with its forecast: by earlier work in this store, or by a short probe of this
    machine; and with what should be known of it beforehand. When the command `began`, by
    time.monotonic(), tells how fast programs start here."""
    from harness.engine.denoising import network_evaluations
    from harness.engine.sample import largest_batch, sampling_path

    device = site.at.device
    if site.cluster and device == "cuda":  # its cards are none of this machine's
        warnings = [*plan.warnings, *site.notes]
        return replace(plan, images=site.images, warnings=tuple(dict.fromkeys(warnings)))
    workers = trained_at_once(grid, plan, site) if plan.to_train else 1
    processes = workers_for(plan, device, grid.training.devices) * grid.training.devices
    here = machine.name(machine.find_device(device))
    usual = machine.threads_for(site.values, processes) if device == "cpu" else None
    chosen = executions(plan, site, workers, processes, usual)
    store = Store(site.at.store)
    speeds: dict[Part, Speeds] = {}
    for cell in plan.cells:
        model = cell.training.model
        if model not in speeds:
            how = chosen.get(model)
            threads = how.threads if how else usual
            known = measured_speeds(store, cell.training, here, threads)
            speeds[model] = known or probed(cell, site.at, here, threads, how)
    # Each is measured on all cores, and those side by side share them.
    is_shared = device == "cpu" and not site.cluster
    measuring = network_evaluations(site.values) * (workers if is_shared else 1)
    # Fitted times are not known yet; they start from pure noise.
    timed = [cell for cell in plan.cells if not fitted_evaluations(cell)]
    warnings = [text for cell in timed for text in warnings_of(cell, sampling_path(cell))]
    started = None if began is None else time.monotonic() - began
    told = Forecast(
        speeds,
        workers,
        grid.training.devices,
        measuring,
        without_features(plan, site),
        len(plan.cells),
        len(plan.from_features),
        overheads(store, here, started),
        device == "cpu",
        metrics_probed(grid, plan, site, speeds.values()),
        largest_batch(machine.find_device(device)),
    )
    return replace(
        plan,
        forecast=told,
        executions=chosen,
        images=site.images,
        warnings=tuple(dict.fromkeys([*plan.warnings, *site.notes, *warnings])),
    )


def probed(
    cell: Cell, at: Workplace, here: str, threads: int | None, how: Execution | None
) -> Speeds:
    """The speeds of this machine by a short probe, which is not made again for a day: the commands
    of a first hour would each make the same."""
    from harness.engine.probe import probe

    one, store = cell.training, Store(at.store)
    format = how.format if how else None
    of = (here, __version__, version("torch"), threads, format, one.model, one.data_fingerprint,
          one.precision, one.batch_size, one.optimizer, cell.extractor,
          cell.extractor_fingerprint)  # fmt: skip
    key = hashlib.sha256(repr(of).encode()).hexdigest()[:12]
    if (known := store.probed(key)) is None:
        store.keep_probed(key, known := probe(cell, at, threads, format))
    return known


def metrics_probed(grid: Grid, plan: Plan, site: Site, speeds: Iterable[Speeds]) -> float:
    """The seconds that the metrics of a cell take on this machine."""
    from harness.engine.inputs import image_set
    from harness.engine.probe import metric_seconds

    images = max((cell.images for cell in plan.to_score), default=0)
    width = max((int(one.width) for one in speeds), default=0)
    if not images or not width:
        return 0.0
    reference = image_set(site.at.data_dir, grid.data).reference(grid.reference)
    return metric_seconds(grid.metrics, images, len(reference), width)


def overheads(store: Store, here: str, started: float | None) -> Overheads:
    """What a run takes on this machine beside its work: as its last run there, else as usual; in
    proportion to how fast programs start now, since others may be at work here, or were then."""
    return (store.overheads(here) or USUAL).started_in(started)


def without_features(plan: Plan, site: Site) -> int:
    """How many real images the features are still to be taken of."""
    from harness.engine.reference import RealImages

    alike = {(cell.extractor, cell.reference, cell.images): cell for cell in plan.to_score}
    counts = (RealImages(cell, site.at, lambda progress: None).without_features()
              for cell in alike.values())  # fmt: skip
    return sum(counts)


def forecast_without_downloads(
    grid: Grid, plan: Plan, paths: Paths, began: float | None = None
) -> Plan:
    """The plan with its forecast where everything is at hand; else with what is missing first."""
    if not plan.is_work:
        return plan
    try:
        with no_downloads():
            return forecast(grid, plan, preflight(grid, plan, paths), began)
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
    together = trained_together(distinct_trainings(plan.whole))
    return max(1, min(machine.cores() // devices, len(together)))


def trained_at_once(grid: Grid, plan: Plan, site: Site) -> int:
    """How many trainings run side by side, here or on a cluster. Raises MachineError where none
    can."""
    if site.cluster:
        return site.cluster.at_once(training_needs(grid, plan, site))
    return workers_for(plan, site.at.device, grid.training.devices)


def scored_at_once(plan: Plan, site: Site) -> int:
    """How many cells are sampled side by side: one where they share a processor, so that seconds
    are honest."""
    if site.cluster:
        return site.cluster.at_once(cell_needs(site))
    return workers_for(plan, site.at.device) if site.at.device != "cpu" else 1


def training_threads(grid: Grid, plan: Plan, site: Site) -> int:
    """Threads of a training on a CPU: as many on a cluster as here, so that it ends in the same
    bits."""
    devices = grid.training.devices
    workers = workers_for(plan, site.at.device, devices)
    return machine.threads_for(site.values, workers * devices)


def training_needs(grid: Grid, plan: Plan, site: Site) -> Needs:
    devices = grid.training.devices
    if site.at.device != "cpu":
        return Needs(devices, 1)
    return Needs(0, devices * training_threads(grid, plan, site))


def cell_needs(site: Site) -> Needs:
    """A GPU, or all cores of a node."""
    if site.at.device != "cpu":
        return Needs(1, 1)
    return Needs(0, site.cluster.cores_of_the_smallest() if site.cluster else machine.cores())
