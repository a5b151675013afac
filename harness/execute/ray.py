"""The executor of a Ray cluster: jobs run on its nodes, which share no files with this machine.

Each attempt of a job is a Ray task that Ray itself never repeats: the rule of retries is that of
every executor. An actor on this machine, the channel, takes what jobs report and hands back whether
they are to stop. What a job needs of the files here, and brings back, is the matter of a courier.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import shutil
import socket
import tempfile
import time
import traceback
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Protocol, Self

from harness import __version__
from harness.errors import BadOption, HarnessError, MachineError, MissingPackage
from harness.execute.executor import (
    ONE_CORE,
    Attempt,
    Environments,
    Job,
    JobFunction,
    Lost,
    Needs,
    OnProgress,
    Outcomes,
    ShouldStop,
)
from harness.execute.here import outcome_of
from harness.execute.progress import SECONDS, Progress, Report, Stopped, throttled
from harness.work.options import Workplace
from harness.work.results import Failure

AHEAD = 2  # tasks to each that can run: the next is there when one ends
FEWEST_KEPT = 32  # objects for nodes, of those that no task under way needs
PATIENCE = 10.0  # seconds for tasks to save what they have, once nobody waits for their results
LOOK_SECONDS = 1.0  # between two looks at which nodes there are


@dataclass(frozen=True)
class Sent:
    """Bytes on their way through the cluster, each machine fetching them when it wants them."""

    reference: Any

    @classmethod
    def of(cls, content: bytes) -> Self:
        return cls(_ray().put(content))

    def get(self) -> bytes:
        content: bytes = _ray().get(self.reference)
        return content


Put = Callable[[str, Callable[[], bytes]], Sent]  # what is put under one name is put once


@dataclass(frozen=True)
class Node:
    """The machine of a cluster where a job runs."""

    folder: Path  # of this run alone; nothing is there yet, or what earlier jobs left
    is_shared: bool  # whether other jobs may run on the same machine at the same time


class Courier(Protocol):
    """Takes what a job needs to a node, and what came of it back."""

    def pack(self, job: Any, at: Workplace, put: Put) -> Any:
        """Here: what the job needs of the files at this workplace."""

    def do(
        self, function: JobFunction[Any], packed: Any, node: Node, job: Any, at: Workplace,
        report: Report,
    ) -> Any:  # fmt: skip
        """On the node: the job done with what was packed. `at` is where files are on the driver's
        machine."""

    def keep(self, job: Any, saved: Sent, at: Workplace) -> None:
        """Here: the state that a job saved on its node."""

    def unpack(self, job: Any, result: Any, at: Workplace) -> Any:
        """Here: what `do` returned, as the job would have returned it here."""


class NoLuggage:
    """The courier of jobs that need no files."""

    def pack(self, job: Any, at: Workplace, put: Put) -> None:
        pass

    def do(
        self, function: JobFunction[Any], packed: None, node: Node, job: Any, at: Workplace,
        report: Report,
    ) -> Any:  # fmt: skip
        return function(job, at, report)

    def keep(self, job: Any, saved: Sent, at: Workplace) -> None:
        pass

    def unpack(self, job: Any, result: Any, at: Workplace) -> Any:
        return result


class RayCluster:
    """The Executor of the Ray cluster at an address: `auto` is the one that this machine belongs
    to, `local` one that is started here. It is joined when it is first needed."""

    def __init__(self, address: str, courier: Courier | None = None):
        self.courier = courier or NoLuggage()
        self.run = uuid.uuid4().hex[:12]
        self.used: set[str] = set()  # ids of nodes that have a folder of this run
        self.numbers = itertools.count(1)  # of tasks
        self._address = address
        self._nodes: list[Mapping[str, Any]] = []
        self._looked = -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if "ray" in self.__dict__:
            self._remove_folders()
            self.ray.shutdown()

    def __call__(
        self,
        function: JobFunction[Job],
        jobs: Sequence[Job],
        at: Workplace,
        on_progress: OnProgress[Job],
        should_stop: ShouldStop,
        *,
        workers: int = 1,
        environments: Environments = (),
        needs: Needs = ONE_CORE,
    ) -> Outcomes[Job]:
        if jobs and should_stop():
            raise Stopped
        tasks = Tasks(self, function, jobs, at, on_progress, needs)
        try:
            while tasks.remain:
                if not tasks.are_stopping:
                    tasks.hand_out()
                yield from tasks.ended()
                if should_stop():
                    tasks.stop()
            if tasks.are_stopping:
                raise Stopped
        finally:
            tasks.dismiss()

    @cached_property
    def ray(self) -> ModuleType:
        return connected(self._address)

    @cached_property
    def channel(self) -> Any:
        here = self.ray.get_runtime_context().get_node_id()
        how = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": _on(here)}
        return self.ray.remote(Channel).options(**how).remote()

    def device(self, wanted: str) -> str:
        """The device of jobs on this cluster; `auto` is a GPU where a node has one. Raises
        MachineError."""
        if wanted == "auto":
            return "cuda" if any(gpus for gpus, _ in self._resources()) else "cpu"
        if wanted not in ("cpu", "cuda"):
            raise MachineError(
                f"device '{wanted}' cannot be asked of a Ray cluster. Use --device auto, cpu or "
                "cuda."
            )
        return wanted

    def at_once(self, needs: Needs) -> int:
        """How many jobs the nodes that are there now can do side by side. Raises MachineError where
        none can do even one."""
        most = sum(
            min(cores // max(1, needs.cores), gpus // needs.gpus if needs.gpus else cores)
            for gpus, cores in self._resources()
        )
        if most < 1:
            there = ", ".join(
                sorted({f"{gpus} GPUs and {cores} cores" for gpus, cores in self._resources()})
            )
            raise MachineError(
                f"a job takes {needs.gpus} GPUs and {needs.cores} cores, which no node of the Ray "
                f"cluster has: they have {there or 'none'}. Use a smaller training.devices, or add "
                "a node and give the same command again."
            )
        return most

    def cores_of_the_smallest(self) -> int:
        """Cores of the smallest node that does jobs."""
        return min((cores for _, cores in self._resources()), default=1)

    def _resources(self) -> list[tuple[int, int]]:
        """GPUs and cores of each node that does jobs."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._nodes, self._looked = _alive(self.ray), time.monotonic()
        offered = [node["Resources"] for node in self._nodes]
        counts = [(int(one.get("GPU", 0)), int(one.get("CPU", 0))) for one in offered]
        return [(gpus, cores) for gpus, cores in counts if cores]

    def _remove_folders(self) -> None:
        """Remove what this run left on the nodes, as far as they are still there."""
        with suppress(Exception):
            there = self.used & {str(node["NodeID"]) for node in _alive(self.ray)}
            remove = self.ray.remote(_remove_folder)
            removed = [
                remove.options(num_cpus=0, scheduling_strategy=_on(node)).remote(self.run)
                for node in there
            ]
            self.ray.wait(removed, num_returns=max(1, len(removed)), timeout=PATIENCE)


