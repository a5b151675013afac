"""How the pending trainings are computed on this machine: as this store has settled it, or by a
short probe that settles it.

The precision that `auto` stands for is settled once for a data set on a machine, by whatever came
first: a training that was finished or begun, or a probe. Else two schedules, seeds or models of one
grid might be trained in different precisions, and could not be compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING

from harness.errors import StoreError
from harness.execute import machine
from harness.plan.pending import Plan
from harness.store import Store
from harness.work.cells import Part, Training, distinct_trainings, trained_together
from harness.work.execution import Execution, Format

if TYPE_CHECKING:
    from harness.plan.preflight import Site

LEAST_SECONDS = 30.0  # of training that are worth a probe of two


def executions(
    plan: Plan, site: Site, workers: int, processes: int, threads: int | None
) -> dict[Part, Execution]:
    """By model, how its pending trainings are computed here, `workers` of them side by side in
    `processes` in all, each of which has so many threads by the rule. Measured where the grid
    trains long enough for that to pay; the model with most to do settles the precision."""
    pending, trainings = {one.model for one in plan.to_train}, distinct_trainings(plan.whole)
    alike: dict[Part, list[Training]] = {}
    for training in trainings:
        if training.model in pending:
            alike.setdefault(training.model, []).append(training)
    found: dict[Part, Execution] = {}
    for model in sorted(alike, key=lambda model: -images_trained(alike[model])):
        chosen = (one.format.precision for one in found.values())
        precisions = chain(chosen, settled(Store(site.at.store), trainings, site.at.device))
        found[model] = execution(alike[model], site, workers, processes, threads, precisions)
    return found


def execution(
    alike: Sequence[Training], site: Site, workers: int, processes: int, threads: int | None,
    precisions: Iterator[str],
) -> Execution:  # fmt: skip
    """How trainings of one model are computed here, in the first of the precisions that are settled
    if there is any."""
    store, like = Store(site.at.store), alike[0]
    device = machine.find_device(site.at.device)
    where, (channels, size, _) = machine.name(device), site.shape
    network = f"{like.model} at {size}x{size}"
    of = (where, version("torch"), network, channels, like.model.source, str(like.data),
          like.precision, like.batch_size, like.optimizer, workers, processes, threads)  # fmt: skip
    key = hashlib.sha256(repr(of).encode()).hexdigest()[:12]
    if known := store.execution(key):
        return known
    wanted = next(precisions, like.precision)
    format = machine.format_for(wanted, size, device)
    rule = Execution(
        where, str(like.data), network, like.precision, format, threads, format, threads
    )
    is_measurable = device.type == "cpu" or (device.type == "cuda" and not site.cluster)
    is_new = not store.root.exists()  # as `harness plan` may find it, which makes none
    if not is_measurable:
        return rule
    # The nodes of a cluster have been asked for the usual threads.
    counts = [] if site.cluster or not threads else threads_to_try(threads, processes)
    formats = formats_to_try(rule, wanted, device.type)
    measured = measure(like, site, rule, formats, counts, images_trained(alike) / workers)
    if is_new or measured is None:
        return measured or rule
    with suppress(StoreError):  # of a full disk: what cannot be kept would be measured again
        return store.keep_execution(key, measured)
    return rule


def formats_to_try(rule: Execution, wanted: str, device: str) -> list[Format]:
    """Both layouts, on a processor in both safe precisions where either will do; on a GPU the half
    precision of the rule is the fastest that is safe."""
    precisions = {rule.format.precision: None}
    if (wanted, device) == ("auto", "cpu"):
        precisions |= {"float32": None, "bfloat16": None}
    layouts = rule.format.channels_last, not rule.format.channels_last
    return [Format(precision, last) for precision in precisions for last in layouts]


def threads_to_try(usual: int, processes: int) -> list[int]:
    """The usual, one, and as many as each of so many processes side by side has cores."""
    return list(dict.fromkeys([usual, 1, max(1, machine.cores() // processes)]))


def images_trained(trainings: Sequence[Training]) -> int:
    """How many images the steps of these trainings see."""
    groups = trained_together(trainings)
    return sum(group[0].training_steps * group[0].batch_size for group in groups)


def settled(store: Store, trainings: Sequence[Training], on: str) -> Iterator[str]:
    """The precisions in which this machine has trained networks on the images of a grid, which has
    these trainings, has begun to, or is to, where the same was asked for."""
    like, device = trainings[0], machine.find_device(on)
    where = machine.name(device)
    for result in store.training_results():
        one, made = result.training, result.provenance
        is_same = (one.data, one.precision) == (like.data, like.precision)
        if is_same and made.machine == where:
            yield made.precision
    for training in trainings:
        match store.saved_format(training):
            case "", _, _:
                yield machine.find_precision(like.precision, device)
            case begun_on, precision, _ if begun_on == where:
                yield precision
    yield from store.measured_precisions(like, where)


def compiling(store: Store, like: Training, where: str) -> tuple[float, float] | None:
    """The share of a training step that compiling a network saved on this machine, and the seconds
    that compiling took; None where no two trainings of it, alike but for that, tell."""
    steps: dict[tuple[object, ...], dict[bool, list[float]]] = {}
    took = []
    for result in store.training_results():
        one, made = result.training, result.provenance
        if (one.data, one.model, one.batch_size) == (like.data, like.model, like.batch_size):
            alike = made.machine, made.precision, made.threads, made.processes
            by_compiled = steps.setdefault(alike, {True: [], False: []})
            by_compiled[made.is_compiled].append(1 / result.images_per_second)
            if made.is_compiled and made.machine == where:
                took.append(result.compile_seconds)
    gains = [
        1 - median(each[True]) / median(each[False])
        for alike, each in steps.items()
        if alike[0] == where and all(each.values())
    ]
    return (median(gains), median(took)) if gains else None


def measure(
    like: Training, site: Site, rule: Execution, formats: Sequence[Format], threads: Sequence[int],
    images: float,
) -> Execution | None:  # fmt: skip
    """The fastest by a probe; None where none was made: the trainings of a process, which see so
    many images, are short, or the machine is at other work."""
    from harness.engine.fastest import Subject, fastest
    from harness.models.presets import MODELS

    shape = MODELS.make(like.model.name, like.model.keywords)
    batch = (-(-like.batch_size // site.devices), *site.shape)
    of = Subject(shape, batch, machine.find_device(site.at.device), like.optimizer)
    return fastest(of, rule, formats, threads, lambda each: each * images > LEAST_SECONDS)
