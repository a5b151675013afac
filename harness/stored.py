"""Finished cells of a store: what `harness compare`, `harness sample` and
`harness export` do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.groups import (
    GroupComparison,
    compare,
    named,
    the_one,
    told_passed_over,
    untrained_beside,
)
from harness.analysis.sources import of_one_source
from harness.analysis.study import studies
from harness.data.datasets import DATASETS
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.errors import StoreError
from harness.execute.progress import Report
from harness.models.presets import MODELS
from harness.registry import BUILT_IN, Registry
from harness.store import Store, check_writable
from harness.work.cells import Cell, Part
from harness.work.options import Workplace
from harness.work.results import RESULT, CellResult, Experiment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.engine.exact import ExactDenoiser
    from harness.engine.network import Trained
    from harness.work.outputs import SampleOutput


def compare_cells(
    store: Path, first: str, second: str, metric: str, only: str | None = None
) -> GroupComparison:
    """What may be said of two cells or groups of cells of a store against each other."""
    results = finished(store)
    by_key = {one.cell.key: one for one in results}
    grids = {}
    for name, asked in Store(store).grids().items():
        cells = tuple(
            replace(one, cell=replace(one.cell, budget=budget))
            for key, budget in asked.cells.items()
            if (one := by_key.get(key))
        )
        grids[name] = studies(Experiment(name, cells, looks=asked.looks))
    return compare(results, first, second, metric, only, grids)


@dataclass(frozen=True)
class Sampled:
    """Images that were sampled as a finished cell does."""

    cell: Cell  # from the noise that they came from
    images: int
    written: Path  # the sheet, or the folder
    passed_over: tuple[Cell, ...] = ()  # that were not trained, and that were not asked for

    def as_text(self) -> str:
        what = "image" if self.images == 1 else "images"
        lines = [f"{self.images:,} {what} of {self.cell.title}: {self.written}"]
        lines += [told_passed_over(self.passed_over)] * bool(self.passed_over)
        return "\n".join(lines)

    def as_json(self) -> SampleOutput:
        return {
            "cell": self.cell.key,
            "images": self.images,
            "seed": self.cell.sampling_seed,
            "written": str(self.written),
            "passed_over": [cell.key for cell in self.passed_over],
        }


def sample_cell(
    wanted: str,
    at: Workplace,
    out: Path,
    images: int,
    seed: int | None = None,
    report: Report = lambda progress: None,
) -> Sampled:
    """Sample images as a finished cell does, or from the noise of another seed: one sheet where
    `out` has a suffix of a picture, else one PNG an image in a folder. Raises BadOption for another
    suffix, and StoreError where nothing can be written there."""
    from harness.engine.sample import draw, is_sheet

    results = finished(at.store)
    check_writable(out.parent if is_sheet(out) else out, "folder", "--out")
    asked, with_times, denoiser = ready_to_sample(results, wanted, at, seed)
    draw(with_times, denoiser, out, images, report, asked)
    passed_over = untrained_beside(sampled_as(results), wanted)
    return Sampled(asked, images, out, tuple(passed_over))


def images_of(
    results: Iterable[CellResult], wanted: str, at: Workplace, images: int, seed: int | None = None
) -> NDArray[np.uint8]:
    """Images uint8 [N, C, H, W], sampled as the one of these cells that a key or filter names, or
    from the noise of another seed."""
    asked, with_times, denoiser = ready_to_sample(results, wanted, at, seed)
    from harness.engine.sample import sample

    return sample(with_times, denoiser, lambda progress: None, images, asked=asked).images


def ready_to_sample(
    results: Iterable[CellResult], wanted: str, at: Workplace, seed: int | None
) -> tuple[Cell, Cell, Trained | ExactDenoiser]:
    """The one of these cells that a key or filter names, with the noise of this seed; the same with
    fitted times written out in it; and its denoiser."""
    results = list(results)
    found = {one.cell: one.path for one in results if one.cell.weights == "final"}
    cell = the_one(sampled_as(results), wanted)
    refuse_other_code(cell)
    from harness.engine.denoisers import denoiser_of
    from harness.engine.fitted import written_out

    asked = cell if seed is None else replace(cell, sampling_seed=seed)
    return asked, written_out(asked, found[cell].times), denoiser_of(cell, at)


def sampled_as(results: Iterable[CellResult]) -> list[Cell]:
    """The cells that images can be sampled as."""
    return [one.cell for one in results if one.cell.weights == "final"]


def export_network(wanted: str, at: Workplace, out: Path) -> Path:
    """Write the network of finished cells as a folder of diffusers. Returns that folder. Raises
    StoreError where cells of several trainings are meant, and BadOption where it cannot be."""
    cells = sampled_as(finished(at.store))
    found = named(cells, wanted)
    cell = found[0] if len({one.training for one in found}) == 1 else the_one(cells, wanted)
    refuse_other_code(cell)
    from harness.engine.export import export_kept

    return export_kept(cell, at, out)


def refuse_other_code(cell: Cell) -> None:
    """Raises StoreError where a part of the cell that another package offers is not, here and now,
    the one that the cell was made with."""
    used = ((MODELS, cell.training.model), (SCHEDULES, cell.training.schedule),
            (SCHEDULES, cell.sample_schedule), (SAMPLERS, cell.sampler), (SPACINGS, cell.spacing),
            (DATASETS, cell.training.data))  # fmt: skip
    parts: list[tuple[Registry[Any], Part]] = list(used)
    for registry, part in parts:
        if (found := registry.source(part.name)) != part.source:
            raise StoreError(
                f"cell {cell.key} was made with the {registry.noun} '{part.name}' of "
                f"{part.source or BUILT_IN}, and here is that of {found or BUILT_IN}. Use the one "
                "it was made with, or run its grid again."
            )


def finished(folder: Path) -> list[CellResult]:
    """What came of the finished cells of a store. Raises StoreError where there are none."""
    store = Store(folder)
    store.check_version()
    if results := store.cell_results():
        return of_one_source(results)
    for path in sorted(folder.glob(f"cells/*/{RESULT}")):
        store.cell_result(path.parent.name)  # raises where it cannot be read, and says why
    raise StoreError(
        f"the store {folder} has no finished cells. Use `harness run` with a grid first."
    )
