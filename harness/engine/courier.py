"""What a job takes along to a node of a cluster, which shares no files with this machine, and what
it brings back.

A node works in a folder of its own. There, of the driver's files, is what a job needs: a saved
state, a network, what is kept of a cell. Images and the weights of an extractor are those that the
node has under the same name if they have the same fingerprint, else those of the driver.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from harness.downloads import no_downloads
from harness.engine.inputs import image_set, images_of
from harness.engine.score import ScoreJob
from harness.engine.train import TrainJob
from harness.execute import machine
from harness.execute.progress import Progress, Report, Stopped
from harness.execute.ray_node import Node, Put, Sent
from harness.metrics.features import EXTRACTORS
from harness.models.pretrained import NETWORK_FILES
from harness.store import (
    CHECKPOINT,
    DAMAGED,
    FEATURES,
    WEIGHTS,
    Folder,
    Store,
    checksum_beside,
    in_memory,
    write_bytes,
)
from harness.work.cells import Part, training_of
from harness.work.options import Workplace, user_data
from harness.work.results import RESULT, CellResult, Result, TrainingResult

STORE, DATA = "store", "data"  # of a run on a node, below its folder

Job = TrainJob | ScoreJob


@dataclass(frozen=True)
class Luggage:
    """What a job takes along."""

    files: Mapping[str, Sent]  # of the driver's store, by their paths in it
    images: Sent  # as ImageSet.as_npz gives them, where the node has others
    weights: Mapping[str, Sent]  # of the extractor, by their paths in the data folder, likewise
    threads: int | None  # that the driver was told to use, which a process here would heed


@dataclass(frozen=True)
class Brought:
    """What a job brings back."""

    results: list[Result]  # its own first, with their files in memory
    fit: Mapping[str, bytes]  # of steps to its network, by paths in the store


@dataclass(frozen=True)
class Courier:
    """Takes trainings and cells to nodes and brings back their results; features, which are large,
    stay there unless they are wanted."""

    with_features: bool = False

    def pack(self, job: Job, at: Workplace, put: Put) -> Luggage:
        """The luggage of a job; what several need is put into the cluster once."""
        training = training_of(job.work)
        files = {
            path.relative_to(at.store).as_posix(): path for path in files_of(job, Store(at.store))
        }
        weights = dict(weights_of(job, at.data_dir)) if isinstance(job, ScoreJob) else {}
        threads = os.environ.get("OMP_NUM_THREADS", "")
        return Luggage(
            {name: _put_file(put, path) for name, path in files.items()},
            put(f"images {training.data_fingerprint}", lambda: images_of(training, at).as_npz()),
            {name: _put_file(put, path) for name, path in weights.items()},
            int(threads) if threads.isdecimal() else None,
        )

    def do(
        self, function: Callable[..., Result], packed: Luggage, node: Node, job: Job,
        at: Workplace, report: Report,
    ) -> Brought:  # fmt: skip
        """On the node: do a job."""
        there = unpacked(packed, job, at, node)
        machine.use_threads(packed.threads or machine.cores())
        store = Store(there.store)
        before = store.result(job.work)
        if isinstance(job, TrainJob):
            results = [trained(function, job, there, report), *with_the_same_steps(job, store)]
        else:
            results = [function(job, there, report)]
        return Brought(
            [self._to_be_sent(marked(one, before, node.is_shared), store) for one in results],
            {
                path.relative_to(store.root).as_posix(): path.read_bytes()
                for path in fit_of(job, store)
            },
        )

    def keep(self, job: Job, saved: Sent, at: Workplace) -> None:
        """Keep the state that a training saved on its node: another goes on from there."""
        write_bytes(Store(at.store).state(training_of(job.work)), saved.get())

    def unpack(self, job: Job, brought: Brought, at: Workplace) -> Result | None:
        """Keep results and their files in the store here, the job's own last; returns that. Of a
        fit the first is kept: all cells that share it are to have the times of one."""
        store = Store(at.store)
        if not fit_of(job, store):
            for name, content in brought.fit.items():
                write_bytes(store.root / name, content)
        for result in reversed(brought.results):
            store.keep(result)
        if isinstance(job, TrainJob):
            store.remove_states(job.works)
        return store.result(job.work)

    def _to_be_sent(self, result: Result, store: Store) -> Result:
        artifacts = replace(result.artifacts, read_from=Folder(store.folder(result.work)).read)
        names = [name for name in artifacts.checksums if self.with_features or name != FEATURES]
        return replace(result, artifacts=in_memory(artifacts, *names))


def with_the_same_steps(job: TrainJob, store: Store) -> list[TrainingResult]:
    """The other results of the steps of a training: those of its siblings, and those that it did
    not ask for, whose averages a saved state had."""
    state = store.state(job.training)
    return [
        one
        for one in store.training_results()
        if one.training != job.training and store.state(one.training) == state
    ]


def files_of(job: Job, store: Store) -> Iterator[Path]:
    """The files of a store that a job needs: where a training goes on, or what is kept of a cell
    and, where it must be sampled, its network and what its steps are fitted to that by."""
    if isinstance(job, TrainJob):
        wanted = store.states(job.works)
    else:
        kept = sorted(store.folder(job.cell).glob("[!.]*"))
        wanted = [path for path in kept if DAMAGED not in path.name]
        has_features = store.cell(job.cell.key, FEATURES).exists()
        training, is_sampled = job.cell.training, job.retime or not has_features
        if training.is_given and is_sampled:
            wanted += [store.network(training.model_fingerprint) / name for name in NETWORK_FILES]
        elif training.is_trained and is_sampled:
            name = WEIGHTS if job.cell.weights == "final" else CHECKPOINT
            wanted += [store.model(training.key, each) for each in (RESULT, name)]
        wanted += fit_of(job, store)
    return (path for path in wanted if path.is_file())


def fit_of(job: Job, store: Store) -> list[Path]:
    """What the steps of a cell are fitted to its network by, with its checksum; none where that is
    not here, or not whole."""
    if isinstance(job, TrainJob) or not store.has_whole(path := store.fit(job.cell)):
        return []
    return [path, checksum_beside(path)]


def weights_of(job: ScoreJob, data_dir: Path) -> Iterator[tuple[str, Path]]:
    """The files of the weights of an extractor that lie in the folder of large files."""
    part = job.cell.extractor
    sources = getattr(EXTRACTORS[part.name], "sources", None)
    with EXTRACTORS.blamed(part.name, "cannot say from which files it comes"):
        paths = [Path(path) for path in sources(data_dir, **part.keywords) or ()] if sources else []
    for path in paths:
        if path.is_relative_to(data_dir):
            yield path.relative_to(data_dir).as_posix(), path


def unpacked(packed: Luggage, job: Job, at: Workplace, node: Node) -> Workplace:
    """The workplace on a node, with all that the job needs."""
    store, own = Store(node.folder / STORE), node.folder / DATA
    for name, sent in packed.files.items():
        # Weights never change under one key, and cells of one training come together.
        if (
            Path(name).name not in (WEIGHTS, CHECKPOINT, *NETWORK_FILES)
            or not (store.root / name).exists()
        ):
            write_bytes(store.root / name, sent.get())
    training, places = training_of(job.work), [at.data_dir, user_data()]
    if isinstance(job, ScoreJob):
        wanted = job.cell.extractor, job.cell.extractor_fingerprint
        places = [place for place in places if has_weights(place, *wanted)]
    wanted = training.data, training.data_fingerprint
    fitting = [place for place in places if has_images(place, *wanted)]
    images = store.images(training.data_fingerprint)
    if not fitting and not images.exists():
        write_bytes(images, packed.images.get())
    if not places:
        for name, sent in packed.weights.items():
            if not (own / name).exists():
                write_bytes(own / name, sent.get())
    return Workplace(store.root, [*fitting, *places, own][0], at.device)


@lru_cache(maxsize=8)
def has_images(data_dir: Path, part: Part, fingerprint: str) -> bool:
    """Whether these images are in this folder, or come from no folder at all."""
    return _gives(lambda: image_set(data_dir, part).fingerprint, fingerprint)


@lru_cache(maxsize=8)
def has_weights(data_dir: Path, part: Part, fingerprint: str) -> bool:
    """Whether these weights of an extractor are in this folder, or come with the program."""
    make = EXTRACTORS[part.name]
    return _gives(lambda: str(make(data_dir, "cpu", **part.keywords).fingerprint), fingerprint)


def _gives(look: Callable[[], str], fingerprint: str) -> bool:
    try:
        with no_downloads():
            return look() == fingerprint
    except Exception:  # a folder of other files, with whatever is wrong with them
        return False


def _put_file(put: Put, path: Path) -> Sent:
    stat = path.stat()
    return put(f"{path} {stat.st_size} {stat.st_mtime_ns}", path.read_bytes)


class Shipping:
    """The `report` of a training that also sends each state that was saved since the last one."""

    def __init__(self, report: Report, state: Path):
        self._report, self._state = report, state
        self._sent = changed(state)  # the state that came along
        self._last = Progress(0, 1)

    def __call__(self, progress: Progress) -> None:
        self._last = replace(progress, values={}, files={}, of_others={})
        if (now := changed(self._state)) not in (0, self._sent):
            self._sent = now
            progress = replace(progress, saved=Sent.of(self._state.read_bytes()))
        self._report(progress)

    def send_rest(self) -> None:
        """Send the state that was saved last, where that has not been sent."""
        with suppress(Stopped):
            self(self._last)


def trained(
    function: Callable[..., Result], job: TrainJob, at: Workplace, report: Report
) -> Result:
    """The result of a training whose saved states are sent as it goes on."""
    shipping = Shipping(report, Store(at.store).state(job.training))
    try:
        return function(job, at, shipping)
    except Stopped:
        shipping.send_rest()
        raise


def changed(path: Path) -> int:
    """When a file was last written, in nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def marked(result: Result, before: Result | None, is_shared: bool) -> Result:
    """The result with whether its seconds, where they were taken now, are those of a node that was
    shared."""
    if (
        isinstance(result, CellResult)
        and isinstance(before, CellResult)
        and before.cost == result.cost
    ):
        return result
    return replace(result, provenance=replace(result.provenance, is_shared=is_shared))
