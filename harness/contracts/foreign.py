"""Parts of other packages that a grid uses, checked before the work: a sampler of nonsense would
run, and be ranked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from harness.contracts.check import Bench, Check
from harness.contracts.verify import CONTRACTS, of_part
from harness.errors import Ended, HarnessError, PartFailed, reason_of
from harness.lazy import torch
from harness.registry import BUILT_IN
from harness.work.cells import Cell, Part

# Data sets and extractors may be large: what they give is looked at when it is loaded.
QUICK = frozenset(CONTRACTS) - {"dataset", "extractor"}


def refuse_broken(cells: Iterable[Cell], metrics: Iterable[str]) -> None:
    """Raises PartFailed where a part of another package, of those that the cells and metrics use,
    does not keep its contract. Built-in parts are not looked at."""
    if broken := failures(used_by(cells, metrics)):
        raise PartFailed("\n".join([*broken, "Use `harness verify` to see all claims of a part."]))


@contextmanager
def blaming_others(cells: Iterable[Cell], metrics: Iterable[str]) -> Iterator[None]:
    """Raises PartFailed, naming the parts of other packages that are used, where something else
    than an error of ours ends what is done before the work."""
    try:
        yield
    except (HarnessError, Ended):
        raise
    except (Exception, SystemExit) as error:
        others = [
            f"{kind} '{part}' of {package}"
            for kind, part in used_by(cells, metrics)
            if (package := CONTRACTS[kind].registry.origin(part.name)) != BUILT_IN
        ]
        if not others:
            raise
        raise PartFailed(
            f"a first try of the work fails with {reason_of(error)}. It uses "
            f"{', '.join(others)}. Use built-in parts in the place of these to see which it is."
        ) from error


def used_by(cells: Iterable[Cell], metrics: Iterable[str]) -> list[tuple[str, Part]]:
    """The kinds and parts that cells and metrics use, each once."""
    used = {part: None for cell in cells for part in parts_used(cell)}
    return [*used, *(("metric", Part(name)) for name in metrics)]


def parts_used(cell: Cell) -> Iterator[tuple[str, Part]]:
    """The kind of each part that a cell uses, and the part with its options."""
    training = cell.training
    yield from (("dataset", training.data), ("extractor", cell.extractor))
    yield from (("schedule", part) for part in (training.schedule, cell.sample_schedule))
    yield from (("sampler", cell.sampler), ("spacing", cell.spacing))
    yield from (("target", Part(training.target)), ("weighting", training.weighting))
    yield from (("loss", Part(training.loss)), ("model", training.model))
    yield ("time_density", training.times)


def failures(parts: Iterable[tuple[str, Part]]) -> list[str]:
    """What the parts of other packages do wrong, one sentence for each, by its first claim that
    does not hold. `parts` come with their kinds, and may repeat."""
    found = []
    for kind, part in dict.fromkeys(parts):
        package = CONTRACTS[kind].registry.origin(part.name)
        if kind not in QUICK or package == BUILT_IN:
            continue
        bench = Bench(torch.float64, torch.device("cpu"), options=part.keywords)
        checks = of_part(kind, part.name, bench)
        wrong = next((each for each in checks if isinstance(each, Check) and not each.holds), None)
        if wrong:
            found.append(
                f"{kind} '{part}' of {package} does not keep its contract ({told(wrong)})."
            )
    return found


def told(wrong: Check) -> str:
    """A claim that does not hold, and what was found: `log SNR falls from t = 0 to 1: not so for
    1,000 of 1,000 table entries`."""
    if wrong.reason:
        return f"{wrong.claim}: {wrong.reason}"
    if counted := re.fullmatch(r"(.+) \((.+?)( where not)?\)", wrong.claim):
        claim, what, where = counted.groups()
        if where or what == "faults":
            return f"{claim}: {'not so for ' if where else ''}{wrong.found:,.0f} {what}"
    return f"{wrong.claim}: expected {wrong.expected:.6g}, found {wrong.found:.6g}"
