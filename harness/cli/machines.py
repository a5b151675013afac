"""Commands about the parts and this machine: what there is, whether it is right, how fast it is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal

import click

from harness.cli.arguments import (
    COMPILE,
    DATA_DIR,
    DEVICE,
    JSON,
    OVERRIDES,
    QUIET,
    STORE,
    TRACKING,
    options,
    parts_beginning,
    paths,
    screen,
    show,
    show_json,
)
from harness.cli.group import main
from harness.lines import width_of


@main.command()
@click.argument("name", required=False, shell_complete=parts_beginning)
@JSON
def parts(name: str | None, as_json: bool) -> None:
    """List everything that a grid file can name, or tell all of the part or kind NAME.

    Of one part that is its options with their bounds, its formula, and what a part of its kind is
    called with.

    \b
    Example:
        harness parts
        harness parts ddim
        harness parts targets
    """
    from harness import parts as known

    if as_json:
        show_json(known.as_json(known.parts_named(name) if name else known.every_part()))
    else:
        show(known.one_part(name) if name else known.as_text(known.every_part()))


@main.command()
@click.option(
    "--precision",
    type=click.Choice(["float32", "float64", "both"]),
    default="both",
    show_default=True,
    help="In which the samplers compute.",
)
@options(DATA_DIR, DEVICE)
@QUIET
@JSON
def verify(precision: str, data_dir: Path | None, device: str, quiet: bool, as_json: bool) -> None:
    """Check the mathematics on this machine.

    Closed forms, identities and contracts of every registered part of every kind, those of other
    packages included.

    Exit status: 0 all hold; 1 some do not.

    \b
    Example:
        harness verify
        harness verify --device cuda --precision float32
    """
    from harness.contracts.verify import verify_here
    from harness.work.options import user_data

    with screen(aside=True, quiet=quiet) as shown:
        told = verify_here(precision, device, data_dir or user_data(), shown.follow)
    if as_json:
        show_json(told.as_json())
    else:
        show(told.as_text(width_of(sys.stdout)))
    sys.exit(not told.holds)


@main.command()
@options(STORE, TRACKING, DATA_DIR, DEVICE)
@JSON
def doctor(as_json: bool, store: Path, **given: Any) -> None:
    """Look at what runs need on this machine, and say what to do where it is not well.

    That is device, memory, the faster precision, disk, store, tracking, data sets, weights,
    optional packages and parts of other packages: each is ok, missing or broken.

    Exit status: 0 nothing is broken; 1 something is.

    \b
    Example:
        harness doctor
        harness doctor --store /scratch/store --tracking-uri http://127.0.0.1:5000
    """
    from harness.doctor import as_json as json_of
    from harness.doctor import as_text, examine, is_well

    with screen(aside=True) as shown:
        shown.doing("measuring this machine")
        lines = examine(paths("doctor", store, **given))
    if as_json:
        show_json(json_of(lines))
    else:
        show(as_text(lines))
    sys.exit(not is_well(lines))


@main.command()
@click.option(
    "--grid", type=click.Path(path_type=Path),
    help="Measure its network, images and batch: a file, or a grid's name.  [default: digits]",
)  # fmt: skip
@OVERRIDES
@COMPILE
@click.option(
    "--scaling", is_flag=True, help="Instead: how the driver's cost grows with the number of cells."
)
@options(STORE, DATA_DIR, DEVICE)
@QUIET
@JSON
def bench(
    grid: Path | None,
    overrides: tuple[str, ...],
    compile: Literal["auto", "on", "off"],
    scaling: bool,
    quiet: bool,
    as_json: bool,
    store: Path,
    **given: Any,
) -> None:
    """Measure how fast the work is on this machine, next to the bare network.

    Ratios are of one run, the two sides in turns, so that other programs slow both alike; the last
    lines say whether there were any, and whether seconds can be used. Takes a minute or two, and
    longer where networks are compiled, which auto does as a short run would.

    Fields of the grid can be changed: training.batch_size=256 model=small.

    \b
    Example:
        harness bench
        harness bench --grid runs/flowers.yaml training.batch_size=256 --device cuda
        harness bench --compile on --json
        harness bench --scaling
    """
    from harness.errors import BadOption
    from harness.plan.grid import load_grid
    from harness.plan.shipped import MAIN, grids_at_hand

    if scaling and (grid or overrides or compile != "auto"):
        raise BadOption("--scaling measures no network. Use it without a grid and --compile.")
    if stray := [each for each in overrides if "=" not in each]:
        raise BadOption(f"'{stray[0]}' changes no field. For a grid use --grid {stray[0]}.")
    # Refused, if it must be, before torch is loaded.
    chosen = load_grid(grid or grids_at_hand()[MAIN], overrides)
    from harness.bench import bench_here
    from harness.bench.scaling import scaling_here

    with screen(as_json, quiet) as shown:
        if scaling:
            told = scaling_here(shown)
        else:
            told = bench_here(chosen, paths("bench", store, **given).workplace, shown, compile)
    if as_json:
        show_json(told.as_json())
    else:
        show(told.as_text() if quiet else f"\n{told.closing()}")


@main.command()
@click.option(
    "--of", "command", metavar="COMMAND",
    help="Instead: of what this command prints with --json, or `error`.",
)  # fmt: skip
def schema(command: str | None) -> None:
    """Print the JSON schema of a grid file, for editors, or of what a command prints for programs.

    \b
    Example:
        harness schema > grid.schema.json
        harness schema --of run
    """
    if command:
        from harness.work.outputs import schema_of

        show_json(schema_of(command))
        return
    from harness.plan.grid import Grid

    click.echo(json.dumps(Grid.model_json_schema(), indent=1))
