"""The group that all commands belong to: errors in one line, and a home where a user has none."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import click

from harness.errors import HarnessError


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
