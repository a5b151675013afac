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
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, Generic, Self

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

MOST_WAITING = 2  # jobs of which a worker still has the rest to do
CAN_BLOCK = hasattr(signal, "pthread_sigmask")  # signals; not on Windows

Start = Callable[[Mapping[str, str]], "Worker"]


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
    start = workers_of(function, at)
    given = [*environments, *({} for _ in range(workers - len(environments)))]
    given = given[: min(workers, len(jobs))]
    return in_workers(start, jobs, on_progress, should_stop, given)


def workers_of(function: JobFunction[Any], at: Workplace) -> Start:
    """What starts a worker that does this function's jobs, which sees so much of the machine."""
    return partial(Worker, multiprocessing.get_context("spawn"), function, at)


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
    start: Start,
    jobs: Sequence[Job],
    on_progress: OnProgress[Job],
    should_stop: ShouldStop,
    environments: Environments,
) -> Outcomes[Job]:
    with Crew(start, environments, on_progress) as crew:
        yield from done_by(crew, jobs, should_stop)


def done_by(crew: Crew[Job], jobs: Sequence[Job], should_stop: ShouldStop) -> Outcomes[Job]:
    """What comes of these jobs, which the crew does. Raises Stopped."""
    for job in jobs:
        crew.add(job)
    while len(crew):
        yield from crew.ended()
        if should_stop():
            crew.stop()
    if crew.is_stopping:
        raise Stopped


class KeptWorkers:
    """The Executor of this machine whose worker processes stay for the jobs that follow, since each
    takes seconds to load what it works with. Not those of a GPU, which hold its memory. As a
    context it ends them."""

    def __init__(self) -> None:
        self._crews: dict[object, Crew[Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        for crew in self._crews.values():
            crew.__exit__(kind, *rest)

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
        if workers == 1 or environments or at.device != "cpu":
            yield from here(
                function, jobs, at, on_progress, should_stop,
                workers=workers, environments=environments, needs=needs,
            )  # fmt: skip
            return
        crew = self._crews.pop((function, at), None)
        if crew is None:
            crew = Crew(workers_of(function, at), [], on_progress)
        with contextlib.ExitStack() as ending:
            ending.enter_context(crew)
            crew.on_progress = on_progress
            crew.grow(min(workers, len(jobs)))
            yield from done_by(crew, jobs, should_stop)
            ending.pop_all()  # what ends in order may go on
            self._crews[function, at] = crew


def rest_beside(outcomes: Outcomes[Job], crew: Crew[Job], should_stop: ShouldStop) -> Outcomes[Job]:
    """Jobs that an executor has done a part of, with what comes of the rest, which the crew does
    while the executor goes on with others; those that failed as they are. Few wait for the crew."""
    with contextlib.closing(outcomes):
        for job, outcome in outcomes:
            if isinstance(outcome, Failure):
                yield job, outcome
            else:
                crew.add(job)
            yield from crew.until_few_are_left(crew.most, should_stop)
        yield from crew.until_few_are_left(0, should_stop)


class Crew(Generic[Job]):
    """Worker processes, and the jobs that they do or are to do. As a context it ends them, also
    where the reader of their outcomes stops reading before the end."""

    def __init__(self, start: Start, environments: Environments, on_progress: OnProgress[Job]):
        self._start, self.on_progress = start, on_progress
        self._workers = [start(environment) for environment in environments]
        self._idle = list(self._workers)
        self._busy: dict[Connection, tuple[Worker, Attempt[Job]]] = {}
        self._waiting: deque[Attempt[Job]] = deque()
        self.is_stopping = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind and issubclass(kind, KeyboardInterrupt):  # asked for twice: at once
            for worker in self._workers:
                worker.process.kill()
        self._end()
        for worker in self._workers:
            worker.dismiss()

    def __len__(self) -> int:
        """How many jobs have not ended."""
        return len(self._busy) + len(self._waiting)

    @property
    def most(self) -> int:
        """How many jobs may be left to the crew before others wait for it."""
        return MOST_WAITING * len(self._workers)

    def grow(self, workers: int) -> None:
        """Start as many more as make it so many."""
        more = [self._start({}) for _ in range(workers - len(self._workers))]
        self._workers += more
        self._idle += more

    def add(self, job: Job) -> None:
        self._waiting.append(Attempt(job))

    def stop(self) -> None:
        """Ask all to stop their jobs, where they have one, and to end; nothing more is begun."""
        if not self.is_stopping:
            self.is_stopping = True
            self._waiting.clear()
            self._end()

    def ended(self, timeout: float = SECONDS) -> list[tuple[Job, Any]]:
        """The jobs that end, within so many seconds, with what came of each. What waits is begun
        before they are looked at."""
        self._begin()
        found = []
        for pipe in wait(list(self._busy), timeout=timeout):
            worker, attempt = self._busy[pipe]  # type: ignore[index]  # what we wait for
            message = worker.hear()
            if isinstance(message, Progress):
                self.on_progress(attempt.job, message)
                continue
            del self._busy[worker.pipe]
            self._idle.append(worker)  # to be replaced, where it ended, if there is more to do
            if isinstance(message, (Stopped, Lost)) and self.is_stopping:
                continue
            outcome = attempt.after(message, self.on_progress)
            if isinstance(outcome, Attempt):
                self._waiting.append(outcome)  # last: what took its memory may have ended by then
            else:
                found.append((attempt.job, outcome))
        self._begin()
        return found

    def until_few_are_left(self, most: int, should_stop: ShouldStop) -> Outcomes[Job]:
        """Those that have ended, and those that end until no more than so many have not. Raises
        Stopped."""
        yield from self.ended(0)
        while len(self) > most:
            if should_stop():
                raise Stopped
            yield from self.ended()

    def _begin(self) -> None:
        while self._idle and self._waiting:
            worker = self._replaced(self._idle.pop())
            attempt = self._waiting.popleft()
            worker.tell(attempt.job)
            self._busy[worker.pipe] = (worker, attempt)

    def _replaced(self, worker: Worker) -> Worker:
        """The worker, or another in its place where its process has ended."""
        if worker.process.is_alive():
            return worker
        worker.dismiss()
        self._workers.remove(worker)
        self._workers.append(another := self._start(worker.environment))
        return another

    def _end(self) -> None:
        for worker in self._workers:
            worker.tell(None)


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
        self.pipe.close()  # first: it may be in the middle of telling what nobody reads any more
        self.process.join(30)
        if self.process.is_alive():
            self.process.kill()


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
    # Python starts this with the first process, and lets signals through again as it does.
    resource_tracker.ensure_running()
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