class Tasks(Generic[Job]):
    """The jobs of one call as tasks of a cluster: those that wait, and those that were handed out.

    No job is ever in two tasks at once. What a task says that has ended otherwise is not heard.
    """

    def __init__(
        self, cluster: RayCluster, function: JobFunction[Job], jobs: Sequence[Job], at: Workplace,
        on_progress: OnProgress[Job], needs: Needs,
    ):  # fmt: skip
        self.cluster, self.needs, self.at, self.on_progress = cluster, needs, at, on_progress
        self.are_stopping = False
        self._function, self._ray = function, cluster.ray
        self._waiting = deque(map(Attempt, jobs))
        self._out: dict[Any, tuple[int, Attempt[Job]]] = {}  # by the reference of the outcome
        self._last = 0  # number of a task
        self._put: OrderedDict[str, Sent] = OrderedDict()

    @property
    def remain(self) -> bool:
        return bool(self._waiting or self._out)

    def hand_out(self) -> None:
        """Give the cluster as many tasks as it can do, those of nodes included that joined
        lately, and a few ahead. Raises MachineError where no node is left that could do one."""
        while self._waiting and len(self._out) < AHEAD * self.cluster.at_once(self.needs):
            attempt = self._waiting.popleft()
            self._last = next(self.cluster.numbers)
            courier = self.cluster.courier
            order = Order(
                self._function, attempt.job, self.at, courier,
                courier.pack(attempt.job, self.at, self._put_once), self.cluster.run, self.needs,
            )  # fmt: skip
            reference = self._task.remote(order, self.cluster.channel, self._last)
            self._out[reference] = (self._last, attempt)

    def ended(self) -> Iterator[tuple[Job, Any]]:
        """Wait a moment; pass on what was reported; give what has ended."""
        ready, _ = self._ray.wait(list(self._out), timeout=SECONDS) if self._out else ([], [])
        self._listen()
        for reference in ready:
            _, attempt = self._out.pop(reference)
            outcome = self._outcome(reference, attempt.job)
            if self.are_stopping and isinstance(outcome, (Stopped, Lost)):
                continue
            outcome = attempt.after(outcome, self.on_progress)
            if isinstance(outcome, Attempt):
                self._waiting.append(outcome)
            elif not isinstance(outcome, Stopped):
                yield attempt.job, outcome

    def stop(self) -> None:
        """Ask all to save what they have and end; again and again, for the channel may have begun
        anew."""
        self.are_stopping = True
        self._waiting.clear()
        self.cluster.channel.stop.remote(self._last)

    def dismiss(self) -> None:
        """End all, whatever they do, when they have had the time to save it."""
        until = time.monotonic() + PATIENCE
        while self._out and time.monotonic() < until:
            self.stop()
            with suppress(Exception):  # of the driver, which is what ended the call
                for _ in self.ended():
                    pass
        for reference in self._out:
            with suppress(Exception):
                self._ray.cancel(reference, force=True)

    @cached_property
    def _task(self) -> Any:
        """What each attempt is started with."""
        needed = {"num_cpus": self.needs.cores, "num_gpus": self.needs.gpus}
        return self._ray.remote(_do).options(max_retries=0, **needed)

    def _listen(self) -> None:
        """Take what tasks under way have reported. Of the states that one saved, the last."""
        if not self._out:
            return
        try:
            messages = self._ray.get(self.cluster.channel.take.remote())
        except self._ray.exceptions.RayActorError:  # it was killed, and begins anew
            return
        jobs = {number: attempt.job for number, attempt in self._out.values()}
        saved: dict[int, Sent] = {}
        for number, message in messages:
            if number not in jobs:
                continue
            if not isinstance(message, Progress):
                self.cluster.used.add(message)
                continue
            if message.saved is not None:
                saved[number] = message.saved
            self.on_progress(jobs[number], replace(message, saved=None))
        for number, state in saved.items():
            with suppress(*_losses(self._ray)):  # with its node: the one before is kept
                self.cluster.courier.keep(jobs[number], state, self.at)

    def _outcome(self, reference: Any, job: Job) -> Any:
        try:
            outcome = self._ray.get(reference)
            if isinstance(outcome, (Failure, Lost, Stopped)):
                return outcome
            return self.cluster.courier.unpack(job, outcome, self.at)
        except self._ray.exceptions.LocalRayletDiedError:
            raise MachineError(
                "Ray has ended on this machine. Start it again, and give the same command."
            ) from None
        except tuple(_losses(self._ray)) as error:
            return Lost(_reason(error))
        except HarnessError as error:  # a full disk, say: as a worker here would tell it
            return Failure(str(error))
        except self._ray.exceptions.RayError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            return Failure(f"Ray could not do it: {lines[-1].strip()}", traceback.format_exc())

    def _put_once(self, name: str, load: Callable[[], bytes]) -> Sent:
        """What is put under this name, which names a content. Ray keeps it as long as we do, or a
        task that needs it."""
        if name not in self._put:
            self._put[name] = Sent.of(load())
        self._put.move_to_end(name)
        while len(self._put) > max(FEWEST_KEPT, 2 * len(self._out)):
            self._put.popitem(last=False)
        return self._put[name]


