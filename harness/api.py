"""The commands for Python: what a notebook imports from `harness`.

    grid = load_grid("runs/digits.yaml", seeds=[0, 1, 2])
    plan(grid)                       what it would do and cost
    done = run(grid)                 train, sample, score; the report
    done.study.frame()               one row for each cell
    study("digits")                  what was recorded earlier, or elsewhere

They take and give what the command line does: the same grids, store, keys and verdicts. What is
wrong is raised as a HarnessError that says what to use; nothing ends the program. Interrupting a
run saves what is under way and raises KeyboardInterrupt; the same call goes on from there.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.analysis.groups import GroupComparison, compare
from harness.analysis.study import Study, studies
from harness.errors import BadOption, Interrupted, NotDefined
from harness.execute.interrupt import STATUSES, parse_duration
from harness.execute.notebook import screen_here
from harness.execute.screen import Screen
from harness.jobs import Summary
from harness.plan.grid import Grid, expand, load_grid
from harness.plan.pending import Plan
from harness.reporting import recorded, report_grid
from harness.run import plan_grid, run_grid
from harness.work.filters import Filter
from harness.work.options import Options, Paths, Until, command_of
from harness.work.results import Experiment

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from harness.report.answers import Answer
    from harness.report.first import FirstScreen

AnyPath = str | PathLike[str]
AnyGrid = Grid | AnyPath | Mapping[str, Any]
Wanted = str | Mapping[str, Any]  # a filter as the command line takes it, or its conditions
Duration = str | float  # `9m`, or seconds
STORE = "runs/store"


def run(
    grid: AnyGrid,
    *,
    store: AnyPath = STORE,
    report_dir: AnyPath | None = None,
    data_dir: AnyPath | None = None,
    tracking_uri: str | None = None,
    ui_url: str | None = None,
    device: str = "auto",
    only: Wanted | None = None,
    redo: Wanted | None = None,
    retime: bool = False,
    time_limit: Duration | None = None,
    until: Literal["decided"] | None = None,
    at_most: Duration | None = None,
    max_seeds: int | None = None,
    max_images: int | None = None,
    compile: Literal["auto", "on", "off"] = "auto",
    ray: str = "",
    fail_fast: bool = False,
    report: bool = True,
    quiet: bool = False,
) -> Finished:
    """Train, sample and score what is missing of a grid, and write its report: `harness run`.

    `grid` is a Grid or what `load_grid` takes. `only` and `redo` are filters,
    `"schedule=cosine,steps=[5,10]"` or `{"schedule": "cosine", "steps": [5, 10]}`; lengths of time
    are `"9m"` or seconds. A cell that fails stops no other and is named in `failed`; `time_limit`
    stops the work cleanly, in time for the report of what is finished. Raises HarnessError before
    any work where something that it needs is missing, and KeyboardInterrupt once what was under way
    is saved.
    """
    grid = load_grid(grid)
    paths = _paths(grid, store, report_dir, data_dir, tracking_uri, ui_url, device)
    options = Options(
        only=_filter(only),
        redo=_filter(redo),
        retime=retime,
        compile=_one_of("compile", compile, ("auto", "on", "off")),
        report=report,
        fail_fast=fail_fast,
        time_limit=_seconds(time_limit),
        until=_until(until, only or redo or retime, at_most, max_seeds, max_images),
        ray=ray,
        command=_command(grid, store, report_dir, data_dir, tracking_uri),
    )
    with screen_here(quiet) as screen:
        summary = run_grid(grid, paths, options, screen)
    if summary.status in STATUSES.values():
        _pass_on(summary.status)
    return Finished(grid, summary, paths)


def plan(
    grid: AnyGrid,
    *,
    store: AnyPath = STORE,
    data_dir: AnyPath | None = None,
    tracking_uri: str | None = None,
    device: str = "auto",
    only: Wanted | None = None,
    redo: Wanted | None = None,
    retime: bool = False,
) -> Plan:
    """What a run of a grid would do and cost, without doing it: `harness plan`. `.predicted` is in
    seconds, None where it is not known. Raises HarnessError."""
    grid = load_grid(grid)
    paths = _paths(grid, store, None, data_dir, tracking_uri, None, device)
    return plan_grid(grid, paths, Options(_filter(only), _filter(redo), retime))


def study(
    name: AnyGrid,
    *,
    store: AnyPath = STORE,
    report_dir: AnyPath | None = None,
    data_dir: AnyPath | None = None,
    tracking_uri: str | None = None,
    ui_url: str | None = None,
    device: str = "auto",
) -> RecordedStudy:
    """What is recorded of a grid: of the one of this name as it was last run, for which neither
    its file nor the store is needed, or of the cells of this Grid, file or dict. Raises
    TrackingError where that is nothing."""
    is_name = isinstance(name, str) and not (
        name.endswith((".yaml", ".yml")) or "\n" in name or Path(name).is_file()
    )
    of = str(name) if is_name else load_grid(name)
    paths = _paths(of, store, report_dir, data_dir, tracking_uri, ui_url, device)
    with screen_here() as screen:
        if isinstance(of, str):
            return _study(of, paths, screen)
        command = _command(of, store, report_dir, data_dir, tracking_uri)
        return _study(of.name, paths, screen, of, command)


@dataclass(frozen=True, repr=False)
class Finished:
    """How a run ended."""

    grid: Grid
    summary: Summary
    paths: Paths

    @property
    def is_complete(self) -> bool:
        """Whether all that was asked for is finished and recorded."""
        return self.summary.status == 0

    @property
    def failed(self) -> dict[str, str]:
        """Why work failed, by its title."""
        return {work.title: why.reason for work, why in self.summary.failed}

    @property
    def report(self) -> Path | None:
        """The page report.html; None where nothing was finished."""
        return self.summary.report

    @cached_property
    def study(self) -> RecordedStudy:
        """What the report is made from. Raises TrackingError where nothing was finished."""
        with screen_here(quiet=True) as screen:
            # By its name where a run adds cells until a question is decided: they are its own.
            return _study(self.grid.name, self.paths, screen)

    def __repr__(self) -> str:
        where = f"\nReport: {self.report}" if self.report else ""
        return f"{self.summary.text()}{where}"

    def _repr_html_(self) -> str:
        lines = "<br>".join(map(escape, self.summary.text().splitlines()))
        if not self.report:
            return f"<p>{lines}</p>"
        return (
            f'<p>{lines}<br><a href="{escape(str(self.report))}">{escape(str(self.report))}</a></p>'
        )


@dataclass(frozen=True, repr=False)
class RecordedStudy:
    """What is recorded of a grid, read once: as a table, in comparisons, figures and answers.

    `study` holds the comparable results, for your own analysis; where a grid has results that must
    not be put side by side (of two extractors, say), `others` has the further groups."""

    name: str
    experiment: Experiment
    study: Study
    paths: Paths
    others: tuple[RecordedStudy, ...] = field(default=())
    grid: Grid | None = None  # whose cells these are; None for those that were asked for last

    def frame(self, whole: bool = False) -> pd.DataFrame:
        """One row for each cell: the factors that differ (all of them, where the `whole` is
        wanted), each metric (`kid`) with its sampling error (`kid_se`), where it is biased the
        value less its bias (`fid_corrected`), and what real images score (`kid_baseline`), then
        `nfe`, `seconds_per_image`, `machine` and `key`. What was not measured is missing."""
        from harness.analysis.frame import frame_of

        return frame_of(self.study, whole)

    def compare(
        self, first: Wanted, second: Wanted, metric: str = "", only: Wanted | None = None
    ) -> GroupComparison:
        """Whether `first` is better than `second`, and how sure that is: `harness compare`.

        Each is a filter or the beginning of a cell's key. Cells are paired by all that the filters
        do not name, seeds included; filters that name no model mean trained networks where there
        are any. `metric` is the one that decides unless it is named. Raises BadOption, StoreError
        or NotComparable, saying why not.
        """
        cells = [one for one in self.experiment.cells if one.cell.weights == "final"]
        named = {self.name: studies(self.experiment)}
        metric = metric or self.study.metric.key
        asked = _text(only) if only else None
        return compare(cells, _text(first), _text(second), metric, asked, named)

    def plots(self) -> dict[str, str]:
        """The names of the report's figures, and what each shows."""
        from harness.report.figures.catalogue import caption, in_page_order

        return {name: caption(name)[0] for name in in_page_order()}

    def plot(self, name: str = "quality_by_steps") -> Figure:
        """A figure of the report, by one of the names in `plots()`. Raises UnknownName for another
        name, and NotDefined where it has nothing to show here."""
        from harness.report.figures.catalogue import figure_named

        if (figure := figure_named(name, self.study)) is not None:
            return figure
        raise NotDefined(
            f"the figure '{name}' has nothing to show of '{self.name}'. Use another of plots()."
        )

    def answers(self) -> list[Answer]:
        """The answers of the report's first screen: for each question `question`, `headline`,
        `sentence`, `sureness` and `state` (decided, partly or open)."""
        return self._first.answers

    def report(self) -> Path:
        """Write the report again, or find it up to date; its page report.html."""
        with screen_here() as screen:
            if self.grid is None:
                return report_grid(self.name, self.paths, screen)
            cells, text = expand(self.grid), self.grid.text
            command = self.experiment.command
            return report_grid(
                self.name, self.paths, screen, cells, grid_text=text, command=command
            )

    def sample(self, cell: Wanted, images: int = 64, seed: int | None = None) -> NDArray[np.uint8]:
        """Images [images, channels, height, width] of a trained network, sampled as the one cell
        that a filter or the beginning of its key names: `harness sample`. `seed` is that of the
        starting noise, the cell's unless it is given. Raises StoreError where several are named,
        or the store does not have the network."""
        from harness.stored import images_of

        if images < 1:
            raise BadOption(f"images cannot be {images!r}. Use 1 or more.")
        return images_of(self.study.results, _text(cell), self.paths.workplace, images, seed)

    @cached_property
    def _first(self) -> FirstScreen:
        from harness.report.first import first_screen

        expected = 0 if self.others else self.experiment.expected_cells
        trainings = self.experiment.expected_trainings
        return first_screen(self.study, self.experiment.command, expected, trainings)

    def __repr__(self) -> str:
        return f"{self._title}\n{self._first.as_text()}"

    def _repr_html_(self) -> str:
        return f"<b>{escape(self._title)}</b>{_as_html(self._first.as_text())}"

    @property
    def _title(self) -> str:
        return f"{self.name}: {self._first.compared}" if self._first.compared else self.name


