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
import signal
import socket
import time
import traceback
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from types import ModuleType
from typing import Any, Generic, Self

from harness.errors import (
    BadOption,
    DiskFull,
    HarnessError,
    MachineError,
    MissingPackage,
    installing,
)
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
from harness.execute.progress import SECONDS, Progress, Report, Stopped
from harness.execute.ray_node import (
    Channel,
    Courier,
    Node,
    Order,
    Put,
    Sent,
    alive_nodes,
    do_attempt,
    remove_folder,
    the_ray,
)
from harness.work.options import Workplace
from harness.work.results import Failure

AHEAD = 2  # tasks to each that can run: the next is there when one ends
FEWEST_KEPT = 32  # objects for nodes, of those that no task under way needs
PATIENCE = 10.0  # seconds for tasks to save what they have, once nobody waits for their results
LOOK_SECONDS = 1.0  # between two looks at which nodes there are


def last_of_each(told: Sequence[tuple[Job, Progress]]) -> list[tuple[Job, Sent]]:
    """Of the states that each job saved, the last."""
    saved = {id(job): (job, one.saved) for job, one in told if one.saved is not None}
    return list(saved.values())


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
                    yield from tasks.handed_out()
                yield from tasks.ended()
                if should_stop():
                    tasks.stop()
            if tasks.are_stopping:
                raise Stopped
        except KeyboardInterrupt:  # asked for twice: at once
            tasks.cancel()
            raise
        except self.ray.exceptions.RayError as error:
            raise fails_here(error) from error
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
            try:
                self._nodes, self._looked = alive_nodes(self.ray), time.monotonic()
            except self.ray.exceptions.RayError as error:
                raise fails_here(error) from error
        offered = [node["Resources"] for node in self._nodes]
        counts = [(int(one.get("GPU", 0)), int(one.get("CPU", 0))) for one in offered]
        return [(gpus, cores) for gpus, cores in counts if cores]

    def _remove_folders(self) -> None:
        """Remove what this run left on the nodes, as far as they are still there."""
        with suppress(Exception):
            there = self.used & {str(node["NodeID"]) for node in alive_nodes(self.ray)}
            remove = self.ray.remote(remove_folder)
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
        self._begun: set[int] = set()  # numbers of those that said something
        self._put: OrderedDict[str, Sent] = OrderedDict()

    @property
    def remain(self) -> bool:
        return bool(self._waiting or self._out)

    def handed_out(self) -> Iterator[tuple[Job, Failure]]:
        """Give the cluster as many tasks as it can do, those of nodes included that joined
        lately, and a few ahead; give the jobs that cannot be sent. Raises MachineError where no
        node is left that could do one."""
        while self._waiting and len(self._out) < AHEAD * self.cluster.at_once(self.needs):
            attempt = self._waiting.popleft()
            courier = self.cluster.courier
            try:
                packed = courier.pack(attempt.job, self.at, self._put_once)
            except DiskFull:
                raise
            except HarnessError as error:  # as a worker here would tell it
                yield attempt.job, Failure(str(error))
                continue
            self._last = next(self.cluster.numbers)
            order = Order(
                self._function, attempt.job, self.at, courier, packed, self.cluster.run, self.needs
            )
            reference = self._task.remote(order, self.cluster.channel, self._last)
            self._out[reference] = (self._last, attempt)

    def ended(self) -> Iterator[tuple[Job, Any]]:
        """Wait a moment; pass on what was reported; give what has ended."""
        ready, _ = self._ray.wait(list(self._out), timeout=SECONDS) if self._out else ([], [])
        self._listen()
        for reference in ready:
            _, attempt = self._out.pop(reference)
            outcome = self._outcome(reference, attempt.job)
            if isinstance(outcome, Stopped):
                outcome = Lost("it lost touch with this machine")  # where nobody asked it to stop
            if isinstance(outcome, Lost) and self.are_stopping:
                continue
            outcome = attempt.after(outcome, self.on_progress)
            if isinstance(outcome, Attempt):
                self._waiting.append(outcome)
            else:
                yield attempt.job, outcome

    def stop(self) -> None:
        """Ask all to save what they have and end; again and again, for the channel may have begun
        anew. Those that no node has begun may never be, and are ended here."""
        self.are_stopping = True
        self._waiting.clear()
        self.cluster.channel.stop.remote(self._last)
        for reference, (number, _) in self._out.items():
            if number not in self._begun:
                self._ray.cancel(reference)

    def dismiss(self) -> None:
        """End all, whatever they do, when they have had the time to save it."""
        until = time.monotonic() + PATIENCE
        while self._out and time.monotonic() < until:
            with suppress(Exception):  # of the driver, which is what ended the call
                self.stop()
                for _ in self.ended():
                    pass
        self.cancel()

    def cancel(self) -> None:
        """End all at once."""
        for reference in self._out:
            with suppress(Exception):
                self._ray.cancel(reference, force=True)
        self._out.clear()

    @cached_property
    def _task(self) -> Any:
        """What each attempt is started with."""
        needed = {"num_cpus": self.needs.cores, "num_gpus": self.needs.gpus}
        return self._ray.remote(do_attempt).options(max_retries=0, **needed)

    def _listen(self) -> None:
        """Take what tasks under way have reported. Of the states that one saved, the last."""
        if not self._out:
            return
        try:
            messages = self._ray.get(self.cluster.channel.take.remote())
        except self._ray.exceptions.RayActorError:  # it was killed, and begins anew
            return
        self._begun |= {number for number, _ in messages}
        jobs = {number: one.job for number, one in self._out.values()}
        messages = [(number, message) for number, message in messages if number in jobs]
        self.cluster.used |= {message for _, message in messages if isinstance(message, str)}
        told = [(jobs[number], one) for number, one in messages if isinstance(one, Progress)]
        for job, state in last_of_each(told):
            # Lost with its node, or on a full disk: the one before is kept.
            with suppress(*_losses(self._ray), HarnessError):
                self.cluster.courier.keep(job, state, self.at)
        for job, progress in told:
            self.on_progress(job, replace(progress, saved=None))

    def _outcome(self, reference: Any, job: Job) -> Any:
        try:
            outcome = self._ray.get(reference)
            if isinstance(outcome, DiskFull):
                raise outcome
            if isinstance(outcome, (Failure, Lost, Stopped)):
                return outcome
            return self.cluster.courier.unpack(job, outcome, self.at)
        except self._ray.exceptions.LocalRayletDiedError:
            raise MachineError(
                "Ray has ended on this machine. Start it again, and give the same command."
            ) from None
        except self._ray.exceptions.TaskCancelledError:
            return Stopped()
        except tuple(_losses(self._ray)) as error:
            return Lost(_reason(error))
        except DiskFull:
            raise
        except HarnessError as error:  # as a worker here would tell it
            return Failure(str(error))
        except self._ray.exceptions.RayError as error:
            return Failure(f"Ray could not do it: {_last_line(error)}", traceback.format_exc())

    def _put_once(self, name: str, load: Callable[[], bytes]) -> Sent:
        """What is put under this name, which names a content. Ray keeps it as long as we do, or a
        task that needs it."""
        if name not in self._put:
            self._put[name] = Sent.of(load())
        self._put.move_to_end(name)
        while len(self._put) > max(FEWEST_KEPT, 2 * len(self._out)):
            self._put.popitem(last=False)
        return self._put[name]


