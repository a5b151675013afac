"""Every registered part held against the contract of its kind: `harness verify`.

Parts of other packages are checked like those that are built in. One that raises fails its claim,
with the reason. To add a claim, write it in the file of its kind.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.contracts import closed_forms
from harness.contracts.check import Bench, CannotCheck, Check, Claims, NotChecked
from harness.contracts.data import of_dataset
from harness.contracts.extractors import of_extractor
from harness.contracts.metrics import of_metric
from harness.contracts.models import of_model
from harness.contracts.objective import (
    of_clip,
    of_loss,
    of_target,
    of_time_density,
    of_weighting,
)
from harness.contracts.samplers import of_sampler
from harness.contracts.schedules import of_schedule, of_spacing
from harness.data.datasets import DATASETS
from harness.diffusion.objective import CLIPS, LOSSES, TARGETS, WEIGHTINGS
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.diffusion.training_times import TIME_DENSITIES
from harness.downloads import NotHereYet, no_downloads
from harness.errors import Ended, MachineError, MissingPackage, reason_of
from harness.execute import machine
from harness.lazy import torch
from harness.metrics.distances import METRICS
from harness.metrics.features import EXTRACTORS
from harness.models.presets import MODELS
from harness.registry import Registry

if TYPE_CHECKING:
    from harness.work.outputs import VerifyOutput


@dataclass(frozen=True)
class Contract:
    """What is claimed of every part of a kind. `precision` is the only one in which it matters,
    where it is not that in which a sampler computes."""

    registry: Registry[Any]
    claims: Callable[[str, Bench], Claims]
    precision: str = ""


CONTRACTS = {
    "schedule": Contract(SCHEDULES, of_schedule),
    "spacing": Contract(SPACINGS, of_spacing),
    "sampler": Contract(SAMPLERS, of_sampler),
    "target": Contract(TARGETS, of_target),
    "weighting": Contract(WEIGHTINGS, of_weighting),
    "time_density": Contract(TIME_DENSITIES, of_time_density),
    "loss": Contract(LOSSES, of_loss),
    "clip": Contract(CLIPS, of_clip),
    "dataset": Contract(DATASETS, of_dataset, "float64"),
    "model": Contract(MODELS, of_model, "float32"),
    "extractor": Contract(EXTRACTORS, of_extractor, "float64"),
    "metric": Contract(METRICS, of_metric, "float64"),
}


def of_part(kind: str, name: str, bench: Bench) -> list[Check | NotChecked]:
    """Every claim about a part, checked; one claim that fails where it cannot even be made."""
    contract = CONTRACTS[kind]
    if contract.precision:
        bench = replace(bench, dtype=getattr(torch, contract.precision))
    try:
        options = contract.registry.options(name)
        needed = [option.name for option in options if option.required]
        if missing := [name for name in needed if name not in bench.options]:
            raise CannotCheck(f"it needs the option {' and '.join(missing)}")
        with no_downloads():
            return [*contract.claims(name, bench)]
    except (CannotCheck, MissingPackage) as error:
        return [NotChecked(kind, name, str(error))]
    except NotHereYet:
        return [NotChecked(kind, name, "its files are not here")]
    except Ended:
        raise
    except (Exception, SystemExit) as error:  # a part of another package may raise anything
        reason = reason_of(error)
        return [Check(kind, name, "can be made", 0, math.nan, 0, bench.precision, reason)]


Watch = Callable[[str, str, int], None]  # a kind, the part that is next, and of how many


def of_kind(
    kind: str, bench: Bench, watch: Watch = lambda kind, part, parts: None
) -> Iterator[Check | NotChecked]:
    """Every claim about every part of a kind, checked."""
    registry = CONTRACTS[kind].registry
    for name in registry:
        watch(kind, name, len(registry.names()))
        yield from of_part(kind, name, bench)


def verify(
    precisions: Iterable[str],
    device: torch.device,
    data_dir: Path = Path(),
    watch: Watch = lambda kind, part, parts: None,
) -> Iterator[Check | NotChecked]:
    """Every check, in each of these precisions (`float32`, `float64`) where that matters; `watch`
    is called before each part."""
    kinds = list(CONTRACTS)
    for precision in precisions:
        bench = Bench(getattr(torch, precision), device, data_dir)
        for kind in kinds:
            yield from of_kind(kind, bench, watch)
        watch("closed form", precision, 1)
        yield from closed_forms.claims(bench)
        kinds = [kind for kind in kinds if not CONTRACTS[kind].precision]


@dataclass(frozen=True)
class VerifyReport:
    """All checks that were made on one machine, and how long they took."""

    machine: str
    checks: list[Check]
    not_checked: list[NotChecked]
    seconds: float
    seconds_by_kind: dict[str, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return all(check.holds for check in self.checks)

    def as_text(self, width: int | None = None) -> str:
        """For a person, what fails last: a table whose rows say everything, or, where the screen is
        only so wide, the claims below the part that they are about."""
        in_order = sorted(self.checks, key=lambda check: not check.holds)
        lines = as_table(in_order) if width is None else below_their_parts(in_order)
        reasons = [f"{each.kind} {each.part}: {each.reason}" for each in self.checks if each.reason]
        reasons += [f"{e.kind} {e.part}: not checked, {e.reason}" for e in self.not_checked]
        failed = sum(not check.holds for check in self.checks)
        total = f"{len(self.checks)} claims checked on {self.machine} in {self.seconds:.0f} s; "
        total += f"{failed} {'does' if failed == 1 else 'do'} not hold." if failed else "all hold."
        took = sorted(self.seconds_by_kind.items(), key=lambda item: -item[1])
        spent = ", ".join(f"{kind} {seconds:.0f}" for kind, seconds in took if seconds >= 1)
        note = "Of what was tried under several schedules, the worst is shown."
        taken = [f"Seconds by kind: {spent}."] * bool(spent)
        return "\n".join([*lines, "", *dict.fromkeys(reasons), note, *taken, total])

    def as_json(self) -> VerifyOutput:
        return {
            "machine": self.machine,
            "seconds": self.seconds,
            "seconds_by_kind": self.seconds_by_kind,
            "holds": self.holds,
            "checks": [check.as_json() for check in self.checks],
            "not_checked": [each.as_json() for each in self.not_checked],
        }


def as_table(checks: Iterable[Check]) -> list[str]:
    heading = ("", "part", "claim", "expected", "found", "tolerance", "in")
    rows = [heading, *(check.row for check in checks)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def below_their_parts(checks: Iterable[Check]) -> list[str]:
    lines = ["           found   expected  within   claim"]
    for (kind, part, precision), some in groupby(
        checks, key=lambda check: (check.kind, check.part, check.precision)
    ):
        lines.append(f"{kind} {part}, {precision}")
        lines += [
            f"  {'ok' if one.holds else 'FAILS':5} {one.found:9.4g}  {one.expected:9.4g}  "
            f"{one.tolerance:<7.2g}  {one.claim}"
            for one in some
        ]
    return lines


def verify_here(
    precision: str,
    device_name: str,
    data_dir: Path = Path(),
    watch: Watch = lambda kind, part, parts: None,
) -> VerifyReport:
    """Every check in `float32`, `float64` or `both`; `watch` is called before each part. Raises
    MachineError where the device is not there or does not compute in that precision."""
    device = machine.find_device(device_name)
    precisions = ["float64", "float32"] if precision == "both" else [precision]
    if "float64" in precisions and device.type == "mps":
        raise MachineError(
            f"device '{device_name}' does not compute in float64. Use --precision float32."
        )
    found, seconds = [], dict[str, float]()
    began = last = time.monotonic()
    for each in verify(precisions, device, data_dir, watch):
        found.append(each)
        now = time.monotonic()
        seconds[each.kind] = seconds.get(each.kind, 0.0) + now - last
        last = now
    return VerifyReport(
        machine.name(device),
        [each for each in found if isinstance(each, Check)],
        [each for each in found if isinstance(each, NotChecked)],
        last - began,
        seconds,
    )
