"""Commands about the parts and this machine: what there is, whether it is right, how fast it is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from harness.cli.arguments import (
    DATA_DIR,
    DEVICE,
    JSON,
    STORE,
    TRACKING,
    options,
    paths,
    screen,
    show,
)
from harness.cli.group import main


@main.command()
@click.argument("name", required=False)
@JSON
def parts(name: str | None, as_json: bool) -> None:
    """List everything that a grid file can name, or tell all of NAME: its options with their
    bounds, its formula, and what a part of its kind is called with.

    \b
    Example:
        harness parts
        harness parts ddim
    """
    from harness.parts import as_json as json_of
    from harness.parts import as_text, every_part, one_part

    if name and not as_json:
        show(one_part(name))
        return
    found = [part for part in every_part() if name in (None, part.name)]
    show(json.dumps(json_of(found), indent=1) if as_json else as_text(found))


@main.command()
@click.option(
    "--precision",
    type=click.Choice(["float32", "float64", "both"]),
    default="both",
    show_default=True,
    help="In which the samplers compute.",
)
@options(DATA_DIR, DEVICE)
@JSON
def verify(precision: str, data_dir: Path | None, device: str, as_json: bool) -> None:
    """Check the mathematics on this machine: closed forms, identities and contracts of every
    registered part of every kind, those of other packages included.

    Exit status: 0 all hold; 1 some do not.

    \b
    Example:
        harness verify
        harness verify --device cuda --precision float32
    """
    from harness.contracts.verify import verify_here
    from harness.work.options import user_data

    told = verify_here(precision, device, data_dir or user_data())
    show(json.dumps(told.as_json(), indent=1) if as_json else told.as_text())
    sys.exit(not told.holds)


@main.command()
@options(STORE, TRACKING, DATA_DIR, DEVICE)
@JSON
def doctor(as_json: bool, store: Path, **given: Any) -> None:
    """Look at what runs need on this machine: device, disk, store, tracking, data, packages and
    parts of other packages. Says what is missing or broken, and what to do.

    Exit status: 0 nothing is broken; 1 something is.

    \b
    Example:
        harness doctor
        harness doctor --store /scratch/store --tracking-uri http://127.0.0.1:5000
    """
    from harness.doctor import as_json as json_of
    from harness.doctor import as_text, examine, is_well

    lines = examine(paths("doctor", store, **given))
    click.echo(json.dumps(json_of(lines), indent=1) if as_json else as_text(lines))
    sys.exit(not is_well(lines))


@main.command()
@click.option(
    "--grid", type=click.Path(path_type=Path),
    help="Measure its network, images and batch.  [default: digits]",
)  # fmt: skip
@click.option(
    "--scaling", is_flag=True, help="Instead: how the driver's cost grows with the number of cells."
)
@options(STORE, DATA_DIR, DEVICE)
@JSON
def bench(grid: Path | None, scaling: bool, as_json: bool, store: Path, **given: Any) -> None:
    """Measure how fast the work is on this machine, next to the bare network: ratios of one run.

    \b
    Example:
        harness bench
        harness bench --grid runs/flowers.yaml --device cuda --json
        harness bench --scaling
    """
    from harness.bench import bench_here
    from harness.bench.scaling import scaling_here

    with screen(as_json) as shown:
        if scaling:
            told = scaling_here(shown.say)
        else:
            told = bench_here(grid, paths("bench", store, None, None, **given), shown.say)
    show(json.dumps(told.as_json(), indent=1) if as_json else told.as_text())


@main.command()
def schema() -> None:
    """Print the JSON schema of a grid file, for editors.

    \b
    Example:
        harness schema > grid.schema.json
    """
    from harness.plan.grid import Grid

    click.echo(json.dumps(Grid.model_json_schema(), indent=1))
