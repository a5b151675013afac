"""The command line: reads arguments, calls one function, prints. No logic lives here.

Commands import what they need when they run, so that `harness --help` answers at once.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path
from tempfile import gettempdir
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar, cast

import click

from harness.errors import HarnessError, legible

if TYPE_CHECKING:
    from harness.execute.screen import Screen
    from harness.work.options import Options, Paths

F = TypeVar("F", bound=Callable[..., Any])


class Commands(click.Group):
    """Turns a HarnessError from any command into one clean message."""

    def make_context(self, *arguments: Any, **keywords: Any) -> click.Context:
        with explained():  # it prints the help
            return super().make_context(*arguments, **keywords)

    def invoke(self, ctx: click.Context) -> Any:
        from harness.execute.interrupt import ending_in_order

        with explained(), ending_in_order():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of use


@contextmanager
def explained() -> Iterator[None]:
    """Errors that a person can act on in one line each, and no traceback for Ctrl-C."""
    try:
        yield
    except HarnessError as error:
        raise click.ClickException(str(error)) from error
    except click.UsageError as error:  # it quotes what was typed, or pasted
        raise click.UsageError(str(HarnessError(error.format_message())), error.ctx) from error
    except BrokenPipeError:  # the reader of our output went away; click ends quietly
        raise
    except OSError as error:  # the working folder is gone, the disk is full
        what = error.filename or "the output"
        why = error.strerror or str(error)
        raise click.ClickException(str(HarnessError(f"{what} cannot be used ({why})"))) from error
    except KeyboardInterrupt:
        sys.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="harness", prog_name="harness")
def main() -> None:
    """Compare diffusion noise schedules and samplers.

    A grid file says what to train, how to sample it and what to measure. Everything is tracked in
    MLflow, nothing is done twice, and the report says what the numbers support.

    \b
    Example:
        harness plan runs/digits.yaml
        harness run runs/digits.yaml
        harness ui
    """
    settle()


def settle() -> None:
    """Give a user whom the system does not know, as in a container, what libraries ask for: MLflow
    cannot be imported without a home, or record without a name. Have any text printed, whatever
    characters the terminal knows, and no file opened under the number of a closed output."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(Path(gettempdir()) / f"harness-{os.getuid()}")
    try:
        getuser()
    except (KeyError, OSError):
        os.environ["USER"] = str(os.getuid())