class Channel:
    """What tasks say to the driver, kept until it asks; and whether they are to stop."""

    def __init__(self) -> None:
        self._messages: list[tuple[int, Any]] = []
        self._stopped = 0

    def tell(self, number: int, message: Any) -> bool:
        self._messages.append((number, message))
        return number <= self._stopped

    def take(self) -> list[tuple[int, Any]]:
        messages, self._messages = self._messages, []
        return messages

    def stop(self, last: int) -> None:
        """Have tasks stop, up to that of this number."""
        self._stopped = last


@dataclass(frozen=True)
class Order:
    """All that a task is told."""

    function: JobFunction[Any]
    job: Any
    at: Workplace
    courier: Courier
    packed: Any
    run: str
    needs: Needs
    version: str = __version__


def _do(order: Order, channel: Any, number: int) -> Any:
    """What a node does: one attempt of a job."""
    if order.version != __version__:
        return Failure(
            f"a node of the Ray cluster has harness {__version__}, not {order.version}. Use the "
            "same version on all."
        )
    line = Line(channel, number)
    do = partial(order.courier.do, order.function, order.packed, node_of(order.run, order.needs))
    try:
        line.begin()
        return outcome_of(do, order.job, order.at, throttled(line.send, line.is_to_stop))
    except Stopped as stopped:
        return stopped
    finally:
        line.flush()


