"""One job over several processes of this machine, as torchrun starts them:

    torchrun --standalone --nproc-per-node 2 -m harness run GRID

The first process does what a run always does; at each job that is to be shared it calls in the
others, which do nothing of their own. All then run the same function on the same job, in step:
whenever the first reports its progress, it tells the others to go on or to stop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from harness.errors import HarnessError, MachineError
from harness.runtime import machine
from harness.runtime.execute import Function, OnProgress, Outcomes, ShouldStop, in_this_process
from harness.runtime.progress import Progress, Report, Stopped

GO, STOP, JOB, END = range(4)  # what the first process tells the others
PATIENCE = timedelta(days=30)  # for its next word: a run scores for hours after its trainings


class OutOfStep(SystemExit):
    """The processes no longer do the same: the run ends, and goes on from what was saved."""


@contextlib.contextmanager
def crew(device: str) -> Iterator[None]:
    """Around a run: the processes that torchrun started join, the first goes on, and the others
    serve it until it has done and then exit.

    Raises MachineError where there are more processes than GPUs for them, or on other machines.
    """
    if os.environ["LOCAL_WORLD_SIZE"] != os.environ["WORLD_SIZE"]:
        raise MachineError(
            "torchrun started processes on several machines; those of one train a network together"
        )
    on_gpus = device != "cpu" and torch.cuda.is_available()
    if on_gpus:
        if torch.device(device if device != "auto" else "cuda").index is not None:
            raise MachineError(
                f"each process that torchrun started takes a GPU of its own: --device cuda would "
                f"do, not {device}"
            )
        if machine.processes() > torch.cuda.device_count():
            raise MachineError(
                f"torchrun started {machine.processes()} processes, and there are "
                f"{torch.cuda.device_count()} GPUs. One for each would do, or --device cpu."
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout=PATIENCE)
    if distributed.get_rank() > 0:
        follow()
        distributed.destroy_process_group()
        sys.exit(0)
    try:
        yield
    except OutOfStep:  # nothing reaches the others any more: torchrun ends them
        raise
    except BaseException:
        tell(END)
        raise
    tell(END)
    distributed.destroy_process_group()


def lead(
    function: Function,
    jobs: Sequence[Any],
    on_progress: OnProgress[Any],
    should_stop: ShouldStop,
    workers: int = 1,
) -> Outcomes[Any]:
    """An `execute` of the first process: one job after the other, each by all processes."""

    def shared(job: Any, report: Report) -> Any:
        tell(JOB)
        distributed.broadcast_object_list([(function, job)])

        def go_on(progress: Progress) -> None:
            report(progress)
            tell(GO)

        try:
            return function(job, go_on)
        except (Stopped, HarnessError):
            tell(STOP)
            raise
        except BaseException as error:  # the others may be in the middle of a step
            raise OutOfStep(f"training together failed: {error or type(error).__name__}") from error
        finally:
            machine.free_spare_memory()

    return in_this_process(shared, jobs, on_progress, should_stop)


def follow() -> None:
    """What the other processes do: their part of each job, until the first has done."""
    # These reach all processes; the first alone decides what they mean.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    while (word := hear()) != END:
        if word == GO:
            raise OutOfStep("a process that trains along fell out of step")
        if word == JOB:
            called: list[tuple[Callable[[Any, Report], Any], Any] | None] = [None]
            distributed.broadcast_object_list(called)
            assert called[0] is not None
            function, job = called[0]
            # What stops the job here stops it in the first process, too, which tells of it.
            with contextlib.suppress(Stopped, HarnessError):
                function(job, go_on_or_stop)
            machine.free_spare_memory()  # cells are scored on its GPU, by another process


def go_on_or_stop(progress: Progress) -> None:
    """The `report` of a process that follows."""
    if hear() == STOP:
        raise Stopped


def tell(word: int) -> None:
    distributed.broadcast(torch.tensor([word]), 0)


def hear() -> int:
    word = torch.tensor([END])
    distributed.broadcast(word, 0)
    return int(word)