def connected(address: str) -> ModuleType:
    """Ray, having joined the cluster at this address. Raises MachineError where there is none."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address.startswith("ray://"):
        raise BadOption(
            f"--ray {address} is the address of Ray's client. Use --ray auto on a machine of the "
            "cluster, which ray job submit does."
        )
    host, _, port = address.rpartition(":")
    is_remote = bool(host) and port.isdecimal()
    try:
        ray = the_ray()
    except ImportError:
        raise MissingPackage(f"--ray needs the package ray. Use {installing('ray')}.") from None
    own = {"include_dashboard": False} if address == "local" else {}
    try:
        if is_remote:  # of which Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=PATIENCE).close()
        with as_it_was(signal.SIGTERM):  # Ray would end the program at once
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **own)
    except (OSError, OverflowError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MachineError(
            f"no Ray cluster at '{address}' can be joined ({reason}). Use --ray auto on a machine "
            "of a cluster, --ray HOST:PORT (with RAY_AUTH_MODE=token where it asks for a token), "
            "or --ray local to start one here."
        ) from None
    return ray


@contextmanager
def as_it_was(number: int) -> Iterator[None]:
    """After this context a signal does what it did before."""
    handler = signal.getsignal(number)
    try:
        yield
    finally:
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _on(node: str) -> Any:
    """The scheduling strategy of what must be on this node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def _losses(ray: ModuleType) -> list[type[Exception]]:
    """What Ray raises where a machine or a process is gone, which is no failure of the job."""
    known = ray.exceptions
    return [known.WorkerCrashedError, known.NodeDiedError, known.ObjectLostError,
            known.OutOfMemoryError, known.ActorDiedError]  # fmt: skip


def fails_here(error: Exception) -> MachineError:
    """What to say of what Ray raises on this machine, outside any task."""
    return MachineError(
        f"Ray fails on this machine ({type(error).__name__}: {_last_line(error)}). See whether its "
        "head node runs and its disks have room, then use the same command: it goes on from here."
    )


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _reason(error: Exception) -> str:
    kind = type(error).__name__
    if kind == "OutOfMemoryError":
        return "its process was killed by Ray, for the memory of its node was used up"
    if kind == "WorkerCrashedError":
        return "its process on a node was killed"
    return f"its node was lost ({kind})"
