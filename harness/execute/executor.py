"""What runs jobs, wherever that is."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, Self, TypeVar

from harness.execute.progress import Progress, Report
from harness.work.options import Workplace
from harness.work.results import Failure

MOST_RETRIES = 2  # of a job whose process was killed

Job = TypeVar("Job")
JobFunction = Callable[[Job, Workplace, Report], Any]
Outcomes = Generator[tuple[Job, Any]]  # what the function returns, or a Failure
OnProgress = Callable[[Job, Progress], None]
ShouldStop = Callable[[], bool]
Environments = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Needs:
    """What one job takes of the machine of a cluster where it runs."""

    gpus: int = 0
    cores: int = 1


ONE_CORE = Needs()


class Executor(Protocol):
    """Runs a function on each of some jobs and yields each job with its result or Failure, in the
    order in which they end; a job that fails never stops the others. A job whose process is killed
    is tried again, which `on_progress` tells, up to MOST_RETRIES times.

    A job is a picklable value that names no path; the function finds its files at the workplace of
    the machine where it runs, calls `report` with its progress, and saves what it has and lets
    Stopped through when `report` raises it. Once `should_stop()` is true all jobs are stopped and
    Stopped is raised. `workers` jobs run side by side, each with its own of the `environments`
    where there are some: what a process sees of the machine. On a cluster its resources decide how
    many do, of which each takes what it `needs`.
    """

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
    ) -> Outcomes[Job]: ...


class Lost(Exception):
    """The process that did a job was killed, which is no failure of the job."""

    @classmethod
    def by_signal(cls, number: int) -> Self:
        named = {one.value: one.name for one in signal.Signals}
        name = named.get(number, f"signal {number}")  # those of real time have no name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return cls(f"its process was killed by {name}{hint}")


@dataclass(frozen=True)
class Attempt(Generic[Job]):
    """A job that is tried for this time, counted from one."""

    job: Job
    number: int = 1

    def after(self, outcome: Any, on_progress: OnProgress[Job]) -> Any:
        """What came of it; where it was Lost, the next attempt, of which the driver is told, or a
        Failure where there were enough."""
        if not isinstance(outcome, Lost):
            return outcome
        if self.number > MOST_RETRIES:
            return Failure(f"{outcome}; it was tried {self.number} times")
        on_progress(self.job, Progress(0, 1, lost=str(outcome)))
        return replace(self, number=self.number + 1)
