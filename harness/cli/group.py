"""The group that all commands belong to: errors in one line, and a home where a user has none."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from getpass import getuser
from pathlib import Path
from stat import S_IRWXG, S_IRWXO, S_ISDIR
from tempfile import gettempdir, mkdtemp
from typing import Any

import click

from harness import __version__
from harness.cli.arguments import show_json
from harness.errors import Ended, HarnessError
from harness.lines import fitted, width_of

INTERRUPTED = 130  # exit status after Ctrl-C, as shells say it


AS_JSON = "harness.as_json"  # in a context's meta: whether a program reads what is printed


class Commands(click.Group):
    """Turns a HarnessError from any command into one clean message."""

    def make_context(
        self, info_name: str | None, args: list[str], *others: Any, **keywords: Any
    ) -> click.Context:
        as_json = "--json" in args  # also where what stands beside it cannot be read
        with explained(as_json):  # it prints the help
            context = super().make_context(info_name, args, *others, **keywords)
        context.meta[AS_JSON] = as_json
        return context

    def invoke(self, ctx: click.Context) -> Any:
        with explained(ctx.meta[AS_JSON]):
            from harness.execute.interrupt import ending_in_order

            with ending_in_order():
                return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of use

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands with the whole of their first sentence."""
        rows = [
            (name, command.get_short_help_str(limit=200))
            for name, command in self.commands.items()
            if not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@contextmanager
def explained(as_json: bool) -> Iterator[None]:
    """Errors that a person can act on in one line each, and no traceback for Ctrl-C; as one JSON
    object too, on standard output, where a program reads that."""

    def told(message: str, status: int = 1) -> str:
        if as_json:
            show_json({"error": message, "status": status})
        return fitted(f"Error: {message}", width_of(sys.stderr)).removeprefix("Error: ")

    try:
        yield
    except HarnessError as error:
        raise click.ClickException(told(str(error))) from error
    except click.UsageError as error:  # it quotes what was typed, or pasted
        message = str(HarnessError(error.format_message()))
        raise click.UsageError(told(message, error.exit_code), error.ctx) from error
    except BrokenPipeError:  # the reader of our output went away; click ends quietly
        raise
    except OSError as error:  # the working folder is gone, the disk is full
        what = error.filename or "the output"
        why = error.strerror or str(error)
        message = f"{what} cannot be used ({why}). Use another place, or make room."
        raise click.ClickException(told(str(HarnessError(message)))) from error
    except KeyboardInterrupt:
        told("interrupted", INTERRUPTED)
        sys.exit(INTERRUPTED)
    except Ended as ended:
        told("ended by a signal", int(str(ended.code)))
        raise


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="harness")
def main() -> None:
    """Compare diffusion noise schedules and samplers.

    A grid file says what to train, how to sample it and what to measure. Everything is tracked in
    MLflow, nothing is done twice, and the report says what the numbers support.

    Exit status: 0 all is well; 1 an error, which one line tells, or something failed or does not
    hold; 2 the command was mistyped; 75 out of time, and the same command goes on; 130, 143, 129
    after Ctrl-C, SIGTERM, SIGHUP.

    \b
    Completion in bash (in zsh and fish likewise, with their names):
        eval "$(_HARNESS_COMPLETE=bash_source harness)"

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
        os.environ["HOME"] = str(home_of_a_stranger(Path(gettempdir()) / f"harness-{os.getuid()}"))
    try:
        getuser()
    except (KeyError, OSError):
        os.environ["USER"] = str(os.getuid())


def home_of_a_stranger(wanted: Path) -> Path:
    """A folder that nobody else may write: the one that is wanted, or one of a new name where
    somebody else made that."""
    with suppress(FileExistsError):
        wanted.mkdir(mode=0o700)
    found = wanted.lstat()
    is_ours = S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if is_ours and not found.st_mode & (S_IRWXG | S_IRWXO):
        return wanted
    return Path(mkdtemp(prefix=f"{wanted.name}-"))
