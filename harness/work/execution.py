"""How a network is computed on a machine: what changes its speed, and the last bits of what it
learns, but not what it is asked to learn."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from pydantic import TypeAdapter, ValidationError

PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Format:
    """In which precision a network computes, and whether the channels of a pixel lie side by side
    in memory."""

    precision: str
    channels_last: bool

    def __str__(self) -> str:
        return f"{self.precision}, channels last" if self.channels_last else self.precision


@dataclass(frozen=True)
class Execution:
    """How the trainings of one network are computed on one machine, and by how much that is faster
    than what the rule takes, which goes by the processor's instructions and the size of images."""

    machine: str
    data: str
    network: str  # and what its images are: `tiny at 8x8`
    asked: str  # the precision that the grid asks for
    format: Format
    threads: int | None  # of each training; None on a GPU
    rule_format: Format
    rule_threads: int | None
    gain: float | None = None  # times as fast as the rule; None where it was not measured

    @classmethod
    def from_json(cls, text: bytes) -> Self | None:
        """None where that is not what the fields of one are in JSON."""
        with suppress(ValidationError):
            found = TypeAdapter(cls).validate_json(text)
            return found if found.format.precision in PRECISIONS else None
        return None

    @property
    def is_rule(self) -> bool:
        return (self.format, self.threads) == (self.rule_format, self.rule_threads)

    def said(self) -> str:
        """What was chosen and what that gains, in a sentence without its full stop."""
        chosen = _told(self.format, self.threads)
        told = f"{self.network} is computed in {chosen}"
        if self.gain is None:
            return f"{told}, by rule"
        if self.is_rule:
            return f"{told}: nothing else is clearly faster here"
        rule = _told(self.rule_format, self.rule_threads)
        return f"{told}: {self.gain:.2f} times as fast here as in {rule}"


def _told(format: Format, threads: int | None) -> str:
    """`bfloat16, 2 threads`."""
    if threads is None:
        return str(format)
    return f"{format}, {threads} thread{'' if threads == 1 else 's'}"
