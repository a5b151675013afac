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

from harness.engine.fastest import seconds
from harness.execute.others import Others
from harness.execute.screen import Screen

if TYPE_CHECKING:
    from harness.work.outputs import BenchOutput, CompilingOutput

SECONDS_A_SET = 12.0  # for one set of pieces that are compared ...
TURNS = (3, 40)  # ... of which each has at least and at most so many turns
PRODUCT_SIDES = (1024, 2048, 4096, 8192)  # of matrices whose product shows the device's peak: ...
PRODUCT_SECONDS = 0.02  # ... the first that takes so long, a thousand times what starting it does

Timed = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """One figure that can be held against a bound; `wanted` is the bound in words."""

    title: str
    value: float
    wanted: str = ""


@dataclass(frozen=True)
class Turns:
    """The seconds of one piece of work at each of its turns."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Between the quartiles, relative to the median."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, method="inclusive")
        return (high - low) / self.median


@dataclass
class Part:
    """What was measured of one part of the work."""

    name: str
    ratios: dict[str, Ratio] = field(default_factory=dict)
    absolute: dict[str, float] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)  # by piece, as `Turns` has it
    compiling: CompilingOutput | None = None  # where a network was to be compiled

    def in_turns(self, pieces: Mapping[str, Timed], device: torch.device) -> dict[str, float]:
        """The median seconds of each piece."""
        turns = in_turns(pieces, device)
        self.spread |= {f"{self.name}: {name}": one.spread for name, one in turns.items()}
        return {name: one.median for name, one in turns.items()}

    def as_text(self) -> str:
        lines = [
            (number(one.value), one.title + f" ({one.wanted})" * bool(one.wanted))
            for one in self.ratios.values()
        ]
        lines += [(number(value), name.replace("_", " ")) for name, value in self.absolute.items()]
        told = [self.name, *(f"{value:>10}  {what}" for value, what in lines)]
        if made := self.compiling:
            failed = f" in vain, it goes on without: {made['trouble']}" * bool(made["trouble"])
            told.append(f"{number(made['seconds']):>10}  seconds of compiling its network{failed}")
        return "\n".join(told)


@dataclass
class BenchReport:
    """What was measured, for a person and for a program."""

    machine: dict[str, str | int]
    parts: list[Part] = field(default_factory=list)
    others: Others = field(default_factory=lambda: Others(None, None, None))

    def add(self, part: Part, screen: Screen) -> None:
        """The next part, which the screen tells of at once."""
        self.parts.append(part)
        screen.say(f"\n{part.as_text()}")

    @property
    def spread(self) -> dict[str, float]:
        return {name: value for part in self.parts for name, value in part.spread.items()}

    def as_json(self) -> BenchOutput:
        return {
            "machine": self.machine,
            "ratios": {name: one.value for part in self.parts for name, one in part.ratios.items()},
            "absolute": {
                name: value for part in self.parts for name, value in part.absolute.items()
            },
            "compiling": {part.name: part.compiling for part in self.parts if part.compiling},
            "spread": self.spread,
            "others": self.others.as_json(max(self.spread.values(), default=0.0)),
        }

    def heading(self) -> str:
        """Where it was measured, and what."""
        told = [f"{name} {value}" for name, value in self.machine.items() if name != "name"]
        return "\n".join([str(self.machine["name"]), *filter(None, [", ".join(told)])])

    def closing(self) -> str:
        """Whether its seconds can be used."""
        spread = self.spread
        where = max(spread, key=lambda name: spread[name], default="")
        return self.others.told(spread.get(where, 0.0), where)

    def as_text(self) -> str:
        parts = (part.as_text() for part in self.parts)
        return "\n\n".join([self.heading(), *parts, self.closing()])


def number(value: float) -> str:
    """A figure as a person reads it."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def in_turns(pieces: Mapping[str, Timed], device: torch.device) -> dict[str, Turns]:
    """The seconds of each piece, the pieces in turns, there and back, so that what else the machine
    does falls on all of them; each runs once before the clock does."""
    taken: dict[str, list[float]] = {name: [] for name in pieces}
    for piece in pieces.values():
        piece()
    order = list(pieces.items())
    started = time.perf_counter()
    for turn in range(TURNS[1]):
        if turn >= TURNS[0] and time.perf_counter() - started > SECONDS_A_SET:
            break
        for name, piece in order:
            taken[name].append(seconds(piece, device))
        order.reverse()
    return {name: Turns(tuple(each)) for name, each in taken.items()}


def flops_of(piece: Timed) -> float:
    """The floating-point operations that a piece of work asks for."""
    with FlopCounterMode(display=False) as counter:
        piece()
    return float(counter.get_total_flops())


def matrix_product(precision: str, device: torch.device, cores: int) -> tuple[Timed, float]:
    """A product of matrices in this precision, on a processor by so many threads, and how many
    operations it is: as many in a second as can be had, for it is so large that what starts it
    takes next to no time."""

    def product(side: int) -> Timed:
        dtype = getattr(torch, precision)
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in "ab")

        def multiply() -> None:
            with threads(cores):
                a @ b

        return multiply

    for side in PRODUCT_SIDES:
        piece = product(side)
        piece()  # the first one is slower
        if seconds(piece, device) > PRODUCT_SECONDS:
            break
    return piece, 2.0 * side**3


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch use so many threads on a processor, for as long as the block lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
