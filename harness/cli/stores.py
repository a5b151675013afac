"""Commands that ask a store of finished cells."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from harness.cli.arguments import (
    DATA_DIR,
    DEVICE,
    JSON,
    ONLY,
    QUIET,
    STORE,
    options,
    screen,
    show,
    show_json,
)
from harness.cli.group import main


@main.command()
@click.option(
    "--verify", is_flag=True,
    help="Read every file that has a checksum, and set aside what is not what was written.",
)  # fmt: skip
@options(STORE, DATA_DIR)
@JSON
def status(store: Path, data_dir: Path | None, verify: bool, as_json: bool) -> None:
    """Say what a store holds, how far each grid is, and what no grid needs.

    Of each grid how many cells are finished, failed, pending or stale (of images that have changed
    since), what is unfinished or damaged, and how large each part is.

    Exit status: 0 all is well; 1 something is not what was written.

    \b
    Example:
        harness status
        harness status --verify
    """
    from harness.status import status_of
    from harness.work.options import user_data

    told = status_of(store, data_dir or user_data(), verify)
    if as_json:
        show_json(told.as_json())
    else:
        show(told.as_text())
    sys.exit(bool(told.damaged))


@main.command()
@click.option("--grid", "grids", multiple=True, metavar="NAME", help="Forget this grid first.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", is_flag=True, help="Remove it without asking.")
@options(STORE)
@JSON
def clean(store: Path, grids: tuple[str, ...], dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove what no grid of a store needs: says what it is, and asks first.

    That is cells and trainings that none asks for any more, what was set aside as damaged, and what
    was left half written. A grid needs all that its file, as it was last run, has stood for, with
    whatever FIELD=VALUE. Runs in MLflow stay, with their numbers and pictures; the weights of
    removed trainings go there too.

    Exit status: 0 done, or nothing to do; 1 not removed; 2 nobody can be asked.

    \b
    Example:
        harness clean --dry-run
        harness clean --grid smoke --yes
    """
    from harness.clean import clean as remove
    from harness.clean import unneeded

    found = unneeded(store, dict.fromkeys(grids))
    if not as_json:
        show(found.as_text())
    is_wanted = bool(found) and not dry_run
    if is_wanted and not yes and (as_json or not sys.stdin.isatty()):
        raise click.UsageError("Nobody can be asked here. Use --yes to remove it, or --dry-run.")
    if is_wanted and (yes or click.confirm("Remove it?", abort=True)):
        remove(found)
        if not as_json:
            show("Removed.")
    if as_json:
        show_json({**found.as_json(), "is_removed": is_wanted})


@main.command()
@click.argument("cell", metavar="KEY|FILTER")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="FILE.png, .jpg or .webp for one sheet, else a folder of PNGs.",
)
@click.option(
    "-n",
    "--images",
    type=click.IntRange(1, 100_000),
    default=64,
    show_default=True,
    help="How many.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), help="Sampling seed.  [default: the cell's]"
)
@options(STORE, DATA_DIR, DEVICE)
@QUIET
@JSON
def sample(
    cell: str,
    out: Path,
    images: int,
    seed: int | None,
    store: Path,
    data_dir: Path | None,
    device: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Sample images from a trained model, as a finished cell of the store does.

    The cell is named by the beginning of its key or by a filter that only it matches. A filter that
    names no model means trained networks where there are any. In a sheet, small images are
    enlarged.

    \b
    Example:
        harness sample 39fbf463 --out digits.png
        harness sample schedule=cosine,sampler=ddim,steps=50,seed=0 --out images/ -n 500
    """
    from harness.stored import sample_cell
    from harness.work.options import Workplace, user_data

    at = Workplace(store, data_dir or user_data(), device)
    with screen(as_json, quiet) as shown:
        shown.stage("evaluations", {"evaluations": 1})
        told = sample_cell(cell, at, out, images, seed, partial(shown.update, "sampling"))
    if as_json:
        show_json(told.as_json())
    else:
        show(told.as_text())


@main.command()
@click.argument("cell", metavar="KEY|FILTER")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="A folder that is not there yet."
)
@options(STORE, DATA_DIR)
@JSON
def export(cell: str, out: Path, store: Path, data_dir: Path | None, as_json: bool) -> None:
    """Write a trained network as a folder of diffusers: weights in safetensors, the scheduler that
    it was trained with, and its code.

    The network is named by a finished cell of it: the beginning of its key, or a filter that only
    cells of one training match.

    \b
    Example:
        harness export schedule=cosine,seed=0 --out digits-cosine
        harness export 39fbf463 --out digits-cosine
    """
    from harness.stored import export_network
    from harness.work.options import Workplace, user_data

    written = export_network(cell, Workplace(store, data_dir or user_data()), out)
    if as_json:
        show_json({"written": str(written)})
    else:
        show(f"{written}")


@main.command()
@click.argument("first", metavar="KEY|FILTER")
@click.argument("second", metavar="KEY|FILTER")
@click.option("--metric", default="kid", show_default=True, help="What is compared.")
@ONLY
@options(STORE)
@JSON
def compare(
    first: str, second: str, metric: str, only: str | None, store: Path, as_json: bool
) -> None:
    """Say whether FIRST is better than SECOND, and how sure that is.

    Each is the beginning of a cell's key, or a filter. Cells are paired by all that the filters do
    not name, seeds included. Filters that name no model mean trained networks where there are any.
    Different numbers of images, extractors or references are refused.

    \b
    Example:
        harness compare sampler=ddim sampler=ddpm --only data=digits,schedule=cosine,steps=10
        harness compare schedule=cosine schedule=linear --only data=digits,sampler=ddim,steps=5
        harness compare 39fbf463 51c0 --metric fid
    """
    from harness.stored import compare_cells

    found = compare_cells(store, first, second, metric, only)
    if as_json:
        show_json(found.as_json())
    else:
        show(found.as_text())
