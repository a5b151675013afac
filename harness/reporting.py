"""The report of what is recorded of a grid: written where it says something new, kept with its run.

It needs neither the grid file nor the store, nor the data: one machine computes, another reports.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.downloads import no_downloads
from harness.errors import DiskFull, HarnessError, StoreError
from harness.execute.screen import Screen
from harness.plan.preflight import identified
from harness.report import page
from harness.report.wording import count
from harness.store import Store
from harness.tracking import Tracker
from harness.tracking.recorder import Recorder
from harness.work.cells import Asked, Cell
from harness.work.options import Paths, changes_in, report_folder

if TYPE_CHECKING:
    from harness.report.contents import Contents
    from harness.work.results import Experiment


def report_grid(
    name: str,
    paths: Paths,
    screen: Screen,
    cells: Iterable[Cell] = (),
    for_handout: bool = False,
    grid_text: str = "",
    command: str = "",
) -> Path:
    """The report alone, or its handout, of these cells of the experiment, as the grid of this text
    asks for them and this command makes them, or of all that its grid stood for when it was last
    run: needs neither the grid file nor the store, nor the data. Raises TrackingError where nothing
    of it has been recorded."""
    page.check_address(paths.ui_url)
    recorder = recorder_of(name, paths, screen.say)
    write = write_handout if for_handout else write_report
    asked = asked_in(recorder, paths, cells)
    if not cells and (more := left_out(recorder.store, name, asked)):
        screen.say(more)
    if not cells and paths.report_dir == report_folder(name):  # that of the grid as in its file
        changes = changes_in(recorder.read(asked).grid_text)
        paths = replace(paths, report_dir=report_folder(name, changes))
    return write(recorder, asked, paths, screen, grid_text, command)


def left_out(store: Store, name: str, asked: Asked) -> str:
    """How many finished cells a store has that the file of a grid has stood for and its last run
    did not ask for, as after two stores were joined, and how to report them; empty where none."""
    keys = store.needed_by(name) & store.finished_cells() - asked.cells.keys()
    if not keys:
        return ""
    example = ""
    with suppress(StoreError):  # a damaged one is named where it is needed
        first = store.cell_result(min(keys))
        example = f", such as {first.cell.title}" if first else ""
    return (
        f"The store also holds {count(len(keys), 'finished cell')} of '{name}' that the last run "
        f"did not ask for{example}. For a report of all, ask for all at once, which does nothing "
        f"twice: harness run GRID 'FIELD=[...]' --store {shlex.quote(str(store.root))}"
    )


def recorded(
    name: str, paths: Paths, say: Callable[[str], None], cells: Iterable[Cell] = ()
) -> Experiment:
    """What is recorded of these cells of an experiment, or of all that its grid stood for when it
    was last run. Raises TrackingError where that is nothing."""
    recorder = recorder_of(name, paths, say)
    return recorder.read(asked_in(recorder, paths, cells))


def asked_in(recorder: Recorder, paths: Paths, cells: Iterable[Cell]) -> Asked:
    """These cells by the keys under which they are recorded, or all that were asked for last."""
    wanted = {anonymous(cell): cell for cell in cells}
    if not wanted:
        return recorder.asked()
    found = []
    for one in recorder.cell_results():
        if (cell := wanted.get(anonymous(one.cell))) is not None:
            found.append(replace(one.cell, budget=cell.budget))
    there = {anonymous(cell) for cell in found}
    missing = [cell for name, cell in wanted.items() if name not in there]
    with suppress(HarnessError), no_downloads():  # by the keys under which they may have failed
        missing = identified(missing, paths.workplace)
    return Asked.of([*found, *missing]).after(recorder.asked())


def read(recorder: Recorder, asked: Asked, paths: Paths, text: str, command: str) -> Experiment:
    """What is recorded of these cells, for a page. The grid that asks for them may be another than
    the one that was last run; a tracker that is away does not say by which command."""
    found = replace(recorder.read(asked), ui_url=paths.ui_url)
    if text and (text != found.grid_text or not found.id):
        return replace(found, grid_text=text, command=command)
    return found


def write_report(
    recorder: Recorder,
    asked: Asked,
    paths: Paths,
    screen: Screen,
    grid_text: str = "",
    command: str = "",
) -> Path:
    """The report of what is recorded of these cells, unless the one in place already says it."""
    return report_of(read(recorder, asked, paths, grid_text, command), recorder, paths, screen)


def report_of(
    experiment: Experiment,
    recorder: Recorder,
    paths: Paths,
    screen: Screen,
    content: Contents | None = None,
) -> Path:
    """The report of an experiment, with these contents where they are known, unless the one in
    place already says it."""
    written = paths.report_dir / "report.html"
    made_from = page.fingerprint(experiment)
    is_there = page.is_current(experiment, paths.report_dir)
    if is_there and not recorder.wants_report(made_from):
        screen.say(f"The report is up to date: {written}")
        return written
    files = page.write(experiment, paths.report_dir, content)
    try:
        told = page.description(paths.report_dir)
        recorder.publish(paths.report_dir, files, told, page.verdicts(experiment), made_from)
    except DiskFull:
        raise
    except HarnessError as error:  # a store that may only be read, or another machine's
        screen.say(f"The report is not kept with its run: {error}")
    return written


def write_handout(
    recorder: Recorder,
    asked: Asked,
    paths: Paths,
    screen: Screen,
    grid_text: str = "",
    command: str = "",
) -> Path:
    """One or two pages to print, of what is recorded of these cells, beside their report, which
    says the same."""
    from harness.report import handout  # it loads what figures need

    experiment = read(recorder, asked, paths, grid_text, command)
    content = page.contents_of(experiment)
    report_of(experiment, recorder, paths, screen, content)
    printed, *files = handout.write(content, paths.report_dir)
    screen.say(f"To be printed; beside it: {', '.join(file.name for file in files)}")
    return printed


def recorder_of(name: str, paths: Paths, say: Callable[[str], None]) -> Recorder:
    """What is recorded of this grid, and how more is; makes nothing yet."""
    local = paths.tracking_uri.startswith("sqlite:")
    artifacts = paths.store / "artifacts" if local else None
    store = Store(paths.store)
    tracker = Tracker(paths.tracking_uri, name, artifacts, store.id, paths.store)
    return Recorder(tracker, store, name, say)


def anonymous(cell: Cell) -> Cell:
    """The cell as a grid names it, before its data and weights have been looked at."""
    return replace(cell, training=cell.training.as_written(), extractor_fingerprint="")