def options(*wanted: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in this order in the help."""

    def add(function: F) -> F:
        for option in reversed(wanted):
            function = option(function)
        return function

    return add


GRID = click.argument("grid", type=click.Path(path_type=Path))
OVERRIDES = click.argument("overrides", nargs=-1, metavar="[FIELD=VALUE]...")
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
    help="Where the report is written.  [default: reports/NAME]",
)  # fmt: skip
DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path),
    help="Folder of data sets and weights.  [default: the user's data folder]",
)  # fmt: skip
DEVICE = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps."
)
UI_URL = click.option(
    "--ui-url", metavar="URL",
    help="Where your MLflow UI is, http://127.0.0.1:5000: the report's rows link to their runs.",
)  # fmt: skip
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
ONLY = click.option(
    "--only", metavar="FILTER", help="Only these cells, such as schedule=cosine,steps=[10,50]."
)
REDO = click.option(
    "--redo", metavar="FILTER",
    help="Recompute the cells that match, and a training where all of its cells match.",
)  # fmt: skip
RETIME = click.option(
    "--retime", is_flag=True, help="Measure the seconds of finished cells again, on this machine."
)
PLACES = options(STORE, TRACKING, REPORT_DIR, DATA_DIR, DEVICE)
CHOICES = options(ONLY, REDO, RETIME)


def show(text: str, err: bool = False) -> None:
    """Print what quotes a grid, files or other packages: a terminal must not obey it."""
    click.echo(legible(text), err=err)


@main.command()
@GRID
@OVERRIDES
@CHOICES
@click.option(
    "--time-limit", metavar="TIME", help="Stop after 90s, 9m or 1h30m, resumable, with status 75."
)
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
@click.option(
    "--compile", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True,
    help="Compile networks: auto on a GPU, and on a CPU for long trainings.",
)  # fmt: skip
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
@JSON
def run(grid: Path, overrides: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Train, sample and score what is missing of GRID, and write the report.

    Fields of the grid can be changed for this run: training.steps=200 schedules=[cosine].
    Stopped by Ctrl-C, a time limit or a crash, the same command goes on where it was.

    Exit status: 0 done; 1 some cells failed, or nothing can go on; 75 out of time, or with results
    to be recorded once the tracking server is back; 130, 143 or 129 stopped by Ctrl-C, SIGTERM or
    SIGHUP, with all that was done saved.

    \b
    Example:
        harness run runs/digits.yaml
        harness run runs/digits.yaml --only schedule=cosine,steps=[5,10]
        harness run runs/digits.yaml training.steps=200 --time-limit 9m
        harness run runs/flowers.yaml training.devices=2
        harness run runs/digits.yaml --until decided --at-most 1h
        harness run runs/flowers.yaml --ray auto
    """
    from harness.plan.grid import load_grid

    checked = load_grid(grid, overrides)  # refused, if it must be, before MLflow is loaded
    from harness.run import run_grid

    at = paths(checked.name, **given)
    chosen = options_of(**given, command=typed(grid, overrides, **given))
    with screen(as_json) as shown:
        summary = run_grid(checked, at, chosen, shown)
    if as_json:
        click.echo(json.dumps(summary.as_json(), indent=1))
    else:
        show(summary.text(), err=bool(summary.status))
    sys.exit(summary.status)


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
        harness plan runs/digits.yaml seeds=[0,1,2,3,4]
    """
    from harness.plan.grid import load_grid

    checked = load_grid(grid, overrides)  # refused, if it must be, before MLflow is loaded
    from harness.run import plan_grid

    planned = plan_grid(checked, paths(checked.name, **given), options_of(**given))
    show(json.dumps(planned.as_json(), indent=1) if as_json else planned.text())


@main.command()
@click.argument("grid", metavar="GRID|NAME")
@OVERRIDES
@click.option(
    "--for", "wanted", type=click.Choice(["page", "handout"]), default="page", show_default=True,
    help="The whole report, or one or two pages of it to print and hand in, also as Markdown.",
)  # fmt: skip
@options(STORE, TRACKING, REPORT_DIR, UI_URL)
@JSON
def report(grid: str, overrides: tuple[str, ...], wanted: str, as_json: bool, **given: Any) -> None:
    """Write the report of GRID again, or of the grid NAME as it was last run, from what MLflow has:
    with a NAME neither the grid file nor the store is needed.

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
    from harness.run import report_grid

    with screen(as_json) as shown:
        cells = expand(checked) if checked else ()
        written = report_grid(name, paths(name, **given), shown, cells, wanted == "handout")
    if as_json:
        click.echo(json.dumps({"report": str(written)}))


@main.command()
@options(STORE, TRACKING)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port."
)
def ui(store: Path, tracking_uri: str | None, host: str, port: int) -> None:
    """Show the runs of a store in MLflow's UI, until Ctrl-C.

    \b
    Example:
        harness ui --port 5001
    """
    from harness.tracking import serve

    def announce() -> None:
        click.echo(f"MLflow's UI: http://{host}:{port}  (takes about ten seconds; Ctrl-C ends it)")

    sys.exit(serve(tracking_uri or database(store), host, port, announce))


@main.command()
@click.option(
    "--verify", is_flag=True,
    help="Read every file that has a checksum, and set aside what is not what was written.",
)  # fmt: skip
@options(STORE)
@JSON
def status(store: Path, verify: bool, as_json: bool) -> None:
    """Say what a store holds: its grids and how much of each is finished, and what is damaged.

    Exit status: 0 all is well; 1 something is not what was written.

    \b
    Example:
        harness status
        harness status --verify
    """
    from harness.status import status_of

    told = status_of(store, verify)
    show(json.dumps(told.as_json(), indent=1) if as_json else told.as_text())
    sys.exit(bool(told.damaged))