class Line:
    """A task's line to the channel. It never waits for an answer while the job works."""

    def __init__(self, channel: Any, number: int):
        self._channel, self._number = channel, number
        self._told: list[Any] = []  # references of the answers that have not come
        self._is_to_stop = False

    def begin(self) -> None:
        """Say where the job is. Raises Stopped where it is not to begin."""
        self.send(_ray().get_runtime_context().get_node_id())
        self.flush()
        if self._is_to_stop:
            raise Stopped

    def send(self, message: Any) -> None:
        self._told.append(self._channel.tell.remote(self._number, message))
        self._hear(timeout=0)

    def is_to_stop(self) -> bool:
        return self._is_to_stop

    def flush(self) -> None:
        """Wait until all that was said has come."""
        self._hear(timeout=None)

    def _hear(self, timeout: float | None) -> None:
        ray = _ray()
        if not self._told:
            return
        heard, self._told = ray.wait(self._told, num_returns=len(self._told), timeout=timeout)
        for answer in heard:
            try:
                self._is_to_stop |= ray.get(answer)
            except ray.exceptions.ActorDiedError:  # and with it the driver
                self._is_to_stop = True
            except ray.exceptions.RayError:  # it begins anew
                pass


def node_of(run: str, needs: Needs) -> Node:
    """The node where this is called, for a job of a run."""
    ray = _ray()
    alive, own = _alive(ray), ray.get_runtime_context().get_node_id()
    [here] = [node for node in alive if node["NodeID"] == own]
    neighbours = [node["NodeManagerAddress"] for node in alive].count(here["NodeManagerAddress"])
    is_part = not needs.gpus and needs.cores < here["Resources"].get("CPU", 0)
    return Node(_folder(run), is_shared=is_part or neighbours > 1)


def _folder(run: str) -> Path:
    """Of a run, on the node where this is called; there may be several nodes on one machine."""
    node = _ray().get_runtime_context().get_node_id()
    return Path(tempfile.gettempdir()) / f"harness-{run}-{node[:12]}"


def _remove_folder(run: str) -> None:
    shutil.rmtree(_folder(run), ignore_errors=True)


def connected(address: str) -> ModuleType:
    """Ray, having joined the cluster at this address. Raises MachineError where there is none."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address.startswith("ray://"):
        raise BadOption(
            f"--ray {address} is the address of Ray's client. Use --ray auto on a machine of the "
            "cluster, which ray job submit does."
        )
    try:
        ray = _ray()
    except ImportError:
        raise MissingPackage(
            "--ray needs the package ray. Use: pip install 'harness[ray]'."
        ) from None
    own = {"include_dashboard": False} if address == "local" else {}
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdecimal():  # of which Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=PATIENCE).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **own)
    except (OSError, OverflowError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MachineError(
            f"there is no Ray cluster at '{address}' ({reason}). Use --ray auto on a machine of a "
            "cluster, --ray HOST:PORT, or --ray local to start one here."
        ) from None
    return ray


def _ray() -> ModuleType:
    import ray

    return ray


def _alive(ray: ModuleType) -> list[Mapping[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _on(node: str) -> Any:
    """The scheduling strategy of what must be on this node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def _losses(ray: ModuleType) -> list[type[Exception]]:
    """What Ray raises where a machine or a process is gone, which is no failure of the job."""
    known = ray.exceptions
    return [known.WorkerCrashedError, known.NodeDiedError, known.ObjectLostError,
            known.OutOfMemoryError, known.ActorDiedError]  # fmt: skip


def _reason(error: Exception) -> str:
    kind = type(error).__name__
    if kind == "OutOfMemoryError":
        return "its process was killed by Ray, for the memory of its node was used up"
    if kind == "WorkerCrashedError":
        return "its process on a node was killed"
    return f"its node was lost ({kind})"