def _study(
    name: str, paths: Paths, screen: Screen, grid: Grid | None = None, command: str = ""
) -> RecordedStudy:
    from harness.report.limitations import with_what_is_there

    experiment = recorded(name, paths, screen.say, expand(grid) if grid else ())
    experiment, _ = with_what_is_there(experiment)
    if grid:
        experiment = replace(experiment, grid_text=grid.text, command=command)
    main, *rest = sorted(studies(experiment), key=lambda one: not one.metrics)
    others = (RecordedStudy(name, experiment, one, paths, grid=grid) for one in rest)
    return RecordedStudy(name, experiment, main, paths, tuple(others), grid)


def _as_html(text: str) -> str:
    return f'<div style="white-space:pre-wrap">{escape(text)}</div>'


def _command(
    grid: Grid,
    store: AnyPath,
    report_dir: AnyPath | None,
    data_dir: AnyPath | None,
    tracking_uri: str | None,
) -> str:
    """The same on the command line, for a reader of the report."""
    report, data = (None if one is None else Path(one) for one in (report_dir, data_dir))
    return command_of(grid.file, grid.overrides, Path(store), tracking_uri, report, data)


def _paths(
    of: Grid | str,
    store: AnyPath,
    report_dir: AnyPath | None,
    data_dir: AnyPath | None,
    tracking_uri: str | None,
    ui_url: str | None,
    device: str,
) -> Paths:
    report, data = (None if one is None else Path(one) for one in (report_dir, data_dir))
    name, overrides = (of, ()) if isinstance(of, str) else (of.name, of.overrides)
    return Paths.of(name, Path(store), tracking_uri, report, data, device, ui_url, overrides)


