"""Commands that take a grid: what it would do, do it, write its report, look at its runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.arguments import (
    CHOICES,
    COMPILE,
    DATA_DIR,
    DEVICE,
    GRID,
    JSON,
    OVERRIDES,
    PLACES,
    QUIET,
    REPORT_DIR,
    STORE,
    TRACKING,
    UI_URL,
    database,
    options,
    options_of,
    paths,
    screen,
    show,
    show_json,
    typed,
)
from harness.cli.group import main

if TYPE_CHECKING:
    from harness.starter import PresetName


@main.command()
@click.argument("grid", required=False, type=click.Path(path_type=Path))
@OVERRIDES
@CHOICES
@click.option(
    "--time-limit", metavar="TIME",
    help="Stop after 90s, 9m or 1h30m, report included, resumable, with status 75.",
)  # fmt: skip
@click.option("--no-report", is_flag=True, help="Write no report.")
@click.option(
    "--until", "decides", type=click.Choice(["decided"]),
    help="Start with 3 training seeds, and add seeds or images only where a question is open.",
)  # fmt: skip
@click.option(
    "--at-most", metavar="TIME", help="With --until: begin no look that would end later than this."
)
@click.option(
    "--max-seeds", type=click.IntRange(2),
    help="With --until: training seeds of the last look.  [default: 12]",
)  # fmt: skip
@click.option(
    "--max-images", type=click.IntRange(1),
    help="With --until: images of a cell, over its sampling seeds.  [default: 8 times as many]",
)  # fmt: skip
@COMPILE
@click.option(
    "--ray", metavar="ADDRESS",
    help="Work on a Ray cluster: auto, HOST:PORT, or local to start one.  [default: here]",
)  # fmt: skip
@click.option(
    "--ray-features", is_flag=True,
    help="With --ray: bring the features of images here, so that metrics can be added later.",
)  # fmt: skip
@click.option("--fail-fast", is_flag=True, help="Stop at the first failure.")
@PLACES
@UI_URL
@QUIET
@JSON
def run(
    grid: Path | None, overrides: tuple[str, ...], quiet: bool, as_json: bool, **given: Any
) -> None:
    """Train, sample and score what is missing of GRID, and write the report.

    GRID is a file, or the name of a grid that comes with the program. Without one, says which there
    are.

    Fields of the grid can be changed for this run: training.steps=200 'schedules=[cosine]'.
    Stopped by Ctrl-C, a time limit or a crash, the same command goes on where it was.

    Exit status: 0 done; 1 some cells failed, or nothing can go on; 75 out of time, or with results
    to be recorded once the tracking server is back; 130, 143 or 129 stopped by Ctrl-C, SIGTERM or
    SIGHUP, with all that was done saved.

    \b
    Example:
        harness run
        harness run runs/digits.yaml
        harness run runs/digits.yaml --only 'schedule=cosine,steps=[5,10]'
        harness run runs/digits.yaml training.steps=200 --time-limit 9m
        harness run runs/flowers.yaml training.devices=2
        harness run runs/digits.yaml --until decided --at-most 1h
        harness run runs/flowers.yaml --ray auto
    """
    grid = grid or grid_of_choice(as_json)
    from harness.plan.grid import load_grid

    checked = load_grid(grid, overrides)  # refused, if it must be, before MLflow is loaded
    from harness.run import run_grid

    at = paths(checked.name, overrides=overrides, **given)
    chosen = options_of(**given, command=typed(grid, overrides, **given))
    with screen(as_json, quiet) as shown:
        summary = run_grid(checked, at, chosen, shown)
    if as_json:
        show_json(summary.as_json())
    else:
        show(summary.text(), err=bool(summary.status))
    sys.exit(summary.status)


def grid_of_choice(as_json: bool) -> Path:
    """Say which grids there are; on a terminal, offer the main job. Ends with status 2 where none
    is taken."""
    from harness.plan.shipped import MAIN, as_text, grids_at_hand, written

    grids = grids_at_hand()
    if as_json:
        raise click.UsageError(
            f"Missing argument 'GRID'. Use a file, or one of {', '.join(grids)}."
        )
    show(as_text(grids))
    is_asked = sys.stdin.isatty() and sys.stdout.isatty()
    if is_asked and MAIN in grids and click.confirm(f"\nRun {MAIN} now?"):
        return Path(written(MAIN, grids[MAIN]))
    sys.exit(2)


@main.command()
@GRID
@OVERRIDES
@CHOICES
@PLACES
@JSON
def plan(grid: Path, overrides: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Say what a run of GRID would do and what it would cost, and do nothing.

    \b
    Example:
        harness plan runs/digits.yaml
        harness plan runs/digits.yaml 'seeds=[0,1,2,3,4]'
    """
    from harness.plan.grid import load_grid

    checked = load_grid(grid, overrides)  # refused, if it must be, before MLflow is loaded
    from harness.run import plan_grid

    at = paths(checked.name, overrides=overrides, **given)
    with screen(aside=True) as shown:
        shown.doing("loading torch and MLflow")
        planned = plan_grid(checked, at, options_of(**given), shown.doing)
    if as_json:
        show_json(planned.as_json())
    else:
        show(planned.text())