@main.command()
@click.argument("cell", metavar="KEY|FILTER")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="A .png for one sheet, else a folder of PNGs.",
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
def sample(
    cell: str,
    out: Path,
    images: int,
    seed: int | None,
    store: Path,
    data_dir: Path | None,
    device: str,
) -> None:
    """Sample images from a trained model, as a finished cell of the store does.

    The cell is named by the beginning of its key or by a filter that only it matches.

    \b
    Example:
        harness sample 39fbf463 --out digits.png
        harness sample schedule=cosine,sampler=ddim,steps=50,seed=0 --out images/ -n 500
    """
    from harness.stored import sample_cell
    from harness.work.options import Workplace, user_data

    at = Workplace(store, data_dir or user_data(), device)
    written = sample_cell(cell, at, out, images, seed)
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
    not name, seeds included. Different numbers of images, extractors or references are refused.

    \b
    Example:
        harness compare sampler=ddim sampler=ddpm --only data=digits,schedule=cosine,steps=10
        harness compare schedule=cosine schedule=linear --only data=digits,sampler=ddim,steps=5
        harness compare 39fbf463 51c0 --metric fid
    """
    from harness.stored import compare_cells

    found = compare_cells(store, first, second, metric, only)
    show(json.dumps(found.as_json(), indent=1) if as_json else found.as_text())


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


def paths(
    name: str,
    store: Path,
    tracking_uri: str | None = None,
    report_dir: Path | None = None,
    data_dir: Path | None = None,
    device: str = "auto",
    ui_url: str | None = None,
    **others: Any,
) -> Paths:
    from harness.work.options import Paths, user_data

    return Paths(
        store=store,
        tracking_uri=tracking_uri or database(store),
        report_dir=report_dir or Path("reports") / name,
        data_dir=data_dir or user_data(),
        device=device,
        ui_url=ui_url or "",
    )


def options_of(
    only: str | None,
    redo: str | None,
    retime: bool,
    time_limit: str | None = None,
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
        fail_fast=fail_fast,
        compile=compile,
        ray=ray or "",
        ray_features=ray_features,
        time_limit=None if time_limit is None else parse_duration(time_limit),
        command=command,
    )


def typed(
    grid: Path,
    overrides: tuple[str, ...],
    store: Path,
    report_dir: Path | None,
    data_dir: Path | None,
    tracking_uri: str | None,
    **others: Any,
) -> str:
    """The command that runs this grid again, for a reader to paste: with what says where its work
    is kept, without what is for one run alone."""
    given = {"--store": None if store == Path("runs/store") else store,
             "--report-dir": report_dir, "--data-dir": data_dir,
             "--tracking-uri": None if "@" in (tracking_uri or "") else tracking_uri}  # fmt: skip
    places = [part for name, value in given.items() if value is not None
              for part in (name, str(value))]  # fmt: skip
    plain = re.compile(r"[\w./=,:\[\]+-]+")  # what a shell leaves alone, lists of a grid included
    parts = ["harness", "run", str(grid), *overrides, *places]
    return " ".join(part if plain.fullmatch(part) else shlex.quote(part) for part in parts)


def screen(as_json: bool) -> Screen:
    """Progress on standard output, or out of the way of the JSON that goes there."""
    from rich.console import Console

    from harness.execute.screen import Screen, Unbroken

    stream = sys.stderr if as_json else sys.stdout
    return Screen(Console(file=stream and cast(IO[str], Unbroken(stream))))


def database(store: Path) -> str:
    from harness.work.options import database_uri

    return database_uri(store / "mlflow.db")


if __name__ == "__main__":
    main()
