"""Several processes that train one network: one job starts them, and each has a share of a batch.

The mathematics of a step do not change: every process draws the times and the noise of the whole
batch and takes its own part, gradients are averaged over all, and so each takes the same step of
the optimiser. They are averaged after the backward pass, and not in it as PyTorch's
DistributedDataParallel does: a process whose memory runs out in the middle of it would leave the
others waiting for ever.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any, Self

import torch
from torch import Tensor, distributed, nn

from harness.errors import HarnessError, MachineError
from harness.execute import machine
from harness.execute.executor import Lost
from harness.execute.here import leave_signals_to_the_driver, reporting_to
from harness.execute.progress import SECONDS, Progress, Report, Stopped


@dataclass(frozen=True)
class Share:
    """Of process `rank`, one of `size`."""

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> Self:
        """The share of this process; all there is where it trains alone."""
        if not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def of(self, batch: int) -> slice:
        """Which images of a batch are its own: as many as the others', or one more or less."""
        return slice(batch * self.rank // self.size, batch * (self.rank + 1) // self.size)

    def most(self, batch: int) -> int:
        """How many images the largest share of a batch has."""
        return -(-batch // self.size)

    def any(self, happened: bool) -> bool:
        """Whether it happened in one of the processes, as all of them are told."""
        if self.size == 1:
            return happened
        word = torch.tensor([int(happened)])
        distributed.all_reduce(word)
        return bool(word)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the gradients over the processes."""
        gradients = [one.grad for one in parameters if one.grad is not None]
        if self.size == 1 or not gradients:
            return
        together = torch.cat([one.flatten() for one in gradients])  # one message, and not hundreds
        distributed.all_reduce(together)
        together /= self.size
        means = torch.split(together, [one.numel() for one in gradients])
        for one, mean in zip(gradients, means, strict=True):
            one.copy_(mean.view(one.shape))

    def mean(self, losses: Tensor, batch: int) -> Tensor:
        """What to take the gradient of, so that the average over the processes is the gradient of
        the mean loss of the whole batch. `losses` [n] are those of this share, or of a part of it:
        the gradients of all its parts add up."""
        return losses.mean() * (len(losses) * self.size / batch)

    def all_of(self, losses: Tensor, batch: int) -> Tensor:
        """The losses [batch] of all shares, in the order of the images."""
        if self.size == 1:
            return losses
        whole = torch.zeros(batch, device=losses.device)
        whole[self.of(batch)] = losses
        distributed.all_reduce(whole)
        return whole

    def decide(self, go_on: Callable[[], None]) -> None:
        """Let the first process decide whether to go on: what it raises there ends the others,
        too, with Stopped."""
        if self.size == 1:
            return go_on()
        trouble: Exception | None = None
        if self.is_first:
            try:
                go_on()
            except Exception as error:
                trouble = error
        word = torch.tensor([int(trouble is not None)])
        distributed.broadcast(word, 0)
        if trouble:
            raise trouble
        if word:
            raise Stopped
        return None


ALONE = Share()


def in_processes(count: int, device: str, report: Report, function: Callable[..., Any],
                 *arguments: Any) -> Any:  # fmt: skip
    """What `function(*arguments, report)` returns in the first of `count` processes that run it
    together, each on a GPU of its own where `device` is one. Stopped of the first of them is raised
    here, and so is a HarnessError of any, which ends them all.

    Torch's elastic launcher starts them, in a thread: in the main one it would take over the
    signals, which mean that the work is to be saved.
    """
    check_devices(count, device)
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("distributed.elastic", "multiprocessing.spawn"):  # what is wrong is raised here
        logging.getLogger(f"torch.{name}").setLevel(logging.CRITICAL)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    troubles = [context.Pipe(duplex=False) for _ in range(count)]  # one each: none waits for others
    with tempfile.TemporaryDirectory() as logs, ThreadPoolExecutor(1) as pool:
        config = LaunchConfig(
            1, 1, count, logs_specs=DefaultLogsSpecs(logs), run_id=uuid.uuid4().hex,
            rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost",
            max_restarts=0,
        )  # fmt: skip
        launch = elastic_launch(config, _one_of_them)
        tell = [one for _, one in troubles]
        ended = pool.submit(launch, device, theirs, tell, function, arguments)
        try:
            _pass_on(ours, report, ended)
            outcome = ended.result()[0]
        except ChildFailedError as error:
            if told := [trouble.recv() for trouble, _ in troubles if trouble.poll()]:
                raise told[0] from None
            rank, failure = error.get_first_failure()
            if failure.exitcode < 0:
                raise Lost.by_signal(-failure.exitcode) from error
            raise RuntimeError(
                f"process {rank} of {count} that train together ended: {failure.message}"
            ) from error
        finally:
            _stop(ours)
    if isinstance(outcome, Stopped):
        raise outcome
    return outcome


def check_devices(count: int, device: str) -> None:
    """Raises MachineError where so many processes cannot have a device each."""
    found = machine.find_device(device)
    if found.type not in ("cpu", "cuda"):
        raise MachineError(
            f"processes on '{found}' cannot train together. Use training.devices: 1, or --device "
            "cpu."
        )
    if found.type == "cuda" and found.index is not None:
        raise MachineError(
            f"each of {count} processes that train together takes a GPU of its own. Use --device "
            f"cuda, not {device}."
        )
    if found.type == "cuda" and count > torch.cuda.device_count():
        raise MachineError(
            f"training.devices is {count}, and there are {torch.cuda.device_count()} GPUs. Use at "
            "most as many, or --device cpu."
        )


def _stop(pipe: Connection) -> None:
    with suppress(OSError):  # all have ended
        pipe.send(None)


def _pass_on(pipe: Connection, report: Report, ended: Future[Any]) -> None:
    """Report what the first process reports until all have ended; tell it when to stop."""
    last = Progress(0, 1)
    while not ended.done() or pipe.poll():
        if is_news := pipe.poll(SECONDS):
            last = pipe.recv()
        try:  # also without news: the work may have to stop before its first step
            report(last if is_news else Progress(last.done, last.total))
        except Stopped:
            _stop(pipe)


def _one_of_them(
    device: str, pipe: Connection, tell: list[Connection], function: Callable[..., Any],
    arguments: Any,
) -> Any:  # fmt: skip
    """What each process does. It tells an error that is for the user and fails with it, so that the
    launcher ends the others, which may wait for this one; Stopped ends all by themselves."""
    leave_signals_to_the_driver()
    on_gpus = machine.find_device(device).type == "cuda"
    if on_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
    # All wait for the first one, which draws, saves and reports between two steps.
    distributed.init_process_group(backend, timeout=timedelta(days=1))
    rank = distributed.get_rank()
    try:
        found = function(*arguments, reporting_to(pipe))
    except Stopped as stopped:
        found = stopped
    except HarnessError as error:
        tell[rank].send(error)
        raise
    finally:
        distributed.destroy_process_group()
    return found if rank == 0 else None