@main.command()
@click.argument("name")
@click.option(
    "--data", metavar="FOLDER|NAME",
    help="A folder or zip of images, or a data set of `harness parts`.  [default: digits]",
)  # fmt: skip
@click.option(
    "--size", type=click.IntRange(8, 512),
    help="Pixels a side that images are brought to.  [default: 32 on a laptop, else 64]",
)  # fmt: skip
@click.option(
    "--preset", type=click.Choice(["laptop", "gpu", "cluster"]),
    help="For which machine.  [default: gpu where there is one here, else laptop]",
)  # fmt: skip
@options(STORE, DATA_DIR, DEVICE)
@JSON
def new(
    name: str,
    data: str | None,
    size: int | None,
    preset: PresetName | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Write NAME.yaml, a grid to begin with, for images of your own or the digits.

    Its comments say what to change and what that costs. Images, weights and the speed of this
    machine are looked at, and nothing is asked.

    \b
    Example:
        harness new first
        harness new cats --data photos/cats --size 64 --preset gpu
    """
    from harness.starter import start

    show("Looking at the images and at the speed of this machine ...", err=True)
    started = start(name, data, size, preset, paths(name, **given))
    if as_json:
        show_json(started.as_json())
    else:
        show(started.as_text())


@main.command()
@click.argument("grid", metavar="GRID|NAME")
@OVERRIDES
@click.option(
    "--for", "wanted", type=click.Choice(["page", "handout"]), default="page", show_default=True,
    help="The whole report, or one or two pages of it to print and hand in, also as Markdown.",
)  # fmt: skip
@options(STORE, TRACKING, REPORT_DIR, UI_URL)
@QUIET
@JSON
def report(
    grid: str,
    overrides: tuple[str, ...],
    wanted: str,
    quiet: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Write the report of GRID again, or of the grid NAME as it was last run.

    It is made from what MLflow has: with a NAME neither the grid file nor the store is needed.
    For a handout, handout.html, handout.md and results.tex are written beside the report, which
    stays as it is.

    \b
    Example:
        harness report runs/digits.yaml --report-dir digits-report
        harness report digits --tracking-uri http://127.0.0.1:5000
        harness report runs/digits.yaml --for handout
    """
    from harness.plan.grid import expand, load_grid

    is_file = grid.endswith((".yaml", ".yml")) or overrides or Path(grid).is_file()
    checked = load_grid(Path(grid), overrides) if is_file else None
    name = checked.name if checked else grid
    from harness.reporting import report_grid

    at, is_handout = paths(name, overrides=overrides, **given), wanted == "handout"
    with screen(as_json, quiet) as shown:
        if checked:
            made_by = typed(Path(grid), overrides, **given)
            cells, text = expand(checked), checked.text
            written = report_grid(name, at, shown, cells, is_handout, text, made_by)
        else:
            written = report_grid(name, at, shown, for_handout=is_handout)
    if as_json:
        show_json({"report": str(written)})
    else:
        show(f"{'Handout' if wanted == 'handout' else 'Report'}: {written}")


@main.command()
@options(STORE, TRACKING)
@click.option(
    "--grid", metavar="NAME",
    help="Whose cells are to be shown.  [default: the grid that ran last]",
)  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port."
)
@click.option("--open", "browse", is_flag=True, help="Open the page in your browser.")
def ui(
    store: Path, tracking_uri: str | None, grid: str | None, host: str, port: int, browse: bool
) -> None:
    """Show a store in MLflow's UI, until Ctrl-C. Prints the address of the cells of a grid, once
    it can be opened.

    \b
    Example:
        harness ui
        harness ui --grid digits --port 5001 --open
    """
    from harness.tracking.ui import serve

    uri = tracking_uri or database(store)
    sys.exit(serve(uri, host, port, grid or "", show, browse))
