"""What the pages do not say, and what was left out of them: one function for each limit.

A function returns its sentence, or nothing where the limit does not apply. To add one, write it
and name it in `limits`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from harness.plan.work import EXACT
from harness.report.table import QUANTITY, Results, column_of, labels, numbers, quantity_of
from harness.report.words import count, listed

FEWEST_IMAGES_A_FEATURE = 5  # below it the jackknife leaves a part of FID's bias, by simulation
NOT_COVERED = (
    "Not covered: another data set, network, size or length of training; the luck in the choice of "
    "the reference images; what the features do not see. The best of many cells is picked by the "
    "numbers it is judged by, so it is a little flattered."
)


def limits(results: Results, groups: list[Results]) -> list[str]:
    """Every limit of these results, which fall into these comparable groups."""
    cells = results.cells
    told = [
        _missing(results),
        *_left_out(results),
        _not_comparable(groups),
        _several_machines(cells),
        _reused(cells),
        *_undefined(cells),
        _few_images(cells),
        _clamped(cells),
        _few_seeds(cells),
    ]
    return [*filter(None, told), NOT_COVERED]


def _missing(results: Results) -> str:
    missing = results.expected_cells - len(results.cells)
    if missing <= 0:
        return ""
    return (
        f"{count(missing, 'cell')} of {results.expected_cells:,} "
        f"{'is' if missing == 1 else 'are'} missing; what is said holds for the rest."
    )


def _left_out(results: Results) -> Iterator[str]:
    for reason, cells in sorted(results.left_out.items()):
        are = "is" if cells == 1 else "are"
        yield f"{count(cells, 'recorded cell')} {are} left out: {reason.rstrip('.')}."


def _not_comparable(groups: list[Results]) -> str:
    if len(groups) < 2:
        return ""
    names = "; ".join(
        f"{count(len(group.cells), 'cell')} with {', '.join(quantity_of(group).values())}"
        for group in groups
    )
    return (
        f"The cells fall into {len(groups)} groups that differ in {listed(QUANTITY, 'or')} and "
        f"are not comparable ({names}). Answer, figures and findings are about the first; the "
        "others have their own tables."
    )


def _several_machines(cells: pd.DataFrame) -> str:
    machines = sorted(set(column_of(cells, "machine")) - {""})
    if len(machines) < 2:
        return ""
    return (
        f"Cells were measured on {len(machines)} machines ({listed(machines)}). Quality is "
        "compared across them, seconds are not: those shown are of the machine with most cells."
    )


def _reused(cells: pd.DataFrame) -> str:
    reused = int((column_of(cells, "reused") == "True").sum())
    if not reused:
        return ""
    were = "was" if reused == 1 else "were"
    return f"{count(reused, 'cell')} {were} measured by an earlier run and reused."


def _undefined(cells: pd.DataFrame) -> Iterator[str]:
    for column in sorted(cells.columns):
        if (name := column.removeprefix("undefined_")) != column:
            for reason in sorted(set(labels(cells, column)) - {""})[:1]:
                yield f"No {name} is given for some cells: {reason}"


def _few_images(cells: pd.DataFrame) -> str:
    thin = numbers(cells, "images") < FEWEST_IMAGES_A_FEATURE * numbers(cells, "features")
    if not thin.any() or "fid" not in cells:
        return ""
    width, images = (int(numbers(cells[thin], name).iloc[0]) for name in ("features", "images"))
    return (
        f"FID of {images:,} images with {width:,} features is hardly known: its bias is larger "
        f"than what is taken off, and its error rough. About {FEWEST_IMAGES_A_FEATURE * width:,} "
        "images would do; KID has no such bias."
    )


def _clamped(cells: pd.DataFrame) -> str:
    clamped = int((numbers(cells, "clamped_times") > 0).sum())
    if not clamped:
        return ""
    return (
        f"{count(clamped, 'cell')}, sampled under another schedule than trained under, asked "
        f"{'its' if clamped == 1 else 'their'} network about noise levels that it was not "
        "trained on; the nearest that it was took their place (`clamped_times` in the results "
        "counts them)."
    )


def _few_seeds(cells: pd.DataFrame) -> str:
    networks = cells[column_of(cells, "model") != EXACT]
    seeds = numbers(networks, "seed").nunique()
    if networks.empty or seeds > 2:
        return ""
    return (
        "One training seed gives no verdict about schedules; two almost never can: "
        f"here {'is one' if seeds < 2 else 'are two'}."
    )
