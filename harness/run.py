"""THE STORY of `harness run grid.yaml`, from a file to a report, in named steps. Read this first.

    load_grid, expand       what is asked for, as plain values                     plan/
    identified              which images and weights that means here and now       plan/
    pending                 what of it nobody has done yet: one Plan               plan/
    preflight, forecast     refuse now what would fail after hours; tell the cost  plan/
    rounds: train, score    a few distinct trainings, then their cells, and so on  jobs, engine/
    InterimReport           between the rounds, of what stands, for those who wait interim
    write_report            from what was recorded, and only if that changed; a time
                            limit ends the rounds early enough for it              reporting
    until_decided           the same again, more cells where a question is open    until

Every step can be cut short by Ctrl-C, a time limit or a power cut, and the same command goes on
where it stopped. torch is imported only when there is something to train, sample or score.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.contracts.foreign import blaming_others, refuse_broken
from harness.data.files import telling
from harness.downloads import NotHereYet, no_downloads
from harness.engine.pretrained import keep_networks
from harness.errors import HarnessError
from harness.execute import drives, machine
from harness.execute.here import KeptWorkers
from harness.execute.interrupt import OUT_OF_TIME, Interruption
from harness.execute.progress import Progress, Stopped
from harness.execute.ray import RayCluster
from harness.execute.screen import Screen
from harness.interim import InterimReport
from harness.jobs import Execute, JobRunner, Summary
from harness.plan.grid import Grid, expand
from harness.plan.pending import Plan, pending
from harness.plan.preflight import forecast, forecast_without_downloads, identified, preflight
from harness.report import page
from harness.reporting import recorder_of, write_report
from harness.store import Store
from harness.tracking.recorder import Recorder
from harness.tracking.views import views_of
from harness.work.cells import Asked, Cell
from harness.work.looks import Look
from harness.work.options import Options, Paths
from harness.work.overheads import USUAL, Stopwatch
from harness.work.speeds import duration

if TYPE_CHECKING:
    from harness.analysis.study import Study


def run_grid(
    grid: Grid,
    paths: Paths,
    options: Options,
    screen: Screen,
    execute: Execute | None = None,
) -> Summary:
    """Do what is missing of a grid and write its report; until its questions are decided, where
    that is asked for. Raises HarnessError before any work where something that it needs is
    missing."""
    page.check_address(paths.ui_url)
    interruption = Interruption(options.time_limit, screen.say)  # the time limit begins here
    screen.doing("loading torch and MLflow")
    recorder = recorder_of(grid.name, paths, screen.say)
    if trouble := drives.trouble_of_sqlite(paths.tracking_uri):
        screen.say(f"Warning: {trouble}")
    recorder.store.check_version()
    screen.doing("reading images and weights")
    with shown_reading(screen):
        cells = identified(expand(grid), paths.workplace)
    with cluster_of(options) as cluster, KeptWorkers() as here, shown_reading(screen):
        run = GridRun(
            grid, paths, options, screen, cluster or execute or here, interruption, recorder,
            cluster,
        )  # fmt: skip
        if options.until is None:
            return run.report(cells, (), run.work(cells))
        from harness.until import until_decided  # it loads what verdicts need

        return until_decided(cells, options.until, run, screen)


def cluster_of(options: Options) -> AbstractContextManager[RayCluster | None]:
    """The Ray cluster that does the work, where one is to."""
    if not options.ray:
        return nullcontext()
    from harness.engine.courier import Courier

    return RayCluster(options.ray, Courier(options.ray_features))


def shown_reading(screen: Screen) -> AbstractContextManager[None]:
    """Show how far image files are read: a large folder takes minutes."""
    return telling(lambda done, total: screen.update("reading images", Progress(done, total)))


@dataclass(frozen=True)
class GridRun:
    """What it takes to do a grid, or more of it at each look."""

    grid: Grid
    paths: Paths
    options: Options
    screen: Screen
    execute: Execute
    interruption: Interruption
    recorder: Recorder
    cluster: RayCluster | None = None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def store(self) -> Store:
        return self.recorder.store

    def work(self, cells: list[Cell], looks: Iterable[Look] = ()) -> Summary:
        """Do what is missing of these cells."""
        grid, recorder, screen = self.grid, self.recorder, self.screen
        plan = self.pending(cells)
        summary = Summary(len(plan.cells), is_redone=bool(self.options.redo))
        asked = Asked.of(cells, looks).after(recorder.asked())
        interim = None
        if not plan:
            screen.say(f"Nothing to do: all {len(plan.cells)} cells of '{grid.name}' are finished.")
        # The run of the grid may have been deleted, and the grid may ask for fewer cells than
        # before.
        if plan or not recorder.has_grid(grid.text, asked):
            refuse_broken(plan.cells, grid.metrics)
            with blaming_others(plan.cells, grid.metrics):
                site = preflight(grid, plan, self.paths, self.cluster)
            with self.interruption, self.store.locked(), self.recording(cells, asked, summary):
                self.store.keep_grid(grid.name, asked, grid.text)
                plan = self.pending(cells)  # again, now that nobody else works: it is what is done
                if plan.is_work:
                    keep_networks(plan.to_sample, self.paths.workplace)
                    if self.options.began is not None and self.stopwatch.start is None:
                        self.stopwatch.start = time.monotonic() - self.options.began
                    with blaming_others(plan.cells, grid.metrics):
                        screen.doing("measuring this machine")
                        plan = forecast(grid, plan, site, self.options.began)
                    if cost := plan.cost():
                        screen.say("\n".join([cost, *plan.computed]))
                has_report = self.options.report and self.interruption.keep(report_seconds(plan))
                if told := too_long(plan, self.options.time_limit, has_report):
                    screen.say(told)
                runner = JobRunner(
                    grid, plan, self.options, site, recorder, screen, self.interruption,
                    self.execute, summary, self.stopwatch,
                )  # fmt: skip
                interim = InterimReport(
                    recorder, asked, self.paths, screen, self.options.report, plan.is_long
                )
                screen.begin()
                carry_out(runner, interim)
                self.keep_failures(summary)
        else:  # another program, or an earlier version of this one, may have recorded the cells
            recorder.share(views_of(cells, grid.metrics))

        done = recorder.recorded | recorder.owed.keys()
        failed = {work.key for work, _ in summary.failed}
        summary.done = sum(cell.key in done and cell.key not in failed for cell in plan.cells)
        if interim and summary.status > 1:
            summary.lacking = interim.lacking(summary.done, self.options.command)
        return summary

    def report(self, cells: list[Cell], looks: Iterable[Look], summary: Summary) -> Summary:
        """Write the report of these cells, out of time too where time was kept for it; the summary
        with what it answers."""
        is_in_time = summary.status <= 1 or self.interruption.has_kept_time
        if self.options.report and summary.done and is_in_time:
            asked = Asked.of(cells, looks).after(self.recorder.asked())
            self.stopwatch.lap()
            summary.report = write_report(
                self.recorder, asked, self.paths, self.screen, self.grid.text, self.options.command
            )
            if self.stopwatch:  # else the report may be that which was there
                self.stopwatch.reported(summary.done)
            summary.lacking = ""
            summary.answers = page.answers_in(self.paths.report_dir, self.options.command)
        self.keep_overheads()
        if self.recorder.is_owing and summary.status == 0:
            summary.status = OUT_OF_TIME  # nothing is lost, and the same command goes on
        return summary

    def keep_overheads(self) -> None:
        """Remember what this run took beside its work, for the forecast of the next."""
        if self.stopwatch and not self.cluster:
            here = machine.name(machine.find_device(self.paths.device))
            before = self.store.overheads(here) or USUAL
            with suppress(HarnessError):  # of a full disk: nothing depends on it
                self.store.keep_overheads(here, self.stopwatch.overheads(before))

    def keep_failures(self, summary: Summary) -> None:
        """Remember which work failed and has not succeeded since."""
        name = self.grid.name
        before, now = self.store.failed(name), {work.key: f.reason for work, f in summary.failed}
        done = self.recorder.recorded | self.recorder.owed.keys()
        left = {key: reason for key, reason in before.items() if key not in done}
        self.store.keep_failed(name, left | now)

    def pending(self, cells: list[Cell]) -> Plan:
        return pending(self.grid, cells, self.store, self.recorder.finished(), self.options)

    def study(self, cells: list[Cell], looks: Iterable[Look]) -> Study | None:
        """What is recorded of these cells; None where nothing of it was measured."""
        from harness.analysis.study import studies

        experiment = self.recorder.read(Asked.of(cells, looks))
        return next((one for one in studies(experiment) if one.metrics), None)

    def cost(self, cells: list[Cell]) -> float | None:
        """The seconds that what is missing of these cells is predicted to take."""
        plan = self.pending(cells)
        site = preflight(self.grid, plan, self.paths, self.cluster)
        return forecast(self.grid, plan, site).predicted if plan.is_work else 0.0

    @contextmanager
    def recording(self, cells: list[Cell], asked: Asked, summary: Summary) -> Iterator[None]:
        """The run of the grid, open to be written to, and ended as the work ends."""
        views = views_of(cells, self.grid.metrics)
        self.recorder.open(self.grid.text, asked, origin(self.options.command), views)
        try:
            yield
        except BaseException:
            with suppress(HarnessError):  # what went wrong is to be told, not what followed
                self.recorder.close("KILLED" if summary.status > 1 else "FAILED")
            raise
        self.recorder.close("KILLED" if summary.status > 1 else "FINISHED")


def carry_out(runner: JobRunner, interim: InterimReport) -> None:
    """Do a plan in its order, to its end or until it is asked to stop."""
    summary = runner.summary
    try:
        runner.set_aside()
        runner.record_kept()
        with runner.beside:
            for trainings, cells in runner.rounds():
                interim.refresh()
                runner.train(trainings)
                runner.score(cells)
        # A signal may have come after the last of the work: then there is no time for a report.
        summary.status = runner.interruption.status or (1 if summary.failed else 0)
    except Stopped:
        summary.status = runner.interruption.status or 1
    except KeyboardInterrupt:
        summary.status = 130
        raise


def report_seconds(plan: Plan) -> float:
    """That the report of all cells is predicted to take."""
    beside = plan.forecast.beside if plan.forecast else USUAL
    return beside.report_seconds(len(plan.cells))


def too_long(plan: Plan, limit: float | None, has_report: bool) -> str:
    """What is to be said of a time limit that ends before the work is predicted to; else empty."""
    if limit is None or plan.predicted is None or plan.predicted <= limit:
        return ""
    report = "write the report of what is finished by then" if has_report else "write no report"
    return (
        f"That is longer than the limit of {duration(limit)}: this run will stop with status "
        f"{OUT_OF_TIME} and {report}, and the same command goes on."
    )


def plan_grid(
    grid: Grid, paths: Paths, options: Options, doing: Callable[[str], None] = lambda what: None
) -> Plan:
    """What a run would do and cost; `doing` is called with what takes a while. Makes no run, store
    or report."""
    cells, notes = expand(grid), list[str]()
    doing("reading images and weights")
    try:
        with no_downloads():
            cells = identified(cells, paths.workplace)
    except NotHereYet as error:
        notes.append(f"{error}; until then the cost is not known")
    is_unknown = bool(notes)
    doing("looking at what is finished")
    recorder = recorder_of(grid.name, paths, notes.append)
    recorder.store.check_version()
    plan = pending(grid, cells, recorder.store, recorder.finished(), options)
    plan = replace(plan, warnings=(*plan.warnings, *notes))
    doing("measuring this machine")
    with blaming_others(plan.cells, grid.metrics):
        return plan if is_unknown else forecast_without_downloads(grid, plan, paths, options.began)


def origin(command: str) -> dict[str, str]:
    """Which program writes here, and by which command, for the parent run."""
    tags = {f"harness.version.{name}": value for name, value in machine.versions().items()}
    return tags | {"harness.commit": machine.commit(), "harness.command": command[:5000]}
