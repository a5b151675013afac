"""One claim about one part, and on what it is checked.

A claim is a number that is expected, one that is found, and how far apart they may lie. Most are
counts of faults, or differences, of which 0 is expected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness.errors import Ended, reason_of
from harness.lazy import torch

if TYPE_CHECKING:
    from harness.work.outputs import CheckOutput, NotCheckedOutput


class CannotCheck(Exception):
    """Why a part cannot be checked here."""


@dataclass(frozen=True)
class Bench:
    """Where and in what the checks are made."""

    dtype: torch.dtype
    device: torch.device
    data_dir: Path = Path()  # of the large files that data sets and extractors may need
    options: Mapping[str, Any] = field(default_factory=dict)  # of the part that is checked

    def ulps(self, count: float) -> float:
        """So many units in the last place of 1."""
        return count * torch.finfo(self.dtype).eps

    def tensor(self, values: Any) -> torch.Tensor:
        return torch.as_tensor(values, dtype=self.dtype, device=self.device)

    @property
    def precision(self) -> str:
        return str(self.dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Check:
    """One claim: what was expected, and what was found on this machine."""

    kind: str
    part: str
    claim: str
    expected: float
    found: float
    tolerance: float
    precision: str
    reason: str = ""  # why nothing was found

    @property
    def holds(self) -> bool:
        return abs(self.found - self.expected) <= self.tolerance  # false for NaN

    @property
    def row(self) -> tuple[str, ...]:
        """The cells of a table's row, as text."""
        verdict, part = "ok" if self.holds else "FAILS", f"{self.kind} {self.part}"
        found = f"{self.expected:.6g}", f"{self.found:.6g}", f"{self.tolerance:.2g}"
        return verdict, part, self.claim, *found, self.precision

    def as_json(self) -> CheckOutput:
        found = self.found if math.isfinite(self.found) else None
        return cast("CheckOutput", asdict(self) | {"found": found, "holds": self.holds})


@dataclass(frozen=True)
class NotChecked:
    """A part that was not checked, and why."""

    kind: str
    part: str
    reason: str

    def as_json(self) -> NotCheckedOutput:
        return {"kind": self.kind, "part": self.part, "reason": self.reason}


Claims = Iterator[Check]
Find = Callable[[], "float | torch.Tensor | tuple[float, float]"]


def check(
    bench: Bench, what: str, claim: str, tolerance: float, find: Find, expected: float = 0.0
) -> Check:
    """The claim, checked. `what` is a kind and a name; `find` gives what was found, or the
    (expected, found) that are furthest apart of several."""
    reason = ""
    try:
        found = find()
        if isinstance(found, tuple):
            expected, found = found
        found = float(found)
    except (CannotCheck, Ended):
        raise
    except (
        Exception,
        SystemExit,
    ) as error:  # a part of another package may raise anything: its claim fails
        found, reason = math.nan, reason_of(error)
    kind, part = what.split(" ", 1)
    return Check(kind, part, claim, expected, found, tolerance, bench.precision, reason)


def refuses(error: type[Exception], call: Callable[..., object], *arguments: object) -> bool:
    """Whether the call raises this error; any other goes on."""
    try:
        call(*arguments)
    except error:
        return True
    return False
