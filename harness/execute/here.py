"""The executor of this machine: jobs run in this process, or in a few worker processes.

Workers return their results and write to the store; nothing else.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import Any

from harness.errors import DiskFull, HarnessError, reason_of
from harness.execute.executor import (
    Environments,
    Job,
    JobFunction,
    OnProgress,
    Outcomes,
    ShouldStop,
)
from harness.execute.interrupt import STATUSES
from harness.execute.progress import SECONDS, Progress, Report, Stopped, throttled
from harness.work.options import Workplace
from harness.work.results import Failure


def here(
    function: JobFunction[Job],
    jobs: Sequence[Job],
    at: Workplace,
    on_progress: OnProgress[Job],
    should_stop: ShouldStop,
    *,
    workers: int = 1,
    environments: Environments = (),
) -> Outcomes[Job]:
    """The Executor that starts no more than processes of its own."""
    if workers == 1:
        return in_this_process(function, jobs, at, on_progress, should_stop)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    start = partial(Worker, context, function, at, stop)
    given = [*environments, *({} for _ in range(workers - len(environments)))]
    given = given[: min(workers, len(jobs))]
    return in_workers(start, stop, jobs, on_progress, should_stop, given)


def in_this_process(
    function: JobFunction[Job],
    jobs: Sequence[Job],
    at: Workplace,
    on_progress: OnProgress[Job],
    should_stop: ShouldStop,
    **_: object,
) -> Outcomes[Job]:
    trouble: list[Exception] = []
    for job in jobs:
        if should_stop():
            raise Stopped

        def send(progress: Progress, job: Job = job) -> None:
            try:
                on_progress(job, progress)
            except Exception as error:  # the driver's own, and no failure of the job
                trouble.append(error)
                raise Stopped from error

        try:
            outcome = outcome_of(function, job, at, throttled(send, should_stop))
        except Stopped:
            if trouble:
                raise trouble[0] from None
            raise
        yield job, outcome


def in_workers(
    start: Callable[[Mapping[str, str]], Worker],
    stop: Event,
    jobs: Sequence[Job],
    on_progress: OnProgress[Job],
    should_stop: ShouldStop,
    environments: Environments,
) -> Outcomes[Job]:
    waiting = list(reversed(jobs))
    crew = [start(environment) for environment in environments]
    busy: dict[Connection, tuple[Worker, Job]] = {}
    try:
        idle = list(crew)
        while busy or (waiting and not stop.is_set()):
            while idle and waiting and not stop.is_set():
                worker = idle.pop()
                if not worker.process.is_alive():
                    crew.remove(worker)
                    crew.append(worker := start(worker.environment))
                job = waiting.pop()
                worker.pipe.send(job)
                busy[worker.pipe] = (worker, job)
            for pipe in wait(list(busy), timeout=SECONDS):
                worker, job = busy[pipe]  # type: ignore[index]  # the pipes are what we wait for
                message = worker.hear()
                if isinstance(message, Progress):
                    on_progress(job, message)
                    continue
                del busy[worker.pipe]
                idle.append(worker)  # to be replaced, where it ended, if there is more to do
                if not isinstance(message, Stopped):
                    yield job, message
            if should_stop():
                stop.set()
        if stop.is_set():
            raise Stopped
    except KeyboardInterrupt:  # asked for twice: at once
        for worker in crew:
            worker.process.kill()
        raise
    finally:
        stop.set()  # also where the reader of these outcomes stops reading before the end
        for worker in crew:
            worker.dismiss()


class Worker:
    """A process that does one job after another. It may start processes of its own."""

    def __init__(
        self,
        context: SpawnContext,
        function: JobFunction[Any],
        at: Workplace,
        stop: Event,
        environment: Mapping[str, str],
    ):
        self.environment = environment
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, function, at, stop, environment)
        self.process: BaseProcess = context.Process(target=do_jobs, args=arguments)
        # Blocked until the process can ignore them: it takes seconds to load what it works with.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STATUSES)
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def hear(self) -> Any:
        """Its next word about its job: progress, or what came of it. Raises DiskFull."""
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            return self.obituary()
        if isinstance(message, Progress):
            return message
        if isinstance(message[0], DiskFull):
            raise message[0]
        return message[0]

    def obituary(self) -> Failure:
        """Why the process ended in the middle of a job."""
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


def do_jobs(
    pipe: Connection,
    function: JobFunction[Any],
    at: Workplace,
    stop: Event,
    environment: Mapping[str, str],
) -> None:
    """What a worker does: jobs until there are no more, or until the driver is gone."""
    os.environ.update(environment)  # a GPU is looked for when it is first needed, after this
    leave_signals_to_the_driver()
    report = reporting_to(pipe, stop)
    with contextlib.suppress(EOFError, OSError):
        while (job := pipe.recv()) is not None:
            try:
                outcome = outcome_of(function, job, at, report)
            except (Stopped, DiskFull) as ended:
                outcome = ended
            pipe.send((outcome,))


def leave_signals_to_the_driver() -> None:
    """Ignore what reaches a whole group of processes: the driver alone decides what it means."""
    for number in STATUSES:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STATUSES)


def reporting_to(pipe: Connection, stop: Event) -> Report:
    """The `report` of a job in a process of its own: it raises Stopped when it is asked to stop,
    and when the process that started it is gone."""
    driver = multiprocessing.parent_process()

    def should_stop() -> bool:
        return stop.is_set() or (driver is not None and not driver.is_alive())

    def send(progress: Progress) -> None:
        try:
            pipe.send(progress)
        except OSError:
            raise Stopped from None  # the driver is gone: save and end

    return throttled(send, should_stop)


def outcome_of(function: JobFunction[Any], job: Any, at: Workplace, report: Report) -> Any:
    """What the job returns, or why it failed. Stopped goes through, and a full disk, on which
    every other job would fail as well."""
    try:
        return function(job, at, report)
    except (Stopped, DiskFull):
        raise
    except HarnessError as error:
        return Failure(str(error))
    except (Exception, SystemExit) as error:  # a part of another package may try to end us
        return Failure(reason_of(error), traceback.format_exc())
