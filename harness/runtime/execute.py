"""Where jobs run: in this process, or in a few worker processes of this machine.

A job is a function of one picklable value and of `report`, which it calls with its progress and
which raises Stopped when the work should stop. `execute(function, jobs, ...)` yields each job with
what came of it, in the order in which they end; a job that fails is a Failure and never stops the
others. Workers return their results and write to the store; nothing else.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import Any, TypeVar

from harness.errors import HarnessError
from harness.runtime.progress import Progress, Report, Stopped

Job = TypeVar("Job")
Function = Callable[[Any, Report], Any]
Outcomes = Generator[tuple[Job, Any]]
OnProgress = Callable[[Job, Progress], None]
ShouldStop = Callable[[], bool]


@dataclass(frozen=True)
class Failure:
    """Why a piece of work has no result: one line for the screen, the whole for the record."""

    reason: str
    details: str = ""


TELL_SECONDS = 0.2  # between two messages about one job: more would only cost the job its time


def here(
    function: Function,
    jobs: Sequence[Job],
    on_progress: OnProgress[Job],
    should_stop: ShouldStop,
    workers: int = 1,
    environments: Sequence[Mapping[str, str]] = (),
) -> Outcomes[Job]:
    """Run the jobs here, `workers` side by side, each with its own of the `environments` where
    there are some: what a process sees of the machine. Raises Stopped once all have stopped."""
    if workers == 1:
        return in_this_process(function, jobs, on_progress, should_stop)
    return in_workers(function, jobs, on_progress, should_stop, workers, environments)


def in_this_process(
    function: Function,
    jobs: Sequence[Job],
    on_progress: OnProgress[Job],
    should_stop: ShouldStop,
    workers: int = 1,
) -> Outcomes[Job]:
    for job in jobs:
        if should_stop():
            raise Stopped

        trouble: list[Exception] = []

        def tell(progress: Progress, job: Job = job, trouble: list[Exception] = trouble) -> None:
            try:
                on_progress(job, progress)
            except Exception as error:  # the driver's own, and no failure of the job
                trouble.append(error)
                raise Stopped from error

        try:
            outcome = outcome_of(function, job, throttled(tell, should_stop))
        except Stopped:
            if trouble:
                raise trouble[0] from None
            raise
        yield job, outcome


def in_workers(
    function: Function,
    jobs: Sequence[Job],
    on_progress: OnProgress[Job],
    should_stop: ShouldStop,
    workers: int,
    environments: Sequence[Mapping[str, str]] = (),
) -> Outcomes[Job]:
    waiting = list(reversed(jobs))
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    given = [*environments, *({} for _ in range(workers - len(environments)))]
    crew = [Worker(context, function, stop, own) for own in given[: min(workers, len(jobs))]]
    busy: dict[Connection, tuple[Worker, Job]] = {}
    try:
        idle = list(crew)
        while busy or (waiting and not stop.is_set()):
            while idle and waiting and not stop.is_set():
                worker, job = idle.pop(), waiting.pop()
                if not worker.process.is_alive():
                    crew.remove(worker)
                    crew.append(worker := Worker(context, function, stop, worker.environment))
                worker.pipe.send(job)
                busy[worker.pipe] = (worker, job)
            for pipe in wait(list(busy), timeout=TELL_SECONDS):
                worker, job = busy[pipe]  # type: ignore[index]  # the pipes are what we wait for
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    del busy[worker.pipe]
                    yield job, worker.obituary()
                    idle.append(worker)  # to be replaced if there is more to do
                    continue
                if isinstance(message, Progress):
                    on_progress(job, message)
                    continue
                del busy[worker.pipe]
                idle.append(worker)
                if not isinstance(message[0], Stopped):
                    yield job, message[0]
            if should_stop():
                stop.set()
        if stop.is_set():
            raise Stopped
    finally:
        stop.set()  # also where the reader of these outcomes goes away before the end
        for worker in crew:
            worker.dismiss()


class Worker:
    """A process that does one job after another."""

    def __init__(
        self, context: Any, function: Function, stop: Event, environment: Mapping[str, str]
    ):
        self.environment = environment
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=serve, args=(theirs, function, stop), daemon=True
        )
        with environment_of(environment):  # the process takes it over as it starts
            self.process.start()
        theirs.close()

    def obituary(self) -> Failure:
        """Why the process went away in the middle of a job."""
        self.process.join(5)
        code = self.process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return Failure(f"its process was killed by {name}{hint}")
        return Failure(f"its process ended with status {code}")

    def dismiss(self) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(30)
        if self.process.is_alive():
            self.process.kill()
        self.pipe.close()


@contextlib.contextmanager
def environment_of(changes: Mapping[str, str]) -> Iterator[None]:
    """The environment with these changes, for as long as the block lasts."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def serve(pipe: Connection, function: Function, stop: Event) -> None:
    """What a worker does: jobs until there are no more, or until the driver is gone."""
    # These reach the whole group; the driver alone decides what they mean.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    driver = multiprocessing.parent_process()

    def should_stop() -> bool:
        return stop.is_set() or (driver is not None and not driver.is_alive())

    def tell(progress: Progress) -> None:
        try:
            pipe.send(progress)
        except OSError:
            raise Stopped from None  # the driver is gone: save and end

    with contextlib.suppress(EOFError, OSError):
        while (job := pipe.recv()) is not None:
            try:
                outcome = outcome_of(function, job, throttled(tell, should_stop))
            except Stopped as stopped:
                outcome = stopped
            pipe.send((outcome,))


def outcome_of(function: Function, job: Any, report: Report) -> Any:
    """What the job returns, or why it failed. Stopped goes through."""
    try:
        return function(job, report)
    except Stopped:
        raise
    except HarnessError as error:
        return Failure(str(error))
    except Exception as error:
        return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())


def throttled(tell: Callable[[Progress], None], should_stop: ShouldStop) -> Report:
    """The `report` a job is given: it passes on what matters and what is due, and raises Stopped
    when the job should stop."""
    last = 0.0

    def report(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if progress.values or progress.files or now - last > TELL_SECONDS:
            last = now
            tell(progress)
        if should_stop():
            raise Stopped

    return report
