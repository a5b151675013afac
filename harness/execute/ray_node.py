"""What a node of a Ray cluster does: one attempt of a job, in a folder of the run's own."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, Self

from harness import __version__
from harness.errors import DiskFull
from harness.execute.executor import JobFunction, Needs
from harness.execute.here import outcome_of
from harness.execute.progress import Report, Stopped, throttled
from harness.work.options import Workplace
from harness.work.results import Failure


@dataclass(frozen=True)
class Sent:
    """Bytes on their way through the cluster, each machine fetching them when it wants them."""

    reference: Any

    @classmethod
    def of(cls, content: bytes) -> Self:
        return cls(the_ray().put(content))

    def get(self) -> bytes:
        content: bytes = the_ray().get(self.reference)
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


def do_attempt(order: Order, channel: Any, number: int) -> Any:
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
    except Stopped as ending:
        return ending
    except DiskFull as error:
        return DiskFull(f"on {platform.node()}, a node of the Ray cluster, {error}")
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
        self.send(the_ray().get_runtime_context().get_node_id())
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
        ray = the_ray()
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
    ray = the_ray()
    alive, own = alive_nodes(ray), ray.get_runtime_context().get_node_id()
    [here] = [node for node in alive if node["NodeID"] == own]
    neighbours = [node["NodeManagerAddress"] for node in alive].count(here["NodeManagerAddress"])
    is_part = not needs.gpus and needs.cores < here["Resources"].get("CPU", 0)
    return Node(folder_of(run), is_shared=is_part or neighbours > 1)


def folder_of(run: str) -> Path:
    """Of a run, on the node where this is called; there may be several nodes on one machine."""
    node = the_ray().get_runtime_context().get_node_id()
    return Path(tempfile.gettempdir()) / f"harness-{run}-{node[:12]}"


def remove_folder(run: str) -> None:
    shutil.rmtree(folder_of(run), ignore_errors=True)


def the_ray() -> ModuleType:
    import ray

    return ray


def alive_nodes(ray: ModuleType) -> list[Mapping[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]
