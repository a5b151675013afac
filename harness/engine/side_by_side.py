"""Parts of a batch side by side, a thread with its own cores each, on a processor.

Threads inside each operation meet at its end, hundreds of times in one evaluation; on small images
they wait there longer than they work, and for ever where another program has a core. These meet
once. Measured on two cores: 1.9 times faster than one thread on 8x8 images, where threads inside
operations gain 1.3, and 7 to 12 % faster than those on 32 and 64 pixels; with one core taken no
slower than one thread. Inception's features, eight images at a time, come 1.4 times faster.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from harness.diffusion.objective import Network
from harness.execute import machine

MOST_PARTS = (
    8  # parts at once: the interpreter works for one of them at a time, and would hold up more
)

Returned = TypeVar("Returned")


@dataclass(frozen=True)
class SideBySide:
    """A network whose evaluations go over all cores."""

    network: Network

    def __call__(self, x: Tensor, log_snr: Tensor) -> Tensor:
        sizes = sizes_of(len(x))
        if len(sizes) == 1:
            return self.network(x, log_snr)
        inference = torch.is_inference_mode_enabled()  # known to each thread for itself

        def part(x: Tensor, log_snr: Tensor) -> Tensor:
            with torch.inference_mode(inference):
                return self.network(x, log_snr)

        return torch.cat(on_all_cores(part, torch.split(x, sizes), torch.split(log_snr, sizes)))


def on_all_cores(function: Callable[..., Returned], *pieces: Iterable[Any]) -> list[Returned]:
    """The function of each piece of work, in their order."""
    return list(_threads(at_once(), machine.cores() // at_once()).map(function, *pieces))


def at_once() -> int:
    """How many pieces of work go side by side."""
    return min(machine.cores(), MOST_PARTS)


def sizes_of(batch: int) -> list[int]:
    """How many images each thread takes of a batch."""
    parts = min(batch, at_once())
    return [batch * (i + 1) // parts - batch * i // parts for i in range(parts)]


@cache
def _threads(count: int, cores_of_each: int) -> ThreadPoolExecutor:
    """Threads each of which has so many cores of its own."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, initializer=_take, initargs=(cores_of_each,))
    all_are_here = threading.Barrier(count)
    try:
        list(pool.map(lambda _: all_are_here.wait(), range(count)))
    except RuntimeError:  # there are no more threads
        all_are_here.abort()  # for those that wait would hold up the end of the process
        raise
    torch.set_num_threads(before)  # some libraries keep one number for all threads
    return pool


def _take(cores: int) -> None:
    torch.set_num_threads(cores)
    torch.get_num_threads()  # a thread takes over the common number when it first looks, once
