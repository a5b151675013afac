"""The command that looks at images before anything is trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.arguments import DATA_DIR, JSON, QUIET, options, screen, show, show_json
from harness.cli.group import main


@main.command()
@click.argument("what", metavar="PATH|NAME")
@click.option(
    "--size", type=click.IntRange(1, 4096),
    help="Pixels along a side, as image_size of a grid.  [default: 64]",
)  # fmt: skip
@click.option(
    "--background", type=click.Choice(["white", "black", "grey"]), default="white",
    show_default=True, help="What transparent pixels become.",
)  # fmt: skip
@click.option("--grey", is_flag=True, help="Read the images as grey, of one channel.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="A .png for a sheet of what a network will see."
)
@options(DATA_DIR)
@QUIET
@JSON
def data(what: str, data_dir: Path | None, quiet: bool, as_json: bool, **given: Any) -> None:
    """Look at a folder or zip of images, or at the data set NAME, as a network will see them.

    Says what was read, left out and altered, why, and what would change it; whether there are
    enough images; and what a grid has to say for them. Nothing is trained, and nothing written but
    the sheet.

    \b
    Example:
        harness data my/photos
        harness data my/photos --size 32 --out sheet.png
        harness data flowers102 --data-dir FOLDER --out flowers.png
    """
    from harness.execute.progress import Progress
    from harness.preview import Wanted, preview
    from harness.work.options import user_data

    with screen(as_json, quiet) as shown:
        found = preview(
            Wanted(what, data_dir or user_data(), **given),
            lambda done, total: shown.update("reading images", Progress(done, total)),
        )
    if as_json:
        show_json(found.as_json())
    else:
        show(found.as_text())
