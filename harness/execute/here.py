"""The executor of this machine: jobs run in this process, or in a few worker processes.

Workers return their results and write to the store; nothing else.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

from harness.errors import DiskFull, Ended, HarnessError, reason_of
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
from harness.execute.interrupt import STATUSES
from harness.execute.progress import SECONDS, Progress, Report, Stopped, throttled
from harness.work.options import Workplace
from harness.work.results import Failure

CAN_BLOCK = hasattr(signal, "pthread_sigmask")  # signals; not on Windows


def here(
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
    """The Executor that starts no more than processes of its own."""
    if workers == 1:
        return in_this_process(function, jobs, at, on_progress, should_stop)
    context = multiprocessing.get_context("spawn")
    start = partial(Worker, context, function, at)
    given = [*environments, *({} for _ in range(workers - len(environments)))]
    given = given[: min(workers, len(jobs))]
    return in_workers(start, jobs, on_progress, should_stop, given)


def in_this_process(
    function: JobFunction[Job],
    jobs: Sequence[Job],
    at: Workplace,
    on_progress: OnProgress[Job],
    should_stop: ShouldStop,
    **_: object,
) -> Outcomes[Job]:
    trouble: list[Exception] = []
    waiting = deque(map(Attempt, jobs))
    while waiting:
        attempt = waiting.popleft()
        if should_stop():
            raise Stopped

        def send(progress: Progress, job: Job = attempt.job) -> None:
            try:
                on_progress(job, progress)
            except Exception as error:  # the driver's own, and no failure of the job
                trouble.append(error)
                raise Stopped from error

        try:
            outcome = outcome_of(function, attempt.job, at, throttled(send, should_stop))
        except Stopped:
            if trouble:
                raise trouble[0] from None
            raise
        outcome = attempt.after(outcome, on_progress)
        if isinstance(outcome, Attempt):
            waiting.append(outcome)
        else:
            yield attempt.job, outcome


def in_workers(
    start: Callable[[Mapping[str, str]], Worker],
    jobs: Sequence[Job],
    on_progress: OnProgress[Job],
    should_stop: ShouldStop,
    environments: Environments,
) -> Outcomes[Job]:
    waiting = deque(map(Attempt, jobs))
    crew = [start(environment) for environment in environments]
    busy: dict[Connection, tuple[Worker, Attempt[Job]]] = {}
    is_stopping = False
    try:
        idle = list(crew)
        while busy or waiting:
            while idle and waiting:
                worker = replaced(idle.pop(), crew, start)
                attempt = waiting.popleft()
                worker.tell(attempt.job)
                busy[worker.pipe] = (worker, attempt)
            for pipe in wait(list(busy), timeout=SECONDS):
                worker, attempt = busy[pipe]  # type: ignore[index]  # what we wait for
                message = worker.hear()
                if isinstance(message, Progress):
                    on_progress(attempt.job, message)
                    continue
                del busy[worker.pipe]
                idle.append(worker)  # to be replaced, where it ended, if there is more to do
                if isinstance(message, (Stopped, Lost)) and is_stopping:
                    continue
                outcome = attempt.after(message, on_progress)
                if isinstance(outcome, Attempt):
                    waiting.append(outcome)  # last: what took its memory may have ended by then
                else:
                    yield attempt.job, outcome
            if should_stop() and not is_stopping:
                is_stopping = True
                waiting.clear()
                end(crew)
        if is_stopping:
            raise Stopped
    except KeyboardInterrupt:  # asked for twice: at once
        kill(crew)
        raise
    finally:  # also where the reader of these outcomes stops reading before the end
        dismiss(crew)


def replaced(
    worker: Worker, crew: list[Worker], start: Callable[[Mapping[str, str]], Worker]
) -> Worker:
    """The worker, or another in its place in the crew where its process has ended."""
    if worker.process.is_alive():
        return worker
    worker.dismiss()
    crew.remove(worker)
    crew.append(another := start(worker.environment))
    return another


def end(crew: Sequence[Worker]) -> None:
    """Ask all to stop their jobs, where they have one, and to end."""
    for worker in crew:
        worker.tell(None)


def dismiss(crew: Sequence[Worker]) -> None:
    end(crew)
    for worker in crew:
        worker.dismiss()


def kill(crew: Sequence[Worker]) -> None:
    for worker in crew:
        worker.process.kill()


class Worker:
    """A process that does one job after another. It may start processes of its own."""

    def __init__(
        self,
        context: SpawnContext,
        function: JobFunction[Any],
        at: Workplace,
        environment: Mapping[str, str],
    ):
        self.environment = environment
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, function, at, environment)
        self.process: BaseProcess = context.Process(target=do_jobs, args=arguments)
        # Blocked until the process can ignore them: it takes seconds to load what it works with.
        with signals_blocked(), without_main():
            self.process.start()
        theirs.close()

    def tell(self, job: Any) -> None:
        """Give it a job, or None to end it. Of one that has just died, `hear` tells."""
        with contextlib.suppress(OSError):
            self.pipe.send(job)

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

    def obituary(self) -> Failure | Lost:
        """Why the process ended in the middle of a job."""
        self.process.join(5)
        code = self.process.exitcode
        if code is not None and code < 0:
            return Lost.by_signal(-code)
        return Failure(f"its process ended with status {code}")

    def dismiss(self) -> None:
        self.process.join(30)
        if self.process.is_alive():
            self.process.kill()
        self.pipe.close()


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Processes that are started here do not run the program's main module again, as spawned ones
    do: jobs need nothing of it, and it may be a script that starts a run as soon as it is read."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def do_jobs(
    pipe: Connection,
    function: JobFunction[Any],
    at: Workplace,
    environment: Mapping[str, str],
) -> None:
    """What a worker does: jobs until there are no more, or until the driver is gone."""
    os.environ.update(environment)  # a GPU is looked for when it is first needed, after this
    leave_signals_to_the_driver()
    report = reporting_to(pipe)
    with contextlib.suppress(EOFError, OSError):
        while (job := pipe.recv()) is not None:
            try:
                outcome = outcome_of(function, job, at, report)
            except (Stopped, DiskFull) as ended:
                outcome = ended
            pipe.send((outcome,))


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Within this context the signals that end a program wait, also in processes it starts."""
    if not CAN_BLOCK:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STATUSES)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_the_driver() -> None:
    """Ignore what reaches a whole group of processes: the driver alone decides what it means."""
    for number in STATUSES:
        signal.signal(number, signal.SIG_IGN)
    if CAN_BLOCK:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STATUSES)


def reporting_to(pipe: Connection) -> Report:
    """The `report` of a job in a process of its own: it raises Stopped when there is word from the
    process that started it, which then can only be to end, and when that process is gone.

    No lock is shared for this: one that is held by a process that is killed would hold up all.
    """

    def send(progress: Progress) -> None:
        try:
            pipe.send(progress)
        except OSError:
            raise Stopped from None  # the driver is gone: save and end

    return throttled(send, pipe.poll)


def outcome_of(function: JobFunction[Any], job: Any, at: Workplace, report: Report) -> Any:
    """What the job returns, or why it failed or was Lost. Stopped goes through, and a full disk, on
    which every other job would fail as well."""
    try:
        return function(job, at, report)
    except (Stopped, DiskFull, Ended):
        raise
    except Lost as lost:  # one of several processes that it started
        return lost
    except HarnessError as error:
        return Failure(str(error))
    except (Exception, SystemExit) as error:  # a part of another package may try to end us
        return Failure(reason_of(error), traceback.format_exc())
