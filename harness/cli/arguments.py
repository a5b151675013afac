"""Arguments and options that commands share, and the values that they stand for."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar, cast

import click

from harness.errors import legible
from harness.lines import fitted, width_of

if TYPE_CHECKING:
    from harness.execute.screen import Screen
    from harness.work.options import Options, Paths

LONGEST_START = 600.0  # seconds that a program may take to read its options
F = TypeVar("F", bound=Callable[..., Any])


def options(*wanted: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in this order in the help."""

    def add(function: F) -> F:
        for option in reversed(wanted):
            function = option(function)
        return function

    return add


def fields_beginning(context: click.Context, argument: click.Parameter, begun: str) -> list[str]:
    """The fields of a grid that a half-typed override may mean, for the shell's completion."""
    from harness.plan.grid import Grid
    from harness.plan.grid_fields import TrainingFields

    fields = [*Grid.model_fields, *(f"training.{name}" for name in TrainingFields.model_fields)]
    return [f"{name}=" for name in fields if name.startswith(begun)]


def parts_beginning(context: click.Context, argument: click.Parameter, begun: str) -> list[str]:
    """The names of parts that a half-typed one may mean."""
    from harness.parts import REGISTRIES

    return sorted({name for each in REGISTRIES for name in each if name.startswith(begun)})


GRID = click.argument("grid", type=click.Path(path_type=Path))
OVERRIDES = click.argument(
    "overrides", nargs=-1, metavar="[FIELD=VALUE]...", shell_complete=fields_beginning
)
STORE = click.option(
    "--store", type=click.Path(path_type=Path), default=Path("runs/store"), show_default=True,
    help="Folder of models, features and MLflow's database.",
)  # fmt: skip
TRACKING = click.option(
    "--tracking-uri", metavar="URI",
    help="Where MLflow records: sqlite:///FILE or a server.  [default: the store's SQLite]",
)  # fmt: skip
REPORT_DIR = click.option(
    "--report-dir", type=click.Path(path_type=Path),
    help="Where the report is written.  [default: reports/NAME; beside it with FIELD=VALUE]",
)  # fmt: skip
DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path),
    help="Folder of data sets and weights.  [default: the user's data folder]",
)  # fmt: skip
DEVICE = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps, xpu."
)
UI_URL = click.option(
    "--ui-url", metavar="URL",
    help="Where your MLflow UI is, http://127.0.0.1:5000: the report's rows link to their runs.",
)  # fmt: skip
JSON = click.option(
    "--json", "as_json", is_flag=True,
    help="Print one JSON object, also of an error; `harness schema --of` tells its fields.",
)  # fmt: skip
QUIET = click.option(
    "-q", "--quiet", is_flag=True, help="Print the end result and errors, and no progress."
)
ONLY = click.option(
    "--only", metavar="FILTER", help="Only these cells, such as 'schedule=cosine,steps=[10,50]'."
)
REDO = click.option(
    "--redo", metavar="FILTER",
    help="Recompute the cells that match, and a training where all of its cells match.",
)  # fmt: skip
RETIME = click.option(
    "--retime", is_flag=True, help="Measure the seconds of finished cells again, on this machine."
)
COMPILE = click.option(
    "--compile", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True,
    help="Compile networks: auto on a GPU, and on a CPU for long trainings.",
)  # fmt: skip
PLACES = options(STORE, TRACKING, REPORT_DIR, DATA_DIR, DEVICE)
CHOICES = options(ONLY, REDO, RETIME)


def show(text: str, err: bool = False) -> None:
    """Print what quotes a grid, files or other packages: a terminal must not obey it, and its lines
    fit there."""
    width = width_of(sys.stderr if err else sys.stdout)
    click.echo(fitted(legible(text), width), err=err)


def show_json(told: object) -> None:
    """Print one JSON object; a number that is not finite is null, for JSON knows no other."""
    click.echo(json.dumps(finite(told), indent=1, allow_nan=False))


def finite(value: object) -> object:
    """The value, with None in the place of each number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def paths(
    name: str,
    store: Path,
    tracking_uri: str | None = None,
    report_dir: Path | None = None,
    data_dir: Path | None = None,
    device: str = "auto",
    ui_url: str | None = None,
    overrides: tuple[str, ...] = (),
    **others: Any,
) -> Paths:
    from harness.work.options import Paths

    return Paths.of(name, store, tracking_uri, report_dir, data_dir, device, ui_url, overrides)


def options_of(
    only: str | None,
    redo: str | None,
    retime: bool,
    time_limit: str | None = None,
    no_report: bool = False,
    fail_fast: bool = False,
    compile: Literal["auto", "on", "off"] = "auto",
    decides: str | None = None,
    at_most: str | None = None,
    max_seeds: int | None = None,
    max_images: int | None = None,
    ray: str | None = None,
    ray_features: bool = False,
    command: str = "",
    **others: Any,
) -> Options:
    import psutil

    from harness.errors import BadOption
    from harness.execute.interrupt import parse_duration
    from harness.work.filters import Filter
    from harness.work.options import Options, Until

    limits = {"--at-most": at_most, "--max-seeds": max_seeds, "--max-images": max_images}
    if stray := [name for name, value in limits.items() if value is not None and not decides]:
        raise BadOption(f"{stray[0]} limits --until. Use it with --until decided.")
    if decides and (given := "--only" if only else "--redo" if redo else "--retime" * retime):
        raise BadOption(f"{given} and --until cannot both be given. Use one of them.")
    if ray_features and not ray:
        raise BadOption("--ray-features is of --ray. Use it with --ray ADDRESS.")
    seconds = None if at_most is None else parse_duration(at_most)
    return Options(
        until=Until(seconds, max_seeds, max_images) if decides else None,
        only=None if only is None else Filter(only),
        redo=None if redo is None else Filter(redo),
        retime=retime,
        report=not no_report,
        fail_fast=fail_fast,
        compile=compile,
        ray=ray or "",
        ray_features=ray_features,
        time_limit=None if time_limit is None else parse_duration(time_limit),
        command=command,
        began=time.monotonic() - age_of(psutil.Process().create_time()),
    )


def age_of(started: float) -> float:
    """Seconds since this program was started, by the clock on the wall; 0 where that cannot be
    right, as in containers whose clock is not that of their host."""
    age = time.time() - started
    return age if 0 < age < LONGEST_START else 0.0


def typed(
    grid: Path,
    overrides: tuple[str, ...],
    store: Path,
    tracking_uri: str | None,
    report_dir: Path | None = None,
    data_dir: Path | None = None,
    **others: Any,
) -> str:
    """The command that runs this grid again, as `command_of` has it."""
    from harness.work.options import command_of

    return command_of(str(grid), overrides, store, tracking_uri, report_dir, data_dir)


def screen(aside: bool = False, quiet: bool = False) -> Screen:
    """Progress on standard output, or on standard error, aside from JSON or a table that goes to
    the other; none where it is to be quiet."""
    from rich.console import Console

    from harness.execute.screen import Screen, Unbroken

    stream = sys.stderr if aside else sys.stdout
    # Told whether it is a terminal: by FORCE_COLOR rich would draw bars into a file.
    return Screen(
        Console(
            file=stream and cast(IO[str], Unbroken(stream)),
            force_terminal=bool(stream and stream.isatty()),
            quiet=quiet,
        )
    )


def database(store: Path) -> str:
    from harness.work.options import database_uri

    return database_uri(store / "mlflow.db")
