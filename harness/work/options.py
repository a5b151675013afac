"""What a person chose for one run beyond the grid, and where things are on this machine."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote

from harness.work.filters import Filter

CHANGED = "# changed on the command line: "  # so a grid's text begins, for each such field
STORE = Path("runs/store")  # where none is named
LEFT_ALONE = re.compile(r"[\w./=,:+-]+")  # by every shell: to zsh brackets are a pattern
LONGEST_CHANGES = 60  # bytes of a folder's name that say how a grid was changed
MOST_CHANGES = 3  # that it names; of more, the first two


def database_uri(file: Path) -> str:
    """The tracking URI of a SQLite database, at whatever path."""
    escaped = str(file).replace("%", "%25").replace("?", "%3F")  # which ends the name in a URI
    return f"sqlite:///{escaped}"


def database_file(uri: str) -> Path | None:
    """The file of a SQLite database; None for any other tracking URI."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///")))


def user_data() -> Path:
    """The folder of data sets and weights where none is named."""
    from platformdirs import user_data_path

    return user_data_path("harness", appauthor=False)


def changes_in(text: str) -> list[str]:
    """What the command line changed, as the text of a grid begins with it."""
    told = takewhile(lambda line: line.startswith(CHANGED), text.splitlines())
    return [line.removeprefix(CHANGED) for line in told]


def report_command(command: str) -> str:
    """The command that writes the report of a grid again, by that which ran it."""
    told = command.replace("harness run", "harness report", 1)
    return re.sub(r" --data-dir (?:'[^']*'|\S+)", "", told)


def as_in_its_file(text: str) -> str:
    """The text of a grid without what the command line changed."""
    return "\n".join(text.splitlines()[len(changes_in(text)) :])


def report_folder(name: str, overrides: Sequence[str] = ()) -> Path:
    """Where the report of a grid is written where no folder is named: `reports/NAME`, and beside it
    for a grid that the command line changes (`reports/digits--steps=5,10`) without giving it a name
    of its own. The order of the changes does not matter. Long ones are cut; a digest tells those
    apart, and others of which a folder's name cannot say all, such as paths."""
    changes = dict(override.split("=", 1) for override in overrides if "=" in override)
    if "name" in changes:
        return Path("reports") / name
    every = [f"{field}={changes[field]}" for field in sorted(changes)]
    text = "--".join(every)
    flat = re.sub(r"[\[\]]|(?<=[,=\[])\s+", "", text)
    told = list(map(_legible, every if len(every) <= MOST_CHANGES else every[:2]))
    while len(told) > 1 and len("--".join(told).encode()) > LONGEST_CHANGES:
        told.pop()
    # In bytes, which file systems count, and without the last dot, which Windows drops.
    legible = "--".join(told).encode()[:LONGEST_CHANGES].decode(errors="ignore").rstrip(".")
    if legible != flat:
        digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]
        more = len(every) - len(told)
        rest = [f"and-{more}-more"] * bool(more)
        legible = "--".join([legible.rstrip(".,-="), *rest, digest])
    return Path("reports") / "--".join(filter(None, [name, legible]))


def _legible(change: str) -> str:
    """A change as a folder's name has it."""
    return re.sub(r"[^\w.=+-]+", ",", re.sub(r"[\s\[\]{}'\"]", "", change)).strip(",")


def command_of(
    grid: str,
    overrides: Sequence[str],
    store: Path,
    tracking_uri: str | None = None,
    report_dir: Path | None = None,
    data_dir: Path | None = None,
) -> str:
    """The command that runs this grid again, for a reader to paste: with what says where its work
    is kept, without what is for one run alone."""
    given = {"--store": None if store == STORE else store,
             "--report-dir": report_dir, "--data-dir": data_dir,
             "--tracking-uri": None if "@" in (tracking_uri or "") else tracking_uri}  # fmt: skip
    places = [part for name, value in given.items() if value is not None
              for part in (name, str(value))]  # fmt: skip
    return " ".join(map(quoted, ["harness", "run", grid, *overrides, *places]))


def quoted(word: str) -> str:
    """A word of a command as it is typed: in quotes where a shell would not leave it alone."""
    return word if LEFT_ALONE.fullmatch(word) else shlex.quote(word)


@dataclass(frozen=True)
class Workplace:
    """Where a job finds and keeps files on the machine that does it: no part of the job."""

    store: Path
    data_dir: Path
    device: str = "auto"


@dataclass(frozen=True)
class Paths:
    """Where everything is for the process that a person started."""

    store: Path
    tracking_uri: str
    report_dir: Path
    data_dir: Path
    device: str = "auto"
    ui_url: str = ""  # of the MLflow UI that a report's rows link to

    @classmethod
    def of(
        cls,
        name: str,
        store: Path,
        tracking_uri: str | None = None,
        report_dir: Path | None = None,
        data_dir: Path | None = None,
        device: str = "auto",
        ui_url: str | None = None,
        overrides: Sequence[str] = (),
    ) -> Self:
        """Where everything of the grid of this name is, changed as on the command line, as far as
        nobody says otherwise."""
        return cls(
            store=store,
            tracking_uri=tracking_uri or database_uri(store / "mlflow.db"),
            report_dir=report_dir or report_folder(name, overrides),
            data_dir=data_dir or user_data(),
            device=device,
            ui_url=ui_url or "",
        )

    @property
    def workplace(self) -> Workplace:
        return Workplace(self.store, self.data_dir, self.device)


@dataclass(frozen=True)
class Until:
    """How far a run may go on that adds cells until its questions are decided."""

    most_seconds: float | None = None
    most_seeds: int | None = None
    most_images: int | None = None  # of a cell, over its sampling seeds


@dataclass(frozen=True)
class Options:
    """What a person asks of one run beyond the grid file."""

    only: Filter | None = None
    redo: Filter | None = None
    retime: bool = False
    compile: Literal["auto", "on", "off"] = "auto"  # whether networks are compiled
    # Whether metrics of a cell are computed while the next is sampled; None: where that pays and
    # takes nothing from the seconds that are measured.
    overlap: bool | None = None
    report: bool = True  # whether it is written
    fail_fast: bool = False
    time_limit: float | None = None  # seconds
    until: Until | None = None  # decided
    ray: str = ""  # the address of the Ray cluster that does the work; empty for this machine
    ray_features: bool = False  # whether features come back from its nodes
    command: str = ""  # as it was typed, without what is for one run alone
    began: float | None = None  # when it was, by time.monotonic()