def _text(wanted: Wanted) -> str:
    """A filter as text: `{"schedule": "cosine", "steps": [5, 10]}` is
    `schedule=cosine,steps=[5,10]`."""
    if isinstance(wanted, str):
        return wanted
    if not isinstance(wanted, Mapping):
        raise BadOption(
            f"{wanted!r} is no filter. Use 'schedule=cosine,steps=[5,10]' or a dict of the same."
        )
    lists = {name: value if _is_list(value) else [value] for name, value in wanted.items()}
    return ",".join(f"{name}=[{','.join(map(str, values))}]" for name, values in lists.items())


def _is_list(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str)


def _filter(wanted: Wanted | None) -> Filter | None:
    return None if wanted is None else Filter(_text(wanted))


def _seconds(given: Duration | None) -> float | None:
    return None if given is None else parse_duration(str(given))


def _until(
    until: str | None,
    chosen: object,
    at_most: Duration | None,
    max_seeds: int | None,
    max_images: int | None,
) -> Until | None:
    if until is None:
        if {at_most, max_seeds, max_images} != {None}:
            raise BadOption(
                "at_most, max_seeds and max_images limit a run that adds cells. Use them with "
                "until='decided'."
            )
        return None
    _one_of("until", until, ("decided",))
    if chosen:
        raise BadOption("until cannot be given with only, redo or retime. Use one of them.")
    return Until(_seconds(at_most), max_seeds, max_images)


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> Any:
    if value not in known:
        raise BadOption(f"{name} cannot be {value!r}. Use {' or '.join(map(repr, known))}.")
    return value


def _pass_on(status: int) -> None:
    """A signal asked the work to end; it is saved, and now the program is asked."""
    number = next(number for number, one in STATUSES.items() if one == status)
    if number != signal.SIGINT:
        signal.raise_signal(number)
    raise Interrupted("all that was done is saved, and the same call goes on from there")
