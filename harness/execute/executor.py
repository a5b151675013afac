"""What runs jobs, wherever that is."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from harness.execute.progress import Progress, Report
from harness.work.options import Workplace

Job = TypeVar("Job")
JobFunction = Callable[[Job, Workplace, Report], Any]
Outcomes = Generator[tuple[Job, Any]]  # what the function returns, or a Failure
OnProgress = Callable[[Job, Progress], None]
ShouldStop = Callable[[], bool]
Environments = Sequence[Mapping[str, str]]


class Executor(Protocol):
    """Runs a function on each of some jobs and yields each job with its result or Failure, in the
    order in which they end; a job that fails never stops the others.

    A job is a picklable value that names no path; the function finds its files at the workplace of
    the machine where it runs, calls `report` with its progress, and saves what it has and lets
    Stopped through when `report` raises it. Once `should_stop()` is true all jobs are stopped and
    Stopped is raised. `workers` jobs run side by side, each with its own of the `environments`
    where there are some: what a process sees of the machine.
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
    ) -> Outcomes[Job]: ...
