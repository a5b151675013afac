"""Parts of other packages that a grid uses, checked before the work: a sampler of nonsense would
run, and be ranked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.contracts.check import Bench, Check
from harness.contracts.verify import CONTRACTS, of_part
from harness.errors import PartFailed
from harness.lazy import torch
from harness.registry import BUILT_IN
from harness.work.cells import Cell

# Data sets and extractors are loaded before the work anyway, and may be large.
QUICK = frozenset(CONTRACTS) - {"dataset", "extractor"}


def refuse_broken(cells: Iterable[Cell], metrics: Iterable[str]) -> None:
    """Raises PartFailed where a part of another package, of those that the cells and metrics use,
    does not keep its contract. Built-in parts are not looked at."""
    used = {part for cell in cells for part in parts_used(cell)}
    used |= {("metric", name) for name in metrics}
    if broken := failures(sorted(used)):
        raise PartFailed("\n".join([*broken, "Use `harness verify` to see all claims of a part."]))


def parts_used(cell: Cell) -> Iterator[tuple[str, str]]:
    """The kind and name of each part that a cell uses."""
    training = cell.training
    yield from (("schedule", part.name) for part in (training.schedule, cell.sample_schedule))
    yield from (("sampler", cell.sampler.name), ("spacing", cell.spacing.name))
    yield from (("target", training.target), ("weighting", training.weighting.name))
    yield from (("loss", training.loss), ("model", training.model.name))


def failures(parts: Iterable[tuple[str, str]]) -> list[str]:
    """What the parts of other packages do wrong, one sentence for each part, by its first claim
    that does not hold. `parts` are kinds and names, which may repeat."""
    found = []
    for kind, name in dict.fromkeys(parts):
        package = CONTRACTS[kind].registry.origin(name)
        if kind not in QUICK or package == BUILT_IN:
            continue
        checks = of_part(kind, name, Bench(torch.float64, torch.device("cpu")))
        wrong = next((each for each in checks if isinstance(each, Check) and not each.holds), None)
        if wrong:
            found.append(
                f"{kind} '{name}' of {package} does not keep its contract ({wrong.claim}): "
                f"expected {wrong.expected:.6g}, found {wrong.reason or f'{wrong.found:.6g}'}."
            )
    return found
