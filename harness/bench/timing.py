"""Pieces of work in turns, and what is reported of them: ratios of medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.execute import machine

if TYPE_CHECKING:
    from harness.work.outputs import BenchOutput

SECONDS_A_SET = 12.0  # for one set of pieces that are compared ...
TURNS = (3, 40)  # ... of which each has at least and at most so many turns
PEAK_SIDE, PEAK_SIDE_OF_GPU = 2048, 8192  # of the matrices whose product is the device's peak

Timed = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """One figure that can be held against a bound; `wanted` is the bound in words."""

    title: str
    value: float
    wanted: str = ""


@dataclass
class BenchReport:
    """What was measured, for a person and for a program."""

    machine: dict[str, str | int]
    ratios: dict[str, Ratio] = field(default_factory=dict)
    absolute: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> BenchOutput:
        ratios = {name: ratio.value for name, ratio in self.ratios.items()}
        return {"machine": self.machine, "ratios": ratios, "absolute": self.absolute}

    def as_text(self) -> str:
        where = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        ratios = [
            f"{ratio.value:8.3g}  {ratio.title}{f' ({ratio.wanted})' * bool(ratio.wanted)}"
            for ratio in self.ratios.values()
        ]
        absolute = [
            f"{value:8.4g}  {name.replace('_', ' ')}" for name, value in self.absolute.items()
        ]
        return "\n".join([where, "", *ratios, "", *absolute])


def in_turns(pieces: Mapping[str, Timed], device: torch.device) -> dict[str, float]:
    """The median seconds of each piece, the pieces in turns so that what else the machine does
    falls on all of them; each runs once before the clock does."""
    taken: dict[str, list[float]] = {name: [] for name in pieces}
    for piece in pieces.values():
        piece()
    started = time.perf_counter()
    for turn in range(TURNS[1]):
        if turn >= TURNS[0] and time.perf_counter() - started > SECONDS_A_SET:
            break
        for name, piece in pieces.items():
            machine.wait_for(device)
            began = time.perf_counter()
            piece()
            machine.wait_for(device)
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def flops_of(piece: Timed) -> float:
    """The floating-point operations that a piece of work asks for."""
    with FlopCounterMode(display=False) as counter:
        piece()
    return float(counter.get_total_flops())


def peak(precision: str, device: torch.device, number: int) -> float:
    """Operations per second of a large matrix product in this precision: what can be had, on a
    processor by so many threads."""
    side = PEAK_SIDE_OF_GPU if device.type == "cuda" else PEAK_SIDE
    a, b = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in "ab")
    with threads(number):
        return 2.0 * side**3 / in_turns({"product": lambda: a @ b}, device)["product"]


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch use so many threads on a processor, for as long as the block lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
